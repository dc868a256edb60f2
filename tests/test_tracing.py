"""From one cell of a surface the tracer finds all of it, and nothing else."""

import itertools

from igr.isosurface.grids import CORNERS, Grid
from igr.isosurface.tracing import FACES, Tracer
from igr.isosurface.values import Blocks, ValueStore

import numpy as np
import pytest

SIZE = 8
GRID = Grid.of([-1, -1, -1], [1, 1, 0.7], 41)


def two_spheres(p):
    """One of radius 0.5 across many blocks, one of 0.15 in a corner."""
    large = np.linalg.norm(p - [-0.2, -0.3, 0.03], axis=1) - 0.5
    small = np.linalg.norm(p - [0.7, 0.71, -0.6], axis=1) - 0.15
    return np.minimum(large, small)


def crossed_by_brute_force(f, level=0.0):
    """The grid cells with a sign change: a set of (i, j, k)."""
    index = np.argwhere(np.ones(GRID.shape, bool))
    above = f(GRID.points(index)).reshape(GRID.shape) > level
    cells = np.argwhere(np.ones(GRID.shape - 1, bool))
    at = above[tuple((cells[:, None] + CORNERS).transpose(2, 0, 1))]
    return {tuple(cell) for cell in cells[at.any(axis=1) & ~at.all(axis=1)]}


def traced(tracer, start):
    """The crossed grid cells in the order in which they are found, from the cell `start`."""
    origin = np.array([start]) // SIZE * SIZE
    blocks = Blocks.empty(origin, SIZE)
    given = blocks.places(np.zeros(1, int), start - origin)
    found = []
    for chunk, cells in itertools.chain([(blocks, given)], tracer.remaining()):
        crossed = np.argwhere(tracer.crossed_cells(chunk, cells))
        found.append(chunk.origins[crossed[:, 0]] + crossed[:, 1:])
    return [tuple(cell) for cell in np.concatenate(found)]


@pytest.mark.parametrize("level", [0.0, 0.0837])
def test_one_component_is_found_wholly_and_once(level):
    cells = crossed_by_brute_force(two_spheres, level)
    start = min(cells)  # of the large sphere
    store = ValueStore(two_spheres, GRID)
    tracer = Tracer(store, np.float32(level), SIZE)
    found = traced(tracer, np.array(start))
    assert len(found) == len(set(found))
    assert set(found) == {cell for cell in cells if cell[0] < 28}
    assert len(cells) > len(found) > 1000
    assert store.evaluations < 2.5 * len(found)


def test_a_cell_without_a_sign_change_leads_nowhere():
    tracer = Tracer(ValueStore(two_spheres, GRID), np.float32(0), SIZE)
    assert traced(tracer, np.array([40, 2, 2])) == []


def test_visited_cells_are_not_looked_at_again():
    start = np.array(min(crossed_by_brute_force(two_spheres)))
    tracer = Tracer(ValueStore(two_spheres, GRID), np.float32(0), SIZE)
    assert len(traced(tracer, start)) > 1000
    assert traced(tracer, start) == [tuple(start)]  # was given again
    tracer.start_from(start[None])
    assert list(tracer.remaining()) == []


def test_the_surface_ends_at_the_grid():
    def plane(p):
        return p[:, 0] - 0.013

    tracer = Tracer(ValueStore(plane, GRID), np.float32(0), SIZE)
    found = traced(tracer, np.array([20, 0, 0]))
    assert set(found) == {(20, j, k) for j in range(40) for k in range(GRID.shape[2] - 1)}


def test_faces_are_shared_with_the_neighbour():
    for step, face in FACES:
        assert len(face) == 4
        beside = {tuple(corner) for corner in CORNERS + step}
        assert {tuple(corner) for corner in CORNERS[face]} == beside & {*map(tuple, CORNERS)}
