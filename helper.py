"""What every script needs: reporter, errors, exit status, signals, safe writing, flags and paths.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import errno
import hashlib
import json
import logging
import math
import os
from pathlib import Path
import re
import signal
import sys
import tempfile
from types import ModuleType
from typing import Any, Callable, Iterable, Iterator

__version__ = "0.1.0"
CONTEXTS = ("auto", "cpu", "cpu-graph", "cuda", "cudnn")
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # the last: the terminal is closed


# ---------------------------------------------------------------------------------- the reporter

log = logging.getLogger("igr")  # info: a result; warning: a doubt, or what the user should change


class Console(logging.Handler):
    """Print results on stdout and, as "warning: ...", doubts on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        doubt = record.levelno >= logging.WARNING
        line = f"warning: {record.getMessage()}" if doubt else record.getMessage()
        print(line, file=sys.stderr if doubt else sys.stdout)


@contextlib.contextmanager
def reporting(quiet: bool) -> Iterator[None]:
    """Print what is logged in this block; quiet: warnings only.

    Without it, as in a program that imports our modules, results are not printed.
    """
    console = Console(logging.WARNING if quiet else logging.INFO)
    before = log.level, log.propagate
    log.addHandler(console)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(console)
        log.setLevel(before[0])
        log.propagate = before[1]


# ----------------------------------------------------------------------------- errors, exit status


class UserError(Exception):
    """An error that the user can correct. Its text is one line: what, where, what to do."""


class Interrupted(Exception):
    """A signal asked to stop. The exit status is 128 + signum."""

    def __init__(self, signum: int, text: str = ""):
        super().__init__(text)
        self.signum = signum


def leave_at_once(signum: int, frame: object) -> None:
    """Handle Ctrl-C while no file is open: print one line and exit immediately."""
    os.write(2, f"{Path(sys.argv[0]).name}: interrupted\n".encode())
    os._exit(128 + signum)


def prepare() -> None:
    """Set up what must come before the large imports, which take seconds: Ctrl-C ends one of our
    scripts without a traceback, and nnabla prints no line."""
    script = getattr(sys.modules["__main__"], "__file__", None)
    ours = script and Path(script).resolve().parent == Path(__file__).resolve().parent
    if ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, leave_at_once)
    logging.getLogger("nnabla").setLevel(logging.WARNING)


def run(main: Callable[[argparse.Namespace], None], args: argparse.Namespace) -> None:
    """Run `main(args)` as a script, which prints what it logs; only warnings if `args.quiet`.

    Exit status: 0 for success, 1 for an error (one line on stderr), 128 + signum (Ctrl-C: 130) for
    an interruption. Unforeseen errors keep their traceback: they are ours to fix, not the user's.
    """
    name = Path(sys.argv[0]).name
    prepared = signal.getsignal(signal.SIGINT) is leave_at_once
    if prepared:  # from here on there are files to close
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with reporting(getattr(args, "quiet", False)):
            main(args)
    except UserError as error:
        sys.exit(f"{name}: {error}")
    except Interrupted as stop:
        print(f"{name}: {stop}", file=sys.stderr)
        sys.exit(128 + stop.signum)
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:  # the reader of our stdout (head, less) is gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        sys.exit(f"{name}: {error.filename or 'input/output'}: {error.strerror or error}")
    except MemoryError:
        sys.exit(f"{name}: not enough memory; try a smaller grid, picture, batch or cloud")
    except RuntimeError as error:
        if "allocation failed" not in str(error):  # nnabla's text for a full GPU
            raise
        sys.exit(f"{name}: not enough memory on the GPU; try a smaller batch (-b, -sb)")
    finally:
        if prepared:
            signal.signal(signal.SIGINT, leave_at_once)  # while Python ends


def reason_of(error: Exception) -> str:
    """Pick one line from the text of a library's exception: the first one, but nnabla's last.

    nnabla's lines are the function, the place in the source, and only then what happened.
    """
    lines = str(error).strip().splitlines() or [type(error).__name__]
    from_nnabla = len(lines) > 2 and re.search(r":\d+$", lines[1])
    return lines[-1].rstrip(".") if from_nnabla else lines[0]


