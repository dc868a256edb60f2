"""Tell the sides of a scene once, so that the networks of all cells agree on inside and outside.

A sample of the whole scene gets normals by a view of all, by the files' normals or the scanners'
places, or by the best of three ways to tell them by the points alone: winding numbers, a vote of
these on each sheet, a vote of which side is the thinner one. The best has winding numbers nearest
to 1/2 on the surface. The points of a cell take their sides from what is given of them, where the
sample's did, else from the sample's nearest ones and, on sheets where these do not agree, by a
vote, or by the thinner side where that told the sample's; then small sheets at edges and corners
look as those around them. Their directions are those of their own neighbours.
"""

from __future__ import annotations

from typing import NamedTuple

import helper
from helper import UserError, log
from igr.geometry import neighbours
from igr.geometry.frames import Frame
from igr.pointcloud import noise, normals, sheets, thickness
from igr.pointcloud.noise import Measurements
from igr.pointcloud.normals import MIXED, MIXED_GIVEN, MIXED_SHEETS, Estimate
from igr.pointcloud.sheets import Sheets
from igr.scene.plan import SCANNER, Cell, Folder, Plan

import numpy as np

ITERATIONS = 24  # of winding numbers, with all points in each: 12 turn the shell of a furnished
# building inside out, and 24 that begin with few have seven times as many wrong on a statue
THICKEST = 0.2  # in halves of the scene's longest side: what is thicker counts as so thick
CLOSED = 0.06  # mean square of winding numbers less 1/2; more of single sheets, which are not thin:
# 0.02 in a furnished building, 0.13 and more in a room seen from inside
AGREED = 0.9  # mean cosine of a sheet's normals with those of the nearest points, of whatever sign
LARGE, SMALL = 1000, 2  # points of a sheet: so many are certain of their side, fewer not
CLEAR = 0.3  # mean vote of one between, see thickness.thin_sides, with which it is
GIVEN, TURNED = "given", "turned"  # how a cell tells its sides: by its files, reversed,
NEAREST, THINNER = "nearest", "thinner"  # as the sample's nearest, by the thinner side
SEEN_OPPOSITE = 0.02  # share of neighbours on a sheet with opposite sides by the scanners' places
KNN = 10  # neighbour that tells the spacing
FEWEST = 50  # points of a cell that a network can learn


class OrientedCloud(NamedTuple):
    """What the training of a cell begins with."""

    points: np.ndarray  # (N, 3) float64, world
    normals: np.ndarray  # (N, 3) float64, unit
    scattered: bool  # the points lie beside the surface
    noisy: bool  # by about their spacing


def tell_sides(folder: Folder, plan: Plan) -> str:
    """Write the normals of the scene's sample, and the way in which cells tell their sides. Returns
    how the sample's were told."""
    sample = np.load(folder.sample)
    sample = sample[np.sort(_distinct(sample[:, :3]))]
    points = sample[:, :3]
    measured = _measured(Frame.of(points).to_unit(points))
    if plan.given:
        measured = measured._replace(given=_given_sides(measured, sample[:, 3:], plan.given))
    estimate, way = _estimated(measured, plan.given)
    if not estimate.agree:
        log.warning("the sides of the scene are in doubt: neighbours do not agree on them")
    with helper.replacing(folder.sides) as temporary:
        np.savez(temporary, points=points, normals=estimate.normals, way=way)
    return estimate.report


def _estimated(measured: Measurements, given: str) -> tuple[Estimate, str]:
    """Normals of a scene's sample, and the way in which cells tell their sides. As
    normals.estimated, but with a few ways only, each of which takes the whole scene into account.
    """
    layers = normals.sheets_of(measured)
    view = layers.view(measured)
    if view is not None:
        return normals.judged(measured, layers.turned_to(view), measured.scattered, MIXED_SHEETS,
                              "all points face one way"), NEAREST
    sides = normals.outwards(measured)
    if sides is not None:
        estimate = normals.judged(measured, sides, measured.scattered, MIXED_GIVEN,
                                  "by the files' normals")
        if given == SCANNER:  # where it stood is known: only planes at edges may look elsewhere
            pairs = sheets.pairs_on_sheets(measured.tree, estimate.normals)
            agree = pairs.opposite() < SEEN_OPPOSITE * len(pairs.first)
            estimate = estimate._replace(agree=agree, report="by the scanners' places")
        if estimate.agree:
            return estimate, GIVEN if (sides * measured.given).sum() > 0 else TURNED
    rough = normals.by_winding(measured, ITERATIONS, measured.scattered, None)
    told = [(rough, MIXED, "by winding numbers"),
            (layers.turned_to(rough), MIXED_SHEETS, "by neighbours on each sheet"),
            (_thinner(measured, layers, THICKEST), MIXED_SHEETS,
             "by the thinner side of each sheet")]
    off = [np.square(normals.winding_numbers(measured.tree, sides) - 0.5).mean()
           for sides, _, _ in told]
    if off[2] > CLOSED:
        off[2] = np.inf
    best = int(np.argmin(off))
    sides, most, report = told[best]
    estimate = normals.judged(measured, sides, measured.scattered, most, report)
    return estimate, THINNER if best == 2 else NEAREST


