"""Time visualize.py as a user runs it: whole processes, start to file.

    python -m benchmarks.speed.pictures

It writes pictures.json. The meshes have 400,000 faces: a bumpy ball, and a gyroid full of holes,
whose occlusion rays all end in itself. They are drawn at 1024 x 1024 with four samples a pixel and
occlusion, and so is a cloud of 1,000,000 points. The page has 200,000 faces; its size is written
and, where headless Chromium is installed, when it shows the mesh and when it answers.
"""

from __future__ import annotations

from pathlib import Path
import subprocess
import sys
import tempfile
import time

from benchmarks.common import ROOT, machine
import fields
import helper
from igr.formats import files
from igr.geometry import shapes
from igr.geometry.frames import Geometry
from igr.isosurface import extraction
from igr.view import viewer
from igr.view.cameras import View
import test_viewer

import numpy as np

RUNS = 3  # after a first one, which may compile and is not counted


def bumpy_ball(p: np.ndarray) -> np.ndarray:
    """f (N,) at points (N, 3): a ball of radius 0.9 with bumps of 0.1."""
    return np.linalg.norm(p, axis=1) - 0.9 + 0.1 * np.sin(6 * p[:, 0]) * np.cos(6 * p[:, 1])


def level_set(f, n: int) -> Geometry:
    """The mesh of f = 0 on a grid of n points a side."""
    return extraction.extract(f, extraction.Grid.of([-1.2] * 3, [1.2] * 3, n))[0]


def median_seconds(folder: Path, line: str) -> float:
    """Median wall time of `python visualize.py <line>` in a folder, seconds."""
    taken = []
    for _ in range(RUNS + 1):
        start = time.perf_counter()
        subprocess.run([sys.executable, str(ROOT / "visualize.py"), *line.split()], cwd=folder,
                       check=True, stdout=subprocess.DEVNULL)
        taken.append(time.perf_counter() - start)
    return float(np.median(taken[1:]))


def main() -> None:
    rows = []
    square = "--size 1024 1024 -o a.png"
    meshes = {"ball": level_set(bumpy_ball, 270), "gyroid": level_set(fields.gyroid, 150)}
    page = level_set(bumpy_ball, 191)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for what, mesh in meshes.items():
            files.write(folder / f"{what}.ply", mesh)
        files.write(folder / "page.ply", page)
        files.write(folder / "cloud.ply", shapes.sample("knot", 1_000_000))
        for what, size, line in (
            ("mesh: ball", len(meshes["ball"].faces), f"mesh -f ball.ply {square}"),
            ("with ground", len(meshes["ball"].faces), f"mesh -f ball.ply --ground {square}"),
            ("mesh: gyroid", len(meshes["gyroid"].faces), f"mesh -f gyroid.ply {square}"),
            ("cloud", 1_000_000, f"pcd -f cloud.ply {square}"),
            ("html", len(page.faces), "html -f page.ply -o a.html"),
        ):
            rows.append({"what": what, "size": size, "seconds": median_seconds(folder, line)})
            print(rows[-1], flush=True)
        rows[-1]["mebibytes"] = (folder / "a.html").stat().st_size / 2**20
        if test_viewer.BROWSER:
            shown = test_viewer.in_chromium(viewer.page(page, "page", View()), folder / "browser")
            rows[-1].update(ready_seconds=shown["ready"] / 1000,
                            turned_seconds=shown["answer"] / 1000)
        print(rows[-1])
    helper.write_json(Path(__file__).with_suffix(".json"), {**machine(), "rows": rows})


if __name__ == "__main__":
    main()
