"""Which of OpenBLAS' kernels compute the products: chosen before numpy is loaded, measured once.

numpy and scipy (whose one numba takes) each bring an OpenBLAS with kernels for many processors. For
a processor that it does not know OpenBLAS takes older kernels: those of Haswell have half the speed
on some with AVX-512. OPENBLAS_CORETYPE names others for both libraries, if it is set before they
are loaded: igr/__init__.py calls choose(). `bash commands.sh setup` measures what this processor
can run and keeps the result in .venv (see igr/__main__.py).

The surface does not depend on the choice beyond rounding: see inference.py.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
import platform
import subprocess
import sys

import helper

VARIABLE = "OPENBLAS_CORETYPE"
# core types from new to old, and what a processor must have to run them (names of /proc/cpuinfo)
NEEDS = {
    "SkylakeX": {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"},
    "Haswell": {"avx2", "fma"},
    "Zen": {"avx2", "fma"},
    "Sandybridge": {"avx"},
    "Prescott": {"pni"},  # SSE3
}
FASTER = 1.02  # a core type must be that much faster than one before it in NEEDS: timings are noisy


# ------------------------------------------------------------------------------------ the processor


def processor() -> dict:
    """{"model": its name, "flags": sorted names of what it can do}; no flags where Linux does not
    tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    first = {}
    for line in lines:
        name, _, value = line.partition(":")
        first.setdefault(name.strip(), value.strip())
    model = first.get("model name") or platform.processor() or platform.machine()
    return {"model": model, "flags": sorted(first.get("flags", "").split())}


def core_types(flags) -> list:
    """The core types of NEEDS that a processor with these flags can run."""
    return [name for name, needs in NEEDS.items() if needs <= set(flags)]


# --------------------------------------------------------------------------------------- the choice


def choose() -> None:
    """Set OPENBLAS_CORETYPE, unless the user has: to the core type that was measured to be the
    fastest, or without a measurement to AVX-512's where the processor has that."""
    if os.environ.get(VARIABLE) or "numpy" in sys.modules:
        return
    here = processor()
    measured = kept(here)
    if measured:
        if measured["chosen"] in NEEDS:
            os.environ[VARIABLE] = measured["chosen"]
    elif "SkylakeX" in core_types(here["flags"]):
        os.environ[VARIABLE] = "SkylakeX"


def loaded() -> str:
    """The core type whose kernels compute the network's products, as OpenBLAS itself says."""
    import scipy.linalg  # noqa: F401  numba takes its OpenBLAS
    import threadpoolctl

    for library in threadpoolctl.threadpool_info():
        if library.get("internal_api") == "openblas" and "scipy" in library["filepath"]:
            return library.get("architecture", "unknown")
    return "another BLAS"


# ---------------------------------------------------------------------------------- the measurement


def places() -> list[Path]:
    """Where the measurement may be kept: in the virtual environment, or where that cannot be
    written, in the user's cache folder."""
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return [Path(sys.prefix) / "openblas.json", Path(caches) / "igr" / "openblas.json"]


def kept(here: dict):
    """The measurement, or None where there is none for this processor and this place."""
    for path in places():
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            found = json.loads(path.read_text())
            if found["processor"] == here and found["prefix"] == sys.prefix:
                return found
    return None


def keep(found: dict) -> None:
    """Write a measurement to the first of the places that can be written."""
    *others, last = places()
    for path in others:
        with contextlib.suppress(OSError):
            return helper.write_json(path, found)
    last.parent.mkdir(parents=True, exist_ok=True)
    return helper.write_json(last, found)


def is_settled() -> bool:
    """Has this processor been measured for this .venv?"""
    return kept(processor()) is not None


def measure() -> dict:
    """Time each core type that this processor can run, each in a process of its own, and keep what
    was found. Returns it."""
    here = processor()
    times = {}
    for name in core_types(here["flags"]):
        done = subprocess.run([sys.executable, "-m", "igr", "time"], capture_output=True, text=True,
                              env={**os.environ, VARIABLE: name},
                              cwd=Path(__file__).resolve().parents[2])
        if done.returncode == 0:  # a build of OpenBLAS may lack a core type, or crash by it
            times[name] = json.loads(done.stdout)
    found = {"processor": here, "prefix": sys.prefix, "chosen": fastest(times), "times": times}
    keep(found)
    return found


def fastest(times: dict):
    """The core type with the least time, of a step and of inference alike: {name: {"step": seconds,
    "inference": seconds}}. None where nothing was measured."""
    best = None
    for name in times:
        if best is None:
            best = name
            continue
        gains = [times[best][what] / times[name][what] for what in ("step", "inference")]
        if gains[0] * gains[1] > FASTER**2:
            best = name
    return best
