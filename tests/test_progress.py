"""What a training shows while it runs."""

import io
import re
import sys

from igr.backend import progress
from igr.backend.progress import Progress, Watch
from igr.formats import files
from igr.geometry import shapes
from igr.training.monitoring import SurfaceMonitor

import pytest


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(monkeypatch, stream, *args) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    progress = Progress(*args)
    for step in progress:
        progress.show(1 / (step + 1), 0.001)
    return stream.getvalue()


def test_a_file_gets_ten_lines_and_a_terminal_a_bar(monkeypatch):
    lines = shown(monkeypatch, io.StringIO(), 0, 8000, False).splitlines()
    assert [line.split(",")[0] for line in lines] == [f"step {800 * i} of 8000"
                                                      for i in range(1, 11)]
    assert lines[-1].endswith("s, loss 1.25e-04, rate 1.0e-03")
    resumed = shown(monkeypatch, io.StringIO(), 7000, 8000, False).splitlines()
    assert [line.split(",")[0] for line in resumed] == ["step 7200 of 8000", "step 8000 of 8000"]
    assert len(shown(monkeypatch, io.StringIO(), 0, 3, False).splitlines()) == 3
    assert shown(monkeypatch, io.StringIO(), 0, 3, True) == ""
    assert shown(monkeypatch, Terminal(), 0, 3, True) == ""
    assert "\r" in shown(monkeypatch, Terminal(), 0, 3, False)


def test_other_work_says_a_line_now_and_then(monkeypatch, caplog):
    clock = iter([0.0, 1.0, 25.0, 30.0, 50.0, 90.0])
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(clock))
    caplog.set_level("INFO", "igr")
    watch = Watch("counting", 80)
    for parts in (10, 10, 10, 10, 40):
        watch.done(parts)
    assert caplog.messages == ["counting: 25 %, about 75 s left", "counting: 50 %, about 50 s left"]


def test_a_perfect_surface_is_at_the_floor():
    mesh = shapes.mesh("knot")
    points = shapes.sample("knot", 4000).points
    monitor = SurfaceMonitor(None, points, 16, 1.5, points[:1], 1.0)
    found = monitor.distances(mesh)
    assert found["chamfer_floor"] == pytest.approx(found["chamfer"], rel=0.05)


def test_a_training_says_both_in_few_lines(script, tmp_path):
    files.write(tmp_path / "c.ply", shapes.sample("sphere", 400))
    done = script("train.py -f c.ply -m run --dims 16 -b 32 -k 5 -ti 40 --grid-size 16 "
                  "--threads 1 -sie 100 -tr 0.25")
    steps = [line for line in done.stderr.splitlines() if line.startswith("step ")]
    assert len(steps) == 10 and "\r" not in done.stderr
    assert re.search(r"Chamfer 0\.\d{5} \(a perfect surface has about 0\.\d{5}\)", done.stdout)
