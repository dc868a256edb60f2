"""Seams of a scene: parts of cells fit together, whatever their networks are.

Networks are stood in for by the exact distance to a shape, with an error of each cell's own.
"""

import json
from pathlib import Path
from types import SimpleNamespace

from conftest import ROOT
from helper import UserError
from igr.formats import files
from igr.geometry import meshes
from igr.geometry.frames import Frame
from igr.scene import assembly, blend, driver, jobs, survey
from igr.scene.assembly import Ends
from igr.scene.cluster import Outcome, Program
from igr.scene.meshing import Part
from igr.scene.plan import Cell, Folder, Plan

import numpy as np
import pytest

SETTINGS = {"clouds": [], "quality": "draft", "train_iter": 5, "dims": 8, "cell_points": 800,
            "spacing": 0.04, "winding": False, "context": "cpu"}
RING, TUBE = 1.0, 0.35


def torus(p):
    return np.hypot(np.hypot(p[:, 0], p[:, 1]) - RING, p[:, 2]) - TUBE


def on_torus(rng, n):
    t, u = rng.uniform(0, 2 * np.pi, (2, 3 * n))
    good = np.flatnonzero(rng.random(3 * n) < (RING + TUBE * np.cos(u)) / (RING + TUBE))[:n]
    t, u = t[good], u[good]
    r = RING + TUBE * np.cos(u)
    return np.stack([r * np.cos(t), r * np.sin(t), TUBE * np.sin(u)], axis=1)


def stand_ins(shape, error=0.0, fails=()):
    """Tools whose networks are the function `shape` of the world, off by waves of so many metres
    that differ from cell to cell. The trainings of cells that `fails` names fail."""

    def fit(cloud, folder, flags):
        cell = folder.parent.name
        if cell in fails:
            raise UserError("the loss is nan at step 3")
        folder.mkdir(exist_ok=True)
        frame = Frame.of(np.load(cloud)[:, :3])
        path = folder / "param_00001.h5"
        path.write_text(json.dumps([frame.center, frame.scale, int(cell)]))
        return path

    def load(path):
        center, scale, phase = json.loads(Path(path).read_text())
        frame = Frame(tuple(center), scale)

        def f(pts_unit):
            p = frame.to_world(pts_unit)
            return (shape(p) + error * np.sin(5 * p.sum(axis=1) + phase)) / scale

        def with_gradient(pts_unit):
            p = np.asarray(pts_unit, np.float64)
            slope = [(f(p + step) - f(p - step)) / 2e-5 for step in 1e-5 * np.eye(3)]
            return f(p).astype(np.float32), np.stack(slope, axis=1).astype(np.float32)

        mlp = SimpleNamespace(evaluate=lambda p: f(p).astype(np.float32),
                              evaluate_with_gradient=with_gradient)
        return SimpleNamespace(mlp=mlp, frame=frame, volume_factor=1.5, info={"held_out": ""})

    return jobs.Tools(fit, lambda folder: next(folder.glob("param_*.h5")), load)


@pytest.fixture
def scene(tmp_path, monkeypatch):
    """scene(points, tools, **settings): a scene whose jobs run in this process, and its cells with
    a part."""

    def make(points, tools, **settings):
        def run_all(client, orders, program, tell):
            outcomes = []
            for order in orders:
                failure = ""
                try:
                    jobs.do(order, tools, 64 << 30)
                except UserError as error:
                    failure = str(error)
                outcomes.append(Outcome(order, failure, 0.0))
                tell(outcomes[-1])
            return outcomes

        monkeypatch.setattr(driver.cluster, "run_all", run_all)
        folder = Folder(tmp_path / "scene")
        folder.path.mkdir(exist_ok=True)
        np.save(tmp_path / "cloud.npy", points)
        settings = {**SETTINGS, **settings}
        plan = folder.read_plan()
        if plan is None or plan.settings != settings:
            plan = survey.make_plan([tmp_path / "cloud.npy"], folder, settings)
        made = driver.Scene(plan, folder, Program(ROOT, 3.0), "code", None, 1)
        return made, driver.make_parts(made)

    return make


