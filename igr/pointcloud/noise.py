"""Estimate a cloud's noise from local quadric fits.

The neighbours of a point are heights over their plane, the plane of their principal axes. Unlike
the fits of igr/geometry/regression.py, these need no normals, weigh all neighbours alike and give
what is left, not the surface; an orthonormal basis stands even where the neighbours lie on a line.
Lengths are in the unit of the points.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from igr.geometry import neighbours
from igr.geometry.meshes import TINY

import numpy as np

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

NEIGHBOURS = 12  # through which scatter fits a quadric, in the frame of the next
FRAME_NEIGHBOURS = 64
SAMPLE = 1_000  # points at which scatter is measured
UNKNOWNS = 6  # of a quadric
TWO_SHEETS = 1.5  # kurtosis of heights about a quadric, below which they are those of two sheets

SCATTERED = 0.2  # scatter in spacings, above which points lie beside the surface; clean: below 0.16
NOISY = 0.5  # scatter in spacings, above which fine detail is lost in the noise
FEW = 5_000  # points; of fewer, each one counts


class Measurements(NamedTuple):
    """What is known of a cloud's points beside their places: found once, where it is loaded."""

    tree: cKDTree  # of the points
    spacing: float  # of the points, see neighbours.spacing_of
    scatter: float  # standard deviation of the points about a smooth surface, see scatter
    given: np.ndarray | None = None  # (N, 3), the file's normals, which may be wrong

    @classmethod
    def of(cls, tree: cKDTree, sigma: np.ndarray, knn: int,
           given: np.ndarray | None = None) -> Measurements:
        """Those of a tree's points, whose k-th neighbours (knn) are sigma (N, 1) away."""
        spacing = neighbours.spacing_of(float(np.median(sigma)), knn)
        return cls(tree, spacing, scatter(tree), given)

    @property
    def few(self) -> bool:
        """Are the points so few that each one counts?"""
        return self.tree.n < FEW

    @property
    def scattered(self) -> bool:
        """Do the points lie beside the surface?"""
        return self.scatter > SCATTERED * self.spacing


def scatter_class(deviation: float, spacing: float) -> str:
    """Describe the scatter of points, a standard deviation, beside their spacing."""
    if deviation <= SCATTERED * spacing:
        return "exact"
    name = "noisy" if deviation > NOISY * spacing else "scattered"
    return f"{name}, by {deviation / spacing:.2g} spacings"


def scatter(tree: cKDTree, seed: int = 0) -> float:
    """How far a tree's points scatter about a smooth surface: the median, over some of them, of the
    standard deviation of their nearest neighbours from a quadric.

    The quadric is a height over the plane of more neighbours, for where the scatter is as large as
    the spacing, the nearest ones have no plane. Where these lie on two sheets, as the faces of a
    thin plate are, only those on the place's own sheet count. Outliers do not count, since they
    are few. 0 where the points are too few to tell.
    """
    if tree.n < 2 * NEIGHBOURS:
        return 0.0
    places = tree.data[np.random.default_rng(seed).permutation(tree.n)[:SAMPLE]]
    wide = min(FRAME_NEIGHBOURS, tree.n - 1)
    index = neighbours.search(tree, places, wide + 1)[1]
    around = _over_plane(tree.data[index] - places[:, None])
    near = np.broadcast_to(np.arange(NEIGHBOURS + 1), (len(places), NEIGHBOURS + 1))
    beside = _residuals(*around)
    two = _kurtosis(beside) < TWO_SHEETS
    own = (beside > 0) == (beside[:, :1] > 0)  # on the sheet of the place itself
    near = np.where(two[:, None], np.argsort(~own, axis=1, kind="stable")[:, : near.shape[1]], near)
    heights, x, y = (np.take_along_axis(values, near, axis=1) for values in around)
    freedom = near.shape[1] - UNKNOWNS
    return float(np.median(np.sqrt((_residuals(heights, x, y) ** 2).sum(axis=1) / freedom)))


def _over_plane(around: np.ndarray) -> np.ndarray:
    """Heights, x and y (3, N, K) of offsets (N, K, 3) over the plane of each row of them."""
    centred = around - around.mean(axis=1, keepdims=True)
    _, axes = np.linalg.eigh(np.einsum("nki,nkj->nij", centred, centred))
    return np.moveaxis(around @ axes, 2, 0)


def _residuals(heights: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Heights (N, K) over the quadrics in x and y (N, K) through them."""
    size = np.maximum(np.abs([x, y]).max(axis=(0, 2)), TINY)[:, None]
    x = x / size
    y = y / size
    basis, _ = np.linalg.qr(np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=2))
    return heights - np.einsum("nki,nji,nj->nk", basis, basis, heights)


def _kurtosis(values: np.ndarray) -> np.ndarray:
    """The mean fourth power over the squared mean square (N,) of values (N, K) of mean 0: 3 of a
    normal distribution, 1 of two values."""
    square = values**2
    return (square**2).mean(axis=1) / np.maximum(square.mean(axis=1) ** 2, TINY)
