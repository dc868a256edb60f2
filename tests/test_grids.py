"""The grid covers its box; every grid point has a key of its own."""

from helper import UserError
from igr.isosurface.grids import CORNERS, Grid, keys_of

import numpy as np
import pytest


def test_a_cube_is_spanned_exactly():
    grid = Grid.of([-1, -2, -3], [1, 0, -1], 21)
    assert grid.shape.tolist() == [21, 21, 21] and grid.spacing == pytest.approx(0.1)
    ends = grid.points(np.array([[0, 0, 0], grid.shape - 1]))
    np.testing.assert_allclose(ends, [[-1, -2, -3], [1, 0, -1]])


def test_a_short_side_has_fewer_points_and_is_still_covered():
    high = np.array([1, 0.44, 0.07])
    grid = Grid.of([0, 0, 0], high, 11)
    assert grid.shape.tolist() == [11, 6, 2]
    beyond = grid.points(grid.shape - 1) - high
    assert (beyond > -1e-9).all() and (beyond < grid.spacing).all()


@pytest.mark.parametrize("low, high, n, message", [
    ([-1] * 3, [1] * 3, 7, "a grid of 7 points a side is too coarse"),
    ([0, 0, 0], [1, 1, -1], 33, "inside out"),
])
def test_boxes_without_a_grid(low, high, n, message):
    with pytest.raises(UserError, match=message):
        Grid.of(low, high, n)


def test_cells_of_the_grid():
    grid = Grid.of([0, 0, 0], [1, 1, 0.5], 9)  # 8 x 8 x 4 cells
    cells = np.array([[0, 0, 0], [7, 7, 3], [8, 0, 0], [0, 0, 4], [-1, 0, 0], [0, -1, 2]])
    assert grid.has_cells(cells).tolist() == [True, True, False, False, False, False]


def test_keys_tell_all_points_apart_and_keep_their_order():
    axis = np.array([-(1 << 17), -1, 0, 1, 2048, (1 << 20) - (1 << 17) - 1])
    index = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    assert (np.diff(keys_of(index)) > 0).all()


def test_opposite_corners():
    assert (CORNERS + CORNERS[::-1] == 1).all() and len(np.unique(CORNERS, axis=0)) == 8
