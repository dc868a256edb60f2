"""The picture results/course.png: distances during some trainings, from results/*.json.

See results.py.
"""

from __future__ import annotations

from pathlib import Path

from igr import charts, render
import results_tables as tables


def lines(results: dict):
    """Yield (name, steps, entries, targets) of each training that was measured while it ran.

    entries: the figures of the surface after so many steps; targets: {panel: distance}.
    """
    for name, result in results.items():
        for case, _, found in tables.entries(result):
            if "course" in found:
                steps = [row["step"] for row in found["course"]]
                yield (f"{name}, {case}, {steps[-1]:,} steps", steps, found["course"],
                       tables.targets_of(name, case, result))


def mean(found: dict) -> float:
    return tables.means(found)[0]


def farthest(found: dict) -> float:
    return found["default"]["reference_to_surface"]["max"]


PANELS = {"mean": ("truth to mesh, mean", mean),
          "both": ("both ways, mean", tables.mean_both_ways),
          "farthest": ("truth to mesh, farthest", farthest)}


def chart(found: list):
    """Figure of distances (unit frame) over steps, for what lines() gives; targets are dashed."""
    figure = charts.new_figure(12, 4.5)
    for axes, (panel, (label, measure)) in zip(figure.subplots(1, len(PANELS)), PANELS.items()):
        for name, steps, course, targets in found:
            line, = axes.plot(steps, [measure(row) for row in course], label=name, marker="o",
                              markersize=3, linewidth=1.2)
            if panel in targets:
                axes.axhline(targets[panel], color=line.get_color(), linestyle="--", linewidth=1)
        axes.set(xscale="log", yscale="log", xlabel="step", title=label, ylabel="unit frame")
        axes.grid(alpha=0.3, which="both")
    figure.axes[0].legend(fontsize=7, loc="lower left")
    return figure


def write(folder, order) -> None:
    """Draw `folder`/course.png, where a training was measured while it ran."""
    found = list(lines(tables.read(folder, order)))
    if found:
        render.save(Path(folder) / "course.png", charts.pixels(chart(found))[..., :3])
