"""What an extraction costs: evaluations, seconds and peak memory, grid by grid.

    python benchmarks/extract.py demo/knot/param_00035.h5 gyroid --json benchmarks/extract.json

Of networks and of fields that are hard on an octree: gyroid (a shell with much surface), specks
(two of two cells' radius, far apart), plate (thin), steep (three times too steep). Up to --dense
points a side the whole grid is evaluated too and the meshes are compared. Every row is a process of
its own, so that its peak memory is its own. Rows that the json has already stay or are replaced.
"""

from __future__ import annotations

import json
from pathlib import Path
import resource
import subprocess
import sys
import time

from common import ROOT, helper, kernels, report
import fields
from igr import devices, meshes, surface
import networks

import numpy as np

FIELDS = {"gyroid": fields.gyroid, "plate": fields.plate, "steep": fields.steep}


def field(name: str, n: int, context: str):
    """The function of a row: a checkpoint's network, or a field by its name."""
    if name.endswith(".h5"):
        device = devices.set_context(context)
        mlp = networks.load_network(name, device.kernel).mlp
        return lambda points: mlp.evaluate(points, device.rows)
    return fields.specks(2 * 3 / (n - 1)) if name == "specks" else FIELDS[name]


def one(name: str, n: int, dense: bool, context: str) -> dict:
    """The figures of one extraction in this process."""
    grid = surface.Grid.of([-1.5] * 3, [1.5] * 3, n)
    f = field(name, n, context)
    if name.endswith(".h5"):
        kernels.compile_all()
    f(grid.points(np.zeros((1, 3))))  # what happens once: the graph, cuBLAS
    start = time.perf_counter()
    mesh, stats = surface.extract(f, grid)
    row = {"f": Path(name).stem if "/" not in name else "/".join(Path(name).parts[-2:]),
           "grid": n, "evaluations": stats.evaluations, "fewer": stats.dense / stats.evaluations,
           "seconds": time.perf_counter() - start,
           "peak_MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
           "followed": stats.followed}
    row["faces"] = len(mesh.faces)
    found = meshes.topology(mesh) if len(mesh.faces) < 2e7 else {}
    row.update({k: found.get(k) for k in ("components", "boundary_edges", "nonmanifold_edges",
                                  "euler_characteristic")})
    if dense:
        start = time.perf_counter()
        whole, all_ = surface.extract(f, grid, dense=True)
        row["dense_seconds"] = time.perf_counter() - start
        row["missed_cells"] = all_.cells - stats.cells
        row["same_as_dense"] = bool(fields.difference(mesh, whole, grid) == 0)
    return row


def main(args) -> None:
    if args.one:
        print(json.dumps(one(args.one, args.grids[0], args.dense >= args.grids[0],
                             args.context)))
        return
    rows = []
    for name in args.names or [*FIELDS, "specks"]:
        for n in args.grids:
            done = subprocess.run(
                [sys.executable, __file__, "--one", name, "--grids", str(n), "--dense",
                 str(args.dense), "--context", args.context],
                capture_output=True, text=True, cwd=ROOT, check=True)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            print(rows[-1], flush=True)
    if args.json and Path(args.json).is_file():  # rows of other runs stay
        made = {(row["f"], row["grid"]) for row in rows}
        old = json.loads(Path(args.json).read_text())["rows"]
        rows = [row for row in old if (row["f"], row["grid"]) not in made] + rows
    report(rows, args.json)


if __name__ == "__main__":
    made = helper.parser(__doc__)
    made.add_argument("names", nargs="*", help="checkpoints and fields; default: all fields")
    made.add_argument("--grids", type=int, nargs="+", default=[129, 257, 513, 1025, 2049])
    made.add_argument("--dense", type=int, default=257, help="largest grid to evaluate wholly too")
    made.add_argument("--context", choices=["cpu", "cuda"], default="cpu", help="for checkpoints")
    made.add_argument("--one", metavar="NAME", help="one row, in this process")
    made.add_argument("--json", metavar="FILE", help="write the figures")
    helper.run(main, made.parse_args())
