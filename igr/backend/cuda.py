"""nnabla's CUDA extension from pip alone: find and load the libraries that it links.

The extension is linked against CUDA 12 and cuDNN 8 and expects a system-wide CUDA.
requirements-cuda.txt brings the libraries as wheels instead, and the dynamic loader does not search
the wheels' folders (site-packages/nvidia/*/lib). It does find a library that is already loaded, by
its name. So the libraries that the system lacks are loaded from the wheels before the extension is
imported.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.util
import os
from pathlib import Path
import re
import sys

BUILD = "120"  # the CUDA version in the extension's name, as requirements-cuda.txt has it
LIBRARIES = ("libcudart.so.12", "libcublas.so.12", "libcusolver.so.11", "libcurand.so.10",
             "libcufft.so.11", "libcudnn.so.8")  # what nnabla-ext-cuda120 links
TOOLKIT = Path("/usr/local/cuda/lib64")  # where the extension itself looks
REQUIREMENTS = "pip install -r requirements-cuda.txt"
NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE


class Unavailable(Exception):
    """CUDA cannot be used. The text is the reason, in one line."""


def prepare(device_id: str) -> None:
    """Make `import nnabla_ext.cuda` work. Raises Unavailable, which names the first thing that is
    missing: the driver, the device, the extension or a library."""
    check_driver(device_id)
    check_extension()
    for name in LIBRARIES:
        load_library(name)
    # the import complains of a missing Open MPI on stderr, and of a list of GPUs that it could not
    # get on stdout
    with without_stderr(), contextlib.redirect_stdout(None):
        importlib.import_module("nnabla_ext.cuda")


def check_extension() -> None:
    """Raises Unavailable where nnabla's extension is not installed, or is for another CUDA."""
    try:
        spec = importlib.util.find_spec("nnabla_ext.cuda")
    except ModuleNotFoundError:  # there is not even the namespace nnabla_ext
        spec = None
    if spec is None:
        raise Unavailable(f"nnabla-ext-cuda{BUILD} is not installed ({REQUIREMENTS})")
    for folder in spec.submodule_search_locations:
        for library in Path(folder).glob("libnnabla_cuda-*.so"):
            built = re.match(r"libnnabla_cuda-(\d+)", library.name).group(1)
            if built != BUILD:
                raise Unavailable(f"nnabla's extension is for CUDA {built[:-1]}.{built[-1]}, "
                                  f"nnabla-ext-cuda{BUILD} is needed ({REQUIREMENTS})")


def check_driver(device_id: str) -> None:
    """Raises Unavailable where the driver is missing or too old, or has no such device."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        raise Unavailable("no NVIDIA driver (libcuda.so.1 not found)") from None
    error = driver.cuInit(0)
    if error == NO_DEVICE:
        raise Unavailable("no device")
    if error:
        raise Unavailable(f"the NVIDIA driver does not start (cuInit: error {error})")
    version = ctypes.c_int()
    count = ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(version))
    driver.cuDeviceGetCount(ctypes.byref(count))
    if version.value < 12000:
        raise Unavailable(f"the NVIDIA driver is for CUDA {version.value // 1000}."
                          f"{version.value % 1000 // 10}, one for CUDA 12 or newer is needed")
    if not (device_id.isdigit() and int(device_id) < count.value):
        raise Unavailable(f"no device {device_id} (there are {count.value}, counted from 0)")


def load_library(name: str, remedy: str = REQUIREMENTS) -> None:
    """Load a library under its name: the system's if there is one, else a wheel's.

    Raises Unavailable where it does not load, or is nowhere to be found (then with the remedy).
    """
    # other libraries must not see its symbols: the extension has variables with the names of NCCL's
    # functions, and would write to the functions
    mode = ctypes.RTLD_LOCAL
    with contextlib.suppress(OSError):
        ctypes.CDLL(name, mode=mode)
        return
    for folder in [TOOLKIT, *wheel_folders()]:
        if (folder / name).is_file():
            try:
                ctypes.CDLL(str(folder / name), mode=mode)
                return
            except OSError as error:
                raise Unavailable(f"library {name} does not load ({error})") from None
    raise Unavailable(f"library {name} not found ({remedy})")


def wheel_folders() -> list[Path]:
    """The library folders of the nvidia-*-cu12 wheels."""
    return [folder for place in sys.path for folder in sorted(Path(place).glob("nvidia/*/lib"))]


@contextlib.contextmanager
def without_stderr():
    """Discard what is written to stderr in this block, by compiled code too."""
    sys.stderr.flush()
    kept = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)
