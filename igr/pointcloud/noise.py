"""Estimate a cloud's noise and find its boundary points, from local quadric fits.

The neighbours of a point are heights over their plane, the plane of their principal axes. Unlike
the fits of igr/geometry/regression.py, these need no normals, weigh all neighbours alike and give
what is left, not the surface; an orthonormal basis stands even where the neighbours lie on a line.
Lengths are in the unit of the points.
"""

from __future__ import annotations

from typing import NamedTuple

from igr.backend import threads
from igr.geometry import neighbours
from igr.geometry.meshes import TINY

import numpy as np
from scipy.spatial import cKDTree

NEIGHBOURS = 12  # through which scatter fits a quadric, in the frame of the next
FRAME_NEIGHBOURS = 64
SAMPLE = 1_000  # points at which scatter is measured

INEXACT = 0.2  # scatter in spacings, above which points lie beside the surface; clean: below 0.16
FEW = 5_000  # points; of fewer, each one counts

RIM_NEIGHBOURS = 30
GAP = np.radians(140)  # without a neighbour, seen from a point of a rim; 180 where that is straight
ONE_SHEET = 0.5  # spacings; greater standard deviations from a quadric mean two sheets
SPACING_NEIGHBOUR = 10  # whose distance tells the points' spacing
FEWEST = 3  # points of a rim that have another among their neighbours
MOST = 10.0  # points of rims, in square roots of the number of all; around a disc there are 3
BLOCK = 1 << 14  # points that are fitted together


class Measurements(NamedTuple):
    """What the neighbours of a cloud's points tell: found once, where the cloud is loaded."""

    tree: cKDTree  # of the points
    spacing: float  # of the points, see neighbours.spacing_of
    scatter: float  # standard deviation of the points about a smooth surface, see scatter

    @classmethod
    def of(cls, tree: cKDTree, sigma: np.ndarray, knn: int) -> Measurements:
        """Those of a tree's points, whose k-th neighbours (knn) are sigma (N, 1) away."""
        return cls(tree, neighbours.spacing_of(float(np.median(sigma)), knn), scatter(tree))

    @property
    def inexact(self) -> bool:
        """Are the points too few to tell the surface, or do they lie beside it?"""
        return self.tree.n < FEW or self.scatter > INEXACT * self.spacing


def scatter(tree: cKDTree, seed: int = 0) -> float:
    """How far a tree's points scatter about a smooth surface: the median, over some of them, of the
    standard deviation of their nearest neighbours from a quadric.

    The quadric is a height over the plane of more neighbours, for where the scatter is as large as
    the spacing, the nearest ones have no plane. Outliers do not count, since they are few. 0 where
    the points are too few to tell.
    """
    if tree.n < 2 * NEIGHBOURS:
        return 0.0
    places = tree.data[np.random.default_rng(seed).permutation(tree.n)[:SAMPLE]]
    wide = min(FRAME_NEIGHBOURS, tree.n - 1)
    index = neighbours.search(tree, places, wide + 1)[1]
    heights, x, y = _over_plane(tree.data[index] - places[:, None])
    near = slice(0, NEIGHBOURS + 1)
    return float(np.median(_deviations(heights[:, near], x[:, near], y[:, near])))


def on_rim(points: np.ndarray) -> np.ndarray:
    """Mask (N,) of the points (N, 3) on the rim of an open surface or of a hole in it.

    Such a point has all neighbours on one side, and they lie on one sheet: at the edge of a thin
    wall, too, all are on one side, but on both of its faces. A rim is a line, so its points have
    others of it near them, but they are not many of all. Where points lie in lines, of a scanner or
    of contours, their neighbours may be on one line or two, and do not tell: then none is on a rim.
    Where the points scatter by more than 0.3 of their spacing, rims are hardly found.
    """
    first, group = neighbours.distinct(points)
    return _on_rim(points[first])[group]


def _on_rim(points: np.ndarray) -> np.ndarray:
    """on_rim of points of which no two are the same."""
    rim = np.zeros(len(points), bool)
    if len(points) <= RIM_NEIGHBOURS:
        return rim
    tree = neighbours.tree_of(points)

    def find(block: slice) -> None:
        distance, index = tree.query(points[block], k=RIM_NEIGHBOURS + 1)  # in a thread already
        heights, x, y = _over_plane(tree.data[index] - points[block, None])
        rows = np.flatnonzero(_widest_gap(x[:, 1:], y[:, 1:]) > GAP)
        spacing = neighbours.spacing_of(distance[rows, SPACING_NEIGHBOUR], SPACING_NEIGHBOUR)
        one_sheet = _deviations(heights[rows], x[rows], y[rows]) < ONE_SHEET * spacing
        rim[block.start + rows[one_sheet]] = True

    threads.map_each(find, neighbours.blocks(len(points), BLOCK))
    candidates = np.flatnonzero(rim)
    index = neighbours.search(tree, points[candidates], RIM_NEIGHBOURS + 1)[1]
    rim[candidates[rim[index[:, 1:]].sum(axis=1) < FEWEST]] = False
    return rim & (rim.sum() <= MOST * len(points) ** 0.5)


def _over_plane(around: np.ndarray) -> np.ndarray:
    """Heights, x and y (3, N, K) of offsets (N, K, 3) over the plane of each row of them."""
    centred = around - around.mean(axis=1, keepdims=True)
    _, axes = np.linalg.eigh(np.einsum("nki,nkj->nij", centred, centred))
    return np.moveaxis(around @ axes, 2, 0)


def _deviations(heights: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Standard deviations (N,) of heights (N, K) from the quadrics in x and y through them."""
    size = np.maximum(np.abs([x, y]).max(axis=(0, 2)), TINY)[:, None]
    x = x / size
    y = y / size
    basis, _ = np.linalg.qr(np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=2))
    fitted = np.einsum("nki,nji,nj->nk", basis, basis, heights)
    unknowns = basis.shape[2]
    return np.sqrt(((heights - fitted) ** 2).sum(axis=1) / (heights.shape[1] - unknowns))


def _widest_gap(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The widest angle (N,) at the origin without a point, of points x, y (N, K)."""
    angles = np.sort(np.arctan2(y, x), axis=1)
    around = 2 * np.pi + angles[:, 0] - angles[:, -1]
    return np.maximum(np.diff(angles, axis=1).max(axis=1), around)
