"""What the benchmarks share: the machine, a table with its json, why a command failed."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
import platform
import subprocess
import sys

import helper
from igr.backend import blas, threads

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tests"))  # fields and the browser of test_viewer


def machine() -> dict:
    """What figures were measured on: processor, cores, threads, BLAS, GPU."""
    found = {"cpu": blas.processor()["model"], "cores": os.cpu_count(), "threads": threads.count(),
             "python": platform.python_version(), "blas": blas.loaded()}
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        found["gpu"] = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"],
            capture_output=True, text=True, check=True).stdout.strip()
    return found


def report(rows: list, path) -> None:
    """Print rows (dicts) as a table and write them with the machine as json."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    print(" ".join(f"{c:>14}" for c in columns))
    for row in rows:
        print(" ".join(f"{row[c]:>14.4g}" if isinstance(row.get(c), float)
                       else f"{row.get(c, '-')!s:>14}" for c in columns))
    if path:
        helper.write_json(path, {"machine": machine(), "rows": rows})


def last_line(done: subprocess.CompletedProcess) -> str:
    """Why a command failed: the last line of its stderr, or its status where it died silently."""
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"ended with status {done.returncode}"
