"""The level set of any function f: R^3 -> R as a mesh.

    grids       a regular grid: its points, its cells, a key for each
    values      f at grid points, each evaluated once
    seeds       find cells on the surface, on lattices that get finer near it
    tracing     follow the surface from cell to cell
    marching    marching cubes block by block
    extraction  the level set as one mesh, and the memory that it needs

It may import geometry, backend.
"""
