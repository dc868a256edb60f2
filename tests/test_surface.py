"""The sparse extraction equals the dense one, and both equal scikit-image's on the whole grid.

The parts have tests of their own: test_grids, test_values, test_seeds, test_tracing and
test_marching.
"""

import json

from benchmarks.speed import extract
import fields
from helper import UserError
from igr.geometry import meshes
from igr.isosurface import extraction
from networks import MLP, Architecture

import numpy as np
import pytest
from skimage.measure import marching_cubes
import trimesh

KNOT = fields.knot()
CLOSED = {"sphere": (fields.sphere, 2), "box": (fields.box, 2), "knot": (KNOT, 0),
          "plate": (fields.plate, 2), "steep": (fields.steep, 2), "gyroid": (fields.gyroid, None)}


def grid(n, side=1.5):
    return extraction.Grid.of([-side] * 3, [side] * 3, n)


def assert_same(a, b, g, tolerance):
    """tolerance: largest distance between two vertices, in cells."""
    assert fields.difference(a, b, g) <= tolerance


@pytest.mark.parametrize("name", list(CLOSED))
@pytest.mark.parametrize("n", [20, 100, pytest.param(257, marks=pytest.mark.slow)])
def test_sparse_equals_dense(name, n):
    f, euler = CLOSED[name]
    sparse, stats = extraction.extract(f, grid(n))
    dense, dense_stats = extraction.extract(f, grid(n), dense=True)
    assert stats.cells == dense_stats.cells
    assert dense_stats.evaluations == dense_stats.dense == n**3
    assert stats.evaluations < n**3
    assert_same(sparse, dense, grid(n), 0)
    solid = trimesh.Trimesh(sparse.points, sparse.faces, process=False)
    if n > 20:
        assert solid.is_watertight and solid.is_winding_consistent
        assert euler is None or solid.euler_number == euler


@pytest.mark.parametrize("name", list(CLOSED))
def test_dense_equals_scikit_image(name):
    """Within the rounding of scikit-image's own float32 coordinates."""
    f, n = CLOSED[name][0], 70
    g = grid(n)
    index = np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    volume = f(g.points(index)).reshape(n, n, n)
    points, faces, _, _ = marching_cubes(volume, 0, gradient_direction="ascent")
    truth = extraction.Geometry(g.points(points.astype(np.float64)), None, faces[:, ::-1])
    assert_same(extraction.extract(f, g)[0], truth, g, 2e-5)


def test_sparse_equals_dense_on_a_network():
    mlp = MLP(Architecture(64), radius=0.6, seed=2, kernel=True)
    sparse, stats = extraction.extract(mlp.evaluate, grid(129))
    dense, _ = extraction.extract(mlp.evaluate, grid(129), dense=True)
    assert_same(sparse, dense, grid(129), 0)
    assert stats.dense / stats.evaluations > 20


def test_vertices_lie_on_edges_and_on_the_surface():
    mesh, _ = extraction.extract(fields.sphere, grid(65))
    at = (mesh.points - grid(65).low) / grid(65).spacing
    assert (np.isclose(at, np.round(at), atol=1e-5).sum(axis=1) >= 2).all()
    assert np.abs(fields.sphere(mesh.points)).max() < grid(65).spacing ** 2
    solid = trimesh.Trimesh(mesh.points, mesh.faces, process=False)
    assert solid.area == pytest.approx(4 * np.pi * 0.49, rel=0.02)


def test_faces_look_outwards_whatever_the_sign():
    for f in (fields.sphere, lambda p: -fields.sphere(p)):
        mesh, _ = extraction.extract(f, grid(33))
        assert trimesh.Trimesh(mesh.points, mesh.faces, process=False).volume > 0
    inwards, _ = extraction.extract(fields.sphere, grid(33), outward=-1)
    assert trimesh.Trimesh(inwards.points, inwards.faces, process=False).volume < 0


