"""Estimate outward normals of points without any, by winding numbers.

Winding Number Normal Consistency (Lin, Shi and Liu, "Fast and Globally Consistent Normal
Orientation based on the Winding Number Normal Consistency", 2024, arXiv 2405.16634; the authors'
code: jsnln/WNNC), written anew from its formulas. With area vectors mu_j at the points y_j,

    w(x) = sum_j <y_j - x, mu_j> / |y_j - x|^3

is 4 pi times the winding number of x: 1 inside, 0 outside, 1/2 on the surface. An iteration takes
one step of steepest descent for  w(y_i) = 1/2  at all points (a constant factor of w only scales
mu) and then turns each mu_i, at its length, to  -grad w(y_i). Pairs closer than a width are left
out of all sums; the width falls from iteration to iteration.

While the width is wide, a part of the points tells as much as all of them, so the first iterations
may take few and each later one more, as a cascade of grids does. That is ours: it takes a third of
the time, and the sides are nearly as often right (results/surfaces.md).

The sums are taken by a tree (Barnes and Hut 1986): a cell that is far away stands for its points.
Lengths are in the authors' frame, where the longest side is 2 / 1.1.
"""

from __future__ import annotations

from typing import NamedTuple

from igr.backend import threads
from igr.geometry import neighbours
from igr.geometry.frames import Frame
from igr.geometry.meshes import TINY, unit_vectors

import numpy as np

MARGIN = 1.1
WIDEST = 0.1  # the wide ones tell inside from outside,
NARROWEST = 0.002  # the narrow ones part the two faces of a thin wall;
NARROWEST_GAP = 0.28  # spacings: narrower ones than that only make the normals rough
SCATTERED = (0.01, 1.7)  # of scattered points, so much and so many deviations: the authors' presets
LEAF = 48  # points of a leaf at most
GROWTH = 5 / 3  # of the number of points from iteration to iteration, at most
INTERPOLATED = 4  # points around a new one, from which its first area vector comes
FAR = 2.0  # a cell is far from a leaf at more than so many of its longest sides
VALUE, ADJOINT, GRADIENT = range(3)
FLAGS = {"fastmath": {"contract", "reassoc", "nsz", "arcp"}, "error_model": "numpy"}


class Tree(NamedTuple):
    """A balanced binary tree of boxes. Cell 1 is the root, cell k has the halves 2 k and 2 k + 1,
    and the last half of the cells are the leaves."""

    order: np.ndarray  # (N,) int64, the points leaf by leaf
    edges: np.ndarray  # (L + 1,) int64: leaf i has the points order[edges[i] : edges[i + 1]]
    points: np.ndarray  # (N, 3) float32, in that order
    low: np.ndarray  # (2 L, 3) float32, the cells' smallest boxes
    high: np.ndarray

    @classmethod
    def of(cls, points: np.ndarray) -> Tree:
        """The tree of points (N, 3): each cell is halved at the median of its longest side."""
        n = len(points)
        order = np.arange(n)
        levels = max(0, int(np.ceil(np.log2(n / LEAF))))
        for level in range(levels):
            edges = (n * np.arange(2 ** (level + 1) + 1)) >> (level + 1)
            for start, middle, end in zip(edges[:-1:2], edges[1::2], edges[2::2]):
                part = order[start:end]
                axis = np.ptp(points[part], axis=0).argmax()
                order[start:end] = part[np.argpartition(points[part, axis], middle - start)]
        edges = (n * np.arange(2**levels + 1)) >> levels
        points = points[order].astype(np.float32)
        low, high = (joined(ufunc.reduceat(points, edges[:-1]), ufunc)
                     for ufunc in (np.minimum, np.maximum))
        return cls(order, edges, points, low, high)

    def sums(self, kind: int, moments: np.ndarray, width: float) -> np.ndarray:
        """For each point x the sum over the points y with |y - x| >= width, both in the tree's
        order, of, with d = y - x and the moment m (N, 1) or (N, 3) of y:

            VALUE       <d, m> / |d|^3                      (N, 1)
            ADJOINT     -d m / |d|^3                        (N, 3)
            GRADIENT    m / |d|^3 - 3 d <d, m> / |d|^5      (N, 3), minus the gradient of VALUE
        """
        weights = np.linalg.norm(moments, axis=1, keepdims=True) + TINY  # all may be zero
        weighted = np.hstack([moments, weights, weights * self.points])
        cells = joined(np.add.reduceat(weighted.astype(np.float64), self.edges[:-1]), np.add)
        k = moments.shape[1]
        cells = np.hstack([cells[:, k + 1 :] / cells[:, k : k + 1], cells[:, :k]])
        cells = cells.astype(np.float32)
        sources = np.hstack([self.points, moments]).astype(np.float32)
        out = np.zeros((len(self.points), 1 if kind == VALUE else 3), np.float32)
        leaves = len(self.edges) - 1
        threads.map_each(
            lambda some: _sum(kind, some.start, some.stop, self.edges, sources, cells, self.low,
                              self.high, np.float32(width) ** 2, out),
            threads.slices(leaves, min(leaves, 8 * threads.count())))
        return out


