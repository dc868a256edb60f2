"""The store of values asks f at each grid point once and writes what f answers."""

from helper import UserError
from igr.isosurface.grids import CORNERS, Grid, keys_of
from igr.isosurface.values import Blocks, ValueStore, in_chunks

import numpy as np
import pytest

GRID = Grid.of([-1, -1, -1], [1, 1, 1], 17)
SIZE = 4
ORIGINS = np.stack(np.meshgrid(*[np.arange(0, 16, SIZE)] * 3, indexing="ij"), -1).reshape(-1, 3)


def linear(points):
    return points @ [1.0, 10.0, 100.0]


class Recorder:
    """f, and the grid index of all points at which it was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, points):
        assert points.dtype == np.float64 and points.ndim == 2
        self.asked.append(np.rint((points - GRID.low) / GRID.spacing).astype(np.int64))
        return linear(points)

    @property
    def keys(self):
        return keys_of(np.concatenate(self.asked))


def test_places_and_grid_index_agree():
    blocks = Blocks.empty(np.array([[0, 0, 0], [8, 0, 0]]), 8)
    index = np.array([[0, 1, 2], [3, 0, 1], [7, 3, 4], [7, 8, 7]])
    places = blocks.places(np.array([0, 1, 1, 0]), index)
    located, kept = blocks.locate(places)
    np.testing.assert_array_equal(located, index + blocks.origins[[0, 1, 1, 0]])
    assert kept.tolist() == [True, True, False, True]
    assert blocks.locate(blocks.places(np.zeros(1, int), np.array([[4, 4, 3]])))[1].all()  # an edge
    steps = CORNERS[[1, 6]]
    moved = blocks.locate((places[:2, None] + blocks.offsets(steps)).ravel())[0]
    np.testing.assert_array_equal(moved, (located[:2, None] + steps).reshape(-1, 3))


def test_steps_out_of_a_block():
    blocks = Blocks.empty(np.zeros((2, 3), int), SIZE)
    cells = np.argwhere(np.ones((2, SIZE, SIZE, SIZE), bool))
    places = blocks.places(cells[:, 0], cells[:, 1:])
    for step in np.concatenate([np.eye(3, dtype=int), -np.eye(3, dtype=int)]):
        there = cells[:, 1:] + step
        outside = ((there < 0) | (there >= SIZE)).any(axis=1)
        assert blocks.outside(places + blocks.offsets(step)).tolist() == outside.tolist()


def test_cells_of_blocks_that_reach_beyond_the_grid():
    blocks = Blocks.empty(np.array([[0, 0, 0], [12, 12, 14], [16, 0, 0]]), SIZE)
    mask = blocks.has_cells(GRID)
    assert mask.shape == blocks.values.shape and mask.sum(axis=(1, 2, 3)).tolist() == [64, 32, 0]
    assert mask[0, :4, :4, :4].all() and mask[1, :4, :4, :2].all()


def test_only_the_places_that_are_asked_for_are_filled():
    store = ValueStore(linear, GRID)
    blocks = Blocks.empty(ORIGINS[:2], SIZE)
    places = np.array([0, 7, 7, 131, 249])
    store.fill(blocks, places)
    values = blocks.values.ravel()
    assert np.flatnonzero(np.isfinite(values)).tolist() == [0, 7, 131, 249]
    index = blocks.locate(np.array([0, 7, 131, 249]))[0]
    np.testing.assert_allclose(values[[0, 7, 131, 249]], linear(GRID.points(index)), rtol=1e-6)


@pytest.mark.parametrize("chunk", [1, 5, 64])
def test_no_point_is_evaluated_twice(chunk):
    """Whether two blocks that share a point are in one chunk or in two."""
    f = Recorder()
    store = ValueStore(f, GRID)
    for blocks in in_chunks(ORIGINS, SIZE, chunk):
        everywhere = np.arange(blocks.values.size)
        store.fill(blocks, everywhere[::3])
        store.fill(blocks, everywhere)
        index = blocks.locate(everywhere)[0]
        np.testing.assert_allclose(blocks.values.ravel(), linear(GRID.points(index)), rtol=1e-5,
                                   atol=1e-5)
        store.end_chunk()
    assert len(np.unique(f.keys)) == len(f.keys) == store.evaluations == 17**3


def test_a_point_on_a_side_is_known_to_the_block_beside_it_and_one_inside_is_not_kept():
    f = Recorder()
    store = ValueStore(f, GRID)
    first = Blocks.empty(np.array([[0, 0, 0]]), SIZE)
    store.fill(first, np.arange(first.values.size))
    store.end_chunk()
    second = Blocks.empty(np.array([[SIZE, 0, 0]]), SIZE)
    store.fill(second, np.arange(second.values.size))
    assert [len(asked) for asked in f.asked] == [5**3, 5**3 - 5**2]
    again = Blocks.empty(np.array([[0, 0, 0]]), SIZE)
    store.end_chunk()
    store.fill(again, np.arange(again.values.size))
    assert len(f.asked[2]) == 3**3


def test_values_at_points_are_kept_and_known_to_blocks_on_the_lattices_edges():
    f = Recorder()
    store = ValueStore(f, GRID)
    index = np.array([[8, 4, 3], [2, 2, 2], [8, 4, 3]])
    np.testing.assert_allclose(store.values_at(index), linear(GRID.points(index)), rtol=1e-6)
    store.end_chunk()
    store.values_at(index)
    assert store.evaluations == 2
    blocks = Blocks.empty(np.array([[0, 0, 0]]), 16)
    store.fill(blocks, np.arange(blocks.values.size))
    assert store.evaluations == 17**3 + 1  # not on an edge, (2, 2, 2) is not looked up
    np.testing.assert_allclose(blocks.values[0, 8, 4, 3], linear(GRID.points(index[:1])), rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(bad):
    def f(points):
        return np.where(points[:, 0] > 0.9, bad, points[:, 1])

    store = ValueStore(f, GRID)
    fine = Blocks.empty(ORIGINS[:1], SIZE)
    store.fill(fine, np.arange(125))
    with pytest.raises(UserError, match=r"f is not finite at 25 of 100 points, as \[1\.0, -1\.0"):
        far = Blocks.empty(np.array([[8, 0, 0], [12, 0, 0]]), SIZE)
        store.fill(far, np.arange(150, 250))
