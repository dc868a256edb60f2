"""The feet of points: the places on the network's surface {f = 0} below them.

A point p has the foot b with the unit normal n and the height h: p = b + h n. A point far from what
its neighbours say (an outlier) gets little weight or none: Tukey's bisquare of its distance from
the neighbours' median, in parts of the usual such distance there.

Where there are more points than a grid can show, the feet in each of its cells become one, so that
what follows costs as much as the grid. All lengths are in the unit frame.
"""

from __future__ import annotations

from typing import Callable, NamedTuple

from igr.backend import threads
from igr.backend.progress import Watch
from igr.backend.ranks import ALONE, Ranks
from igr.geometry.meshes import unit_vectors
from igr.geometry.regression import Samples, agreeing_medians, patches, tree_order, with_rings

import numpy as np

REACH = 0.1  # a height above that is no detail
SLIP = 0.2  # largest sideways offset of a foot, relative to the height
NEWTON_STEPS = 3
THERE = 1e-6  # |f| at a foot: no further step
NEIGHBOURS = 12  # that say what height a point should have
OUTLIER = 8.0  # bisquare's width, in median deviations
SMALL = 0.25  # spacing; a point nearer than that to what its neighbours say is no outlier
MOST_CELLS = (1 << 20) - 2  # along a side: three numbers fit into one
BLOCK = 1 << 17  # points that are projected together: f rounds by the points beside a point

Field = Callable[[np.ndarray], "tuple[np.ndarray, np.ndarray]"]  # points -> f (N,), grad f (N, 3)


class Feet(NamedTuple):
    """The places on the network's surface below some points."""

    points: np.ndarray  # (N, 3), on {f = 0}
    normals: np.ndarray  # (N, 3), unit length, towards larger f
    heights: np.ndarray  # (N,), of the points above them
    weights: np.ndarray  # (N,), 0 where the foot is none or the point an outlier, else up to 1, or
    #                      up to the number of points that it stands for

    def some(self, index) -> Feet:
        """Those that an index or mask selects."""
        return Feet(*(array[index] for array in self))


# ------------------------------------------------------------------------------------ projection


def project(field: Field, points: np.ndarray, steps: int = NEWTON_STEPS):
    """Points (N, 3) on {f = 0} near points (N, 3), by Newton's method along the gradient, and the
    unit normals (N, 3) and |f| (N,) there."""
    at = np.array(points, np.float64)
    f, gradient = field(at)
    off = np.abs(f)
    gradient = gradient.astype(np.float64)
    for _ in range(steps):
        going = np.flatnonzero(~(off <= THERE))
        if len(going) == 0:
            break
        slope = np.maximum((gradient[going] ** 2).sum(axis=1), 0.1)
        at[going] -= np.clip(f[going] / slope, -REACH, REACH)[:, None] * gradient[going]
        f[going], gradient[going] = field(at[going])
        off[going] = np.abs(f[going])
    return at, unit_vectors(gradient), off


def feet_of(field: Field, points: np.ndarray, group: Ranks = ALONE) -> Feet:
    """The feet of points (N, 3). A foot has weight 0 where Newton's method found none within REACH,
    or where the point is not above it. group: the ranks that share the points."""
    n = len(points)
    mine = group.share(n, BLOCK)
    watch = Watch("feet of the points", mine.stop - mine.start)
    feet = Feet(np.empty((n, 3)), np.empty((n, 3)), np.empty(n), np.empty(n))
    for start in range(mine.start, mine.stop, BLOCK):
        block = slice(start, min(start + BLOCK, mine.stop))
        for whole, part in zip(feet, _feet_of_block(field, points[block])):
            whole[block] = part
        watch.done(block.stop - block.start)
    group.gather(*feet, block=BLOCK)
    return feet


def _feet_of_block(field: Field, points: np.ndarray) -> Feet:
    at, normals, off = project(field, points)
    away = points - at
    heights = (away * normals).sum(axis=1)
    beside = np.linalg.norm(away - heights[:, None] * normals, axis=1)
    with np.errstate(invalid="ignore"):
        good = (off < 1e-3) & (np.abs(heights) < REACH)
        good &= beside <= SLIP * np.abs(heights) + 1e-4
        good &= np.isfinite(normals).all(axis=1) & (np.abs(normals).max(axis=1) > 0)
    at[~good] = points[~good]
    normals[~good] = (0.0, 0.0, 1.0)
    heights[~good] = 0.0
    return Feet(at, normals, heights, good.astype(np.float64))


# -------------------------------------------------------------------------------------- outliers


