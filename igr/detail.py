"""Detail: what the points say beyond the network, as heights over the network's surface.

The network smooths. Each cloud point p has a foot b on the network's surface {f = 0}, with the unit
normal n there, and a height h: p = b + h n. The heights are smoothed over the feet (not over the
points: noise moves a point along the normal, its foot hardly), first over many neighbours, then
what is left over fewer and fewer (L2 boosting, Buhlmann & Yu 2003):

    H_0 = 0,   H_{r+1} = H_r + smooth_r(h - H_r)

How many rounds r is decided by points that were left out: they must come nearer. On clean clouds
that ends with the fewest neighbours, and the surface passes through the points; on noisy ones it
stops at hundreds, and the noise is averaged away; where the points are too few for more than the
network knows it stops at none. A mesh of {f = 0} becomes one of the surface with detail by moving
each vertex along its normal to the height that is interpolated between the nearest feet. So detail
changes no topology: it can add no piece and no handle. Far from all feet the height fades to 0, and
holes stay the network's.

A point far from what its neighbours say (an outlier) is left out, softly: Tukey's bisquare weight
of its distance from the neighbours' median, in parts of the usual such distance there.

All lengths are in the unit frame.
"""

from __future__ import annotations

from typing import Callable, NamedTuple

from igr import threads
from igr.meshes import unit_vectors
from igr.regression import Samples, agreeing_medians

import numpy as np
from scipy.spatial import cKDTree

# a round: points that are averaged to one sample, the samples of a fit, its degree
ROUNDS = ((8, 128, 2), (4, 96, 2), (2, 96, 2), (1, 48, 2), (1, 24, 2), (1, 16, 2), (1, 12, 2))
CLEAN_ROUNDS = ROUNDS[3:]  # where there is hardly any noise
INTERPOLATION = (12, 2)  # neighbours and degree between the feet
REST = (8, 1)  # the same for what the interpolation leaves at the feet
REACH = 0.1  # a height above that is no detail
SLIP = 0.2  # largest sideways offset of a foot, relative to the height
OUTLIER = 8.0  # bisquare's width, in median deviations
SMALL = 0.25  # spacing; a point nearer than that to what its neighbours say is no outlier
FADE = (1.0, 2.0)  # full and no height, at that many times the distance to the 10th neighbour
SPACING = 10  # that neighbour
CLEAN = 0.5  # if a fit leaves less than this share of the left-out error, there is hardly any noise
CHECKED = 100_000  # points of the cross-validation at most
NEWTON_STEPS = 3
THERE = 1e-6  # |f| at a foot: no further step
FEWEST = 100  # points with a foot: fewer tell nothing
NEAR = 0.75  # share of the points that must have a foot: else the cloud is another surface's

Field = Callable[[np.ndarray], "tuple[np.ndarray, np.ndarray]"]  # points -> f (N,), grad f (N, 3)


class Feet(NamedTuple):
    """The places on the network's surface below some points."""

    points: np.ndarray  # (N, 3), on {f = 0}
    normals: np.ndarray  # (N, 3), unit length, towards larger f
    heights: np.ndarray  # (N,), of the points above them
    weights: np.ndarray  # (N,), 0 where the foot is none or the point an outlier, else up to 1

    def some(self, index) -> Feet:
        """Those that an index or mask selects."""
        return Feet(*(array[index] for array in self))


class Report(NamedTuple):
    """What was found."""

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


# ------------------------------------------------------------------------------------- the feet


def project(field: Field, points: np.ndarray, steps: int = NEWTON_STEPS):
    """Points (N, 3) on {f = 0} near points (N, 3), by Newton's method along the gradient, and the
    unit normals (N, 3) and |f| (N,) there."""
    at = np.array(points, np.float64)
    f, gradient = field(at)
    off = np.abs(f)
    gradient = gradient.astype(np.float64)
    for _ in range(steps):
        going = np.flatnonzero(~(off <= THERE))
        if len(going) == 0:
            break
        slope = np.maximum((gradient[going] ** 2).sum(axis=1), 0.1)
        at[going] -= np.clip(f[going] / slope, -REACH, REACH)[:, None] * gradient[going]
        f[going], gradient[going] = field(at[going])
        off[going] = np.abs(f[going])
    return at, unit_vectors(gradient), off


