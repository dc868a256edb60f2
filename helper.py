"""What every script needs: errors and exit status, safe writing, devices, checkpoints, flags.

A checkpoint is nnabla's own parameter file (`nn.load_parameters` reads it) with one HDF5 attribute
`igr` at its root, a JSON object that tells the architecture, the frame of the shape and the flags
of the training. So a checkpoint is all that inference needs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import math
import os
from pathlib import Path
import re
import signal
import sys
import tempfile

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
