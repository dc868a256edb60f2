"""Scenes on Dask: by their command line, killed and resumed, with schedulers that are not there."""

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

from conftest import ROOT
from helper import UserError
from igr.formats import files
from igr.scene import cluster
from igr.scene.jobs import Order

import numpy as np
import pytest

# a capsule that two cells share, and a sphere in a third
FLAGS = "-ti 150 --dims 32 --cell-points 700 --spacing 0.08 --workers 1 --closed --context cpu"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("scene") / "cloud.npy"
    normal = rng.standard_normal((1500, 3))
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    rod = 0.5 * normal[:1200] + np.outer(rng.uniform(0, 3, 1200), [1, 0, 0])
    np.save(path, np.concatenate([rod[outside(rod)], [0.2, 3, 3] + 0.4 * normal[1200:]]))
    return path


def outside(points):
    """Of the capsule with the axis from 0 to 3 and the radius 0.5, those on its surface."""
    nearest = np.clip(points[:, 0], 0, 3)[:, None] * [1, 0, 0]
    return np.abs(np.linalg.norm(points - nearest, axis=1) - 0.5) < 0.12


def start(cloud, output, flags=FLAGS):
    words = [sys.executable, "-m", "igr", "scene", str(cloud), "-o", str(output), *flags.split()]
    return subprocess.Popen(words, cwd=ROOT, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, start_new_session=True,
                            env={**os.environ, "PYTHONUNBUFFERED": "1"})


@pytest.fixture(scope="module")
def undisturbed(cloud):
    """What a run wrote that nothing disturbed, and what it said."""
    output = cloud.with_name("whole.ply")
    process = start(cloud, output)
    said = process.communicate(timeout=280)[0]
    assert process.returncode == 0, said
    return output, said


def test_a_scene_by_its_command_line(undisturbed):
    output, said = undisturbed
    assert len(re.findall(r"^cell \d+: \d+ points, trained in", said, re.M)) >= 2
    assert files.read_mesh(output).faces.shape[0] > 100
    assert "http://" in said and "seams:" in said


def test_a_killed_scene_is_finished_by_the_same_command(cloud, undisturbed, tmp_path):
    """All of its processes at once, as by a power cut, after the first training: that is not done
    again, and the mesh is the undisturbed one's, byte for byte."""
    output = tmp_path / "killed.ply"
    process = start(cloud, output)
    for line in process.stdout:
        if "(1 of" in line:
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not output.exists()
    done = list((tmp_path / "killed_scene").glob("cells/*/train.json"))
    before = {path: path.stat().st_mtime_ns for path in done}
    process = start(cloud, output)
    said = process.communicate(timeout=280)[0]
    assert process.returncode == 0, said
    assert before and all(path.stat().st_mtime_ns == at for path, at in before.items())
    assert output.read_bytes() == undisturbed[0].read_bytes()


def test_a_damaged_cell_is_named_and_the_rest_is_kept(undisturbed, cloud):
    output, _ = undisturbed
    folder = output.with_name("whole_scene")
    cell = sorted(folder.glob("cells/*"))[-1]
    points = (cell / "points.npy").read_bytes()
    (cell / "train.json").unlink()
    # as many rows, but no numbers
    (cell / "points.npy").write_bytes(points[:128] + b"\xff" * (len(points) - 128))
    process = start(cloud, output.with_name("whole.ply"))
    said = process.communicate(timeout=280)[0]
    assert process.returncode == 0, said
    assert f"cell {cell.name}: train failed 3 times, and the mesh is made without it" in said
    (cell / "points.npy").write_bytes(points)


def test_a_scheduler_that_does_not_answer(cloud, tmp_path):
    process = start(cloud, tmp_path / "a.ply", f"{FLAGS} --scheduler tcp://127.0.0.1:9")
    said = process.communicate(timeout=100)[0]
    assert process.returncode == 1
    last = said.strip().splitlines()[-1]
    assert "tcp://127.0.0.1:9 does not answer" in last and "Traceback" not in said


def test_dask_that_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UserError, match=r"pip install -r requirements-scene.txt"):
        cluster.needed()


def test_workers_of_another_version_are_refused():
    def versions(check, packages):
        raise ValueError("Mismatched versions found\n\n+---\n| python | 3.10 | 3.9 |")

    with pytest.raises(UserError, match=r"other versions.*python \| 3.10 \| 3.9"):
        cluster.check_versions(SimpleNamespace(get_versions=versions))


def test_a_child_is_tried_three_times(tmp_path):
    code = "import sys, pathlib; p = pathlib.Path('n'); n = len(p.read_text()) if p.exists() else 0"
    code += "; p.write_text('x' * (n + 1)); print('try', n); sys.exit({})"
    for status, tries in (("n < 1", 2), ("1", 3), ("75", 1)):
        result = cluster.run_child(["-c", code.format(status)], str(tmp_path),
                                   str(tmp_path / "log"), 3)
        assert len((tmp_path / "n").read_text()) == tries
        assert result["said"] == f"try {tries - 1}"
        assert (result["status"] == 0) == (tries == 2)
        (tmp_path / "n").unlink()


def test_what_travels_needs_nothing_of_ours(tmp_path):
    """Schedulers and workers may run where the program is not to be found."""
    (tmp_path / "f").write_bytes(pickle.dumps(cluster.ByValue(cluster.run_child)))
    code = ("import pickle, sys\n"
            "f = pickle.load(open('f', 'rb'))\n"
            "print(f(['-c', 'print(7)'], '.', 'log', 1)['said'], 'igr' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, text=True,
                          capture_output=True, timeout=60)
    assert done.stdout == "7 False\n", done.stderr


def test_a_job_that_cannot_write_stops_the_scene():
    order = Order("scene", "train", "0001", [], [], "")
    full = SimpleNamespace(result=lambda: {"status": cluster.STOP, "said": "a: No space left",
                                           "seconds": 1.0})
    with pytest.raises(UserError, match="No space left; the same command does the rest"):
        cluster._outcome(full, order)
    killed = SimpleNamespace(result=lambda: {"status": -9, "said": "", "seconds": 1.0})
    assert cluster._outcome(killed, order).failure == (
        "ended by signal 9, perhaps since it took more than --memory")


def test_a_job_ends_with_its_worker(undisturbed):
    """Its input closes, and it stops as by a signal."""
    folder = undisturbed[0].with_name("whole_scene")
    order = Order(str(folder), "sides", "", [], [], "another")._asdict()
    slow = "import igr.__main__ as m, time; m.stop_with_worker(); time.sleep(60)"
    for words, status in ((["-c", slow], -signal.SIGTERM),
                          (["-m", "igr", "job", json.dumps(order), str(1 << 30)], cluster.STOP)):
        child = subprocess.Popen([sys.executable, *words], cwd=ROOT, stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE, text=True)
        began = time.monotonic()
        if "-c" in words:
            child.stdin.close()
        assert child.wait(timeout=50) == status and time.monotonic() - began < 50
        if status == cluster.STOP:
            assert "another version of the program" in child.stdout.read()
        child.stdout.close()


def test_local_workers_by_memory(monkeypatch):
    monkeypatch.setattr(cluster.helper, "cores", lambda: 16)
    for free, expected in ((1 << 30, 1), (10 << 30, 3), (100 << 30, 16)):
        monkeypatch.setattr(cluster.memory, "available", lambda free=free: free)
        assert cluster.local_workers(3.0) == expected
