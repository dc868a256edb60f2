"""Find cells from which the surface can be followed, on lattices that get finer near it.

A lattice is every 2^k-th grid point along each axis; its cells are cubes of that side, cut at the
grid's own sides. A lattice cell is refined where its corners' values have two signs, or where they
are so small that the surface may pass between the corners: at most half a diagonal, if f is a
distance; at most half the range of the values, if f is steeper.

From STRIDE on, a change of sign is not refined any more. It is bisected on each of the cell's edges
to two neighbouring grid points: seeds. Small values go on to be refined only where no cell beside
has two signs, as around a piece of less than a lattice cell, or a sheet between two lattice planes.
"""

from __future__ import annotations

from igr.isosurface.grids import CORNERS, keys_of
from igr.isosurface.values import STRIDE, ValueStore

import numpy as np

COARSEST = 16  # lattice cells along the grid's longest side, at least, to begin with
AROUND = np.stack(np.meshgrid(*3 * [[-1, 0, 1]], indexing="ij"), axis=-1).reshape(-1, 3)
EDGES = [(c, c + 4 // 2**axis, axis) for axis in range(3)  # two corners of a cell, and the axis
         for c in np.flatnonzero(CORNERS[:, axis] == 0)]
CELLS_AT_A_TIME = 1 << 18  # keeps the memory for their corners small


def seeds(store: ValueStore, level: np.float32) -> tuple[np.ndarray, float]:
    """Grid cells (n, 3) that the surface crosses, some in each of its pieces, and the steepest
    change of f a unit of length that was seen."""
    shape = store.grid.shape
    step = max(STRIDE, 1 << int((shape.max() - 1) // COARSEST).bit_length() - 1)
    axes = [np.arange(0, points - 1, step) for points in shape]
    cells = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    found = []
    steepest = 0.0
    while True:
        corners = np.minimum(cells[:, None] + step * CORNERS, shape - 1)
        values = store.lattice_values(corners.reshape(-1, 3)).reshape(-1, 8) - level
        least = values.min(axis=1)
        most = values.max(axis=1)
        side = step * store.grid.spacing
        mixed = (values > 0).any(axis=1) & ~(values > 0).all(axis=1)
        near = np.abs(values).min(axis=1) <= np.maximum(np.sqrt(0.75) * side, (most - least) / 2)
        refined = near | mixed
        if step <= STRIDE:
            found.append(_bisected(store, level, corners[mixed], values[mixed] > 0))
            refined = near & ~mixed
            refined[refined] = ~_beside(cells[refined] // step, cells[mixed] // step)
        if step == 1 or not refined.any():
            break
        step //= 2
        cells = (cells[refined][:, None] + step * CORNERS).reshape(-1, 3)
        cells = cells[store.grid.has_cells(cells)]
    return np.concatenate(found), steepest


def _beside(cells: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Mask (n,): is one of the cells around a cell (n, 3) among the others (m, 3)?"""
    around = keys_of((cells[:, None] + AROUND).reshape(-1, 3))
    return np.isin(around, keys_of(others)).reshape(-1, len(AROUND)).any(axis=1)


def _bisected(store: ValueStore, level: np.float32, corners: np.ndarray,
              above: np.ndarray) -> np.ndarray:
    """Grid cells (m, 3) with a change of sign on an edge, from lattice cells with one.

    corners (n, 8, 3): of the lattice cells; above (n, 8): where f > level.
    """
    ends = []
    for a, b, axis in EDGES:
        mixed = above[:, a] != above[:, b]
        rising = above[mixed, b]
        ends.append(np.column_stack([corners[mixed, a], corners[mixed, b, axis],
                                     np.full(len(rising), axis), rising]))
    ends = np.concatenate(ends)
    ends = ends[np.unique(4 * keys_of(ends[:, :3]) + ends[:, 4], return_index=True)[1]]
    start = ends[:, :3]
    stop, axis, rising = ends[:, 3:].T
    row = np.arange(len(ends))
    while True:
        long = np.flatnonzero(stop - start[row, axis] > 1)
        if len(long) == 0:
            break
        middle = start[long]
        half = (middle[np.arange(len(long)), axis[long]] + stop[long]) // 2
        middle[np.arange(len(long)), axis[long]] = half
        up = (store.evaluate(middle) > level) == rising[long]
        stop[long[up]] = half[up]
        start[long[~up], axis[long[~up]]] = half[~up]
    return np.minimum(start, store.grid.shape - 2)
