"""Which OpenBLAS kernels are chosen, and that every promise holds with each of them."""

import json
import os
import subprocess
import sys

from conftest import ROOT
from igr.__main__ import main
from igr.backend import blas

import pytest

HERE = blas.core_types(blas.processor()["flags"])
# what holds with every core type, as a program: OpenBLAS looks at its variable once a process
PROMISES = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
from pathlib import Path
from benchmarks.stress import kills
import fields
from igr.field import checkpoints
from igr.isosurface import extraction
from networks import MLP, Architecture
import numpy as np

folder = Path(sys.argv[1])
mlp = MLP(Architecture(100), radius=0.6, seed=2, kernel=True)
grid = extraction.Grid.of([-1.5] * 3, [1.5] * 3, 65)
sparse, dense = (extraction.extract(mlp.evaluate, grid, dense=dense)[0] for dense in (False, True))
assert fields.difference(sparse, dense, grid) == 0
print("sparse")

assert kills.campaign(folder, 3, seed=1)["lost_or_damaged"] == 0  # leaves cloud.ply
for dims, batch, threads in ((100, 37, 2), (128, 61, 3)):
    line = f"--threads {{threads}} --quiet"
    begin = f"-f cloud.ply --dims {{dims}} -b {{batch}} -k 5 -sie 4 -ti 24 --overwrite {{line}}"
    ends = []
    for name in ("whole", "cut"):
        assert kills.start(folder, "train.py", f"{{begin}} -m {{name}}").wait() == 0
        ends.append(max((folder / name).glob("param_*.h5")))
    ends[1].unlink()
    assert kills.start(folder, "train.py", f"--resume -m cut {{line}}").wait() == 0
    (a, _), (b, _) = map(checkpoints.load_checkpoint, ends)
    assert all(np.array_equal(a[key], b[key]) for key in a)
    print("resumed")
print("kills")
"""
LOADED = "import os; from igr.backend import blas; print("\
         "os.environ.get(blas.VARIABLE), blas.loaded())"


AVX2 = ["avx", "avx2", "fma"]
AVX512 = [*AVX2, *blas.NEEDS["SkylakeX"]]


@pytest.mark.parametrize("flags, name", [
    (AVX512, "SkylakeX"), (AVX2, "Haswell"), ([*AVX2, "avx512f"], "Haswell"), (["avx"], None),
    ([], None)])
def test_the_rule(flags, name, monkeypatch):
    monkeypatch.setattr(blas, "processor", lambda: {"model": "a processor", "flags": flags})
    monkeypatch.delitem(sys.modules, "numpy")
    monkeypatch.setenv(blas.VARIABLE, "Prescott")
    blas.choose()
    assert os.environ[blas.VARIABLE] == "Prescott"  # the user's own stays
    monkeypatch.delenv(blas.VARIABLE)
    blas.choose()
    assert os.environ.get(blas.VARIABLE) == name


def test_set_up_is_for_one_processor_and_place(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert main("ready") == 1
    assert main("setup") == 0 and main("ready") == 0
    stamp = tmp_path / "compiled.json"
    place = json.loads(stamp.read_text())
    for text in ("", "[]", json.dumps({**place, "prefix": "/where/it/was"}),
                 json.dumps({**place, "model": "another"})):
        stamp.write_text(text)
        assert main("ready") == 1


@pytest.mark.parametrize("core_type", HERE)
def test_promises_hold_with_every_core_type(core_type, tmp_path):
    """In short versions: the sparse mesh is the dense one, runs resume bit for bit with odd shards,
    kills lose nothing."""
    done = subprocess.run([sys.executable, "-c", PROMISES, str(tmp_path)], text=True,
                          capture_output=True, env={**os.environ, blas.VARIABLE: core_type})
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == ["sparse", "resumed", "resumed", "kills"]


def test_the_variable_reaches_both_libraries():
    for name in HERE:
        done = subprocess.run([sys.executable, "-c", LOADED], cwd=ROOT, text=True,
                              capture_output=True, env={**os.environ, blas.VARIABLE: name})
        assert done.stdout.split()[0] == name and done.returncode == 0
