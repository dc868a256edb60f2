"""The rope: the knot's tube as three twisted strands with fine grooves, known exactly at any scale.

    python -m benchmarks.stress.rope -n 200000 -o rope_pcd.ply

    x(t, u) = c(t) + r(t, u) (cos u N(t) + sin u B(t))
    r(t, u) = CORE + STRANDS sqrt((1 + cos p) / 2 + VALLEY^2) + GROOVES cos q
    p = 3 u + 30 t,   q = 72 u - 280 t

with the trefoil c and its Frenet frame N, B. It is smooth, and no part of it touches another: r
stays below the trefoil's reach, within which each point of space has one nearest point on the
curve. The longest side is 6.4; a groove is 1/200 of that wide, from crest to crest, and a tenth of
its width deep.
"""

from __future__ import annotations

import argparse

import helper
from igr.formats import files
from igr.geometry.tubes import BLOCK, Tube, trefoil

import numpy as np

CORE, STRANDS, VALLEY, GROOVES = 0.4, 0.11, 0.08, 0.0016
P = (30, 3)  # of t and u in the strands' phase
Q = (-280, 72)  # in the grooves'
STRANDS_BESIDE = np.linspace(-0.4, 0.4, 9)  # of u, where the search for the nearest point begins
GROOVES_BESIDE = np.linspace(-0.5, 0.5, 9) * 2 * np.pi / Q[1]  # and begins again
ITERATIONS = 12  # of Levenberg and Marquardt; half of them bring double precision near the surface


class Rope(Tube):
    """The surface; t and u in [0, 2 pi), lengths as the trefoil has them."""

    def __init__(self, grooves: float = GROOVES):
        """grooves: half their depth."""
        super().__init__(trefoil, CORE + STRANDS)
        self.grooves = grooves

    def __call__(self, t: np.ndarray, u: np.ndarray):
        """Points (n, 3), outward unit normals (n, 3) and area elements (n,) at t and u (n,)."""
        x, x_t, x_u = self.with_tangents(t, u)
        normals = np.cross(x_u, x_t)
        area = np.linalg.norm(normals, axis=1)
        return x, normals / area[:, None], area

    def with_tangents(self, t: np.ndarray, u: np.ndarray):
        """x, dx/dt and dx/du at t and u (n,), each (n, 3).

        By Frenet's formulas, with d = cos u N + sin u B, e = dd/du, v = |c'|, k the curvature and w
        the torsion:  dx/dt = v (1 - r k cos u) T + r_t d + v w r e,   dx/du = r_u d + r e.
        """
        c, T, N, B, v, k, w = frenet(t)
        r, r_t, r_u = radius(t, u, self.grooves)
        cos, sin = np.cos(u)[:, None], np.sin(u)[:, None]
        d = cos * N + sin * B
        e = cos * B - sin * N
        x_t = v * (1 - r * k * cos) * T + r_t * d + v * w * r * e
        return c + r * d, x_t, r_u * d + r * e

    def largest_area(self) -> float:
        """An upper bound of the area element; the numbers of angles do not divide the phases'."""
        t = np.linspace(0, 2 * np.pi, 1021)[:, None] + np.zeros(509)
        u = np.linspace(0, 2 * np.pi, 509) + np.zeros((1021, 1))
        return 1.03 * max(self(*rows)[2].max() for rows in zip(t, u))

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Distance (n,) of points (n, 3), which lie near the surface: nearer than the curve is.

        It is that to a point of the surface in any case, never less than the true one.
        """
        from scipy.spatial import cKDTree

        t = np.linspace(0, 2 * np.pi, 4096, endpoint=False)
        nearest = t[cKDTree(trefoil(t)[0]).query(points)[1]]
        found = np.empty(len(points))
        smooth = Rope(0)  # its nearest point is hardly a groove away from the rope's
        for start in range(0, len(points), BLOCK):
            some = slice(start, start + BLOCK)
            t, u = self._start(points[some], nearest[some])
            t, u, _ = smooth._approach(points[some], t, u + STRANDS_BESIDE[:, None])
            found[some] = self._approach(points[some], t, u + GROOVES_BESIDE[:, None])[2]
        return found

    def _approach(self, points: np.ndarray, t: np.ndarray, beside: np.ndarray):
        """t, u and distance (n,) of the points of the surface nearest to points (n, 3), beginning
        where one of the rows of u in `beside` (k, n) is nearest."""
        away = [np.linalg.norm(points - self.with_tangents(t, u)[0], axis=1) for u in beside]
        u = np.take_along_axis(beside, np.argmin(away, axis=0)[None], axis=0)[0]
        x, x_t, x_u = self.with_tangents(t, u)
        found = np.linalg.norm(points - x, axis=1)
        damping = np.full(len(points), 1e-3)
        for _ in range(ITERATIONS):
            dt, du = _step(points - x, x_t, x_u, damping)
            tried = self.with_tangents(t + dt, u + du)
            distance = np.linalg.norm(points - tried[0], axis=1)
            better = distance < found
            damping = np.where(better, damping / 10, damping * 10)
            t, u = np.where(better, t + dt, t), np.where(better, u + du, u)
            found = np.where(better, distance, found)
            x, x_t, x_u = (np.where(better[:, None], new, old)
                           for new, old in zip(tried, (x, x_t, x_u)))
        return t, u, found

    def _start(self, points: np.ndarray, t: np.ndarray):
        """t (n,) where the curve is nearest to points (n, 3), from about there, and the angle u."""
        for _ in range(3):  # Newton's steps to where (x - c) c' = 0
            c, c1, c2 = trefoil(t)[:3]
            away = points - c
            t = t + _dot(away, c1) / (_dot(c1, c1) - _dot(away, c2))
        c, _, N, B, *_ = frenet(t)
        return t, np.arctan2(_dot(points - c, B), _dot(points - c, N))


def frenet(t: np.ndarray):
    """Of the trefoil at t (n,): c, T, N, B, each (n, 3), |c'|, curvature, torsion, each (n, 1)."""
    c, c1, c2, c3 = trefoil(t)
    v = np.linalg.norm(c1, axis=1, keepdims=True)
    B = np.cross(c1, c2)
    length = np.linalg.norm(B, axis=1, keepdims=True)
    torsion = _dot(B, c3)[:, None] / length**2
    B /= length
    return c, c1 / v, np.cross(B, c1 / v), B, v, length / v**3, torsion