def feet_of(field: Field, points: np.ndarray) -> Feet:
    """The feet of points (N, 3). A foot has weight 0 where Newton's method found none within REACH,
    or where the point is not above it."""
    at, normals, off = project(field, points)
    away = points - at
    heights = (away * normals).sum(axis=1)
    beside = np.linalg.norm(away - heights[:, None] * normals, axis=1)
    with np.errstate(invalid="ignore"):
        good = (off < 1e-3) & (np.abs(heights) < REACH)
        good &= beside <= SLIP * np.abs(heights) + 1e-4
        good &= np.isfinite(normals).all(axis=1) & (np.abs(normals).max(axis=1) > 0)
    at[~good] = points[~good]
    normals[~good] = (0.0, 0.0, 1.0)
    heights[~good] = 0.0
    return Feet(at, normals, heights, good.astype(np.float64))


def weigh_outliers(feet: Feet, neighbours: int = 12) -> Feet:
    """The feet with bisquare weights for their heights' distance from the neighbours' median; those
    without a foot keep weight 0."""
    used = np.flatnonzero(feet.weights > 0)
    k = min(neighbours, len(used) - 1)
    if k < 3:
        return feet
    points = feet.points[used]
    normals = feet.normals[used]
    heights = feet.heights[used]
    tree = cKDTree(points, compact_nodes=False, balanced_tree=False)
    distance, index = tree.query(points, k=k + 1, workers=threads.count())
    deviation = np.abs(heights - agreeing_medians(index[:, 1:], normals, heights))
    usual = np.maximum(agreeing_medians(index, normals, deviation), np.median(deviation))
    width = np.maximum(OUTLIER * usual, SMALL * np.median(distance[:, k]) / k**0.5)
    t = np.minimum(deviation / (width + 1e-12), 1)
    weights = np.zeros(len(feet.points))
    weights[used] = (1 - t**2) ** 2
    return feet._replace(weights=weights)


# ------------------------------------------------------------------------------------ the rounds


def averages(feet: Feet, heights: np.ndarray, size: int) -> Samples:
    """Samples that average some `size` feet each with their heights (N,): those in one cell of a
    grid whose normals point to the same side of a cube, so the sides of a thin sheet stay apart."""
    used = feet.weights > 0
    points = feet.points[used]
    normals = feet.normals[used]
    weights = feet.weights[used]
    values = heights[used]
    if size == 1 or len(points) < 2:
        return Samples.of(points, normals, values, weights)
    axis = np.abs(normals).argmax(axis=1)
    face = 2 * axis + (normals[np.arange(len(axis)), axis] > 0)
    cell = _cells_of(points, face, size)
    total = np.bincount(cell, weights)

    def mean(columns):
        summed = [np.bincount(cell, weights * column) for column in columns.T]
        return np.stack(summed, axis=1) / total[:, None]

    return Samples.of(mean(points), unit_vectors(mean(normals)), mean(values[:, None])[:, 0], total)


def _cells_of(points: np.ndarray, face: np.ndarray, size: int) -> np.ndarray:
    """The number (N,) of each point's cell, of a grid in which a cell has some `size` points."""
    low = points.min(axis=0)
    side = np.ptp(points, axis=0).max()
    wanted = max(1.0, len(points) / size)
    h = side / np.sqrt(wanted)
    for _ in range(4):  # the number of cells falls with the square of their side
        index = ((points - low) / max(h, 1e-12)).astype(np.int64)
        key = ((index[:, 0] << 40) | (index[:, 1] << 20) | index[:, 2]) * 6 + face
        cells, cell = np.unique(key, return_inverse=True)
        if 0.8 < len(cells) / wanted < 1.25:
            break
        h = min(side, h * np.sqrt(len(cells) / wanted))
    return cell.reshape(-1)


def smoothed(feet: Feet, others: Feet, rounds):
    """After each round, the sums of the smoothed heights at the feet (N,) and at others (M,)."""
    total = np.zeros(len(feet.points))
    there = np.zeros(len(others.points))
    for size, neighbours, degree in rounds:
        samples = averages(feet, feet.heights - total, size)
        if size > 1:  # what so many neighbours leave is smooth: fitted at the averages only
            samples = samples._replace(heights=_fit_or_0(samples, samples, neighbours, degree),
                                       weights=np.ones(len(samples.points)))
            neighbours, degree = INTERPOLATION
        total = total + _fit_or_0(samples, feet, neighbours, degree)
        if len(others.points):
            there = there + _fit_or_0(samples, others, neighbours, degree)
        yield total, there


def _fit_or_0(samples: Samples, at: Feet | Samples, neighbours: int, degree: int) -> np.ndarray:
    return np.nan_to_num(samples.fit(at.points, at.normals, neighbours, degree), nan=0.0)


