"""How long and how finely a network learns: by the number and the noise of its points."""

from igr import schedule, shapes
from igr.neighbourhoods import on_rim, scatter
from igr.schedule import complete
import train

import numpy as np
import pytest


def sphere(n, rng, noise=0.0):
    points = rng.standard_normal((n, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True) + noise * rng.standard_normal(
        (n, 3))


def spacing_of(points):
    """Of points on a unit sphere."""
    return (4 * np.pi / len(points)) ** 0.5


@pytest.mark.parametrize("noise", [0.003, 0.01, 0.02])
def test_scatter_is_the_noise(rng, noise):
    """Within a fifth, where the noise is up to the spacing of the points."""
    assert scatter(sphere(20_000, rng, noise)) == pytest.approx(noise, rel=0.2)


@pytest.mark.parametrize("name", ["knot", "torus", "letter", "sponge"])
def test_clean_shapes_hardly_scatter(name):
    """Neither where they bend nor at their edges, which are few."""
    points = shapes.sample(name, 20_000, 0).points
    assert scatter(points) < 0.02 * (1 / 20_000) ** 0.5


def test_scatter_minds_neither_outliers_nor_scale(rng):
    points = sphere(20_000, rng, 0.01)
    found = scatter(points)
    points[::50] = rng.uniform(-1, 1, (400, 3))
    assert scatter(points) == pytest.approx(found, rel=0.1)
    assert scatter(1e6 * points) == pytest.approx(1e6 * scatter(points), rel=1e-3)


def test_degenerate_clouds_have_no_scatter():
    assert scatter(np.random.default_rng(0).random((10, 3))) == 0
    assert scatter(np.zeros((100, 3))) == 0
    assert scatter(np.linspace(0, 1, 300).reshape(100, 3)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("n, noise, loose", [
    (20_000, 0.0, False), (20_000, 0.02, True), (20_000, 0.008, True), (4_000, 0.0, True)])
def test_few_and_inexact_points_have_a_dead_zone(rng, n, noise, loose):
    points = sphere(n, rng, noise)
    sigma = np.full((n, 1), 10**0.5 * spacing_of(points))
    assert np.array_equal(schedule.dead_zone(points, sigma, 10), loose * sigma)


def test_a_rim_has_an_infinite_dead_zone(rng):
    points = sphere(20_000, rng)
    points = points[points[:, 2] < 0.3]
    zone = schedule.dead_zone(points, np.ones((len(points), 1)), 10)
    assert set(zone[:, 0]) == {0, np.inf}
    assert np.array_equal(np.isinf(zone[:, 0]), on_rim(points))


def completed(points, **given):
    points = points.astype(np.float32)
    sigma = np.full((len(points), 1), 10**0.5 * spacing_of(points))
    return complete(train.Settings(**{**given, "test_rate": 0.25}), points, sigma, 1)


@pytest.mark.parametrize("n, noise, steps, rate", [
    (50_000, 0.0, 8_000, 0.00125), (50_000, 0.002, 8_000, 0.00125), (50_000, 0.02, 2_000, 0.0025),
    (2_000, 0.0, 8_000, 0.00125)])
def test_steps_and_rate_follow_the_cloud(rng, n, noise, steps, rate):
    found = completed(sphere(n, rng, noise))
    assert (found.train_iter, found.learning_rate) == (steps, rate)
    assert (found.frequencies == 0) == (noise == 0.02)


@pytest.mark.parametrize("quality, clean, noisy, batch", [
    ("draft", 1_000, 1_000, 256), ("normal", 8_000, 2_000, 512), ("fine", 20_000, 2_000, 512)])
def test_qualities_are_lengths_and_batches_and_noise_bounds_them(rng, quality, clean, noisy, batch):
    for noise, steps in ((0, clean), (0.05, noisy)):
        flags = ["-f", "c.ply", "--quality", quality]
        settings = train.entries_of(train.Settings, vars(train.parse_args(flags)))
        found = completed(sphere(6_000, rng, noise), **settings._asdict())
        assert (found.train_iter, found.batch_size) == (steps, batch)


def test_what_is_given_stays(rng):
    noisy = sphere(5_000, rng, 0.05)
    given = completed(noisy, train_iter=70, frequencies=3, learning_rate=0.01, batch_size=40)
    assert given[:-1] == train.Settings(test_rate=0.25, train_iter=70, frequencies=3,
                                        learning_rate=0.01, batch_size=40)[:-1]
    assert completed(noisy, train_epoch=2).train_iter is None
    assert completed(noisy, solver="adam").learning_rate == schedule.ADAM_RATE
