"""There is a seed in each piece of a surface, and all seeds lie on it."""

import fields
from igr.isosurface import seeds
from igr.isosurface.grids import CORNERS, Grid
from igr.isosurface.seeds import crossed_on_edges, find_seeds, uncertain_eighths
from igr.isosurface.values import STRIDE, ValueStore

import numpy as np
import pytest

GRID = Grid.of([-1, -1, -1], [1, 0.9, 1.2], 58)
NORMAL = np.array([0.36, 0.48, -0.8])  # of length 1
CENTERS = np.array([[0.1, -0.1, 0.3], [-0.7, 0.6, 1.0], [0.9, -0.8, -0.9]])


def balls(radius):
    """The distance to three balls."""
    return lambda p: np.linalg.norm(p[:, None] - CENTERS, axis=2).min(axis=1) - radius


def plane(slope):
    return lambda p: slope * (p @ NORMAL - 0.13)


def found(f, grid=GRID, level=0.0):
    store = ValueStore(f, grid)
    cells, slope = find_seeds(store, np.float32(level))
    cells = np.unique(cells[grid.has_cells(cells)], axis=0)
    return cells, slope, store.evaluations


def have_sign_change(f, cells, grid=GRID, level=0.0):
    at = f(grid.points((cells[:, None] + CORNERS).reshape(-1, 3))).reshape(-1, 8)
    return (at > level).any(axis=1) & ~(at > level).all(axis=1)


@pytest.mark.parametrize("cells, slope", [(0.9, 1), (2, 1), (5, 1), (2, 6), (5, 6)])
def test_each_ball_has_seeds(cells, slope):
    """Down to a radius that is sure to hold a grid point, wherever they lie."""
    f = balls(cells * GRID.spacing)
    at, _, evaluations = found(lambda p: slope * f(p))
    assert len(at) and have_sign_change(f, at).all()
    distance = np.linalg.norm(GRID.points(at + 0.5)[:, None] - CENTERS, axis=2)
    assert set(distance.argmin(axis=1)) == {0, 1, 2}
    assert evaluations < GRID.shape.prod() / 15


@pytest.mark.parametrize("n", [8, 20, 58, 96])
def test_seeds_of_a_plane_are_about_a_lattice_cell_apart(n):
    grid = Grid.of([-1, -1, -1], [1, 0.9, 1.2], n)
    at, slope, evaluations = found(plane(3), grid)
    assert have_sign_change(plane(3), at, grid).all()
    cells = np.argwhere(np.ones(grid.shape - 1, bool))
    crossed = have_sign_change(plane(3), cells, grid).sum()
    assert 2 * crossed / STRIDE**2 < len(at) < 12 * crossed / STRIDE**2
    assert 2.5 < slope < 3.001  # between two corners: none is right along the normal
    assert evaluations < 1.5 * crossed + 25**3


def test_the_level_counts():
    at_zero, at_level = found(balls(0.3))[0], found(balls(0.1), level=0.2)[0]
    assert 0 < len(at_level) and {*map(tuple, at_level)} == {*map(tuple, at_zero)}


def test_slices_change_nothing(monkeypatch):
    whole = found(balls(0.3))
    monkeypatch.setattr(seeds, "CELLS_AT_A_TIME", 100)
    sliced = found(balls(0.3))
    assert {*map(tuple, whole[0])} == {*map(tuple, sliced[0])} and whole[1:] == sliced[1:]


def test_all_changes_of_sign_along_an_edge_are_seeds():
    """The surface goes through an edge from (0, 0, 0) to (4, 0, 0) three times."""
    store = ValueStore(lambda p: np.cos(np.pi * (p[:, 0] - GRID.low[0]) / GRID.spacing), GRID)
    above = np.array([[True, True, True, True, False, False, False, False]])
    cells = crossed_on_edges(store, np.float32(0), np.zeros((1, 3), int), above, 3)
    expected = {(i, j, k) for i in range(3) for j in (-1, 0, 2, 3) for k in (-1, 0, 2, 3)}
    assert {*map(tuple, cells)} == expected and store.evaluations == 16


def test_an_eighth_that_may_hold_a_zero_is_never_dropped(rng):
    """Against points of the cell: those within |f| of a corner hold no zero."""
    side = 0.5
    axis = np.linspace(0, 1, 13)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    to_corners = np.linalg.norm(points[:, None] - CORNERS, axis=2)  # of a unit cell
    centers = rng.standard_normal((400, 1, 3))
    radii = rng.uniform(0, 3, (400, 1))
    values = np.linalg.norm(centers - CORNERS, axis=2) - radii
    slope, uncertain = uncertain_eighths(side * values, side)
    assert 0.9 < slope <= 1
    assert 0.2 < uncertain.mean() < 0.9
    certain = (to_corners < np.abs(values[:, None])).any(axis=2)
    for eighth, corner in enumerate(CORNERS):
        inside = (np.abs(points - (corner + 0.5) / 2) <= 0.25).all(axis=1)
        assert certain[~uncertain[:, eighth]][:, inside].all()


def test_a_steeper_function_is_uncertain_where_it_would_not_be_with_a_slope_of_1():
    values = np.where(CORNERS[:, 0] == 0, 1.0, 5.0)[None]
    slope, uncertain = uncertain_eighths(values, 1.0)
    assert slope == pytest.approx(4) and uncertain[0].tolist() == [True] * 4 + [False] * 4
    assert not uncertain_eighths(values, 4.0)[1][0, 4:].any()


def test_few_points_where_the_surface_is_small():
    grid = Grid.of([-1.5] * 3, [1.5] * 3, 1025)
    at, _, evaluations = found(fields.specks(2 * grid.spacing), grid)
    assert len(at) and evaluations < 6000
