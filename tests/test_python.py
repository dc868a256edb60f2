"""What notebooks call: train.fit, train.resume and infer.mesh_of, without a command line."""

from dataclasses import asdict, replace
import json

import fields
import helper
from helper import UserError
from igr.backend import threads
from igr.field import checkpoints
from igr.field.encoding import frequencies_for
from igr.formats import files
from igr.geometry import shapes
from igr.geometry.frames import Geometry
from igr.isosurface.extraction import Grid
from igr.training import runs
import infer
import train

import numpy as np
import pytest

SETTINGS = train.Settings(dims=16, batch_size=32, knn=5, train_iter=40, test_rate=0.1)
OPTIONS = train.Options(save_interval_epoch=2, grid_size=16, quiet=True, context="cpu")
FLAGS = {**asdict(train.Settings()), **asdict(train.Options())}
LINE = ("train.py -f c.ply -m line --dims 16 -b 32 -k 5 -ti 40 -tr 0.1 -sie 2 --grid-size 16 "
        "--quiet --context cpu")


@pytest.fixture
def cloud(tmp_path):
    before = threads.count()
    files.write(tmp_path / "c.ply", shapes.sample("sphere", 200))
    yield tmp_path / "c.ply"
    threads.set_count(before)


def test_fit_resume_and_mesh(script, cloud, tmp_path, capsys):
    """They do, bit for bit, what the command lines do, and say nothing when they are asked to."""
    last = train.fit(cloud, tmp_path / "run", SETTINGS, OPTIONS)
    script(LINE)
    assert last == tmp_path / "run/param_00008.h5"
    arrays, info = checkpoints.load_checkpoint(last)
    same, told = checkpoints.load_checkpoint(tmp_path / "line/param_00008.h5")
    assert all(np.array_equal(array, same[name]) for name, array in arrays.items())
    assert info.keys() == told.keys() and info["flags"].keys() == told["flags"].keys()
    changed = {name for name in info["flags"] if info["flags"][name] != told["flags"][name]}
    assert changed == {"fpath", "monitor_path"}
    last.unlink()
    assert train.resume(tmp_path / "run", threads=1, quiet=True, knn=5) == last
    again, info = checkpoints.load_checkpoint(last)
    assert again.keys() == arrays.keys() and info["flags"]["threads"] == 1
    options = infer.Extraction(grid_size=24, level=0.01)
    mesh, stats, *_ = infer.mesh_of(tmp_path / "line/param_00008.h5", options)
    script("infer.py -mlp line/param_00008.h5 --grid-size 24 --level 0.01 -o line.ply")
    # gradients' last bits depend on the number of threads, and the detail's fits amplify them
    assert np.abs(mesh.points - files.read(tmp_path / "line.ply").points).max() < 1e-5
    assert stats.grid == (24, 24, 24) and not capsys.readouterr().out


def test_what_they_refuse(cloud, tmp_path):
    train.fit(cloud, tmp_path / "run", SETTINGS, OPTIONS)
    with pytest.raises(UserError, match="holds another run"):
        train.fit(cloud, tmp_path / "run", SETTINGS, OPTIONS)
    assert train.fit(cloud, tmp_path / "run", SETTINGS, OPTIONS, overwrite=True).is_file()
    with pytest.raises(UserError, match=r"--dims 32 \(the run has 16\)"):
        train.resume(tmp_path / "run", dims=32)
    with pytest.raises(TypeError, match="no flag dim"):
        train.resume(tmp_path / "run", dim=32)


