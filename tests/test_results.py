"""The results' driver: a tiny shape through all of it, killed, resumed; its parts."""

import json
import os
import signal
import subprocess
import sys
import time

from benchmarks.results import clouds, driver, jobs, peers, pictures, process, settings, tables
from conftest import ROOT
from igr.formats import files
from igr.geometry import frames, shapes
from test_tables import figures

import numpy as np
import pytest

# a program that runs the driver with settings that take seconds
TINY = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}]
from benchmarks.results import driver, settings
settings.OURS["ours"] = "--dims 16 -ti 600 -k 5 -b 64"
settings.OURS["ours-seed-1"] = "--dims 16 -ti 700 -k 5 -b 64"
settings.INFER_FLAGS, settings.POINTS, settings.SAVE_STEPS = "--grid-size 32", 400, 50
settings.COURSE, settings.COURSE_GRID = 2, 24
settings.SHAPES.clear()
settings.SHAPES["letter"] = settings.Shape(
    methods=("ours", "ours-seed-1"), seeded=("clean",), course=True)
driver.main(driver.parse_args(sys.argv[1:]))
"""


@pytest.fixture
def start(tmp_path):
    """Start the tiny driver in tmp_path; a README beside its results."""
    (tmp_path / "results").mkdir()
    for path in ("README.md", "results/README.md"):
        (tmp_path / path).write_text("a\n<!-- results: shapes -->\nold\n<!-- end -->\nz\n")

    def run(*flags):
        return subprocess.Popen(
            [sys.executable, "-c", TINY, "--work", tmp_path / "work", "--results",
             tmp_path / "results", *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env={**os.environ, "DISPLAY": ""})

    return run


def wait_for_checkpoint(folder):
    end = time.time() + 120
    while not list(folder.glob("work/letter/clean-ours-*/param_*.h5")):
        assert time.time() < end, "no checkpoint was written"
        time.sleep(0.05)


def test_killed_and_resumed(start, tmp_path):
    """A driver killed during a training: the next one resumes it, a third finds everything done."""
    started = start()
    wait_for_checkpoint(tmp_path)
    started.send_signal(signal.SIGKILL)
    started.communicate()
    assert not (tmp_path / "results" / "letter.json").exists()
    started = start()  # the first one's training holds the lock until it ends
    said, error = started.communicate(timeout=200)
    assert started.returncode == 0, said + error
    result = json.loads((tmp_path / "results" / "letter.json").read_text())
    found = result["cases"]["clean"]["methods"]
    assert list(found) == ["ours", "ours-seed-1"] and result["cases"]["clean"]["points"] == 400
    course = found["ours"]["course"]
    assert len(course) == 2 and 0 < course[0]["step"] < course[1]["step"] == 600
    assert "course" not in found["ours-seed-1"]
    assert 0 < max(map(tables.mean_both_ways, course)) < 0.05
    assert (tmp_path / "results" / "course.png").stat().st_size > 1000
    entry = found["ours"]
    assert entry["seconds"] > 0.1 and entry["peak_mib"] > 50
    assert sorted(entry["parts"]) == ["infer.py", "train.py"] and entry["code"]["version"]
    assert (entry["steps"], entry["flags"]) == (600, "")
    assert 0 < entry["default"]["reference_to_surface"]["mean"] < 0.3
    assert {"cube", "band"} <= set(entry["field"]) and entry["topology"]["faces"] > 50
    assert str(tmp_path) not in json.dumps({**entry, "settings": None})
    assert len(list((tmp_path / "work" / "letter").glob("clean-ours-" + "[0-9a-f]" * 8))) == 1
    before = (tmp_path / "results" / "letter.json").read_text()
    said = start().communicate(timeout=100)[0]
    assert "letter" not in said  # nothing was done again
    assert (tmp_path / "results" / "letter.json").read_text() == before
    for path in ("README.md", "results/README.md"):
        text = (tmp_path / path).read_text()
        assert text.startswith("a\n<!--") and text.endswith("<!-- end -->\nz\n")
        assert "| letter | 400 |" in text and "old" not in text


def test_stopped_by_a_signal(start, tmp_path):
    started = start()
    wait_for_checkpoint(tmp_path)
    started.terminate()
    error = started.communicate(timeout=60)[1]
    assert started.returncode != 0 and "stopped; the same command resumes" in error


def job(tmp_path, method="poisson", script=None):
    cloud = shapes.sample("sphere", 300)
    files.write(tmp_path / "sphere.ply", shapes.mesh("sphere"))
    files.write(tmp_path / "clean.ply", cloud)
    made = jobs.Job(method, "clean", tmp_path, tmp_path / "sphere.ply",
                       {"points": 300, "cloud_sha256": ""}, ("default",), True, "")
    if script:
        (tmp_path / "peer.py").write_text(script)
        commands = [[tmp_path / "peer.py"]]
        made = type("Fake", (jobs.Job,), {"commands": lambda self: commands})(*made)
    return made


@pytest.mark.parametrize("script, said", [
    ("import ctypes; ctypes.string_at(0)", "died of SIGSEGV"),
    ("import sys; sys.exit('peer.py: no surface')", "peer.py: no surface"),
    ("import time; time.sleep(60)", "died of SIGKILL"),
])
def test_a_peer_that_crashes_is_one_line(tmp_path, monkeypatch, script, said):
    monkeypatch.setattr(settings, "PEER_SECONDS", 3)
    with open(tmp_path / ".lock", "w") as lock, pytest.raises(process.Failed, match=said):
        job(tmp_path, script=script).make(lock)


@pytest.fixture
def counted(tmp_path, monkeypatch):
    """A function that measures a sphere with a stand-in for Job.make(); it returns the list of what
    was made, as (case, method), and what failed."""
    made = []

    def make(self, lock):
        made.append((self.case, self.method))
        if self.method == "poisson":
            raise process.Failed("no luck")
        return figures(0.1, 0.2)

    monkeypatch.setattr(jobs.Job, "make", make)
    monkeypatch.setattr(pictures, "write", lambda *_: None)
    monkeypatch.setattr(settings, "POINTS", 300)
    monkeypatch.setitem(settings.SHAPES, "sphere", settings.Shape(cases=("clean", "noisy")))
    (tmp_path / "results").mkdir()

    def run(only=None):
        made.clear()
        failed = driver.measure_shape("sphere", tmp_path / "work", tmp_path / "results", only)
        return list(made), failed

    return run


def test_what_is_done_is_not_made_again(counted, tmp_path, monkeypatch):
    every = [(case, method) for case in ("clean", "noisy")
             for method in settings.Shape().methods
             if case in settings.CASES_OF.get(method, (case,))]
    failing = [(case, "poisson") for case in ("clean", "noisy")]
    assert counted(["ours"]) == ([("clean", "ours"), ("noisy", "ours")], [])
    made, failed = counted()
    assert sorted(made) == sorted(set(every) - {("clean", "ours"), ("noisy", "ours")})
    assert failed == []  # a peer that fails is a result
    assert counted()[0] == failing  # which is tried again
    result = json.loads((tmp_path / "results" / "sphere.json").read_text())
    assert result["cases"]["noisy"]["methods"]["poisson"]["error"] == "no luck"
    ours = [one for one in every if "ours" in one[1]]
    monkeypatch.setattr(settings, "RECIPE", settings.RECIPE + 1)
    assert sorted(counted()[0]) == sorted(ours + failing)  # other weights by the same flags
    monkeypatch.setitem(settings.PEER_CASE_FLAGS, "noisy", "--depth 5")
    assert counted()[0] == [("clean", "poisson"), ("noisy", "poisson-estimated"),
                            ("noisy", "poisson"), ("noisy", "poisson-winding"),
                            ("noisy", "poisson-meshlab"), ("noisy", "detail-over-poisson")]
    monkeypatch.setitem(settings.WINDING_CASE_FLAGS, "noisy", "--widths 1 2")
    assert counted()[0] == [*failing, ("noisy", "poisson-winding")]
    monkeypatch.setattr(settings, "NOISE", 0.02)
    assert {one for one in counted()[0] if one[0] == "noisy"} == {
        one for one in every if one[0] == "noisy"}  # another cloud


def test_the_network_alone_is_of_the_same_training(tmp_path):
    infos = {"clean": {"points": 9, "cloud_sha256": "", "normals": True}}
    shape = settings.Shape(methods=("ours", "ours-network"), infer_flags="--trim auto")
    ours, alone = (job.commands() for job in jobs.jobs(shape, None, infos, None, tmp_path,
                                                               tmp_path))
    assert ours[0] == alone[0] and ours[1][-1] == "--quiet"
    assert [w for w in alone[1] if w not in ours[1]] == [
        "--detail", "off", "--keep-all", tmp_path / "clean-ours-network.ply"]


def test_methods_and_protocols_of_each_case():
    shape = settings.Shape(("a.ply",), settings.ALL_CASES, settings.ALL_METHODS,
                           settings.UPSTREAM)
    infos = {case: {"points": 9, "cloud_sha256": "", "normals": case != "sparse"}
             for case in settings.ALL_CASES}

    def found(only=None, topology=True):
        return {(job.case, job.method): job.protocols for job in jobs.jobs(
            shape, only, infos, topology, folder=None, reference=None)}

    every = found()
    assert ("sparse", "poisson") not in every and ("sparse", "poisson-estimated") in every
    assert every["clean", "ours"] == every["clean", "truth"] == ("default", "upstream")
    assert every["clean", "poisson"] == every["noisy", "ours"] == ("default",)
    assert ("clean", "truth") not in found(topology=None)
    assert {method for _, method in found(["ours"])} == {"ours"}
    shape = shape._replace(methods=settings.SEEDS, seeded=("noisy",))
    assert {case for case, method in found() if method == "ours-seed-2"} == {"noisy"}


def test_cost_of_a_training_that_was_stopped(tmp_path, monkeypatch):
    """Seconds of both parts, no CPU time. It is kept, so that a later stop does not lose it."""
    done, commands = process.Done(0, 5.0, 4.0, 100.0, ""), []
    monkeypatch.setattr(process, "run",
                        lambda command, *_: commands.append(command) or done)
    command = ["train.py", "-ti", "9", "-m", tmp_path / "a"]
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    whole = jobs.train(command, tmp_path / "a", None)
    assert whole == {"seconds": 5.0, "cpu_seconds": 4.0, "peak_mib": 100.0}
    assert jobs.train(command, tmp_path / "a", None) == whole
    assert len(commands) == 1 and commands[0][-1] == "--overwrite"
    (tmp_path / "b" / "param_00001.h5").touch()
    monkeypatch.setattr(jobs.checkpoints, "load_checkpoint",
                        lambda path: (None, {"seconds": 7.0}))
    rest = jobs.train(command, tmp_path / "b", None)
    assert rest == {"seconds": 12.0, "peak_mib": 100.0} and "--resume" in commands[1]
    assert process.total_cost([rest, whole]) == {"seconds": 17.0, "peak_mib": 100.0}
    assert process.total_cost([whole, whole])["cpu_seconds"] == 8.0
    assert process.total_cost([]) == {}


def test_a_process_that_is_killed_does_not_hang():
    with pytest.raises(process.Failed, match="killed"):
        process.in_own_process(kill_myself)


def kill_myself():
    os.kill(os.getpid(), signal.SIGKILL)


def test_an_unreadable_shape_does_not_stop_the_others(counted, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(settings, "DATA", (tmp_path,))
    monkeypatch.setattr(driver, "write", lambda folder: None)
    monkeypatch.setitem(settings.SHAPES, "bunny", settings.Shape(("bad.ply",)))
    (tmp_path / "bad.ply").write_text("no ply")
    with pytest.raises(driver.UserError, match=r"^failed: bunny$"):
        driver.main(driver.parse_args(["bunny", "sphere", "--work", str(tmp_path / "work"),
                                         "--results", str(tmp_path / "results")]))
    said = capsys.readouterr().out
    assert "bunny: " in said and "sphere, clean, ours: truth to mesh 0.10000" in said


@pytest.mark.parametrize("peer", peers.PEERS)
def test_peers(tmp_path, monkeypatch, peer):
    """Each makes a mesh on the cloud's surface. Those that need no normals make it without them."""
    cloud = shapes.sample("sphere", 2000)
    module = {"advancing-front": "CGAL"}.get(peer, "pymeshlab")
    if peer in ("poisson-meshlab", "apss", "rimls", "advancing-front"):
        pytest.importorskip(module, reason="see benchmarks/requirements-peers.txt")
    needs = peer in peers.NEED_NORMALS
    files.write(tmp_path / "c.ply", cloud if needs else cloud._replace(normals=None))
    args = peers.parse_args([peer, "-f", str(tmp_path / "c.ply"), "-o", str(tmp_path / "m.ply")])
    monkeypatch.setattr(peers, "RESOLUTION", 64)
    peers.main(args)
    points = files.read_mesh(tmp_path / "m.ply").points
    assert np.abs(np.linalg.norm(points, axis=1) - 1).max() < 0.05
    if needs:
        files.write(tmp_path / "c.ply", cloud._replace(normals=None))
        with pytest.raises(driver.UserError, match="needs a cloud with normals"):
            peers.main(args)


