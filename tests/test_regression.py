"""Local regression against numpy's least squares, and what its weights promise."""

from igr.geometry import regression
from igr.geometry.regression import Samples

import numpy as np
import pytest

UP = np.array([0.0, 0.0, 1.0])


def plane(rng, n=400, height=lambda x, y: 0 * x):
    points = np.column_stack([rng.uniform(-1, 1, (n, 2)), np.zeros(n)])
    return Samples.of(points, np.tile(UP, (n, 1)), height(points[:, 0], points[:, 1]), np.ones(n))


def test_a_fit_is_the_weighted_least_squares_fit(rng):
    """On a tilted plane, by numpy's lstsq with the ridge as rows of its own."""
    n = np.array([1.0, 2.0, -2.0]) / 3
    u = np.array([2.0, -1.0, 0.0]) / 5**0.5
    v = np.cross(n, u)
    flat = rng.uniform(-1, 1, (300, 2))
    points = flat @ np.stack([u, v])
    weights = rng.uniform(0.2, 1, 300)
    heights = np.sin(2 * flat[:, 0]) + flat[:, 1] ** 2 + rng.normal(0, 0.1, 300)
    samples = Samples.of(points, np.tile(n, (300, 1)), heights, weights)
    place = 0.1 * u - 0.2 * v
    found = samples.fit(place[None], n[None], 20, 2)[0]
    distance = np.linalg.norm(points - place, axis=1)
    near = np.argsort(distance)[:21]
    radius, near = distance[near[-1]], near[:-1]
    t = distance[near] / radius
    w = weights[near] * (1 - t) ** 4 * (4 * t + 1) * (1 - regression.AGREEMENT)
    x, y = ((points[near] - place) / radius @ np.stack([u, v]).T).T
    basis = np.column_stack([np.ones(20), x, y, x * x, x * y, y * y])
    ridge = np.diag([0, *[regression.RIDGE * w.sum()] * 5]) ** 0.5
    # the ridge is on the coefficients in the fit's own tangents: a turn mixes them in each degree
    # by a matrix that is not orthogonal for degree 2, so only nearly the same
    rows = np.concatenate([w[:, None] ** 0.5 * basis, ridge])
    right = np.concatenate([w**0.5 * heights[near], np.zeros(6)])
    expected = np.linalg.lstsq(rows, right, rcond=None)[0][0]
    assert found == pytest.approx(expected, abs=2e-3)
    assert abs(found - heights[near[0]]) > 0.01  # no mere copy of the nearest


@pytest.mark.parametrize("degree", [0, 1, 2])
def test_polynomials_are_reproduced(rng, degree):
    def height(x, y):
        return 1 + (degree > 0) * (x - 2 * y) + (degree > 1) * (x * x - x * y)

    samples = plane(rng, 2000, height)
    places = np.column_stack([rng.uniform(-0.8, 0.8, (50, 2)), np.zeros(50)])
    found = samples.fit(places, np.tile(UP, (50, 1)), 24, degree)
    np.testing.assert_allclose(found, height(places[:, 0], places[:, 1]), atol=6e-3)


def test_the_sides_of_a_thin_sheet_do_not_mix(rng):
    flat = rng.uniform(-1, 1, (1000, 2))
    side = np.arange(1000) % 2
    points = np.column_stack([flat, 1e-3 * side])
    normals = np.outer(2 * side - 1, UP)
    samples = Samples.of(points, normals, side.astype(float), np.ones(1000))
    place = np.zeros((2, 3))
    np.testing.assert_allclose(samples.fit(place, np.stack([UP, -UP]), 24, 1), [1, 0], atol=1e-12)


def test_a_sample_without_weight_has_no_say(rng):
    samples = plane(rng)
    wild = samples.heights.copy()
    weights = samples.weights.copy()
    wild[::7] = 1e6
    weights[::7] = 0
    changed = samples._replace(heights=wild, weights=weights)
    places = samples.points[::7]
    assert np.abs(changed.fit(places, np.tile(UP, (len(places), 1)), 24, 2)).max() < 1e-9


def test_blocks_and_threads_change_nothing(rng, monkeypatch):
    samples = plane(rng, 400, lambda x, y: np.sin(5 * x) * y)
    places = rng.uniform(-1, 1, (100, 3)) * [1, 1, 0]
    normals = np.tile(UP, (100, 1))
    whole = samples.fit(places, normals, 12, 2)
    monkeypatch.setattr(regression, "BLOCK", 7)
    assert np.array_equal(samples.fit(places, normals, 12, 2), whole)


def test_a_patch_with_its_rings_holds_all_that_it_looks_at(rng):
    points = np.column_stack([rng.uniform(-1, 1, (3000, 2)), np.zeros(3000)])
    points = points[regression.tree_order(points)]
    samples = Samples.of(points, np.tile(UP, (3000, 1)), np.zeros(3000), np.ones(3000))
    distance, index = samples.tree.query(points, k=13)
    patch = slice(1000, 1200)
    looks = [12, 4, 8]
    rings = regression.with_rings(samples, patch, looks, 12)
    seen = set(range(1000, 1200))
    for ring, look in enumerate([0, *looks]):
        seen |= set(index[sorted(seen), :look].ravel())
        rows, near = rings.inner(ring)
        assert len(rows) == len(seen) == rings.ends[ring] and set(rows) == seen
        np.testing.assert_array_equal(near[0], distance[rows])
        np.testing.assert_array_equal(near[1], index[rows])
    assert rings.ends[0] == 200 < rings.ends[3] < 600  # a patch lies together


def test_where_there_is_nothing_to_fit(rng):
    samples = plane(rng, 30)
    assert np.isnan(samples.fit(np.zeros((1, 3)), -UP[None], 12, 2)).all()  # none agrees
    one = Samples.of(*(array[:1] for array in samples[:4]))
    assert np.isnan(one.fit(np.zeros((1, 3)), UP[None], 12, 2)).all()
    same = Samples.of(np.zeros((20, 3)), np.tile(UP, (20, 1)), np.ones(20), np.ones(20))
    assert same.fit(np.zeros((1, 3)), UP[None], 12, 2)[0] == pytest.approx(1)
