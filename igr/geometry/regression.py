"""Local polynomial regression of a height over a surface, from scattered samples of it.

At a place b with unit normal n, the heights of the nearest samples are fitted by a polynomial in
the two coordinates of b's tangent plane, and its value at b is taken (moving least squares,
Lancaster & Salkauskas 1981). The weight of sample j at distance r_j is

    w_j = m_j wendland(r_j / R) max(0, n . n_j - c) ,   wendland(t) = (1 - t)^4 (4 t + 1) ,

m_j its own weight (0: an outlier), R the distance of the first sample that is not used, and c cuts
off samples whose normal disagrees: so the two sides of a thin sheet do not mix.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from igr.backend import threads
from igr.geometry.meshes import unit_vectors

import numpy as np
from scipy.spatial import cKDTree

BLOCK = 1 << 13  # places that are fitted together: bounds the memory for their neighbours
PATCH = (1 << 12, 1 << 16)  # fewest and most samples of a patch, without its rings
AGREEMENT = 0.3  # c: the cosine of 73 degrees
QUADRIC = 12  # neighbours that it is fitted to
RIDGE = 1e-3  # on all terms but the constant, in parts of its weight: few or unlucky neighbours
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
        # plain splits: queries far from the samples are not slow, and it is built faster
        tree = cKDTree(points, compact_nodes=False, balanced_tree=False)
        return cls(points, normals, heights, weights, tree)

    def nearest(self, places: np.ndarray, neighbours: int) -> tuple[np.ndarray, np.ndarray]:
        """Distance and index, both (M, k + 1), of the samples nearest to places (M, 3): the nearest
        `neighbours` or all but one, and the next one, which sets the radius."""
        k = min(neighbours, len(self.points) - 1)
        return self.tree.query(places, k=[*range(1, k + 2)])

    def fit(self, places: np.ndarray, normals: np.ndarray, neighbours: int,
            degree: int) -> np.ndarray:
        """Heights (M,) at places (M, 3) with unit normals (M, 3): a polynomial of degree 0, 1 or 2
        through the nearest `neighbours` samples, at least 1. NaN where none of them agrees."""
        if len(self.points) < 2:
            return np.full(len(places), np.nan)
        found = np.empty(len(places))

        def fit_block(start: int) -> None:
            block = slice(start, start + BLOCK)
            near = self.nearest(places[block], neighbours)
            found[block] = self.fit_to(near, places[block], normals[block], neighbours, degree)

        threads.map_each(fit_block, range(0, len(places), BLOCK))
        return found

    def fit_to(self, near: tuple[np.ndarray, np.ndarray], places: np.ndarray, normals: np.ndarray,
               neighbours: int, degree: int) -> np.ndarray:
        """fit() where the nearest samples are known; near: of nearest(), for as many neighbours or
        more."""
        distance, index = near
        found = np.empty(len(places))
        _fit(places, normals, index, distance, self.points, self.normals, self.heights,
             self.weights, min(neighbours, index.shape[1] - 1), TERMS[degree], found)
        return found


# ------------------------------------------------------------------------- patches of the samples


def tree_order(points: np.ndarray) -> np.ndarray:
    """Numbers (N,) of points (N, 3) in the order of a search tree: so neighbours lie together in
    memory, and a slice of such samples is a patch of the surface."""
    return np.array(cKDTree(points, compact_nodes=False, balanced_tree=False).indices)


def patches(some: slice) -> list:
    """Slices that cut a slice of the samples into patches: for each thread one at least, but no
    tiny ones."""
    size = int(np.clip(-(-(some.stop - some.start) // threads.count()), *PATCH))
    return [slice(start, min(start + size, some.stop))
            for start in range(some.start, some.stop, size)]


class Rings(NamedTuple):
    """A patch of samples and, in rings around it, those on which its results rest."""

    rows: np.ndarray  # (n,) numbers of the samples: the patch, then ring after ring
    ends: list  # rows[: ends[i]] are the patch and i rings
    near: tuple  # distance and index (n, k + 1) of their nearest samples

    def inner(self, rings: int) -> tuple:
        """rows and near of the patch and its first rings."""
        some = slice(self.ends[rings])
        return self.rows[some], (self.near[0][some], self.near[1][some])


def with_rings(samples: Samples, patch: slice, looks: list, neighbours: int) -> Rings:
    """A patch with the rings that it looks at: the first looks[0] of the samples nearest to each of
    the patch, the first looks[1] nearest to each of these, and so on. Their nearest `neighbours`
    are found once."""
    rows = np.arange(patch.start, patch.stop)
    distance, index = samples.nearest(samples.points[patch], neighbours)
    ends = [len(rows)]
    for look in looks:
        seen = index[:, :look]
        seen = np.unique(seen[(seen < patch.start) | (seen >= patch.stop)])
        ring = np.setdiff1d(seen, rows[ends[0] :], assume_unique=True)
        beyond = samples.nearest(samples.points[ring], neighbours)
        rows = np.concatenate([rows, ring])
        distance = np.concatenate([distance, beyond[0]])
        index = np.concatenate([index, beyond[1]])
        ends.append(len(rows))
    return Rings(rows, ends, (distance, index))


# ------------------------------------------------------------------------------- local quadrics


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


def tangents(n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors u and v (N, 3) with u x v = n for unit normals n (N, 3) (Duff et al. 2017)."""
    x, y, z = n.T
    sign = np.where(z >= 0, 1.0, -1.0)
    a = -1 / (sign + z)
    b = x * y * a
    return (np.stack([1 + sign * x * x * a, sign * b, -sign * x], axis=1),
            np.stack([b, sign + y * y * a, -y], axis=1))


