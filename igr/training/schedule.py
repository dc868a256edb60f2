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

STEPS = {"draft": 1_000, "normal": 4_000, "fine": 20_000}
SCATTERED_STEPS = {**STEPS, "normal": 2_000}  # of scattered ones: more bring nothing
NOISY_STEPS = 2_000  # at most
BATCH = {"draft": 256, "normal": 512, "fine": 512}
TAU = 1.0  # of normals that are given, or of quadrics over many scattered points
EXACT_TAU = 0.3  # of exact points, whose quadrics are rough where the surface is
TOLERANCE = 0.3  # of estimated normals of noisy points, 17 degrees: directions teach their noise
RATE = 0.0025  # Muon's, at any length where the sides are known,
SHORT = 4_000  # and up to so many steps where they are not; beyond, half of it
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
    """The entries of train.Settings that are None, by the cloud: {name: value}. train_epoch may
    stay None, and one of train_iter and train_epoch is enough."""
    measured = cloud.measured
    noisy = measured.scatter > NOISY * measured.spacing
    batch = settings.batch_size or BATCH[settings.quality]
    if settings.train_epoch or settings.train_iter:
        iterations = settings.train_iter
    else:
        iterations = (SCATTERED_STEPS if measured.scattered else STEPS)[settings.quality]
        iterations = min(iterations, NOISY_STEPS) if noisy else iterations
    per_epoch = max(1, len(cloud.points) // batch)
    steps = iterations or settings.train_epoch * per_epoch
    sides_known = settings.winding or settings.with_normals
    chosen = {
        "batch_size": batch,
        "train_iter": iterations,
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
    return RATE if sides_known or steps <= SHORT else RATE / 2
