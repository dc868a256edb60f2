"""Searches, spacing, distinct points and cubes, against brute force."""

from conftest import ROOT
from helper import UserError
from igr.backend import threads
from igr.geometry import neighbours, shapes

import numpy as np
import pytest
from scipy.spatial.distance import cdist


def test_nearest_and_kth_against_brute_force(rng):
    points = rng.standard_normal((60, 3)).astype(np.float32)
    places = rng.standard_normal((40, 3))
    every = cdist(places, points)
    distance, index = neighbours.nearest(places, points)
    assert np.array_equal(index, every.argmin(axis=1))
    np.testing.assert_allclose(distance, every.min(axis=1))
    within = neighbours.search(neighbours.tree_of(points), places, within=0.5)[0]
    assert np.array_equal(np.isinf(within), distance >= 0.5)
    tree = neighbours.tree_of(points)
    brute = np.sort(cdist(points, points), axis=1)
    np.testing.assert_allclose(neighbours.kth_distance(tree, 7), brute[:, 7], rtol=1e-5)
    assert neighbours.nearest_gap(tree) == pytest.approx(np.median(brute[:, 1]))
    assert neighbours.nearest_gap(neighbours.tree_of(points[:1])) == 0


def test_interpolation_weights_by_the_inverse_distance():
    """Of the nearest ones; a place on a point has its value."""
    points = np.array([(0, 0, 0), (3, 0, 0), (9, 0, 0)])
    values = np.array([(0.0, 8.0), (3.0, 2.0), (99.0, 99.0)])
    found = neighbours.interpolated(np.array([(1, 0, 0), (3, 0, 0)]), points, values, 2)
    np.testing.assert_allclose(found, [(1, 6), (3, 2)])


def test_searches_take_the_threads_that_are_allowed(monkeypatch):
    """By the workers that a tree is asked for."""
    class Tree:
        def query(self, places, workers, **other):
            return workers

    before = threads.count()
    try:
        threads.set_count(3)
        assert neighbours.search(Tree(), np.zeros((1, 3))) == 3
    finally:
        threads.set_count(before)


def test_trees_are_built_in_one_place():
    """And so searched by search(), or by one of our threads; the view looks at pictures' points."""
    builders = {path.name for folder in ("geometry", "pointcloud", "refinement", "training")
                for path in (ROOT / "igr" / folder).glob("*.py") if "cKDTree(" in path.read_text()}
    assert builders - {"rope.py"} <= {"neighbours.py"}


def test_the_spacing_does_not_depend_on_the_neighbour_that_tells_it():
    """It is the radius of the disc that a point has to itself: n of them are the sphere's area."""
    tree = neighbours.tree_of(shapes.sample("sphere", 20_000).points)
    for k in (5, 10, 40):
        spacing = neighbours.spacing_of(np.median(neighbours.kth_distance(tree, k)), k)
        assert 20_000 * np.pi * spacing**2 == pytest.approx(4 * np.pi, rel=0.1)


@pytest.mark.parametrize("points", [
    np.empty((0, 3)), np.ones((1, 3)), np.zeros((9, 3)),
    np.random.default_rng(0).integers(0, 4, (500, 3)).astype(np.float32),
    np.random.default_rng(0).standard_normal((500, 3)),
], ids=["none", "one", "equal", "on a grid", "random"])
def test_distinct_points_are_those_of_numpy(points):
    first, group = neighbours.distinct(points)
    expected, index, inverse = np.unique(points, axis=0, return_index=True, return_inverse=True)
    assert np.array_equal(points[first], expected) and np.array_equal(first, index)
    assert np.array_equal(group, inverse.reshape(-1))


def test_points_share_a_cube_and_a_direction(rng):
    points = rng.uniform(-1, 1, (300, 3))
    normals = np.where(np.arange(300)[:, None] % 2, [0.1, -1, 0], [0.1, 1, 0])
    places = np.floor((points - points.min(axis=0)) / 0.4)
    for given, keys in ((None, places), (normals, np.column_stack([places, normals[:, 1]]))):
        cube = neighbours.cubes(points, 0.4, given)
        assert np.array_equal(cube, np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1))
    with pytest.raises(UserError, match="too small"):
        neighbours.cubes(points, 1e-17)


@pytest.mark.parametrize("far", [1e5, 1e12])
def test_one_far_point_changes_no_cube_of_the_others(rng, far):
    points = np.vstack([rng.uniform(-1, 1, (300, 3)), np.full((1, 3), far)])
    alone = neighbours.cubes(points[:-1], 0.25)
    cube = neighbours.cubes(points, 0.25)
    assert np.array_equal(cube[:-1], alone) and cube[-1] == alone.max() + 1


def test_means_of_groups(rng):
    values, weights = rng.random((50, 2)), rng.random(50)
    group = np.arange(50) % 7
    found = neighbours.group_means(values, group, weights)
    for g in range(7):
        mine = group == g
        expected = np.average(values[mine], axis=0, weights=weights[mine])
        np.testing.assert_allclose(found[g], expected)
    np.testing.assert_allclose(neighbours.group_means(values, group)[3],
                               values[group == 3].mean(axis=0))


def test_blocks_cut_a_range():
    assert neighbours.blocks(7, 3) == [slice(0, 3), slice(3, 6), slice(6, 7)]
    assert neighbours.blocks(7, 3, start=5) == [slice(5, 7)] and neighbours.blocks(0, 3) == []
