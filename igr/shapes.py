"""Built-in solids whose surface is known exactly: points and normals on it, and a mesh of it.

    sphere   genus 0
    torus    genus 1
    knot     genus 1, a tube around a trefoil (the demo)
    sponge   genus 5, a cube with three crossing shafts; flat faces, sharp edges
    letter   genus 0, a tapered letter F: no symmetry at all, so it shows a turned or mirrored frame

The curved ones are sampled on the true surface (not on their mesh). Their meshes follow it within
1e-4 of half the longest side; the meshes of sponge and letter are exact.
"""

from __future__ import annotations

from igr.frames import Geometry
from igr.meshes import sample_mesh

import numpy as np


def sample(name: str, n: int, seed: int = 0) -> Geometry:
    """n points at random by area over the shape `name`, with the exact outward unit normals."""
    return SHAPES[name][0](n, np.random.default_rng(seed))


def mesh(name: str) -> Geometry:
    """A watertight mesh of the shape `name`, faces counter-clockwise seen from outside."""
    return SHAPES[name][1]()


# --- sphere of radius 1


def _sphere_sample(n: int, rng: np.random.Generator) -> Geometry:
    normals = rng.standard_normal((n, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return Geometry(normals.copy(), normals)


def _sphere_mesh() -> Geometry:
    import trimesh

    ball = trimesh.creation.icosphere(subdivisions=6)
    return Geometry(np.array(ball.vertices), None, np.array(ball.faces))


# --- tubes of radius r around a closed curve c(t), t in [0, 2 pi)


class _Tube:
    """x(t, u) = c(t) + r (cos u N(t) + sin u B(t)), with N and B of the curve's Frenet frame.

    Its area element is r |c'| (1 - r k cos u), k the curvature: N points to the centre of
    curvature, where the tube is narrower.
    """

    def __init__(self, curve, radius: float):
        """curve: t (n,) -> c, c', c'', each (n, 3); radius: r."""
        self.curve = curve
        self.radius = radius

    def __call__(self, t: np.ndarray, u: np.ndarray):
        """Points (n, 3), outward unit normals (n, 3) and area elements (n,) at t and u (n,)."""
        c, c1, c2 = self.curve(t)
        speed = np.linalg.norm(c1, axis=1, keepdims=True)
        B = np.cross(c1, c2)
        length = np.linalg.norm(B, axis=1, keepdims=True)
        curvature = (length / speed**3)[:, 0]
        B /= length
        N = np.cross(B, c1 / speed)
        outward = np.cos(u)[:, None] * N + np.sin(u)[:, None] * B
        area = self.radius * speed[:, 0] * (1 - self.radius * curvature * np.cos(u))
        return c + self.radius * outward, outward, area

    def sample(self, n: int, rng: np.random.Generator) -> Geometry:
        """n points by rejection: (t, u) uniform, kept with a chance in proportion to the area
        element."""
        angles = np.linspace(0, 2 * np.pi, 400)
        t, u = (angle.ravel() for angle in np.meshgrid(angles, angles))
        largest = 1.01 * self(t, u)[2].max()
        batches = []
        have = 0
        while have < n:
            t, u = rng.uniform(0, 2 * np.pi, (2, 2 * n + 64))
            points, normals, area = self(t, u)
            keep = rng.uniform(0, largest, len(t)) < area
            batches.append(np.concatenate([points[keep], normals[keep]], axis=1))
            have += keep.sum()
        table = np.concatenate(batches)[:n]
        return Geometry(table[:, :3], table[:, 3:])

    def mesh(self, along: int = 1024, around: int = 128) -> Geometry:
        """A closed mesh of along x around vertices."""
        t = np.repeat(np.arange(along), around)
        u = np.tile(np.arange(around), along)
        points = self(2 * np.pi * t / along, 2 * np.pi * u / around)[0]

        def vertex(dt, du):
            return (t + dt) % along * around + (u + du) % around

        quads = np.stack([vertex(0, 0), vertex(1, 0), vertex(1, 1), vertex(0, 1)], axis=1)
        return Geometry(points, None, np.concatenate([quads[:, [0, 2, 1]], quads[:, [0, 3, 2]]]))


def _circle(t: np.ndarray):
    """The unit circle at t (n,): c, c', c'', each (n, 3)."""
    zero = np.zeros_like(t)
    c = np.stack([np.cos(t), np.sin(t), zero], axis=1)
    c1 = np.stack([-np.sin(t), np.cos(t), zero], axis=1)
    return c, c1, -c


def _trefoil(t: np.ndarray):
    """(sin t + 2 sin 2t, cos t - 2 cos 2t, -sin 3t) at t (n,): c, c', c'', each (n, 3)."""
    sin1 = np.sin(t)
    sin2 = np.sin(2 * t)
    sin3 = np.sin(3 * t)
    cos1 = np.cos(t)
    cos2 = np.cos(2 * t)
    cos3 = np.cos(3 * t)
    c = np.stack([sin1 + 2 * sin2, cos1 - 2 * cos2, -sin3], axis=1)
    c1 = np.stack([cos1 + 4 * cos2, -sin1 + 4 * sin2, -3 * cos3], axis=1)
    c2 = np.stack([-sin1 - 8 * sin2, -cos1 + 8 * cos2, 9 * sin3], axis=1)
    return c, c1, c2


# --- solids with flat faces


def _flat_sample(solid):
    """sample() of a solid whose mesh, as solid() makes it, is exact."""

    def sample_faces(n: int, rng: np.random.Generator) -> Geometry:
        return sample_mesh(solid(), n, rng)

    return sample_faces


def _sponge_mesh() -> Geometry:
    """A cube of 3 x 3 x 3 cells without the 7 cells that lie in the middle of two axes or more."""
    full = np.pad((np.indices((3, 3, 3)) == 1).sum(axis=0) < 2, 1)
    axes = np.eye(3, dtype=int)
    corners = {}  # corner of a cell -> its index
    quads = []
    for cell in np.argwhere(full):
        for axis, upper in np.ndindex(3, 2):  # the six faces of the cell
            if full[tuple(cell + axes[axis] * (2 * upper - 1))]:
                continue  # another cell is behind it
            along = axes[(axis + 1) % 3]
            across = axes[(axis + 2) % 3]
            base = cell + upper * axes[axis]
            ring = [base, base + along, base + along + across, base + across]
            ring = ring if upper else ring[::-1]
            quads.append([corners.setdefault(tuple(c), len(corners)) for c in ring])
    quads = np.array(quads)
    points = np.array(list(corners), np.float64) / 1.5 - 5 / 3  # cells 1..3 of the padded grid
    return Geometry(points, None, np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]))


