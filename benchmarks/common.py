"""What the benchmarks share: contestants in turn in one run, medians, ratios, a json."""

from __future__ import annotations

import json
import os
from pathlib import Path
import platform
import shutil
import subprocess
import sys

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import helper  # noqa: E402
import kernels  # noqa: E402


class Twin:
    """torch_twin.py in a Python that has PyTorch; None where there is none."""

    def __init__(self, python: str):
        self.process = subprocess.Popen(
            [python, str(Path(__file__).with_name("torch_twin.py"))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    @classmethod
    def find(cls, python):
        for candidate in [python] if python else [ROOT / ".venv-torch/bin/python", sys.executable]:
            if shutil.which(str(candidate)) and subprocess.run(
                    [str(candidate), "-c", "import torch"], capture_output=True).returncode == 0:
                return cls(str(candidate))
        print("no PyTorch found (see benchmarks/requirements.txt): its column is left out")
        return None

    def timer(self, **order):
        """A function repeat -> seconds of each run."""

        def run(repeat: int) -> list:
            message = {"compile": False, "threads": kernels.threads(), **order, "repeat": repeat}
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()
            return json.loads(self.process.stdout.readline())["seconds"]

        return run


def alternate(contestants: dict, rounds: int, repeat: int) -> dict:
    """{name: median seconds}: every round times each contestant `repeat` times, in turn; the
    first round warms up and does not count. A contestant maps repeat to seconds of each run."""
    seconds = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name, run in contestants.items():
            found = run(repeat)
            seconds[name] += found if turn else []
    return {name: float(np.median(found)) for name, found in seconds.items()}


def machine() -> dict:
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line.split(":")[1].strip() for line in info.read_text().splitlines()
                 if line.startswith("model name")]
        model = names[0] if names else model
    return {"cpu": model, "cores": os.cpu_count(), "threads": kernels.threads(),
            "python": platform.python_version()}


def parser(doc: str):
    made = helper.parser(doc)
    made.add_argument("--dims", type=int, nargs="+", default=[512, 256, 128], help="widths")
    made.add_argument("--rounds", type=int, default=7, help="rounds that count")
    made.add_argument("--repeat", type=int, default=10, help="runs of each contestant in a round")
    made.add_argument("--threads", type=int, help="default: one a core")
    made.add_argument("--torch-python", help="a Python with torch; default: .venv-torch's")
    made.add_argument("--no-graph", action="store_true", help="leave out nnabla's slow CPU graph")
    made.add_argument("--json", metavar="FILE", help="write the figures")
    return made


def begin(args):
    """Set threads and device; the Twin, or None where no PyTorch is found."""
    if args.threads:
        kernels.set_threads(args.threads)
    helper.set_context("cpu")
    return Twin.find(args.torch_python)


def report(rows: list, columns: list, path) -> None:
    """Print rows (dicts) as a table and write them with the machine as json."""
    print(" ".join(f"{c:>14}" for c in columns))
    for row in rows:
        print(" ".join(f"{row[c]:>14.4g}" if isinstance(row.get(c), float)
                       else f"{row.get(c, '-')!s:>14}" for c in columns))
    if path:
        helper.write_json(path, {"machine": machine(), "rows": rows})
