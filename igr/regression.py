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

from igr import threads

import numpy as np
from scipy.spatial import cKDTree

BLOCK = 1 << 15  # places that are fitted together: bounds the memory for their neighbours
AGREEMENT = 0.3  # c: the cosine of 73 degrees
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

    def fit(self, places: np.ndarray, normals: np.ndarray, neighbours: int,
            degree: int) -> np.ndarray:
        """Heights (M,) at places (M, 3) with unit normals (M, 3): a polynomial of degree 0, 1 or 2
        through the nearest `neighbours` samples, at least 1. NaN where none of them agrees."""
        k = min(neighbours, len(self.points) - 1)
        if k < 1:
            return np.full(len(places), np.nan)
        found = np.empty(len(places))

        def fit_block(start: int) -> None:
            block = slice(start, start + BLOCK)
            distance, index = self.tree.query(places[block], k=k + 1)
            _fit(places[block], normals[block], index, distance, self.points, self.normals,
                 self.heights, self.weights, TERMS[degree], found[block])

        threads.map_each(fit_block, range(0, len(places), BLOCK))
        return found


@threads.compiled(fastmath={"contract", "reassoc", "nsz", "arcp"}, error_model="numpy")
def _fit(places, normals, index, distance, points, sample_normals, heights, weights, terms, out):
    """out (M,): the fits at places (M, 3); index, distance (M, k + 1) of the nearest samples, of
    which the last one sets the radius."""
    k = index.shape[1] - 1
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
def agreeing_medians(index, normals, values):
    """The median (N,) of each sample's neighbours' values (N,), of those whose normals (N, 3) agree
    with its own; its own value where none does. index (N, k): the neighbours."""
    found = values.copy()
    some = np.empty(index.shape[1])
    for i in range(len(index)):
        n = 0
        for j in index[i]:
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
            found[i] = 0.5 * (some[(n - 1) // 2] + some[n // 2])
    return found
