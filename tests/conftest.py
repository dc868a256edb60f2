"""Shared by all tests: where the real shapes are, running a script, small helpers."""

import os
from pathlib import Path
import subprocess
import sys

import igr  # noqa: F401  chooses OpenBLAS' kernels before numpy is loaded

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data"


@pytest.fixture
def data():
    """The folder of the real shapes; skips where they are not at hand."""

    def path(name: str) -> Path:
        if not (DATA / name).is_file():
            pytest.skip(f"the real shape {name} is not at hand (it is not part of the project)")
        return DATA / name

    return path


@pytest.fixture
def script(tmp_path):
    """Run a script by its command line in tmp_path: script("train.py -f ...") -> the process."""

    def run(line: str, status: int = 0, **environment) -> subprocess.CompletedProcess:
        name, *words = line.split()
        done = subprocess.run(
            [sys.executable, str(ROOT / name), *words], cwd=tmp_path, text=True,
            capture_output=True, timeout=300,
            env={**os.environ, "DISPLAY": "", "WAYLAND_DISPLAY": "", **environment},
        )
        assert done.returncode == status, f"{line}\n{done.stdout}\n{done.stderr}"
        return done

    return run


@pytest.fixture
def rng():
    return np.random.default_rng(0)

