"""CUDA up to the driver, with fakes: what is found, what is loaded, and the reason where not."""

import ctypes
import importlib
import importlib.util
import os
import sys
import types

import helper
from helper import UserError
from igr.backend import cuda, devices

import nnabla as nn
import nnabla_ext.cpu  # noqa: F401  before sys.path is another
import pytest


class Driver:
    """libcuda.so.1 with some devices."""

    def __init__(self, error=0, version=12040, devices=1):
        self.error, self.version, self.devices = error, version, devices

    def cuInit(self, flags):
        return self.error

    def cuDriverGetVersion(self, out):
        out._obj.value = self.version
        return 0

    def cuDeviceGetCount(self, out):
        out._obj.value = self.devices
        return 0


class Machine:
    """A site-packages and a loader that stand in for the real ones."""

    def __init__(self, folder, monkeypatch):
        self.site, self.loaded, self.system = folder / "site", [], set()
        self.driver, self.broken = Driver(), set()
        self.site.mkdir()
        monkeypatch.setattr(ctypes, "CDLL", self.open)
        monkeypatch.setattr(cuda, "TOOLKIT", folder / "toolkit")
        monkeypatch.setattr(sys, "path", [str(self.site)])
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: self.spec)
        self.spec = types.SimpleNamespace(submodule_search_locations=[str(folder / "ext")])
        self.imported = []
        real = importlib.import_module
        monkeypatch.setattr(importlib, "import_module", lambda name, package=None: (
            self.imported.append(name) if name == "nnabla_ext.cuda" else real(name, package)))
        (folder / "ext").mkdir()
        self.extension = folder / "ext"
        (self.extension / "libnnabla_cuda-120_8.so").touch()

    def open(self, name, mode=ctypes.DEFAULT_MODE):
        if name == "libcuda.so.1" and self.driver:
            return self.driver
        base = name.rsplit("/", 1)[-1]
        if base in self.broken or ("/" not in name and name not in self.system):
            raise OSError(f"{base}: cannot open shared object file")
        assert mode == ctypes.RTLD_LOCAL
        self.loaded.append(name)
        return None

    def wheel(self, package, name):
        folder = self.site / "nvidia" / package / "lib"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
        return str(folder / name)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    return Machine(tmp_path, monkeypatch)


@pytest.fixture
def wheels(machine):
    """Every library as a wheel."""
    return [machine.wheel(name.split(".")[0][3:], name) for name in cuda.LIBRARIES]


def test_the_wheels_are_loaded_then_the_extension(machine, wheels):
    cuda.prepare("0")
    assert machine.loaded == wheels and machine.imported == ["nnabla_ext.cuda"]


def test_the_systems_libraries_come_first(machine, wheels, tmp_path):
    machine.system = {"libcublas.so.12", "libcudnn.so.8"}
    (tmp_path / "toolkit").mkdir()
    (tmp_path / "toolkit" / "libcurand.so.10").touch()
    cuda.prepare("0")
    assert [name for name in machine.loaded if name not in wheels] == [
        "libcublas.so.12", str(tmp_path / "toolkit" / "libcurand.so.10"), "libcudnn.so.8"]
    assert len(machine.loaded) == len(cuda.LIBRARIES)


def no_extension(machine):
    machine.spec = None


def another_cuda(machine):
    next(machine.extension.glob("*.so")).rename(machine.extension / "libnnabla_cuda-118_8.so")


def no_driver(machine):
    machine.driver = None


def driver(**options):
    def change(machine):
        machine.driver = Driver(**options)

    return change


def no_cufft(machine):
    next(machine.site.glob("nvidia/*/lib/libcufft.so.11")).unlink()


def broken_cudnn(machine):
    machine.broken = {"libcudnn.so.8"}


