"""Check the given normals of a cloud, or estimate missing ones from winding numbers and quadrics.

Lengths are in the unit frame. igr/refinement/orientation.py has the normals after a training.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

from helper import UserError, log
from igr.geometry import neighbours
from igr.geometry.meshes import TINY, turn_against, unit_vectors
from igr.geometry.regression import QUADRIC, of_quadrics
from igr.pointcloud.noise import Measurements
from igr.pointcloud.sheets import Sheets, pairs_on_sheets

import numpy as np

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

ORIENTED = 1 << 16  # points whose sides winding numbers tell; the others follow these
FOLLOWED = 4  # of them
COARSE = 4_096  # fewest points of an iteration; more bring nothing while the widths are wide
ITERATIONS = (12, 24)  # the second where neighbours do not agree after the first
PER_SCATTER = 150  # neighbours of a quadric, beside QUADRIC, for a scatter of one spacing
SMOOTHED = (36, 96)  # fewest and most of them, where points scatter
PLANE = 48  # neighbours of a plane at most, by which sheets are followed
MIXED = 0.3  # pairs of neighbours with opposite normals, in square roots of the number of points
MIXED_SHEETS = 0.6  # the same of exact points whose sides were told along sheets
MIXED_SCATTERED = 2.0  # the same of points that scatter, some of which stand on their heads
MIXED_GIVEN = 1.0  # the same of a file's normals; clean scans have up to 0.53
MENDED = 0.05  # share of a file's normals that may be missing
AROUND = 3  # times that the uncertain sheets are turned as the others around them
AREA_NEIGHBOUR = 10  # whose distance tells the area that a point stands for
TURNED = 0.75  # from 1/2: winding numbers that are farther are those of a part turned round
MANY_TURNED = 0.02  # share of such points
ALONG = 0.7  # median cosine, of whatever sign, of right directions with estimated ones; random: 0.5


class Estimate(NamedTuple):
    """Normals of a cloud without any, and how their sides were told."""

    normals: np.ndarray  # (N, 3) float32, unit
    agree: bool  # neighbours agree on the sides
    report: str  # how the sides were told, in a line
    view: np.ndarray | None = None  # (3,), unit: all of an open cloud faces this direction


def estimated(measured: Measurements) -> Estimate:
    """Normals, outwards, of a measured cloud's points in random order: those of quadrics, with
    sides that are told by the first of these that neighbours agree on:

    - a direction that the whole cloud faces, as a height field or a depth image does;
    - normals of the file, if they face outwards;
    - winding numbers, with points taken as exact unless they scatter, and as scattered where
      neighbours do not agree on the sides of exact ones;
    - neighbours along each sheet, of which winding numbers tell to which side most of it looks.

    Raises UserError where the points span no size.
    """
    of_sides = functools.partial(judged, measured)
    sheets = sheets_of(measured)
    view = sheets.view(measured)
    if view is not None:
        toward = " ".join(f"{x:.2f}" for x in view)
        estimate = of_sides(sheets.turned_to(view), measured.scattered, MIXED_SHEETS,
                          f"all points face ({toward})")
        if estimate.agree:
            return estimate._replace(view=view)
    given = outwards(measured)
    if given is not None:
        estimate = of_sides(given, measured.scattered, MIXED_GIVEN, "by the file's normals")
        if estimate.agree:
            return estimate
    ways = [(iterations, True) for iterations in ITERATIONS]
    if not measured.scattered:
        ways = [(iterations, False) for iterations in ITERATIONS] + ways[:1]
    for iterations, scattered in ways:
        sides = by_winding(measured, iterations, scattered, COARSE)
        estimate = of_sides(sides, scattered, MIXED, "by winding numbers")
        if estimate.agree:
            return estimate
        estimate = of_sides(sheets.turned_to(sides), scattered, MIXED_SHEETS,
                          "by neighbours on each sheet")
        if estimate.agree:
            return estimate
    return estimate._replace(report="neighbours do not agree on them")


def following(measured: Measurements, points: np.ndarray, normals: np.ndarray) -> Estimate:
    """Normals of a measured cloud's points with the sides of others nearby: points (M, 3) of the
    same surface with unit normals (M, 3). Where neighbours do not agree on the sides of the nearest
    ones, each sheet takes those of most of its points."""
    sides = sides_nearby(measured.tree.data, points, normals)
    estimate = judged(measured, sides, measured.scattered, MIXED, "as the nearest")
    if estimate.agree:
        return estimate
    return judged(measured, sheets_of(measured).turned_to(sides), measured.scattered,
                  MIXED_SHEETS, "by neighbours on each sheet")


def judged(measured: Measurements, sides: np.ndarray, scattered: bool, most: float,
           report: str) -> Estimate:
    """The normals of quadrics on the sides of vectors (N, 3), and whether neighbours agree."""
    found = of_quadrics(measured.tree, sides, quadric_size(measured, scattered))
    agree = sides_agree(measured.tree, found, MIXED_SCATTERED if scattered else most)
    return Estimate(found.astype(np.float32), agree, report)


def sheets_of(measured: Measurements) -> Sheets:
    """The sheets of a measured cloud's points."""
    return Sheets.of(measured.tree, min(quadric_size(measured, measured.scattered), PLANE))


