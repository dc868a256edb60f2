"""Functions with a known level set, and a comparison of meshes, for tests and benchmarks.

All functions map points (N, 3) to values (N,); the zero set is the surface, inside is below 0.
"""

from __future__ import annotations

from igr.geometry import tubes

import numpy as np
from scipy.spatial import cKDTree


def sphere(p):
    """Exact distance to the sphere of radius 0.7."""
    return np.linalg.norm(p, axis=1) - 0.7


def box(p):
    """Exact distance to the box [-0.5, 0.5] x [-0.7, 0.7] x [-0.3, 0.3]; its faces lie along the
    grid."""
    q = np.abs(p) - [0.5, 0.7, 0.3]
    return np.linalg.norm(np.maximum(q, 0), axis=1) + np.minimum(q.max(axis=1), 0)


def knot():
    """The distance to the trefoil tube with longest side 2, exact to 1e-6."""
    t = np.linspace(0, 2 * np.pi, 5000, endpoint=False)
    tree = cKDTree(tubes.trefoil(t)[0] / 3.5)
    return lambda p: tree.query(p, workers=-1)[0] - 0.128


def gyroid(p):
    """A thick gyroid in a ball: a large surface of high genus; the slope is at most about 1."""
    s = np.sin(6 * p)
    c = np.cos(6 * p)
    g = s[:, 0] * c[:, 1] + s[:, 1] * c[:, 2] + s[:, 2] * c[:, 0]
    return np.maximum(np.abs(g) / 10 - 0.03, np.linalg.norm(p, axis=1) - 1.1)


def specks(radius):
    """The distance to two spheres of this radius, far apart."""
    return lambda p: np.minimum(np.linalg.norm(p - [0.91, 0.83, 0.87], axis=1),
                                np.linalg.norm(p - [-0.93, -0.81, -0.79], axis=1)) - radius


def plate(p):
    """A slanted plate, 0.08 thick."""
    n = np.array([1, 2, 3]) / np.sqrt(14)
    return np.maximum(np.abs(p @ n) - 0.04, np.abs(p).max(axis=1) - 1)


def sheets(spacing):
    """The distance to a box and to two thin sheets, one beside it and one far from it, that lie
    along the grid between every fourth of its points."""

    def slab(p, bottom, top, half):
        q = np.abs(p - [0, 0, (top + bottom) / 2]) - [half, half, (top - bottom) / 2]
        return np.linalg.norm(np.maximum(q, 0), axis=1) + np.minimum(q.max(axis=1), 0)

    def f(p):
        return np.minimum(np.minimum(slab(p, -1, 0.3 * spacing, 0.9),
                                     slab(p, 1.6 * spacing, 3.1 * spacing, 0.5)),
                          slab(p, 1 + 1.2 * spacing, 1 + 2.9 * spacing, 0.5))

    return f


def steep(p):
    """Not a distance: its slope is 3 to 6, like that of a network trained without the eikonal
    term."""
    return 3 * (np.linalg.norm(p * [1, 1.5, 2], axis=1) - 0.7)


def steep_speck(p):
    """A sphere's distance, and beside it a small sphere with a slope of 8: farther than a fraction
    of its radius from it, f is the large sphere's distance alone."""
    small = np.linalg.norm(p - [0.9, -0.8, 0.7], axis=1) - 0.12
    return np.minimum(sphere(p), 8 * small)


def difference(a, b, grid) -> float:
    """The largest distance, in cells, between the vertices of two meshes of the same grid.

    It is infinite where the meshes differ by more than the order of their vertices and faces.
    Faces are compared by the places of their corners, to a thousandth of a cell: where f is 0 at a
    grid point, several vertices share a place, and faces without area lie between them.
    """
    if a.points.shape != b.points.shape or a.faces.shape != b.faces.shape:
        return np.inf
    distance, nearest = cKDTree(b.points).query(a.points)
    rounded = np.round(1e3 * (b.points - grid.low) / grid.spacing)
    place = np.unique(rounded, axis=0, return_inverse=True)[1].reshape(-1)
    if not np.array_equal(_in_order(place[nearest][a.faces]), _in_order(place[b.faces])):
        return np.inf
    return float(distance.max()) / grid.spacing


def _in_order(faces):
    """The faces (m, 3) with area as sorted rows, each begun at its least corner."""
    faces = faces[(faces != np.roll(faces, 1, axis=1)).all(axis=1)]
    first = faces.argmin(axis=1)
    faces = np.stack([faces[np.arange(len(faces)), (first + k) % 3] for k in range(3)], axis=1)
    return faces[np.lexsort(faces.T)]
