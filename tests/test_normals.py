"""Normals of a cloud against those of the surface that it was made from."""

from helper import UserError
from igr.geometry import regression, shapes
from igr.geometry.neighbours import kth_distance, tree_of
from igr.pointcloud import normals, winding
from igr.pointcloud.noise import Measurements
from igr.refinement import detail, orientation

import numpy as np
import pytest


def sphere(points):
    """The distance to the sphere of radius 0.7, and its gradient."""
    length = np.linalg.norm(points, axis=1)
    return length - 0.7, points / length[:, None]


def bumpy(n, rng):
    """Points and normals (n, 3) of the surface |x| = 0.7 + 0.02 sin(9 x0 / |x|)."""
    d = rng.standard_normal((n, 3))
    d /= np.linalg.norm(d, axis=1)[:, None]
    r = 0.7 + 0.02 * np.sin(9 * d[:, 0])
    slope = (0.18 * np.cos(9 * d[:, 0]) / r)[:, None] * (np.eye(3)[0] - d[:, :1] * d)
    out = d - slope
    return r[:, None] * d, out / np.linalg.norm(out, axis=1)[:, None]


def degrees(a, b):
    return np.degrees(np.arccos(np.clip((a * b).sum(axis=-1), -1, 1)))


def test_normals_follow_what_the_network_does_not_know(rng):
    points, truth = bumpy(6000, rng)
    found = detail.fit(sphere, points)
    got, known = orientation.normals_of(sphere, found, points)
    assert known.all() and degrees(got, truth).mean() < 1 and degrees(got, truth).max() < 10
    assert degrees(sphere(points)[1], truth).mean() > 7


def test_quadrics_mend_rough_normals_and_leave_the_other_side_alone(rng):
    """Of a bumpy sphere beside another one, a sheet with the opposite normals, 0.02 inside."""
    points, truth = bumpy(20_000, rng)
    both = np.concatenate([points, points - 0.02 * truth])
    rough = truth + 0.2 * rng.standard_normal(truth.shape)
    rough /= np.linalg.norm(rough, axis=1)[:, None]
    got = regression.of_quadrics(tree_of(both), np.concatenate([rough, -rough]))
    assert np.linalg.norm(got, axis=1) == pytest.approx(1)
    assert degrees(rough, truth).mean() > 10
    assert degrees(got[:20_000], truth).mean() < 3 and degrees(-got[20_000:], truth).mean() < 3


def measured(points):
    tree = tree_of(points)
    return Measurements.of(tree, kth_distance(tree, 10)[:, None], 10)


@pytest.mark.parametrize("oriented", [20_000, 3_000])
def test_estimated_normals_look_outwards(monkeypatch, oriented):
    """Of a bent solid with edges and a thin stroke; and where most follow some."""
    monkeypatch.setattr(normals, "ORIENTED", oriented)
    cloud = shapes.sample("letter", 12_000)
    estimate = normals.estimated(measured(cloud.points.astype(np.float32)))
    got = estimate.normals
    assert estimate.agree and estimate.view is None and got.dtype == np.float32
    assert np.linalg.norm(got, axis=1) == pytest.approx(1, abs=1e-5)
    off = degrees(got, cloud.normals)
    assert np.median(off) < 0.5 and (off > 90).mean() < 0.005


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_scattered_points_get_normals_of_more_neighbours(rng, share):
    """Of two spheres that nearly touch; share: of the spacing, the scatter."""
    directions = rng.standard_normal((16_000, 3))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    spacing = (4 * np.pi * 0.5**2 / 8_000) ** 0.5
    points = 0.5 * directions + share * spacing * rng.standard_normal(directions.shape)
    points[::2] += [1.05, 0, 0]
    cloud = measured(points)
    assert cloud.scattered
    estimate = normals.estimated(cloud)
    got = estimate.normals
    off = degrees(got, directions)
    assert estimate.agree and (off > 90).mean() < 0.005 and off.mean() < 9
    exact = regression.of_quadrics(cloud.tree, got)
    assert degrees(exact, directions).mean() > 2 * off.mean()


def test_edges_and_tunnels_do_not_mix_the_sides():
    """Of a cube with tunnels 12 iterations of winding numbers are not enough."""
    cloud = shapes.sample("sponge", 20_000)
    estimate = normals.estimated(measured(cloud.points))
    assert estimate.agree
    assert ((estimate.normals * cloud.normals).sum(axis=1) < 0).mean() < 0.005


def test_sides_that_do_not_agree_are_noticed(rng):
    """A thin plate has two sides that do; with half of it turned they do not."""
    points = np.column_stack([rng.uniform(-1, 1, (12_000, 2)), 0.01 * rng.choice([-1, 1], 12_000)])
    up = np.sign(points * [0, 0, 1])
    assert normals.sides_agree(tree_of(points), up)
    assert not normals.sides_agree(tree_of(points), up * np.sign(points[:, :1]))


def turned(points, how, rng):
    """Factors (N, 1) of normals of which some look the wrong way."""
    return {"random": rng.choice([-1.0, 1.0], len(points)), "half": np.sign(points[:, 0]),
            "patch": np.where(points[:, 0] > np.quantile(points[:, 0], 0.9), -1.0, 1.0),
            "part": np.where(np.arange(len(points)) % 2, -1.0, 1.0)}[how][:, None]


