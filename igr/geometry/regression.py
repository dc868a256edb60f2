"""Fit polynomials to heights over a surface near a place: smoothed heights, and normals.

At a place b with unit normal n, the heights of the nearest samples are fitted by a polynomial in
the two coordinates of b's tangent plane, and its value at b is taken, or its slopes (moving least
squares, Lancaster & Salkauskas 1981). The weight of sample j at distance r_j is

    w_j = m_j wendland(r_j / R) max(0, n . n_j - c) ,   wendland(t) = (1 - t)^4 (4 t + 1) ,

m_j its own weight (0: an outlier), R the distance of the first sample that is not used, and c cuts
off samples whose normal disagrees: so the two sides of a thin sheet do not mix.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from igr.backend import threads
from igr.geometry import neighbours
from igr.geometry.meshes import TINY, unit_vectors

import numpy as np

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

BLOCK = 1 << 13  # places that are fitted together: bounds the memory for their neighbours
PATCH = (1 << 12, 1 << 16)  # fewest and most samples of a patch, without its rings
AGREEMENT = 0.3  # c: the cosine of 73 degrees
QUADRIC = 12  # neighbours that one is fitted to
RIDGE = 1e-3  # on all terms but the constant, in parts of its weight: few or unlucky neighbours
LEAST_WEIGHT = 1e-12  # of all samples together: with less, none agrees
WIDER = 1 + 1e-9  # R in parts of that distance: the last sample has a weight even if as far away
FLAGS = {"fastmath": {"contract", "reassoc", "nsz", "arcp"}, "error_model": "numpy"}
TERMS = {0: 1, 1: 3, 2: 6}  # of a polynomial in two variables, by degree


class Samples(NamedTuple):
    """Heights at points of a surface, with a search tree of the points."""

    points: np.ndarray  # (N, 3)
    normals: np.ndarray  # (N, 3) unit vectors
    heights: np.ndarray  # (N,)
    weights: np.ndarray  # (N,)
    tree: cKDTree

    @classmethod
    def of(cls, points, normals, heights, weights) -> Samples:
        return cls(points, normals, heights, weights, neighbours.tree_of(points))

    def nearest(self, places: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Distance and index, both (M, k + 1), of the samples nearest to places (M, 3): the nearest
        `count` or all but one, and the next one, which sets the radius. By this thread alone."""
        return self.tree.query(places, k=[*range(1, min(count, len(self.points) - 1) + 2)])

    def fit(self, places: np.ndarray, normals: np.ndarray, count: int, degree: int) -> np.ndarray:
        """Heights (M,) at places (M, 3) with unit normals (M, 3): a polynomial of degree 0, 1 or 2
        through the nearest `count` samples, at least 1. NaN where none of them agrees."""
        if len(self.points) < 2:
            return np.full(len(places), np.nan)
        fitted = np.empty(len(places))

        def fit_block(block: slice) -> None:
            near = self.nearest(places[block], count)
            fitted[block] = self.fit_to(near, places[block], normals[block], count, degree)

        threads.map_each(fit_block, neighbours.blocks(len(places), BLOCK))
        return fitted

    def fit_to(self, near: tuple[np.ndarray, np.ndarray], places: np.ndarray, normals: np.ndarray,
               count: int, degree: int) -> np.ndarray:
        """fit() where the nearest samples are known; near: of nearest(), for as many or more."""
        distance, index = near
        fitted = np.empty((len(places), 1))
        _fit(places, normals, index, distance, self.points, self.normals, self.heights,
             self.weights, min(count, index.shape[1] - 1), TERMS[degree], fitted)
        return fitted[:, 0]


# ------------------------------------------------------------------------- patches of the samples


def tree_order(points: np.ndarray) -> np.ndarray:
    """Numbers (N,) of points (N, 3) in the order of a search tree: so neighbours lie together in
    memory, and a slice of such samples is a patch of the surface."""
    return np.array(neighbours.tree_of(points).indices)


