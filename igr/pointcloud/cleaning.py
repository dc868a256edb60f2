"""Cleaning a cloud: duplicates, outliers, more points than are needed.

What stays are points of the cloud, unmoved, with whatever belongs to them. Lengths are in the units
of the cloud.
"""

from __future__ import annotations

from dataclasses import dataclass

from helper import UserError, flag, number, open3d
from igr.backend import threads
from igr.geometry.frames import Geometry
from igr.geometry.neighbours import spacing

import numpy as np

NEIGHBOURS = 20  # of a point, whose mean distance says whether it is an outlier
FEWEST = 4  # other points within Limits.radius; a point with fewer is lonely
BLOCK = 4096  # points whose neighbours are gathered at a time, to spare memory


@dataclass(frozen=True)
class Limits:
    """What clean() removes; a limit of 0 removes nothing."""

    near: float = flag(0.01, type=number(float, 0), metavar="SHARE",
                       help="remove points nearer to another than this part of the median spacing; "
                       "equal points always go")
    outliers: float = flag(4.0, type=number(float, 0), metavar="R",
                           help=f"remove points whose mean distance to {NEIGHBOURS} neighbours is "
                           "above the mean of all by R standard deviations; 0: none")
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
        lines.append(f"{name}: {(~kept).sum()} of {len(kept)} points removed")
        index = index[kept]
        if len(index) == 0:
            raise UserError(f"{lines[-1]}: nothing would be left")
    removed = np.ones(len(cloud.points), bool)
    removed[index] = False
    return cloud.part(index), cloud.part(removed), lines


def _steps(limits: Limits, rng: np.random.Generator) -> dict:
    """{name: function of points (N, 3) that returns the mask (N,) of those to keep}, in order."""
    steps = {"duplicates": distinct}
    if limits.near:
        steps["near duplicates"] = lambda points: apart(points, limits.near * spacing(points))
    if limits.outliers:
        steps["outliers"] = lambda points: _by_open3d(
            points, lambda cloud: cloud.remove_statistical_outlier(NEIGHBOURS, limits.outliers))
    if limits.radius:  # open3d counts the point itself
        steps["lonely points"] = lambda points: _by_open3d(
            points, lambda cloud: cloud.remove_radius_outlier(FEWEST, limits.radius))
    if limits.voxel:
        steps["thinning by cubes"] = lambda points: one_of_each(
            points, voxels(points, limits.voxel))
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


def distinct(points: np.ndarray) -> np.ndarray:
    """Mask (N,) of the first ones of equal points (N, 3)."""
    kept = np.zeros(len(points), bool)
    kept[np.unique(points, axis=0, return_index=True)[1]] = True
    return kept


def apart(points: np.ndarray, distance: float, order: np.ndarray | None = None) -> np.ndarray:
    """Mask (N,) of points (N, 3) of which no two are within a distance, and without which no other
    point is farther than that from all of them. order (N,): who is asked first; default: as given.
    """
    from scipy.spatial import cKDTree

    tree = cKDTree(points)
    kept = np.ones(len(points), bool)
    order = np.arange(len(points)) if order is None else order
    for start in range(0, len(points), BLOCK):
        block = order[start : start + BLOCK]
        block = block[kept[block]]
        near = tree.query_ball_point(points[block], distance, workers=threads.count())
        for i, neighbours in zip(block, near):
            if kept[i]:
                kept[neighbours] = False
                kept[i] = True
    return kept


def voxels(points: np.ndarray, side: float) -> np.ndarray:
    """The number (N,) of the cube that each of points (N, 3) lies in, of a grid of cubes. Raises
    UserError where the side is too small for the points."""
    place = np.floor((points - points.min(axis=0)) / side)
    if not place.max() < 2**21:
        raise UserError(f"cubes of side {side:g} are too small for a cloud of size "
                        f"{np.ptp(points, axis=0).max():g}")
    place = place.astype(np.int64)
    keys = (place[:, 0] << 42) | (place[:, 1] << 21) | place[:, 2]
    return np.unique(keys, return_inverse=True)[1].reshape(-1)


def group_means(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """The means (G, columns) of the rows of values (N, columns) by their group (N,), 0 .. G - 1."""
    summed = [np.bincount(group, column) for column in values.T]
    return np.stack(summed, axis=1) / np.bincount(group)[:, None]


def one_of_each(points: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Mask (N,) of the point nearest to the mean of each group (N,) of points (N, 3)."""
    off = np.linalg.norm(points - group_means(points, group)[group], axis=1)
    order = np.lexsort((off, group))
    kept = np.zeros(len(points), bool)
    kept[order[np.unique(group[order], return_index=True)[1]]] = True
    return kept


def _by_open3d(points: np.ndarray, remove) -> np.ndarray:
    """The mask (N,) of what one of open3d's functions keeps of points (N, 3)."""
    o3d = open3d()
    kept = np.zeros(len(points), bool)
    kept[remove(o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points)))[1]] = True
    return kept