def weigh_outliers(feet: Feet) -> Feet:
    """The feet with their weights times the bisquare of their heights' distance from the
    neighbours' median."""
    used = np.flatnonzero(feet.weights > 0)
    k = min(NEIGHBOURS, len(used) - 1)
    if k < 3:
        return feet
    used = used[tree_order(feet.points[used])]
    samples = Samples.of(*feet.some(used))
    deviation, usual, reach = np.empty((3, len(used)))

    def look_around(patch: slice) -> None:
        rings = with_rings(samples, patch, [k + 1], k)
        rows, (_, index) = rings.inner(1)
        medians = agreeing_medians(rows, index, 1, samples.normals, samples.heights)
        # of the ring, too, where other threads write the same numbers
        deviation[rows] = np.abs(samples.heights[rows] - medians)
        rows, (distance, index) = rings.inner(0)
        usual[patch] = agreeing_medians(rows, index, 0, samples.normals, deviation)
        reach[patch] = distance[:, k]

    threads.map_each(look_around, patches(slice(0, len(used))))
    usual = np.maximum(usual, np.median(deviation))
    width = np.maximum(OUTLIER * usual, SMALL * np.median(reach) / k**0.5)
    weights = np.zeros(len(feet.points))
    weights[used] = samples.weights * _bisquare(deviation, width)
    return feet._replace(weights=weights)


def weighed(feet: Feet, side: float | None) -> tuple[Feet, Feet]:
    """The feet that are to be fitted, and those of the points, both with weights for outliers. They
    are the same without the `side` of a cell. With one, the fitted ones are the weighted means of
    the feet in each cell of a grid."""
    used = np.flatnonzero(feet.weights > 0)
    if side is None or len(used) == 0:
        feet = weigh_outliers(feet)
        return feet, feet
    some = feet.some(used)
    cell = cells_of(some.points, some.normals, side)
    some = some._replace(weights=some.weights * _weights_in_cells(some, cell, side))
    weights = np.zeros(len(feet.points))
    weights[used] = some.weights
    inner = some.weights > 0
    cell = np.unique(cell[inner], return_inverse=True)[1].reshape(-1)
    return means(some.some(inner), cell), feet._replace(weights=weights)


def _weights_in_cells(feet: Feet, cell: np.ndarray, side: float) -> np.ndarray:
    """As weigh_outliers, but a foot's neighbours are the cells around its own: their medians."""
    count = np.bincount(cell)
    samples = Samples.of(*means(feet, cell))

    def around(values: np.ndarray) -> np.ndarray:
        found = np.empty(len(count))

        def look(patch: slice) -> None:
            index = samples.nearest(samples.points[patch], NEIGHBOURS)[1]
            rows = np.arange(patch.start, patch.stop)
            found[patch] = agreeing_medians(rows, index, 0, samples.normals, values)

        threads.map_each(look, patches(slice(0, len(count))))
        return found

    deviation = np.abs(feet.heights - around(_medians(feet.heights, cell, count))[cell])
    usual = np.maximum(around(_medians(deviation, cell, count)), np.median(deviation))
    width = np.maximum(OUTLIER * usual, SMALL * side / count.mean() ** 0.5)
    return _bisquare(deviation, width[cell])


def _medians(values: np.ndarray, cell: np.ndarray, count: np.ndarray) -> np.ndarray:
    """The median (M,) of the values (N,) in each of M cells, which hold count (M,) of them."""
    order = np.lexsort((values, cell))
    first = np.cumsum(count) - count
    return 0.5 * (values[order[first + (count - 1) // 2]] + values[order[first + count // 2]])


def _bisquare(deviation: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Tukey's weights (N,): 1 for no deviation, 0 from `width` on."""
    t = np.minimum(deviation / (width + 1e-12), 1)
    return (1 - t**2) ** 2


# ------------------------------------------------------------------------------------------ cells


def cells_of(points: np.ndarray, normals: np.ndarray, side: float) -> np.ndarray:
    """The number (N,) of each point's cell, of a grid with cells of `side`; those whose normals
    point to different sides of a cube are apart, so the sides of a thin sheet are. There are
    MOST_CELLS a side at most."""
    axis = np.abs(normals).argmax(axis=1)
    face = 2 * axis + (normals[np.arange(len(axis)), axis] > 0)
    low = points.min(axis=0)
    side = max(side, np.ptp(points, axis=0).max() / MOST_CELLS, 1e-12)
    index = ((points - low) / side).astype(np.int64)
    key = ((index[:, 0] << 40) | (index[:, 1] << 20) | index[:, 2]) * 6 + face
    return np.unique(key, return_inverse=True)[1].reshape(-1)


def means(feet: Feet, cell: np.ndarray) -> Feet:
    """The weighted mean of the feet in each cell, of numbers (N,), with their weights together."""
    total = np.bincount(cell, feet.weights)

    def mean(columns):
        summed = [np.bincount(cell, feet.weights * column) for column in columns.T]
        return np.stack(summed, axis=1) / total[:, None]

    return Feet(mean(feet.points), unit_vectors(mean(feet.normals)),
                mean(feet.heights[:, None])[:, 0], total)
