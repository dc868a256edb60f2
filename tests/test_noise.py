"""How far points scatter about a surface, and which lie on the rim of an open one."""

from igr.backend import threads
from igr.geometry import shapes
from igr.geometry.neighbours import tree_of
from igr.pointcloud import noise as noise_module
from igr.pointcloud.noise import on_rim

import numpy as np
import pytest

N = 20_000
SPACING = (4 * np.pi / N) ** 0.5  # of N points on the unit sphere


def sphere(rng, noise=0.0):
    points = rng.standard_normal((N, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return points + noise * rng.standard_normal(points.shape)


def scatter(points):
    return noise_module.scatter(tree_of(points))


def bowl(rng):
    points = sphere(rng)
    return points[points[:, 2] < 0.3]


@pytest.mark.parametrize("noise", [0.003, 0.01, 0.02])
def test_scatter_is_the_noise(rng, noise):
    """Within a fifth, where the noise is up to the spacing of the points."""
    assert scatter(sphere(rng, noise)) == pytest.approx(noise, rel=0.2)


@pytest.mark.parametrize("name", ["knot", "torus", "letter", "sponge"])
def test_clean_shapes_hardly_scatter(name):
    """Neither where they bend nor at their edges, which are few."""
    points = shapes.sample(name, 20_000, 0).points
    assert scatter(points) < 0.02 * (1 / 20_000) ** 0.5


def test_scatter_minds_neither_outliers_nor_scale(rng):
    points = sphere(rng, 0.01)
    found = scatter(points)
    points[::50] = rng.uniform(-1, 1, (400, 3))
    assert scatter(points) == pytest.approx(found, rel=0.1)
    assert scatter(1e6 * points) == pytest.approx(1e6 * scatter(points), rel=1e-3)


def test_degenerate_clouds_have_no_scatter():
    assert scatter(np.random.default_rng(0).random((10, 3))) == 0
    assert scatter(np.zeros((100, 3))) == 0
    assert scatter(np.linspace(0, 1, 300).reshape(100, 3)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("noise", [0.0, 0.2 * SPACING])
def test_the_rim_of_a_bowl(rng, noise):
    """Most points within half a spacing of it are found, and none beyond two."""
    points = bowl(rng)
    height = 0.3 - points[:, 2]
    found = on_rim(points + noise * rng.standard_normal(points.shape))
    assert found[height < 0.5 * SPACING].mean() > 0.7
    assert not found[height > 2 * SPACING].any()


def test_the_rim_of_a_hole(rng):
    points = sphere(rng)
    away = np.linalg.norm(points - [0, 0, 1], axis=1)
    points = points[away > 0.3]
    found = on_rim(points)
    assert found.sum() > 20
    assert np.linalg.norm(points[found] - [0, 0, 1], axis=1).max() < 0.3 + 2 * SPACING


def test_the_edge_of_a_thin_wall_is_no_rim(rng):
    """Its two faces are less than three spacings apart."""
    sides = rng.random((N, 3)) * [1, 1, 0]
    spacing = (2 / N) ** 0.5
    sides[::2, 2] = 2.5 * spacing
    assert not on_rim(sides).any()
    assert on_rim(sides[::2]).sum() > 200  # one of them by itself has a rim


@pytest.mark.parametrize("name", ["knot", "torus", "letter", "sponge"])
def test_closed_shapes_have_none(name):
    assert not on_rim(shapes.sample(name, N, 0).points).any()


def test_copies_change_nothing(rng):
    points = bowl(rng)
    assert np.array_equal(on_rim(np.repeat(points, 3, axis=0)), np.repeat(on_rim(points), 3))


def test_blocks_and_threads_change_nothing(rng, monkeypatch):
    points = bowl(rng)
    whole = on_rim(points)
    monkeypatch.setattr(noise_module, "BLOCK", 1000)
    before = threads.count()
    try:
        for n in (1, 3):
            threads.set_count(n)
            assert np.array_equal(on_rim(points), whole)
    finally:
        threads.set_count(before)
    order = rng.permutation(len(points))
    assert np.array_equal(on_rim(points[order]), whole[order])


@pytest.mark.parametrize("contours", [10, 20, 25, 30, 35])
def test_contours_have_no_rims(rng, contours):
    """Some 20,000 points of a sphere; the nearest of one lie on its own line and two more."""
    lines = []
    for z in np.linspace(-1, 1, contours + 2)[1:-1]:
        radius = (1 - z * z) ** 0.5
        n = int(26_000 / contours * radius)
        angle = 2 * np.pi * (np.arange(n) + rng.random()) / n
        lines.append(np.stack([radius * np.cos(angle), radius * np.sin(angle), np.full(n, z)], 1))
    assert not on_rim(np.vstack(lines)).any()


def test_outliers_make_no_rims_elsewhere(rng):
    points = np.vstack([sphere(rng), rng.uniform(-3, 3, (200, 3))])
    assert not on_rim(points)[:N].any()


@pytest.mark.parametrize("points", [np.empty((0, 3)), np.eye(3), np.zeros((100, 3))])
def test_where_there_is_nothing_to_tell(points):
    assert not on_rim(points).any()
