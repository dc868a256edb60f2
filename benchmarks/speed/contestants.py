"""Time contestants in turn in one run: ours, PyTorch's twin of it, the matrix products alone."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Any, NamedTuple

from benchmarks.common import ROOT, report
import helper
from igr.backend import blas, devices, threads

import numpy as np


class CannotRun(Exception):
    """A contestant gave up; the text says why."""


class Twin:
    """torch_twin.py in a Python that has PyTorch; None where there is none."""

    def __init__(self, python: str):
        self.process = subprocess.Popen(
            [python, str(Path(__file__).with_name("torch_twin.py"))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self.environment())

    @classmethod
    def find(cls, python):
        """The twin in `python`, by default in .venv-torch or in this Python; None where none of
        them has PyTorch."""
        for candidate in [python] if python else [ROOT / ".venv-torch/bin/python", sys.executable]:
            if shutil.which(str(candidate)) and subprocess.run(
                    [str(candidate), "-c", "import torch"], capture_output=True,
                    env=cls.environment()).returncode == 0:
                return cls(str(candidate))
        print("no PyTorch found (see benchmarks/requirements.txt): its column is left out")
        return None

    @staticmethod
    def environment() -> dict:
        """The environment without what is meant for this Python and its libraries."""
        ours = {"PYTHONHOME", "PYTHONPATH", "NVIDIA_TF32_OVERRIDE", blas.VARIABLE}
        return {name: value for name, value in os.environ.items() if name not in ours}

    def timer(self, **order):
        """A function repeat -> seconds of each run, or CannotRun with PyTorch's reason."""

        def run(repeat: int) -> list:
            message = {"compile": False, "precision": "float32", "threads": threads.count(),
                       **order, "repeat": repeat}
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()
            answer = json.loads(self.process.stdout.readline())
            if "error" in answer:
                raise CannotRun(answer["error"])
            return answer["seconds"]

        return run


class Contest(NamedTuple):
    """A run's command line, device and twin, which all of its rows share."""

    args: argparse.Namespace  # of parser()
    device: devices.Device
    twin: Twin | None  # None where there is no PyTorch

    def order(self, **of_row) -> dict[str, Any]:
        """An order for the twin."""
        return {"device": "cuda" if self.device.cuda else "cpu", "precision": self.args.precision,
                **of_row}

    def alternate(self, contestants: dict) -> dict:
        """alternate() with the rounds and repeats of the command line."""
        return alternate(contestants, self.args.rounds, self.args.repeat)


def alternate(contestants: dict, rounds: int, repeat: int) -> dict:
    """{name: median seconds}: every round times each contestant `repeat` times, in turn; the
    first round warms up and does not count. A contestant maps repeat to seconds of each run; one
    that cannot run is left out, and the reason is printed."""
    contestants, seconds = dict(contestants), {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name, run in list(contestants.items()):
            try:
                found = run(repeat)
            except CannotRun as error:
                print(f"{name} cannot run: {error}")
                del contestants[name], seconds[name]
                continue
            seconds[name] += found if turn else []
    return {name: float(np.median(found)) for name, found in seconds.items()}


def timed(function, wait=None):
    """repeat -> seconds of each run of function(). With wait, which waits for a GPU: the mean of
    all runs, which follow each other without waiting, as in a training."""

    def run(repeat):
        seconds = []
        for _ in range(1 if wait else repeat):
            start = time.perf_counter()
            for _ in range(repeat if wait else 1):
                function()
            if wait:
                wait()
            seconds.append((time.perf_counter() - start) / (repeat if wait else 1))
        return seconds

    return run


def waiting(device):
    """The wait of timed() for a devices.Device; None for a CPU."""
    if not device.cuda:
        return None
    import nnabla_ext.cuda

    return lambda: nnabla_ext.cuda.synchronize("0")


def parser(doc: str):
    """A parser with the flags of all contests."""
    made = helper.parser(doc)
    made.add_argument("--dims", type=int, nargs="+", default=[512, 256, 128], help="widths")
    made.add_argument("--rounds", type=int, default=7, help="rounds that count")
    made.add_argument("--repeat", type=int, default=10, help="runs of each contestant in a round")
    made.add_argument("--threads", type=int, help="default: one a core")
    made.add_argument("--torch-python", help="a Python with torch; default: .venv-torch's")
    made.add_argument("--no-graph", action="store_true", help="leave out nnabla's slow CPU graph")
    made.add_argument("--context", choices=["cpu", "cpu-graph", "cuda"], default="cpu",
                      help="cuda: PyTorch's columns are on the GPU too; cpu-graph: as cuda, "
                      "without a GPU")
    made.add_argument("--precision", choices=["float32", "tf32"], default="float32",
                      help="of all contestants' matrix products, with --context cuda")
    made.add_argument("--core-type", nargs="+", metavar="NAME",
                      help="OpenBLAS' kernels, one run for each; default: as everywhere")
    made.add_argument("--json", metavar="FILE", help="write the figures")
    return made


def run(main, args) -> None:
    """helper.run(main, args); with --core-type, once for each in a process of its own, since
    OpenBLAS looks at its variable when it is loaded, and one table of all rows."""
    if not args.core_type:
        helper.run(main, args)
        return
    at = sys.argv.index("--core-type")
    flags = sys.argv[1:at] + sys.argv[at + 1 + len(args.core_type):]
    program = sys.modules["__main__"].__spec__.name
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in args.core_type:
            figures = Path(folder) / f"{name}.json"
            done = subprocess.run([sys.executable, "-m", program, *flags, "--json", str(figures)],
                                  env={**os.environ, blas.VARIABLE: name})
            if done.returncode:
                sys.exit(done.returncode)
            rows += json.loads(figures.read_text())["rows"]
    report(rows, args.json)


def begin(args) -> Contest:
    """Set threads and device, and find PyTorch."""
    if args.threads:
        threads.set_count(args.threads)
    device = devices.set_context(args.context, precision=args.precision)
    print(device.text)
    return Contest(args, device, Twin.find(args.torch_python))


def ratios(row: dict) -> dict:
    """row with ours over each other column of seconds or rates."""
    others = {"ratio_floor": "floor", "ratio_torch": "torch", "ratio_compile": "torch_compile"}
    return {**row, **{name: row["ours"] / row[other] for name, other in others.items()
                      if other in row}}
