"""Follow the surface from cell to cell, so that a component that was touched is complete.

The octree may drop a cell that holds a zero where f is steeper than its values showed. The surface
goes through each face of a cell where f - level changes sign between the face's corners. So the
neighbour across such a face is looked at too, in the same block or in another one.
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
        self.followed = 0  # cells that were looked at only because the surface led there
        self._visited = {}  # origin of a block (tuple) -> packed bits: its cells looked at
        self._ahead = []  # arrays of grid cells (n, 3) in other blocks, still to be looked at

    def start_from(self, grid_cells: np.ndarray) -> None:
        """Have `remaining` look at these grid cells (n, 3) too, if nothing else led there."""
        self._ahead.append(grid_cells)

    def crossed_cells(self, blocks: Blocks, block_cells: np.ndarray) -> np.ndarray:
        """Mask (B, m, m, m) of the cells that the surface crosses.

        Looks at the block cells (n, 4) given, then follows the surface from them inside each block.
        Where it leaves a block, the next cell is kept for `remaining`.
        """
        visited = self._visited_in(blocks.origins)
        crossed = np.zeros_like(visited)
        cells = block_cells
        given = True
        while len(cells):
            visited[tuple(cells.T)] = True
            cells, above = self._with_sign_change(blocks, cells)
            crossed[tuple(cells.T)] = True
            if not given:
                self.followed += len(cells)
            cells = self._neighbours(blocks, cells, above)
            cells = cells[~visited[tuple(cells.T)]]
            cells = blocks.inside(self.store.grid, np.unique(cells, axis=0))
            given = False
        for origin, bits in zip(blocks.origins, visited):
            self._visited[tuple(origin)] = np.packbits(bits.ravel())
        return crossed

    def remaining(self) -> Iterator[tuple[Blocks, np.ndarray]]:
        """Blocks, and the cells (n, 4) in them to which the surface leads, until there are none.

        The caller passes each pair on to `crossed_cells`, which may find more.
        """
        while self._ahead:
            cells = self._new_cells(np.concatenate(self._ahead))
            self._ahead = []
            self.followed += len(cells)
            origins, block = _blocks_of(cells, self.size)
            first = 0
            for blocks in in_chunks(origins, self.size):
                mine = (block >= first) & (block < first + len(blocks.origins))
                yield blocks, np.column_stack([block[mine] - first, cells[mine] % self.size])
                first += len(blocks.origins)

    def _with_sign_change(self, blocks, cells) -> tuple[np.ndarray, np.ndarray]:
        """Those of the cells (n, 4) that the surface crosses, and where f > level: (m, 8)."""
        corners = blocks.places(cells, CORNERS)
        self.store.fill(blocks, corners.ravel())
        above = blocks.values.reshape(-1)[corners] > self.level
        mixed = above.any(axis=1) & ~above.all(axis=1)
        return cells[mixed], above[mixed]

    def _neighbours(self, blocks, cells, above) -> np.ndarray:
        """The neighbours (m, 4) across faces with a sign change, if they are in the same block.
        Those in other blocks are kept in _ahead."""
        found = []
        for step, face in FACES:
            mixed = above[:, face].any(axis=1) & ~above[:, face].all(axis=1)
            neighbours = cells[mixed]
            neighbours[:, 1:] += step
            here = ((neighbours[:, 1:] >= 0) & (neighbours[:, 1:] < self.size)).all(axis=1)
            found.append(neighbours[here])
            self._ahead.append(blocks.grid_index(neighbours[~here]))
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
            visited[mine] = self._visited_in([origin])[0][tuple((cells[mine] - origin).T)]
        return cells[~visited]

    def _visited_in(self, origins) -> np.ndarray:
        """Mask (B, m, m, m) of the cells that were looked at in the blocks at origins (B, 3)."""
        visited = np.zeros((len(origins), self.size, self.size, self.size), bool)
        for mask, origin in zip(visited, origins):
            bits = self._visited.get(tuple(origin))
            if bits is not None:
                mask[:] = np.unpackbits(bits).reshape(mask.shape)
        return visited


def _blocks_of(grid_cells, size) -> tuple[np.ndarray, np.ndarray]:
    """Origins (B, 3) of the blocks in which grid cells (n, 3) lie, and each cell's block (n,)."""
    blocks = grid_cells // size
    _, first, block = np.unique(keys_of(blocks), return_index=True, return_inverse=True)
    return size * blocks[first], block.reshape(-1)
