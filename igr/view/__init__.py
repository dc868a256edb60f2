"""Pictures, pages and windows.

    cameras  cameras for pictures
    colors   the colours of shapes
    images   pictures as arrays: files, movies, captions
    render   pictures of clouds and meshes by ray casting
    charts   plots: losses, slices, scales
    viewer   the html page that rotates a mesh
    windows  open3d's windows
    looks    how shapes are shown: camera, size, background
    preview  a picture of the surface while it trains

It may import geometry, backend.
"""
