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
from igr.geometry.regression import AGREEMENT, RIDGE
from igr.refinement.detail import Detail
from igr.refinement.projection import Field, feet_of

import numpy as np
from scipy.spatial import cKDTree

STEP = 0.5  # of the differences, in spacings of the feet
NEIGHBOUR = 10  # whose distance is the spacing times the root of its number
BLOCK = 1 << 17  # points at a time, to spare memory
QUADRIC = 12  # neighbours that it is fitted to
ORIENTED = 1 << 16  # points, of which winding numbers tell the sides; the others follow these
FOLLOWED = 4  # of them
ITERATIONS = (12, 24)  # the second where neighbours do not agree after the first
SHEET = 8  # neighbours, of which those on one sheet with a point are compared
SLOPE = 0.2  # of the way to such a neighbour over the tangent planes, at most
MIXED = 0.3  # pairs of neighbours with opposite normals, in square roots of the number of points


def normals_of(field: Field, detail: Detail, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit normals (N, 3) of points (N, 3), towards larger f, and the mask (N,) of those that have
    a foot on the surface; the others begin with the gradient where they are.

    field: f and its gradient; detail: of these points over {f = 0}.
    """
    feet = feet_of(field, points)
    known = feet.weights > 0
    k = min(NEIGHBOUR + 1, len(points))  # the first is the foot itself
    length = cKDTree(feet.points).query(feet.points, k=[k], workers=threads.count())[0]
    step = STEP * np.maximum(length, 1e-6) / NEIGHBOUR**0.5
    normals = unit_vectors(field(points)[1].astype(np.float64))
    for start in range(0, len(points), BLOCK):
        block = np.flatnonzero(known[start : start + BLOCK]) + start
        if len(block) == 0:
            continue
        u, v = tangents(feet.normals[block])
        b, h = feet.points[block], step[block]
        along_u = detail.move(b + h * u) - detail.move(b - h * u)
        along_v = detail.move(b + h * v) - detail.move(b - h * v)
        normals[block] = unit_vectors(np.cross(along_u, along_v))
    if detail.report.rounds and not detail.report.noise:
        normals = of_quadrics(np.asarray(points, np.float64), normals)
    return normals, known


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


def of_quadrics(points: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Unit normals (N, 3) at points (N, 3) of the quadrics through their neighbours, as heights
    over the tangent planes of rough unit normals (N, 3); weights as in
    igr/geometry/regression.py."""
    k = min(QUADRIC, len(points) - 1)
    found = np.array(normals)
    tree = cKDTree(points)
    for start in range(0, len(points) if k > 5 else 0, BLOCK):  # a quadric has six unknowns
        block = slice(start, start + BLOCK)
        n = normals[block]
        distance, index = tree.query(points[block], k=k + 1, workers=threads.count())
        radius = np.maximum(distance[:, k:], 1e-30)
        index = index[:, :k]
        t = distance[:, :k] / radius
        agreement = np.einsum("nki,ni->nk", normals[index], n) - AGREEMENT
        weight = (1 - t) ** 4 * (4 * t + 1) * np.maximum(agreement, 0)
        away = (points[index] - points[block][:, None]) / radius[:, :, None]
        u, v = tangents(n)
        x, y, height = (np.einsum("nki,ni->nk", away, axis) for axis in (u, v, n))
        basis = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=2)
        weighted = basis * weight[:, :, None]
        A = weighted.transpose(0, 2, 1) @ basis
        diagonal = np.arange(1, 6)
        A[:, diagonal, diagonal] += RIDGE * A[:, :1, 0] + 1e-30
        A[:, 0, 0] += 1e-30
        z = np.linalg.solve(A, weighted.transpose(0, 2, 1) @ height[:, :, None])
        found[block] = unit_vectors(n - z[:, 1] * u - z[:, 2] * v)
    return found


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


def tangents(n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors u and v (N, 3) with u x v = n for unit normals n (N, 3) (Duff et al. 2017)."""
    x, y, z = n.T
    sign = np.where(z >= 0, 1.0, -1.0)
    a = -1 / (sign + z)
    b = x * y * a
    return (np.stack([1 + sign * x * x * a, sign * b, -sign * x], axis=1),
            np.stack([b, sign + y * y * a, -y], axis=1))