def test_a_peer_that_is_not_installed_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymeshlab", None)  # as where it is missing
    with pytest.raises(driver.UserError, match=r"^pymeshlab cannot.*requirements-peers.txt$"):
        peers.reconstruct(peers.parse_args(["poisson-meshlab", "-f", "c.ply", "-o", "m.ply"]),
                          shapes.sample("sphere", 9))


def test_time_and_memory_are_those_of_the_process(tmp_path):
    script = tmp_path / "fill.py"
    script.write_text("import time; a = bytearray(300 << 20); a[::4096] = b'x' * (300 << 8)\n"
                      "time.sleep(1)")
    # in a small process: a child's peak memory begins with that of its parent
    code = ("import sys; from benchmarks.results import process\n"
            "with open(sys.argv[1] + '.lock', 'w') as lock:\n"
            "    done = process.run([sys.argv[1]], lock)\n"
            "print(done.status, done.seconds, done.peak_mib)")
    said = subprocess.run([sys.executable, "-c", code, str(script)], cwd=ROOT, check=True,
                          capture_output=True, text=True).stdout
    status, seconds, peak_mib = map(float, said.split())
    assert status == 0 and 1 < seconds < 20 and 300 < peak_mib < 700


def test_cases(tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "SPARSE", 100)
    cloud = shapes.sample("letter", 4000)
    files.write(tmp_path / "source.ply", cloud)
    found = clouds.write_clouds(tmp_path / "source.ply", tmp_path, settings.ALL_CASES)
    written = {name: files.read(tmp_path / f"{name}.ply") for name in found}
    assert {name: one["points"] for name, one in found.items()} == {
        name: len(one.points) for name, one in written.items()}
    assert len(written["sparse"].points) == 100
    moved = (written["noisy"].points - written["clean"].points) / 2.5  # the letter's half side
    assert moved.std() == pytest.approx(settings.NOISE, rel=0.05)
    moved = (written["slightly-noisy"].points - written["clean"].points) / 2.5
    assert moved.std() == pytest.approx(settings.SLIGHT_NOISE, rel=0.05)
    away = (written["outliers"].points != written["clean"].points).any(axis=1)
    unit = frames.Frame.of(cloud.points).to_unit(written["outliers"].points)
    assert away.sum() == 40 and np.abs(unit).max() < 1.001
    whole = {tuple(p) for p in written["clean"].points}
    rest = {tuple(p) for p in written["holes"].points}
    gone = np.array(sorted(whole - rest)) / 2.5
    assert rest < whole and 0.005 < len(gone) / 4000 < 0.2
    spread = np.linalg.norm(gone[:, None] - gone[None], axis=2)
    assert (spread.min(axis=1, where=spread > 0, initial=1) < 0.1).all()  # in balls, not scattered
    again = clouds.write_clouds(tmp_path / "source.ply", tmp_path, settings.ALL_CASES)
    assert again == found  # the seed decides, bit for bit


def test_unknown_shape(start):
    started = start("cow")
    assert "unknown shape cow; known are letter" in started.communicate(timeout=60)[1]


def test_missing_data_is_reported(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(settings, "DATA", (tmp_path,))
    driver.main(driver.parse_args(["bunny", "--results", str(tmp_path)]))
    assert "bunny: no file of it here" in capsys.readouterr().out
