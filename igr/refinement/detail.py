"""Add the detail that the network smooths away: the points' heights over its surface.

The network smooths. Each cloud point p has a foot b on the network's surface {f = 0}, with the unit
normal n there, and a height h: p = b + h n. The heights are smoothed over the feet (not over the
points: noise moves a point along the normal, its foot hardly), first over many neighbours, then
what is left over fewer and fewer (L2 boosting, Buhlmann & Yu 2003):

    H_0 = 0,   H_{r+1} = H_r + smooth_r(h - H_r)

Points that were left out decide how many rounds r: they must come nearer. On clean clouds that ends
with the fewest neighbours, and the surface passes through the points; on noisy ones it stops at
hundreds, and the noise is averaged away; where the points are too few for more than the network
knows it stops at none. A mesh of {f = 0} becomes one of the surface with detail by moving
each vertex along its normal to the height that is interpolated between the nearest feet. So detail
changes no topology: it can add no piece and no handle. Far from all feet the height fades to 0, and
holes stay the network's.

Outliers are left out, softly, see projection.py. All lengths are in the unit frame.
"""

from __future__ import annotations

from typing import Callable, NamedTuple

from igr.backend import threads
from igr.backend.progress import Watch
from igr.geometry import neighbours
from igr.geometry.meshes import TINY, unit_vectors
from igr.geometry.regression import BLOCK, Samples, patches, tree_order, with_rings
from igr.refinement.projection import Feet, Field, cells_of, feet_of, means, newton_step, weighed

import numpy as np

# a round: points that are averaged to one sample, the samples of a fit, its degree
ROUNDS = ((8, 128, 2), (4, 96, 2), (2, 96, 2), (1, 48, 2), (1, 24, 2), (1, 16, 2), (1, 12, 2))
CLEAN_ROUNDS = ROUNDS[3:]  # where there is hardly any noise
INTERPOLATION = (12, 2)  # neighbours and degree between the feet
REST = (8, 1)  # the same for what the interpolation leaves at the feet
FADE = (1.0, 2.0)  # full and no height, at that many times the distance to the 10th neighbour
SPACING = 10  # that neighbour
CLEAN = 0.5  # if a fit leaves less than this share of the left-out error, there is hardly any noise
CHECKED = 100_000  # points of the cross-validation at most
LEFT_OUT = 0.2  # share of the points, where the training held out none
FEWEST = 100  # points with a foot: fewer tell nothing
NEAR = 0.75  # share of the points that must have a foot: else the cloud is another surface's
MOVED = 1 << 17  # vertices that are moved together: f rounds by the points beside a point


class Report(NamedTuple):
    """How the detail was made."""

    rounds: int  # that were taken
    chosen: bool  # by the left-out points, and not by the caller
    errors: list  # mean distance of the left-out points after 0, 1, ... rounds
    neighbours: int  # points that the last round averages over
    noise: float  # standard deviation of the points around the surface, estimated; 0 if none
    outliers: int  # points with less than half a weight
    near: float  # share of the points that have a foot
    enough: bool  # are there enough points with a foot?

    def __str__(self) -> str:
        if self.near < NEAR:
            return (f"detail: none; only {100 * self.near:.2g} % of the points lie near the "
                    "network's surface")
        if not self.enough:
            return f"detail: none; fewer than {FEWEST} points tell too little"
        if self.rounds == 0:
            return ("detail: none; the points say no more than the network" if self.chosen
                    else "detail: no round, as asked for")
        last = self.errors[min(self.rounds, len(self.errors) - 1)]
        best = min(self.errors) if self.chosen else last
        text = (f"detail: {self.rounds} rounds, left-out points {1e3 * self.errors[0]:.3g} -> "
                f"{1e3 * best:.3g} (thousandths)")
        if self.noise:
            text += f", noise about {self.noise:.2g}, averaged over {self.neighbours} neighbours"
        if self.outliers:
            text += f", {self.outliers} outliers"
        return text


# ------------------------------------------------------------------------------------ the rounds


