"""nnabla's CUDA extension without a GPU, on standin.cpp: what GPUs would be asked to do.

Needs the extension itself (`pip install --no-deps` of its line in requirements-cuda.txt), a C++
compiler; skipped where one is missing.
"""

import importlib.util
import json
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys

from conftest import ROOT
from igr.backend import cuda
from igr.formats import files
from igr.geometry import shapes

import pytest

STEPS = """
import ctypes, json, sys
import numpy as np
from igr.backend import cuda, devices
from igr.training import loop, sampling, solvers
from datasets import PointCloud
from igr.geometry.frames import Frame
import losses
from networks import MLP, Architecture

device = devices.set_context("cuda")
libraries = [ctypes.CDLL(name) for name in cuda.LIBRARIES]

def counted():
    found = {what: sum(library.standin_count(what.encode()) for library in libraries)
             for what in sys.argv[1:]}
    for library in libraries:
        library.standin_reset()
    return {what: count for what, count in found.items() if count}

points = np.random.default_rng(0).normal(size=(2000, 3)).astype(np.float32)
cloud = PointCloud(points, points[:0], np.full((2000, 1), 0.05, np.float32), points, Frame())
found = {}
for name in ("adam", "muon"):
    mlp = MLP(Architecture(32), kernel=device.kernel)
    samples = sampling.GraphSamples(cloud, sampling.Sizes(64, 64, 64, 1.5), 0)
    solver = solvers.make(name, device.kernel)
    terms = losses.igr_loss(mlp, samples, losses.Weights())
    trainer = loop.Trainer(terms, mlp, solver, samples)
    for _ in range(2):
        trainer.step(1e-3)
    counted()
    trainer.step(1e-3)
    found[name] = counted()
    trainer.losses()
    found["losses after " + name] = counted()
print(json.dumps(found))
"""

@pytest.fixture(scope="session")
def standin(tmp_path_factory):
    """The environment in which the libraries that the extension links are standin.cpp's."""
    try:
        cuda.check_extension()
    except cuda.Unavailable as reason:
        pytest.skip(str(reason))
    compiler, nm = shutil.which("g++"), shutil.which("nm")
    if not (compiler and nm):
        pytest.skip("no g++ and nm to make the stand-in for CUDA's libraries with")
    folder = tmp_path_factory.mktemp("standin")

    def symbols(which, *path) -> list:
        lines = subprocess.run([nm, *which.split(), *map(str, path)], check=True, text=True,
                               capture_output=True).stdout.splitlines()
        return [line.split()[-1] for line in lines]

    compiled = folder / "standin.o"
    source = ROOT / "tests/standin.cpp"
    subprocess.run([compiler, "-std=c++17", "-O3", "-march=native", "-fPIC", "-c", str(source),
                    "-o", str(compiled)], check=True)
    defined, wanted = set(symbols("--defined-only", compiled)), {}
    for symbol in symbols("-D --undefined-only", *extension_library()):
        name, _, library = symbol.partition("@")
        if name.lstrip("_").startswith("cu"):
            wanted.setdefault(library or "libcuda.so.1", []).append(name)
    wanted["libcuda.so.1"] += ["cuDriverGetVersion", "cuDeviceGetCount"]  # which cuda.py calls
    for library, names in wanted.items():
        stubs, versions = folder / "stubs.c", folder / "versions"
        stubs.write_text("#include <stdio.h>\n#include <stdlib.h>\n" + "".join(
            f'void {name}(void) {{ fputs("no {name}\\n", stderr); abort(); }}\n'
            for name in names if name not in defined))
        exported = "; ".join([*names, "standin_reset", "standin_count"])
        tag = "" if library == "libcuda.so.1" else library
        versions.write_text(f"{tag} {{ global: {exported}; local: *; }};\n")
        subprocess.run([compiler, "-shared", "-o", str(folder / library), str(compiled),
                        "-fPIC", "-x", "c", str(stubs), f"-Wl,-soname,{library}",
                        f"-Wl,--version-script={versions}"], check=True)
    added = {"LD_LIBRARY_PATH": str(folder), "PYTHONPATH": str(ROOT)}
    return {name: os.pathsep.join(filter(None, [path, os.environ.get(name)]))
            for name, path in added.items()}


def run(environment: dict, *words) -> str:
    """What Python prints that is run with these words."""
    done = subprocess.run([sys.executable, *words], cwd=ROOT, text=True, capture_output=True,
                          timeout=300, env={**os.environ, **environment})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def extension_library() -> list:
    folders = importlib.util.find_spec("nnabla_ext.cuda").submodule_search_locations
    return [path for folder in folders for path in Path(folder).glob("libnnabla_cuda-*.so")]


def test_of_a_gpu(standin):
    """test_gpu.py: gradients, inference, samples, solvers, runs, and their second halves; but for
    the runs with waves, whose functions standin.cpp does not have."""
    assert "SKIPPED" not in run(standin, "-m", "pytest", "-q", "-rs", "tests/test_gpu.py",
                                "-k", "not default")


def test_a_step_stays_on_the_device(standin):
    """A step allocates nothing and copies nothing to or from the host (the stand-in has no function
    to wait with). It makes as many launches, which take most of a small step's time, as
    benchmarks/README.md says. The losses, four numbers, are read only when asked for."""
    text = " ".join((ROOT / "benchmarks" / "README.md").read_text().split())
    said = r"launches (\d+) kernels and library calls with Adam and (\d+) with Muon"
    adam, muon = map(int, re.search(said, text).groups())
    found = json.loads(run(standin, "-c", STEPS, "launch", "allocate", "free", "copy to the device",
                           "copy to the host", "copy any").splitlines()[-1])
    read = {"copy to the host": 4}
    assert found == {"adam": {"launch": adam}, "losses after adam": read,
                     "muon": {"launch": muon}, "losses after muon": read}


def test_memory_of_the_gpu(standin, script, tmp_path):
    """Too large a batch ends in one line."""
    files.write(tmp_path / "c.ply", shapes.sample("knot", 2000))
    done = script("train.py -f c.ply -m run --dims 64 -b 4096 -ti 10 --frequencies 0 "
                  "--context cuda --quiet", 1,
                  **standin, STANDIN_MEMORY=str(32 << 20))
    assert "not enough memory on the GPU" in done.stderr and "Traceback" not in done.stderr
