"""Measure a scene in cells against one network with the same points, on a surface known exactly.

    python -m benchmarks.stress.scenes rooms -n 400000 --rooms 2 2 1 --cell-points 120000
    python -m benchmarks.stress.scenes rope -n 100000 --cell-points 25000
    python -m benchmarks.stress.scenes mesh -f lucy.ply -n 100000 --cell-points 50000
    python -m benchmarks.stress.scenes page

Each row is a command line of igr scene, and one of train.py and of infer.py on a grid of the same
spacing; distances are both ways between 200,000 samples of the truth and of the mesh. What is done
in the folder is not done again, and a row of scenes.json with the same key is replaced. The last
command writes the table into benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
import re

from benchmarks.common import ROOT, machine
from benchmarks.results.jobs import newest_checkpoint
from benchmarks.results.process import run_checked, total_cost
from benchmarks.stress import rooms
from benchmarks.stress.rope import Rope
import helper
from igr.formats import files
from igr.geometry import meshes, neighbours
from igr.geometry.frames import Frame, Geometry
from igr.scene.plan import Folder

import numpy as np

ROWS = Path(__file__).with_suffix(".json")
PAGE = ROOT / "benchmarks" / "README.md"
SAMPLES = 200_000  # each way
KEYS = ("scene", "points", "quality", "cells")
HEAD = ("| scene | points | training | cells | truth to mesh, cells / one network | mesh to truth "
        "| truth without mesh | open edges | pieces | core minutes | workers, minutes "
        "| peak MiB |\n|" + 12 * "---|")


class Mesh:
    """The surface of a mesh file, in the unit frame."""

    def __init__(self, path: Path):
        mesh = files.read_mesh(path)
        self.mesh = Frame.of(mesh.points).geometry_to_unit(mesh)

    def sample(self, count: int, rng: np.random.Generator) -> Geometry:
        """Points (count, 3), even on the surface, and their normals."""
        return meshes.sample_mesh(self.mesh, count, rng)

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Distance (N,) of points (N, 3) to the surface."""
        return neighbours.point_to_surface(points, self.mesh)


class Truth:
    """A surface that is known exactly."""

    def __init__(self, args: argparse.Namespace):
        self.name = args.scene
        if args.scene == "rooms":
            self.surface = rooms.building(args.rooms)
            self.name += " " + " x ".join(map(str, args.rooms))
        elif args.scene == "mesh":
            self.surface = Mesh(args.file)
            self.name = args.file.stem
        else:
            self.surface = Rope()
        self.noise = args.noise

    def sample(self, count: int, seed: int) -> np.ndarray:
        """Points (count, 3), even on the surface."""
        found = self.surface.sample(count, np.random.default_rng(seed))
        return getattr(found, "points", found)

    def cloud(self, count: int) -> Geometry:
        """A cloud with errors in all directions."""
        points = self.sample(count, 0)
        return Geometry(points + self.noise * np.random.default_rng(1).standard_normal(
            points.shape))

    def figures(self, mesh: Geometry) -> dict:
        """Distances both ways in the scene's units, and the mesh's topology."""
        truth = self.sample(SAMPLES, 7)
        to_mesh = neighbours.point_to_surface(truth, mesh)
        samples = meshes.sample_mesh(mesh, SAMPLES, np.random.default_rng(8)).points
        to_truth = self.surface.distance(samples)
        far = 25 * max(self.noise, 1e-3)
        counts = meshes.topology(mesh)
        return {"truth_to_mesh": float(to_mesh.mean()), "mesh_to_truth": float(to_truth.mean()),
                "missing": float((to_mesh > far).mean()), "wrong": float((to_truth > far).mean()),
                "open_edges": counts["boundary_edges"], "pieces": counts["components"],
                "euler": counts["euler_characteristic"], "faces": len(mesh.faces)}


def measure(args: argparse.Namespace) -> dict:
    """Measure a row; what its folder has is not made again."""
    folder = args.folder
    folder.mkdir(parents=True, exist_ok=True)
    truth = Truth(args)
    cloud = folder / "cloud.npy"
    if not cloud.exists():
        files.write(cloud, truth.cloud(args.points))
    flags = ["--spacing", args.spacing] if args.spacing else []
    with open(folder / "lock", "w") as lock:
        scene = folder / "scene.ply"
        cost = once(folder / "scene_cost.json", lambda: run_checked(
            ["igr", "scene", cloud, "-o", scene, "--quality", args.quality, "--cell-points",
             args.cell_points, "--workers", args.workers, *flags], lock).cost())
        plan = Folder(folder / "scene_scene").read_plan()
        row = {"scene": truth.name, "points": args.points, "noise": truth.noise,
               "quality": args.quality, "cells": len(plan.cells), "workers": args.workers,
               "spacing": plan.spacing,
               "machine": machine(), "in_cells": {**truth.figures(files.read(scene)), **cost}}
        if not args.no_network:
            row["one_network"] = one_network(args, truth, plan.spacing, lock)
    return row