def averages(feet: Feet, heights: np.ndarray, size: int) -> Samples:
    """Samples that average some `size` feet each with their heights (N,): those in one cell of a
    grid, see cells_of."""
    some = feet._replace(heights=heights).part(feet.weights > 0)
    if size == 1 or len(some.points) < 2:
        return Samples.of(*some)
    return Samples.of(*means(some, _cells_of_some(some, size)))


def _cells_of_some(feet: Feet, size: int) -> np.ndarray:
    """The number (N,) of each foot's cell, of a grid in which a cell has some `size` feet."""
    side = np.ptp(feet.points, axis=0).max()
    wanted = max(1.0, len(feet.points) / size)
    h = side / np.sqrt(wanted)
    for _ in range(4):  # the number of cells falls with the square of their side
        cell = cells_of(feet.points, feet.normals, h)
        cells = cell.max() + 1
        if 0.8 < cells / wanted < 1.25:
            break
        h = min(side, h * np.sqrt(cells / wanted))
    return cell


def smoothed(feet: Feet, others: Feet, rounds):
    """After each round, the sums of the smoothed heights at the feet (N,) and at others (M,).

    boosted() makes the same of rounds that average no points, for which it finds neighbours once:
    this takes half as long again.
    """
    total = np.zeros(len(feet.points))
    there = np.zeros(len(others.points))
    for size, count, degree in rounds:
        samples = averages(feet, feet.heights - total, size)
        if size > 1:  # what so many neighbours leave is smooth: fitted at the averages only
            samples = samples._replace(heights=_fit_or_0(samples, samples, count, degree),
                                       weights=np.ones(len(samples.points)))
            count, degree = INTERPOLATION
        total = total + _fit_or_0(samples, feet, count, degree)
        if len(others.points):
            there = there + _fit_or_0(samples, others, count, degree)
        yield total, there


def _fit_or_0(samples: Samples, at: Feet | Samples, count: int, degree: int) -> np.ndarray:
    return np.nan_to_num(samples.fit(at.points, at.normals, count, degree), nan=0.0)


def left_out_errors(feet: Feet, held_out: np.ndarray):
    """Mean distances, after 0, 1, ... rounds, of the held-out points (mask (N,)) from a surface
    fitted without them, and of the other points from it: two lists. It stops where two rounds in a
    row brought nothing."""
    test = feet.part(held_out & (feet.weights > 0.5))
    rest = feet.part(~held_out)
    inner = rest.weights > 0.5
    if len(test.points) == 0 or not inner.any():
        return [0.0], [0.0]
    before = np.abs(test.heights)
    errors = [float(before.mean())]
    residuals = [float(np.abs(rest.heights[inner]).mean())]
    for here, there in smoothed(rest, test, ROUNDS):
        after = np.abs(test.heights - there)
        chance = float((after - before).std()) / len(before) ** 0.5
        # nearer by chance is not nearer: the first rounds must bring more than that
        errors.append(float(after.mean()) if before.mean() - after.mean() > chance else errors[0])
        residuals.append(float(np.abs(rest.heights - here)[inner].mean()))
        if len(errors) - 1 - int(np.argmin(errors)) >= 2:
            break
    return errors, residuals


def best_rounds(errors: list, residuals: list) -> tuple:
    """The rounds to take: those after which the left-out points are nearest. Where the others are
    then so near that they have hardly any noise, all that do not average points: they alone lead
    to the same heights."""
    best = int(np.argmin(errors))
    if best and residuals[best] < CLEAN * errors[best]:
        return CLEAN_ROUNDS
    return ROUNDS[:best]


