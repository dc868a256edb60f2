"""Check the given normals of a cloud, or estimate missing ones from winding numbers and quadrics.

Lengths are in the unit frame. igr/refinement/orientation.py has the normals after a training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from helper import UserError, log
from igr.geometry import neighbours
from igr.geometry.meshes import TINY, unit_vectors
from igr.geometry.regression import AGREEMENT, QUADRIC, of_quadrics
from igr.pointcloud.noise import Measurements

import numpy as np

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

ORIENTED = 1 << 16  # points whose sides winding numbers tell; the others follow these
FOLLOWED = 4  # of them
ITERATIONS = (12, 24)  # the second where neighbours do not agree after the first
PER_SCATTER = 150  # neighbours of a quadric, beside QUADRIC, for a scatter of one spacing
SMOOTHED = (36, 96)  # fewest and most of them, where points scatter
SHEET = 8  # neighbours; those on one sheet with a point are compared with it
SLOPE = 0.2  # of the way to such a neighbour over the tangent planes, at most
MIXED = 0.3  # pairs of neighbours with opposite normals, in square roots of the number of points
MIXED_SCATTERED = 1.0  # the same of points that scatter, some of which stand on their heads


def estimated(measured: Measurements) -> tuple[np.ndarray, bool]:
    """Unit normals (N, 3) float32, outwards, of a cloud's points in random order: those of
    quadrics, with the sides that winding numbers tell; and whether neighbours agree on the sides.

    Points are taken as exact unless they scatter, and as scattered where neighbours do not agree
    on the sides of exact ones. Raises UserError where the points span no size.
    """
    ways = [(iterations, True) for iterations in ITERATIONS]
    if not measured.scattered:
        ways = [(iterations, False) for iterations in ITERATIONS] + ways[:1]
    for iterations, scattered in ways:
        normals, agree = _estimated(measured, iterations, scattered)
        if agree:
            break
    return normals.astype(np.float32), agree


def _estimated(measured: Measurements, iterations: int, scattered: bool):
    """estimated() in one way. The more points scatter, the wider are the winding numbers' widths
    and the more neighbours has a quadric."""
    from igr.pointcloud import winding  # here: numba takes its time

    tree = measured.tree
    first = tree.data[:ORIENTED]
    tree_of_first = tree if len(first) == tree.n else neighbours.tree_of(first)
    scatter = measured.scatter if scattered else None
    rough = winding.normals_of(first, winding.widths(iterations, measured.spacing, scatter))
    if len(first) < tree.n:
        distance, index = neighbours.search(tree_of_first, tree.data, FOLLOWED)
        weight = 1 / np.maximum(distance, TINY)
        rough = unit_vectors(np.einsum("nk,nki->ni", weight, rough[index]))
    count = QUADRIC
    if scattered:
        count += PER_SCATTER * measured.scatter / max(measured.spacing, TINY)
        count = int(np.clip(count, *SMOOTHED))
    normals = of_quadrics(tree, rough, count)
    most = MIXED_SCATTERED if scattered else MIXED
    return normals, sides_agree(tree_of_first, normals[: len(first)], most)


def sides_agree(tree: cKDTree, normals: np.ndarray, most: float = MIXED) -> bool:
    """Do normals (N, 3) at a tree's points look to one side of each sheet, but for `most` pairs of
    neighbours, in square roots of N?

    An open sheet without much of an inside, such as a terrain, has parts that winding numbers turn
    one way and parts that they turn the other; where these meet, neighbours have opposite normals.
    """
    points = tree.data
    distance, index = neighbours.search(tree, points, min(SHEET, tree.n - 1) + 1)
    distance, index = distance[:, 1:], index[:, 1:]  # the first is the point itself
    away = points[index] - points[:, None]
    cosine = np.einsum("nki,ni->nk", normals[index], normals)
    rise = np.maximum(np.abs(np.einsum("nki,ni->nk", away, normals)),
                      np.abs(np.einsum("nki,nki->nk", away, normals[index])))
    opposite = (rise < SLOPE * distance) & (cosine < -AGREEMENT)
    return bool(opposite.sum() <= most * len(points) ** 0.5)


def unit_normals(points: np.ndarray, normals: np.ndarray, path) -> np.ndarray:
    """Normals (N, 3) of points (N, 3) at length 1 and looking outwards; warns of what it changed.

    Raises UserError for normals that are zero or not finite.
    """
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    bad = ~(np.isfinite(length) & (length > 0))
    if bad.any():
        raise UserError(f"{path}: {bad.sum()} of {len(normals)} normals are zero or not finite; "
                        "leave out --with-normals or mend them")
    if np.abs(length - 1).max() > 0.01:
        log.warning(f"{path}: normals of length {length.min():.3g} to {length.max():.3g}, set to 1")
    normals = normals / length
    # over a closed surface the integral of <x, n> is three times the volume
    if ((points - points.mean(axis=0)) * normals).sum(axis=1).mean() < 0:
        log.warning(f"{path}: the normals look inwards, turned round")
        return -normals
    return normals