def one_network(args: argparse.Namespace, truth: Truth, spacing: float, lock) -> dict:
    """Figures and cost of one network with the same points, on a grid of the same spacing."""
    cloud, run, mesh = (args.folder / name for name in ("cloud.npy", "run", "one.ply"))
    scale = Frame.of(files.read(cloud).points).scale
    grid = round(3 * scale / spacing) + 1

    def make() -> dict:
        training = run_checked(["train.py", "-f", cloud, "-m", run, "--quality", args.quality,
                                "--threads", "1", "--quiet", "--overwrite"], lock)
        meshing = run_checked(["infer.py", "-mlp", newest_checkpoint(run), "-o", mesh,
                               "--grid-size", grid, "--threads", "1", "--quiet"], lock)
        return total_cost([training.cost(), meshing.cost()])

    cost = once(args.folder / "one_cost.json", make)
    return {**truth.figures(files.read(mesh)), **cost}


def once(path: Path, make) -> dict:
    """What a json file says; made and written where it is missing."""
    if not path.exists():
        helper.write_json(path, make())
    return json.loads(path.read_text())


def table(rows: list) -> str:
    """Format the rows."""
    lines = [HEAD]
    for row in rows:
        cells, one = row["in_cells"], row.get("one_network", {})

        def pair(name: str, form: str, factor: float = 1, both: tuple = (cells, one)) -> str:
            return " / ".join(form.format(part[name] * factor) if part else "–" for part in both)

        lines.append("| " + " | ".join([
            row["scene"], f"{row['points']:,}", row["quality"], str(row["cells"]),
            pair("truth_to_mesh", "{:.5f}"), pair("mesh_to_truth", "{:.5f}"),
            pair("missing", "{:.2f} %", 100), pair("open_edges", "{}"), pair("pieces", "{}"),
            pair("cpu_seconds", "{:.1f}", 1 / 60), f"{row['workers']}, {cells['seconds'] / 60:.0f}",
            pair("peak_mib", "{:.0f}")]) + " |")
    return "\n".join(lines)


def render(page: str, rows: list) -> str:
    """The page with a fresh table."""
    return re.sub(r"(<!-- scenes -->)\n.*?(<!-- end -->)",
                  lambda marks: f"{marks[1]}\n{table(rows)}\n{marks[2]}", page, flags=re.S)


def read_rows() -> list:
    return json.loads(ROWS.read_text()) if ROWS.exists() else []


def parse_args(argv: list | None = None) -> argparse.Namespace:
    parser = helper.parser(__doc__)
    parser.add_argument("scene", choices=("rooms", "rope", "mesh", "page"))
    parser.add_argument("-f", "--file", type=Path, help="the mesh")
    parser.add_argument("-n", "--points", type=helper.number(int, 1000), default=400_000)
    parser.add_argument("--rooms", type=int, nargs=3, default=[2, 2, 1], metavar=("X", "Y", "Z"))
    parser.add_argument("--noise", type=helper.number(float, 0), default=0.002)
    parser.add_argument("--quality", choices=("draft", "normal", "fine"), default="draft")
    parser.add_argument("--cell-points", type=helper.number(int, 200), default=100_000)
    parser.add_argument("--spacing", type=helper.number(float, above=0), help="of the mesh's grid")
    parser.add_argument("--workers", type=helper.number(int, 1), default=1)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "scenes",
                        help="of clouds, runs and meshes")
    parser.add_argument("--no-network", action="store_true", help="measure the cells only")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    if args.scene == "page":
        text = render(PAGE.read_text(), read_rows())
        with helper.replacing(PAGE) as temporary:
            temporary.write_text(text)
        return
    row = measure(args)
    rows = [other for other in read_rows() if any(other[key] != row[key] for key in KEYS)]
    helper.write_json(ROWS, [*rows, row])
    print(json.dumps(row, indent=2))


if __name__ == "__main__":
    helper.run(main, parse_args())
