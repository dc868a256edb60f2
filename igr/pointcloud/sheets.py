"""Tell the sides of open surfaces, which have no inside: neighbours on one sheet look to one side.

Each point has the plane of its neighbours. Along a minimum spanning tree of the pairs that lie on
one sheet, by the angle between their planes (Hoppe et al., "Surface Reconstruction from Unorganized
Points", 1992), the sign of one normal tells that of the next. What the tree does not connect are
sheets of their own, each with a sign that others must tell: a direction from which the whole cloud
is seen, or the winding numbers. Lengths are in the unit frame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from igr.backend import threads
from igr.geometry import neighbours
from igr.geometry.meshes import turn_against
from igr.geometry.regression import AGREEMENT

import numpy as np

if TYPE_CHECKING:
    from igr.pointcloud.noise import Measurements

    from scipy.spatial import cKDTree

BLOCK = 1 << 13  # points whose planes are fitted together: bounds the memory for their neighbours
NEIGHBOURS = 8  # of a point; those on one sheet with it are compared with it
SLOPE = 0.2  # of the way to such a neighbour over the tangent planes, at most
SEEN_PLANE = 20  # neighbours of a plane, where a scanner's place tells its side
DIRECTIONS = 200  # of a half sphere, that a view is looked for in
SMALL = 100  # points; a sheet of fewer, and of less than a hundredth of all, does not count
COUNTED = 0.5  # share of the points that lie on sheets that count, at least
SEEN = 0.98  # share of the points that look to where the cloud is seen from, at least
ALIKE = 0.01  # shares that differ by less are equal; the steeper view is taken then
HIDDEN = 0.15  # share of the points that lie behind others, at most
BEHIND = (1.5, 4.0)  # spacings and deviations, off its plane: a point hides such a one


class Pairs(NamedTuple):
    """Pairs of neighbours on one sheet."""

    first: np.ndarray  # (P,) index of the points
    second: np.ndarray  # (P,)
    cosine: np.ndarray  # (P,) between their normals

    def opposite(self) -> int:
        """The number of those with opposite normals."""
        return int((self.cosine < -AGREEMENT).sum())


def pairs_on_sheets(tree: cKDTree, normals: np.ndarray) -> Pairs:
    """The pairs of a tree's points and their nearest ones that lie on one sheet: in the tangent
    planes of each other by unit normals (N, 3), whatever their signs."""
    points = tree.data
    distance, index = neighbours.search(tree, points, min(NEIGHBOURS, tree.n - 1) + 1)
    distance, index = distance[:, 1:], index[:, 1:]  # the first is the point itself
    away = points[index] - points[:, None]
    cosine = np.einsum("nki,ni->nk", normals[index], normals)
    rise = np.maximum(np.abs(np.einsum("nki,ni->nk", away, normals)),
                      np.abs(np.einsum("nki,nki->nk", away, normals[index])))
    row, column = np.nonzero((rise < SLOPE * distance) & (np.abs(cosine) > AGREEMENT))
    return Pairs(row, index[row, column], cosine[row, column])


def planes(tree: cKDTree, count: int) -> np.ndarray:
    """Unit normals (N, 3), of either sign, of the planes through `count` neighbours of a tree's
    points."""
    points = tree.data
    normals = np.empty_like(points)

    def fit_block(block: slice) -> None:
        index = tree.query(points[block], min(count + 1, tree.n))[1]
        around = points[index]
        around -= around.mean(axis=1, keepdims=True)
        normals[block] = np.linalg.eigh(np.einsum("nki,nkj->nij", around, around))[1][:, :, 0]

    threads.map_each(fit_block, neighbours.blocks(tree.n, BLOCK))
    return normals


def seen_normals(tree: cKDTree, away: np.ndarray) -> np.ndarray:
    """Unit normals (N, 3) of the planes through the neighbours of a tree's points, turned to where
    the scanner stood, `away` (N, 3) from them."""
    return turn_against(planes(tree, SEEN_PLANE), -away)


class Sheets(NamedTuple):
    """Normals that look to one side of each sheet; which one is open."""

    normals: np.ndarray  # (N, 3), unit
    label: np.ndarray  # (N,) of each point's sheet, 0 .. S - 1

    @classmethod
    def of(cls, tree: cKDTree, count: int) -> Sheets:
        """Those of a tree's points, by planes through `count` neighbours."""
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import (
            breadth_first_order,
            connected_components,
            minimum_spanning_tree,
        )

        normals = planes(tree, count)
        pairs = pairs_on_sheets(tree, normals)
        n = tree.n
        weights = 1 - np.abs(pairs.cosine) + 1e-3  # 0 would be no edge
        graph = coo_matrix((weights, (pairs.first, pairs.second)), (n, n)).tocsr()
        tree_of_pairs = minimum_spanning_tree(graph).tocoo()
        _, label = connected_components(tree_of_pairs, directed=False)
        roots = np.unique(label, return_index=True)[1]
        # one more point, n, is the parent of each sheet's first one
        ends = np.concatenate([[tree_of_pairs.row, tree_of_pairs.col],
                               [roots, np.full(len(roots), n)]], axis=1)
        joined = coo_matrix((np.ones(len(ends[0])), ends), (n + 1, n + 1)).tocsr()
        parent = breadth_first_order(joined, n, directed=False)[1]
        return cls(normals * _signs(normals, parent)[:, None], label)

    def turned_to(self, sides: np.ndarray) -> np.ndarray:
        """The normals (N, 3), those of each sheet turned as a whole to where most of its points
        look by vectors `sides`, (N, 3) or (3,)."""
        votes = np.bincount(self.label, (self.normals * sides).sum(axis=1))
        return np.where(votes < 0, -1.0, 1.0)[self.label, None] * self.normals

    def view(self, measured: Measurements) -> np.ndarray | None:
        """The unit direction (3,) towards which the whole measured cloud faces, as a height field
        does, a relief, or what one depth image shows; None where there is none."""
        size = np.bincount(self.label)
        counted = size[self.label] >= min(SMALL, 0.01 * measured.tree.n)
        if counted.mean() < COUNTED:
            return None
        part = Sheets(self.normals[counted], neighbours.numbered(self.label[counted]))
        found = []
        for direction in directions():
            along = part.normals @ direction
            along *= np.where(np.bincount(part.label, along) < 0, -1.0, 1.0)[part.label]
            found.append(((along > 0).mean(), along.mean()))
        seen, cosine = np.transpose(found)
        if seen.max() < SEEN:
            return None
        best = directions()[np.where(seen > seen.max() - ALIKE, cosine, -1).argmax()]
        return best if self._hidden_share(best, measured) <= HIDDEN else None

    def _hidden_share(self, direction: np.ndarray, measured: Measurements) -> float:
        """The share of the points that have another one in front of or behind their sheet, seen
        along a unit direction (3,)."""
        points = measured.tree.data
        flat = points @ np.linalg.svd(direction[None])[2][1:].T
        distance, index = neighbours.search(neighbours.tree_of(flat), flat,
                                            min(NEIGHBOURS + 1, len(flat)))
        off = np.abs(np.einsum("nki,ni->nk", points[index] - points[:, None], self.normals))
        behind = off > BEHIND[0] * measured.spacing + BEHIND[1] * measured.scatter
        return float(((distance < measured.spacing) & behind).any(axis=1).mean())


def _signs(normals: np.ndarray, parent: np.ndarray) -> np.ndarray:
    """Signs (N,) that turn normals (N, 3) to the same side as those of their parents in trees.

    parent: (N + 1,) index, N of the roots. Each pass doubles the generations that are passed on.
    """
    n = len(normals)
    parent = parent.copy()
    parent[n] = n
    above = np.minimum(parent[:n], n - 1)
    sign = np.ones(n + 1)
    sign[:n] = np.where((normals * normals[above]).sum(axis=1) < 0, -1.0, 1.0)
    sign[:n][parent[:n] == n] = 1.0
    while (parent < n).any():
        sign *= sign[parent]
        parent = parent[parent]
    return sign[:n]


def directions() -> np.ndarray:
    """Unit vectors (DIRECTIONS, 3), spread evenly over a half sphere (a Fibonacci lattice)."""
    i = np.arange(DIRECTIONS)
    height = 1 - (i + 0.5) / DIRECTIONS
    radius = np.sqrt(1 - height**2)
    turn = np.pi * (3 - 5**0.5) * i
    return np.stack([radius * np.cos(turn), radius * np.sin(turn), height], axis=1)


