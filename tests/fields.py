"""Functions with a known level set, and a comparison of meshes, for tests and benchmarks."""


from igr import shapes

import numpy as np
from scipy.spatial import cKDTree


def sphere(p):
    return np.linalg.norm(p, axis=1) - 0.7


def box(p):
    """Exact distance to a box of half sides 0.5, 0.7, 0.3: its faces lie along the grid."""
    q = np.abs(p) - [0.5, 0.7, 0.3]
    return np.linalg.norm(np.maximum(q, 0), axis=1) + np.minimum(q.max(axis=1), 0)


def knot():
    """Exact distance (to 1e-6) to the trefoil tube, longest side 2."""
    t = np.linspace(0, 2 * np.pi, 5000, endpoint=False)
    tree = cKDTree(shapes._trefoil(t)[0] / 3.5)
    return lambda p: tree.query(p, workers=-1)[0] - 0.128


def gyroid(p):
    """A thick gyroid in a ball: much surface, high genus; slope at most about 1."""
    s, c = np.sin(6 * p), np.cos(6 * p)
    g = s[:, 0] * c[:, 1] + s[:, 1] * c[:, 2] + s[:, 2] * c[:, 0]
    return np.maximum(np.abs(g) / 10 - 0.03, np.linalg.norm(p, axis=1) - 1.1)


def specks(radius):
    """Two spheres, far apart, of a radius to choose (a grid's two cells, say)."""
    return lambda p: np.minimum(np.linalg.norm(p - [0.91, 0.83, 0.87], axis=1),
                                np.linalg.norm(p - [-0.93, -0.81, -0.79], axis=1)) - radius


def plate(p):
    """A plate 0.08 thick, slanted; two cells of the coarsest grid in the tests."""
    n = np.array([1, 2, 3]) / np.sqrt(14)
    return np.maximum(np.abs(p @ n) - 0.04, np.abs(p).max(axis=1) - 1)


def steep(p):
    """No distance: the slope is 3 to 6, as of a field trained without the eikonal term."""
    return 3 * (np.linalg.norm(p * [1, 1.5, 2], axis=1) - 0.7)


def difference(a, b, grid) -> float:
    """Largest distance, in cells, between the vertices of two meshes of the same grid that are the
    same but for the order of vertices and faces; infinite where they are not.

    Faces are compared by the places of their corners, to a thousandth of a cell: where f is 0 at a
    grid point, several vertices share a place, and faces without area lie between them."""
    if a.points.shape != b.points.shape or a.faces.shape != b.faces.shape:
        return np.inf
    distance, place = cKDTree(b.points).query(a.points)
    cells = np.round(1e3 * (b.points - grid.low) / grid.spacing)
    merged = np.unique(cells, axis=0, return_inverse=True)[1].reshape(-1)

    def in_order(faces):
        faces = faces[(faces != np.roll(faces, 1, axis=1)).all(axis=1)]
        first = faces.argmin(axis=1)
        faces = np.stack([faces[np.arange(len(faces)), (first + k) % 3] for k in range(3)], axis=1)
        return faces[np.lexsort(faces.T)]

    same = np.array_equal(in_order(merged[place][a.faces]), in_order(merged[b.faces]))
    return float(distance.max()) / grid.spacing if same else np.inf
