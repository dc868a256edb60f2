"""Detail over a sphere whose points say more, or less, than the network knows."""

from igr.geometry import regression
from igr.geometry.meshes import unit_vectors
from igr.isosurface import extraction
from igr.isosurface.grids import Grid
from igr.refinement import detail, projection

import numpy as np
import pytest

RADIUS = 0.7


def sphere(points):
    """f and its gradient; a slope of 0.8 to 1.2, as networks have."""
    r = np.maximum(np.linalg.norm(points, axis=1), 1e-9)
    slope = 1 + 0.2 * np.sin(3 * points[:, 0])
    turn = 0.6 * np.cos(3 * points[:, 0]) * (r - RADIUS)
    gradient = slope[:, None] * points / r[:, None]
    gradient[:, 0] += turn
    return (slope * (r - RADIUS)).astype(np.float32), gradient.astype(np.float32)


def bumps(directions):
    """Height of the true surface over the sphere."""
    x, y, z = directions.T
    return 0.012 * np.sin(9 * x + 1) * np.cos(8 * y) + 0.006 * np.sin(14 * z)


def even(n, rng):
    return unit_vectors(rng.standard_normal((n, 3)))


def cloud(rng, n=20_000, noise=0.0):
    d = even(n, rng)
    return (RADIUS + bumps(d))[:, None] * d + noise * rng.standard_normal((n, 3))


def error(vertices):
    """Mean distance from the bumpy surface, along the radius."""
    r = np.linalg.norm(vertices, axis=1)
    return np.abs(r - RADIUS - bumps(vertices / r[:, None])).mean()


def vertices(rng, n=3000):
    return RADIUS * even(n, rng)


BARE = 0.0058  # of the sphere itself, about


def test_clean_points_are_met(rng):
    found = detail.fit(sphere, cloud(rng))
    assert found.report.rounds == len(detail.CLEAN_ROUNDS) and found.report.outliers < 100
    assert error(vertices(rng)) == pytest.approx(BARE, rel=0.2)
    assert error(found.move(vertices(rng))) < 1e-4
    assert "rounds, left-out points" in str(found.report) and "noise" not in str(found.report)


@pytest.mark.parametrize("noise, reached", [(0.003, 0.0009), (0.01, 0.0025)])
def test_noise_is_averaged_away(rng, noise, reached):
    found = detail.fit(sphere, cloud(rng, 30_000, noise))
    assert 0 < found.report.rounds < len(detail.ROUNDS)
    assert found.report.noise == pytest.approx(noise, rel=0.15)
    assert error(found.move(vertices(rng))) < reached
    assert f"noise about {found.report.noise:.2g}, averaged over" in str(found.report)


def test_points_that_say_no_more_than_the_network_change_nothing(rng):
    points = RADIUS * even(5000, rng) + 0.01 * rng.standard_normal((5000, 3))
    found = detail.fit(sphere, points)
    moved = found.move(vertices(rng))
    assert np.abs(np.linalg.norm(moved, axis=1) - RADIUS).mean() < 1e-3
    on_it = detail.fit(sphere, RADIUS * even(5000, rng))
    assert np.abs(np.linalg.norm(on_it.move(vertices(rng)), axis=1) - RADIUS).max() < 1e-5


def test_outliers_raise_no_bumps(rng):
    points = cloud(rng)
    points[:200] += 0.1 * rng.standard_normal((200, 3))
    found = detail.fit(sphere, points)
    moved = found.move(vertices(rng, 20_000))
    r = np.linalg.norm(moved, axis=1)
    off = np.abs(r - RADIUS - bumps(moved / r[:, None]))
    assert off.mean() < 2e-4 and (off > 0.01).mean() < 1e-3
    assert found.report.outliers > 100


def test_holes_stay_the_networks(rng):
    points = cloud(rng)
    found = detail.fit(sphere, points[points[:, 2] < 0.4])
    v = vertices(rng)
    moved = found.move(v)
    hole = v[:, 2] > 0.5
    assert np.abs(np.linalg.norm(moved[hole], axis=1) - RADIUS).max() < 1e-5
    assert error(moved[v[:, 2] < 0.35]) < 1.5e-4


def test_another_level_has_the_same_detail(rng):
    found = detail.fit(sphere, cloud(rng))
    d = even(2000, rng)
    level = 0.05
    slope = 1 + 0.2 * np.sin(3 * (RADIUS + level) * d[:, 0])
    v = (RADIUS + level / slope)[:, None] * d
    moved = found.move(v, level)
    heights = np.linalg.norm(moved, axis=1) - np.linalg.norm(v, axis=1)
    assert np.abs(heights - bumps(unit_vectors(moved))).mean() < 1e-3