def outwards(measured: Measurements) -> np.ndarray | None:
    """The given normals (N, 3) at length 1, all turned round where most look inwards, as from
    within a room; None where it has none, or where some are zero or parts look inwards."""
    if measured.given is None:
        return None
    given = unit_vectors(measured.given)
    points = measured.tree.data
    if not given.any(axis=1).all():
        return None
    if ((points - points.mean(axis=0)) * given).sum() < 0:  # see unit_normals
        given = -given
    return given if _share_turned(measured.tree, given) < MANY_TURNED else None


def quadric_size(measured: Measurements, scattered: bool) -> int:
    """The number of neighbours that a quadric is fitted to."""
    if not scattered:
        return QUADRIC
    wider = PER_SCATTER * measured.scatter / max(measured.spacing, TINY)
    return int(np.clip(QUADRIC + wider, *SMOOTHED))


def by_winding(measured: Measurements, iterations: int, scattered: bool,
               fewest: int | None) -> np.ndarray:
    """Rough unit normals (N, 3) with the sides that winding numbers tell. The more points scatter,
    the wider are the widths. fewest: see winding.normals_of."""
    from igr.pointcloud import winding  # here: numba takes its time

    first = measured.tree.data[:ORIENTED]
    scatter = measured.scatter if scattered else None
    widths = winding.widths(iterations, measured.spacing, scatter)
    rough = winding.normals_of(first, widths, fewest)
    if len(first) == measured.tree.n:
        return rough
    return sides_nearby(measured.tree.data, first, rough)


