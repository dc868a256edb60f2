"""isosurface."""
