"""Measure how well placed scans agree where they overlap, and move their patches together.

A pose is never right to the last digit, and a scanner bends what it sees. Two scans of one surface
then lie beside each other, by more than the noise of either. That is no scatter of the points: it
is the same over a patch of hundreds of them, so their mean height over the other scans tells it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from igr.geometry import neighbours
from igr.geometry.frames import Geometry
from igr.geometry.meshes import unit_vectors
from igr.pointcloud import noise

import numpy as np

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

REACH = 5.0  # spacings: scans that are farther from each other than that do not overlap
BESIDE = 1.5  # spacings: nor do places that are so far from each other along the surface
SAME_SIDE = 0.7  # least cosine between normals of the same piece of surface
CHECKED = 2000  # points of each scan that are looked for in each other scan
AVERAGED = 3.0  # deviations: the side of the cubes over which points that scatter are averaged
AROUND = 8  # of the averages, whose planes a height is measured over
PATCH = 20.0  # spacings, the side of the cubes that patches are cut by
PATCHES = 8  # nearest ones, which tell a point's move together
LEFT_OUT = 10  # one point of so many tells whether its patch's move brings it nearer
FEWEST = 5  # points that tell it
HELD = 0.05  # of the normals' weights: what pulls a patch's move along its own plane to 0
STRAY = 2.0  # median heights, at which a height's weight is half (Cauchy's weights)


class Surface(NamedTuple):
    """A scan, by what other scans' heights are measured."""

    tree: cKDTree  # of its points, or of means of them
    normals: np.ndarray  # (M, 3), unit
    counts: np.ndarray  # (M,), points that each one stands for
    gap: float  # the median distance of the tree's points to the nearest other one
    spacing: float  # the same of the scan's own points

    @classmethod
    def of(cls, scan: Geometry) -> Surface:
        """That of a scan with unit normals. Points that scatter are averaged over cubes: the
        nearest one of theirs is one that strayed this way."""
        tree = neighbours.tree_of(scan.points)
        gap = neighbours.nearest_gap(tree)
        side = AVERAGED * noise.scatter(tree)
        if side <= gap:
            return cls(tree, scan.normals, np.ones(tree.n), gap, gap)
        cube = neighbours.cubes(scan.points, side, scan.normals)
        tree = neighbours.tree_of(neighbours.group_means(scan.points, cube))
        normals = unit_vectors(neighbours.group_means(scan.normals, cube))
        return cls(tree, normals, np.bincount(cube), neighbours.nearest_gap(tree), gap)

    def heights(self, scan: Geometry) -> np.ndarray:
        """The signed heights (N,) of points with unit normals over the planes of the nearest ones
        of the surface, their mean where these are averages; nan where it has none."""
        count = 1 if self.counts.max() == 1 else min(AROUND, self.tree.n)
        length, nearest = neighbours.search(self.tree, scan.points, [*range(1, count + 1)],
                                            REACH * self.gap)
        row, column = np.nonzero(np.isfinite(length))
        nearest, length = nearest[row, column], length[row, column]
        normals = self.normals[nearest]
        height = ((scan.points[row] - self.tree.data[nearest]) * normals).sum(axis=1)
        beside = np.sqrt(np.maximum(length**2 - height**2, 0))
        same = (scan.normals[row] * normals).sum(axis=1) > SAME_SIDE
        weight = self.counts[nearest] * (same & (beside < BESIDE * self.gap * count**0.5))
        total, most = (np.bincount(row, values, len(scan.points))
                       for values in (weight * height, weight))
        return np.where(most > 0, total / np.maximum(most, 1), np.nan)


class Overlaps(NamedTuple):
    """Placed scans, and their surfaces."""

    scans: list[Geometry]  # clouds of the world with unit normals
    surfaces: list[Surface]
    spacing: float  # of nearest points, the median over the scans

    @classmethod
    def of(cls, scans: list[Geometry]) -> Overlaps:
        surfaces = [Surface.of(scan) for scan in scans]
        return cls(scans, surfaces, float(np.median([surface.spacing for surface in surfaces])))

    def over_others(self, i: int) -> np.ndarray:
        """The heights (N,) of the points of scan i over the mean of all scans, which is where they
        would meet; nan where no other scan has a surface."""
        scan = self.scans[i]
        total = np.zeros(len(scan.points))
        count = np.zeros(len(scan.points))
        for j in range(len(self.scans)):
            if j != i:
                heights = self.surfaces[j].heights(scan)
                total += np.nan_to_num(heights)
                count += np.isfinite(heights)
        return np.where(count > 0, total / (count + 1), np.nan)  # 1: its own height, 0


# ------------------------------------------------------------------------------------- to measure