def sides_nearby(places: np.ndarray, points: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Unit vectors (N, 3) at places (N, 3): the mean of the normals (M, 3) of the nearest of points
    (M, 3), M >= FOLLOWED."""
    return unit_vectors(neighbours.interpolated(places, points, normals, FOLLOWED))


def sides_agree(tree: cKDTree, normals: np.ndarray, most: float = MIXED) -> bool:
    """Do normals (N, 3) at a tree's points look to one side of each sheet, but for `most` pairs of
    neighbours, in square roots of N?

    An open sheet without much of an inside, such as a terrain, has parts that winding numbers turn
    one way and parts that they turn the other; where these meet, neighbours have opposite normals.
    """
    return pairs_on_sheets(tree, normals).opposite() <= most * len(normals) ** 0.5


# ------------------------------------------------------------------------------ normals of a file


def trusted(measured: Measurements, normals: np.ndarray, path) -> np.ndarray:
    """Unit normals (N, 3) of a file, of a cloud's points in random order, with the sides of the
    estimated ones where neighbours, or a part and the rest, do not agree on their own; warns of it.

    Raises UserError where the estimate does not tell the sides of such normals either, or where
    their directions are wrong, too.
    """
    pairs = pairs_on_sheets(measured.tree, normals)
    share = pairs.opposite() / max(1, len(pairs.first))
    mixed = pairs.opposite() > MIXED_GIVEN * len(normals) ** 0.5
    turned = _share_turned(measured.tree, normals)
    if not mixed and turned < MANY_TURNED:
        return normals
    estimate = estimated(measured)
    oriented = turn_against(normals, -estimate.normals)
    along = np.median(np.abs(np.einsum("ni,ni->n", normals, estimate.normals)))
    agree = (estimate.agree and along > ALONG
             and sides_agree(measured.tree, oriented, MIXED_SCATTERED))
    if not mixed and not (agree and _share_turned(measured.tree, oriented) < turned / 2):
        return normals  # as of an open sheet around an inside
    if not agree:
        raise UserError(f"{path}: {100 * share:.2g} % of neighbouring normals look in opposite "
                        "directions, and the points do not tell which are right; leave out "
                        "--with-normals")
    changed = (oriented != normals).any(axis=1).mean()
    why = f"{100 * share:.2g} % of neighbouring normals look in opposite directions" if mixed \
        else "the normals of parts look inwards"
    log.warning(f"{path}: {why}; {100 * changed:.2g} % of all are turned round ({estimate.report})")
    return oriented


def _share_turned(tree: cKDTree, normals: np.ndarray) -> float:
    """The share of a tree's points that lie far inside or outside by the winding numbers of their
    own unit normals (N, 3), as a closed part does that is turned round."""
    return float((np.abs(winding_numbers(tree, normals) - 0.5) > TURNED).mean())


def winding_numbers(tree: cKDTree, normals: np.ndarray) -> np.ndarray:
    """Winding numbers (N,) at a tree's points by their own unit normals (N, 3): 1/2 where all look
    outwards and nothing is missing."""
    from igr.pointcloud import winding  # here: numba takes its time

    area, reach = _areas(tree)
    return winding.numbers_of(tree.data, area * normals, reach / 2)


def _areas(tree: cKDTree) -> tuple[np.ndarray, float]:
    """The areas (N, 1) that a tree's points stand for, and the median distance to the neighbour of
    number AREA_NEIGHBOUR, which tells them."""
    k = min(AREA_NEIGHBOUR, tree.n - 1)
    reach = neighbours.kth_distance(tree, k)
    return np.pi * neighbours.spacing_of(reach, k)[:, None] ** 2, float(np.median(reach))


def turned_as_around(measured: Measurements, layers: Sheets, sides: np.ndarray,
                     certain: np.ndarray) -> np.ndarray:
    """Normals (N, 3) of a measured cloud's sheets: those that are certain, mask (S,), look to the
    sides of vectors (N, 3), the others to where the winding number falls: first that of the certain
    ones, then that of all."""
    from igr.pointcloud import winding  # here: numba takes its time

    known = certain[layers.label][:, None]
    turned = layers.turned_to(sides)
    area, _ = _areas(measured.tree)
    vectors = area * known * turned
    for _ in range(AROUND):
        falls = winding.falls_of(measured.tree.data, vectors, 2 * measured.spacing)
        turned = np.where(known, turned, layers.turned_to(falls))
        vectors = area * turned
    return turned


def unit_normals(points: np.ndarray, normals: np.ndarray, path) -> np.ndarray:
    """Normals (N, 3) of points (N, 3) at length 1 and looking outwards; warns of what it changed.

    Few that are zero or not finite become those of the nearest points that have one. Raises
    UserError for more.
    """
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    bad = ~(np.isfinite(length) & (length > 0))[:, 0]
    if bad.any():
        said = f"{path}: {bad.sum()} of {len(normals)} normals are zero or not finite"
        if bad.mean() > MENDED:
            raise UserError(f"{said}; leave out --with-normals or mend them")
        log.warning(f"{said}: the nearest points' are taken")
        normals = normals.copy()
        normals[bad] = normals[~bad][neighbours.nearest(points[bad], points[~bad])[1]]
        length = np.linalg.norm(normals, axis=1, keepdims=True)
    if np.abs(length - 1).max() > 0.01:
        log.warning(f"{path}: normals of length {length.min():.3g} to {length.max():.3g}, set to 1")
    normals = normals / length
    # over a closed surface the integral of <x, n> is three times the volume
    if ((points - points.mean(axis=0)) * normals).sum(axis=1).mean() < 0:
        log.warning(f"{path}: the normals look inwards, turned round")
        return -normals
    return normals