def left_out_errors(feet: Feet, held_out: np.ndarray):
    """Mean distances, after 0, 1, ... rounds, of the held-out points (mask (N,)) from a surface
    fitted without them, and of the other points from it: two lists. It stops where two rounds in a
    row brought nothing."""
    test = feet.some(held_out & (feet.weights > 0.5))
    rest = feet.some(~held_out)
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


# ------------------------------------------------------------------------------------ the detail


class Detail:
    """Heights over the network's surface, and what was found when they were made."""

    def __init__(self, field: Field, feet: Feet, report: Report):
        """feet: with smoothed heights; those with weight 0 are left out."""
        feet = feet.some(feet.weights > 0)
        self.field = field
        self.report = report
        self.samples = Samples.of(*feet)
        self.rest = self.samples
        if len(feet.points):
            rest = feet.heights - _fit_or_0(self.samples, feet, *INTERPOLATION)
            self.rest = self.samples._replace(heights=rest)
            k = min(SPACING + 1, len(feet.points))
            self.spacing = self.samples.tree.query(feet.points, k=[k], workers=threads.count())[0]

    def heights(self, points: np.ndarray, normals: np.ndarray) -> np.ndarray:
        """Heights (M,) over points (M, 3) of the surface with unit normals (M, 3)."""
        if self.report.rounds == 0:
            return np.zeros(len(points))
        distance, nearest = self.samples.tree.query(points, workers=threads.count())
        far = distance / np.maximum(self.spacing[nearest, 0], 1e-12)
        t = np.clip((FADE[1] - far) / (FADE[1] - FADE[0]), 0, 1)
        fade = t * t * (3 - 2 * t)
        found = self.samples.fit(points, normals, *INTERPOLATION)
        found += self.rest.fit(points, normals, *REST)
        return fade * np.nan_to_num(found, nan=0.0)

    def move(self, points: np.ndarray, level: float = 0.0) -> np.ndarray:
        """Vertices (M, 3) of a mesh of {f = level}, moved to the surface with detail: one Newton
        step onto {f = level}, which marching cubes only meets to the second order, and then along
        the normal by the height at the foot."""
        f, gradient = self.field(points)
        gradient = gradient.astype(np.float64)
        slope = np.maximum((gradient**2).sum(axis=1, keepdims=True), 0.1)
        step = np.clip((f[:, None] - level) / slope, -REACH, REACH) * gradient
        feet = points - np.clip(f[:, None] / slope, -REACH, REACH) * gradient
        normals = unit_vectors(gradient)
        known = np.isfinite(feet).all(axis=1)
        moved = np.array(points, np.float64)
        heights = self.heights(feet[known], normals[known])
        moved[known] += heights[:, None] * normals[known] - step[known]
        return moved


def fit(field: Field, points: np.ndarray, rounds: int | None = None,
        held_out: np.ndarray | None = None, seed: int = 0) -> Detail:
    """The detail of points (N, 3) over the surface {f = 0}.

    field: f and its gradient. rounds: how many; None: as many as bring the left-out points nearer.
    held_out: mask (N,) of those; default: a fifth, at random.
    """
    points, place = np.unique(points, axis=0, return_inverse=True)
    if held_out is None:
        held_out = np.random.default_rng(seed).random(len(points)) < 0.2
    else:  # a point that was held out and seen, too, was seen
        held_out = np.bincount(place.reshape(-1), ~held_out) == 0
    feet = feet_of(field, points)
    has_foot = feet.weights > 0
    near = float(has_foot.mean())
    enough = bool(has_foot.sum() >= FEWEST)
    feet = weigh_outliers(feet)
    errors, residuals, taken = [0.0], [0.0], ()
    if enough and near >= NEAR:
        checked = slice(None)
        if len(points) > CHECKED:
            checked = np.random.default_rng(seed).permutation(len(points))[:CHECKED]
        errors, residuals = left_out_errors(feet.some(checked), held_out[checked])
        taken = best_rounds(errors, residuals) if rounds is None else ROUNDS[:rounds]
    heights = np.zeros(len(feet.points))
    for heights, _ in smoothed(feet, feet.some(slice(0)), taken):  # noqa: B007  the last
        pass
    size, neighbours, _ = taken[-1] if taken else (0, 0, 0)
    rest = np.abs(feet.heights - heights)[feet.weights > 0.5]
    is_noisy = rounds is None and taken not in ((), CLEAN_ROUNDS) and len(rest) > 0
    noise = 1.4826 * float(np.median(rest)) if is_noisy else 0.0
    outliers = int((has_foot & (feet.weights < 0.5)).sum())
    report = Report(len(taken), rounds is None, errors, size * neighbours, noise, outliers, near,
                    enough)
    return Detail(field, feet._replace(heights=heights), report)
