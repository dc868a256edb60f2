"""Whether a training may end: the rule, the averaged weights, and runs that end by it."""

import json

from igr.backend import threads
from igr.field import checkpoints
from igr.formats import files
from igr.geometry import shapes
from igr.training import loop, schedule
from igr.training.settling import EVERY, HORIZON, Evidence, RunningAverage, reason_to_end
import train

import nnabla as nn
import numpy as np
import pytest


def looks(*rows):
    """Evidence of (height, pieces, Euler number) after 250, 500, ... steps."""
    return [Evidence(250 * (i + 1), *row) for i, row in enumerate(rows)]


@pytest.mark.parametrize("rows, said", [
    ([(0.01, 1, 2)], ""),  # one look tells nothing of the topology
    ([(0.09, 1, 2), (0.05, 1, 2)], "0.05 spacings off"),
    ([(0.09, 1, 0), (0.05, 1, 2)], ""),
    ([(0.09, 2, 2), (0.05, 1, 2)], ""),
    ([(0.9, 1, 2), (0.8, 1, 2)], ""),  # nothing is known of two thirds of the steps
    ([(0.9, 1, 2), (0.8, 1, 2), (0.75, 1, 2)], "no nearer than 0.75"),
    ([(0.9, 1, 2), (0.7, 1, 2), (0.5, 1, 2), (0.4, 1, 2), (0.35, 1, 2), (0.3, 1, 2)], ""),
])
def test_the_rule(rows, said):
    reason = reason_to_end(looks(*rows), 0.1)
    assert said in reason and bool(said) == bool(reason)


def test_the_average_follows_the_weights_and_leaves_them(rng):
    weights = {"w": nn.Variable((3, 2))}
    weights["w"].d = start = rng.standard_normal((3, 2)).astype(np.float32)
    average = RunningAverage(weights)
    weights["w"].d = start + 1
    for _ in range(HORIZON // EVERY):
        average.add()
    with average.in_place():
        assert 0.5 < (weights["w"].d - start).mean() < 0.8  # 1 - 1/e
    assert np.array_equal(weights["w"].d, start + 1)
    again = RunningAverage(weights)
    again.set_state(average.state())
    assert np.array_equal(again.values["w"], average.values["w"])


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Makes a short run on a sphere in a folder; it looks at itself every 20 steps."""
    monkeypatch.setattr(loop, "LOOK", 20)
    monkeypatch.setitem(schedule.ENOUGH, "normal", 0.5)
    monkeypatch.setattr(schedule, "OPENED", 60)
    files.write(tmp_path / "c.ply", shapes.sample("sphere", 6000))
    before = threads.count()
    settings = train.Settings(dims=16, batch_size=64, max_iter=600, frequencies=1)
    options = train.Options(threads=1, quiet=True, grid_size=16, save_interval_epoch=1)
    yield lambda name: train.fit(tmp_path / "c.ply", tmp_path / name, settings, options)
    threads.set_count(before)


def test_a_run_ends_when_its_surface_settles(run, tmp_path, caplog):
    caplog.set_level("INFO", "igr")
    info = checkpoints.load_checkpoint(run("a"))[1]
    assert info["ends"] == info["step"] < 600
    assert [look[0] for look in info["looks"]] == list(range(60, info["looks"][-1][0] + 1, 20))
    falls = info["looks"][-1][0]
    assert f"step {falls}: the rate falls until step {info['ends']}: left-out" in caplog.text
    rates = {row["step"]: row["rate"] for row in
             map(json.loads, (tmp_path / "a" / "log.jsonl").read_text().splitlines())
             if "rate" in row}
    assert rates[max(rates)] < 0.02 * max(rates.values())
    longer = train.resume(tmp_path / "a", train_iter=info["ends"] + 50, quiet=True)
    assert checkpoints.load_checkpoint(longer)[1]["step"] == info["ends"] + 50


def test_a_run_that_settles_is_resumed_bit_for_bit(run, tmp_path, monkeypatch):
    """Stopped without a warning before it has settled, and after that."""
    weights, info = checkpoints.load_checkpoint(run("whole"))
    settled = info["looks"][-1][0]
    check = loop.check_loss
    for last in (settled - 2, info["ends"] - 2):
        def kill(values, limit, step, *args, last=last):
            if step == last:
                raise KeyboardInterrupt
            check(values, limit, step, *args)

        monkeypatch.setattr(loop, "check_loss", kill)
        with pytest.raises(KeyboardInterrupt):
            run(f"stopped{last}")
        monkeypatch.setattr(loop, "check_loss", check)
        again, found = checkpoints.load_checkpoint(train.resume(tmp_path / f"stopped{last}",
                                                                quiet=True))
        assert (found["ends"], found["looks"]) == (info["ends"], info["looks"])
        assert all(np.array_equal(array, again[name]) for name, array in weights.items())
