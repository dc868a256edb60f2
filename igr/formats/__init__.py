"""The files of clouds and meshes.

    files      read and write any format, told by the file's suffix
    tables     tables of points as text
    ply        ply
    obj        obj
    vtk        VTK's legacy files
    laser      LAS, LAZ and E57
    pcd        pcd
    arrays     npy and npz
    trimeshes  off, stl and glTF, by trimesh
    streams    what several readers share

It may import geometry.
"""