def mesh_of(made, names, **ends):
    return assembly.assemble(made.plan, made.folder, names, Ends(**ends))


@pytest.mark.parametrize("shift", [0.0, 1e7])
def test_a_torus_in_cells_is_one_torus(scene, rng, shift):
    """Watertight and of genus 1, and as near to the truth as a network alone would be: errors of
    the networks that differ on both sides of a seam make no step there."""
    points = on_torus(rng, 3000) + shift
    tools = stand_ins(lambda p: torus(p - shift), error=0.004)
    made, names = scene(points, tools)
    assert len(names) >= 8
    mesh = mesh_of(made, names)
    counts = meshes.topology(mesh)
    assert (counts["components"], counts["genus"], counts["boundary_edges"]) == (1, 1, 0)
    assert counts["nonmanifold_edges"] == 0 and meshes.signed_volume(
        mesh._replace(points=mesh.points - shift)) > 0
    assert np.abs(torus(mesh.points - shift)).max() < 0.0045


def test_cells_are_as_good_as_one(scene, rng):
    points = on_torus(rng, 12_000)
    tools = stand_ins(torus, error=0.003)
    off = []
    for limit in (3000, 50_000):
        made, names = scene(points, tools, cell_points=limit)
        assert (len(names) > 1) == (limit == 3000)
        mesh = mesh_of(made, names)
        assert meshes.topology(mesh)["genus"] == 1
        off.append(np.abs(torus(mesh.points)).mean())
    assert off[0] < 1.05 * off[1]


def test_both_sides_of_a_seam_have_the_same_vertices(scene, rng):
    made, names = scene(on_torus(rng, 3000), stand_ins(torus, error=0.004))
    parts = [Part.read(made.folder.cell(name) / "part.npz") for name in names]
    welded = assembly.weld(parts)
    assert welded.seams > 200 and welded.gap < 1e-3
    assert sum(len(part.faces) for part in parts) == len(welded.mesh.faces)
    assert not len(meshes.boundary_edges(welded.mesh)[0])
    assert all(len(meshes.boundary_edges(meshes.Geometry(part.places, None, part.faces))[0])
               for part in parts)


def test_a_cell_that_fails_is_named(scene, rng, caplog, monkeypatch):
    monkeypatch.setattr(survey, "LEAST_MARGIN", 4)  # else its neighbours reach through all of it
    points = on_torus(rng, 3000)
    made, names = scene(points, stand_ins(torus, fails=("0002",)))
    assert "cell 0002: train failed 3 times" in caplog.text and "the loss is nan" in caplog.text
    assert "0002" not in names and len(names) == len(made.plan.cells) - 1
    mesh = mesh_of(made, names, trim=True)
    assert len(meshes.boundary_edges(mesh)[0]) and np.abs(torus(mesh.points)).max() < 0.0045
    # later it succeeds: it and what it touches are done again, and the hole is gone
    made, names = scene(points, stand_ins(torus))
    assert "0002" in names and not len(meshes.boundary_edges(mesh_of(made, names))[0])


def test_what_is_done_stays(scene, rng):
    points = on_torus(rng, 3000)
    made, names = scene(points, stand_ins(torus, error=0.004))
    first = mesh_of(made, names)
    marks = {path: path.stat().st_mtime_ns for path in made.folder.path.rglob("*.json")}
    lost = [made.folder.cell("0001") / "mesh.json", made.folder.cell("0003") / "part.npz",
            made.folder.cell("0003") / "mesh.json", made.folder.cell("0004") / "detail.json"]
    for path in lost:
        path.unlink()
    again, names = scene(points, stand_ins(torus, error=0.004))
    second = mesh_of(again, names)
    assert np.array_equal(first.points, second.points) and np.array_equal(first.faces, second.faces)
    changed = {path for path, at in marks.items() if path.stat().st_mtime_ns != at}
    assert changed == {path for path in lost if path.suffix == ".json"}