def joined(leaves: np.ndarray, ufunc) -> np.ndarray:
    """Values (2 L, k) of all cells of a tree, of its leaves' (L, k); cell 0, which there is not,
    has its leaves' first."""
    levels = [leaves]
    while len(levels[0]) > 1:
        levels.insert(0, ufunc(levels[0][::2], levels[0][1::2]))
    return np.concatenate([leaves[:1], *levels])


@threads.compiled(**FLAGS)
def _sum(kind, first, last, edges, sources, cells, low, high, width2, out):
    """Tree.sums() for the points of some leaves. sources (N, 3 + k), cells (2 L, 3 + k): place and
    moment."""
    count = np.int64(len(edges) - 1)
    near = np.empty((cells.shape[1], len(sources)), np.float32)  # what the leaf sees, by columns
    stack = np.empty(64, np.int64)
    for leaf in range(first, last):
        seen = 0
        stack[0] = 1
        top = 1
        while top:
            top -= 1
            cell = stack[top]
            if _is_far(cells[cell], low[cell], high[cell], low[count + leaf], high[count + leaf]):
                near[:, seen] = cells[cell]
                seen += 1
            elif cell < count:
                stack[top] = 2 * cell
                stack[top + 1] = 2 * cell + 1
                top += 2
            else:
                for j in range(edges[cell - count], edges[cell - count + 1]):
                    near[:, seen] = sources[j]
                    seen += 1
        for i in range(edges[leaf], edges[leaf + 1]):
            if kind == ADJOINT:
                _adjoint(sources[i], near[:, :seen], width2, out[i])
            elif kind == VALUE:
                out[i, 0] = _value(sources[i], near[:, :seen], width2)
            else:
                _gradient(sources[i], near[:, :seen], width2, out[i])


@threads.compiled(**FLAGS)
def _is_far(cell, low, high, leaf_low, leaf_high):
    """Whether a cell's centre is far from a leaf's box, for the size of the cell's own box."""
    distance2 = np.float32(0)
    side = np.float32(0)
    for k in range(3):
        outside = max(leaf_low[k] - cell[k], cell[k] - leaf_high[k], np.float32(0))
        distance2 += outside * outside
        side = max(side, high[k] - low[k])
    return distance2 > np.float32(FAR * FAR) * side * side and distance2 > 0


@threads.compiled(**FLAGS)
def _value(x, y, width2):
    total = np.float32(0)
    for j in range(y.shape[1]):
        d0, d1, d2 = y[0, j] - x[0], y[1, j] - x[1], y[2, j] - x[2]
        r2 = d0 * d0 + d1 * d1 + d2 * d2
        scale = np.float32(1) / (r2 * np.sqrt(r2)) if r2 >= width2 else np.float32(0)
        total += scale * (d0 * y[3, j] + d1 * y[4, j] + d2 * y[5, j])
    return total


@threads.compiled(**FLAGS)
def _adjoint(x, y, width2, out):
    a, b, c = np.float32(0), np.float32(0), np.float32(0)
    for j in range(y.shape[1]):
        d0, d1, d2 = y[0, j] - x[0], y[1, j] - x[1], y[2, j] - x[2]
        r2 = d0 * d0 + d1 * d1 + d2 * d2
        scale = y[3, j] / (r2 * np.sqrt(r2)) if r2 >= width2 else np.float32(0)
        a -= scale * d0
        b -= scale * d1
        c -= scale * d2
    out[0], out[1], out[2] = a, b, c


