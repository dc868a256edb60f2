"""What the benchmarks compute besides times."""

import argparse

import common
from igr import devices
import networks
import step

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
