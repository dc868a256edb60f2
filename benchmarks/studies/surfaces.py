"""Measure the final surface of variants of train.py's flags per core minute, to choose defaults.

    python -m benchmarks.studies.surfaces lucy "" "--tau 1" "--frequencies 0"
    python -m benchmarks.studies.surfaces --tables

Each run is a command line of train.py on the clean cloud of results/driver.py's shape (or its
noisy, sparse or holes case, as bunny:noisy), one of infer.py without and one with detail, and
evaluate.py. A run that surfaces.jsonl has already is not done again. The table goes to
results/surfaces.md, and a chart of distance over time to surfaces.png beside it.
"""

from __future__ import annotations

import json
from pathlib import Path
import re

from benchmarks.results import driver, settings
from benchmarks.results.clouds import write_clouds
from benchmarks.results.jobs import newest_checkpoint
from benchmarks.results.process import in_own_process, run_checked
import helper
from helper import UserError
from igr.view import charts, images

LINES = Path(__file__).with_suffix(".jsonl")
PAGE = settings.ROOT / "results" / "surfaces.md"
HEAD = ("| shape | flags | grid | network alone | with detail | pieces | Euler | "
        "core s, training | core s, mesh |\n|" + " --- |" * 9)


def measure(shape: str, case: str, flags: str, grid: int, work: Path) -> dict:
    """Train, mesh and evaluate once: figures in thousandths of half the longest side."""
    folder = work / shape
    folder.mkdir(parents=True, exist_ok=True)
    with driver.locked(folder, shape) as lock:
        reference, cloud = driver.sources(shape, folder, lock)
        in_own_process(write_clouds, cloud, folder, [case])
        run = folder / "surfaces"
        line = ["train.py", "-f", folder / f"{case}.ply", "-m", run, "--threads", "1", "--quiet",
                "--overwrite", *flags.split()]
        row = {"shape": shape, "case": case, "flags": flags, "grid": grid,
               "training_seconds": run_checked(line, lock).cpu_seconds}
        checkpoint = newest_checkpoint(run)
        for name, more in (("network", ["--detail", "off", "--keep-all"]), ("detail", [])):
            mesh = folder / f"surfaces-{name}.ply"
            line = ["infer.py", "-mlp", checkpoint, "--grid-size", str(grid), "--threads", "1",
                    "-o", mesh, "--quiet", *more]
            seconds = run_checked(line, lock).cpu_seconds
            output = folder / "surfaces.json"
            run_checked(["evaluate.py", "-f", reference, "-mdp", mesh, "-o", output, "--json"],
                        lock)
            row[name] = {"mesh_seconds": seconds, **figures(json.loads(output.read_text()))}
    return row


def figures(result: dict) -> dict:
    """What the table shows of evaluate.py's json."""
    found = {name: 1e3 * result["default"][name]["mean"]
             for name in ("reference_to_surface", "mesh_to_surface") if name in result["default"]}
    return {**found, "pieces": result["topology"]["components"],
            "euler": result["topology"]["euler_characteristic"]}


def table(rows: list) -> str:
    """Rows of the same shape beside each other, in the order in which they were measured."""
    order = list(dict.fromkeys((row["shape"], row["case"]) for row in rows))
    lines = [HEAD]
    for row in sorted(rows, key=lambda row: order.index((row["shape"], row["case"]))):
        name = row["shape"] + ("" if row["case"] == "clean" else f", {row['case']}")
        flags = f"`{row['flags']}`" if row["flags"] else "defaults"
        found = row["detail"]
        lines.append(f"| {name} | {flags} | {row['grid']} | {distances(row['network'])} | "
                     f"{distances(found)} | {found['pieces']} | {found['euler']} | "
                     f"{row['training_seconds']:.0f} | {found['mesh_seconds']:.0f} |")
    return "\n".join(lines)


def distances(found: dict) -> str:
    """Mean truth to mesh / mesh to truth."""
    return " / ".join(f"{found[name]:.3f}" for name in ("reference_to_surface", "mesh_to_surface")
                      if name in found)


def known() -> list:
    """The rows that have been measured."""
    return [json.loads(line) for line in LINES.read_text().splitlines()] if LINES.is_file() else []


def render(page: str, rows: list) -> str:
    """The page with a fresh table."""
    return re.sub(r"(<!-- surfaces -->)\n.*?(<!-- end -->)",
                  lambda marks: f"{marks[1]}\n{table(rows)}\n{marks[2]}", page, flags=re.S)


def chart(rows: list):
    """Plot the mean distance of both ways over the core seconds of training and mesh, a panel for
    each shape. The line joins the runs that no other beats in both."""
    names = list(dict.fromkeys(row["shape"] for row in rows))
    figure = charts.new_figure(6 * len(names), 4.5)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names):
        points = sorted((row["training_seconds"] + row["detail"]["mesh_seconds"],
                         mean_of(row["detail"]), row["flags"]) for row in rows
                        if row["shape"] == name)
        front = [point for i, point in enumerate(points)
                 if all(point[1] < other[1] for other in points[:i])]
        axes.plot(*zip(*[point[:2] for point in front]), linewidth=1)
        for seconds, distance, flags in points:
            axes.plot(seconds, distance, "o", markersize=4)
            axes.annotate(flags or "defaults", (seconds, distance), fontsize=6,
                          xytext=(4, 3), textcoords="offset points")
        axes.set(xlabel="core seconds, training and mesh", title=name,
                 ylabel="both ways, mean, thousandths")
        axes.grid(alpha=0.3)
    return figure


def mean_of(found: dict) -> float:
    ways = [found[name] for name in ("reference_to_surface", "mesh_to_surface") if name in found]
    return sum(ways) / len(ways)


def parse_args(argv=None):
    parser = helper.parser(__doc__)
    parser.add_argument("shape", nargs="?",
                        help="of results/driver.py, with :CASE for another than clean")
    parser.add_argument("flags", nargs="*", help="of train.py, a quoted word for each run")
    parser.add_argument("--grid-size", type=int, default=512, help="of infer.py")
    parser.add_argument("--tables", action="store_true", help="write the table, measure nothing")
    parser.add_argument("--work", default=settings.ROOT / "runs" / "results", type=Path,
                        help="folder of clouds, checkpoints and meshes")
    return parser.parse_args(argv)


def main(args) -> None:
    if args.shape:
        shape, _, case = args.shape.partition(":")
        if shape not in settings.SHAPES:
            raise UserError(f"unknown shape {shape}; known are {', '.join(settings.SHAPES)}")
        case = case or "clean"
        done = {(row["shape"], row["case"], row["flags"], row["grid"]) for row in known()}
        for flags in args.flags:
            if (shape, case, flags, args.grid_size) in done:
                continue
            row = measure(shape, case, flags, args.grid_size, args.work.resolve())
            with open(LINES, "a") as file:
                file.write(json.dumps(row) + "\n")
            print(table([row]).splitlines()[-1], flush=True)
    if args.tables:
        with helper.replacing(PAGE) as temporary:
            temporary.write_text(render(PAGE.read_text(), known()))
        images.save(PAGE.with_suffix(".png"), charts.pixels(chart(known()))[..., :3])


if __name__ == "__main__":
    helper.run(main, parse_args())
