"""One training at a time in a run folder."""

import errno
import fcntl
import json
import os
from pathlib import Path
import signal
import socket
import subprocess
import sys
import time

from conftest import ROOT
from helper import UserError
from igr.formats import files
from igr.geometry import shapes
from igr.training import locks, runs

import pytest

LINE = "-f cloud.ply --dims 16 -b 32 -k 5 -sie 2 -tr 0 --quiet -m run"


@pytest.fixture
def training(tmp_path):
    """A training of very many steps in tmp_path/run that has saved its first checkpoint."""
    files.write(tmp_path / "cloud.ply", shapes.sample("sphere", 200))
    process = subprocess.Popen([sys.executable, str(ROOT / "train.py"), *LINE.split(), "-ti",
                                "1000000"], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    deadline = time.time() + 60
    while not list((tmp_path / "run").glob("param_*.h5")) and time.time() < deadline:
        time.sleep(0.01)
    yield process
    process.kill()
    process.communicate()


def test_a_second_training_is_refused_and_the_first_goes_on(script, tmp_path, training):
    run = tmp_path / "run"
    first = run / "param_00002.h5"
    saved = first.read_bytes()
    holder = f"run: process {training.pid} on {socket.gethostname()} trains here"
    for line in (f"{LINE} -ti 10 --overwrite", f"{LINE} -ti 10", "--resume -m run"):
        error = script(f"train.py {line}", status=1).stderr
        assert holder in error and error.count("\n") == 1
    assert first.read_bytes() == saved and training.poll() is None
    training.send_signal(signal.SIGTERM)
    assert "saved as" in training.communicate(timeout=60)[1]
    rows = [json.loads(row)["step"] for row in (run / "log.jsonl").read_text().splitlines()]
    assert rows == sorted(set(rows)) and not (run / ".lock").exists()


def test_a_kill_leaves_nothing_that_blocks(script, tmp_path, training):
    training.kill()
    training.wait()
    assert (tmp_path / "run/.lock").is_file()
    script(f"train.py {LINE} -ti 10 --overwrite")
    assert not (tmp_path / "run/.lock").exists()
    script("train.py --resume -m run --quiet")


def held_by_another(folder: Path) -> bool:
    """Does another process find the folder locked?"""
    program = "import sys; from pathlib import Path; from igr.training import locks\n" \
              "with locks.only_one(Path(sys.argv[1])): pass"
    done = subprocess.run([sys.executable, "-c", program, str(folder)], cwd=ROOT, text=True,
                          capture_output=True, timeout=60)
    assert done.returncode == 0 or f"process {os.getpid()} on" in done.stderr
    return done.returncode != 0


def test_the_lock_is_held_within_its_block_only(tmp_path):
    with locks.only_one(tmp_path):
        assert held_by_another(tmp_path) and (tmp_path / ".lock").is_file()
    assert not held_by_another(tmp_path) and not list(tmp_path.iterdir())
    with pytest.raises(ZeroDivisionError), locks.only_one(tmp_path):
        raise ZeroDivisionError
    assert not held_by_another(tmp_path) and not list(tmp_path.iterdir())


def test_a_name_that_is_free_again_is_taken_anew(tmp_path, monkeypatch):
    """Between opening and locking the last holder removes the file: the lock would be of a file
    that nobody else finds."""
    lockf = fcntl.lockf
    removed = []

    def late(*args):
        if not removed:
            removed.append((tmp_path / ".lock").unlink())
        lockf(*args)

    monkeypatch.setattr(locks.fcntl, "lockf", late)
    with locks.only_one(tmp_path):
        assert removed and held_by_another(tmp_path)


def test_a_folder_that_was_removed_meanwhile(tmp_path):
    """Another run may be in its place: that one's lock stays."""
    folder = tmp_path / "run"
    folder.mkdir()
    with locks.only_one(folder):
        folder.rename(tmp_path / "gone")
        folder.mkdir()
        (folder / ".lock").write_text("another's")
    assert (folder / ".lock").read_text() == "another's"


def test_where_there_are_no_locks_it_is_said(tmp_path, monkeypatch, caplog):
    def none(*args):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(locks.fcntl, "lockf", none)
    with locks.only_one(tmp_path):
        assert "no lock (No locks available)" in caplog.text


def test_a_missing_run_is_not_made(tmp_path):
    with pytest.raises(UserError, match="no such run"), runs.RunFolder(tmp_path / "a").alone():
        pass
    assert not list(tmp_path.iterdir())
