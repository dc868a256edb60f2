"""What a script writes never replaces what it reads, a link, or a folder; errors name the file."""

import errno
import os
from pathlib import Path

import datasets
import evaluate
import helper
from helper import UserError
from igr.field import checkpoints
from igr.formats import files
from igr.geometry import shapes
import infer
from networks import MLP, Architecture
import visualize

import numpy as np
from PIL import Image
import pytest

SCRIPTS = {"datasets.py": datasets, "evaluate.py": evaluate, "infer.py": infer,
           "visualize.py": visualize}


def run(line: str) -> None:
    """A script by its command line, in this process."""
    name, *words = line.split()
    SCRIPTS[name].main(SCRIPTS[name].parse_args(words))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a mesh, a cloud and a checkpoint that was trained on it, and for each of them a
    link by every suffix that is written."""
    monkeypatch.chdir(tmp_path)
    mesh = shapes.mesh("letter")
    files.write("q.ply", mesh)
    files.write("cloud.ply", shapes.sample("letter", 300))
    mlp = MLP(Architecture(16))
    checkpoints.save_checkpoint("param_1.h5", mlp.parameters, {
        "architecture": vars(mlp.architecture), "frame": {"center": [0, 0, 0], "scale": 1.0},
        "volume_factor": 1.5, "cloud": str(tmp_path / "cloud.ply"),
        "cloud_file_sha256": helper.sha256_of_file("cloud.ply")})
    Path("camera.json").write_text("{}")
    for name in ("q.ply", "cloud.ply", "param_1.h5", "camera.json"):
        for suffix in (".ply", ".png", ".html", ".json", ".gif"):
            os.symlink(name, f"to_{Path(name).stem}{suffix}")
    os.link("q.ply", "q2.ply")
    return tmp_path


@pytest.mark.parametrize("line", [
    "datasets.py create -f q.ply -o q.ply",
    "datasets.py create -f q.ply -o q2.ply",
    "datasets.py create -f q.ply -o ../{}/to_q.ply",
    "infer.py -mlp param_1.h5 -o cloud.ply",
    "infer.py -mlp param_1.h5 -f q.ply -o q.ply",
    "infer.py -mlp param_1.h5 -o a.ply --normals cloud.ply",
    "infer.py -mlp param_1.h5 -o to_param_1.ply",
    "evaluate.py -f cloud.ply -mdp q.ply -o to_q.json",
    "evaluate.py -f cloud.ply -mdp q.ply -o to_cloud.json",
    "evaluate.py -f q.ply -mdp q.ply -mlp param_1.h5 -o to_param_1.json",
    "visualize.py mesh -f q.ply -o to_q.png",
    "visualize.py pcd -f cloud.ply -o to_cloud.png",
    "visualize.py images -f q.ply --movie to_q.gif",
    "visualize.py error -f q.ply -r cloud.ply -o to_cloud.png",
    "visualize.py compare q.ply cloud.ply -o to_cloud.png",
    "visualize.py html -f q.ply -o to_q.html",
    "visualize.py slices -mlp param_1.h5 -o to_param_1.png"])
def test_an_input_is_never_the_output(folder, line):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(UserError, match="is the input"):
        run(line.format(folder.name))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("line", [
    "datasets.py create -f q.ply -o made.ply", "datasets.py create --shape knot -o made.ply",
    "infer.py -mlp param_1.h5 -o made.ply", "infer.py -mlp param_1.h5 -o .",
    "evaluate.py -f cloud.ply -mdp q.ply -o made.json",
    "visualize.py mesh -f q.ply -o made.png", "visualize.py html -f q.ply -o made.html"])
def test_a_folder_is_refused_before_the_work(folder, monkeypatch, line):
    for suffix in (".ply", ".json", ".png", ".html"):
        Path(f"made{suffix}").mkdir()
    monkeypatch.setattr(infer, "extracted", None)
    monkeypatch.setattr(datasets.shapes, "mesh", None)
    monkeypatch.setattr(files, "write", None)
    with pytest.raises(UserError, match="is a folder; name a file"):
        run(line)


def test_a_device_is_refused(tmp_path):
    os.symlink(os.devnull, tmp_path / "a.ply")
    with pytest.raises(UserError, match="no ordinary file"):
        helper.check_writable(tmp_path / "a.ply", [".ply"])


def test_a_link_stays_and_its_target_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("elsewhere").mkdir()
    os.symlink("elsewhere/mesh.ply", "a.ply")
    for _ in range(2):  # the target is not there, and is
        files.write("a.ply", shapes.mesh("letter"))
        assert Path("a.ply").is_symlink() and not Path("elsewhere/mesh.ply").is_symlink()
    assert [path.name for path in Path("elsewhere").iterdir()] == ["mesh.ply"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ply", "elsewhere"]


class FullDisk:
    """A file on a disk that is full."""

    def __init__(self, name):
        self.name = name

    def write(self, text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_said_with_the_file(tmp_path):
    """Neither write() nor PIL or numpy say which file it was."""
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    for write in (lambda path: full.write_bytes(b"a"), lambda path: FullDisk("").write(""),
                  lambda path: Image.new("RGB", (9, 9)).save(full, "png")):
        with pytest.raises(OSError) as caught, helper.replacing(tmp_path / "a.png") as temporary:
            write(temporary)
        assert caught.value.filename == str(tmp_path / "a.png")
        assert caught.value.strerror == "No space left on device"
    with pytest.raises(OSError) as caught, helper.replacing(tmp_path / "b.ply") as temporary:
        open(temporary / "below")
    assert caught.value.filename == str(temporary / "below")
    assert not list(tmp_path.iterdir())


# --- numbers below zero


@pytest.mark.parametrize("line, value", [
    ("--level -1e-3", -1e-3), ("--level -.5", -0.5), ("--level -2.", -2), ("--level -1E+1", -10)])
def test_negative_numbers_are_no_flags(line, value):
    assert infer.parse_args(line.split()).level == value


def test_negative_numbers_one_after_the_other():
    args = infer.parse_args("--bounds -1 -1 -1e0 1 1 1e0 --level -1e-3".split())
    assert args.bounds == [-1, -1, -1, 1, 1, 1] and args.level == -1e-3
    args = visualize.parse_args("mesh -f a --azimuth -3e1".split())  # a mode's own parser
    assert args.azimuth == -30


@pytest.mark.parametrize("line, message", [
    ("--trim -1e-3", "-1e-3 is not above 0"), ("--level -inf", "-inf is not finite"),
    ("--trim -1", "-1 is not above 0")])
def test_a_negative_number_that_cannot_be_is_named(capsys, line, message):
    with pytest.raises(SystemExit):
        infer.parse_args(line.split())
    assert message in capsys.readouterr().err


def test_the_runs_log_names_its_file(tmp_path):
    from igr.training import runs

    log = runs.Log(tmp_path, [])
    log.file.close()
    log.file = FullDisk(str(tmp_path / "log.jsonl"))
    with pytest.raises(OSError) as caught:
        log.write(1, loss=np.pi)
    assert caught.value.filename == str(tmp_path / "log.jsonl")
