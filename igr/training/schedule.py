"""Choose steps, batch, weights, rate and frequencies from the cloud's size, spacing and noise.

Many steps and high frequencies bring detail, and where the points are noisy they bring the noise.
results/surfaces.md has what chose the figures. A cloud is a datasets.PointCloud.
"""

from __future__ import annotations

from typing import Any

from helper import UserError, log
from igr.field.encoding import frequencies_for
from igr.pointcloud import normals
from igr.pointcloud.noise import NOISY

import numpy as np

STEPS = {"draft": 700, "normal": 3_000, "fine": 20_000}  # at most
SCATTERED_STEPS = {"draft": 700, "normal": 1_000, "fine": 3_000}  # of scattered points, at most
BLIND_STEPS = {"draft": 1_000, "normal": 4_000, "fine": 20_000}  # where the sides are not known
DIMS = {"draft": 96, "normal": 96, "fine": 128}
BLIND_DIMS = 128
BATCH, BLIND_BATCH = 1024, 512
FREE = 8  # points of the batch for one of free space, where the sides are known
ENOUGH = {"draft": 0.1, "normal": 0.1, "fine": 0.0}  # see settling.reason_to_end
OPENING = 0.5  # share of the run during which the frequencies open,
OPENED = 1_000  # and at most so many steps
TAU = 1.0  # of normals that are given, or of quadrics over many scattered points
EXACT_TAU = 0.3  # of exact points, whose quadrics are rough where the surface is
TOLERANCE = 0.3  # of estimated normals of noisy points, 17 degrees: directions teach their noise
RATE = 0.004  # Muon's, up to LONG steps where the sides are known,
SLOW = 0.0025  # beyond, and up to SHORT steps where they are not,
LONG = 5_000
SHORT = 4_000  # beyond which it is half of that
ADAM_RATE = 0.005  # results/study.md


def normals_for(settings: Any, cloud: Any) -> np.ndarray | None:
    """Estimated normals (N, 3) where train.Settings want them, else None.

    Settings that leave it open want them where neighbours agree on the sides, but not of few
    points: their quadrics are coarser than what the network finds by itself. Those that ask for
    them do not look at the file's. Raises UserError where these are wanted as well.
    """
    if settings.with_normals and settings.winding:
        raise UserError("--winding finds normals for points without any: leave out --with-normals")
    left_open = settings.winding is None and not settings.with_normals
    if not (settings.winding or (left_open and not cloud.measured.few)):
        return None
    measured = cloud.measured._replace(given=None) if settings.winding else cloud.measured
    estimate = normals.estimated(measured)
    used = bool(settings.winding or estimate.agree)
    log.info(f"sides: {estimate.report}" + ("" if used else "; training without normals"))
    return estimate.normals if used else None


def choose(settings: Any, cloud: Any) -> dict[str, Any]:
    """The entries of train.Settings that are None, by the cloud: {name: value}. All of train_iter,
    train_epoch and max_iter may stay None but one."""
    measured = cloud.measured
    noisy = measured.scatter > NOISY * measured.spacing
    sides_known = bool(settings.winding or settings.with_normals)
    batch = settings.batch_size or (BATCH if sides_known else BLIND_BATCH)
    by_quality = SCATTERED_STEPS if measured.scattered else STEPS
    longest = (by_quality if sides_known else BLIND_STEPS)[settings.quality]
    length = {}
    if not (settings.train_iter or settings.train_epoch or settings.max_iter):
        length = {"max_iter" if sides_known else "train_iter": longest}
    per_epoch = max(1, len(cloud.points) // batch)
    steps = (settings.train_iter or (settings.train_epoch or 0) * per_epoch or settings.max_iter
             or longest)
    free = max(1, batch // FREE) if sides_known else batch
    chosen = {
        "batch_size": batch,
        "uniform": free,
        "near": settings.uniform or free,
        **length,
        "dims": DIMS[settings.quality] if sides_known else BLIND_DIMS,
        "tau": EXACT_TAU if settings.winding and not measured.scattered else TAU,
        "tolerance": TOLERANCE if settings.winding and noisy else 0.0,
        "frequencies": 0 if noisy else frequencies_for(measured.spacing),
        "learning_rate": rate_for(settings.solver, steps, sides_known),
    }
    return {name: value for name, value in chosen.items() if getattr(settings, name) is None}


def rate_for(solver: str, steps: int, sides_known: bool) -> float:
    """The largest rate of a run; sides_known: with normals, given or estimated."""
    if solver == "adam":
        return ADAM_RATE
    if sides_known:
        return RATE if steps <= LONG else SLOW
    return SLOW if steps <= SHORT else SLOW / 2


def opening_of(steps: int, settles: bool) -> int:
    """During how many of a run's steps the frequencies open; settles: it may end by evidence."""
    half = max(1, round(OPENING * steps))
    return min(OPENED, half) if settles else half
