"""Draw course.png, distances over the steps of some trainings, and seconds.png, over their cost.

From results/*.json, the rivals beside them. See driver.py.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.results import tables
from benchmarks.results.settings import PEERS
from igr.view import charts, images


def lines(results: dict):
    """Yield (name, steps, entries, target) of each training that was measured while it ran.

    entries: the figures of the surface after so many steps; target: tables.Target or None.
    """
    for name, result in results.items():
        for case, _, found in tables.entries(result):
            if "course" in found:
                steps = [row["step"] for row in found["course"]]
                yield (f"{name}, {case}, {steps[-1]:,} steps", steps, found["course"],
                       tables.TARGETS.get((name, case)))


def mean(found: dict) -> float:
    return tables.means(found)[0]


def farthest(found: dict) -> float:
    return found["default"]["reference_to_surface"]["max"]


PANELS = {"mean": ("truth to mesh, mean", mean),
          "both": ("both ways, mean", tables.mean_both_ways),
          "farthest": ("truth to mesh, farthest", farthest)}


def chart(found: list):
    """Plot distances (unit frame) over steps, for what lines() yields; targets of truth to mesh are
    dashed."""
    figure = charts.new_figure(12, 4.5)
    for axes, (panel, (label, measure)) in zip(figure.subplots(1, len(PANELS)), PANELS.items()):
        for name, steps, course, target in found:
            line, = axes.plot(steps, [measure(row) for row in course], label=name, marker="o",
                              markersize=3, linewidth=1.2)
            if panel == "mean" and target:
                axes.axhline(target.forth, color=line.get_color(), linestyle="--", linewidth=1)
        axes.set(xscale="log", yscale="log", xlabel="step", title=label, ylabel="unit frame")
        axes.grid(alpha=0.3, which="both")
    figure.axes[0].legend(fontsize=7, loc="upper right")
    return figure


def costs(results: dict):
    """Yield (shape, seconds, means, rivals) of each training by the defaults that was measured
    while it ran.

    seconds: CPU time up to each checkpoint, the mesh's share included; means: truth to mesh;
    rivals: (name, seconds, mean) of each other method on that cloud.
    """
    for name, result in results.items():
        ours = tables.entry(result, "clean", "ours")
        if "course" not in ours or "cpu_seconds" not in ours:
            continue
        course = ours["course"]
        seconds = [ours["cpu_seconds"] * row["step"] / course[-1]["step"] for row in course]
        rivals = [(tables.NAMES[method], found["cpu_seconds"], mean(found))
                  for case, method, found in tables.entries(result)
                  if case == "clean" and method in PEERS and "cpu_seconds" in found]
        yield name, seconds, [mean(row) for row in course], rivals


def chart_of_costs(found: list):
    """Plot distances (unit frame) over CPU seconds, a panel for each shape of costs()."""
    figure = charts.new_figure(4.5 * len(found), 4)
    panels = figure.subplots(1, len(found), squeeze=False)[0]
    for axes, (name, seconds, means, rivals) in zip(panels, found):
        axes.plot(seconds, means, label="ours", marker="o", markersize=3, linewidth=1.2)
        for (who, spent, distance), mark in zip(rivals, "sD^vP"):
            axes.plot(spent, distance, mark, label=who)
        axes.set(xscale="log", yscale="log", xlabel="core seconds", title=name,
                 ylabel="truth to mesh, mean, unit frame")
        axes.grid(alpha=0.3, which="both")
        axes.legend(fontsize=7)
    return figure


def write(folder, order) -> None:
    """Draw `folder`/course.png and seconds.png, where trainings were measured while they ran."""
    results = tables.read(folder, order)
    for file, draw, found in (("course.png", chart, list(lines(results))),
                              ("seconds.png", chart_of_costs, list(costs(results)))):
        if found:
            images.save(Path(folder) / file, charts.pixels(draw(found))[..., :3])
