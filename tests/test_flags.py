"""Flags that cannot serve are refused and named, not ignored."""

import warnings

import evaluate
from igr.formats import files
from igr.geometry import shapes
import infer
import train

import numpy as np
import pytest

SCRIPTS = {"train": train, "infer": infer, "evaluate": evaluate}


@pytest.mark.parametrize("line, message", [
    ("train -f a -d abc", "argument -d/--device-id: abc is not the number of a device"),
    ("infer -d -1", "argument -d/--device-id: -1 is not the number of a device"),
    ("evaluate -mdp a -d x", "argument -d/--device-id: x is not the number of a device"),
    ("train -f a -vf 1e6", "argument -vf/--volume-factor: 1e6 is not at least 1 and at most 100"),
    ("infer -vf 1e6", "argument -vf/--volume-factor: 1e6 is not at most 100 and above 0"),
    ("train -f a --lam 1e30", "argument --lam: 1e30 is not at least 0 and at most 1000.0"),
    ("train -f a --tau 1e30", "argument --tau: 1e30 is not at least 0 and at most 1000.0")])
def test_what_cannot_serve_is_named(capsys, line, message):
    name, *words = line.split()
    with pytest.raises(SystemExit) as caught:
        SCRIPTS[name].parse_args(words)
    assert caught.value.code == 2 and message in capsys.readouterr().err


def test_winding_numbers_are_taken_left_or_up_to_the_cloud():
    assert train.parse_args("-f a --winding".split()).winding is True
    assert train.parse_args("-f a --no-winding".split()).winding is False
    assert not hasattr(train.parse_args("-f a".split()), "winding")
    assert train.parse_args("-f a --paper".split()).winding is False


def test_large_coordinates_are_written_without_a_warning(tmp_path):
    """They do not fit into float32, which is no news."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        files.write(tmp_path / "a.ply", shapes.sample("sphere", 9)._replace(
            points=1e90 * np.arange(27.0).reshape(9, 3)))
    assert files.read(tmp_path / "a.ply").points.max() == 26e90


def test_a_run_leaves_no_file_open(tmp_path, monkeypatch):
    """Python reports one that is, with -W error or -X dev."""
    monkeypatch.chdir(tmp_path)
    files.write("c.ply", shapes.sample("sphere", 200))
    settings = train.Settings(train_iter=2, dims=8, batch_size=16, knn=5, test_rate=0.0)
    log = []
    write = train.runs.Log.write
    monkeypatch.setattr(train.runs.Log, "write", lambda self, *args, **values: (
        log.append(self.file), write(self, *args, **values)))
    train.fit("c.ply", "run", settings, train.Options(quiet=True, threads=1))
    assert log and all(file.closed for file in log)