@pytest.mark.parametrize("how", ["random", "half", "patch", "part"])
def test_normals_of_a_file_are_turned_back(rng, caplog, how):
    """Of two spheres apart; part: one of them looks inwards, so no neighbours are opposite."""
    truth = rng.standard_normal((12_000, 3))
    truth /= np.linalg.norm(truth, axis=1)[:, None]
    points = 0.45 * truth
    points[::2] -= [0.5, 0, 0]
    points[1::2] += [0.5, 0, 0]
    assert np.array_equal(normals.trusted(measured(points), truth, "a.ply"), truth)
    assert caplog.text == ""
    got = normals.trusted(measured(points), truth * turned(points, how, rng), "a.ply")
    assert ((got * truth).sum(axis=1) > 0.99).mean() > 0.999
    assert caplog.text.count("\n") == 1 and "are turned round" in caplog.text
    assert ("parts look inwards" in caplog.text) == (how in ("half", "part"))


def test_normals_that_nothing_orients_are_refused(rng):
    """Of random direction."""
    ball, _ = bumpy(6000, rng)
    anywhere = rng.standard_normal(ball.shape)
    anywhere /= np.linalg.norm(anywhere, axis=1)[:, None]
    with pytest.raises(UserError, match=r"^a\.ply: .*leave out --with-normals$"):
        normals.trusted(measured(ball), anywhere, "a.ply")


def test_normals_of_an_open_sheet_look_to_one_side(rng):
    x, y = rng.uniform(-1, 1, (2, 6000))
    slope = 0.9 * np.cos(3 * x)
    up = np.column_stack([-slope, 0 * x, 1 + 0 * x]) / np.sqrt(1 + slope**2)[:, None]
    cloud = measured(np.column_stack([x, y, 0.3 * np.sin(3 * x)]))
    assert np.array_equal(normals.trusted(cloud, up, "a.ply"), up)
    got = normals.trusted(cloud, up * rng.choice([-1.0, 1.0], (6000, 1)), "a.ply")
    assert abs(np.sign((got * up).sum(axis=1)).mean()) > 0.999


def test_missing_normals_are_the_neighbours(rng, caplog):
    points, truth = bumpy(2000, rng)
    given = truth.copy()
    given[::50] = [[0, 0, 0], [np.nan, 1, 0]] * 20
    got = normals.unit_normals(points, given, "a.ply")
    assert degrees(got, truth).max() < 30 and "40 of 2000 normals are zero" in caplog.text
    given[::10] = 0
    with pytest.raises(UserError, match="200 of 2000 normals are zero or not finite; leave"):
        normals.unit_normals(points, given, "a.ply")


def test_a_noisy_cloud_keeps_the_normals_of_its_averages(rng):
    points, truth = bumpy(20_000, rng)
    noisy = points + 0.005 * rng.standard_normal(points.shape)
    found = detail.fit(sphere, noisy)
    assert found.report.noise
    got, _ = orientation.normals_of(sphere, found, noisy)
    quadrics = regression.of_quadrics(tree_of(noisy), got)
    assert degrees(got, truth).mean() < 0.7 * degrees(quadrics, truth).mean()


def test_a_point_without_a_foot_takes_the_gradient(rng):
    points, _ = bumpy(2000, rng)
    points[7] = (1.5, 0, 0)
    got, known = orientation.normals_of(sphere, detail.fit(sphere, points), points)
    assert not known[7] and known.sum() == 1999
    assert degrees(got[7], np.eye(3)[0]) < 0.1


def test_without_detail_they_are_the_gradient_at_the_foot(rng):
    points, _ = bumpy(2000, rng)
    got, _ = orientation.normals_of(sphere, detail.fit(sphere, points, rounds=0), points)
    np.testing.assert_allclose(got, sphere(points)[1], atol=1e-6)


def test_tangents(rng):
    n = rng.standard_normal((100, 3))
    n /= np.linalg.norm(n, axis=1)[:, None]
    n[0] = (0, 0, -1)
    u, v = regression.tangents(n)
    np.testing.assert_allclose(np.cross(u, v), n, atol=1e-12)
    np.testing.assert_allclose((u * v).sum(axis=1), 0, atol=1e-12)


@pytest.fixture
def no_winding(monkeypatch):
    """Fails where winding numbers are asked for sides."""
    def refuse(*args):
        raise AssertionError("winding numbers were asked")

    monkeypatch.setattr(winding, "normals_of", refuse)


@pytest.mark.parametrize("sign", [1, -1])
def test_normals_of_the_file_tell_the_sides(rng, no_winding, sign):
    """Rough ones; where all look inwards, as of a room seen from within, all are turned."""
    cloud = shapes.sample("letter", 12_000)
    rough = cloud.normals + 0.1 * rng.standard_normal(cloud.normals.shape)
    estimate = normals.estimated(measured(cloud.points)._replace(given=sign * rough))
    off = degrees(estimate.normals, cloud.normals)
    assert estimate.agree and estimate.report == "by the file's normals"
    assert np.median(off) < 0.5 and (off > 90).mean() < 0.005


@pytest.mark.parametrize("how", ["random", "half", "part", "zero", "camera"])
def test_wrong_normals_of_the_file_do_not_tell_the_sides(rng, how):
    """Random signs, a half turned round, some zero, or all turned to one camera."""
    cloud = shapes.sample("letter", 12_000)
    if how == "zero":
        given = cloud.normals * (np.arange(12_000) % 9 > 0)[:, None]
    elif how == "camera":
        given = cloud.normals * np.sign(cloud.normals @ [0.5, 0.6, 0.7])[:, None]
    else:
        middle = cloud.points.mean(axis=0)
        given = cloud.normals * turned(cloud.points - middle, how, rng)
    estimate = normals.estimated(measured(cloud.points)._replace(given=given))
    assert estimate.agree and estimate.report == "by winding numbers"
    assert (degrees(estimate.normals, cloud.normals) > 90).mean() < 0.005