def _given_sides(measured: Measurements, given: np.ndarray, kind: str) -> np.ndarray:
    """Normals (N, 3) of a measured cloud's points on the sides that vectors (N, 3) tell: normals,
    or ways to the scanner. Where these are 0, those of the nearest points whose are not."""
    known = given.any(axis=1)
    found = given.astype(np.float64)
    if kind == SCANNER:
        found = sheets.seen_normals(measured.tree, found)
    if known.any() and not known.all():
        points = measured.tree.data
        found[~known] = found[known][neighbours.nearest(points[~known], points[known])[1]]
    return found


def oriented(folder: Folder, plan: Plan, cell: Cell) -> OrientedCloud:
    """The points of a cell and its margin with normals. Raises UserError where they are too few."""
    points = np.load(folder.points(cell.name))
    rows = np.sort(_distinct(points))
    points = points[rows]
    if len(points) < FEWEST:
        raise UserError(f"{len(points)} points are too few for a network")
    frame = Frame.of(points)
    measured = _measured(frame.to_unit(points))
    with np.load(folder.sides) as sample:
        way = str(sample["way"])
        near = cell.has(plan.to_grid(sample["points"]), 3 * cell.margin)
        if near.sum() < normals.FOLLOWED:
            near[:] = True
        known = frame.to_unit(sample["points"][near])
        toward = sample["normals"][near].astype(np.float64)
        size = Frame.of(sample["points"]).scale
    if way == NEAREST:
        estimate = normals.following(measured, known, toward)
    else:
        if way == THINNER:
            toward = normals.sides_nearby(measured.tree.data, known, toward)
            sides = _thinner(measured, normals.sheets_of(measured), THICKEST * size / frame.scale,
                             toward)
        else:
            given = np.load(folder.given(cell.name))[rows]
            sides = _given_sides(measured, given, plan.given) * (-1 if way == TURNED else 1)
        estimate = normals.judged(measured, sides, measured.scattered, MIXED_GIVEN, way)
    return OrientedCloud(points, estimate.normals.astype(np.float64), measured.scattered,
                         measured.scatter > noise.NOISY * measured.spacing)


def _thinner(measured: Measurements, layers: Sheets, most: float,
             toward: np.ndarray | None = None) -> np.ndarray:
    """Normals (N, 3) of a measured cloud's sheets, away from the thinner side of each; most: see
    thickness.thin_sides.

    Large sheets look to the sides of vectors `toward` (N, 3) where they agree on it. Small ones at
    edges and corners, whose points are not much thinner on one side, look as those around them.
    """
    thin = thickness.thin_sides(measured, layers.normals, most)

    def mean_along(sides: np.ndarray) -> np.ndarray:
        along = np.bincount(layers.label, np.einsum("ni,ni->n", layers.normals, sides))
        return np.abs(along / np.maximum(np.bincount(layers.label, sides.any(axis=1)), 1))

    large = np.bincount(layers.label) >= LARGE
    clear = np.bincount(layers.label, thin.any(axis=1)) >= SMALL
    certain = large | (clear & (mean_along(thin) >= CLEAR))
    sides = thin
    if toward is not None:
        follow = large & (mean_along(toward) >= AGREED)
        sides = np.where(follow[layers.label][:, None], toward, thin)
    return normals.turned_as_around(measured, layers, sides, certain)


def _distinct(points: np.ndarray) -> np.ndarray:
    return neighbours.distinct(points)[0]


def _measured(pts_unit: np.ndarray) -> Measurements:
    tree = neighbours.tree_of(pts_unit)
    k = min(KNN, tree.n - 1)
    return Measurements.of(tree, neighbours.kth_distance(tree, k)[:, None], k)
