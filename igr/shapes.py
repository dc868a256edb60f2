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
    """n points spread evenly by area over the shape, with the exact outward unit normals."""
    return SHAPES[name][0](n, np.random.default_rng(seed))


def mesh(name: str) -> Geometry:
    """A watertight mesh of the shape, faces counter-clockwise seen from outside."""
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
    """x(t, u) = c(t) + r (cos u N(t) + sin u B(t)) with N, B of the curve's Frenet frame.

    Its area element is r |c'| (1 - r k cos u), k the curvature: N points to the centre of
    curvature, where the tube is narrower.
    """

    def __init__(self, curve, radius: float):
        self.curve, self.radius = curve, radius  # curve(t) gives c, c', c'', each (n, 3)

    def __call__(self, t: np.ndarray, u: np.ndarray):
        """Points (n, 3), outward unit normals (n, 3) and area elements (n,)."""
        c, c1, c2 = self.curve(t)
        speed = np.linalg.norm(c1, axis=1, keepdims=True)
        binormal = np.cross(c1, c2)
        twist = np.linalg.norm(binormal, axis=1, keepdims=True)
        curvature = (twist / speed**3)[:, 0]
        binormal /= twist
        normal = np.cross(binormal, c1 / speed)
        out = np.cos(u)[:, None] * normal + np.sin(u)[:, None] * binormal
        area = self.radius * speed[:, 0] * (1 - self.radius * curvature * np.cos(u))
        return c + self.radius * out, out, area

    def sample(self, n: int, rng: np.random.Generator) -> Geometry:
        """Rejection: (t, u) uniform, kept with a chance in proportion to the area element."""
        t, u = (g.ravel() for g in np.meshgrid(*[np.linspace(0, 2 * np.pi, 400)] * 2))
        largest = 1.01 * self(t, u)[2].max()
        parts, have = [], 0
        while have < n:
            t, u = rng.uniform(0, 2 * np.pi, (2, 2 * n + 64))
            points, normals, area = self(t, u)
            keep = rng.uniform(0, largest, len(t)) < area
            parts.append(np.concatenate([points[keep], normals[keep]], axis=1))
            have += keep.sum()
        table = np.concatenate(parts)[:n]
        return Geometry(table[:, :3], table[:, 3:])

    def mesh(self, along: int = 1024, around: int = 128) -> Geometry:
        t = np.repeat(np.arange(along), around)
        u = np.tile(np.arange(around), along)
        points = self(2 * np.pi * t / along, 2 * np.pi * u / around)[0]

        def index(dt, du):
            return (t + dt) % along * around + (u + du) % around

        quads = np.stack([index(0, 0), index(1, 0), index(1, 1), index(0, 1)], axis=1)
        return Geometry(points, None, np.concatenate([quads[:, [0, 2, 1]], quads[:, [0, 3, 2]]]))


def _circle(t: np.ndarray):
    zero = np.zeros_like(t)
    c = np.stack([np.cos(t), np.sin(t), zero], axis=1)
    return c, np.stack([-np.sin(t), np.cos(t), zero], axis=1), -c


def _trefoil(t: np.ndarray):
    s1, s2, s3 = np.sin(t), np.sin(2 * t), np.sin(3 * t)
    c1, c2, c3 = np.cos(t), np.cos(2 * t), np.cos(3 * t)
    return (
        np.stack([s1 + 2 * s2, c1 - 2 * c2, -s3], axis=1),
        np.stack([c1 + 4 * c2, -s1 + 4 * s2, -3 * c3], axis=1),
        np.stack([-s1 - 8 * s2, -c1 + 8 * c2, 9 * s3], axis=1),
    )


# --- solids with flat faces


def _flat_sample(solid):
    def sample_faces(n: int, rng: np.random.Generator) -> Geometry:
        return sample_mesh(solid(), n, rng)

    return sample_faces


def _sponge_mesh() -> Geometry:
    """A cube of 3 x 3 x 3 cells without the 7 cells that lie in the middle of two axes or more."""
    full = np.pad((np.indices((3, 3, 3)) == 1).sum(axis=0) < 2, 1)
    corners, quads = {}, []
    for cell in np.argwhere(full):
        for axis in range(3):
            for side in (0, 1):
                step = np.eye(3, dtype=int)[axis] * (2 * side - 1)
                if full[tuple(cell + step)]:
                    continue
                along, across = np.eye(3, dtype=int)[[(axis + 1) % 3, (axis + 2) % 3]]
                base = cell + side * np.eye(3, dtype=int)[axis]
                ring = [base, base + along, base + along + across, base + across]
                ring = ring if side else ring[::-1]
                quads.append([corners.setdefault(tuple(c), len(corners)) for c in ring])
    quads = np.array(quads)
    points = np.array(list(corners), np.float64) / 1.5 - 5 / 3  # cells 1..3 of the padded grid
    return Geometry(points, None, np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]))


def _letter_mesh() -> Geometry:
    """A letter F, its top face smaller than its bottom and shifted."""
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
    return Geometry(np.concatenate([bottom, top]), None,
                    np.concatenate([cap[:, ::-1], cap + n, walls]))


_torus, _knot = _Tube(_circle, 0.4), _Tube(_trefoil, 0.45)
SHAPES = {
    "sphere": (_sphere_sample, _sphere_mesh),
    "torus": (_torus.sample, _torus.mesh),
    "knot": (_knot.sample, _knot.mesh),
    "sponge": (_flat_sample(_sponge_mesh), _sponge_mesh),
    "letter": (_flat_sample(_letter_mesh), _letter_mesh),
}
