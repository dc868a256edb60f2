"""How long and how finely a network is to learn a cloud: by how much its points say.

Many steps and high frequencies bring detail, and where the points are noisy they bring the noise.
results/surfaces.md has what chose the figures.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from helper import UserError
from igr.field.encoding import frequencies_for
from igr.pointcloud import normals
from igr.pointcloud.noise import loose, on_rim, scatter, spacing_of

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


def normals_for(settings: Any, points: np.ndarray, sigma: np.ndarray) -> np.ndarray | None:
    """Normals (N, 3) by winding numbers where train.Settings want them, else None.

    Settings that leave it open want them of many exact points, where they agree on the sides.
    points, sigma: as for complete(). Raises UserError where given normals are wanted as well.
    """
    if settings.with_normals and settings.winding:
        raise UserError("--winding finds normals for points without any: leave out --with-normals")
    left_open = settings.winding is None and not settings.with_normals
    if not (settings.winding or (left_open and not loose(points, sigma, settings.knn))):
        return None
    found, agree = normals.estimated(points)
    return found if settings.winding or agree else None


def complete(settings: Any, points: np.ndarray, sigma: np.ndarray, ranks: int) -> Any:
    """train.Settings with the entries that are None by the cloud; train_epoch may stay None.

    points (N, 3): the training's, unit frame; sigma (N, 1): their distances to the k-th neighbour.
    """
    if settings.batch_size is None:
        settings = replace(settings, batch_size=BATCH[settings.quality])
    if settings.tau is None:
        settings = replace(settings, tau=WINDING_TAU if settings.winding else TAU)
    noisy = False
    if settings.frequencies is None or not (settings.train_epoch or settings.train_iter):
        spacing = spacing_of(sigma, settings.knn)
        noisy = scatter(points) > NOISY * spacing
    if settings.frequencies is None:
        settings = replace(settings, frequencies=0 if noisy else frequencies_for(spacing))
    if not (settings.train_epoch or settings.train_iter):
        steps = (STEPS_WITH_WINDING if settings.winding else STEPS)[settings.quality]
        settings = replace(settings, train_iter=min(steps, NOISY_STEPS) if noisy else steps)
    if settings.learning_rate is None:
        per_epoch = max(1, len(points) // (settings.batch_size * ranks))
        steps = settings.train_iter or settings.train_epoch * per_epoch
        settings = replace(
            settings, learning_rate=rate_for(settings.solver, steps, settings.winding))
    return settings


def rate_for(solver: str, steps: int, winding: bool) -> float:
    """The largest rate of a run; winding: with normals by winding numbers."""
    if solver == "adam":
        return ADAM_RATE
    return 2 * RATE if winding or steps <= SHORT else RATE


def dead_zone(points: np.ndarray, sigma: np.ndarray, knn: int) -> np.ndarray:
    """The distance (N, 1) from each of points (N, 3) up to which the surface-to-point term leaves
    the surface as it is.

    The surface lies at dense and exact points: 0. Between few points it bends, and inexact ones lie
    beside it: their k-th neighbours' distance sigma (N, 1). A rim's is infinite: what closes the
    surface there has no points to lie at. (Pulled to the rim of a tube, its lid sinks into it and
    joins the wall, in tatters.)
    """
    zone = sigma.copy() if loose(points, sigma, knn) else np.zeros_like(sigma)
    zone[on_rim(points)] = np.inf
    return zone
