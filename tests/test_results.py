"""benchmarks/results.py: a tiny shape through the whole driver, killed, resumed, with a crash."""

import json
import os
import signal
import subprocess
import sys
import time

from conftest import ROOT
import geometry
import results
import results_curves as curves
import results_tables as tables
import shapes

import numpy as np
import pytest

# the settings of a run that takes seconds, as the first lines of a program
TINY = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "benchmarks")!r}]
import results
results.OURS["ours"] = "--dims 16 -ti 600 -k 5 -b 64"
results.OURS["ours-long"] = "--dims 16 -ti 700 -k 5 -b 64"
results.INFER, results.POINTS, results.SAVE_STEPS = "--grid-size 32", 400, 50
results.COURSE, results.COURSE_GRID = 2, 24
results.SHAPES = {{"letter": results.Shape(methods=("ours", "ours-long"))}}
results.main(results.parse_args(sys.argv[1:]))
"""


@pytest.fixture
def driver(tmp_path):
    """Start the tiny driver in tmp_path; a README beside its results."""
    (tmp_path / "results").mkdir()
    for path in ("README.md", "results/README.md"):
        (tmp_path / path).write_text("a\n<!-- results: shapes -->\nold\n<!-- end -->\nz\n")

    def start(*flags):
        return subprocess.Popen(
            [sys.executable, "-c", TINY, "--work", tmp_path / "work", "--results",
             tmp_path / "results", *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env={**os.environ, "DISPLAY": ""})

    return start


def wait_for_checkpoint(folder):
    end = time.time() + 120
    while not list(folder.glob("work/letter/clean-ours-*/param_*.h5")):
        assert time.time() < end, "no checkpoint was written"
        time.sleep(0.05)


def test_killed_and_gone_on_with(driver, tmp_path):
    """Killed in the midst of a training: the next call resumes it, and a third finds all done."""
    process = driver()
    wait_for_checkpoint(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "results" / "letter.json").exists()
    process = driver()  # what was left of the first holds the lock until it ends
    said, error = process.communicate(timeout=200)
    assert process.returncode == 0, said + error
    result = json.loads((tmp_path / "results" / "letter.json").read_text())
    found = result["cases"]["clean"]["methods"]
    assert list(found) == ["ours", "ours-long"] and result["cases"]["clean"]["points"] == 400
    course = found["ours-long"]["course"]
    assert len(course) == 2 and 0 < course[0]["step"] < course[1]["step"] == 700
    assert (tables.both(course[1]) < tables.both(course[0]) < 0.3
            and (tmp_path / "results" / "course.png").stat().st_size > 1000)
    entry = found["ours"]
    assert entry["seconds"] > 0.1 and entry["peak_mib"] > 50
    assert 0 < entry["default"]["reference_to_surface"]["mean"] < 0.3
    assert {"cube", "band"} <= set(entry["field"]) and entry["topology"]["faces"] > 50
    assert str(tmp_path) not in json.dumps({**entry, "settings": None})
    assert len(list((tmp_path / "work" / "letter").glob("clean-ours-" + "[0-9a-f]" * 8))) == 1
    before = (tmp_path / "results" / "letter.json").read_text()
    said = driver().communicate(timeout=100)[0]
    assert "letter" not in said  # nothing was done again
    assert (tmp_path / "results" / "letter.json").read_text() == before
    for path in ("README.md", "results/README.md"):
        text = (tmp_path / path).read_text()
        assert text.startswith("a\n<!--") and text.endswith("<!-- end -->\nz\n")
        assert "| letter | 400 |" in text and "old" not in text


def test_stopped_by_a_signal(driver, tmp_path):
    process = driver()
    wait_for_checkpoint(tmp_path)
    process.terminate()
    error = process.communicate(timeout=60)[1]
    assert process.returncode != 0 and "stopped; the same command goes on" in error


def job(tmp_path, method="poisson", script=None):
    cloud = shapes.sample("sphere", 300)
    geometry.write(tmp_path / "sphere.ply", shapes.mesh("sphere"))
    geometry.write(tmp_path / "clean.ply", cloud)
    made = results.Job(method, "clean", tmp_path, tmp_path / "sphere.ply",
                       {"points": 300, "cloud_sha256": ""}, ("default",), True, "")
    if script:
        (tmp_path / "peer.py").write_text(script)
        commands = [[tmp_path / "peer.py"]]
        made = type("Fake", (results.Job,), {"commands": lambda self: commands})(*made)
    return made


@pytest.mark.parametrize("script, said", [
    ("import ctypes; ctypes.string_at(0)", "died of SIGSEGV"),
    ("import sys; sys.exit('peer.py: no surface')", "peer.py: no surface"),
    ("import time; time.sleep(60)", "died of SIGKILL"),
])
def test_a_peer_that_crashes_is_one_line(tmp_path, monkeypatch, script, said):
    monkeypatch.setattr(results, "LIMIT", 3)
    with open(tmp_path / ".lock", "w") as lock, pytest.raises(results.Failed, match=said):
        job(tmp_path, script=script).make(lock)


@pytest.mark.parametrize("peer", results.PEERS)
def test_peers(script, tmp_path, peer):
    """Each makes a mesh on the cloud's surface; the ones that need no normals look at none."""
    cloud = shapes.sample("sphere", 2000)
    needs = peer in results.NEED_NORMALS
    geometry.write(tmp_path / "c.ply", cloud if needs else cloud._replace(normals=None))
    script(f"benchmarks/peers.py {peer} -f c.ply -o m.ply")
    points = geometry.read_mesh(tmp_path / "m.ply").points
    assert np.abs(np.linalg.norm(points, axis=1) - 1).max() < 0.05
    if needs:
        geometry.write(tmp_path / "c.ply", cloud._replace(normals=None))
        error = script(f"benchmarks/peers.py {peer} -f c.ply -o m.ply", status=1).stderr
        assert "needs a cloud with normals" in error


