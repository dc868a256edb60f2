"""What the neighbours of a cloud's points say: how far the points scatter about a smooth surface,
and which of them lie on the rim of an open one.

The neighbours are looked at as heights over their plane, the plane of their principal axes. The
unit is that of the points.
"""

from __future__ import annotations

from igr.backend import threads

import numpy as np
from scipy.spatial import cKDTree

NEIGHBOURS = 12  # through which scatter fits a quadric, in the frame of the next
FRAME_NEIGHBOURS = 64
SAMPLE = 1_000  # points that scatter looks at

INEXACT = 0.2  # the same, above which they do not lie on the surface; clean clouds have below 0.16
FEW = 5_000  # points of which each counts

RIM_NEIGHBOURS = 30
GAP = np.radians(140)  # without a neighbour, seen from a point of a rim; 180 where that is straight
ONE_SHEET = 0.5  # spacings; greater standard deviations from a quadric mean two sheets
SPACING_NEIGHBOUR = 10  # of which the distance tells the points' spacing
FEWEST = 3  # points of a rim that have another among their neighbours
MOST = 10.0  # points of rims, in square roots of the number of all; around a disc there are 3
BLOCK = 1 << 14  # points that are looked at together


def scatter(points: np.ndarray, seed: int = 0) -> float:
    """How far points (N, 3) scatter about a smooth surface: the median, over some of them, of the
    standard deviation of their nearest neighbours around a quadric.

    The quadric is a height over the plane of more neighbours, for where the scatter is as large as
    the spacing, the nearest ones have no plane. Outliers do not count, since they are few. 0 where
    the points are too few to tell.
    """
    if len(points) < 2 * NEIGHBOURS:
        return 0.0
    places = points[np.random.default_rng(seed).permutation(len(points))[:SAMPLE]]
    wide = min(FRAME_NEIGHBOURS, len(points) - 1)
    _, index = cKDTree(points).query(places, k=wide + 1)
    heights, x, y = _over_plane(points[index].astype(np.float64) - places[:, None])
    nearest = slice(0, NEIGHBOURS + 1)
    return float(np.median(_deviations(heights[:, nearest], x[:, nearest], y[:, nearest])))


def on_rim(points: np.ndarray) -> np.ndarray:
    """Mask (N,) of the points (N, 3) on the rim of an open surface or of a hole in it.

    Such a point has all neighbours on one side, and they lie on one sheet: at the edge of a thin
    wall, too, all are on one side, but on both of its faces. A rim is a line, so its points have
    others of it near them, but they are not many of all. Where points lie in lines, of a scanner or
    of contours, their neighbours may be on one line or two, and do not tell: then none is on a rim.
    Where the points scatter by more than 0.3 of their spacing, rims are hardly found.
    """
    distinct, place = np.unique(points, axis=0, return_inverse=True)
    return _on_rim(distinct)[place.reshape(-1)]


def _on_rim(points: np.ndarray) -> np.ndarray:
    """on_rim of points of which no two are the same."""
    found = np.zeros(len(points), bool)
    if len(points) <= RIM_NEIGHBOURS:
        return found
    tree = cKDTree(points)

    def look_around(block: slice) -> None:
        distance, index = tree.query(points[block], k=RIM_NEIGHBOURS + 1)
        offsets = points[index].astype(np.float64) - points[block, None]
        heights, x, y = _over_plane(offsets)
        rows = np.flatnonzero(_widest_gap(x[:, 1:], y[:, 1:]) > GAP)
        spacing = distance[rows, SPACING_NEIGHBOUR] / SPACING_NEIGHBOUR**0.5
        one_sheet = _deviations(heights[rows], x[rows], y[rows]) < ONE_SHEET * spacing
        found[block.start + rows[one_sheet]] = True

    threads.map_each(look_around, _blocks(len(points)))
    candidates = np.flatnonzero(found)
    index = tree.query(points[candidates], k=RIM_NEIGHBOURS + 1)[1]
    found[candidates[found[index[:, 1:]].sum(axis=1) < FEWEST]] = False
    return found & (found.sum() <= MOST * len(points) ** 0.5)


def _blocks(n: int) -> list[slice]:
    return [slice(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK)]


def _over_plane(around: np.ndarray):
    """Heights, x and y (N, K) of offsets (N, K, 3) over the plane of each row of them."""
    centred = around - around.mean(axis=1, keepdims=True)
    _, axes = np.linalg.eigh(np.einsum("nki,nkj->nij", centred, centred))
    return np.moveaxis(around @ axes, 2, 0)


def _deviations(heights: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Standard deviations (N,) of heights (N, K) from the quadrics in x and y through them."""
    size = np.maximum(np.abs([x, y]).max(axis=(0, 2)), 1e-300)[:, None]
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


def loose(points: np.ndarray, sigma: np.ndarray, knn: int) -> bool:
    """Are points (N, 3) too few to tell the surface, or beside it?"""
    return len(points) < FEW or scatter(points) > INEXACT * spacing_of(sigma, knn)


def spacing_of(sigma: np.ndarray, knn: int) -> float:
    """The usual distance of neighbours whose k-th ones are sigma (N, 1) away: on a surface their
    number grows with the square of the distance."""
    return float(np.median(sigma)) / knn**0.5
