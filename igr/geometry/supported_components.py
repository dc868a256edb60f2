"""Find the pieces of a mesh that points support: a network has ghosts where no point is."""

from __future__ import annotations

from igr.geometry import meshes, neighbours
from igr.geometry.frames import Geometry

import numpy as np

FEWEST = 4  # points that a piece needs, however small it is
SHARE = 0.1  # of the points that a piece of its area has elsewhere
ENOUGH = 100  # but no more than this: a thinly sampled thing is no ghost


def supported_faces(mesh: Geometry, points: np.ndarray) -> np.ndarray:
    """Mask (M,) of the faces in connected pieces that points (N, 3) support, same frame.

    A point supports the piece that has the nearest vertex. A piece needs FEWEST points, and SHARE
    of what its area would have at the mean density, at most ENOUGH; the piece with the most points
    stays always.
    """
    piece = meshes.components(mesh)
    areas = np.bincount(piece, meshes.face_areas(mesh))
    piece_of_vertex = np.empty(len(mesh.points), np.int64)
    piece_of_vertex[mesh.faces] = piece[:, None]
    distance, nearest = neighbours.nearest(points, mesh.points)
    nearest = nearest[np.isfinite(distance)]  # no vertex is the nearest of a point at 1e200
    count = np.bincount(piece_of_vertex[nearest], minlength=len(areas))
    expected = areas / areas.sum() * len(points)
    supported = count >= np.maximum(FEWEST, np.minimum(SHARE * expected, ENOUGH))
    supported[count.argmax()] = True
    return supported[piece]