def test_defaults_are_those_of_the_command_line(capsys):
    """Each default stands in --help, and a flag that is not typed is not in what parse_args says.
    """
    assert vars(train.parse_args(["-f", "c.ply"])) == {"fpath": "c.ply"}
    typed = vars(train.parse_args("--resume -m run --lam 0.1 --with-normals".split()))
    assert typed == {"resume": True, "monitor_path": "run", "lam": 0.1, "with_normals": True}
    with pytest.raises(SystemExit):
        train.parse_args(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    for name, value in FLAGS.items():
        assert f"--{name.replace('_', '-')}" in said
        if value is not None and value is not False:
            assert f"(default: {value})" in said, name


def test_a_run_keeps_its_settings_and_may_change_its_options():
    info = {"flags": {**FLAGS, "dims": 64, "quiet": True, "train_iter": 50}, "step": 40,
            "cloud": "/a/c.ply"}
    fixed = helper.names_of(train.Settings)
    flags = runs.flags_to_resume(info, {"dims": 64, "grid_size": 99}, fixed)
    assert flags["dims"] == 64 and flags["grid_size"] == 99 and flags["fpath"] == "/a/c.ply"
    assert not flags["quiet"]  # this one is not taken over
    with pytest.raises(UserError) as error:
        runs.flags_to_resume(info, {"dims": 65, "lam": 1.0, "threads": 1}, fixed)
    assert "--dims 65 (the run has 64), --lam 1.0 (the run has 0.1); leave" in str(error.value)
    with pytest.raises(UserError, match="train-iter 60"):  # it is not finished
        runs.flags_to_resume(info, {"train_iter": 60}, fixed)


def test_a_finished_run_goes_on_bit_for_bit(cloud, tmp_path):
    """Its rate rises to a third and falls again, its frequencies stay open. A part of it that is
    made again is the same."""
    settings = replace(SETTINGS, frequencies=2)
    train.fit(cloud, tmp_path / "run", settings, OPTIONS)
    first = train.resume(tmp_path / "run", train_iter=100, quiet=True, save_interval_epoch=1)
    rows = [json.loads(row) for row in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "rate" in row] == [40, 50, 100]
    weights = checkpoints.load_checkpoint(first)[0]
    longer = replace(settings, learning_rate=0.3, train_iter=100)
    plan = train.plan_of(train.Start(cloud, longer, OPTIONS, finished=40), 100)
    rates = [plan.rate_at(step) for step in range(40, 100)]
    assert max(rates) == pytest.approx(0.1, rel=0.05) and rates[-1] < 0.01
    assert plan.opened_at(40, 2) == 2
    first.unlink()
    again = train.resume(tmp_path / "run", quiet=True)
    assert again == first
    assert all(np.array_equal(a, weights[name])
               for name, a in checkpoints.load_checkpoint(again)[0].items())
    with pytest.raises(UserError, match="train-iter 90"):
        train.resume(tmp_path / "run", train_iter=90)


def test_sparse_equals_dense_with_detail_and_outliers(cloud, tmp_path, rng):
    """The same vertices, up to the rounding of f in other blocks, and the same triangles."""
    points = shapes.sample("sphere", 3000).points
    points[:30] += 0.2 * rng.standard_normal((30, 3))
    files.write(cloud, Geometry(points))
    settings = replace(SETTINGS, train_iter=150, dims=32)
    last = train.fit(cloud, tmp_path / "run", settings, OPTIONS)
    sparse, stats, *_ = infer.mesh_of(last, infer.Extraction(65))
    dense = infer.mesh_of(last, infer.Extraction(65, dense=True)).mesh
    network = infer.mesh_of(last, infer.Extraction(65, detail="off")).mesh
    assert stats.dense > stats.evaluations
    grid = Grid.of([-1.5] * 3, [1.5] * 3, 65)
    assert fields.difference(sparse, dense, grid) < 1e-4  # cells: f is summed in other blocks
    assert np.abs(sparse.points - network.points).max() > 1e-3


def test_the_papers_settings():
    """--paper is one word for them; other flags change them; infer.py then adds no detail."""
    given = vars(train.parse_args(["-f", "c.ply", "--paper", "--dims", "64"]))
    settings = helper.options_from(train.Settings, given)
    assert settings == replace(train.PAPER, dims=64)
    assert train.is_papers(settings) and not train.is_papers(train.Settings())
    plan = train.plan_of(train.Start("c.ply", train.PAPER, OPTIONS), 100_000)
    assert [plan.rate_at(step) for step in (0, 1999, 2000, 4000)] == [0.005, 0.005, 0.0025, 0.00125]


def test_the_papers_network_gets_no_detail(cloud, tmp_path, caplog):
    settings = replace(train.PAPER, dims=16, batch_size=32, uniform=32, knn=5, train_iter=40)
    last = train.fit(cloud, tmp_path / "run", settings, OPTIONS)
    plain = infer.mesh_of(last, infer.Extraction(24, detail="off", keep_all=True)).mesh
    caplog.set_level("INFO", "igr")
    mesh = infer.mesh_of(last, infer.Extraction(24)).mesh
    assert "the paper has none" in caplog.text
    assert np.array_equal(mesh.points, plain.points)


def test_frequencies_follow_the_points(cloud, tmp_path):
    """Fewer points resolve fewer waves; what was taken is kept for a resumed run."""
    assert [frequencies_for(s) for s in (1e-4, 0.009, 0.0436, 2.0)] == [8, 8, 5, 0]
    last = train.fit(cloud, tmp_path / "run", replace(SETTINGS, train_iter=20), OPTIONS)
    info = checkpoints.load_checkpoint(last)[1]
    assert 0 < info["flags"]["frequencies"] == info["architecture"]["frequencies"] < 8


def test_a_cloud_that_has_changed_gives_the_networks_mesh(cloud, tmp_path, caplog):
    last = train.fit(cloud, tmp_path / "run", SETTINGS, OPTIONS)
    files.write(cloud, shapes.sample("torus", 300))
    made = infer.mesh_of(last, infer.Extraction(24))
    assert "another cloud than the network was trained on; -f names" in caplog.text
    plain = infer.mesh_of(last, infer.Extraction(24, detail="off")).mesh
    assert np.array_equal(made.mesh.points, plain.points) and made.note == infer.NO_DETAIL
    with pytest.raises(UserError, match="another cloud"):
        infer.mesh_of(last, infer.Extraction(24, trim="auto"))
    named = infer.mesh_of(last, infer.Extraction(24, fpath=cloud))
    assert named.note == str(named.detail.report)
