"""Steps, batch, rate and frequencies by the number and the noise of the points."""

from dataclasses import replace

from datasets import PointCloud
from helper import UserError
from igr.geometry import neighbours
from igr.geometry.frames import Frame
from igr.pointcloud import noise
from igr.training import schedule
import train

import numpy as np
import pytest


def sphere(n, rng, noise=0.0):
    points = rng.standard_normal((n, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True) + noise * rng.standard_normal(
        (n, 3))


def cloud_of(points, sigma=None):
    """A cloud whose 10th neighbours are sigma away; default: as if it filled a unit sphere."""
    sigma = (40 * np.pi / len(points)) ** 0.5 if sigma is None else sigma
    sigma = np.full((len(points), 1), sigma)
    return PointCloud(points, None, sigma, points[:0], Frame(),
                      measured=noise.Measurements.of(neighbours.tree_of(points), sigma, 10))


@pytest.mark.parametrize("n, noise, scattered", [
    (20_000, 0.0, False), (20_000, 0.02, True), (20_000, 0.008, True), (4_000, 0.0, False)])
def test_points_with_noise_are_scattered(rng, n, noise, scattered):
    cloud = cloud_of(sphere(n, rng, noise))
    assert cloud.measured.scattered == scattered


def completed(points, **given):
    cloud = cloud_of(points.astype(np.float32))
    settings = train.Settings(**{**given, "test_rate": 0.25})
    estimated = schedule.normals_for(settings, cloud)
    settings = replace(settings, winding=estimated is not None)
    return replace(settings, **schedule.choose(settings, cloud))


@pytest.mark.parametrize("n, noise, steps", [
    (50_000, 0.0, 3_000), (50_000, 0.002, 3_000), (50_000, 0.006, 1_000), (50_000, 0.02, 1_000),
    (2_000, 0.0, 4_000)])
def test_the_schedule_follows_the_cloud(rng, n, noise, steps):
    found = completed(sphere(n, rng, noise))
    known = n > 2_000
    assert found.winding == known and found.dims == (96 if known else 128)
    assert found.batch_size == (1024 if known else 512)
    assert (found.max_iter, found.train_iter) == ((steps, None) if known else (None, steps))
    assert found.learning_rate == (0.004 if known else 0.0025)
    assert (found.uniform, found.near) == ((128, 128) if known else (512, 512))
    assert (found.frequencies == 0) == (noise == 0.02)
    assert found.tolerance == (schedule.TOLERANCE if noise == 0.02 else 0)
    assert found.tau == {0.0: 0.3, 0.002: 0.3, 0.006: 1.0, 0.02: 1.0}[noise] or not known


@pytest.mark.parametrize("quality, clean, noisy, dims", [
    ("draft", 700, 700, 96), ("normal", 3_000, 1_000, 96), ("fine", 20_000, 3_000, 128)])
def test_qualities_are_lengths_and_noise_bounds_them(rng, quality, clean, noisy, dims):
    found = completed(sphere(6_000, rng), quality=quality)
    assert (found.max_iter, found.dims) == (clean, dims)
    assert completed(sphere(6_000, rng, 0.05), quality=quality).max_iter == noisy


def test_what_is_given_stays(rng):
    noisy = sphere(5_000, rng, 0.05)
    flags = {"train_iter": 70, "frequencies": 3, "learning_rate": 0.01, "batch_size": 40,
             "uniform": 30, "near": 20, "winding": True, "tau": 2.0, "tolerance": 0.1, "dims": 24}
    assert completed(noisy, **flags) == train.Settings(test_rate=0.25, **flags)
    epochs = completed(noisy, train_epoch=2)
    assert epochs.train_iter is None and epochs.max_iter is None
    assert completed(noisy, max_iter=70).train_iter is None
    assert completed(noisy, uniform=30).near == 30
    assert completed(noisy, solver="adam").learning_rate == schedule.ADAM_RATE
    for winding, rate in ((True, 0.0025), (False, 0.00125)):
        assert completed(noisy, winding=winding, train_iter=9_000).learning_rate == rate


def test_winding_numbers_stand_in_for_normals_that_are_not_given(rng, monkeypatch):
    points = sphere(6_000, rng)
    found = completed(points)
    assert found.winding and found.tau == schedule.EXACT_TAU
    assert not completed(points, winding=False).winding
    given = completed(points, with_normals=True)
    assert not given.winding and given.max_iter == 3_000 and given.tau == schedule.TAU
    assert completed(sphere(50, rng), winding=True).winding
    u, v = rng.uniform(-1, 1, (2, 6_000))
    terrain = np.stack([u, v, 0.6 * np.exp(-4 * (u**2 + v**2))], axis=1)
    assert completed(terrain).winding  # it faces one direction
    monkeypatch.setattr(schedule.normals, "sides_agree", lambda *_: False)
    assert not completed(terrain).winding and completed(terrain, winding=True).winding
    with pytest.raises(UserError, match="leave out --with-normals"):
        completed(points, with_normals=True, winding=True)
