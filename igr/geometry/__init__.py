"""Shapes and what is measured on them: frames, triangles, neighbours, local fits, distances.

    frames                Geometry (points, normals, faces) and Frame, world to unit frame and back
    meshes                areas, normals, samples, components, topology, ray casting
    neighbours            search trees, spacing, distinct points, cubes, distance to a surface
    regression            local polynomial fits of heights over a surface
    supported_components  which pieces of a mesh the points support
    metrics               Chamfer, Hausdorff, F-score: the protocols of the tables
    tubes                 tubes around closed curves
    shapes                built-in shapes with exact surfaces

It may import backend.
"""