@contextlib.contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Yield a list that gets the first of STOP_SIGNALS in this block; a second exits at once."""
    caught = []

    def handler(signum: int, frame: object) -> None:
        if caught:  # every file is whole at any instant, so leaving here is safe
            os.write(2, f"{Path(sys.argv[0]).name}: stopped at once, without saving\n".encode())
            os._exit(128 + signum)
        caught.append(signum)

    before = {signum: signal.getsignal(signum) for signum in STOP_SIGNALS}
    before = {signum: old for signum, old in before.items() if old != signal.SIG_IGN}  # nohup's
    for signum in before:
        signal.signal(signum, handler)
    try:
        yield caught
    finally:
        for signum, old in before.items():
            signal.signal(signum, old or signal.SIG_DFL)


# ------------------------------------------------------------------------------------ safe writing


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, with its suffix, that takes its place on success.

    At every instant `path` holds its old content or the whole new one. Of a link it is the target
    that is replaced. An OSError in the block names `path`, if it names no other file.
    """
    path = Path(os.path.realpath(path)) if os.path.islink(path) else Path(path)
    if not path.parent.is_dir():
        raise UserError(f"{path}: the folder {path.parent} does not exist; make it first")
    handle, name = tempfile.mkstemp(prefix=f".writing-{path.stem}-", suffix=path.suffix,
                                    dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        with naming(path, instead_of=temporary):
            yield temporary
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())  # all of it is on the disk before it takes the name
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)  # mkstemp makes files that only their owner can read
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def naming(path: str | Path, instead_of: Path | None = None) -> Iterator[None]:
    """Give an OSError of this block `path` as its file where it names none, as on a full disk, or
    `instead_of`."""
    try:
        yield
    except OSError as error:
        if error.filename is None or str(error.filename) == str(instead_of):
            reason = error.strerror or str(error)
            raise OSError(error.errno or errno.EIO, reason, str(path)) from error
        raise


def check_writable(path, suffixes, inputs=()) -> Path:
    """Check before any work that an output can be written; returns `path` as a Path.

    Raises UserError where its suffix is not one of `suffixes`, and as check_output does. inputs:
    files that it must not replace.
    """
    path = Path(path)
    if path.suffix.lower() not in suffixes and not path.is_dir():
        raise UserError(f"{path}: cannot write '{path.suffix}'; use one of {' '.join(suffixes)}")
    return check_output(path, inputs)


def write_json(path: str | Path, value: object) -> None:
    """Write `value` as indented JSON. Raises ValueError for NaN and infinities: JSON has none."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")


# ----------------------------------------------------------------------------------------- open3d


def open3d() -> ModuleType:
    """Import open3d. Raises UserError with the command that helps where that fails."""
    try:
        import open3d as o3d
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed in {sys.executable}; "
                        "type bash commands.sh setup and use .venv/bin/python") from None
    except (ImportError, OSError) as error:
        raise UserError(
            f"open3d cannot be imported ({error}); on Debian or Ubuntu: sudo apt-get install "
            "libegl1 libgl1 libgomp1 libusb-1.0-0 libx11-6"
        ) from None
    o3d.utility.set_verbosity_level(o3d.utility.VerbosityLevel.Error)
    return o3d


# ------------------------------------------------------------------------------------ flags, paths


def existing_file(path: str | Path) -> Path:
    """Check that an input exists; returns `path` as a Path. Raises UserError where it is neither a
    file nor a pipe, or empty."""
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: is a folder, not a file")
    if not path.exists():
        raise UserError(f"{path}: no such file")
    if not (path.is_file() or path.is_fifo()):  # /dev/null, a terminal
        raise UserError(f"{path}: no data, a device and not a file")
    if path.is_file() and path.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty")
    return path


def check_output(path: str | Path, inputs: Iterable[str | Path | None] = ()) -> Path:
    """Check that a file can be written at `path`; returns it as a Path.

    Raises UserError where a folder or device has the name, its own folder is missing, or it is one
    of the inputs (None is skipped), under whatever name.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: is a folder; name a file in it")
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: is no ordinary file, and would be replaced by one")
    if not path.parent.is_dir():
        raise UserError(f"{path}: the folder {path.parent} does not exist; make it first")
    for other in inputs:
        if other is not None and path.exists() and Path(other).exists() and path.samefile(other):
            raise UserError(f"{path}: is the input {other} and would be replaced; name another "
                            "output")
    return path


def fingerprint(*parts: Any) -> str:
    """Hash all bytes of arrays and texts, in their order, by sha256; None is left out."""
    import numpy as np  # here: helper is imported before OpenBLAS' kernels are chosen

    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            found.update(part.encode())
        elif part is not None:
            found.update(np.ascontiguousarray(part).reshape(-1).data)
    return found.hexdigest()


