"""Normals of a cloud: the given ones at length 1; estimated ones, before a training; after it those
of the surface with detail, at the feet of the points.

The network's gradient at a point is a smoothed normal. The surface with detail,

    S(b) = b + H(b) n(b) ,   b on {f = 0}, H the detail's height,

has the normal  dS/du x dS/dv  of two tangents u, v at the foot b, taken as central differences: so
it follows what the points say beyond the network, and a side of a thin sheet keeps its direction.
Points without noise know their surface better still: the normal is then that of the quadric through
a point's neighbours, those whose normals agree with its own. Lengths are in the unit frame.
"""

from __future__ import annotations

from helper import UserError
from igr.backend import threads
from igr.geometry.meshes import unit_vectors
from igr.geometry.regression import AGREEMENT, of_quadrics

import numpy as np
from scipy.spatial import cKDTree

BLOCK = 1 << 17  # points at a time, to spare memory
ORIENTED = 1 << 16  # points, of which winding numbers tell the sides; the others follow these
FOLLOWED = 4  # of them
ITERATIONS = (12, 24)  # the second where neighbours do not agree after the first
SHEET = 8  # neighbours, of which those on one sheet with a point are compared
SLOPE = 0.2  # of the way to such a neighbour over the tangent planes, at most
MIXED = 0.3  # pairs of neighbours with opposite normals, in square roots of the number of points


def estimated(points: np.ndarray) -> tuple[np.ndarray, bool]:
    """Unit normals (N, 3) float32, outwards, of points (N, 3) without noise in random order: their
    quadrics', of which winding numbers tell the sides; and whether neighbours agree on these.

    Raises UserError where the points span no size.
    """
    from igr.pointcloud import winding  # here: numba takes its time

    exact = points.astype(np.float64)
    some = exact[:ORIENTED]
    for iterations in ITERATIONS:
        rough = winding.normals_of(some, winding.falling_widths(iterations))
        if len(some) < len(exact):
            distance, index = cKDTree(some).query(exact, k=FOLLOWED, workers=threads.count())
            weight = 1 / np.maximum(distance, 1e-9)
            rough = unit_vectors(np.einsum("nk,nki->ni", weight, rough[index]))
        found = of_quadrics(exact, rough)
        agree = sides_agree(exact, found)
        if agree:
            break
    return found.astype(np.float32), agree


def sides_agree(points: np.ndarray, normals: np.ndarray) -> bool:
    """Do normals (N, 3) of points (N, 3) in random order look to one side of each sheet?

    An open sheet without much of an inside, such as a terrain, has parts that winding numbers turn
    one way and parts that they turn the other; where these meet, neighbours have opposite normals.
    """
    points, normals = points[:ORIENTED], normals[:ORIENTED]
    k = min(SHEET, len(points) - 1)
    distance, index = cKDTree(points).query(points, k=k + 1, workers=threads.count())
    distance, index = distance[:, 1:], index[:, 1:]
    away = points[index] - points[:, None]
    cosine = np.einsum("nki,ni->nk", normals[index], normals)
    rise = np.maximum(np.abs(np.einsum("nki,ni->nk", away, normals)),
                      np.abs(np.einsum("nki,nki->nk", away, normals[index])))
    opposite = (rise < SLOPE * distance) & (cosine < -AGREEMENT)
    return bool(opposite.sum() <= MIXED * len(points) ** 0.5)


def unit_normals(points: np.ndarray, normals: np.ndarray, path) -> np.ndarray:
    """normals (N, 3) of points (N, 3) at length 1 and looking outwards; prints what it changed.

    Raises UserError for normals that are zero or not finite.
    """
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    bad = ~(np.isfinite(length) & (length > 0))
    if bad.any():
        raise UserError(f"{path}: {bad.sum()} of {len(normals)} normals are zero or not finite; "
                        "leave out --with-normals or mend them")
    if np.abs(length - 1).max() > 0.01:
        print(f"{path}: normals of length {length.min():.3g} to {length.max():.3g}, set to 1")
    normals = normals / length
    # over a closed surface the integral of <x, n> is three times the volume
    if ((points - points.mean(axis=0)) * normals).sum(axis=1).mean() < 0:
        print(f"{path}: the normals look inwards, turned round")
        return -normals
    return normals
