"""Project points onto the level set {f = 0}: closest point, normal, signed height, weight.

A point p has the foot b with the unit normal n and the height h: p = b + h n. A point far from
where its neighbours are (an outlier) gets little weight or none: Tukey's bisquare of its distance
from the neighbours' median, in parts of the usual such distance there.

Where there are more points than a grid can show, the feet in each of its cells become one, so that
what follows costs as much as the grid. All lengths are in the unit frame.
"""

from __future__ import annotations

from typing import Callable, NamedTuple

from igr.backend import threads
from igr.backend.progress import Watch
from igr.geometry import neighbours
from igr.geometry.meshes import unit_vectors
from igr.geometry.regression import Samples, agreeing_medians, patches, tree_order

import numpy as np

REACH = 0.1  # a height above that is no detail
SLIP = 0.2  # largest sideways offset of a foot, relative to the height
LEAST_SLIP = 1e-4  # which it may have at any height
NEWTON_STEPS = 3
THERE = 1e-6  # |f| at a foot: no further step
NEAR = 1e-3  # |f| at a foot at most
FLATTEST = 0.1  # |grad f|^2 at least, so that a step stays finite
NEIGHBOURS = 12  # whose median height a point is compared with
OUTLIER = 8.0  # bisquare's width, in median deviations
SMALL = 0.25  # spacings; a point nearer than that to its neighbours' median is no outlier
ROUNDING = 1e-12  # lengths below it are 0
BLOCK = 1 << 17  # points that are projected together: f rounds by the points beside a point

Field = Callable[[np.ndarray], "tuple[np.ndarray, np.ndarray]"]  # points -> f (N,), grad f (N, 3)


class Feet(NamedTuple):
    """Closest points on the level set, with the points' heights over them."""

    points: np.ndarray  # (N, 3), on {f = 0}
    normals: np.ndarray  # (N, 3), unit length, towards larger f
    heights: np.ndarray  # (N,), of the points above them
    weights: np.ndarray  # (N,), 0 where the foot is none or the point an outlier, else up to 1, or
    #                      up to the number of points that it stands for

    def part(self, index) -> Feet:
        """Those of an index or mask."""
        return Feet(*(array[index] for array in self))


# ------------------------------------------------------------------------------------ projection


def project(field: Field, points: np.ndarray):
    """Points (N, 3) on {f = 0} near points (N, 3), by Newton's method along the gradient, and the
    unit normals (N, 3) and |f| (N,) there."""
    at = np.array(points, np.float64)
    f, gradient = field(at)
    off = np.abs(f)
    gradient = gradient.astype(np.float64)
    for _ in range(NEWTON_STEPS):
        going = np.flatnonzero(~(off <= THERE))
        if len(going) == 0:
            break
        at[going] -= newton_step(f[going], gradient[going])
        f[going], gradient[going] = field(at[going])
        off[going] = np.abs(f[going])
    return at, unit_vectors(gradient), off


