"""A regular grid over a box: its points, its cells and one integer key for each.

A grid point has an index (i, j, k). A grid cell is the cube between eight neighbouring points; it
is named by the index of its lowest corner.
"""

from __future__ import annotations

from typing import NamedTuple

from helper import UserError

import numpy as np

# the corners of a unit cell, (8, 3); corner c and corner 7 - c are opposite
CORNERS = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), axis=-1).reshape(8, 3)
FINEST = 1 << 19  # points a side: what keys_of has numbers for


class Grid(NamedTuple):
    """Grid points low + spacing (i, j, k), 0 <= i, j, k < shape."""

    low: np.ndarray  # (3,)
    spacing: float
    shape: np.ndarray  # (3,) int64, points along each axis

    @classmethod
    def of(cls, low, high, n: int) -> Grid:
        """The grid with n points along the longest side of the box from low (3,) to high (3,).

        The spacing is the same along all axes, so a shorter side has fewer points; the grid may
        reach beyond the box by less than one cell there.
        Raises UserError for n < 8 or above FINEST and for a box with low >= high.
        """
        low = np.asarray(low, np.float64)
        high = np.asarray(high, np.float64)
        if n < 8:
            raise UserError(f"a grid of {n} points a side is too coarse; take 8 or more")
        if n > FINEST:
            raise UserError(f"a grid of {n} points a side is too fine; take {FINEST} or less")
        if not (high > low).all():
            raise UserError(f"the box from {low.tolist()} to {high.tolist()} is inside out")
        spacing = (high - low).max() / (n - 1)
        cells = np.ceil((high - low) / spacing * (1 - 1e-9)).astype(np.int64)
        return cls(low, spacing, cells + 1)

    def points(self, index: np.ndarray) -> np.ndarray:
        """The coordinates (n, 3), in f's units, of the grid points with index (n, 3)."""
        return self.low + self.spacing * index

    def has_cells(self, grid_cells: np.ndarray) -> np.ndarray:
        """Mask (n,): True where the unit cell, or the first one of a larger cell, is in the grid.

        grid_cells (n, 3): the index of each cell's lowest corner.
        """
        return ((grid_cells >= 0) & (grid_cells < self.shape - 1)).all(axis=1)


def keys_of(index: np.ndarray) -> np.ndarray:
    """One int64 (n,) for each grid index (n, 3); it grows in the order of i, j, k.

    20 bits an axis. An index may lie beyond the grid: -2^17 <= i, j, k < 2^20 - 2^17.
    """
    index = index + (1 << 17)
    return (index[:, 0] << 40) | (index[:, 1] << 20) | index[:, 2]