def test_a_cell_with_few_points_is_left_out(scene, rng, caplog):
    """Beside the torus, in a cell of their own."""
    few = np.array([4.0, 4, 4]) + 0.01 * rng.standard_normal((20, 3))
    made, names = scene(np.concatenate([on_torus(rng, 3000), few]), stand_ins(torus))
    assert "1 cells with 20 points together are left out" in caplog.text
    assert len(names) == len(made.plan.cells) - 1
    assert meshes.topology(mesh_of(made, names))["genus"] == 1


def test_one_point_a_cell_is_no_scene(scene, rng):
    with pytest.raises(UserError, match="no cell has enough points: --cell-points"):
        scene(rng.random((60, 3)), stand_ins(torus), cell_points=1, spacing=0.004)


def test_a_job_that_takes_too_much_is_named_with_the_remedy(scene, rng):
    def load(path):
        raise MemoryError

    tools = stand_ins(torus)._replace(load=load)
    with pytest.raises(UserError, match="64 GiB are too little for its detail: --memory gives"):
        scene(on_torus(rng, 3000), tools)


def test_a_mesh_larger_than_the_memory_is_refused(scene, rng, monkeypatch):
    made, names = scene(on_torus(rng, 3000), stand_ins(torus))
    monkeypatch.setattr(assembly.memory, "available", lambda: 1e6)
    with pytest.raises(UserError, match=r"a mesh of \d+ faces would take about .*--spacing"):
        mesh_of(made, names)


def test_an_open_sheet_ends_where_its_points_end(scene, rng):
    points = np.concatenate([rng.uniform(-1, 1, (3000, 2)), np.zeros((3000, 1))], axis=1)
    made, names = scene(points, stand_ins(lambda p: p[:, 2], error=0.002))
    mesh = mesh_of(made, names, trim=True)
    counts = meshes.topology(mesh)
    assert (counts["components"], counts["rims"], counts["euler_characteristic"]) == (1, 1, 1)
    assert meshes.face_areas(mesh).sum() == pytest.approx(4, rel=0.25)  # 1.5 spacings farther


def test_a_ghost_goes(scene, rng):
    """A sphere inside the ring's hole, where no point is."""
    def shape(p):
        return np.minimum(torus(p), np.linalg.norm(p - [0.05, 0.06, 0.04], axis=1) - 0.2)

    made, names = scene(on_torus(rng, 3000), stand_ins(shape))
    assert meshes.topology(mesh_of(made, names))["components"] == 1


def test_colours_cross_seams(scene, rng, tmp_path):
    points = on_torus(rng, 3000)
    colors = np.clip(0.5 + points / 3, 0, 1)
    np.save(tmp_path / "colored.npy", np.concatenate([points, np.round(255 * colors)], axis=1))
    folder = Folder(tmp_path / "scene")
    folder.path.mkdir()
    survey.make_plan([tmp_path / "colored.npy"], folder, SETTINGS)
    made, names = scene(points, stand_ins(torus))
    mesh = mesh_of(made, names)
    assert np.abs(mesh.colors - (0.5 + mesh.points / 3)).max() < 0.05


@pytest.mark.parametrize(("suffix", "shift"), [(".ply", 0.0), (".glb", 1e7)])
def test_tiles_fit_together(scene, rng, tmp_path, suffix, shift):
    made, names = scene(on_torus(rng, 3000) + shift, stand_ins(lambda p: torus(p - shift)))
    mesh = mesh_of(made, names)
    found = assembly.write_tiles(tmp_path / "tiles", mesh, made.plan, suffix)
    index = json.loads((tmp_path / "tiles" / "index.json").read_text())
    assert index["tiles"] == found and len(found) >= 8
    tiles = [files.read(tmp_path / "tiles" / tile["file"]) for tile in found]
    assert sum(len(tile.faces) for tile in tiles) == len(mesh.faces)
    vertices = np.unique(np.concatenate([tile.points for tile in tiles]), axis=0)
    assert len(vertices) == len(np.unique((mesh.points - index["origin"]).astype("f4"), axis=0))
    assert np.abs(torus(vertices + index["origin"] - shift)).max() < 0.01