def _letter_mesh() -> Geometry:
    """A letter F whose top face is smaller than its bottom and shifted."""
    outline = np.array([(0, 0), (1, 0), (1, 2), (2, 2), (2, 3),
                        (1, 3), (1, 4), (3, 4), (3, 5), (0, 5)], np.float64)
    cap = np.array([(0, 1, 2), (0, 2, 5), (2, 3, 4), (2, 4, 5),
                    (0, 5, 6), (0, 6, 9), (6, 7, 8), (6, 8, 9)])
    n = len(outline)
    bottom = np.column_stack([outline, np.zeros(n)])
    top = np.column_stack([0.8 * outline + [0.1, 0.7], np.full(n, 1.5)])
    i = np.arange(n)
    j = (i + 1) % n
    walls = np.concatenate([np.stack([i, j, j + n], axis=1), np.stack([i, j + n, i + n], axis=1)])
    faces = np.concatenate([cap[:, ::-1], cap + n, walls])
    return Geometry(np.concatenate([bottom, top]), None, faces)


_torus = _Tube(_circle, 0.4)
_knot = _Tube(_trefoil, 0.45)
SHAPES = {  # name: (points of n and a random generator, the mesh)
    "sphere": (_sphere_sample, _sphere_mesh),
    "torus": (_torus.sample, _torus.mesh),
    "knot": (_knot.sample, _knot.mesh),
    "sponge": (_flat_sample(_sponge_mesh), _sponge_mesh),
    "letter": (_flat_sample(_letter_mesh), _letter_mesh),
}
