"""The sides of open surfaces: height fields, one view, sheets without an inside."""

from igr.geometry.neighbours import kth_distance, tree_of
from igr.pointcloud import normals
from igr.pointcloud.noise import Measurements
from igr.pointcloud.sheets import Sheets, pairs_on_sheets

import numpy as np
import pytest


def measured(points):
    tree = tree_of(points)
    return Measurements.of(tree, kth_distance(tree, 10)[:, None], 10)


def hills(n, rng):
    """Points (n, 3) of a height field, and its upward normals."""
    x, y = rng.uniform(-1, 1, (2, n))
    slopes = np.stack([0.6 * np.cos(4 * x) * np.cos(3 * y), -0.45 * np.sin(4 * x) * np.sin(3 * y)])
    up = np.stack([-slopes[0], -slopes[1], np.ones(n)], axis=1)
    return (np.stack([x, y, 0.15 * np.sin(4 * x) * np.cos(3 * y)], axis=1),
            up / np.linalg.norm(up, axis=1)[:, None])


def corner(n, rng):
    """Points (n, 3) of the three faces of a box that meet in a corner, and their normals."""
    points = rng.uniform(0, 1, (n, 3))
    axis = rng.integers(3, size=n)
    points[np.arange(n), axis] = 1
    return points, np.eye(3)[axis]


@pytest.mark.parametrize("make", [hills, corner])
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_what_one_sees_from_one_side_faces_it(rng, make, noise):
    """noise: in spacings, of which a square of side 1 has about 70 or 140."""
    points, truth = make(15_000, rng)
    points = points + noise / 100 * rng.standard_normal(points.shape)
    estimate = normals.estimated(measured(points))
    assert estimate.agree and estimate.view is not None
    cosine = (estimate.normals * truth).sum(axis=1)
    turned = np.sign(np.median(cosine))  # either side of an open surface will do
    assert (turned * cosine < 0).mean() < 0.001


def test_two_sheets_behind_each_other_are_no_view(rng):
    """The two faces of a thin plate, each of which faces the same way as well as the other."""
    points = rng.uniform(-1, 1, (16_000, 3))
    points[:, 2] = 0.03 * rng.choice([-1, 1], 16_000)
    assert Sheets.of(tree_of(points), 12).view(measured(points)) is None
    estimate = normals.estimated(measured(points))
    assert estimate.agree and (estimate.normals[:, 2] * points[:, 2] < 0).mean() < 0.01


def test_neighbours_tell_the_sides_where_winding_numbers_do_not(rng, monkeypatch):
    """Of a tube whose normals point anywhere but on most of it outwards."""
    angle, height = rng.uniform(-np.pi, np.pi, 12_000), rng.uniform(-1, 1, 12_000)
    points = np.stack([0.5 * np.cos(angle), 0.5 * np.sin(angle), height], axis=1)
    truth = points * [2, 2, 0]
    wrong = np.where((height < -0.3)[:, None], -truth, truth)
    monkeypatch.setattr(normals, "by_winding", lambda *_: wrong)
    estimate = normals.estimated(measured(points))
    assert estimate.agree and "sheet" in estimate.report
    assert ((estimate.normals * truth).sum(axis=1) > 0.9).all()


def test_sheets_that_do_not_touch_are_turned_one_by_one(rng):
    points = np.concatenate([hills(4_000, rng)[0], hills(4_000, rng)[0] + [0, 0, 1]])
    sheets = Sheets.of(tree_of(points), 12)
    assert len(np.unique(sheets.label)) == 2
    sides = np.repeat([[0, 0, 1.0], [0, 0, -1.0]], 4_000, axis=0)
    assert ((sheets.turned_to(sides) * sides).sum(axis=1) > 0).all()
    assert pairs_on_sheets(tree_of(points), sheets.normals).opposite() == 0


def test_a_moebius_strip_has_no_sides(rng):
    """A seam across the strip is left, and not more."""
    turn, across = rng.uniform(0, 2 * np.pi, 20_000), rng.uniform(-0.3, 0.3, 20_000)
    radius = 1 + across * np.cos(turn / 2)
    points = np.stack([radius * np.cos(turn), radius * np.sin(turn), across * np.sin(turn / 2)],
                      axis=1)
    sheets = Sheets.of(tree_of(points), 12)
    assert 50 < pairs_on_sheets(tree_of(points), sheets.normals).opposite() < 1_000
