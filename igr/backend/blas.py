"""Choose OpenBLAS' kernels before numpy is loaded: 512-bit ones where the processor has AVX-512.

numpy and scipy (whose OpenBLAS numba takes) each bring an OpenBLAS with kernels for many
processors. For a processor that it does not know OpenBLAS takes older kernels, with half the speed
on some with AVX-512. OPENBLAS_CORETYPE names others for both libraries, if it is set before they
are loaded: igr/__init__.py calls choose(). This is a rule and no measurement: NEEDS has the order
of the speed on every processor that was measured (see docs/processors.md).

The surface does not depend on the choice beyond rounding: see igr/field/inference.py.
"""

from __future__ import annotations

import os
from pathlib import Path
import platform
import sys

VARIABLE = "OPENBLAS_CORETYPE"
# the core types that are chosen from, fast to slow, and what a processor must have to run them
NEEDS = {
    "SkylakeX": {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"},
    "Haswell": {"avx2", "fma"},
}


def processor() -> dict:
    """{"model": the processor's name, "flags": sorted names of its instruction sets} from
    /proc/cpuinfo; no flags where there is no such file."""
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
    """The core types of NEEDS that a processor with these flags can run, the fastest first."""
    return [name for name, needs in NEEDS.items() if needs <= set(flags)]


def choose() -> None:
    """Set OPENBLAS_CORETYPE to the fastest core type that this processor can run. Where the user
    has set it, numpy is loaded or the processor can run none of them, it stays as it is."""
    if os.environ.get(VARIABLE) or "numpy" in sys.modules:
        return
    names = core_types(processor()["flags"])
    if names:
        os.environ[VARIABLE] = names[0]


def loaded() -> str:
    """The core type whose kernels compute the network's products, as OpenBLAS itself reports it."""
    import scipy.linalg  # noqa: F401  numba takes its OpenBLAS
    import threadpoolctl

    for library in threadpoolctl.threadpool_info():
        if library.get("internal_api") == "openblas" and "scipy" in library["filepath"]:
            return library.get("architecture", "unknown")
    return "another BLAS"
