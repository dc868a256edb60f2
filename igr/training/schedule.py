"""Choose steps, batch, rate and frequencies from the cloud's size, spacing and noise.

Many steps and high frequencies bring detail, and where the points are noisy they bring the noise.
results/surfaces.md has what chose the figures. A cloud is a datasets.PointCloud.
"""

from __future__ import annotations

from typing import Any

from helper import UserError
from igr.field.encoding import frequencies_for
from igr.pointcloud import normals

import numpy as np

STEPS = {"draft": 1_000, "normal": 8_000, "fine": 20_000}  # normal: some five core minutes
STEPS_WITH_WINDING = {**STEPS, "normal": 4_000}  # some three; results/surfaces.md
BATCH = {"draft": 256, "normal": 512, "fine": 512}
NOISY_STEPS = 2_000  # at most
NOISY = 0.6  # scatter in spacings of the points, above which they are noisy
TAU = 1.0
WINDING_TAU = 0.3  # these normals are rough where the surface is
RATE = 0.00125  # Muon's
SHORT = 4_000  # steps, up to which it is twice that, as it is with winding numbers
ADAM_RATE = 0.005  # results/study.md


def normals_for(settings: Any, cloud: Any) -> np.ndarray | None:
    """Normals (N, 3) by winding numbers where train.Settings want them, else None.

    Settings that leave it open want them of many exact points, where they agree on the sides.
    Raises UserError where given normals are wanted as well.
    """
    if settings.with_normals and settings.winding:
        raise UserError("--winding finds normals for points without any: leave out --with-normals")
    left_open = settings.winding is None and not settings.with_normals
    if not (settings.winding or (left_open and not cloud.measured.inexact)):
        return None
    estimated, agree = normals.estimated(cloud.measured.tree)
    return estimated if settings.winding or agree else None


def choose(settings: Any, cloud: Any, ranks: int) -> dict[str, Any]:
    """The entries of train.Settings that are None, by the cloud: {name: value}. train_epoch may
    stay None, and one of train_iter and train_epoch is enough."""
    measured = cloud.measured
    noisy = measured.scatter > NOISY * measured.spacing
    batch = settings.batch_size or BATCH[settings.quality]
    if settings.train_epoch or settings.train_iter:
        iterations = settings.train_iter
    else:
        iterations = (STEPS_WITH_WINDING if settings.winding else STEPS)[settings.quality]
        iterations = min(iterations, NOISY_STEPS) if noisy else iterations
    per_epoch = max(1, len(cloud.points) // (batch * ranks))
    steps = iterations or settings.train_epoch * per_epoch
    chosen = {
        "batch_size": batch,
        "train_iter": iterations,
        "tau": WINDING_TAU if settings.winding else TAU,
        "frequencies": 0 if noisy else frequencies_for(measured.spacing),
        "learning_rate": rate_for(settings.solver, steps, settings.winding),
    }
    return {name: value for name, value in chosen.items() if getattr(settings, name) is None}


def rate_for(solver: str, steps: int, winding: bool) -> float:
    """The largest rate of a run; winding: with normals by winding numbers."""
    if solver == "adam":
        return ADAM_RATE
    return 2 * RATE if winding or steps <= SHORT else RATE
