"""What the benchmarks compute besides times."""

import argparse
import json

from benchmarks.common import ROOT
from benchmarks.results import normals
from benchmarks.speed import contestants, launches, step
from benchmarks.stress import scale
from benchmarks.stress.rope import Rope
from benchmarks.studies import surfaces
import helper
from igr.backend import devices
from igr.formats import files
import networks

import numpy as np
import pytest


def test_a_contestant_that_cannot_run_is_left_out(capsys):
    def fails(repeat):
        raise contestants.CannotRun("no compiler")

    found = contestants.alternate({"a": lambda repeat: [1.0, 3.0], "b": fails}, 3, 2)
    assert found == {"a": 2.0} and "b cannot run: no compiler" in capsys.readouterr().out


def test_rates_of_a_step_in_the_graph():
    device = devices.Device("cpu-graph", kernel=False, cuda=False, rows=8)
    contest = contestants.Contest(argparse.Namespace(rounds=1, repeat=1), device, twin=None)
    row = step.graph_row(contest, step.Size(16, 8, 4))
    assert row["tflops"] * 1e12 * row["ours"] == pytest.approx(step.flop(16, 8, 4), rel=1e-12)
    assert row["share_of_product"] == row["tflops"] / row["product_tflops"]
    weights = sum(i * o for i, o in networks.layer_shapes(16))
    assert step.flop(16, 8, 4) == 2 * weights * (3 * 8 + 6 * 12)


NCU = """==PROF== Connected
"ID","Kernel Name","gpu__time_duration.sum"
"","","ns"
"0","void nbla::kernel_adam_update<float>(int, T1 *)","2,000"
"1","sm80_xmma_gemm_f32f32_nn","1,500"
"2","void cublasLt::splitKreduce_kernel<32>(float)","1,500"
==PROF== Disconnected"""


def test_table_of_a_steps_kernels():
    found = launches.table(NCU.splitlines())
    assert (found["launches"], found["microseconds"]) == (3, 5)
    assert list(found["kinds"].items()) == [("products", {"launches": 2, "microseconds": 3}),
                                            ("solver", {"launches": 1, "microseconds": 2})]
    assert next(iter(found["kernels"])) == "kernel_adam_update<float>"
    with pytest.raises(helper.UserError, match="a time in us"):
        launches.table(NCU.replace('"ns"', '"us"').splitlines())
    with pytest.raises(helper.UserError, match="nothing ==ERROR== ERR_NVGPUCTRPERM"):
        launches.table(["==PROF== Connected", "==ERROR== ERR_NVGPUCTRPERM"])


def test_table_of_the_surfaces():
    """results/surfaces.md shows the lines of benchmarks/studies/surfaces.jsonl."""
    page = surfaces.PAGE.read_text()
    assert surfaces.render(page, surfaces.with_defaults(surfaces.known())) == page
    found = {"reference_to_surface": 0.3604, "mesh_to_surface": 0.3371, "pieces": 1, "euler": 0,
             "mesh_seconds": 12.4}
    row = {"shape": "lucy", "case": "clean", "flags": "--tau 1", "grid": 512,
           "training_seconds": 141.2, "network": {**found, "reference_to_surface": 1.5},
           "detail": found}
    line = "| lucy | `--tau 1` | 512 | 1 | 1.500 / 0.337 | 0.360 / 0.337 | 1 | 0 | 141 | 12 |"
    assert surfaces.table([row]).splitlines()[-1] == line
    assert line in surfaces.render(page, [row])


def test_a_mesh_of_the_rope_is_measured_against_the_rope(tmp_path, monkeypatch):
    """In half longest sides of the other points: a coarse mesh's distance is a groove's height."""
    monkeypatch.setattr(scale, "SAMPLES", 2000)
    files.write(tmp_path / "truth.ply", Rope().sample(2000, np.random.default_rng(1)))
    mesh = Rope(0).mesh(1024, 256)
    files.write(tmp_path / "mesh.ply", mesh)
    found = scale.mesh_to_truth(tmp_path / "mesh.ply", tmp_path / "truth.ply")
    half_side = np.ptp(mesh.points, axis=0).max() / 2
    assert found["mean"] == pytest.approx(0.0016 * 2 / np.pi / half_side, rel=0.1)
    assert found["mean"] < found["p99"] < found["max"]


def test_table_of_the_scale():
    """benchmarks/README.md shows the rows of benchmarks/stress/scale.json."""
    page = scale.PAGE.read_text()
    assert scale.render(page, scale.known()) == page
    cost = {"seconds": 12.4, "cpu_seconds": 7.6, "peak_mib": 1234.5}
    row = {"points": 500_000, "grid": 513, "steps": 2000, "faces": 999_999,
           "truth_to_mesh": {"mean": 1.234e-4}, "mesh_to_truth": {"mean": 5e-5},
           "costs": dict.fromkeys(scale.PARTS, cost)}
    line = ("| 500,000 | 513 | 2,000 | 0.000123 | 0.000050 | 999,999 "
            + "| 8, 12, 1,234 " * 4 + "|")
    assert scale.table([row]).splitlines()[-1] == line
    assert line in scale.render(page, [row])
    axes = scale.chart([row, {**row, "points": 5_000_000}]).axes
    assert [len(axis.lines) for axis in axes] == [2, len(scale.PARTS)]


def test_angles_of_normals():
    turned = [[0, 0, 2], [0, 1, 0], [0, 0, -1], [1, 0, 1]]
    found = normals.compare(np.array(turned, float), np.array([[0, 0, 1.0]] * 4))
    assert found == pytest.approx({"mean_angle": (0 + 90 + 180 + 45) / 4, "wrong_percent": 25})


def test_what_soak_found():
    found = json.loads((ROOT / "benchmarks/stress/soak.json").read_text())
    text = " ".join((ROOT / "benchmarks" / "README.md").read_text().split())
    done, refused, misused = (found["statuses"][status] for status in "012")
    assert (f"ran {found['commands']} commands (`soak.json`), of which {done} did their work, "
            f"{refused} said in one line why they could not and {misused} were wrong usage") in text
    assert found["findings"] == [] and "nothing was found" in text
