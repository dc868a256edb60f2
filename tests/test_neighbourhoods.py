"""Which points lie on the rim of an open surface. What they scatter is in test_schedule.py."""

from igr import shapes
from igr.neighbourhoods import on_rim

import numpy as np
import pytest

N = 20_000


def sphere(rng, n=N):
    points = rng.standard_normal((n, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


SPACING = (4 * np.pi / N) ** 0.5  # of N points on the unit sphere


@pytest.mark.parametrize("noise", [0.0, 0.2 * SPACING])
def test_the_rim_of_a_bowl(rng, noise):
    """Most points within half a spacing of it are found, and none beyond two."""
    points = sphere(rng)
    points = points[points[:, 2] < 0.3]
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


def test_outliers_make_no_rims_elsewhere(rng):
    points = np.vstack([sphere(rng), rng.uniform(-3, 3, (200, 3))])
    assert not on_rim(points)[:N].any()


@pytest.mark.parametrize("points", [np.empty((0, 3)), np.eye(3), np.zeros((100, 3))])
def test_where_there_is_nothing_to_tell(points):
    assert not on_rim(points).any()
