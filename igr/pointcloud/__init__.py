"""pointcloud."""
