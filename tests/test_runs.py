"""Nothing lost, nothing silent: interruption, resuming, damaged files, hostile clouds."""

import json
import os
import signal
import subprocess
import sys
import time

from benchmarks.stress import fuzz, kills
from conftest import ROOT
import helper
from helper import UserError
from igr.field import checkpoints
from igr.formats import files
from igr.geometry import shapes
from igr.geometry.frames import Geometry
from igr.training import runs, solvers
from networks import MLP, Architecture
import train

import h5py
import numpy as np
from PIL import Image
import pytest

LINE = "-f cloud.ply --dims 16 -b 32 -k 5 -sie 2 -tr 0.1 --grid-size 16 --quiet -ti 40"


@pytest.fixture
def cloud(tmp_path):
    files.write(tmp_path / "cloud.ply", shapes.sample("sphere", 200))
    return tmp_path


def weights(path):
    arrays, _ = checkpoints.load_checkpoint(path)
    return np.concatenate([array.ravel() for array in arrays.values()])


def stop(folder, signum, line):
    """Start train.py, send it a signal once it logs its steps, return the process."""
    process = subprocess.Popen([sys.executable, str(ROOT / "train.py"), *line.split()], cwd=folder,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    log = folder / "run" / "log.jsonl"
    deadline = time.time() + 60
    while not (log.is_file() and log.stat().st_size) and time.time() < deadline:
        time.sleep(0.01)
    process.send_signal(signum)
    process.out, process.err = process.communicate(timeout=60)
    return process


@pytest.mark.parametrize("signum, status, normals", [
    (signal.SIGINT, 130, "--with-normals"), (signal.SIGTERM, 143, "--solver adam"),
    (signal.SIGTERM, 143, "--winding")])
def test_a_stopped_run_goes_on_bit_for_bit(script, cloud, signum, status, normals):
    line = f"{LINE} {normals}".replace("-ti 40", "-ti 300").replace("-sie 2", "-sie 30")
    script(f"train.py {line} -m truth")
    stopped = stop(cloud, signum, f"{line} -m run")
    assert stopped.returncode == status
    assert "saved as run/param_" in stopped.err and stopped.err.count("\n") == 1
    assert "--resume -m run continues the run" in stopped.err
    assert not (cloud / "run/param_00060.h5").exists()
    script("train.py --resume -m run --quiet")
    last = sorted((cloud / "truth").glob("param_*.h5"))[-1].name
    assert np.array_equal(weights(cloud / "run" / last), weights(cloud / "truth" / last))
    steps = [json.loads(row)["step"] for row in (cloud / "run/log.jsonl").read_text().splitlines()]
    assert steps == sorted(steps) and all(steps.count(50 * i) >= 1 for i in range(1, 7))


def test_the_graph_resumes_as_well(script, cloud):
    """nnabla's own solver gives and takes its state, too (the way on a GPU)."""
    line = f"{LINE} --context cpu-graph"
    script(f"train.py {line} -m truth")
    script(f"train.py {line} -m run")
    last = sorted((cloud / "run").glob("param_*.h5"))
    last[-1].unlink()
    script("train.py --resume -m run --quiet")
    np.testing.assert_array_equal(weights(last[-1]), weights(cloud / "truth" / last[-1].name))


def test_previews_show_the_surface_and_change_nothing(script, cloud):
    script(f"train.py {LINE} -m truth")
    script(f"train.py {LINE} -m run --preview 4")
    assert np.array_equal(weights(cloud / "run/param_00008.h5"),
                          weights(cloud / "truth/param_00008.h5"))
    previews = sorted((cloud / "run").glob("preview_*.png"))
    assert [path.name for path in previews] == [f"preview_0000{n}.png" for n in (4, 8)]
    pictures = [np.asarray(Image.open(path)).astype(int) for path in previews]
    # a ball that fills the cube [-1, 1]^3 covers about a third of the picture
    assert all(0.15 < (picture < 250).any(axis=2).mean() < 0.6 for picture in pictures)
    assert np.abs(pictures[0] - pictures[-1]).max() > 5


def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_taken(script, cloud):
    script(f"train.py {LINE} -m run")
    truth = weights(cloud / "run/param_00008.h5")
    newest = cloud / "run/param_00008.h5"
    newest.write_bytes(newest.read_bytes()[:3000])
    done = script("train.py --resume -m run")
    assert "warning: run/param_00008.h5: not a checkpoint" in done.stderr
    assert "from step 30 of run/param_00006.h5" in done.stdout
    assert np.array_equal(weights(newest), truth)
    for path in (cloud / "run").glob("state_*"):
        path.write_bytes(b"gone")
    assert "no good checkpoint" in script("train.py --resume -m run", status=1).stderr


def test_what_resuming_refuses(script, cloud):
    script(f"train.py {LINE} -m run")
    before = {p.name: p.read_bytes() for p in (cloud / "run").iterdir()}
    for line, message in [
        ("--resume -m run --dims 32", "--dims 32 (the run has 16)"),
        ("--resume -m run --lam 1 -ti 30", "--lam 1.0 (the run has 0.1), --train-iter 30"),
        ("--resume -m nowhere", "no such run"),
        (f"{LINE} -m run", "holds another run"),
    ]:
        assert message in script(f"train.py {line}", status=1).stderr
    files.write(cloud / "cloud.ply", shapes.sample("torus", 200))
    assert "other points" in script("train.py --resume -m run", status=1).stderr
    assert {p.name: p.read_bytes() for p in (cloud / "run").iterdir()} == before
    script(f"train.py {LINE} -m run --overwrite")
    assert (cloud / "run/param_00008.h5").read_bytes() != before["param_00008.h5"]


def test_a_long_epoch_does_not_put_off_the_checkpoints(script, cloud):
    """There is one every 250 steps, however many points the cloud has; and before the first, a
    folder says how to go on."""
    script("train.py -f cloud.ply --dims 8 -b 1 --uniform 1 -k 5 -tr 0 --quiet -ti 500 -m run")
    saved = [checkpoints.load_checkpoint(p)[1]["step"] for p in (cloud / "run").glob("param_*.h5")]
    assert sorted(saved) == [250, 500]
    for path in (cloud / "run").glob("*.h5"):
        path.unlink()
    line = "train.py -f cloud.ply --dims 16 -b 200 -k 5 --quiet -ti 3 -m run"
    assert "holds another run; --overwrite replaces it" in script(line, status=1).stderr
    assert "--overwrite starts a new run" in script("train.py --resume -m run", status=1).stderr


def test_checkpoints_are_counted_and_not_spelt(tmp_path):
    run, mlp = runs.RunFolder(tmp_path), MLP(Architecture(8))
    run.begin(overwrite=False)
    info = {"flags": {}, "cloud": "", "cloud_sha256": "", "first_losses": {},
            "seconds": 0.0,
            "architecture": vars(mlp.architecture), "frame": {"center": [0, 0, 0], "scale": 1},
            "volume_factor": 1.5}
    for epoch in (99_800, 99_900, 100_000, 100_100):
        run.save(epoch, mlp.parameters, {"t": np.array(1)}, {**info, "step": epoch})
        assert run.newest().path.name == f"param_{epoch}.h5"
    assert sorted(p.name for p in tmp_path.glob("state_*")) == [
        "state_00100000.h5", "state_00100100.h5"]


def test_what_stops_a_run():
    """A closed terminal too, but not if nohup was told to ignore that. Afterwards the handlers are
    what they were."""
    before = signal.getsignal(signal.SIGHUP)
    try:
        for hangup, found in ((signal.SIG_DFL, [signal.SIGHUP]), (signal.SIG_IGN, [])):
            signal.signal(signal.SIGHUP, hangup)  # the tests themselves may run under nohup
            interrupt = signal.getsignal(signal.SIGINT)
            with helper.stop_signals() as caught:
                os.kill(os.getpid(), signal.SIGHUP)
                assert caught == found
            assert signal.getsignal(signal.SIGHUP) == hangup
            assert signal.getsignal(signal.SIGINT) == interrupt
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_signal_exits_at_once(tmp_path):
    program = """if True:
        import os, signal, helper
        with helper.stop_signals() as caught:
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGTERM)
            print("not reached")"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 128 + signal.SIGTERM and not done.stdout
    assert done.stderr.endswith("stopped at once, without saving\n")


def test_threads_of_another_machine_are_not_taken_over():
    info = {"flags": {"train_iter": 9, "threads": 4096}, "cloud": "c.ply", "step": 1}
    for given, threads in (({}, helper.cores()), ({"threads": 3}, 3)):
        flags = runs.flags_to_resume(info, given, helper.names_of(train.Settings))
        assert flags["threads"] == threads and flags["fpath"] == "c.ply"


def test_kills_at_random_instants(tmp_path):
    """20 of the 200 of benchmarks/stress/kills.py."""
    assert kills.campaign(tmp_path, 20, seed=1)["lost_or_damaged"] == 0


@pytest.mark.parametrize("suffix", fuzz.FORMATS)
def test_damaged_files_are_read_or_refused(tmp_path, suffix):
    """100 of the 2000 of benchmarks/stress/fuzz.py."""
    found = fuzz.campaign(suffix, 100, tmp_path, seed=2)
    assert found["tracebacks"] == 0, found["failures"]
    assert found["slowest"] < 10 and found["grown_MiB"] < 200
    assert found["read"] > 0 or suffix == ".e57"  # whose pages have checksums


def test_a_flipped_byte_is_noticed(script, cloud):
    script(f"train.py {LINE} -m run")
    newest = cloud / "run/param_00008.h5"
    with h5py.File(newest, "r+") as file:
        file["fc3/affine/W"][2, 2] += 1e-3
    assert "its sha256 does not match" in script("train.py --resume -m run").stderr
    with h5py.File(newest, "r+") as file:
        file["fc3/affine/W"][2, 2] += 1e-3
    assert "its sha256 does not match" in script(f"infer.py -mlp {newest}", status=1).stderr


def test_states_of_the_newest_two_checkpoints_are_kept(tmp_path):
    """Also where one epoch's checkpoint is written twice, as after an interruption."""
    mlp = MLP(Architecture(8))
    info = {"architecture": vars(mlp.architecture), "frame": {"center": [0, 0, 0], "scale": 1},
            "volume_factor": 1.5, "flags": {}, "cloud": "", "cloud_sha256": "",
            "first_losses": {}, "seconds": 0.0}
    run = runs.RunFolder(tmp_path / "run")
    run.folder.mkdir()
    run.begin(False)
    for epoch, step in ((3, 18), (4, 24), (5, 25), (5, 30)):
        run.save(epoch, mlp.parameters, {"t": np.array(step)}, {**info, "step": step})
    (tmp_path / "run/param_00005.h5").write_bytes(b"gone")
    assert run.newest().state["t"] == 24


def test_weights_that_are_not_finite_are_not_saved(script, cloud):
    error = script(f"train.py {LINE.replace('-ti 40', '-ti 1')} -m run -lr 1e20", status=1).stderr
    assert "out of bounds" in error and not list((cloud / "run").glob("*.h5"))


def test_only_the_runs_own_files_are_touched(script, cloud):
    run = cloud / "run"
    run.mkdir()
    for name in ("param_table.csv", "state_machine.txt", ".pre-commit-config.yaml"):
        (run / name).write_text("mine")
    script(f"train.py {LINE} -m run")
    script(f"train.py {LINE} -m run --overwrite")
    (run / "param_00008.h5").unlink()
    script("train.py --resume -m run")
    for name in ("param_table.csv", "state_machine.txt", ".pre-commit-config.yaml"):
        assert (run / name).read_text() == "mine"


def test_resume_from_another_folder(script, cloud):
    script(f"train.py {LINE} -m run")
    (cloud / "run/param_00008.h5").unlink()
    subprocess.run([sys.executable, str(ROOT / "train.py"), "--resume", "-m", ".", "--quiet"],
                   cwd=cloud / "run", check=True, timeout=60)
    assert (cloud / "run/param_00008.h5").is_file()


def test_the_papers_network_trains(script, tmp_path):
    """512 wide at the default rate: the first steps must not throw it off."""
    files.write(tmp_path / "c.ply", shapes.sample("knot", 2000))
    script("train.py -f c.ply -m run --dims 512 -ti 30 --quiet -tr 0")
    rows = [json.loads(row) for row in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert rows[-1]["loss"] < 1


# --- places that cannot be written


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    target = tmp_path / "a.json"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError), helper.replacing(target) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert target.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_disk_full_is_one_line_and_keeps_the_checkpoints(cloud):
    """A file size limit stands in for the full disk: writes beyond it fail."""
    line = LINE.replace("--dims 16", "--dims 64")
    train = f"{sys.executable} {ROOT / 'train.py'}"
    for kib in (40, 100):  # neither the state nor the weights fit; the weights fit, not the state
        limited = f"trap '' XFSZ; ulimit -f {kib}; {train}"
        done = subprocess.run(["bash", "-c", f"{limited} {line} -m run --overwrite"], cwd=cloud,
                              capture_output=True, text=True, timeout=60)
        assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
        assert "File too large" in done.stderr
        assert not list((cloud / "run").glob("*.h5")) and not list((cloud / "run").glob(".*"))


def test_a_folder_that_cannot_be_made(script, cloud):
    error = script(f"train.py {LINE} -m /proc/nowhere/run", status=1).stderr
    assert "/proc/nowhere" in error and error.count("\n") == 1


# --- hostile clouds: each trains to a mesh, or is refused with a reason


def twice(points):
    return np.concatenate([points, points + np.array([50, 0, 0])])


@pytest.mark.parametrize("name, change", [
    ("far away", lambda p, rng: p + 1e6),
    ("tiny", lambda p, rng: 1e-9 * p),
    ("huge", lambda p, rng: 1e30 * p),
    ("60 % duplicates", lambda p, rng: p[np.minimum(rng.integers(0, 1000, 400), 399) % 160]),
    ("flat", lambda p, rng: p * [1, 1, 0]),
    ("two clusters", lambda p, rng: twice(p)),
])
def test_hostile_clouds_train(script, tmp_path, rng, name, change):
    points = change(shapes.sample("sphere", 400).points, rng)
    np.save(tmp_path / "cloud.npy", points)
    script("train.py -f cloud.npy -m run --dims 32 -b 64 -k 10 -ti 100 --quiet")
    script("infer.py --grid-size 32 -o mesh.ply --quiet", status=0)
    mesh = files.read(tmp_path / "mesh.ply")
    size = np.ptp(points, axis=0).max()
    assert np.isfinite(mesh.points).all()
    assert (np.abs(mesh.points - points.mean(axis=0)) < 2 * size).all()


def test_normals_are_set_to_length_one_and_it_is_said(script, tmp_path):
    cloud = shapes.sample("sphere", 300)
    files.write(tmp_path / "c.ply", cloud._replace(normals=3 * cloud.normals))
    line = "train.py -f c.ply -m run --dims 16 -b 32 -k 5 -ti 5 --with-normals"
    assert "normals of length 3 to 3, set to 1" in script(line).stderr
    normals = cloud.normals.copy()
    normals[7] = 0
    files.write(tmp_path / "c.ply", cloud._replace(normals=normals))
    assert "1 of 300 normals are zero" in script(line + " --overwrite").stderr
    normals[:30] = np.nan
    files.write(tmp_path / "c.ply", cloud._replace(normals=normals))
    assert "30 of 300 normals are zero" in script(line + " --overwrite", status=1).stderr


def test_inward_normals_are_turned_and_it_is_said(script, tmp_path):
    cloud = shapes.sample("sphere", 800)
    files.write(tmp_path / "c.ply", cloud._replace(normals=-cloud.normals))
    line = "train.py -f c.ply -m run --dims 64 -b 128 -k 10 -ti 200 --with-normals --quiet"
    assert "look inwards, turned round" in script(line).stderr
    script("infer.py --grid-size 32 -o mesh.ply --quiet")
    mesh = files.read(tmp_path / "mesh.ply")
    corners = mesh.points[mesh.faces]
    volume = np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6
    assert volume == pytest.approx(4 / 3 * np.pi, rel=0.2)


def test_divergence_stops_the_run(script, cloud):
    error = script(f"train.py {LINE} -m run -lr 1e4".replace("-ti 40", "-ti 400"), status=1).stderr
    assert "at step" in error and "take a smaller -lr" in error


def test_solver_state_that_does_not_fit():
    solver = solvers.make("muon", True)
    solver.set_parameters(MLP(Architecture(16)).parameters)
    with pytest.raises(UserError, match="does not fit"):
        solvers.set_state_of(solver, {"t": np.array(3)})


def test_small_meshes_keep_their_digits(tmp_path):
    tiny = shapes.mesh("letter")
    tiny = Geometry(1e-9 * tiny.points, None, tiny.faces)
    for suffix in files.MESH_WRITERS:
        files.write(tmp_path / f"a{suffix}", tiny)
        again = files.read(tmp_path / f"a{suffix}")
        found = np.sort(again.points[again.faces].reshape(-1, 3), axis=0)
        truth = np.sort(tiny.points[tiny.faces].reshape(-1, 3), axis=0)
        np.testing.assert_allclose(found, truth, atol=1e-15)


def test_what_several_processes_trained_cannot_be_resumed():
    """Checkpoints of versions with MPI: of one process they go on, of several they do not."""
    info = {"cloud_sha256": "a", "flags": {"fpath": "c.ply"}}
    runs.check_same(info, {**info, "ranks": 1}, "run")
    with pytest.raises(UserError, match="trained by 4 processes together"):
        runs.check_same(info, {**info, "ranks": 4}, "run")
