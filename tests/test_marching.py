"""A marched block equals scikit-image's, and sewing joins what two blocks share, nothing else."""

from igr.isosurface.grids import keys_of
from igr.isosurface.marching import Patch, march, march_block, sew
from igr.isosurface.values import Blocks

import numpy as np
import pytest
from skimage.measure import marching_cubes

SIZE = 8
MARGIN = 1e-4
NOWHERE = np.zeros(3, np.int64)


def noise(rng, *shape):
    """Values that change sign all over and keep away from 0."""
    values = rng.uniform(-1, 1, shape)
    return values + 0.05 * np.sign(values)


def all_cells(values):
    return np.ones([n - 1 for n in values.shape], bool)


def edges_of(patch):
    """Start (n, 3) and axis (n,) of the vertices' grid edges; all vertices must be on one."""
    assert (patch.edges >= 0).all()
    key = patch.edges // 4
    start = np.stack([key >> 40, key >> 20 & 0xFFFFF, key & 0xFFFFF], axis=1) - (1 << 17)
    return start, patch.edges % 4


@pytest.mark.parametrize("some", [False, True])
def test_a_block_equals_scikit_image(rng, some):
    values = noise(rng, SIZE + 1, SIZE + 1, SIZE + 1)
    crossed = rng.random((SIZE, SIZE, SIZE)) < 0.3 if some else all_cells(values)
    mask = np.zeros(values.shape, bool)
    mask[1:, 1:, 1:] = crossed
    vertices, faces, _, _ = marching_cubes(values, 0, mask=mask, gradient_direction="ascent")
    patch = march_block(values, crossed, np.array([16, 0, 40]), MARGIN)
    np.testing.assert_array_equal(patch.faces, faces)
    np.testing.assert_allclose(patch.vertices - [16, 0, 40], vertices, atol=2e-6)


def test_vertices_know_their_edge_and_lie_at_the_zero_of_the_values_there(rng):
    values = np.cumsum(noise(rng, SIZE + 1, SIZE + 1, SIZE + 1), axis=0)
    origin = np.array([8, 24, 0])
    patch = march_block(values, all_cells(values), origin, MARGIN)
    on_edge = patch.edges >= 0
    patch = Patch(patch.vertices[on_edge], patch.faces, patch.edges[on_edge])
    assert len(np.unique(patch.edges)) == len(patch.edges) > 300
    start, axis = edges_of(patch)
    along = patch.vertices - start
    share = along[np.arange(len(axis)), axis]
    across = along.copy()
    across[np.arange(len(axis)), axis] = 0
    assert (across == 0).all()
    v0 = values[tuple((start - origin).T)]
    v1 = values[tuple((start - origin + np.eye(3, dtype=int)[axis]).T)]
    assert (v0 * v1 < 0).all()
    np.testing.assert_allclose(v0 + share * (v1 - v0), 0, atol=1e-12)


def test_values_of_zero_put_vertices_on_the_grid_point_each_with_its_own_edge():
    i, j, k = np.indices((SIZE + 1,) * 3)
    values = (i - 4.0) + (j - 4.0) + (k - 4.0)
    patch = march_block(values, all_cells(values), NOWHERE, MARGIN)
    np.testing.assert_allclose(patch.vertices.sum(axis=1), 12, atol=1e-12)
    assert len(np.unique(patch.vertices, axis=0)) < len(patch.vertices)
    assert len(np.unique(patch.edges)) == len(patch.edges)


def test_blocks_without_crossed_cells_give_no_patch(rng):
    blocks = Blocks.empty(np.array([[0, 0, 0], [8, 0, 0], [16, 0, 0]]), SIZE)
    blocks.values[1] = noise(rng, *blocks.values.shape[1:]) + 3
    crossed = np.zeros((3, SIZE, SIZE, SIZE), bool)
    crossed[1] = True
    patches = march(blocks, crossed, np.float32(3), MARGIN)
    assert len(patches) == 1 and patches[0].vertices[:, 0].min() >= 8
    expected = march_block(blocks.values[1] - 3.0, crossed[1], blocks.origins[1], MARGIN)
    np.testing.assert_allclose(patches[0].vertices, expected.vertices, atol=1e-5)


@pytest.mark.parametrize("axis", range(3))
def test_two_sewn_blocks_equal_both_marched_as_one(rng, axis):
    shape = np.full(3, SIZE + 1)
    shape[axis] += SIZE
    whole = noise(rng, *shape)
    step = SIZE * np.eye(3, dtype=np.int64)[axis]
    halves = [np.take(whole, range(first, first + SIZE + 1), axis) for first in (0, SIZE)]
    patches = [march_block(half, all_cells(half), origin, MARGIN)
               for half, origin in zip(halves, (NOWHERE, step))]
    separate = sum(len(patch.vertices) for patch in patches)
    vertices, faces, _ = sew(patches, SIZE)
    assert patches == []  # emptied on the way
    one = march_block(whole, all_cells(whole), NOWHERE, MARGIN)
    assert len(vertices) == len(one.vertices) < separate
    corners, expected = vertices[faces], one.vertices[one.faces]
    np.testing.assert_array_equal(in_order(corners), in_order(expected))


def in_order(corners):
    """Triangles (m, 3, 3) as sorted rows, each begun at its least corner.

    Rounded: a vertex in the middle of a cell is scikit-image's, float32 in the block's own units.
    """
    corners = np.round(corners, 4)
    first = np.array([min(range(3), key=lambda c: tuple(triangle[c])) for triangle in corners])
    turned = corners[np.arange(len(corners))[:, None], (first[:, None] + np.arange(3)) % 3]
    rows = turned.reshape(-1, 9)
    return rows[np.lexsort(rows.T)]


def edge(i, j, k, axis):
    return 4 * keys_of(np.array([[i, j, k]]))[0] + axis


SIDE = SIZE  # a coordinate in the side between block 0 and block 1
PAIRS = {
    "the same edge in the side": ((SIDE, 2, 3.5), edge(SIDE, 2, 3, 2), edge(SIDE, 2, 3, 2), True),
    "other edges at the same grid point": ((SIDE, 2, 3), edge(SIDE, 2, 3, 2),
                                           edge(SIDE, 2, 3, 1), False),
    "edges on either hand of the side": ((SIDE, 2, 3), edge(SIDE - 1, 2, 3, 0),
                                         edge(SIDE, 2, 3, 0), False),
    "in the middle of a cell": ((SIDE + 0.5, 2.5, 3.5), -1, -1, False),
    "in the middle of cells, on the side": ((SIDE, 2.5, 3.5), -1, -1, False),
}


@pytest.mark.parametrize("name", list(PAIRS))
def test_what_is_sewn(name):
    """Two patches of one triangle each, whose first vertices are at the same place."""
    place, edge_a, edge_b, joined = PAIRS[name]
    a = Patch(np.array([place, [7.5, 1, 1], [7.5, 2, 2]]), np.array([[0, 1, 2]], np.int32),
              np.array([edge_a, edge(7, 1, 1, 0), edge(7, 2, 2, 0)]))
    b = Patch(np.array([[8.5, 1, 1], place, [8.5, 2, 2]]), np.array([[0, 1, 2]], np.int32),
              np.array([edge(8, 1, 1, 0), edge_b, edge(8, 2, 2, 0)]))
    expected = np.concatenate([a.vertices[a.faces], b.vertices[b.faces]])
    vertices, faces, _ = sew([a, b], SIZE)
    assert len(vertices) == (5 if joined else 6)
    assert (faces[0, 0] == faces[1, 1]) == joined
    np.testing.assert_array_equal(vertices[faces], expected)
