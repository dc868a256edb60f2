"""Times visualize.py as a user runs it: whole processes, start to file.

    python benchmarks/pictures.py

writes benchmarks/pictures.json: a mesh of 400,000 faces at 1024 x 1024 with four samples a pixel
and occlusion, a cloud of 1,000,000 points likewise, and the size of the page of 200,000 faces.
"""

from __future__ import annotations

from pathlib import Path
import subprocess
import sys
import tempfile
import time

import common
import geometry
from geometry import Geometry
import helper
import shapes
import surface

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
RUNS = 3  # the first may compile and is not counted


def bumpy_ball(n: int) -> Geometry:
    """A ball with bumps, marched on a grid of n points a side: all its cells hold noise-free,
    smooth surface, as a trained network's do."""
    def f(p):
        return np.linalg.norm(p, axis=1) - 0.9 + 0.1 * np.sin(6 * p[:, 0]) * np.cos(6 * p[:, 1])

    return surface.extract(f, surface.Grid.of([-1.2] * 3, [1.2] * 3, n))[0]


def seconds(folder: Path, line: str) -> float:
    """Median wall time of `python visualize.py line` in a folder."""
    taken = []
    for _ in range(RUNS + 1):
        start = time.perf_counter()
        subprocess.run([sys.executable, str(ROOT / "visualize.py"), *line.split()], cwd=folder,
                       check=True, stdout=subprocess.DEVNULL)
        taken.append(time.perf_counter() - start)
    return float(np.median(taken[1:]))


def main() -> None:
    rows, square = [], "--size 1024 1024 -o a.png"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        large, page = bumpy_ball(270), bumpy_ball(191)
        geometry.write(folder / "mesh.ply", large)
        geometry.write(folder / "page.ply", page)
        geometry.write(folder / "cloud.ply", shapes.sample("knot", 1_000_000))
        for what, size, line in (
            ("mesh", len(large.faces), f"mesh -f mesh.ply {square}"),
            ("mesh with ground", len(large.faces), f"mesh -f mesh.ply --ground {square}"),
            ("cloud", 1_000_000, f"pcd -f cloud.ply {square}"),
            ("html", len(page.faces), "html -f page.ply -o a.html"),
        ):
            row = {"what": what, "size": size, "seconds": seconds(folder, line)}
            if what == "html":
                row["mebibytes"] = (folder / "a.html").stat().st_size / 2**20
            rows.append(row)
            print(row, flush=True)
    helper.write_json(Path(__file__).with_suffix(".json"), {**common.machine(), "rows": rows})


if __name__ == "__main__":
    main()