def test_a_box_within_the_surface_takes_its_sign_from_a_larger_grid():
    g = extraction.Grid.of([-0.3] * 3, [0.9, 0.3, 0.3], 40)
    outward = extraction.sign_outside(fields.sphere, grid(8))
    mesh, _ = extraction.extract(fields.sphere, g, outward=outward)
    corners = mesh.points[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert ((normals * corners.mean(axis=1)).sum(axis=1) > 0).all()


def test_small_specks_far_apart_are_found():
    g = grid(257)
    mesh, stats = extraction.extract(fields.specks(2 * g.spacing), g)
    solid = trimesh.Trimesh(mesh.points, mesh.faces, process=False)
    assert len(solid.split()) == 2 and solid.is_watertight
    assert stats.evaluations < 10_000


def test_thin_sheets_between_the_lattices_points_are_found():
    g = grid(97)
    sparse, stats = extraction.extract(fields.sheets(g.spacing), g)
    dense, _ = extraction.extract(fields.sheets(g.spacing), g, dense=True)
    assert meshes.components(dense).max() + 1 == 3
    assert_same(sparse, dense, g, 0)
    assert stats.evaluations < 3.2 * stats.cells


def test_a_component_once_touched_is_complete():
    """Steep slopes hide most of a thread from the lattices; it is followed from its seeds."""

    def f(p):
        thread = np.hypot(p[:, 1] - 0.013, p[:, 2] + 0.017) - 0.035
        return np.where(p[:, 0] > -1.2, np.sign(thread) * np.minimum(np.abs(8 * thread), 1), 1.0)

    sparse, stats = extraction.extract(f, grid(129))
    dense, _ = extraction.extract(f, grid(129), dense=True)
    assert_same(sparse, dense, grid(129), 0)
    assert stats.dense / stats.evaluations > 200


@pytest.mark.parametrize("n", [129, 200])
def test_a_small_steep_sphere_is_found_and_warned_of(n):
    """The first lattice has at least one point at which f is not the large sphere's alone."""
    sparse, stats = extraction.extract(fields.steep_speck, grid(n))
    dense, _ = extraction.extract(fields.steep_speck, grid(n), dense=True)
    assert_same(sparse, dense, grid(n), 0)
    assert stats.slope == pytest.approx(8, rel=0.1) and stats.dense / stats.evaluations > 15
    steep, = extraction.warnings_of(stats)
    assert "pieces may be missing; --dense finds them" in steep


def test_knot_at_513_needs_a_hundredth_of_the_grid():
    mesh, stats = extraction.extract(KNOT, grid(513))
    assert stats.dense / stats.evaluations > 100
    assert trimesh.Trimesh(mesh.points, mesh.faces, process=False).euler_number == 0


def test_a_box_that_is_no_cube_and_a_cut_surface():
    g = extraction.Grid.of([-1, -1, 0], [1, 1, 0.5], 65)
    assert g.shape.tolist() == [65, 65, 17]
    mesh, stats = extraction.extract(fields.sphere, g)
    dense, _ = extraction.extract(fields.sphere, g, dense=True)
    assert_same(mesh, dense, g, 0)
    assert stats.open and mesh.points[:, 2].min() >= 0 and mesh.points[:, 2].max() <= 0.5 + 1e-9
    assert not extraction.extract(fields.sphere, grid(65))[1].open


def test_another_level():
    mesh, _ = extraction.extract(fields.sphere, grid(65), level=0.2)
    np.testing.assert_allclose(np.linalg.norm(mesh.points, axis=1), 0.9, atol=2e-3)


@pytest.mark.parametrize("f, message", [
    (lambda p: np.ones(len(p)), "does not cross"),
    (lambda p: np.where(p[:, 0] > 1, np.nan, p[:, 1]), "not finite"),
])
def test_functions_without_a_mesh(f, message):
    with pytest.raises(UserError, match=message):
        extraction.extract(f, grid(33))


def test_warnings_where_something_may_be_missing():
    def lines(f, g):
        return extraction.warnings_of(extraction.extract(f, g)[1])

    assert lines(fields.sphere, grid(65)) == []
    cut, = lines(fields.sphere, grid(33, side=0.6))
    assert "is open" in cut and "--bounds" in cut
    steep, = lines(fields.steep, grid(65))
    assert "not a distance" in steep and "--dense" in steep


def test_the_benchmark_measures_a_field():
    row = extract.measure("gyroid", 33, dense=True, context="cpu")
    assert row["f"] == "gyroid" and row["grid"] == 33 and row["same_as_dense"]
    assert row["missed_cells"] == row["boundary_edges"] == 0 < row["evaluations"] < 33**3


def test_the_benchmark_keeps_the_rows_of_former_runs(tmp_path):
    former = [{"f": "knot", "grid": 33, "seconds": 1}, {"f": "plate", "grid": 33, "seconds": 2}]
    new = [{"f": "plate", "grid": 33, "seconds": 3}, {"f": "plate", "grid": 65, "seconds": 4}]
    path = tmp_path / "extract.json"
    assert extract.with_former(new, path) == new
    path.write_text(json.dumps({"rows": former}))
    assert extract.with_former(new, path) == [former[0], *new]