def boosted(samples: Samples, rounds: tuple):
    """Rounds of fits at the samples themselves, each of what those before it left: their sums (N,);
    what the interpolation between the sums leaves at the samples (N,); and the distance (N,) of
    each sample to the neighbour of number SPACING. Without rounds the heights are the sums.

    rounds: (number of neighbours, degree). A patch of samples goes through all of them with the
    rings on which it rests, so that neighbours are found once.
    """
    n = len(samples.points)
    watch = Watch("fitting heights", n)
    looks = [count for count, _ in (*rounds, INTERPOLATION)]
    sums = samples.heights
    if rounds:
        left = [samples.heights, *(np.empty(n) for _ in rounds)]
        sums = left[-1]
    rest, spacing = np.empty((2, n))

    def boost(patch: slice) -> None:
        rings = with_rings(samples, patch, looks[:0:-1], max(looks))
        total = np.zeros(len(rings.rows))
        for r, (count, degree) in enumerate(rounds):
            rows, near = rings.inner(len(rounds) - r)
            fitted = samples._replace(heights=left[r]).fit_to(
                near, samples.points[rows], samples.normals[rows], count, degree)
            total = total[: len(rows)] + np.nan_to_num(fitted, nan=0.0)
            # of the rings, too, where other threads write the same numbers
            left[r + 1][rows] = total if r + 1 == len(rounds) else samples.heights[rows] - total
        near = rings.inner(0)[1]
        fitted = samples._replace(heights=sums).fit_to(
            near, samples.points[patch], samples.normals[patch], *INTERPOLATION)
        rest[patch] = sums[patch] - np.nan_to_num(fitted, nan=0.0)
        spacing[patch] = near[0][:, min(SPACING, n - 1)]
        watch.done(patch.stop - patch.start)

    threads.map_each(boost, patches(slice(0, n)))
    return sums, rest, spacing


# ------------------------------------------------------------------------------------ the detail


class Heights(NamedTuple):
    """Smoothed heights at samples of a surface, to interpolate between."""

    samples: Samples
    rest: np.ndarray  # (N,), what the interpolation leaves at the samples
    spacing: np.ndarray  # (N,), the distance of each sample to the neighbour of number SPACING

    def at(self, points: np.ndarray, normals: np.ndarray) -> np.ndarray:
        """Heights (M,) over points (M, 3) of the surface with unit normals (M, 3)."""
        heights = np.empty(len(points))
        rest = self.samples._replace(heights=self.rest)

        def interpolate(block: slice) -> None:
            places = points[block], normals[block]
            near = self.samples.nearest(places[0], INTERPOLATION[0])
            far = near[0][:, 0] / np.maximum(self.spacing[near[1][:, 0]], TINY)
            t = np.clip((FADE[1] - far) / (FADE[1] - FADE[0]), 0, 1)
            fade = t * t * (3 - 2 * t)
            height = self.samples.fit_to(near, *places, *INTERPOLATION)
            height += rest.fit_to(near, *places, *REST)
            heights[block] = fade * np.nan_to_num(height, nan=0.0)

        threads.map_each(interpolate, neighbours.blocks(len(points), BLOCK))
        return heights


class Detail:
    """Heights over the network's surface, and a report on how they were made."""

    def __init__(self, field: Field, samples: Samples, rounds: tuple, report: Report):
        """samples: of the heights, in tree order; rounds: of fits (number of neighbours, degree)
        that smooth them."""
        self.field = field
        self.report = report
        self.fitted: Heights | None = None  # None: no round was taken
        if report.rounds:
            sums, rest, spacing = boosted(samples, rounds)
            self.fitted = Heights(samples._replace(heights=sums), rest, spacing)

    def heights(self, points: np.ndarray, normals: np.ndarray) -> np.ndarray:
        """Heights (M,) over points (M, 3) of the surface with unit normals (M, 3)."""
        return self.fitted.at(points, normals) if self.fitted else np.zeros(len(points))

    def move(self, points: np.ndarray, level: float = 0.0) -> np.ndarray:
        """Vertices (M, 3) of a mesh of {f = level}, moved to the surface with detail: one Newton
        step onto {f = level}, which marching cubes only meets to the second order, and then along
        the normal by the height at the foot."""
        moved = np.empty((len(points), 3))
        watch = Watch("moving vertices", len(points))
        for block in neighbours.blocks(len(points), MOVED):
            moved[block] = moved_by(self.field, self.heights, points[block], level)
            watch.done(block.stop - block.start)
        return moved


