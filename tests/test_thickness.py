"""How thin the solid parts of a cloud are."""

from igr.geometry.frames import Frame
from igr.geometry.neighbours import kth_distance, tree_of
from igr.pointcloud import thickness
from igr.pointcloud.noise import Measurements

import numpy as np
import pytest


def measured(points):
    tree = tree_of(points)
    return Measurements.of(tree, kth_distance(tree, 10)[:, None], 10)


def plate(n, thick, rng):
    """Points (n, 3) on the two faces of a plate of side 2, and normals."""
    points = rng.uniform(-1, 1, (n, 3))
    points[:, 2] = thick / 2 * rng.choice([-1, 1], n)
    return points, np.sign(points) * [0, 0, 1]


def tube(n, thick, rng):
    angle = rng.uniform(0, 2 * np.pi, n)
    normals = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    return thick / 2 * normals + np.outer(rng.uniform(-1, 1, n), [0, 0, 1]), normals


@pytest.mark.parametrize("make", [plate, tube])
@pytest.mark.parametrize("thick", [0.05, 0.15])
def test_a_ball_inside_tells_how_thin_a_part_is(rng, make, thick):
    points, normals = make(20_000, thick, rng)
    found = thickness.thicknesses(measured(points), normals, 0.2)
    assert np.median(found) == pytest.approx(thick, rel=0.1)
    assert np.isinf(thickness.thicknesses(measured(points), normals, 0.8 * thick)).all()


def test_one_sheet_has_no_thickness(rng):
    points, _ = plate(20_000, 0.0, rng)
    points[:, 2] = 0.1 * np.sin(3 * points[:, 0]) + 0.001 * rng.standard_normal(20_000)
    up = np.stack([-0.3 * np.cos(3 * points[:, 0]), 0 * points[:, 0], np.ones(20_000)], axis=1)
    up /= np.linalg.norm(up, axis=1)[:, None]
    assert thickness.thinnest(measured(points), up, 0.05) == np.inf


def test_what_the_grid_loses_is_named_with_the_grid_that_keeps_it(rng, caplog):
    for thick, said in ((0.004, True), (0.02, False)):
        points, normals = tube(20_000, thick, rng)
        thickness.warn(measured(points), normals, Frame(scale=10.0), 1.5)
        assert ("--grid-size" in caplog.text) == said
        if said:
            needed = int(caplog.text.split("--grid-size ")[1].split()[0])
            assert needed == pytest.approx(3 / 0.004 * thickness.CELLS, rel=0.3)
        caplog.clear()