def test_held_out_points_decide(rng):
    """Those that are named: where they contradict the others, no round is taken."""
    points = cloud(rng, 4000)
    held_out = np.arange(4000) < 800
    assert detail.fit(sphere, points, held_out=held_out).report.rounds == len(detail.CLEAN_ROUNDS)
    points[held_out] = RADIUS * even(800, rng)
    assert detail.fit(sphere, points, held_out=held_out).report.rounds == 0
    assert detail.fit(sphere, points, rounds=3, held_out=held_out).report.rounds == 3


@pytest.mark.parametrize("change", [
    lambda p: p[:10], lambda p: p[:1], lambda p: p[:2], np.zeros_like,
    lambda p: np.repeat(p[:5], 900, 0), lambda p: 3 * p, lambda p: p * [1, 1, 0],
    lambda p: np.repeat(p, 2, 0),
], ids=["ten", "one", "two", "zeros", "five, doubled", "another size", "flat", "doubled"])
def test_hostile_clouds_are_no_worse_than_none(rng, change):
    points = change(cloud(rng, 4000))
    found = detail.fit(sphere, points)
    v = vertices(rng)
    moved = found.move(v)
    assert np.isfinite(moved).all()
    assert error(moved) < 1.01 * error(v)


def test_a_field_with_nan_gradients(rng):
    def broken(points):
        f, gradient = sphere(points)
        gradient[points[:, 0] > 0.4] = np.nan
        return f, gradient

    found = detail.fit(broken, cloud(rng, 4000))
    v = vertices(rng)
    moved = found.move(v)
    assert np.isfinite(moved).all()
    assert error(moved[v[:, 0] < 0.3]) < 5e-4


def test_the_sides_of_a_thin_plate_keep_their_own_detail(rng):
    """A plate of half thickness 0.01 in the network, 0.012 above and 0.009 below by the points."""

    def plate(points):
        gradient = np.zeros(points.shape, np.float32)
        gradient[:, 2] = np.sign(points[:, 2])
        return (np.abs(points[:, 2]) - 0.01).astype(np.float32), gradient

    flat = rng.uniform(-1, 1, (20_000, 2))
    z = np.where(np.arange(20_000) % 2, 0.012, -0.009)
    found = detail.fit(plate, np.column_stack([flat, z]))
    side = np.arange(500) % 2
    v = np.column_stack([rng.uniform(-0.9, 0.9, (500, 2)), np.where(side, 0.01, -0.01)])
    expected = np.where(side, 0.012, -0.009)
    np.testing.assert_allclose(found.move(v)[:, 2], expected, atol=1e-6)


# ----------------------------------------------------------------------------------- large clouds


def test_patches_and_blocks_change_nothing(rng, monkeypatch):
    """Seams are exact: a cloud in small patches gets the very heights that it gets in one."""
    points = cloud(rng, 6000)
    points[:60] += 0.1 * rng.standard_normal((60, 3))
    v = vertices(rng)
    whole = detail.fit(sphere, points)
    expected = whole.move(v)
    monkeypatch.setattr(regression, "PATCH", (300, 500))
    monkeypatch.setattr(projection, "BLOCK", 1000)
    monkeypatch.setattr(detail, "MOVED", 700)
    monkeypatch.setattr(detail, "BLOCK", 90)
    found = detail.fit(sphere, points)
    assert found.report == whole.report and found.report.outliers > 30
    assert np.array_equal(found.move(v), expected)


@pytest.mark.parametrize("noise", [0.0, 0.004])
def test_crowded_points_are_averaged_and_the_mesh_is_no_worse(rng, noise):
    """Cells of half the grid's, some three points in each: its mesh errs as much between its
    vertices, where the points' own detail would not show."""
    grid = Grid.of([-1] * 3, [1] * 3, 32)
    mesh, _ = extraction.extract(lambda p: sphere(p)[0], grid)
    points = cloud(rng, 24_000, noise)
    points[:240] += 0.1 * rng.standard_normal((240, 3))
    alone = detail.fit(sphere, points)
    together = detail.fit(sphere, points, cell=grid.spacing / 2)
    assert len(together.fitted.samples.points) < 0.5 * len(alone.fitted.samples.points)
    assert 120 < together.report.outliers < 480
    assert together.report.noise == pytest.approx(noise, rel=0.2)

    def mesh_error(found):
        return error(found.move(mesh.points)[mesh.faces].mean(axis=1))

    assert mesh_error(together) < 1.05 * mesh_error(alone)


def test_cells_with_a_point_each_change_hardly_anything(rng):
    points = cloud(rng, 4000)
    v = vertices(rng)
    alone = detail.fit(sphere, points).move(v)
    together = detail.fit(sphere, points, cell=1e-6).move(v)
    assert error(together) < 1.05 * error(alone)
