"""Tubes around closed curves: points on them by area with exact normals, and their meshes."""

from __future__ import annotations

import copy

from igr.geometry.frames import Geometry

import numpy as np

BLOCK = 1 << 16  # points that are computed at a time, so that temporary arrays stay small


class Tube:
    """x(t, u) = c(t) + r (cos u N(t) + sin u B(t)), with N and B of the curve's Frenet frame, for
    t and u in [0, 2 pi).

    Its area element is r |c'| (1 - r k cos u), k the curvature: N points to the centre of
    curvature, where the tube is narrower.
    """

    def __init__(self, curve, radius: float):
        """curve: t (n,) -> c, c', c'' and perhaps more, each (n, 3); radius: r."""
        self.curve = curve
        self.radius = radius

    def __call__(self, t: np.ndarray, u: np.ndarray):
        """Points (n, 3), outward unit normals (n, 3) and area elements (n,) at t and u (n,)."""
        c, c1, c2 = self.curve(t)[:3]
        speed = np.linalg.norm(c1, axis=1, keepdims=True)
        B = np.cross(c1, c2)
        length = np.linalg.norm(B, axis=1, keepdims=True)
        curvature = (length / speed**3)[:, 0]
        B /= length
        N = np.cross(B, c1 / speed)
        outward = np.cos(u)[:, None] * N + np.sin(u)[:, None] * B
        area = self.radius * speed[:, 0] * (1 - self.radius * curvature * np.cos(u))
        return c + self.radius * outward, outward, area

    def largest_area(self) -> float:
        """An upper bound of the area element."""
        angles = np.linspace(0, 2 * np.pi, 400)
        t, u = (angle.ravel() for angle in np.meshgrid(angles, angles))
        return 1.01 * self(t, u)[2].max()

    def sample(self, n: int, rng: np.random.Generator) -> Geometry:
        """n points by rejection: (t, u) uniform, kept with a chance in proportion to the area
        element."""
        largest = self.largest_area()
        points = np.empty((n, 3))
        normals = np.empty((n, 3))
        have = 0
        while have < n:
            for t, u, level in _uniform_blocks(rng, 2 * n + 64):
                on_tube, outward, area = self(2 * np.pi * t, 2 * np.pi * u)
                keep = np.flatnonzero(largest * level < area)[: n - have]
                points[have : have + len(keep)] = on_tube[keep]
                normals[have : have + len(keep)] = outward[keep]
                have += len(keep)
                if have == n:
                    break
        return Geometry(points, normals)

    def mesh(self, along: int = 1024, around: int = 128) -> Geometry:
        """A closed mesh of along x around vertices."""
        t = np.repeat(np.arange(along), around)
        u = np.tile(np.arange(around), along)
        points = np.concatenate([
            self(2 * np.pi * t[i : i + BLOCK] / along, 2 * np.pi * u[i : i + BLOCK] / around)[0]
            for i in range(0, len(t), BLOCK)])

        def vertex(dt, du):
            return (t + dt) % along * around + (u + du) % around

        quads = np.stack([vertex(0, 0), vertex(1, 0), vertex(1, 1), vertex(0, 1)], axis=1)
        return Geometry(points, None, np.concatenate([quads[:, [0, 2, 1]], quads[:, [0, 3, 2]]]))


def _uniform_blocks(rng: np.random.Generator, count: int):
    """Yield three arrays at a time, of BLOCK numbers each in [0, 1): the parts of the rows of
    rng.random((3, count)), which need not fit into the memory. rng: of a PCG64."""
    rows = [copy.deepcopy(rng) for _ in range(3)]
    for i, row in enumerate(rows):
        row.bit_generator.advance(i * count)
    rng.bit_generator.advance(3 * count)
    for start in range(0, count, BLOCK):
        yield [row.random(min(BLOCK, count - start)) for row in rows]


# ------------------------------------------------------------------------------------------- curves


def circle(t: np.ndarray):
    """The unit circle at t (n,): c, c', c'', each (n, 3)."""
    zero = np.zeros_like(t)
    c = np.stack([np.cos(t), np.sin(t), zero], axis=1)
    c1 = np.stack([-np.sin(t), np.cos(t), zero], axis=1)
    return c, c1, -c


def trefoil(t: np.ndarray):
    """(sin t + 2 sin 2t, cos t - 2 cos 2t, -sin 3t) at t (n,): c, c', c'', c''', each (n, 3)."""
    sin1 = np.sin(t)
    sin2 = np.sin(2 * t)
    sin3 = np.sin(3 * t)
    cos1 = np.cos(t)
    cos2 = np.cos(2 * t)
    cos3 = np.cos(3 * t)
    c = np.stack([sin1 + 2 * sin2, cos1 - 2 * cos2, -sin3], axis=1)
    c1 = np.stack([cos1 + 4 * cos2, -sin1 + 4 * sin2, -3 * cos3], axis=1)
    c2 = np.stack([-sin1 - 8 * sin2, -cos1 + 8 * cos2, 9 * sin3], axis=1)
    c3 = np.stack([-cos1 - 16 * cos2, sin1 - 16 * sin2, 27 * cos3], axis=1)
    return c, c1, c2, c3
