"""Nearest neighbours: distances between point sets, spacing, distance to a surface.
"""

from __future__ import annotations

import helper
from igr.geometry import meshes
from igr.geometry.frames import Geometry

import numpy as np


def nearest(points: np.ndarray, others: np.ndarray):
    """Distance (N,) and index (N,) of the nearest of `others` (M, 3) for each of points (N, 3)."""
    from scipy.spatial import cKDTree

    # plain splits: in a compact tree queries far from the cloud take 30 times as long
    tree = cKDTree(others, compact_nodes=False, balanced_tree=False)
    return tree.query(points, workers=helper.cores())


def neighbour_distance(points: np.ndarray, k: int) -> np.ndarray:
    """Distance (N,) of each point (N, 3) to its k-th nearest other point (k < N)."""
    from scipy.spatial import cKDTree

    distances, _ = cKDTree(points).query(points, k=[k + 1], workers=helper.cores())  # first itself
    return distances[:, 0]


def point_to_surface(points: np.ndarray, mesh: Geometry) -> np.ndarray:
    """Exact distance (N,) of points (N, 3) to a triangle mesh; float32 arithmetic."""
    scene = meshes.ray_scene(mesh.points, mesh.faces)
    return scene.compute_distance(meshes.tensor(points)).numpy()


def spacing(points: np.ndarray) -> float:
    """The median distance of points (N, 3) to their nearest other point; 0 for a single one."""
    return float(np.median(neighbour_distance(points, 1))) if len(points) > 1 else 0.0
