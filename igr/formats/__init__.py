"""The files of clouds and meshes.

    files    read and write any format, told by the file's suffix
    blocks   read a cloud of any size in blocks
    tables   tables of points as text
    ply      ply
    obj      obj
    off      off
    stl      stl
    gltf     glTF
    vtk      VTK's legacy files
    laser    LAS, LAZ and E57
    ptx      Leica's ptx
    pcd      pcd
    arrays   npy and npz
    columns  what the columns of a cloud mean, by name or by value
    lines    lines of numbers as text
    streams  what several readers share

It may import geometry.
"""
