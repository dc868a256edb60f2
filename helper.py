"""What every script needs: errors and exit status, safe writing, devices, checkpoints, flags.

A checkpoint is nnabla's own parameter file (`nn.load_parameters` reads it) with one HDF5 attribute
`igr` at its root, a JSON object that tells the architecture, the frame of the shape and the flags
of the training. So a checkpoint is all that inference needs.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import logging
import math
import os
from pathlib import Path
import re
import signal
import sys
import tempfile
from typing import NamedTuple

import cuda

import numpy as np

logging.getLogger("nnabla").setLevel(logging.WARNING)  # before the import, which chats otherwise

__version__ = "0.1.0"
CONTEXTS = ("auto", "cpu", "cpu-graph", "cuda", "cudnn")


# ----------------------------------------------------------------------------- errors, exit status


class UserError(Exception):
    """What the user can put right. Its text is one line: what, where, what to do."""


class Interrupted(Exception):
    """A signal asked to stop; `signum` decides the exit status (128 + signum)."""

    def __init__(self, signum: int, text: str = ""):
        super().__init__(text)
        self.signum = signum


def run(main, args: argparse.Namespace) -> None:
    """Run `main(args)` as a script: 0 done, 1 could not (one line on stderr), 130 interrupted.

    Errors that nobody foresaw keep their traceback: they are ours to mend, not the user's.
    """
    name = Path(sys.argv[0]).name
    try:
        main(args)
    except UserError as error:
        sys.exit(f"{name}: {error}")
    except Interrupted as stop:
        print(f"{name}: {stop}", file=sys.stderr)
        sys.exit(128 + stop.signum)
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:  # the reader of our stdout (head, less) has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        sys.exit(f"{name}: {error.filename or 'input/output'}: {error.strerror or error}")
    except MemoryError:
        sys.exit(f"{name}: not enough memory; try a smaller grid, picture, batch or cloud")
    except RuntimeError as error:
        if "allocation failed" not in str(error):  # nnabla's words for a GPU's memory
            raise
        sys.exit(f"{name}: not enough memory on the GPU; try a smaller batch (-b, -sb)")


def reason_of(error: Exception) -> str:
    """What an exception of another's code says, in one line: its first, or the last of nnabla's,
    which name the function, the place in the source, and then what happened."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    of_nnabla = len(lines) > 2 and re.search(r":\d+$", lines[1])
    return lines[-1].rstrip(".") if of_nnabla else lines[0]


# ------------------------------------------------------------------------------------ safe writing


@contextlib.contextmanager
def replacing(path):
    """Yield a temporary path beside `path` (same suffix) that takes its place on success.

    Whatever happens in between, `path` holds its old content or the whole new one.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise UserError(f"{path}: the folder {path.parent} does not exist; make it first")
    handle, name = tempfile.mkstemp(prefix=f".writing-{path.stem}-", suffix=path.suffix,
                                    dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())  # whole on the disk before it takes the name
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes files that only their owner can read
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path, value) -> None:
    """Write `value` as indented JSON; NaN and infinities are refused (they are no JSON)."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")


# ------------------------------------------------------------------------------------------ devices


class Device(NamedTuple):
    """Where the network runs."""

    text: str  # says so, and why
    kernel: bool  # kernels.py computes it; else nnabla's functions do
    cuda: bool
    rows: int  # points that inference takes at a time


# rows: on a GPU enough to fill the largest at 8 x 512 (a layer is 64 MiB); nnabla's functions on
# the CPU are no faster with more, and what is left over of a batch is computed in vain
CUDA_ROWS, CPU_ROWS = 32768, 1024


def set_context(context: str, device_id: str = "0", precision: str = "float32") -> Device:
    """Make `context` nnabla's default.

    context: "auto" (CUDA where it works, else the CPU), "cpu", "cpu-graph", "cuda", "cudnn".
    precision: "float32", or on CUDA "tf32". Raises UserError where CUDA is asked for by name, or
    needed for the precision, and does not work.
    """
    import nnabla as nn
    from nnabla.ext_utils import get_extension_context

    # nnabla's compiled modules look for each of their imports inside the package first, on disk and
    # at every call: 200 times a training step, 4 ms. None says at once that they are not there.
    sys.modules.update({"nnabla.nnabla": None, "nnabla.nnabla_ext": None})
    why = "as asked"
    if context in ("auto", "cuda", "cudnn"):
        try:
            # cuBLAS may read it as soon as it is loaded, the extension sets it when it is imported
            for name in ("NVIDIA_TF32_OVERRIDE", "NNABLA_CUDA_ALLOW_TF32"):
                os.environ[name] = "1" if precision == "tf32" else "0"
            cuda.prepare(device_id)
            chosen = "cuda" if context == "auto" else context
            ctx = get_extension_context(chosen, device_id=device_id)
            check_products(ctx, precision)
            nn.set_default_context(ctx)
            text = f"{chosen}, device {device_id}, {precision}"
            return Device(text, kernel=False, cuda=True, rows=CUDA_ROWS)
        except Exception as error:  # the extension raises what its loader raises: any type
            reason = reason_of(error)
            if context != "auto":
                raise UserError(
                    f"--context {context} does not work here: {reason}; "
                    "see the README's CUDA section, or use --context cpu"
                ) from None
            why = f"no CUDA: {reason}"
    if precision != "float32":
        raise UserError(f"--precision {precision} needs CUDA, the network would run on the CPU "
                        f"({why}); leave it out")
    nn.set_default_context(get_extension_context("cpu"))
    text = f"{'cpu' if context == 'auto' else context} ({why})"
    return Device(text, kernel=context != "cpu-graph", cuda=False, rows=CPU_ROWS)


