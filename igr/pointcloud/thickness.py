"""Measure how thin a cloud's solid parts are, before a grid or a network loses them; tell its sides
by that: what is solid in a building, a street or a room is thinner than the air beside it.

A ball that touches the surface from inside at a point shrinks until no other point is in it (Ma,
Bae and Choi, "3D medial axis point approximation using nearest neighbors and the normal field",
2012): its diameter is the thickness there, of a plate as of a tube. Lengths are in the unit frame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from helper import log
from igr.geometry import neighbours
from igr.geometry.meshes import TINY

import numpy as np

if TYPE_CHECKING:
    from igr.geometry.frames import Frame
    from igr.pointcloud.noise import Measurements

PLACES = 5_000  # points at which the thickness is measured
ROUNDS = 10  # of shrinking
BESIDE = 0.5  # cosine, from the ball's centre; a point within 60 degrees is on the same face
DEVIATIONS = 4.0  # of the scatter; a point that is less below another's plane is on the same face
SHARE = 0.05  # of the points that lie on thin parts, at least: less is taken for chance
CELLS = 1.5  # of a grid, across what it resolves
GRID = 512  # points along the cube of free space: the finest grid that is taken without asking


def thicknesses(measured: Measurements, normals: np.ndarray, most: float) -> np.ndarray:
    """Thickness (P,) at the first of a measured cloud's points, which are in random order and have
    unit normals (N, 3), outwards; inf where it is above `most`, or too small for their scatter."""
    some = np.arange(min(PLACES, len(normals)))
    radius = _touching_balls(measured, some, normals[some].astype(np.float64), most / 2)
    return np.where(radius < most / 2, 2 * radius, np.inf)


def thin_sides(measured: Measurements, normals: np.ndarray, most: float) -> np.ndarray:
    """Vectors (N, 3) that look away from the thinner side of a measured cloud's points.

    normals: (N, 3), unit, of either sign. A vector is along one of them, by the logarithm of how
    much larger the ball is on its side, 1 at most, 0 where neither is smaller than `most`, the
    largest radius.
    """
    behind, before = (_touching_balls(measured, np.arange(len(side)), side, most)
                      for side in (normals, -normals))
    return np.clip(np.log(before / behind), -1, 1)[:, None] * normals


def _touching_balls(measured: Measurements, index: np.ndarray, normals: np.ndarray,
                    most: float) -> np.ndarray:
    """Radius (P,), at most `most`, of the largest balls without points that touch the surface from
    inside at some points (P,) of a measured cloud, with unit normals (P, 3)."""
    tree = measured.tree
    least = max(DEVIATIONS * measured.scatter, TINY)
    radius = np.full(len(normals), most)
    active = np.arange(len(normals))
    for _ in range(ROUNDS):
        places, n = tree.data[index[active]], normals[active]
        distance, nearest = neighbours.search(tree, places - radius[active, None] * n)
        away = places - tree.data[nearest]
        depth = (away * n).sum(axis=1)  # below the tangent plane of the place
        smaller = (away**2).sum(axis=1) / np.maximum(2 * depth, least)  # it touches that point, too
        across = smaller - depth < BESIDE * smaller  # from the ball's centre, along n
        inner = (distance < (1 - 1e-6) * radius[active]) & (depth > least) & across
        active = active[inner]
        if not len(active):
            break
        radius[active] = smaller[inner]
    return radius


def thinnest(measured: Measurements, normals: np.ndarray, most: float) -> float:
    """The thickness of the thinnest parts with a SHARE of the points, inf where these are above
    `most`; see thicknesses."""
    return float(np.quantile(thicknesses(measured, normals, most), SHARE, method="higher"))


def warn(measured: Measurements, normals: np.ndarray, frame: Frame, volume_factor: float) -> None:
    """Warn where parts are too thin for the finest of the usual grids: the grid that resolves them.

    measured, normals: see thicknesses; frame: the cloud's; volume_factor: half the side of the
    cube of free space.
    """
    cell = 2 * volume_factor / (GRID - 1)
    thin = thinnest(measured, normals, CELLS * cell)
    if np.isfinite(thin):
        needed = int(np.ceil(CELLS * 2 * volume_factor / thin)) + 1
        log.warning(f"parts are as thin as {thin * frame.scale:.2g}, and the cells of a grid of "
                    f"{GRID} are {cell * frame.scale:.2g}: what is thinner may be lost; infer.py "
                    f"--grid-size {needed} resolves it, or train on a part of the cloud")
