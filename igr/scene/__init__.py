"""A scene larger than one network: cells with a network each, and one mesh of all.

    octree    cut space into cells with a limited number of points
    plan      the cells, their overlaps, the grid that they share, and the files of a scene
    survey    read the clouds block by block: box, spacing, cells, a file of points a cell
    sides     normals of a cell's points, with sides that are told once for the whole scene
    blend     f = sum w_i f_i / sum w_i over the overlaps
    meshing   the detail of a cell, and its part of the mesh
    assembly  weld the parts, drop, cut and colour, write
    jobs      what a job does: files in, files out; what is done stays
    cluster   run jobs on Dask
    driver    a scene from its clouds to its mesh

It may import training, refinement, isosurface, pointcloud, field, formats, geometry, backend.
"""
