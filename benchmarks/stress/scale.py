"""Measure accuracy and cost over the number of points, on the rope: its surface is known exactly.

    python -m benchmarks.stress.scale 50000 500000 --grids 513 2049
    python -m benchmarks.stress.scale --page

Each number of points is one command line of rope.py, which samples it, and one of train.py, each
grid one of infer.py and one of evaluate.py against 200,000 other points of the rope. The way back,
mesh to truth, is that of 200,000 samples of the mesh to the exact surface, by Rope.distance. What
is done is not done again: a run that was stopped continues with the command that it stopped in, and
rows of scale.json stay. The table goes to benchmarks/README.md, the curves to scale.png.
"""

from __future__ import annotations

import json
from pathlib import Path
import re

from benchmarks.common import ROOT, machine
from benchmarks.results import driver
from benchmarks.results.jobs import newest_checkpoint
from benchmarks.results.process import in_own_process, run_checked
from benchmarks.stress.rope import Rope
import helper
from igr.formats import files
from igr.geometry import meshes
from igr.geometry.frames import Frame
from igr.view import charts, images

import numpy as np

ROWS = Path(__file__).with_suffix(".json")
PAGE = ROOT / "benchmarks" / "README.md"
CURVES = Path(__file__).with_suffix(".png")
SAMPLES = 200_000  # each way
KEYS = ("points", "grid", "steps")
PARTS = ("create", "train", "infer", "evaluate")
HEAD = ("| points | grid | steps | truth to mesh | mesh to truth | faces | create | train | infer "
        "| evaluate |\n|" + "---|" * 10)


class Work:
    """A folder of clouds, runs and meshes, and what it has cost to make them."""

    def __init__(self, folder: Path, lock):
        """lock: an open file, see results/process.py."""
        self.folder = folder
        self.lock = lock

    def cost(self, part: str, command: list) -> dict:
        """Run a command, unless its cost is known; returns the cost. part: its name here."""
        path = self.folder / f"{part}_cost.json"
        if not path.exists():
            helper.write_json(path, run_checked(command, self.lock).cost())
        return json.loads(path.read_text())


def measure(n: int, grid: int, steps: int, threads: int, work: Work) -> dict:
    """Measure the row of n points: its figures, distances in half longest sides."""
    truth = work.folder / "truth_pcd.ply"
    cloud = work.folder / f"{n}_pcd.ply"
    run = work.folder / f"{n}_{steps}"
    mesh = work.folder / f"{n}_{steps}_{grid}.ply"
    found = mesh.with_suffix(".json")
    create = ["benchmarks.stress.rope", "-n"]
    work.cost("truth", [*create, SAMPLES, "--seed", 1, "-o", truth])
    where = ["--threads", threads, "--context", "cpu", "--quiet"]
    costs = {"create": work.cost(f"{n}_create", [*create, n, "-o", cloud])}
    costs["train"] = work.cost(run.name, ["train.py", "-f", cloud, "-m", run, "-ti", steps,
                                          "--overwrite", *where])
    costs["infer"] = work.cost(f"{mesh.stem}_infer", [
        "infer.py", "-mlp", newest_checkpoint(run), "--grid-size", grid, "-o", mesh, *where])
    costs["evaluate"] = work.cost(f"{mesh.stem}_evaluate", [
        "evaluate.py", "-f", truth, "-mdp", mesh, "-o", found, "--json"])
    result = json.loads(found.read_text())
    return {"points": n, "grid": grid, "steps": steps, "threads": threads,
            "truth_to_mesh": result["default"]["reference_to_surface"],
            "mesh_to_truth": in_own_process(mesh_to_truth, mesh, truth),
            "faces": result["topology"]["faces"], "costs": costs}


def mesh_to_truth(mesh_path: Path, truth_path: Path) -> dict:
    """Mean, 99th percentile and maximum of the distances from samples of a mesh to the rope, in
    half longest sides of the points of truth_path, as evaluate.py has them."""
    mesh = files.read_mesh(mesh_path)
    scale = Frame.of(files.read(truth_path).points).scale
    samples = meshes.sample_mesh(mesh, SAMPLES, np.random.default_rng(0))
    away = Rope().distance(samples.points) / scale
    return {"mean": float(away.mean()), "p99": float(np.percentile(away, 99)),
            "max": float(away.max())}