# -------------------------------------------------------------------------------------- the blend


def two_cells():
    cells = [Cell("0000", (0, 0, 0), 64, 20, 1), Cell("0001", (64, 0, 0), 64, 20, 1),
             Cell("0002", (128, 0, 0), 32, 20, 1)]
    return Plan((10.0, 0.0, 0.0), 0.5, 1.0, cells, False, "", {}, "")


def members(plan, functions):
    made = []
    for cell, f in zip(plan.cells, functions):
        frame = Frame((20.0, 3.0, 4.0), 2.0)

        def evaluate(p, f=f, frame=frame):
            return f(frame.to_world(p)) / frame.scale

        def with_gradient(p, evaluate=evaluate):
            p = np.asarray(p, np.float64)
            slope = [(evaluate(p + h) - evaluate(p - h)) / 2e-4 for h in 1e-4 * np.eye(3)]
            return evaluate(p), np.stack(slope, axis=1)

        made.append(blend.Member(cell, frame, evaluate, with_gradient))
    return made


def test_the_weight_is_one_half_on_a_cores_side(rng):
    cell = Cell("0000", (0, 0, 0), 64, 10, 1)
    inner = np.array([[0, 32, 32], [64, 32, 32], [32, 32, 32], [0, 0, 0], [-11, 32, 32]], float)
    assert blend.weight(cell, inner) == pytest.approx([0.5, 0.5, 1, 0.125, 0])
    places = rng.uniform(-12, 76, (200, 3))
    w, gradient = blend.weight_with_gradient(cell, places)
    slope = [(blend.weight(cell, places + h) - blend.weight(cell, places - h)) / 2e-6
             for h in 1e-6 * np.eye(3)]
    assert w == pytest.approx(blend.weight(cell, places))
    np.testing.assert_allclose(gradient, np.stack(slope, axis=1), atol=1e-6)


def test_blended_values_are_lengths_and_have_their_gradient(rng):
    """In grid spacings of half a metre, whatever the networks' own units."""
    plan = two_cells()
    found = members(plan, [lambda p: p[:, 0] - 30, lambda p: p[:, 0] - 31, lambda p: p[:, 1]])
    f = blend.Blend(plan, found, found[0])
    left = np.array([[20.0, 30, 30], [64.0, 30, 30]])
    expected = [(20 * 0.5 + 10 - 30) / 0.5, (64 * 0.5 + 10 - 30.5) / 0.5]
    assert f.values(left) == pytest.approx(expected, rel=1e-5)
    places = rng.uniform([-10, -10, -10], [170, 70, 70], (300, 3))
    value, gradient = f.values_with_gradient(places)
    np.testing.assert_allclose(value, f.values(places), rtol=1e-4, atol=1e-3)
    slope = [(f.values_with_gradient(places + h)[0] - f.values_with_gradient(places - h)[0]) / 2e-3
             for h in 1e-3 * np.eye(3)]
    np.testing.assert_allclose(gradient, np.stack(slope, axis=1), rtol=0.02, atol=0.05)


@pytest.mark.parametrize("missing", [None, 1])
def test_each_grid_cell_has_one_owner(rng, missing):
    """Also where a cell without a network is between others, as far as their margins reach."""
    plan = two_cells()
    found = members(plan, [lambda p: p[:, 0]] * 3)
    if missing is not None:
        del found[missing]
    cells = rng.integers([-25, -25, -25], [190, 90, 90], (20_000, 3))
    owned = np.stack([blend.Blend(plan, found, own).owns(cells) for own in found])
    assert owned.sum(axis=0).max() == 1
    reached = np.any([blend.weight(member.cell, cells + 0.5) > 0 for member in found], axis=0)
    assert (owned.any(axis=0) == reached).all()