REASONS = [
    (no_extension, "nnabla-ext-cuda120 is not installed (pip install -r requirements-cuda.txt)"),
    (another_cuda, "nnabla's extension is for CUDA 11.8, nnabla-ext-cuda120 is needed "
     "(pip install -r requirements-cuda.txt)"),
    (no_driver, "no NVIDIA driver (libcuda.so.1 not found)"),
    (driver(error=100), "no device"),
    (driver(error=999), "the NVIDIA driver does not start (cuInit: error 999)"),
    (driver(version=11040), "the NVIDIA driver is for CUDA 11.4, one for CUDA 12 or newer is "
     "needed"),
    (driver(devices=0), "no device 0 (there are 0, counted from 0)"),
    (no_cufft, "library libcufft.so.11 not found (pip install -r requirements-cuda.txt)"),
    (broken_cudnn, "library libcudnn.so.8 does not load (libcudnn.so.8: cannot open shared object "
     "file)"),
]


@pytest.mark.parametrize("change, reason", REASONS)
def test_the_reason_is_exact(machine, wheels, change, reason):
    """auto says it and takes the CPU; a context asked for by name ends in it, and so does TF32."""
    change(machine)
    device = devices.set_context("auto")
    assert device.text == f"cpu (no CUDA: {reason})" and device.kernel and not device.cuda
    assert nn.get_current_context().backend == ["cpu:float"]
    with pytest.raises(UserError) as error:
        devices.set_context("cuda")
    assert f"--context cuda does not work here: {reason}; " in str(error.value)
    with pytest.raises(UserError) as error:
        devices.set_context("auto", precision="tf32")
    assert "--precision tf32 needs CUDA" in str(error.value) and reason in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("device_id", ["1", "-1", "x"])
def test_a_device_that_is_not_there(machine, device_id):
    with pytest.raises(cuda.Unavailable, match=f"no device {device_id}"):
        cuda.prepare(device_id)


def test_an_extension_that_does_not_compute(machine, wheels):
    """Here the import has been a fake's, so there is no such context."""
    assert devices.set_context("auto").text.startswith("cpu (no CUDA: ")


def test_products_tell_the_precision():
    """The CPU's are float32's, which passes, and not TF32's, which is noticed."""
    context = nn.get_current_context()
    devices.check_products(context, "float32")
    with pytest.raises(RuntimeError, match=r"not tf32's: 512\.125 and not 512"):
        devices.check_products(context, "tf32")


def test_precision_on_the_cpu_is_refused_by_the_script(script, tmp_path):
    error = script("train.py -f a.ply --context cpu --precision tf32", status=1).stderr
    assert "needs CUDA" in error and "(as asked)" in error and error.count("\n") == 1


def test_the_extension_is_told_the_precision(machine, wheels, monkeypatch):
    """By the variable that it reads, and cuBLAS by its own: before one of them is loaded."""
    names = "NNABLA_CUDA_ALLOW_TF32", "NVIDIA_TF32_OVERRIDE"
    for name in names:
        monkeypatch.delenv(name, raising=False)
    for precision, value in (("tf32", "1"), ("float32", "0")):
        with pytest.raises(helper.UserError, match="does not work here"):
            devices.set_context("cuda", "0", precision)
        assert [os.environ[name] for name in names] == [value, value]


def test_a_full_gpu_is_one_line():
    def fails(args):
        raise RuntimeError("memory error in alloc\nCudaMemory allocation failed.")

    with pytest.raises(SystemExit, match="not enough memory on the GPU"):
        helper.run(fails, None)


def test_compiled_codes_stderr_is_dropped_and_comes_back(capfd):
    with cuda.without_stderr():
        os.write(2, b"openmpi library is not found")
    os.write(2, b"but this is said")
    assert capfd.readouterr().err == "but this is said"


@pytest.mark.parametrize("text, reason", [
    ("plain", "plain"), ("two\nlines", "two"), ("", "RuntimeError"),
    ("target_specific error in get_device\n/a/b/common.cpp:30\n(cudaGetDevice(&d)) failed.\n",
     "(cudaGetDevice(&d)) failed"),
])
def test_the_reason_of_an_exception_is_one_line(text, reason):
    assert helper.reason_of(RuntimeError(text)) == reason