class Agreement(NamedTuple):
    """How well scans agree where they overlap."""

    distance: float  # median over all scans, world units; nan where none overlap
    of_scans: np.ndarray  # the same (S,) for each scan
    overlap: float  # share of the points that another scan has, too


def agreement(overlaps: Overlaps) -> Agreement:
    """How well clouds with normals agree: the median distance of points from the planes through
    the points of other scans that are nearest to them, where scans overlap."""
    scans = overlaps.scans
    rng = np.random.default_rng(0)
    distances, seen = [], []
    for i, scan in enumerate(scans):
        sample = scan.part(rng.permutation(len(scan.points))[:CHECKED])
        to_others = np.array([np.abs(overlaps.surfaces[j].heights(sample))
                              for j in range(len(scans)) if j != i])
        to_others = to_others.reshape(-1, len(sample.points))  # a single scan has no other
        distances.append(to_others[np.isfinite(to_others)])
        seen.append(np.isfinite(to_others).any(axis=0))
    of_scans = np.array([np.median(d) if len(d) else np.nan for d in distances])
    every = np.concatenate(distances)
    return Agreement(float(np.median(every)) if len(every) else np.nan, of_scans,
                     float(np.concatenate(seen).mean()))


# -------------------------------------------------------------------------------------- to remove


def moved_together(overlaps: Overlaps) -> tuple[list[Geometry], float]:
    """The scans, each patch moved to the mean of the scans there, where that brings left-out
    points nearer to it; and the share of the points that moved.

    Once: all scans meet then. Another pass would follow the noise, and drift away.
    """
    scans, changed = [], 0
    for i, scan in enumerate(overlaps.scans):
        moves = patch_moves(scan, overlaps.over_others(i), PATCH * overlaps.surfaces[i].gap)
        scans.append(scan._replace(points=scan.points + moves))
        changed += moves.any(axis=1).sum()
    return scans, float(changed / sum(len(scan.points) for scan in scans))


def patch_moves(scan: Geometry, heights: np.ndarray, side: float) -> np.ndarray:
    """Smooth moves (N, 3) of a scan's points that take their heights (N,), nan where unknown, to 0
    patch by patch; 0 where left-out points do not come nearer. side: of the patches' cubes."""
    known = np.isfinite(heights)
    left_out = np.arange(len(heights)) % LEFT_OUT == 0
    learnt = known & ~left_out
    if not learnt.any() or not side:
        return np.zeros_like(scan.points)
    patch = neighbours.cubes(scan.points, side)
    centers = neighbours.group_means(scan.points, patch)
    tree = neighbours.tree_of(centers)

    def weights(places):
        distance, index = neighbours.search(tree, places, min(PATCHES, len(centers)))
        distance, index = (a.reshape(len(places), -1) for a in (distance, index))
        weight = np.exp(-2 * (distance / side) ** 2)
        return weight / weight.sum(axis=1, keepdims=True), index

    moves = _fitted(scan.normals[learnt], heights[learnt], patch[learnt], weights(centers))
    weight, index = weights(scan.points)
    checked = known & left_out
    rest = heights[checked] + np.einsum("nk,nki,ni->n", weight[checked], moves[index[checked]],
                                        scan.normals[checked])
    gain = np.bincount(patch[checked], np.abs(heights[checked]) - np.abs(rest), len(centers))
    tested = np.bincount(patch[checked], minlength=len(centers)) >= FEWEST
    moves[~tested | (gain <= 0)] = 0.0
    return np.einsum("nk,nki->ni", weight, moves[index])


def _fitted(normals: np.ndarray, heights: np.ndarray, patch: np.ndarray,
            around: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """The moves t (K, 3) of patches for which  n . t = -height  at their points and, with the
    weights `around`, at those of the patches about them: robust least squares."""
    weight, index = around
    count = len(weight)
    middle = np.median(np.abs(heights)) * STRAY
    trust = 1 / (1 + (heights / middle) ** 2) if middle else np.ones_like(heights)
    products = np.einsum("n,ni,nj->nij", trust, normals, normals).reshape(-1, 9)
    matrix = np.stack([np.bincount(patch, column, count) for column in products.T], axis=1)
    right = np.stack([np.bincount(patch, column, count)
                      for column in -(trust * heights) * normals.T], axis=1)
    matrix = np.einsum("kp,kpi->ki", weight, matrix[index]).reshape(-1, 3, 3)
    right = np.einsum("kp,kpi->ki", weight, right[index])
    held = HELD * np.trace(matrix, axis1=1, axis2=2) + 1.0  # 1: one point more, which does not move
    return np.linalg.solve(matrix + held[:, None, None] * np.eye(3), right[:, :, None])[:, :, 0]