def patches(some: slice) -> list:
    """Slices that cut a slice of the samples into patches: for each thread one at least, but no
    tiny ones."""
    size = int(np.clip(-(-(some.stop - some.start) // threads.count()), *PATCH))
    return neighbours.blocks(some.stop, size, some.start)


class Rings(NamedTuple):
    """A patch of samples and, in rings around it, those on which its results rest."""

    rows: np.ndarray  # (n,) numbers of the samples: the patch, then ring after ring
    ends: list  # rows[: ends[i]] are the patch and i rings
    near: tuple  # distance and index (n, k + 1) of their nearest samples

    def inner(self, rings: int) -> tuple:
        """rows and near of the patch and its first rings."""
        end = self.ends[rings]
        return self.rows[:end], (self.near[0][:end], self.near[1][:end])


def with_rings(samples: Samples, patch: slice, looks: list, count: int) -> Rings:
    """A patch with the rings that it looks at: the first looks[0] of the samples nearest to each of
    the patch, the first looks[1] nearest to each of these, and so on. Their nearest `count` are
    found once."""
    rows = np.arange(patch.start, patch.stop)
    distance, index = samples.nearest(samples.points[patch], count)
    ends = [len(rows)]
    for look in looks:
        seen = index[:, :look]
        seen = np.unique(seen[(seen < patch.start) | (seen >= patch.stop)])
        ring = np.setdiff1d(seen, rows[ends[0] :], assume_unique=True)
        beyond = samples.nearest(samples.points[ring], count)
        rows = np.concatenate([rows, ring])
        distance = np.concatenate([distance, beyond[0]])
        index = np.concatenate([index, beyond[1]])
        ends.append(len(rows))
    return Rings(rows, ends, (distance, index))


# ------------------------------------------------------------------------------- local quadrics


def of_quadrics(tree: cKDTree, normals: np.ndarray, count: int = QUADRIC) -> np.ndarray:
    """Unit normals (N, 3) at a tree's points of the quadrics through their `count` neighbours, as
    heights over the tangent planes of rough unit normals (N, 3), with the weights above, m = 1. The
    rough ones stay where fewer than six neighbours or none that agree can tell."""
    points = tree.data
    k = min(count, len(points) - 1)
    fitted = np.array(normals)
    if k < TERMS[2]:
        return fitted
    slopes = np.empty((len(points), 3))

    def fit_block(block: slice) -> None:
        distance, index = tree.query(points[block], k=k + 1)
        _fit(points[block], normals[block], index, distance, points, normals, None, None, k,
             TERMS[2], slopes[block])
        u, v = tangents(normals[block])
        n = unit_vectors(normals[block] - slopes[block, 1:2] * u - slopes[block, 2:] * v)
        np.copyto(fitted[block], n, where=np.isfinite(slopes[block, :1]))

    threads.map_each(fit_block, neighbours.blocks(len(points), BLOCK))
    return fitted


def tangents(normals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors u and v (N, 3) with u x v = n for unit normals n (N, 3)."""
    u_and_v = np.empty((2, *normals.shape))
    _all_tangents(normals, u_and_v)
    return u_and_v[0], u_and_v[1]


# ------------------------------------------------------------------------------ compiled functions


@threads.compiled(**FLAGS)
def _tangents(n):
    """The coordinates of u and v with u x v = n (Duff et al. 2017)."""
    sign = 1.0 if n[2] >= 0 else -1.0
    a = -1.0 / (sign + n[2])
    c = n[0] * n[1] * a
    return (1.0 + sign * n[0] * n[0] * a, sign * c, -sign * n[0],
            c, sign + n[1] * n[1] * a, -n[1])


@threads.compiled(error_model="numpy")
def _all_tangents(normals, out):
    """out (2, N, 3): u and v for normals (N, 3)."""
    for q in range(len(normals)):
        u0, u1, u2, v0, v1, v2 = _tangents(normals[q])
        out[0, q, 0], out[0, q, 1], out[0, q, 2] = u0, u1, u2
        out[1, q, 0], out[1, q, 1], out[1, q, 2] = v0, v1, v2


@threads.compiled(**FLAGS)
def _fit(places, normals, index, distance, points, sample_normals, heights, weights, k, terms, out):
    """out (M, 1): the heights fitted at places (M, 3); out (M, 3): these and the slopes along the
    tangents in parts of R. index, distance (M, more than k) of the nearest samples, of which k are
    fitted and the next one sets R. heights None: those of the samples over the tangent plane, in
    parts of R, and all weights are 1."""
    A = np.empty((6, 6))
    b = np.empty(6)
    phi = np.empty(6)
    for q in range(len(places)):
        n = normals[q]
        u0, u1, u2, v0, v1, v2 = _tangents(n)
        radius = distance[q, k] * WIDER + TINY
        A[:] = 0.0
        b[:] = 0.0
        for j in range(k):
            i = index[q, j]
            m = sample_normals[i]
            agreement = n[0] * m[0] + n[1] * m[1] + n[2] * m[2] - AGREEMENT
            if agreement <= 0.0:
                continue
            t = distance[q, j] / radius
            s = 1.0 - t
            own = 1.0 if weights is None else weights[i]  # numba decides when it compiles
            weight = own * s * s * s * s * (4.0 * t + 1.0) * agreement
            d0 = (points[i, 0] - places[q, 0]) / radius
            d1 = (points[i, 1] - places[q, 1]) / radius
            d2 = (points[i, 2] - places[q, 2]) / radius
            x = d0 * u0 + d1 * u1 + d2 * u2
            y = d0 * v0 + d1 * v1 + d2 * v2
            phi[0] = 1.0
            phi[1] = x
            phi[2] = y
            phi[3] = x * x
            phi[4] = x * y
            phi[5] = y * y
            if heights is None:
                height = d0 * n[0] + d1 * n[1] + d2 * n[2]
            else:
                height = heights[i]
            for r in range(terms):
                scaled = weight * phi[r]
                for l in range(r + 1):
                    A[r, l] += scaled * phi[l]
                b[r] += scaled * height
        _solve(A, b, terms)
        out[q] = b[: out.shape[1]]


@threads.compiled(error_model="numpy")
def _solve(A, b, terms):
    """b becomes the solution z of the normal equations A z = b (lower triangle of A), with a ridge;
    NaN where there is no weight. Cholesky's factor takes A's place."""
    if not A[0, 0] > LEAST_WEIGHT:
        b[:] = np.nan
        return
    ridge = RIDGE * A[0, 0]
    for r in range(terms):
        if r:
            A[r, r] += ridge
        for l in range(r + 1):
            rest = A[r, l]
            for h in range(l):
                rest -= A[r, h] * A[l, h]
            A[r, l] = math.sqrt(rest) if r == l else rest / A[l, l]
    for r in range(terms):
        rest = b[r]
        for l in range(r):
            rest -= A[r, l] * b[l]
        b[r] = rest / A[r, r]
    for r in range(terms - 1, -1, -1):
        rest = b[r]
        for l in range(r + 1, terms):
            rest -= A[l, r] * b[l]
        b[r] = rest / A[r, r]


@threads.compiled(error_model="numpy")
def agreeing_medians(rows, index, first, normals, values):
    """The median (M,) of the values (N,) of the neighbours of some samples, rows (M,): of those
    whose normals (N, 3) agree with its own; its own value where none does. index (M, k): the
    neighbours, of which the first ones are left out."""
    medians = values[rows]
    agreeing = np.empty(index.shape[1])
    for q in range(len(rows)):
        i = rows[q]
        n = 0
        for j in index[q, first:]:
            agreement = (normals[i, 0] * normals[j, 0] + normals[i, 1] * normals[j, 1]
                         + normals[i, 2] * normals[j, 2])
            if agreement > AGREEMENT:
                place = n  # insertion: they are few
                while place > 0 and agreeing[place - 1] > values[j]:
                    agreeing[place] = agreeing[place - 1]
                    place -= 1
                agreeing[place] = values[j]
                n += 1
        if n:
            medians[q] = 0.5 * (agreeing[(n - 1) // 2] + agreeing[n // 2])
    return medians
