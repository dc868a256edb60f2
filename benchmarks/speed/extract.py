"""What an extraction costs, grid by grid: evaluations, seconds and peak memory.

    python -m benchmarks.speed.extract demo/knot/param_NNNNN.h5 gyroid \\
        --json benchmarks/speed/extract.json

cpu_seconds are those of all threads: beside other work, a better measure than seconds.

It takes checkpoints and fields that are hard to find or to follow: gyroid (a shell with much
surface), specks (two spheres of two cells' radius, far apart), plate (thin), steep (a slope of 3 to
6).
Up to --dense points a side the whole grid is evaluated too and the two meshes are compared. Each
row is measured in a process of its own, so its peak memory is its own. Rows that the json file
already has stay, or are replaced by new ones of the same function and grid.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
import resource
import subprocess
import sys
import time

from benchmarks.common import ROOT, report
import fields
import helper
from igr.backend import devices
from igr.field import training_kernel
from igr.geometry import meshes
from igr.isosurface import extraction
import networks

import numpy as np

FIELDS = {"gyroid": fields.gyroid, "plate": fields.plate, "steep": fields.steep}
TOPOLOGY = ("components", "boundary_edges", "nonmanifold_edges", "euler_characteristic")
TOPOLOGY_FACES = 2e7  # of larger meshes the topology would take more memory than the extraction


def function_of(name: str, n: int, context: str):
    """The function of a row, points (N, 3) to values (N,): a checkpoint's network or a field."""
    if name.endswith(".h5"):
        device = devices.set_context(context)
        training_kernel.compile_all()
        mlp = networks.load_network(name, device.kernel).mlp
        return lambda points: mlp.evaluate(points, device.rows)
    return fields.specks(2 * 3 / (n - 1)) if name == "specks" else FIELDS[name]


def measure(name: str, n: int, dense: bool, context: str) -> dict:
    """The row of one extraction, in this process: its figures by their names.

    n: points along each side of the grid over [-1.5, 1.5]^3. dense: evaluate all of them too.
    """
    grid = extraction.Grid.of([-1.5] * 3, [1.5] * 3, n)
    f = function_of(name, n, context)
    f(grid.points(np.zeros((1, 3))))  # what happens once: the graph, cuBLAS
    start = time.perf_counter()
    cpu_start = time.process_time()
    mesh, stats = extraction.extract(f, grid)
    row = {"f": Path(name).stem if "/" not in name else "/".join(Path(name).parts[-2:]),
           "grid": n, "evaluations": stats.evaluations, "fewer": stats.dense / stats.evaluations,
           "seconds": time.perf_counter() - start,
           "cpu_seconds": time.process_time() - cpu_start,
           "peak_MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
           "cells": stats.cells, "faces": len(mesh.faces)}
    topology = meshes.topology(mesh) if len(mesh.faces) < TOPOLOGY_FACES else {}
    row.update({key: topology.get(key) for key in TOPOLOGY})
    if dense:
        start = time.perf_counter()
        whole, whole_stats = extraction.extract(f, grid, dense=True)
        row["dense_seconds"] = time.perf_counter() - start
        row["missed_cells"] = whole_stats.cells - stats.cells
        row["same_as_dense"] = bool(fields.difference(mesh, whole, grid) == 0)
    return row


def measure_apart(name: str, n: int, dense: int, context: str) -> dict:
    """The row of one extraction, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.speed.extract", "--one", name,
         "--grids", str(n), "--dense", str(dense), "--context", context],
        capture_output=True, text=True, cwd=ROOT, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def with_former(rows: list, path: Path) -> list:
    """The rows of a former json file, without those measured anew, and then the new rows."""
    if not path.is_file():
        return rows
    measured = {(row["f"], row["grid"]) for row in rows}
    former = json.loads(path.read_text())["rows"]
    return [row for row in former if (row["f"], row["grid"]) not in measured] + rows


def parse_args() -> argparse.Namespace:
    parser = helper.parser(__doc__)
    add = parser.add_argument
    add("names", nargs="*", help="checkpoints and fields; default: all fields")
    add("--grids", type=int, nargs="+", default=[129, 257, 513, 1025, 2049], metavar="N",
        help="points along each side of the grid; default: %(default)s")
    add("--dense", type=int, default=257, metavar="N",
        help="evaluate the whole grid too, up to N points a side; default: %(default)s")
    add("--context", choices=["cpu", "cuda"], default="cpu", help="where checkpoints are evaluated")
    add("--one", metavar="NAME", help="print one row, measured in this process")
    add("--json", metavar="FILE", help="write the figures")
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    if args.one:
        n = args.grids[0]
        print(json.dumps(measure(args.one, n, n <= args.dense, args.context)))
        return
    rows = []
    for name in args.names or [*FIELDS, "specks"]:
        for n in args.grids:
            rows.append(measure_apart(name, n, args.dense, args.context))
            print(rows[-1], flush=True)
    report(with_former(rows, Path(args.json)) if args.json else rows, args.json)


if __name__ == "__main__":
    helper.run(main, parse_args())
