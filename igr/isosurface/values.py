"""The values of a function f at grid points, each evaluated once.

The whole grid does not fit into memory, so it is treated in chunks of blocks. A block is a cube of
cells. Neighbouring blocks share the points on their sides: the store keeps the values there when a
chunk is done, and forgets those inside a block, but for the edges of the lattice on which seeds are
looked for (seeds.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from helper import UserError
from igr.isosurface.grids import Grid, keys_of

import numpy as np

STRIDE = 4  # grid cells along an edge of the lattice whose values are kept
CHUNK = 512  # blocks that are held at the same time: 75 MB of values


class Blocks(NamedTuple):
    """A chunk of blocks of m x m x m cells, with the values of f at their points.

    values[b, i, j, k] belongs to the grid point origins[b] + (i, j, k); NaN means that f has not
    been evaluated there. A place is an index into values.ravel(). A cell of a block has the place
    of its lowest corner.
    """

    values: np.ndarray  # (B, m + 1, m + 1, m + 1) float32
    origins: np.ndarray  # (B, 3) int64, grid index of each block's lowest corner

    @classmethod
    def empty(cls, origins: np.ndarray, size: int) -> Blocks:
        """Blocks of `size` cells a side at origins (B, 3), nothing evaluated yet."""
        points = size + 1
        return cls(np.full((len(origins), points, points, points), np.nan, np.float32), origins)

    @property
    def size(self) -> int:
        """m: cells along a block's side."""
        return self.values.shape[1] - 1

    def has_cells(self, grid: Grid) -> np.ndarray:
        """Mask (B, m + 1, m + 1, m + 1): True where a cell of its block and of the grid begins."""
        mask = np.zeros(self.values.shape, bool)
        for block, (i, j, k) in zip(mask, np.minimum(grid.shape - 1 - self.origins, self.size)):
            block[:i, :j, :k] = True
        return mask

    def places(self, block: np.ndarray, index: np.ndarray) -> np.ndarray:
        """The places (n,) of the points with index (n, 3) within the blocks of number (n,)."""
        return np.ravel_multi_index((block, *index.T), self.values.shape)

    def offsets(self, steps: np.ndarray) -> np.ndarray:
        """What to add to a place for each of the steps (n, 3) along the axes."""
        points = self.size + 1
        return steps @ [points**2, points, 1]

    def locate(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The grid index (n, 3) of the points at places (n,), and a mask (n,) of those whose values
        are kept: on a side of their block, or on an edge of the lattice."""
        block, *index = np.unravel_index(places, self.values.shape)
        index = np.stack(index, axis=1)
        on_side = (index % self.size == 0).any(axis=1)
        on_edge = np.count_nonzero(index % STRIDE == 0, axis=1) > 1
        return self.origins[block] + index, on_side | on_edge

    def outside(self, places: np.ndarray) -> np.ndarray:
        """Mask (n,) of the places that a step from a cell along an axis reached outside its block.

        They are on an upper side, where no cell begins: a step down from a lower side lands on the
        upper side of the row, layer or block before, or at a negative place.
        """
        points = self.size + 1
        return ((places % points == self.size) | (places // points % points == self.size)
                | (places // points**2 % points == self.size))


def in_chunks(origins: np.ndarray, size: int, chunk: int = CHUNK) -> Iterator[Blocks]:
    """Empty blocks of `size` cells a side at origins (n, 3), at most `chunk` of them at a time."""
    for first in range(0, len(origins), chunk):
        yield Blocks.empty(origins[first : first + chunk], size)


class ValueStore:
    """Evaluates f at grid points and keeps the values that are asked for again.

    f maps float64 points (N, 3) to values (N,).
    """

    def __init__(self, f: Callable[[np.ndarray], np.ndarray], grid: Grid):
        self.f = f
        self.grid = grid
        self.evaluations = 0  # points at which f was evaluated
        self._tables = [_Table(np.empty(0, np.int64), np.empty(0, np.float32))]

    def fill(self, blocks: Blocks, places: np.ndarray) -> None:
        """Write f's values at places (n,) into the blocks, where they are NaN.

        Raises UserError where f is not finite.
        """
        values = blocks.values.reshape(-1)  # a view
        places = np.unique(places[np.isnan(values[places])])
        values[places] = self._values_at(*blocks.locate(places))

    def values_at(self, index: np.ndarray) -> np.ndarray:
        """f's values (n,) at grid points with index (n, 3), which are kept. Raises as fill."""
        return self._values_at(index, np.ones(len(index), bool))

    def end_chunk(self) -> None:
        """Say that the present blocks are done. What they share stays known."""
        keys = np.concatenate([table.keys for table in self._tables])
        values = np.concatenate([table.values for table in self._tables])
        order = np.argsort(keys, kind="stable")
        self._tables = [_Table(keys[order], values[order])]

    def _values_at(self, index: np.ndarray, kept: np.ndarray) -> np.ndarray:
        """f's values (n,) at grid points with index (n, 3): those in the mask `kept` (n,) may
        repeat and are looked up first, the others are new."""
        shared = index[kept]
        keys, first, copy = np.unique(keys_of(shared), return_index=True, return_inverse=True)
        known = np.full(len(keys), np.nan, np.float32)
        for table in self._tables:  # merging into the large one is slow: it is done once a chunk
            hit, known_there = table.find(keys)
            known[hit] = known_there
        unknown = np.isnan(known)
        new = self.evaluate(np.concatenate([shared[first[unknown]], index[~kept]]))
        known[unknown] = new[: np.count_nonzero(unknown)]
        self._tables.append(_Table(keys[unknown], known[unknown]))
        values = np.empty(len(index), np.float32)
        values[kept] = known[copy.reshape(-1)]
        values[~kept] = new[np.count_nonzero(unknown) :]
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

    def find(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mask (n,) of the keys (n,) that the table has, and their values."""
        if len(self.keys) == 0:
            return np.zeros(len(keys), bool), self.values
        place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        hit = self.keys[place] == keys
        return hit, self.values[place[hit]]
