"""Which OpenBLAS kernels are chosen, and that every promise holds with each of them."""

import json
import os
import subprocess
import sys

from conftest import ROOT
from igr.backend import blas

import pytest

HERE = blas.core_types(blas.processor()["flags"])
# what holds with every core type, as a program: OpenBLAS looks at its variable once a process
PROMISES = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "benchmarks")!r}, {str(ROOT / "tests")!r}]
from pathlib import Path
import fields, kills
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


def seconds(**times):
    return {name: {"step": step, "inference": inference}
            for name, (step, inference) in times.items()}


def test_what_a_processor_can_run():
    assert blas.core_types([]) == []
    assert blas.core_types(["pni", "avx"]) == ["Sandybridge", "Prescott"]
    assert blas.core_types(["pni", "avx", "avx2", "fma"])[0] == "Haswell"
    assert "SkylakeX" not in blas.core_types(["pni", "avx", "avx2", "fma", "avx512f"])


def test_the_fastest_is_taken_and_noise_changes_nothing():
    assert blas.fastest({}) is None
    assert blas.fastest(seconds(Haswell=(2, 2), SkylakeX=(1, 1))) == "SkylakeX"
    assert blas.fastest(seconds(SkylakeX=(1, 1), Haswell=(0.99, 0.99))) == "SkylakeX"
    assert blas.fastest(seconds(SkylakeX=(1, 1), Haswell=(0.5, 1.5))) == "Haswell"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A virtual environment of its own, and no variable."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.delenv(blas.VARIABLE, raising=False)
    monkeypatch.delitem(sys.modules, "numpy")
    return tmp_path / "openblas.json"


def chosen(flags, monkeypatch):
    here = {"model": "a processor", "flags": flags}
    monkeypatch.setattr(blas, "processor", lambda: here)
    blas.choose()
    return os.environ.pop(blas.VARIABLE, None)


def test_without_a_measurement_avx512_is_used(place, monkeypatch):
    avx512 = sorted(blas.NEEDS["SkylakeX"] | {"avx", "avx2", "fma", "pni"})
    assert chosen(avx512, monkeypatch) == "SkylakeX"
    assert chosen(["avx", "avx2", "fma", "pni"], monkeypatch) is None


def test_a_measurement_serves_its_processor_and_place_only(place, monkeypatch):
    flags = ["avx", "avx2", "fma", "pni"]
    found = {"processor": {"model": "a processor", "flags": flags}, "prefix": sys.prefix,
             "chosen": "Sandybridge", "times": {}}
    place.write_text(json.dumps(found))
    assert chosen(flags, monkeypatch) == "Sandybridge" and blas.is_settled()
    another = {"model": "another", "flags": flags}
    for change in ({"prefix": "/where/it/was"}, {"processor": another}):
        place.write_text(json.dumps({**found, **change}))
        assert chosen(flags, monkeypatch) is None and not blas.is_settled()
    for text in ("", "{}", "[1]", '{"processor": 1, "prefix": 2}'):
        place.write_text(text)
        assert chosen(flags, monkeypatch) is None and not blas.is_settled()


def test_the_users_own_variable_stays(place, monkeypatch):
    monkeypatch.setenv(blas.VARIABLE, "Prescott")
    blas.choose()
    assert os.environ[blas.VARIABLE] == "Prescott"


def test_what_the_environment_cannot_keep_is_kept_in_the_users_cache(place, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "missing"))
    here = {"model": "a processor", "flags": []}
    found = {"processor": here, "prefix": sys.prefix, "chosen": None, "times": {}}

    def refuse(path, value):
        raise PermissionError(13, "Permission denied", str(path))

    write = blas.helper.write_json
    monkeypatch.setattr(blas.helper, "write_json", lambda path, value: (
        refuse if "missing" in str(path) else write)(path, value))
    assert blas.kept(here) is None
    blas.keep(found)
    assert (tmp_path / "cache/igr/openblas.json").is_file() and blas.kept(here) == found


@pytest.mark.skipif(not HERE, reason="this processor's OpenBLAS kernels are not known")
def test_measuring_keeps_what_it_finds(place, monkeypatch):
    """One core type, really timed in a process of its own."""
    monkeypatch.setattr(blas, "core_types", lambda flags: HERE[:1])
    found = blas.measure()
    assert found["chosen"] == HERE[0] and 0 < found["times"][HERE[0]]["step"] < 5
    assert json.loads(place.read_text()) == found and blas.is_settled()


@pytest.mark.parametrize("core_type", HERE)
def test_promises_hold_with_every_core_type(core_type, tmp_path):
    """In short versions: the sparse mesh is the dense one, runs resume bit for bit with odd shards,
    kills lose nothing."""
    done = subprocess.run([sys.executable, "-c", PROMISES, str(tmp_path)], text=True,
                          capture_output=True, env={**os.environ, blas.VARIABLE: core_type})
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == ["sparse", "resumed", "resumed", "kills"]


def test_the_variable_reaches_both_libraries():
    for name in HERE[:2]:
        done = subprocess.run([sys.executable, "-c", LOADED], cwd=ROOT, text=True,
                              capture_output=True, env={**os.environ, blas.VARIABLE: name})
        assert done.stdout.split()[0] == name and done.returncode == 0
