"""Cut space into the cells of an octree, each with a limited number of points.

Points are counted in voxels, the smallest cubes that a cell can be. A voxel has a Morton code, in
which the bits of i, j and k take turns: so an octree's cell of any size is a range of codes. Only
voxels with points are kept, so a scene may be as long and as thin as it likes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

DEEPEST = 20  # levels: 3 x 20 bits of a code


class Voxels(NamedTuple):
    """How many points lie in each voxel that has any."""

    codes: np.ndarray  # (V,) int64, sorted, each once
    counts: np.ndarray  # (V,) int64

    @classmethod
    def empty(cls) -> Voxels:
        return cls(np.empty(0, np.int64), np.empty(0, np.int64))

    def with_points(self, codes: np.ndarray) -> Voxels:
        """The voxels with the points of codes (n,) added."""
        new, count = np.unique(codes, return_counts=True)
        both, index = np.unique(np.concatenate([self.codes, new]), return_inverse=True)
        counts = np.bincount(index.reshape(-1), np.concatenate([self.counts, count]))
        return Voxels(both, counts.astype(np.int64))


class Leaf(NamedTuple):
    """A cell of the octree: the voxels from `first` on, `size` of them along each side."""

    first: int  # the Morton code of its lowest voxel
    size: int  # a power of two


def codes_of(index: np.ndarray) -> np.ndarray:
    """The Morton codes (n,) int64 of voxels with index (n, 3), from 0 to 2^DEEPEST - 1."""
    codes = np.zeros(len(index), np.int64)
    for bit in range(DEEPEST):
        for axis in range(3):
            codes |= ((index[:, axis].astype(np.int64) >> bit) & 1) << (3 * bit + 2 - axis)
    return codes


def index_of(code: int) -> tuple[int, int, int]:
    """The index (i, j, k) of the voxel with a Morton code."""
    index = [0, 0, 0]
    for bit in range(DEEPEST):
        for axis in range(3):
            index[axis] |= ((code >> (3 * bit + 2 - axis)) & 1) << bit
    return index[0], index[1], index[2]


def leaves(voxels: Voxels, level: int, limit: int) -> list[Leaf]:
    """The cells of the octree over 2^level voxels along a side, in the order of their codes: those
    with points, each with at most `limit` of them unless it is one voxel."""
    sums = np.concatenate([[0], np.cumsum(voxels.counts)])
    found = []
    waiting = [Leaf(0, 1 << level)]
    while waiting:
        leaf = waiting.pop()
        ends = np.searchsorted(voxels.codes, [leaf.first, leaf.first + leaf.size**3])
        count = sums[ends[1]] - sums[ends[0]]
        if count == 0:
            continue
        if count <= limit or leaf.size == 1:
            found.append(leaf)
            continue
        half = leaf.size // 2
        waiting += [Leaf(leaf.first + child * half**3, half) for child in range(7, -1, -1)]
    return found