def newton_step(f: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """What Newton's method subtracts (N, 3) from points with values (N,) and gradients (N, 3)."""
    slope = np.maximum((gradient**2).sum(axis=1), FLATTEST)
    return np.clip(f / slope, -REACH, REACH)[:, None] * gradient


def feet_of(field: Field, points: np.ndarray) -> Feet:
    """The feet of points (N, 3). A foot has weight 0 where Newton's method found none within REACH,
    or where the point is not above it."""
    n = len(points)
    watch = Watch("feet of the points", n)
    feet = Feet(np.empty((n, 3)), np.empty((n, 3)), np.empty(n), np.empty(n))
    for block in neighbours.blocks(n, BLOCK):
        for whole, part in zip(feet, _feet_of_block(field, points[block])):
            whole[block] = part
        watch.done(block.stop - block.start)
    return feet


def _feet_of_block(field: Field, points: np.ndarray) -> Feet:
    at, normals, off = project(field, points)
    away = points - at
    heights = (away * normals).sum(axis=1)
    beside = np.linalg.norm(away - heights[:, None] * normals, axis=1)
    with np.errstate(invalid="ignore"):
        good = (off < NEAR) & (np.abs(heights) < REACH)
        good &= beside <= SLIP * np.abs(heights) + LEAST_SLIP
        good &= np.isfinite(normals).all(axis=1) & (np.abs(normals).max(axis=1) > 0)
    at[~good] = points[~good]
    normals[~good] = (0.0, 0.0, 1.0)
    heights[~good] = 0.0
    return Feet(at, normals, heights, good.astype(np.float64))


# -------------------------------------------------------------------------------------- outliers


def weighed(feet: Feet, side: float | None) -> tuple[Feet, Feet]:
    """The feet that are to be fitted, and those of the points, both with weights for outliers. They
    are the same without the `side` of a cell. With one, the fitted ones are the weighted means of
    the feet in each cell of a grid."""
    used = np.flatnonzero(feet.weights > 0)
    if len(used) == 0:
        return feet, feet
    if side is None:
        used = used[tree_order(feet.points[used])]
        cell = np.arange(len(used))
    else:
        cell = cells_of(feet.points[used], feet.normals[used], side)
    some = feet.part(used)
    some = some._replace(weights=some.weights * _outlier_weights(some, cell))
    weights = np.zeros(len(feet.points))
    weights[used] = some.weights
    feet = feet._replace(weights=weights)
    if side is None:
        return feet, feet
    inner = some.weights > 0
    return means(some.part(inner), neighbours.numbered(cell[inner])), feet


def _outlier_weights(feet: Feet, cell: np.ndarray) -> np.ndarray:
    """Weights (N,) from 0 for outliers to 1: the bisquare of the heights' distance from the median
    of the neighbours. These are the cells around the foot's own, of numbers (N,), each with the
    median of its feet."""
    count = np.bincount(cell)
    samples = Samples.of(*(feet if len(count) == len(cell) else means(feet, cell)))
    k = min(NEIGHBOURS, len(count) - 1)
    if k < 3:
        return np.ones(len(cell))
    reach = np.empty(len(count))
    index = np.empty((len(count), k + 1), np.int32)
    rows = patches(slice(0, len(count)))

    def find(patch: slice) -> None:
        distance, index[patch] = samples.nearest(samples.points[patch], k)
        reach[patch] = distance[:, k]

    def around(values: np.ndarray, first: int) -> np.ndarray:
        """The median (M,) around each cell of the medians of values (N,) in the cells."""
        values = _medians(values, cell, count)
        return np.concatenate(threads.map_each(
            lambda patch: agreeing_medians(np.arange(patch.start, patch.stop), index[patch], first,
                                           samples.normals, values), rows))

    threads.map_each(find, rows)
    deviation = np.abs(feet.heights - around(feet.heights, 1)[cell])  # without the cell itself
    usual = np.maximum(around(deviation, 0), np.median(deviation))
    spacing = neighbours.spacing_of(np.median(reach), k) / count.mean() ** 0.5
    width = np.maximum(OUTLIER * usual, SMALL * spacing)[cell]
    return (1 - np.minimum(deviation / (width + ROUNDING), 1) ** 2) ** 2


def _medians(values: np.ndarray, cell: np.ndarray, count: np.ndarray) -> np.ndarray:
    """The median (M,) of the values (N,) in each of M cells, which hold count (M,) of them."""
    order = np.lexsort((values, cell))
    first = np.cumsum(count) - count
    return 0.5 * (values[order[first + (count - 1) // 2]] + values[order[first + count // 2]])


# ------------------------------------------------------------------------------------------ cells


def cells_of(points: np.ndarray, normals: np.ndarray, side: float) -> np.ndarray:
    """The number (N,) of each point's cell, of a grid with cells of `side`, or of the least side
    that has numbers. Those whose normals point to different sides of a cube are apart, so the sides
    of a thin sheet are."""
    least = np.ptp(points, axis=0).max() / (neighbours.MOST_CUBES - 2)
    return neighbours.cubes(points, max(side, least, ROUNDING), normals)


def means(feet: Feet, cell: np.ndarray) -> Feet:
    """The weighted mean of the feet in each cell, of numbers (N,), with their weights together."""
    points, normals, heights = (neighbours.group_means(values, cell, feet.weights)
                                for values in (feet.points, feet.normals, feet.heights[:, None]))
    return Feet(points, unit_vectors(normals), heights[:, 0], np.bincount(cell, feet.weights))
