"""Draw charts into arrays of pixels: a training's curves, slices of a field, legends.

matplotlib draws them; no display is needed.
"""

from __future__ import annotations

import json
from pathlib import Path

import helper
from helper import UserError
from igr.view.colors import COLOR_MAP

import numpy as np

LEAST_TOP = 1e-12  # of a slice's values, where f is 0 all over


def new_figure(width: float, height: float, dpi: float = 100, layout="constrained"):
    """A figure of width x height inches that belongs to no window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dpi, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def pixels(figure) -> np.ndarray:
    """A figure as a picture (height, width, 4) uint8."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba()).copy()


def legend(height: int, top: float, label: str, beyond: bool) -> np.ndarray:
    """Picture (height, w, 4) uint8, transparent, of the scale of colors.color_map from 0 to top;
    beyond: some values are above top."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    dpi = height / 6
    figure = new_figure(1.3, height / dpi, dpi, layout=None)
    figure.patch.set_alpha(0)
    axes = figure.add_axes([0.12, 0.15, 0.16, 0.7])
    bar = figure.colorbar(ScalarMappable(Normalize(0, top), COLOR_MAP), cax=axes,
                          extend="max" if beyond else "neither")
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return pixels(figure)


def read_log(path) -> list:
    """The rows, one dict each, of a training's log.jsonl; path: the file or its folder.

    Raises UserError where the file is no such log, or has no rows yet.
    """
    path = Path(path)
    path = helper.existing_file(path / "log.jsonl" if path.is_dir() else path)
    rows = []
    lines = path.read_text(errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            if not all(type(row[name]) in (int, float) for name in ("step", *row)):
                raise ValueError
        except (ValueError, KeyError, TypeError, RecursionError):
            if number == len(lines):  # a killed run's last line
                continue
            raise UserError(f"{path}: line {number} is not a row of a training's log") from None
        rows.append(row)
    if not rows:
        raise UserError(f"{path}: holds no rows yet")
    return rows


def curves(rows: list, title: str) -> np.ndarray:
    """Picture (height, width, 3) uint8 of a training from the rows of its log: its losses, its rate
    and its distances to the held-out points."""
    panels = [
        ("loss", ("loss", "points", "eikonal", "normals", "surface"), ""),
        ("learning rate", ("rate",), ""),
        ("held-out distance, unit frame", ("chamfer", "hausdorff"), "o"),
    ]
    figure = new_figure(9, 8)
    figure.suptitle(title, parse_math=False)
    for axes, (label, names, marker) in zip(figure.subplots(len(panels), 1, sharex=True), panels):
        for name in names:
            points = [(row["step"], row[name]) for row in rows if row.get(name, 0) > 0]
            if points:
                mark = marker if len(points) > 1 else "o"
                axes.plot(*zip(*points), label=name, linewidth=1.2, marker=mark, markersize=4)
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.set_yscale("log")
            if len(axes.lines) > 1:
                axes.legend(loc="best", fontsize=8)
        else:
            axes.text(0.5, 0.5, "none in the log", ha="center", transform=axes.transAxes)
    axes.set_xlabel("step")
    return pixels(figure)[..., :3]


def slices(value_and_gradient, half: float, title: str, n: int = 240) -> np.ndarray:
    """Picture (height, width, 3) uint8 of a field on the planes x = 0, y = 0, z = 0: f with
    iso-lines above, |grad f| below.

    value_and_gradient(points (N, 3)) -> f (N,), grad f (N, 3). Each slice is a square of n x n
    points from -half to half. Where the eikonal equation holds, the iso-lines are evenly spaced and
    the lower row is white. Raises UserError where f is not finite.
    """
    side = np.linspace(-half, half, n)
    values, slopes = zip(*(_on_plane(value_and_gradient, side, axis) for axis in range(3)))
    top = max(np.abs(f).max() for f in values)
    if not np.isfinite(top):
        raise UserError(f"{title}: f is not finite")
    step = _iso_step(top)
    levels = np.arange(-np.ceil(top / step), np.ceil(top / step) + 1) * step
    figure = new_figure(12.5, 8)
    figure.suptitle(title, parse_math=False)
    axes = figure.subplots(2, 3)
    for axis, (f, slope) in enumerate(zip(values, slopes)):
        colored = dict(shading="nearest", rasterized=True)
        upper = axes[0, axis].pcolormesh(side, side, f, cmap="RdBu_r", vmin=-top, vmax=top,
                                         **colored)
        axes[0, axis].contour(side, side, f, levels[levels != 0], colors="black", linewidths=0.4,
                              linestyles="solid")
        if f.min() < 0 < f.max():
            axes[0, axis].contour(side, side, f, [0.0], colors="black", linewidths=1.8)
        lower = axes[1, axis].pcolormesh(side, side, slope, cmap="PuOr", vmin=0.5, vmax=1.5,
                                         **colored)
        axes[0, axis].set_title(f"{'xyz'[axis]} = 0")
        across, along = (name for name in "xyz" if name != "xyz"[axis])
        for panel in axes[:, axis]:
            panel.set(aspect="equal", xlabel=across, ylabel=along)
    figure.colorbar(upper, ax=axes[0], label=f"f (a line each {step:g})", shrink=0.9)
    figure.colorbar(lower, ax=axes[1], label="|grad f|", extend="both", shrink=0.9)
    return pixels(figure)[..., :3]


def _on_plane(value_and_gradient, side: np.ndarray, axis: int) -> tuple:
    """f and |grad f|, each (n, n), on the plane where the coordinate `axis` is 0; side (n,): the
    places along its two other axes."""
    u, v = (grid.ravel() for grid in np.meshgrid(side, side, indexing="xy"))
    points = np.insert(np.stack([u, v], axis=1), axis, 0.0, axis=1)
    f, gradient = value_and_gradient(points)
    shape = (len(side), len(side))
    return f.reshape(shape), np.linalg.norm(gradient, axis=1).reshape(shape)


def _iso_step(top: float) -> float:
    """A round step between iso-lines: 12 to 50 of them lie between 0 and top."""
    power = 10 ** np.floor(np.log10(max(top, LEAST_TOP)))
    return power * next(s for s in (0.05, 0.1, 0.2) if top / (power * s) <= 25 or s == 0.2)
