"""What the benchmarks compute besides times."""

import argparse

import common
from igr import devices
import networks
import step
import surfaces

import pytest


def test_a_contestant_that_cannot_run_is_left_out(capsys):
    def fails(repeat):
        raise common.CannotRun("no compiler")

    found = common.alternate({"a": lambda repeat: [1.0, 3.0], "b": fails}, 3, 2)
    assert found == {"a": 2.0} and "b cannot run: no compiler" in capsys.readouterr().out


def test_rates_of_a_step_in_the_graph():
    args = argparse.Namespace(rounds=1, repeat=1)
    device = devices.Device("cpu-graph", kernel=False, cuda=False, rows=8)
    row = step.graph_row(args, device, None, {}, 16, 8, 4)
    assert row["tflops"] * 1e12 * row["ours"] == pytest.approx(step.flop(16, 8, 4), rel=1e-12)
    assert row["share_of_product"] == row["tflops"] / row["product_tflops"]
    weights = sum(i * o for i, o in networks.layer_shapes(16))
    assert step.flop(16, 8, 4) == 2 * weights * (3 * 8 + 6 * 12)


def test_table_of_the_surfaces():
    """results/surfaces.md shows the lines of benchmarks/surfaces.jsonl."""
    page = surfaces.PAGE.read_text()
    assert surfaces.render(page, surfaces.known()) == page
    found = {"reference_to_surface": 0.3604, "mesh_to_surface": 0.3371, "pieces": 1, "euler": 0,
             "mesh_seconds": 12.4}
    row = {"shape": "lucy", "case": "clean", "flags": "--mu 0", "grid": 512,
           "training_seconds": 141.2, "network": {**found, "reference_to_surface": 1.5},
           "detail": found}
    line = "| lucy | `--mu 0` | 1.500 / 0.337 | 0.360 / 0.337 | 1 | 0 | 141 | 12 |"
    assert surfaces.table([row]).splitlines()[-1] == line
    assert line in surfaces.render(page, [row])
