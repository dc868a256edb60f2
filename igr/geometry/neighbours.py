"""Find the neighbours of points: search trees, spacing, distinct points, cubes, distances.

Every search outside the compiled kernels' threads goes through search(), which uses as many threads
as --threads allows.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from helper import UserError
from igr.backend import threads
from igr.geometry import meshes
from igr.geometry.frames import Geometry

import numpy as np

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

MOST_CUBES = 1 << 20  # along a side, above which those with points are numbered
MOST_KEYS = 1 << 60  # three numbers below MOST_CUBES and a direction fit into an int64
EXACT = 2.0**53  # numbers below it are exact as float64

# ----------------------------------------------------------------------------------------- searches


def tree_of(points: np.ndarray) -> cKDTree:
    """The search tree of points (N, 3), which it keeps as float64 in tree.data."""
    from scipy.spatial import cKDTree  # here: its import takes 0.2 s

    # plain splits: built in half the time, and in a compact tree queries far from the cloud take
    # 30 times as long
    return cKDTree(points, compact_nodes=False, balanced_tree=False)


def search(tree: cKDTree, places: np.ndarray, k=1, within: float = np.inf):
    """Distance and index of the points of a tree that are nearest to places (N, 3).

    k: how many, or a list of ranks from 1 on: then both have a column for each. within: farther
    ones have the distance inf and the index tree.n.
    """
    return tree.query(places, k=k, distance_upper_bound=within, workers=threads.count())


def nearest(points: np.ndarray, others: np.ndarray):
    """Distance (N,) and index (N,) of the nearest of `others` (M, 3) for each of points (N, 3)."""
    return search(tree_of(others), points)


def kth_distance(tree: cKDTree, k: int) -> np.ndarray:
    """Distance (N,) of each point of a tree to its k-th nearest other point (k < N)."""
    return search(tree, tree.data, [k + 1])[0][:, 0]  # the first is the point itself


def interpolated(places: np.ndarray, points: np.ndarray, values: np.ndarray, k: int) -> np.ndarray:
    """Values (N, columns) at places (N, 3): the means of those (M, columns) at the nearest k of
    points (M, 3), M >= k > 1, weighted by the inverse distance (Shepard 1968)."""
    distance, index = search(tree_of(points), places, k)
    weights = 1 / np.maximum(distance, meshes.TINY)
    weights /= weights.sum(axis=1, keepdims=True)
    return np.einsum("nk,nki->ni", weights, values[index])


def point_to_surface(points: np.ndarray, mesh: Geometry) -> np.ndarray:
    """Exact distance (N,) of points (N, 3) to a triangle mesh; float32 arithmetic."""
    scene = meshes.ray_scene(mesh.points, mesh.faces)
    return scene.compute_distance(meshes.tensor(points)).numpy()


# ------------------------------------------------------------------------------------------ spacing


def nearest_gap(tree: cKDTree) -> float:
    """The median distance of a tree's points to their nearest other point; 0 for a single one."""
    return float(np.median(kth_distance(tree, 1))) if tree.n > 1 else 0.0


def kth_around(tree: cKDTree, index: np.ndarray, k: int) -> np.ndarray:
    """The distance (N,) to the k-th neighbour at points of a tree, by index (N,): its median over
    each point and these neighbours (k < the number of points).

    The distance itself is too long at the cloud's edge and says nothing at an outlier.
    """
    places, place = np.unique(index, return_inverse=True)
    around = search(tree, tree.data[places], [*range(1, k + 2)])[1]  # the first is the point itself
    needed, row = np.unique(around, return_inverse=True)
    lengths = search(tree, tree.data[needed], [k + 1])[0][:, 0]
    return np.median(lengths[row.reshape(around.shape)], axis=1)[place.reshape(-1)]


def spacing_of(distance, k: int):
    """The spacing of points on a surface whose k-th neighbours are at a distance, a number or (N,):
    the side of a square with one of pi points, as their number grows with distance squared."""
    return distance / k**0.5


# --------------------------------------------------------------------------------- groups of points


def distinct(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which of points (N, 3) differ: the index (M,) of the first of each set of equal ones, sorted
    by x, y, z, and the set (N,) that each point belongs to, 0 .. M - 1."""
    order = np.argsort(points[:, 0], kind="stable")
    same_x = np.flatnonzero(np.diff(points[order, 0]) == 0)
    tied = np.union1d(same_x, same_x + 1)  # few in most clouds: y and z sort these only
    some = order[tied]
    order[tied] = some[np.lexsort(points[some].T[::-1])]
    new = np.ones(len(points), bool)
    new[1:] = (points[order[1:]] != points[order[:-1]]).any(axis=1)
    group = np.empty(len(points), np.int64)
    group[order] = np.cumsum(new) - 1
    return order[new], group


def numbered(keys: np.ndarray) -> np.ndarray:
    """Numbers (N,) 0 .. M - 1 in place of keys (N,), in their order; equal keys share one."""
    return np.unique(keys, return_inverse=True)[1].reshape(-1)


def cubes(points: np.ndarray, side: float, normals: np.ndarray | None = None) -> np.ndarray:
    """The number (N,) of the cube of a grid, 0 .. M - 1 for those with points, that each of points
    (N, 3) lies in. Points whose normals (N, 3) look through different sides of it are apart.

    Raises UserError where the side is too small for the points.
    """
    place = np.floor((points - points.min(axis=0)) / side)
    if not place.max() < EXACT:
        raise UserError(f"cubes of side {side:g} are too small for a cloud of size "
                        f"{np.ptp(points, axis=0).max():g}")
    if place.max() >= MOST_CUBES:  # few of these have points: one far point makes so many
        place = np.stack([numbered(along) for along in place.T], axis=1)
    place = place.astype(np.int64)
    sizes = place.max(axis=0) + 1
    keys = place[:, 0] * sizes[1] + place[:, 1]
    if math.prod(map(int, sizes)) >= MOST_KEYS:
        keys = numbered(keys)
    keys = keys * sizes[2] + place[:, 2]
    if normals is not None:
        axis = np.abs(normals).argmax(axis=1)
        keys = 6 * keys + 2 * axis + (normals[np.arange(len(axis)), axis] > 0)
    return numbered(keys)


def group_means(values: np.ndarray, group: np.ndarray,
                weights: np.ndarray | None = None) -> np.ndarray:
    """The means (M, columns) of the rows of values (N, columns) by their group (N,), 0 .. M - 1;
    weights: (N,) of the rows."""
    summed = [np.bincount(group, column if weights is None else weights * column)
              for column in values.T]
    return np.stack(summed, axis=1) / np.bincount(group, weights)[:, None]


def blocks(stop: int, size: int, start: int = 0) -> list[slice]:
    """Slices of `size` rows that cut range(start, stop); the last one may be shorter."""
    return [slice(low, min(low + size, stop)) for low in range(start, stop, size)]