def sha256_of_file(path: str | Path) -> str:
    """Hash a file by sha256, in hexadecimal; "" for a pipe, which can be read only once."""
    if Path(path).is_fifo():
        return ""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            found.update(block)
    return found.hexdigest()


def without_suffix(path: str | Path) -> Path:
    """Strip the suffix: a/knot for a/knot.ply and for a/knot.ply.gz."""
    path = Path(path)
    return (path.with_suffix("") if path.suffix.lower() == ".gz" else path).with_suffix("")


def cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Parser(argparse.ArgumentParser):
    """A parser that takes -1e-3, -.5 and -inf for numbers; argparse only knows -1 and -1.5."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self._negative_number_matcher = re.compile(
            r"-(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$|-(inf|infinity|nan)$", re.IGNORECASE)


def parser(doc: str) -> argparse.ArgumentParser:
    """Make a parser whose --help opens with the script's docstring and shows every default."""

    class Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
        def _get_help_string(self, action):
            silent = action.default in (None, "") or action.default is False
            return action.help if silent else super()._get_help_string(action)

    made = Parser(description=doc, formatter_class=Formatter)
    kernels = os.environ.get("OPENBLAS_CORETYPE") or "chosen by OpenBLAS"
    made.add_argument("--version", action="version",
                      version=f"{__version__}, OpenBLAS kernels: {kernels}",
                      help="print the version and the OpenBLAS kernels, and exit")
    return made


def device_number(text: str) -> str:
    """Check the number of a device, an argparse type: a whole number, as text."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is not the number of a device: 0, 1, ...")
    return text


class Switch(argparse.Action):
    """--name stores True, --no-name False (argparse.BooleanOptionalAction came with Python 3.9)."""

    def __init__(self, option_strings: list[str], dest: str, **of_argparse: Any):
        negative = [name.replace("--", "--no-", 1) for name in option_strings]
        super().__init__([*option_strings, *negative], dest, nargs=0, **of_argparse)

    def format_usage(self) -> str:
        return " | ".join(self.option_strings)

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        setattr(namespace, self.dest, not option_string.startswith("--no-"))


def flag(default: Any, *names: str, **of_argparse: Any) -> Any:
    """Declare an option once, as a field of a dataclass: its default, its short names, and what
    else argparse's add_argument takes (type, choices, help, ...).

    alternatives="NAME": only one of the flags with this name can be given.
    """
    return dataclasses.field(default=default, metadata={"names": names, **of_argparse})


def add_flags(parser: Any, options: type, leave_out: Iterable[str] = ()) -> dict[str, Any]:
    """Add a flag for each flag() field of a dataclass of options to a parser or one of its groups.

    The long name is the field's. A field whose default is False is a switch. Returns the mutually
    exclusive groups of alternatives by name.
    """
    groups: dict[str, Any] = {}
    for field in dataclasses.fields(options):
        if "names" not in field.metadata or field.name in leave_out:
            continue
        arguments = dict(field.metadata)
        names = [*arguments.pop("names"), "--" + field.name.replace("_", "-")]
        if field.default is False and "action" not in arguments:
            arguments["action"] = "store_true"
        group = arguments.pop("alternatives", None)
        if group and group not in groups:
            groups[group] = parser.add_mutually_exclusive_group()
        groups.get(group, parser).add_argument(*names, default=field.default, **arguments)
    return groups


def names_of(options: type) -> list[str]:
    """List the names of the fields of a dataclass of options."""
    return [field.name for field in dataclasses.fields(options)]


def options_from(options: type, given: dict[str, Any]) -> Any:
    """Make a dataclass of options from those of its fields that are among the given ones."""
    return options(**{name: given[name] for name in names_of(options) if name in given})


def number(kind: type, low: float | None = None, high: float | None = None, *,
           above: float | None = None, below: float | None = None) -> Callable[[str], float]:
    """Make an argparse type: an int or float (`kind`) within [low, high] and (above, below)."""

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

    convert.__name__ = kind.__name__  # argparse's "invalid int value" takes the name from here
    return convert


@dataclasses.dataclass(frozen=True)
class DeviceOptions:
    """Where the network is computed."""

    device_id: str = flag("0", "-d", type=device_number, help="number of the GPU")
    threads: int = flag(cores(), type=number(int, 1), help="CPU threads")
    context: str = flag("auto", choices=CONTEXTS,
                        help="where to compute; auto: CUDA if it works, else the CPU; cpu-graph: "
                        "the CPU with nnabla's own functions, for comparison")


prepare()
