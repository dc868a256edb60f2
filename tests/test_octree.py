"""The octree drops no cell that holds a zero, and it drops most of the others."""

from igr.isosurface.grids import CORNERS, Grid
from igr.isosurface.octree import Octree, holds_no_zero, steepest_slope
from igr.isosurface.values import Blocks, ValueStore, in_chunks

import numpy as np
import pytest

SIZE = 8
CENTER = np.array([0.11, -0.07, 0.23])
NORMAL = np.array([0.36, 0.48, -0.8])  # of length 1
GRID = Grid.of([-1, -1, -1], [1, 0.9, 1.2], 41)


def sphere(radius):
    """The distance to a sphere, and the cells (n, 3) of GRID that hold a zero: exactly those that
    reach from inside the sphere to outside."""

    def holds_zero(lower):
        upper = lower + GRID.spacing
        nearest = np.linalg.norm(np.clip(CENTER, lower, upper) - CENTER, axis=1)
        farthest = np.linalg.norm(np.maximum(CENTER - lower, upper - CENTER), axis=1)
        return (nearest <= radius) & (radius <= farthest)

    return lambda p: np.linalg.norm(p - CENTER, axis=1) - radius, holds_zero


def plane(slope):
    """A linear function: its extremes in a cell are at corners."""

    def f(p):
        return slope * (p @ NORMAL - 0.13)

    def holds_zero(lower):
        at = f((lower[:, None] + GRID.spacing * CORNERS).reshape(-1, 3)).reshape(-1, 8)
        return (at.min(axis=1) <= 0) & (at.max(axis=1) >= 0)

    return f, holds_zero


CASES = {"sphere": sphere(0.6), "speck within a cell": sphere(0.3 * GRID.spacing),
         "plane": plane(1), "steep plane": plane(3)}


def candidates(octree):
    found = [np.empty((0, 3), np.int64)]
    for blocks in in_chunks(octree.candidate_blocks(SIZE), SIZE, chunk=7):
        found.append(blocks.grid_index(octree.candidate_cells(blocks, SIZE)))
        octree.store.end_chunk()
    return np.concatenate(found)


@pytest.mark.parametrize("name", list(CASES))
def test_no_cell_that_holds_a_zero_is_dropped(name):
    f, holds_zero = CASES[name]
    store = ValueStore(f, GRID)
    kept = {tuple(cell) for cell in candidates(Octree(store, np.float32(0), 1.0))}
    cells = np.argwhere(np.ones(GRID.shape - 1, bool))
    holding = cells[holds_zero(GRID.points(cells))]
    assert len(holding) and {tuple(cell) for cell in holding} <= kept
    # the last drop test has cells of two units: their eight children stay or go one by one
    assert len(kept) < 4 * len(holding) + 64
    assert store.evaluations < GRID.shape.prod() / 4


def test_the_level_counts():
    at_zero = candidates(Octree(ValueStore(sphere(0.6)[0], GRID), np.float32(0), 1.0))
    at_level = candidates(Octree(ValueStore(sphere(0.4)[0], GRID), np.float32(0.2), 1.0))
    assert 0 < len(at_level) and {*map(tuple, at_level)} == {*map(tuple, at_zero)}


def test_a_larger_lipschitz_bound_keeps_more():
    f = sphere(0.6)[0]
    once, twice = (candidates(Octree(ValueStore(f, GRID), np.float32(0), bound))
                   for bound in (1.0, 2.0))
    assert {*map(tuple, once)} < {*map(tuple, twice)}


def test_slope_and_levels_are_told():
    octree = Octree(ValueStore(plane(3)[0], GRID), np.float32(0), 1.0)
    candidates(octree)
    assert octree.slope == pytest.approx(3, rel=1e-3)
    # 44 cells: a root of 8 blocks a side, from 4 cells of 2 blocks down to the block's 8 units
    assert octree.levels == 2 + 3 + 1


def test_cells_of_one_step_only_are_all_kept():
    blocks = Blocks.empty(np.zeros((1, 3), np.int64), 2)
    store = ValueStore(plane(1)[0], GRID)
    assert len(Octree(store, np.float32(0), 1.0).candidate_cells(blocks, 1)) == 8
    assert store.evaluations == 0


def test_steepest_slope_of_a_linear_function_is_its_gradients_length():
    gradient = np.array([[1.0, -2.0, 2.0], [0.0, 0.0, 0.5]])
    side = 0.25
    corners = side * gradient @ CORNERS.T
    center = corners.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(steepest_slope(corners, center, side), [3, 0.5])


def test_steepest_slope_of_a_peak_is_seen_from_the_centre():
    assert steepest_slope(np.zeros((1, 8)), np.array([[1.0]]), 2.0) == pytest.approx(3**-0.5)


def test_the_drop_test_against_points_of_the_cell(rng):
    """Where it drops, each point is in one of the two balls; where it clearly does not, one is in
    neither. Side 0.5, bound 2: the balls' radii are f / 2."""
    side = 0.5
    axis = np.linspace(0, side, 21)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    to_k = np.linalg.norm(points, axis=1)
    to_c = np.linalg.norm(points - side, axis=1)
    f_k, f_c = rng.uniform(0, 2, (2, 2000))
    drop = holds_no_zero(f_k, f_c, 2.0, side)
    nearly = holds_no_zero(f_k, f_c + 0.06, 2.0, side)  # 0.03 > what lies between the points
    covered = np.array([((to_k < k / 2) | (to_c < c / 2)).all() for k, c in zip(f_k, f_c)])
    assert 0.2 < drop.mean() < 0.9
    assert covered[drop].all()
    assert not covered[~nearly].any()


def test_a_sign_change_is_never_dropped():
    assert holds_no_zero(9.0, 9.0, 1.0, 1.0) and holds_no_zero(-9.0, -9.0, 1.0, 1.0)
    assert not holds_no_zero(9.0, -9.0, 1.0, 1.0) and not holds_no_zero(-9.0, 9.0, 1.0, 1.0)
