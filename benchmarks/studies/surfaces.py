"""Measure the final surface of variants of train.py's flags per core minute, to choose defaults.

    python -m benchmarks.studies.surfaces lucy "" "--tau 1" "--frequencies 0"
    python -m benchmarks.studies.surfaces             # all rows of an older RECIPE again
    python -m benchmarks.studies.surfaces --tables

Each run is a command line of train.py on the clean cloud of results/driver.py's shape (or another
case, as bunny:noisy or anchor:scan), without normals, one of infer.py without and one with detail,
and evaluate.py. A run that surfaces.jsonl has of today's RECIPE is not done again. The table goes
to results/surfaces.md, with the driver's own runs of the defaults, and a chart of distance over
time to surfaces.png beside it.
"""

from __future__ import annotations

import json
from pathlib import Path
import re
from statistics import fmean

from benchmarks.results import driver, settings, tables
from benchmarks.results.clouds import write_clouds
from benchmarks.results.jobs import newest_checkpoint
from benchmarks.results.process import in_own_process, run_checked
from benchmarks.results.tables import BOTH_WAYS
import helper
from helper import UserError
from igr.view import charts, images

LINES = Path(__file__).with_suffix(".jsonl")
PAGE = settings.ROOT / "results" / "surfaces.md"
KEYS = ("shape", "case", "flags", "grid")
HEAD = ("| shape | flags | grid | seeds | network alone | with detail | pieces | Euler | "
        "core s, training | core s, mesh |\n|" + " --- |" * 10)


def measure(shape: str, case: str, flags: str, grid: int, work: Path) -> dict:
    """Train, mesh and evaluate once: figures in thousandths of half the longest side."""
    folder = work / shape
    folder.mkdir(parents=True, exist_ok=True)
    with driver.locked(folder, shape) as lock:
        reference, cloud = driver.sources(shape, folder, lock)
        surface = reference if case in settings.VIRTUAL_SCANS else None
        made = in_own_process(write_clouds, cloud, folder, [case], surface)[case]
        reference = made.get("reference", reference)
        run = folder / "surfaces"
        cloud = folder / f"{case}{'-bare' * made['normals']}.ply"
        line = ["train.py", "-f", cloud, "-m", run, "--threads", "1", "--quiet",
                "--overwrite", *flags.split()]
        row = {"shape": shape, "case": case, "flags": flags, "grid": grid,
               "recipe": settings.RECIPE, "training_seconds": run_checked(line, lock).cpu_seconds}
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
    found = {way: 1e3 * result["default"][way]["mean"] for way in BOTH_WAYS
             if way in result["default"]}
    return {**found, "pieces": result["topology"]["components"],
            "euler": result["topology"]["euler_characteristic"]}


def key_of(row: dict) -> tuple:
    """What tells a row from the others."""
    return tuple(row[key] for key in KEYS)


def name_of(row: dict) -> str:
    """Shape and case of a row."""
    return row["shape"] + ("" if row["case"] == "clean" else f", {row['case']}")


def grouped(rows: list) -> dict:
    """{(shape and case, flags without --seed, grid): rows}, those of a shape beside each other, in
    the order in which they were measured."""
    order = list(dict.fromkeys(map(name_of, rows)))
    groups = {}
    for row in sorted(rows, key=lambda row: order.index(name_of(row))):
        flags = re.sub(r" ?--seed \d+", "", row["flags"])
        groups.setdefault((name_of(row), flags, row["grid"]), []).append(row)
    return groups


def table(rows: list) -> str:
    """A line for each variant: means over its seeds, pieces and Euler number of each."""
    lines = [HEAD]
    for (name, flags, grid), seeds in grouped(rows).items():
        found = [row["detail"] for row in seeds]
        alone = [row["network"] for row in seeds if "network" in row]
        lines.append(
            f"| {name} | {f'`{flags}`' if flags else 'defaults'} | {grid} | {len(seeds)} | "
            f"{distances(alone)} | {distances(found)} | "
            f"{each(found, 'pieces')} | {each(found, 'euler')} | "
            f"{fmean(row['training_seconds'] for row in seeds):.0f} | "
            f"{fmean(one['mesh_seconds'] for one in found):.0f} |")
    return "\n".join(lines)