def radius(t: np.ndarray, u: np.ndarray, grooves: float = GROOVES):
    """r, dr/dt and dr/du at t and u (n,), each (n, 1)."""
    p = P[0] * t + P[1] * u
    q = Q[0] * t + Q[1] * u
    root = np.sqrt((1 + np.cos(p)) / 2 + VALLEY**2)
    r = CORE + STRANDS * root + grooves * np.cos(q)
    by_p = -STRANDS * np.sin(p) / (4 * root)
    by_q = -grooves * np.sin(q)
    return [values[:, None] for values in (r, P[0] * by_p + Q[0] * by_q, P[1] * by_p + Q[1] * by_q)]


def _step(away: np.ndarray, x_t: np.ndarray, x_u: np.ndarray, damping: np.ndarray):
    """Levenberg's and Marquardt's step (dt, du), each (n,), that shortens `away` (n, 3)."""
    tt = _dot(x_t, x_t) * (1 + damping)
    uu = _dot(x_u, x_u) * (1 + damping)
    tu = _dot(x_t, x_u)
    t, u = _dot(away, x_t), _dot(away, x_u)
    determinant = tt * uu - tu**2
    return (uu * t - tu * u) / determinant, (tt * u - tu * t) / determinant


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The scalar products (n,) of rows of a and b (n, 3)."""
    return np.einsum("ij,ij->i", a, b)


def parse_args() -> argparse.Namespace:
    parser = helper.parser(__doc__)
    parser.add_argument("-n", type=helper.number(int, 1), default=50_000, help="points")
    parser.add_argument("-o", "--output", required=True, help="cloud to write, with normals")
    parser.add_argument("--seed", type=helper.number(int, 0), default=0, help="of the points")
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    helper.check_writable(args.output, files.CLOUD_WRITERS)
    files.write(args.output, Rope().sample(args.n, np.random.default_rng(args.seed)))
    print(args.output)


if __name__ == "__main__":
    helper.run(main, parse_args())