# ------------------------------------------------------------------------------ compiled functions


@threads.compiled(fastmath={"contract", "reassoc", "nsz", "arcp"}, error_model="numpy")
def _fit(places, normals, index, distance, points, sample_normals, heights, weights, k, terms, out):
    """out (M,): the fits at places (M, 3); index, distance (M, more than k) of the nearest samples,
    of which k are fitted and the next one sets the radius."""
    A = np.empty((6, 6))
    b = np.empty(6)
    phi = np.empty(6)
    for q in range(len(places)):
        n = normals[q]
        # two tangents of n (Duff et al. 2017)
        sign = 1.0 if n[2] >= 0 else -1.0
        a = -1.0 / (sign + n[2])
        c = n[0] * n[1] * a
        u0, u1, u2 = 1.0 + sign * n[0] * n[0] * a, sign * c, -sign * n[0]
        v0, v1, v2 = c, sign + n[1] * n[1] * a, -n[1]
        radius = distance[q, k] * (1 + 1e-9) + 1e-30
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
            weight = weights[i] * s * s * s * s * (4.0 * t + 1.0) * agreement
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
            for r in range(terms):
                scaled = weight * phi[r]
                for l in range(r + 1):
                    A[r, l] += scaled * phi[l]
                b[r] += scaled * heights[i]
        out[q] = _constant_term(A, b, terms)


@threads.compiled(error_model="numpy")
def _constant_term(A, b, terms):
    """The first unknown of the normal equations A z = b (lower triangle of A), with a ridge; NaN
    where there is no weight. Cholesky's factor takes A's place."""
    if not A[0, 0] > 1e-12:
        return np.nan
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
    return b[0]


@threads.compiled(error_model="numpy")
def agreeing_medians(rows, index, first, normals, values):
    """The median (M,) of the values (N,) of the neighbours of some samples, rows (M,): of those
    whose normals (N, 3) agree with its own; its own value where none does. index (M, k): the
    neighbours, of which the first ones are left out."""
    found = values[rows]
    some = np.empty(index.shape[1])
    for q in range(len(rows)):
        i = rows[q]
        n = 0
        for j in index[q, first:]:
            agreement = (normals[i, 0] * normals[j, 0] + normals[i, 1] * normals[j, 1]
                         + normals[i, 2] * normals[j, 2])
            if agreement > AGREEMENT:
                place = n  # insertion: they are few
                while place > 0 and some[place - 1] > values[j]:
                    some[place] = some[place - 1]
                    place -= 1
                some[place] = values[j]
                n += 1
        if n:
            found[q] = 0.5 * (some[(n - 1) // 2] + some[n // 2])
    return found
