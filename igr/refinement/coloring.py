"""The colours of a cloud's points, carried to the vertices of a mesh."""

from __future__ import annotations

from igr.geometry import neighbours
from igr.geometry.frames import Geometry

import numpy as np

NEIGHBOURS = 8  # points that give a vertex its colour
BEYOND = 1 + 1e-9  # radii of the neighbourhood: its farthest point keeps a weight above 0
TINY = 1e-30  # divides in place of a radius of 0
BLOCK = 1 << 18  # vertices that are coloured at a time, to spare memory


def carry_colors(cloud: Geometry, mesh: Geometry) -> Geometry:
    """The mesh with the cloud's colours at its vertices, in the same coordinates: the mean of the
    nearest NEIGHBOURS points, weighted by Wendland's function as in igr/geometry/regression.py."""
    tree = neighbours.tree_of(cloud.points)
    k = min(NEIGHBOURS + 1, len(cloud.points))  # the last one sets the radius
    blocks = []
    for places in np.array_split(mesh.points, len(mesh.points) // BLOCK + 1):
        distance, index = neighbours.search(tree, places, [*range(1, k + 1)])
        t = distance / (distance[:, -1:] * BEYOND + TINY)
        weights = (1 - t) ** 4 * (4 * t + 1)
        weights /= weights.sum(axis=1, keepdims=True)
        blocks.append(np.einsum("nk,nkc->nc", weights, cloud.colors[index]).astype(np.float32))
    return mesh._replace(colors=np.concatenate(blocks))
