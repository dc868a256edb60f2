"""Pictures, pages and windows.

    cameras  View, the flags that say how shapes are shown, and the camera that it places
    colors   the colours of shapes
    images   pictures as arrays: files, movies, captions
    render   pictures of clouds and meshes by ray casting
    charts   plots: losses, slices, scales
    viewer   the html page that rotates a mesh
    windows  open3d's windows
    preview  a picture of the surface while it trains

It may import geometry, backend.
"""
