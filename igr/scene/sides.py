"""Tell the sides of a scene once, so that the networks of all cells agree on inside and outside.

A sample of the whole scene gets normals by a view of all, by winding numbers or, where neighbours
do not agree on the sides of these, by a vote of them on each sheet (igr/pointcloud/normals.py). The
points of a cell take their sides from the sample's nearest ones, and their directions from their
own neighbours.
"""

from __future__ import annotations

from typing import NamedTuple

import helper
from helper import UserError, log
from igr.geometry import neighbours
from igr.geometry.frames import Frame
from igr.pointcloud import noise, normals
from igr.pointcloud.noise import Measurements
from igr.pointcloud.normals import MIXED, MIXED_SHEETS, Estimate
from igr.scene.plan import Cell, Folder, Plan

import numpy as np

ITERATIONS = 24  # of winding numbers: 12 turn the shell of a furnished building inside out
KNN = 10  # neighbour that tells the spacing
FEWEST = 50  # points of a cell that a network can learn


class OrientedCloud(NamedTuple):
    """What the training of a cell begins with."""

    points: np.ndarray  # (N, 3) float64, world
    normals: np.ndarray  # (N, 3) float64, unit
    scattered: bool  # the points lie beside the surface
    noisy: bool  # by about their spacing


def tell_sides(folder: Folder) -> str:
    """Write the normals of the scene's sample. Returns how their sides were told."""
    sample = np.load(folder.sample)
    sample = sample[np.sort(_distinct(sample))]
    frame = Frame.of(sample)
    estimate = _estimated(_measured(frame.to_unit(sample)))
    if not estimate.agree:
        log.warning("the sides of the scene are in doubt: neighbours do not agree on them")
    with helper.replacing(folder.sides) as temporary:
        np.savez(temporary, points=sample, normals=estimate.normals)
    return estimate.report


def _estimated(measured: Measurements) -> Estimate:
    """Normals of a scene's sample. As normals.estimated, but with a few ways only, each of which
    takes the whole scene into account."""
    sheets = normals.sheets_of(measured)
    view = sheets.view(measured)
    if view is not None:
        return normals.judged(measured, sheets.turned_to(view), measured.scattered, MIXED_SHEETS,
                              "all points face one way")
    rough = normals.by_winding(measured, ITERATIONS, measured.scattered)
    estimate = normals.judged(measured, rough, measured.scattered, MIXED, "by winding numbers")
    if estimate.agree:
        return estimate
    return normals.judged(measured, sheets.turned_to(rough), measured.scattered, MIXED_SHEETS,
                          "by neighbours on each sheet")


def oriented(folder: Folder, plan: Plan, cell: Cell) -> OrientedCloud:
    """The points of a cell and its margin with normals. Raises UserError where they are too few."""
    points = np.load(folder.points(cell.name))
    points = points[np.sort(_distinct(points))]
    if len(points) < FEWEST:
        raise UserError(f"{len(points)} points are too few for a network")
    frame = Frame.of(points)
    measured = _measured(frame.to_unit(points))
    with np.load(folder.sides) as sides:
        near = cell.has(plan.to_grid(sides["points"]), 3 * cell.margin)
        if near.sum() < normals.FOLLOWED:
            near[:] = True
        known = frame.to_unit(sides["points"][near])
        toward = sides["normals"][near].astype(np.float64)
    estimate = normals.following(measured, known, toward)
    return OrientedCloud(points, estimate.normals.astype(np.float64), measured.scattered,
                         measured.scatter > noise.NOISY * measured.spacing)


def _distinct(points: np.ndarray) -> np.ndarray:
    return neighbours.distinct(points)[0]


def _measured(pts_unit: np.ndarray) -> Measurements:
    tree = neighbours.tree_of(pts_unit)
    k = min(KNN, tree.n - 1)
    return Measurements.of(tree, neighbours.kth_distance(tree, k)[:, None], k)