# -------------------------------------------------------------------------------- table and picture


def known() -> list:
    """The rows that have been measured."""
    return json.loads(ROWS.read_text())["rows"] if ROWS.is_file() else []


def table(rows: list) -> str:
    """A line for each row; a part's cost as CPU seconds, seconds and MiB."""
    lines = [HEAD]
    for row in rows:
        costs = (f"{c['cpu_seconds']:.0f}, {c['seconds']:.0f}, {c['peak_mib']:,.0f}"
                 for c in (row["costs"][part] for part in PARTS))
        lines.append(f"| {row['points']:,} | {row['grid']} | {row['steps']:,} | "
                     f"{row['truth_to_mesh']['mean']:.6f} | {row['mesh_to_truth']['mean']:.6f} | "
                     f"{row['faces']:,} | {' | '.join(costs)} |")
    return "\n".join(lines)


def render(page: str, rows: list) -> str:
    """The page with a fresh table."""
    return re.sub(r"(<!-- scale -->)\n.*?(<!-- end -->)",
                  lambda marks: f"{marks[1]}\n{table(rows)}\n{marks[2]}", page, flags=re.S)


def chart(rows: list):
    """Plot the distances and of the parts' CPU seconds a million points, over the points; a
    line for each grid."""
    figure = charts.new_figure(11, 4.5)
    left, right = figure.subplots(1, 2)
    for grid in sorted({row["grid"] for row in rows}):
        some = [row for row in rows if row["grid"] == grid]
        points = [row["points"] for row in some]
        for way, style in (("truth_to_mesh", "o-"), ("mesh_to_truth", "s--")):
            left.plot(points, [row[way]["mean"] for row in some], style,
                      label=f"{way.replace('_', ' ')}, grid {grid}")
        for part in PARTS:
            right.plot(points, [1e6 * row["costs"][part]["cpu_seconds"] / row["points"]
                                for row in some], "o-", label=f"{part}, grid {grid}")
    left.set(ylabel="mean distance, half longest sides")
    right.set(ylabel="CPU seconds a million points")
    for axes in (left, right):
        axes.set(xscale="log", yscale="log", xlabel="points of the rope")
        axes.grid(alpha=0.3, which="both")
        axes.legend(fontsize=7)
    return figure


def write_page(rows: list) -> None:
    """Draw CURVES and write PAGE's table."""
    images.save(CURVES, charts.pixels(chart(rows))[..., :3])
    with helper.replacing(PAGE) as temporary:
        temporary.write_text(render(PAGE.read_text(), rows))


def parse_args(argv=None):
    parser = helper.parser(__doc__)
    number = helper.number(int, 1)
    parser.add_argument("points", nargs="*", type=number, help="numbers of points")
    parser.add_argument("--grids", nargs="+", type=number, default=[513, 2049], help="of infer.py")
    parser.add_argument("--steps", type=number, default=2000, help="of train.py")
    parser.add_argument("--threads", type=number, default=1, help="of train.py and infer.py")
    parser.add_argument("--page", action="store_true", help="write the table, draw the curves")
    parser.add_argument("--work", default=ROOT / "runs" / "scale", type=Path,
                        help="folder of clouds, runs and meshes")
    return parser.parse_args(argv)


def main(args) -> None:
    folder = args.work.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with driver.locked(folder, "rope") as lock:
        for key in ((n, grid, args.steps) for n in args.points for grid in args.grids):
            if any(tuple(row[name] for name in KEYS) == key for row in known()):
                continue
            row = measure(*key, args.threads, Work(folder, lock))
            rows = sorted([*known(), row], key=lambda row: [row[name] for name in KEYS])
            helper.write_json(ROWS, {"machine": machine(), "rows": rows})
            print(table([row]).splitlines()[-1], flush=True)
    if args.page:
        write_page(known())


if __name__ == "__main__":
    helper.run(main, parse_args())
