"""Clean a cloud: remove duplicates, outliers, and points beyond what is needed.

What stays are points of the cloud, unmoved, with whatever belongs to them. Lengths are in the units
of the cloud.
"""

from __future__ import annotations

from dataclasses import dataclass

from helper import UserError, flag, number, open3d
from igr.backend import threads
from igr.geometry import neighbours
from igr.geometry.frames import Geometry

import numpy as np

NEIGHBOURS = 20  # of a point; their mean distance is its gap
SHARE = 40  # one of so many points is a sample: the nearest samples reach beyond the neighbours
FEWEST_SAMPLES = 200
SAMPLES = 8  # nearest ones, whose gaps a point's is compared with
SLOPE = 0.05  # of the gap along a surface: a scanner's points get sparser with the distance
PASSES = 2  # as outliers hide each other
CLUMP = 50  # points at most of a clump of outliers,
CLEARANCE = 10.0  # gaps of its points at least from it to all others,
JUMP = 5.0  # and so many times farther away than its own
FEWEST = 4  # other points within Limits.radius; a point with fewer is lonely
BLOCK = 1 << 14  # points whose neighbours are gathered at a time, to spare memory


@dataclass(frozen=True)
class Limits:
    """What clean() removes; a limit of 0 removes nothing."""

    near: float = flag(0.01, type=number(float, 0), metavar="SHARE",
                       help="remove points nearer to another than this part of the median spacing; "
                       "equal points always go")
    outliers: float = flag(3.0, type=number(float, 0), metavar="R",
                           help=f"remove points whose mean distance to {NEIGHBOURS} neighbours is "
                           "above R times that of the points around, and clumps of up to "
                           f"{CLUMP} points far from all others; 0: none")
    radius: float = flag(0.0, type=number(float, 0), metavar="D",
                         help=f"remove points with fewer than {FEWEST} others within D, in the "
                         "cloud's units; 0: none")
    voxel: float = flag(0.0, type=number(float, 0), metavar="D", alternatives="thin",
                        help="thin: keep one point of each cube of side D; 0: all")
    disk: float = flag(0.0, type=number(float, 0), metavar="D", alternatives="thin",
                       help="thin: keep points that are farther than D from each other; 0: all")


def clean(cloud: Geometry, limits: Limits, seed: int = 0) -> tuple[Geometry, Geometry, list[str]]:
    """A cloud without what the limits say, what was removed, and a line for each step.

    Raises UserError where nothing is left.
    """
    index = np.arange(len(cloud.points))
    lines = []
    for name, step in _steps(limits, np.random.default_rng(seed)).items():
        kept = step(cloud.points[index])
        gone = (~kept).sum()
        share = f" ({100 * gone / len(kept):.2g} %)" if gone else ""
        lines.append(f"{name}: {gone} of {len(kept)} points removed{share}")
        index = index[kept]
        if len(index) == 0:
            raise UserError(f"{lines[-1]}: nothing would be left")
    removed = np.ones(len(cloud.points), bool)
    removed[index] = False
    return cloud.part(index), cloud.part(removed), lines


def _steps(limits: Limits, rng: np.random.Generator) -> dict:
    """{name: function of points (N, 3) that returns the mask (N,) of those to keep}, in order."""
    steps = {"duplicates": first_of_equals}
    if limits.near:
        steps["near duplicates"] = lambda points: apart(points, limits.near, in_gaps=True)
    if limits.outliers:
        steps["outliers"] = lambda points: among_others(points, limits.outliers, rng)
    if limits.radius:  # open3d counts the point itself
        steps["lonely points"] = lambda points: _by_open3d(
            points, lambda cloud: cloud.remove_radius_outlier(FEWEST, limits.radius))
    if limits.voxel:
        steps["thinning by cubes"] = lambda points: one_of_each(
            points, neighbours.cubes(points, limits.voxel))
    if limits.disk:
        steps["thinning by disks"] = lambda points: apart(
            points, limits.disk, rng.permutation(len(points)))
    return steps


# ---------------------------------------------------------------------------------------- clouds


def cloud_of(geometry: Geometry) -> Geometry:
    """A cloud itself, or the vertices that a mesh's faces use, with what belongs to them."""
    if geometry.faces is None:
        return geometry
    return geometry.part(geometry.used)


# ----------------------------------------------------------------------------------------- steps