@threads.compiled(**FLAGS)
def _gradient(x, y, width2, out):
    a, b, c = np.float32(0), np.float32(0), np.float32(0)
    for j in range(y.shape[1]):
        d0, d1, d2 = y[0, j] - x[0], y[1, j] - x[1], y[2, j] - x[2]
        r2 = d0 * d0 + d1 * d1 + d2 * d2
        scale = np.float32(1) / (r2 * np.sqrt(r2)) if r2 >= width2 else np.float32(0)
        along = np.float32(3) * (d0 * y[3, j] + d1 * y[4, j] + d2 * y[5, j])
        along = along / r2 if r2 >= width2 else np.float32(0)
        a += scale * (y[3, j] - along * d0)
        b += scale * (y[4, j] - along * d1)
        c += scale * (y[5, j] - along * d2)
    out[0], out[1], out[2] = a, b, c


def widths(iterations: int, spacing: float, scatter: float | None = None) -> np.ndarray:
    """Widths that fall by a constant factor: for most shapes 12 are as good as the authors' 40.

    spacing: of the points; scatter: their standard deviation about the surface, None for exact
    points; both in the unit frame.
    """
    narrowest = max(NARROWEST, NARROWEST_GAP * spacing / MARGIN)
    if scatter is not None:
        narrowest = max(narrowest, SCATTERED[0] + SCATTERED[1] * scatter / MARGIN)
    return np.geomspace(max(WIDEST, 4 * narrowest), narrowest, iterations)


def authors_widths(last: float = 0.002, first: float = 0.016) -> np.ndarray:
    """Those of the authors' 40 iterations; by default for clean points, for noise up to (0.05,
    0.2)."""
    return np.linspace(first, last, 40)


def numbers_of(points: np.ndarray, area_vectors: np.ndarray, width: float) -> np.ndarray:
    """Winding numbers (N,) at the points (N, 3) of a surface, each with an area vector along its
    normal (N, 3): 1/2 where all look outwards. All in one frame, any unit."""
    return _summed(VALUE, points, area_vectors, width)[:, 0] / (4 * np.pi)


def falls_of(points: np.ndarray, area_vectors: np.ndarray, width: float) -> np.ndarray:
    """Unit vectors (N, 3) at the points (N, 3) of a surface along which the winding number of their
    area vectors (N, 3) falls: outwards. A point may have none, 0."""
    return unit_vectors(_summed(GRADIENT, points, area_vectors, width))


def _summed(kind: int, points: np.ndarray, moments: np.ndarray, width: float) -> np.ndarray:
    """Tree.sums() float64 for points and moments in any order."""
    tree = Tree.of(points)
    sums = tree.sums(kind, moments[tree.order], width)
    found = np.empty(sums.shape)
    found[tree.order] = sums
    return found


def normals_of(points: np.ndarray, widths: np.ndarray, fewest: int | None = None) -> np.ndarray:
    """Unit normals (N, 3) float64, outwards, of points (N, 3).

    widths: of each iteration, in the authors' frame; fewest: the first iterations take the first
    points, at least so many, which must be random ones, then; None: all take all. Raises UserError
    where the points span no size.
    """
    points = Frame.of(points).to_unit(points) / MARGIN
    n = len(points)
    counts = [n if fewest is None else min(n, max(fewest, int(n / GROWTH**left)))
              for left in reversed(range(len(widths)))]
    tree = Tree.of(points[: counts[0]])
    mu = np.zeros((counts[0], 3))
    for width, count in zip(widths, counts):
        if count > len(mu):  # the area of a point is shared with the new ones nearby
            old, new = points[: len(mu)], points[len(mu) : count]
            shared = np.concatenate([mu, neighbours.interpolated(new, old, mu, INTERPOLATED)])
            mu = len(mu) / count * shared
            tree = Tree.of(points[:count])
        mu[tree.order] = _improved(tree, mu[tree.order], width)
    return unit_vectors(mu)


def _improved(tree: Tree, mu: np.ndarray, width: float) -> np.ndarray:
    """Area vectors (N, 3) after an iteration; both in the tree's order."""
    # A mu = w is VALUE, its transpose ADJOINT; r is minus the gradient of |A mu - 1/2|^2 / 2
    r = tree.sums(ADJOINT, 0.5 - tree.sums(VALUE, mu, width), width).astype(np.float64)
    along = tree.sums(VALUE, r, width).astype(np.float64)
    mu = mu + (r * r).sum() / max((along * along).sum(), TINY) * r
    normals = unit_vectors(tree.sums(GRADIENT, mu, width).astype(np.float64))
    return np.linalg.norm(mu, axis=1, keepdims=True) * normals
