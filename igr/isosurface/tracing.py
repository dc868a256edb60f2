"""Follow the surface from cell to cell, so that a piece of it with a seed is complete.

The surface goes through each face of a cell where f - level changes sign between the face's
corners. So the neighbour across such a face is looked at too, in the same block or in another one.
Each wave of neighbours is evaluated at once.
"""

from __future__ import annotations

from collections.abc import Iterator

from igr.isosurface.grids import CORNERS, keys_of
from igr.isosurface.values import Blocks, ValueStore, in_chunks

import numpy as np

# for each of a cell's six faces: the step to the neighbour there, and the four corners of the face
FACES = [(step * np.eye(3, dtype=int)[axis], np.flatnonzero(CORNERS[:, axis] == (step > 0)))
         for axis in range(3) for step in (-1, 1)]


class Tracer:
    """Finds the cells that the surface crosses: those among given cells, and all beyond them."""

    def __init__(self, store: ValueStore, level: np.float32, size: int):
        self.store = store
        self.level = level
        self.size = size  # cells along a block's side
        self._visited = {}  # origin of a block (tuple) -> packed bits: its cells looked at
        self._ahead = []  # arrays of grid cells (n, 3) still to be looked at

    def start_from(self, grid_cells: np.ndarray) -> None:
        """Have `remaining` look at these grid cells (n, 3), if nothing else led there."""
        self._ahead.append(grid_cells)

    def crossed_cells(self, blocks: Blocks, cells: np.ndarray) -> np.ndarray:
        """Mask (B, m, m, m) of the cells that the surface crosses.

        Looks at the cells at places (n,), then follows the surface from them inside each block.
        Where it leaves a block, the next cell is kept for `remaining`.
        """
        visited = self._visited_in(blocks)
        crossed = np.zeros_like(visited)
        while len(cells):
            visited.reshape(-1)[cells] = True
            cells, above = self._with_sign_change(blocks, cells)
            crossed.reshape(-1)[cells] = True
            cells = self._neighbours(blocks, cells, above)
            cells = np.unique(cells[~visited.reshape(-1)[cells]])
        for origin, mask in zip(blocks.origins, visited):
            self._visited[tuple(origin)] = np.packbits(mask)
        return crossed[:, :-1, :-1, :-1]

    def remaining(self) -> Iterator[tuple[Blocks, np.ndarray]]:
        """Blocks, and the places (n,) of cells in them to which seeds or the surface lead, until
        there are none.

        The caller passes each pair on to `crossed_cells`, which may find more.
        """
        while self._ahead:
            cells = self._new_cells(np.concatenate(self._ahead))
            self._ahead = []
            origins, block = _blocks_of(cells, self.size)
            first = 0
            for blocks in in_chunks(origins, self.size):
                mine = (block >= first) & (block < first + len(blocks.origins))
                yield blocks, blocks.places(block[mine] - first, cells[mine] % self.size)
                first += len(blocks.origins)

    def _with_sign_change(self, blocks, cells) -> tuple[np.ndarray, np.ndarray]:
        """Those of the cells (n,) that the surface crosses, and where f > level: (m, 8)."""
        corners = cells[:, None] + blocks.offsets(CORNERS)
        self.store.fill(blocks, corners)
        above = blocks.values.reshape(-1)[corners] > self.level
        mixed = above.any(axis=1) & ~above.all(axis=1)
        return cells[mixed], above[mixed]

    def _neighbours(self, blocks, cells, above) -> np.ndarray:
        """The neighbours (m,) across faces with a sign change, if they are in the same block.
        Those in other blocks are kept in _ahead."""
        found = []
        for step, face in FACES:
            mixed = above[:, face].any(axis=1) & ~above[:, face].all(axis=1)
            here = cells[mixed]
            there = here + blocks.offsets(step)
            outside = blocks.outside(there)
            found.append(there[~outside])
            self._ahead.append(blocks.locate(here[outside])[0] + step)
        return np.concatenate(found)

    def _new_cells(self, grid_cells) -> np.ndarray:
        """Those of the cells (n, 3) that lie in the grid and are not visited, each once."""
        cells = grid_cells[self.store.grid.has_cells(grid_cells)]
        cells = cells[np.unique(keys_of(cells), return_index=True)[1]]
        origins, block = _blocks_of(cells, self.size)
        order = np.argsort(block, kind="stable")
        ends = np.cumsum(np.bincount(block, minlength=len(origins)))
        visited = np.zeros(len(cells), bool)
        for origin, mine in zip(origins, np.split(order, ends[:-1])):
            bits = self._visited.get(tuple(origin))
            if bits is not None:
                index = (cells[mine] - origin).T
                place = np.ravel_multi_index(index, 3 * [self.size + 1])
                visited[mine] = bits[place // 8] >> (7 - place % 8) & 1
        return cells[~visited]

    def _visited_in(self, blocks) -> np.ndarray:
        """Mask (B, m + 1, m + 1, m + 1): True where a cell was looked at or none begins."""
        visited = ~blocks.has_cells(self.store.grid)
        for mask, origin in zip(visited, blocks.origins):
            bits = self._visited.get(tuple(origin))
            if bits is not None:
                mask |= np.unpackbits(bits, count=mask.size).reshape(mask.shape).view(bool)
        return visited


def _blocks_of(grid_cells, size) -> tuple[np.ndarray, np.ndarray]:
    """Origins (B, 3) of the blocks in which grid cells (n, 3) lie, and each cell's block (n,)."""
    blocks = grid_cells // size
    _, first, block = np.unique(keys_of(blocks), return_index=True, return_inverse=True)
    return size * blocks[first], block.reshape(-1)