def first_of_equals(points: np.ndarray) -> np.ndarray:
    """Mask (N,) of the first ones of equal points (N, 3)."""
    return _mask(len(points), neighbours.distinct(points)[0])


def apart(points: np.ndarray, distance: float, order: np.ndarray | None = None,
          in_gaps: bool = False) -> np.ndarray:
    """Mask (N,) of points (N, 3) of which no two are within a distance, and without which no other
    point is farther than that from all of them.

    order (N,): which ones are kept first; default: as given. in_gaps: the distance is in parts of
    the median distance between nearest points.
    """
    tree = neighbours.tree_of(points)
    if in_gaps:
        distance = distance * neighbours.nearest_gap(tree)
    kept = np.ones(len(points), bool)
    order = np.arange(len(points)) if order is None else order
    for rows in neighbours.blocks(len(points), BLOCK):
        block = order[rows]
        block = block[kept[block]]
        within = tree.query_ball_point(points[block], distance, workers=threads.count())
        for i, near in zip(block, within):
            if kept[i]:
                kept[near] = False
                kept[i] = True
    return kept


def among_others(points: np.ndarray, ratio: float, rng: np.random.Generator) -> np.ndarray:
    """Mask (N,) of points (N, 3) that are no outliers, judged by the density around them.

    An outlier's gap, the mean distance to its neighbours, is above `ratio` times the median of the
    gaps around it, each with what SLOPE allows on the way from there; or it belongs to a clump.
    Compared is a random sample: so dense or sparse outliers do not only see each other.
    """
    kept = np.arange(len(points))
    for _ in range(PASSES):
        if len(kept) < 2:
            break
        outliers = _outliers(points[kept], ratio, rng)
        kept = kept[~outliers]
        if not outliers.any():
            break
    return _mask(len(points), kept)


def _outliers(points: np.ndarray, ratio: float, rng: np.random.Generator) -> np.ndarray:
    """The mask (N,) of one pass of among_others()."""
    n = len(points)
    tree = neighbours.tree_of(points)
    gap = _gaps(tree, points)
    sample = rng.permutation(n)[: max(n // SHARE, min(n, FEWEST_SAMPLES))]
    tree_of_sample = neighbours.tree_of(points[sample])
    around = np.empty(n)
    away = np.empty(n)
    for rows in neighbours.blocks(n, BLOCK):
        distance, index = neighbours.search(tree_of_sample, points[rows], min(SAMPLES, len(sample)))
        around[rows] = np.median(gap[sample[index]] + SLOPE * distance, axis=1)
        away[rows] = np.median(distance, axis=1)
    outliers = gap > ratio * around
    doubtful = np.flatnonzero(~outliers & (away > CLEARANCE * gap))
    if len(doubtful) and n > CLUMP + 1:
        distance = neighbours.search(tree, points[doubtful], CLUMP + 1)[0][:, 1:]
        beyond = distance[:, 1:] > JUMP * distance[:, :-1]
        beyond &= distance[:, 1:] > ratio * around[doubtful, None]
        outliers[doubtful[beyond.any(axis=1)]] = True
    return outliers


def _gaps(tree, points: np.ndarray) -> np.ndarray:
    """The mean distance (N,) of a tree's points to their NEIGHBOURS nearest others."""
    gap = np.empty(len(points))
    k = min(NEIGHBOURS, len(points) - 1)
    for rows in neighbours.blocks(len(points), BLOCK):
        gap[rows] = neighbours.search(tree, points[rows], k + 1)[0].sum(axis=1) / k
    return gap


def one_of_each(points: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Mask (N,) of the point nearest to the mean of each group (N,) of points (N, 3)."""
    off = np.linalg.norm(points - neighbours.group_means(points, group)[group], axis=1)
    order = np.lexsort((off, group))
    return _mask(len(points), order[np.unique(group[order], return_index=True)[1]])


def _by_open3d(points: np.ndarray, remove) -> np.ndarray:
    """The mask (N,) of what one of open3d's functions keeps of points (N, 3)."""
    o3d = open3d()
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points))
    return _mask(len(points), remove(cloud)[1])


def _mask(n: int, chosen) -> np.ndarray:
    """Mask (n,) with the chosen indices True."""
    mask = np.zeros(n, bool)
    mask[chosen] = True
    return mask
