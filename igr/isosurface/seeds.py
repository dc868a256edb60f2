"""Find cells on the surface from which all of it can be followed: seeds.

f is evaluated on a coarse lattice, every 2^k-th grid point along each axis, and on finer ones near
the surface. What its values at the corners of a lattice cell are decides:

* They have two signs: the surface goes through. Down to a side of STRIDE, the cell is refined. Then
  f is evaluated along the edges whose ends differ, and the cells around a change of sign are seeds.
* They have one sign: the surface may still pass between the corners, as a small piece or a thin
  sheet. Let f change by at most L a unit of length. Then there is no zero within |f(c)| / L of a
  corner c. An eighth of the cell that lies in one of these balls is dropped; the others are
  refined, down to grid cells. L is the steepest slope between two of the cell's corners, but at
  least 1, as of a distance.

So with f a distance, a piece without a seed lies in lattice cells of side STRIDE that another piece
goes through, and between their corners.
"""

from __future__ import annotations

from igr.isosurface.grids import CORNERS, keys_of
from igr.isosurface.values import STRIDE, ValueStore

import numpy as np

COARSEST = 11  # cells of the first lattice along the longest side, at least; at most 22
CELLS_AT_A_TIME = 1 << 17  # keeps the memory for their corners small
# in a unit cell: from corner to corner, and from the centres of its eighths (rows) to its corners
BETWEEN_CORNERS = np.linalg.norm(CORNERS[:, None] - CORNERS, axis=2) + np.diag(8 * [np.inf])
TO_CORNERS = np.linalg.norm((CORNERS[:, None] + 0.5) / 2 - CORNERS, axis=2)
# a cell's edges: the axis along which each lies, its lower and its upper corner
EDGES = [(axis, low, low + 4 // 2**axis) for axis in range(3)
         for low in np.flatnonzero(CORNERS[:, axis] == 0)]
# from the start of an edge along each axis back to the lowest corners of the four cells around it
AROUND = np.stack([CORNERS[CORNERS[:, axis] == 0] for axis in range(3)])


def find_seeds(store: ValueStore, level: np.float32) -> tuple[np.ndarray, float]:
    """Cells (n, 3) that the surface crosses, some in each of its pieces, and the steepest slope of
    f that was seen. Of the cells around an edge in a side of the grid, some lie beyond it."""
    shape = store.grid.shape
    step = STRIDE
    while shape.max() > 2 * COARSEST * step:
        step *= 2
    axes = [np.arange(0, points - 1, step) for points in shape]
    cells = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    seeds = [np.empty((0, 3), np.int64)]
    steepest = 0.0
    while step and len(cells):
        finer = []
        for some in np.array_split(cells, -(-len(cells) // CELLS_AT_A_TIME)):
            # corners beyond the grid are moved into its side, and so nearer to all eighths in it
            corners = np.minimum(some[:, None] + step * CORNERS, shape - 1)
            values = store.values_at(corners.reshape(-1, 3)).reshape(-1, 8) - level
            slope, refined = uncertain_eighths(values, step * store.grid.spacing)
            steepest = max(steepest, slope)
            mixed = (values > 0).any(axis=1) & ~(values > 0).all(axis=1)
            refined[mixed] = step > STRIDE
            if step <= STRIDE:
                seeds.append(crossed_on_edges(store, level, some[mixed], values[mixed] > 0, step))
            parent, eighth = np.nonzero(refined)
            finer.append(some[parent] + step // 2 * CORNERS[eighth])
        store.end_chunk()
        step //= 2
        cells = np.concatenate(finer)
        cells = cells[store.grid.has_cells(cells)]
    return np.concatenate(seeds), steepest


def uncertain_eighths(values: np.ndarray, side: float) -> tuple[float, np.ndarray]:
    """The steepest slope in cubic cells of this side, and a mask (n, 8) of the eighths of each cell
    that may hold a zero, from the values (n, 8) at its corners. See the top of this file."""
    differences = np.abs(values[:, :, None] - values[:, None])
    slopes = (differences / BETWEEN_CORNERS).max(axis=(1, 2)) / side
    radii = np.abs(values) / (side * np.maximum(slopes, 1))[:, None]
    inside = (radii[:, None] - TO_CORNERS).max(axis=2) > np.sqrt(0.75) / 2 + 1e-3  # 1e-3: rounding
    return float(slopes.max(initial=0)), ~inside


def crossed_on_edges(store: ValueStore, level: np.float32, cells: np.ndarray,
                     above: np.ndarray, step: int) -> np.ndarray:
    """Grid cells (m, 3) around each change of sign on an edge of a lattice cell whose ends differ.

    cells (n, 3): the lattice cells' lowest corners; above (n, 8): where f > level at their corners;
    step: their side in grid cells.
    """
    edges = [(cells[above[:, low] != above[:, high]] + step * CORNERS[low], axis)
             for axis, low, high in EDGES]
    start = np.concatenate([start for start, _ in edges])
    axis = np.repeat([axis for _, axis in edges], [len(start) for start, _ in edges])
    once = np.unique(4 * keys_of(start) + axis, return_index=True)[1]  # four cells share an edge
    along = np.arange(step + 1)[:, None] * np.eye(3, dtype=int)[axis[once], None]
    points = np.minimum(start[once, None] + along, store.grid.shape - 1)
    is_above = store.values_at(points.reshape(-1, 3)).reshape(-1, step + 1) > level
    edge, place = np.nonzero(is_above[:, :-1] != is_above[:, 1:])
    return (points[edge, place][:, None] - AROUND[axis[once[edge]]]).reshape(-1, 3)