def check_products(ctx, precision: str) -> None:
    """Raises RuntimeError where a matrix product in the nnabla context `ctx` is wrong, or has
    another precision. A factor 1 + 2^-12 is 1 in TF32, which keeps 10 bits behind the point."""
    import nnabla as nn
    import nnabla.functions as F

    n, factor = 512, 1 + 2.0**-12
    with nn.context_scope(ctx), nn.auto_forward():
        product = F.affine(F.constant(factor, (n, n)), F.constant(1, (n, n))).d
    found = {"float32": n * factor, "tf32": n}
    if not np.abs(product - found[precision]).max() < 1e-3:
        raise RuntimeError(f"a matrix product is not {precision}'s: {product[0, 0]:.7g} and not "
                           f"{found[precision]:.7g}")


# -------------------------------------------------------------------------------------- checkpoints


def save_checkpoint(path, parameters: dict, info: dict) -> None:
    """Write nnabla variables `parameters` and the JSON object `info` to the .h5 file `path`, laid
    out as nnabla's save_parameters does."""
    arrays = {name: variable.d for name, variable in parameters.items()}
    save_arrays(path, arrays, {**info, "version": __version__})


def load_checkpoint(path):
    """Read a .h5 checkpoint.

    Returns (arrays, info): `arrays` maps "fc0/affine/W", ... to float32 arrays; `info` is the
    object that save_checkpoint wrote, or None for a file of the published nnabla-examples models.
    Raises UserError where the file is missing, is no HDF5, or does not hold an MLP.
    """
    arrays, text = load_arrays(path)
    layers = range(len(arrays) // 2)
    names = [f"fc{layer}/affine/{name}" for layer in layers for name in "Wb"]
    if not arrays or set(names) != set(arrays):
        raise UserError(f"{path}: not a checkpoint of this network (it holds {sorted(arrays)[:3]})")
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise UserError(f"{path}: the checkpoint's parameters are not finite")
    arrays = {name: arrays[name].astype(np.float32) for name in names}
    if text is None:
        return arrays, None
    try:
        return arrays, _checked_info(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{path}: the checkpoint's igr attribute is damaged") from None


def _checked_info(info: dict) -> dict:
    """info, where all that is read from it later has the type it should; else ValueError."""
    network, frame = info["architecture"], info["frame"]
    numbers = [*frame["center"], frame["scale"], info["volume_factor"], network["beta"],
               network["skip_scale"], network["dims"]]
    good = len(numbers) == 8 and all(type(v) in (int, float) for v in numbers)
    good = good and np.isfinite(numbers).all() and min(numbers[3:]) > 0
    good = good and set(network) == {"dims", "activation", "beta", "skip_scale"}
    good = good and type(network["dims"]) is int
    good = good and network["activation"] in ("softplus", "leaky_relu")
    for name, kind in (("step", int), ("flags", dict), ("cloud", str), ("cloud_sha256", str),
                       ("first_losses", dict), ("seconds", float)):
        good = good and isinstance(info.get(name, kind()), kind)
    if not good:
        raise ValueError
    return info


def save_arrays(path, arrays: dict, info=None) -> None:
    """Write {name: array}, and a JSON object as the attribute igr, to the .h5 file `path`."""
    import h5py

    image = io.BytesIO()  # HDF5 itself crashes the process when a disk is full
    with h5py.File(image, "w") as file:
        for index, (name, array) in enumerate(arrays.items()):
            dataset = file.create_dataset(name, data=array)
            dataset.attrs["need_grad"], dataset.attrs["index"] = True, index
        file.attrs["igr"] = json.dumps({**(info or {}), "sha256": _sha256(arrays)})
    with replacing(path) as temporary:
        temporary.write_bytes(image.getbuffer())


def _sha256(arrays: dict) -> str:
    """A fingerprint of {name: array}."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        found.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
    return found.hexdigest()


def load_arrays(path):
    """({name: array}, text of the attribute igr or None) of a .h5 file with plain numbers.

    Raises UserError where the file is missing, damaged, or holds anything else: links to other
    files are not followed and nothing is executed.
    """
    import h5py

    path, arrays = existing_file(path), {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            if item.dtype.kind not in "fiu" or item.external or item.is_virtual:
                raise ValueError(f"{name} is no plain array of numbers")
            if item.size + sum(a.size for a in arrays.values()) > 64 * path.stat().st_size:
                raise ValueError(f"{name} promises more than the file holds")
            arrays[name] = item[...]

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)
            text = file.attrs.get("igr")
    except Exception as error:  # h5py raises every type there is for damaged files
        raise UserError(f"{path}: not a checkpoint ({reason_of(error)[:120]})") from None
    if text is None:
        return arrays, None
    try:
        written = json.loads(text).get("sha256")
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{path}: the checkpoint's igr attribute is damaged") from None
    if written is not None and written != _sha256(arrays):
        raise UserError(f"{path}: the checkpoint is damaged (its sha256 is another)")
    return arrays, text


def newest_checkpoint(folder=".") -> Path:
    """The most recently written param_NNNNN.h5 in `folder` or below. Raises UserError if none."""
    found = [p for p in Path(folder).rglob("param_*.h5") if re.fullmatch(r"param_\d+", p.stem)]
    if not found:
        raise UserError(f"{Path(folder).resolve()}: no param_*.h5 here or below; name it with -mlp")
    return max(found, key=lambda p: (p.stat().st_mtime_ns, p.name))


def trained_cloud(mesh_path: Path) -> Path:
    """The cloud that the checkpoint beside a mesh <checkpoint>_mesh.* was trained on."""
    stem = without_suffix(mesh_path).name
    stem = stem[: -len("_mesh")] if stem.endswith("_mesh") else stem
    checkpoint = mesh_path.with_name(stem + ".h5")
    if not checkpoint.is_file():
        raise UserError(f"{checkpoint}: no checkpoint beside the mesh; name the reference yourself")
    _, info = load_checkpoint(checkpoint)
    if not info or not Path(info.get("cloud", "")).is_file():
        raise UserError(f"{checkpoint}: its cloud is unknown or gone; name the reference yourself")
    return Path(info["cloud"])


# ----------------------------------------------------------------------------------------- open3d


def open3d():
    """The open3d module. Raises UserError with the line to type where it does not import."""
    try:
        import open3d as o3d
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed in {sys.executable}; "
                        "bash commands.sh setup, then run with .venv/bin/python") from None
    except (ImportError, OSError) as error:
        raise UserError(
            f"open3d does not import ({error}); on Debian or Ubuntu: sudo apt-get install "
            "libusb-1.0-0 libgl1 libgomp1 libx11-6"
        ) from None
    o3d.utility.set_verbosity_level(o3d.utility.VerbosityLevel.Error)
    return o3d


# ------------------------------------------------------------------------------------ flags, paths


def existing_file(path) -> Path:
    """`path` as a Path; raises UserError where it is not a file with something in it."""
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: is a folder, a file is needed")
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty")
    return path


def without_suffix(path) -> Path:
    """knot of knot.ply and of knot.ply.gz, in the same folder."""
    path = Path(path)
    return (path.with_suffix("") if path.suffix.lower() == ".gz" else path).with_suffix("")


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def compiled(**options):
    """numba.njit without the GIL, kept on disk where numba finds a folder for it."""
    import numba

    def decorate(function):
        try:
            return numba.njit(cache=True, nogil=True, **options)(function)
        except RuntimeError:  # no folder: compile for this process
            return numba.njit(nogil=True, **options)(function)

    return decorate


def parser(doc: str) -> argparse.ArgumentParser:
    """A parser whose --help opens with the script's docstring and shows every default."""

    class Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
        def _get_help_string(self, action):
            silent = action.default in (None, False, "")
            return action.help if silent else super()._get_help_string(action)

    return argparse.ArgumentParser(description=doc, formatter_class=Formatter)


def add_device_flags(parser: argparse.ArgumentParser) -> None:
    """-d, --context and --threads, for the scripts that run the network."""
    parser.add_argument("-d", "--device-id", default="0", help="number of the GPU")
    parser.add_argument("--threads", type=number(int, 1), default=cores(),
                        help="of the CPU's kernel")
    parser.add_argument("--context", choices=CONTEXTS, default="auto",
                        help="where to compute; auto: CUDA where it works, else the CPU; "
                        "cpu-graph: the CPU by nnabla's own functions, for comparison")


def number(kind, low=None, high=None, *, above=None, below=None):
    """An argparse type: `kind` (int or float) within [low, high] and (above, below)."""

    def convert(text: str):
        value = kind(text)
        good = math.isfinite(value)
        good &= low is None or value >= low
        good &= high is None or value <= high
        good &= above is None or value > above
        good &= below is None or value < below
        if not good:
            bounds = ["finite"] if not math.isfinite(value) else []
            bounds += [f"at least {low}"] if low is not None else []
            bounds += [f"at most {high}"] if high is not None else []
            bounds += [f"above {above}"] if above is not None else []
            bounds += [f"below {below}"] if below is not None else []
            raise argparse.ArgumentTypeError(f"{text} is not {' and '.join(bounds)}")
        return value

    convert.__name__ = kind.__name__  # argparse says "invalid int value" with it
    return convert
