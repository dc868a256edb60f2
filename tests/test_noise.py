"""How far points scatter about a surface."""

from igr.geometry import shapes
from igr.geometry.neighbours import tree_of
from igr.pointcloud import noise as noise_module

import numpy as np
import pytest

N = 20_000


def sphere(rng, noise=0.0):
    points = rng.standard_normal((N, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return points + noise * rng.standard_normal(points.shape)


def scatter(points):
    return noise_module.scatter(tree_of(points))


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