def distances(found: list) -> str:
    """Mean truth to mesh / mesh to truth over some runs."""
    if not found:
        return tables.NONE
    return " / ".join(f"{fmean(one[way] for one in found):.3f}" for way in BOTH_WAYS
                      if way in found[0])


def each(found: list, figure: str) -> str:
    """A figure of each run, once where all have the same."""
    values = [one[figure] for one in found]
    return ", ".join(map(str, values if len(set(values)) > 1 else values[:1]))


def known() -> list:
    """The rows that have been measured."""
    return [json.loads(line) for line in LINES.read_text().splitlines()] if LINES.is_file() else []


def with_defaults(rows: list) -> list:
    """The rows, and before them those of the same clouds by the defaults, which results/*.json has:
    three seeds of some, and the network alone of the first of them."""
    found = []
    for shape, case in dict.fromkeys((row["shape"], row["case"]) for row in rows):
        result = json.loads((PAGE.parent / f"{shape}.json").read_text())
        alone = tables.entry(result, case, "ours-network")
        for seed, method in enumerate(settings.SEEDS):
            entry = tables.entry(result, case, method)
            if entry:
                detail = {"mesh_seconds": entry["parts"]["infer.py"], **figures(entry)}
                found.append({"shape": shape, "case": case, "flags": f"--seed {seed}", "grid": 512,
                              "training_seconds": entry["parts"]["train.py"], "detail": detail,
                              **({"network": figures(alone)} if alone and not seed else {})})
    return found + rows


def render(page: str, rows: list) -> str:
    """The page with a fresh table."""
    return re.sub(r"(<!-- surfaces -->)\n.*?(<!-- end -->)",
                  lambda marks: f"{marks[1]}\n{table(rows)}\n{marks[2]}", page, flags=re.S)


def chart(rows: list):
    """Plot the mean distance of both ways over the core seconds of training and mesh, means over
    the seeds, a panel for each shape. The line joins the variants that no other beats in both."""
    groups = grouped(rows)
    names = list(dict.fromkeys(name for name, _, _ in groups))
    columns = min(4, len(names))
    figure = charts.new_figure(5 * columns, 4 * -(-len(names) // columns))
    panels = figure.subplots(-(-len(names) // columns), columns, squeeze=False).ravel()
    for axes in panels[len(names):]:
        axes.axis("off")
    for axes, name in zip(panels, names):
        points = sorted((fmean(row["training_seconds"] + row["detail"]["mesh_seconds"]
                               for row in seeds), fmean(mean_of(row["detail"]) for row in seeds),
                         flags) for (shape, flags, _), seeds in groups.items() if shape == name)
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
    return fmean(found[way] for way in BOTH_WAYS if way in found)


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
        wanted = [(shape, case or "clean", flags, args.grid_size) for flags in args.flags]
    else:
        wanted = [] if args.tables else list(map(key_of, known()))
    for key in wanted:
        rows = {key_of(row): row for row in known()}
        if rows.get(key, {}).get("recipe") == settings.RECIPE:
            continue
        rows[key] = measure(*key, args.work.resolve())
        with helper.replacing(LINES) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in rows.values()))
        print(table([rows[key]]).splitlines()[-1], flush=True)
    if args.tables:
        with helper.replacing(PAGE) as temporary:
            temporary.write_text(render(PAGE.read_text(), with_defaults(known())))
        picture = charts.pixels(chart(with_defaults(known())))[..., :3]
        images.save(PAGE.with_suffix(".png"), picture)


if __name__ == "__main__":
    helper.run(main, parse_args())
