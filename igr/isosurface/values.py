"""The values of a function f at grid points, each evaluated once.

The whole grid does not fit into memory, so it is treated in chunks of blocks. A block is a cube of
cells. Neighbouring blocks share the points on their sides: the store keeps the values there when a
chunk is done, and forgets those inside a block. (The octree's root is a block, too. The few values
inside it are evaluated again when the blocks of the grid need them.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from helper import UserError
from igr.isosurface.grids import Grid, keys_of

import numpy as np

STRIDE = 4  # grid points from one to the next of the finest lattice whose values are kept
CHUNK = 512  # blocks that are held at the same time: 75 MB of values


class Blocks(NamedTuple):
    """A chunk of blocks of m x m x m cells, with the values of f at their points.

    values[b, i, j, k] belongs to the grid point origins[b] + stride (i, j, k); NaN means that f has
    not been evaluated there. A block cell (b, i, j, k) is the cell of block b whose lowest corner
    has this place; arrays of them, (n, 4), are called block_cells.
    """

    values: np.ndarray  # (B, m + 1, m + 1, m + 1) float32
    origins: np.ndarray  # (B, 3) int64, grid index of each block's lowest corner
    stride: int  # grid points from one point of a block to the next

    @classmethod
    def empty(cls, origins: np.ndarray, size: int, stride: int = 1) -> Blocks:
        """Blocks of `size` cells a side at origins (B, 3), nothing evaluated yet."""
        points = size + 1
        return cls(np.full((len(origins), points, points, points), np.nan, np.float32), origins,
                   stride)

    @property
    def size(self) -> int:
        """m: cells along a block's side."""
        return self.values.shape[1] - 1

    def cells(self, grid: Grid, step: int = 1) -> np.ndarray:
        """All block cells (n, 4) of `step` units a side that reach into the grid."""
        axis = np.arange(0, self.size, step)
        block = np.arange(len(self.origins))
        cells = np.stack(np.meshgrid(block, axis, axis, axis, indexing="ij"), axis=-1)
        return self.inside(grid, cells.reshape(-1, 4))

    def inside(self, grid: Grid, block_cells: np.ndarray) -> np.ndarray:
        """Those of the block cells (n, 4) that reach into the grid."""
        return block_cells[grid.has_cells(self.grid_index(block_cells))]

    def grid_index(self, block_cells: np.ndarray) -> np.ndarray:
        """The grid index (n, 3) of the lowest corners of block cells (n, 4)."""
        return self.origins[block_cells[:, 0]] + self.stride * block_cells[:, 1:]

    def places(self, block_cells: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Indices (n, p) into values.ravel() of the points cell + offset.

        block_cells (n, 4); offsets (p, 3) in units of the blocks' points.
        """
        _, a, b, c = self.values.shape
        block, i, j, k = block_cells.T
        lowest = ((block * a + i) * b + j) * c + k
        return lowest[:, None] + (offsets[:, 0] * b + offsets[:, 1]) * c + offsets[:, 2]

    def offsets(self, steps: np.ndarray) -> np.ndarray:
        """What is added to an index into values.ravel() to go a step (n, 3) in points."""
        _, a, b, c = self.values.shape
        return (steps[:, 0] * b + steps[:, 1]) * c + steps[:, 2]

    def on_upper_side(self, places: np.ndarray) -> np.ndarray:
        """Mask (n,) of the places (n,) on an upper side of their block, where no cell begins.

        Negative places count from the end, so a step down from a lower side leads there, too.
        """
        points = self.values.shape[1]
        last = places % points == self.size
        last |= places // points % points == self.size
        last |= places // points**2 % points == self.size
        return last

    def locate(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The grid index (n, 3) of the points at places (n,), and a mask (n,) of those that lie on
        a side of their block."""
        points = np.stack(np.unravel_index(places, self.values.shape), axis=1)
        on_side = (points[:, 1:] % self.size == 0).any(axis=1)
        on_lattice = (points[:, 1:] % STRIDE == 0).all(axis=1)
        return self.grid_index(points), on_side | on_lattice


def in_chunks(origins: np.ndarray, size: int, chunk: int = CHUNK) -> Iterator[Blocks]:
    """Empty blocks of `size` cells a side at origins (n, 3), at most `chunk` of them at a time."""
    for first in range(0, len(origins), chunk):
        yield Blocks.empty(origins[first : first + chunk], size)


class ValueStore:
    """Evaluates f at the points of blocks and keeps the values that neighbouring blocks share.

    f maps float64 points (N, 3) to values (N,).
    """

    def __init__(self, f: Callable[[np.ndarray], np.ndarray], grid: Grid):
        self.f = f
        self.grid = grid
        self.evaluations = 0  # points at which f was evaluated
        self._tables = [_Table.empty()]  # merging into a large one is slow: it is done once a chunk

    def fill(self, blocks: Blocks, places: np.ndarray) -> None:
        """Write f's values at places (n,), indices into blocks.values.ravel(), where they are NaN.

        Raises UserError where f is not finite.
        """
        values = blocks.values.reshape(-1)  # a view
        places = np.unique(places[np.isnan(values[places])])
        index, shared = blocks.locate(places)
        keys, first, copy = np.unique(keys_of(index), return_index=True, return_inverse=True)
        values[places] = self._values_of(keys, index[first], shared[first])[copy.reshape(-1)]

    def lattice_values(self, index: np.ndarray) -> np.ndarray:
        """f's values (n,) at points of a lattice with index (n, 3), which are kept."""
        keys, first, copy = np.unique(keys_of(index), return_index=True, return_inverse=True)
        values = self._values_of(keys, index[first], np.ones(len(keys), bool))
        self.end_chunk()
        return values[copy.reshape(-1)]

    def end_chunk(self) -> None:
        """Say that the present blocks are done. What they share stays known."""
        self._tables = [_Table.merged(self._tables)]

    def _values_of(self, keys: np.ndarray, index: np.ndarray, shared: np.ndarray) -> np.ndarray:
        """Values (n,) at grid index (n, 3), with their keys in order; those in the mask `shared`
        are looked up, and kept."""
        values = np.empty(len(keys), np.float32)
        unknown = np.ones(len(keys), bool)
        looked_up = np.flatnonzero(shared)
        for table in self._tables:
            hit, known = table.find(keys[looked_up])
            values[looked_up[hit]] = known
            unknown[looked_up[hit]] = False
            looked_up = looked_up[~hit]
        values[unknown] = self.evaluate(index[unknown])
        self._tables.append(_Table(keys[looked_up], values[looked_up]))
        return values

    def evaluate(self, index: np.ndarray) -> np.ndarray:
        """f's values (n,) at grid points with index (n, 3), which are not kept. Raises UserError
        where f is not finite."""
        if len(index) == 0:
            return np.empty(0, np.float32)
        points = self.grid.points(index)
        values = np.asarray(self.f(points), np.float32).reshape(-1)
        self.evaluations += len(points)
        bad = ~np.isfinite(values)
        if bad.any():
            where = np.round(points[bad.argmax()], 4).tolist()
            raise UserError(f"f is not finite at {bad.sum()} of {len(points)} points, as {where}")
        return values


class _Table(NamedTuple):
    """Values of f by the key of their grid point."""

    keys: np.ndarray  # (n,) int64, sorted, each once
    values: np.ndarray  # (n,) float32

    @classmethod
    def empty(cls) -> _Table:
        return cls(np.empty(0, np.int64), np.empty(0, np.float32))

    def find(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mask (n,) of the keys (n,) that the table has, and their values."""
        if len(self.keys) == 0:
            return np.zeros(len(keys), bool), self.values
        place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        hit = self.keys[place] == keys
        return hit, self.values[place[hit]]

    @classmethod
    def merged(cls, tables: list[_Table]) -> _Table:
        """Tables without a common key in one."""
        keys = np.concatenate([table.keys for table in tables])
        order = np.argsort(keys, kind="stable")
        return cls(keys[order], np.concatenate([table.values for table in tables])[order])
