"""Charts with matplotlib, drawn into arrays of pixels: a training's curves, slices of a field, the
legend of a coloured mesh. No display is needed."""

from __future__ import annotations

import json
from pathlib import Path

import helper
from helper import UserError

import numpy as np

COLOR_MAP = "viridis"  # perceptually uniform: equal steps of distance look equal


def new_figure(width: float, height: float, dpi: float = 100, layout="constrained"):
    """A figure of width x height inches that belongs to no window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dpi, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def pixels(figure) -> np.ndarray:
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba()).copy()


# ------------------------------------------------------------------------------------------- colour


def color_map(values: np.ndarray, top: float) -> np.ndarray:
    """sRGB colours (N, 3) in [0, 1] of values (N,) between 0 and top."""
    from matplotlib import colormaps

    return colormaps[COLOR_MAP](np.clip(values / max(top, 1e-300), 0, 1))[:, :3]


def legend(height: int, top: float, label: str, beyond: bool) -> np.ndarray:
    """Picture (height, w, 4) uint8, transparent, of the scale of color_map; beyond: values above
    top exist."""
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


# ------------------------------------------------------------------------------------------- curves


def read_log(path) -> list:
    """The rows of a training's log.jsonl (or of the one in the folder `path`).

    Raises UserError where it is none.
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
            raise UserError(f"{path}: line {number} is no row of a training's log") from None
        rows.append(row)
    if not rows:
        raise UserError(f"{path}: holds no rows yet")
    return rows


def curves(rows: list, title: str) -> np.ndarray:
    """Picture of a training: its losses, its rate, its distances to the held-out points."""
    panels = [
        ("loss", ("loss", "points", "eikonal", "normals"), ""),
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


# ------------------------------------------------------------------------------------------- slices


def slices(value_and_gradient, half: float, title: str, n: int = 240) -> np.ndarray:
    """Picture of a field on the planes x = 0, y = 0, z = 0: f with iso-lines above, |grad f| below.

    value_and_gradient(points (N, 3)) -> f (N,), grad f (N, 3); half: side of the square, halved.
    Where the eikonal equation holds, the iso-lines are evenly spaced and the lower row is white.
    Raises UserError where f is not finite.
    """
    side = np.linspace(-half, half, n)
    u, v = (g.ravel() for g in np.meshgrid(side, side, indexing="xy"))
    figure = new_figure(12.5, 8)
    figure.suptitle(title, parse_math=False)
    values, slopes = [], []
    for axis in range(3):
        points = np.insert(np.stack([u, v], axis=1), axis, 0.0, axis=1)
        f, gradient = value_and_gradient(points)
        values.append(f.reshape(n, n))
        slopes.append(np.linalg.norm(gradient, axis=1).reshape(n, n))
    top = max(np.abs(f).max() for f in values)
    if not np.isfinite(top):
        raise UserError(f"{title}: f is not finite")
    step = 10 ** np.floor(np.log10(max(top, 1e-12)))
    step *= next(s for s in (0.05, 0.1, 0.2) if top / (step * s) <= 25 or s == 0.2)
    lines = np.arange(-np.ceil(top / step), np.ceil(top / step) + 1) * step
    axes = figure.subplots(2, 3)
    for axis in range(3):
        across, along = (name for name in "xyz" if name != "xyz"[axis])
        upper = axes[0, axis].pcolormesh(side, side, values[axis], cmap="RdBu_r", vmin=-top,
                                         vmax=top, shading="nearest", rasterized=True)
        axes[0, axis].contour(side, side, values[axis], lines[lines != 0], colors="black",
                              linewidths=0.4, linestyles="solid")
        if values[axis].min() < 0 < values[axis].max():
            axes[0, axis].contour(side, side, values[axis], [0.0], colors="black", linewidths=1.8)
        lower = axes[1, axis].pcolormesh(side, side, slopes[axis], cmap="PuOr", vmin=0.5, vmax=1.5,
                                         shading="nearest", rasterized=True)
        axes[0, axis].set_title(f"{'xyz'[axis]} = 0")
        for row in axes[:, axis]:
            row.set(aspect="equal", xlabel=across, ylabel=along)
    figure.colorbar(upper, ax=axes[0], label=f"f (a line each {step:g})", shrink=0.9)
    figure.colorbar(lower, ax=axes[1], label="|grad f|", extend="both", shrink=0.9)
    return pixels(figure)[..., :3]
