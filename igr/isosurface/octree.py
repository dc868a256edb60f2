"""Where a function may be zero: an octree that drops the cells that cannot hold a zero.

The drop test. Let f change by at most L a unit of length, and let k and c be opposite corners of a
cubic cell of side a. Then no zero lies within r_k = |f(k)| / L of k, nor within r_c of c. The two
balls cover the cell when r_c > d(r_k), where d(r) is the distance from c of the farthest point of
the cell that is r away from k:

    r <= a:          d^2 = (a - r)^2 + 2 a^2
    r <= sqrt(2) a:  d^2 = (a - sqrt(r^2 - a^2))^2 + a^2
    r <= sqrt(3) a:  d^2 = (a - sqrt(r^2 - 2 a^2))^2,   beyond: 0

k is a corner of the cell's parent and c is the parent's centre. Both are grid points, so both
values can be used again. L is `lipschitz` (1: the eikonal equation) times the steepest slope seen
in the parent, if that is above 1.
"""

from __future__ import annotations

from igr.isosurface.grids import CORNERS
from igr.isosurface.values import Blocks, ValueStore

import numpy as np

COARSEST = 4  # cells along each side of the octree's first level


class Octree:
    """Finds the blocks of a grid, and the cells of a block, that may hold a zero of f - level."""

    def __init__(self, store: ValueStore, level: np.float32, lipschitz: float):
        self.store = store
        self.level = level
        self.lipschitz = lipschitz
        self.levels = 0  # from the whole grid down to its cells
        self.slope = 0.0  # steepest change of f a unit of length that was seen

    def candidate_blocks(self, size: int) -> np.ndarray:
        """Origins (n, 3) of the blocks of `size` cells a side that may hold a zero.

        size: a power of two.
        """
        needed = -(-(self.store.grid.shape - 1).max() // size)
        across = 1 << int(needed - 1).bit_length()
        coarsest = min(COARSEST, across)
        self.levels = (coarsest * size).bit_length()
        root = Blocks.empty(np.zeros((1, 3), np.int64), across, stride=size)
        return root.grid_index(self.candidate_cells(root, coarsest))

    def candidate_cells(self, blocks: Blocks, step: int) -> np.ndarray:
        """Block cells (n, 4) of one unit that may hold a zero.

        step: side of the cells to begin with, in units: a power of two that divides the block's.
        """
        cells = blocks.cells(self.store.grid, step)
        while step > 1:
            half = step // 2
            side = step * blocks.stride * self.store.grid.spacing
            f_corners, f_center = self._evaluate(blocks, cells, step)
            slope = steepest_slope(f_corners, f_center, side)
            self.slope = max(self.slope, float(slope.max(initial=0)))
            bound = self.lipschitz * np.maximum(1, slope)[:, None]
            may_hold = ~holds_no_zero(f_corners, f_center, bound, side / 2)
            parent, child = np.nonzero(may_hold)
            cells = cells[parent]
            cells[:, 1:] += half * CORNERS[child]
            cells = blocks.inside(self.store.grid, cells)
            step = half
        return cells

    def _evaluate(self, blocks, cells, step) -> tuple[np.ndarray, np.ndarray]:
        """f - level at the corners (n, 8) and at the centre (n, 1) of cells (n, 4)."""
        corners = blocks.places(cells, step * CORNERS)
        center = blocks.places(cells, step // 2 * np.ones((1, 3), int))
        self.store.fill(blocks, np.concatenate([corners.ravel(), center.ravel()]))
        values = blocks.values.reshape(-1)
        return values[corners] - self.level, values[center] - self.level


def steepest_slope(f_corners: np.ndarray, f_center: np.ndarray, side: float) -> np.ndarray:
    """The steepest slope (n,) that f's values in n cubic cells show, per unit of `side`.

    f_corners (n, 8): f at the corners, in the order of CORNERS; f_center (n, 1): at the centre.
    It is the larger of two estimates: the slope from the centre to a corner, and the norm of the
    mean differences along the three axes.
    """
    to_corners = np.abs(f_corners - f_center).max(axis=1) / (np.sqrt(0.75) * side)
    differences = []
    for axis in range(3):
        upper = f_corners[:, CORNERS[:, axis] == 1]
        lower = f_corners[:, CORNERS[:, axis] == 0]
        differences.append((upper - lower).mean(axis=1))
    along_axes = np.linalg.norm(differences, axis=0) / side
    return np.maximum(to_corners, along_axes)


def holds_no_zero(f_k: np.ndarray, f_c: np.ndarray, bound, side: float) -> np.ndarray:
    """Mask: True where a cell cannot hold a zero. This is the drop test at the top of this file.

    f_k, f_c: f - level at two opposite corners of the cell; bound: L; side: a. They broadcast.
    """
    r_k = np.abs(f_k) / (bound * side)  # in units of a
    r_c = np.abs(f_c) / (bound * side)
    square = r_k * r_k
    beyond_1 = np.sqrt(np.clip(square - 1, 0, None))
    beyond_2 = np.sqrt(np.clip(square - 2, 0, None))
    d_square = np.select([square <= 1, square <= 2, square <= 3],
                         [(1 - r_k) ** 2 + 2, (1 - beyond_1) ** 2 + 1, (1 - beyond_2) ** 2], 0)
    same_sign = np.sign(f_k) == np.sign(f_c)
    return same_sign & (r_c > np.sqrt(d_square) + 1e-3)  # 1e-3: the rounding of float32