def moved_by(field: Field, heights: Callable[[np.ndarray, np.ndarray], np.ndarray],
             points: np.ndarray, level: float = 0.0) -> np.ndarray:
    """Detail.move() of at most MOVED vertices (M, 3). heights: over feet (M, 3) of them on
    {f = 0} with unit normals (M, 3)."""
    f, gradient = field(points)
    gradient = gradient.astype(np.float64)
    feet = points - newton_step(f, gradient)
    normals = unit_vectors(gradient)
    known = np.isfinite(feet).all(axis=1)
    moved = np.array(points, np.float64)
    height = heights(feet[known], normals[known])
    moved[known] += height[:, None] * normals[known] - newton_step(f - level, gradient)[known]
    return moved


def fit(field: Field, points: np.ndarray, rounds: int | None = None,
        held_out: np.ndarray | None = None, cell: float | None = None) -> Detail:
    """The detail of points (N, 3) over the surface {f = 0}.

    field: f and its gradient. rounds: how many; None: as many as bring the left-out points nearer.
    held_out: mask (N,) of those; default: a fifth, at random. cell: side of the cells whose points
    are averaged, where there are more of them than is asked for.
    """
    points, held_out = distinct(points, held_out)
    if held_out is None:
        held_out = np.random.default_rng(0).random(len(points)) < LEFT_OUT
    feet = feet_of(field, points)
    del points
    has_foot = feet.weights > 0
    near = float(has_foot.mean())
    enough = bool(has_foot.sum() >= FEWEST)
    fitted, feet = weighed(feet, cell)
    outliers = int((has_foot & (feet.weights < 0.5)).sum())
    errors, residuals, taken = [0.0], [0.0], ()
    checked = slice(None)
    if enough and near >= NEAR:
        if len(has_foot) > CHECKED:
            checked = np.random.default_rng(0).permutation(len(has_foot))[:CHECKED]
        errors, residuals = left_out_errors(feet.part(checked), held_out[checked])
        taken = best_rounds(errors, residuals) if rounds is None else ROUNDS[:rounds]
    noisy = rounds is None and taken not in ((), CLEAN_ROUNDS)
    share = len(feet.points) / max(1, len(fitted.points))  # points that one fitted foot stands for
    sample = feet.part(checked if noisy and cell else np.arange(0))
    del feet
    heights, fits = smooth_heights(fitted, taken, share)
    rest = np.abs(fitted.heights - heights)[fitted.weights > 0.5] if noisy else np.zeros(1)
    order = np.flatnonzero(fitted.weights > 0)
    order = order[tree_order(fitted.points[order])]
    fitted = fitted._replace(heights=heights).part(order)
    size, count, _ = taken[-1] if taken else (0, 0, 0)
    report = Report(len(taken), rounds is None, errors, size * count, deviation_of(rest), outliers,
                    near, enough)
    detail = Detail(field, Samples.of(*fitted), fits, report)
    if len(sample.points):  # means have less noise than points
        rest = np.abs(sample.heights - detail.heights(sample.points, sample.normals))
        detail.report = report._replace(noise=deviation_of(rest[sample.weights > 0.5]))
    return detail


def deviation_of(distances: np.ndarray) -> float:
    """The standard deviation of normal numbers with these absolute values (N,), by their median."""
    return 1.4826 * float(np.median(distances))


def distinct(points: np.ndarray, held_out: np.ndarray | None):
    """The different ones of points (N, 3), sorted by x, y, z, and which of them were held out, by a
    mask (N,): not those that were held out and seen, too. None stays None."""
    first, group = neighbours.distinct(points)
    if held_out is not None:
        held_out = np.bincount(group, ~held_out) == 0
    return points[first], held_out


def smooth_heights(feet: Feet, rounds: tuple, share: float):
    """The feet's heights (N,) and the rounds of fits (number of neighbours, degree) that still
    smooth them, after those that average feet. share: points that each foot stands for."""
    rounds = tuple((max(1, round(size / share)), *fit) for size, *fit in rounds)
    heights = feet.heights
    if all(size == 1 for size, _, _ in rounds):
        return heights, tuple(tuple(fit) for _, *fit in rounds)
    for heights, _ in smoothed(feet, feet.part(slice(0)), rounds):  # noqa: B007  the last
        pass
    return heights, ()