def test_time_and_memory_are_those_of_the_process(tmp_path):
    script = tmp_path / "fill.py"
    script.write_text("import time; a = bytearray(300 << 20); a[::4096] = b'x' * (300 << 8)\n"
                      "time.sleep(1)")
    with open(tmp_path / ".lock", "w") as lock:
        done = results.run([script], lock)
    assert done.status == 0 and 1 < done.seconds < 20 and 300 < done.peak_mib < 700


def test_cases(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "SPARSE", 100)
    cloud = shapes.sample("letter", 4000)
    geometry.write(tmp_path / "source.ply", cloud)
    found = results.cases(tmp_path / "source.ply", tmp_path, results.ALL_CASES)
    clouds = {name: geometry.read(tmp_path / f"{name}.ply") for name in found}
    assert {name: one["points"] for name, one in found.items()} == {
        name: len(one.points) for name, one in clouds.items()}
    assert len(clouds["sparse"].points) == 100
    moved = (clouds["noisy"].points - clouds["clean"].points) / 2.5  # the letter's half side
    assert moved.std() == pytest.approx(results.NOISE, rel=0.05)
    whole = {tuple(p) for p in clouds["clean"].points}
    rest = {tuple(p) for p in clouds["holes"].points}
    gone = np.array(sorted(whole - rest)) / 2.5
    assert rest < whole and 0.005 < len(gone) / 4000 < 0.2
    spread = np.linalg.norm(gone[:, None] - gone[None], axis=2)
    assert (spread.min(axis=1, where=spread > 0, initial=1) < 0.1).all()  # in balls, not scattered
    again = results.cases(tmp_path / "source.ply", tmp_path, results.ALL_CASES)
    assert again == found  # by the seed, bit for bit


def test_unknown_shape(driver):
    process = driver("cow")
    assert "unknown shape cow; known are letter" in process.communicate(timeout=60)[1]


def test_missing_data_is_said(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(results, "DATA", (tmp_path,))
    results.main(results.parse_args(["bunny", "--results", str(tmp_path)]))
    assert "bunny: not at hand" in capsys.readouterr().out


def figures(forth, back, **more):
    default = {"reference_to_surface": {"mean": forth, "p99": forth}, "chamfer": forth,
               "hausdorff": forth, "mesh_to_surface": {"mean": back, "p99": back}}
    topology = {"components": 1, "watertight": True, "euler_characteristic": 0}
    return {"default": default, "topology": topology, "seconds": 60.0, "peak_mib": 100.0, **more}


def test_tables_say_who_is_best_and_what_is_not_reached():
    result = {"reference": {"topology": figures(0, 0)["topology"], "scale": 1.0}, "cases": {
        "clean": {"points": 9, "methods": {"ours": figures(0.001, 0.003)}},
        "noisy": {"points": 9, "methods": {
            "ours": figures(0.004, 0.006), "poisson-estimated": figures(0.007, 0.001),
            "ball-pivoting": {"error": "died of SIGSEGV"}}}}}
    found = {"knot": result}
    assert "| knot | 9 | 1.0 | 0.0010 | 0.0030 | genus 1, 1 piece |" in tables.shapes(found)
    assert "0.0040 / 0.0060 |" in tables.cases(found) and "**0.0070 / 0.0010**" in tables.cases(
        found)
    assert "died of SIGSEGV" in tables.everything(found)
    targets = tables.targets(found)
    assert "0.0040 | 0.0050 | no |" in targets and "| genus 1, 1 piece | yes |" in targets
    assert "bunny" in targets and "not measured" in targets


def test_course_with_what_was_to_be_reached():
    course = [{"step": 100 * k, **figures(0.1 / k, 0.3 / k)} for k in (1, 2, 4)]
    for row in course:
        row["default"]["reference_to_surface"]["max"] = 1 / row["step"]
    longest = figures(0.02, 0.06, course=course)
    reference = {"topology": None, "scale": 10.0}
    case = {"points": 9, "methods": {"ours-long": longest,
                                     "poisson-estimated": figures(0.001, 0.003)}}
    figure = curves.chart(list(curves.lines({
        "gargoyle": {"reference": reference, "cases": {"clean": case}},
        "knot": {"reference": reference, "cases": {"holes": case}},
        "torus": {"reference": reference, "cases": {"clean": {"points": 9, "methods": {}}}}})))
    mean, both, farthest = ([(list(line.get_xdata()), list(line.get_ydata()), line.get_linestyle())
                             for line in axes.lines] for axes in figure.axes)
    steps = [100, 200, 400]
    assert mean == [(steps, [0.1, 0.05, 0.025], "-")] * 2
    assert both == [(steps, [0.2, 0.1, 0.05], "-")] * 2 + [([0, 1], [0.002, 0.002], "--")]
    assert farthest[1] == ([0, 1], [0.068, 0.068], "--")  # the benchmark's 0.68 in the unit frame
