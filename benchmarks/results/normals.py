"""Compare normals found without any with the true ones: ours, tangent planes, winding numbers.

    python -m benchmarks.results.normals bunny lucy dc=scan --json benchmarks/results/normals.json

The clouds are those of driver.py, SHAPE its clean one, SHAPE=CASE another: their points have the
normals of the faces that they lie on, or those of a scan, which no method is given. A normal is on
the wrong side where it is more than 90 degrees off. Core seconds are those of one thread.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
import subprocess
import sys
import tempfile

from benchmarks import common
from benchmarks.common import ROOT
from benchmarks.results import peers
from benchmarks.results.jobs import newest_checkpoint
import helper
from helper import UserError
from igr.backend import threads
from igr.formats import files
from igr.geometry import neighbours
from igr.geometry.frames import Frame, Geometry
from igr.geometry.meshes import unit_vectors
from igr.pointcloud import normals, winding
from igr.pointcloud.noise import Measurements

import numpy as np

KNN = 10  # neighbour that tells the spacing, as train.py's -k


def before_training(points: np.ndarray, coarse: int | None) -> np.ndarray:
    """Normals (N, 3) as train.py estimates them; coarse: see normals.COARSE."""
    points = Frame.of(points).to_unit(points)
    order = np.random.default_rng(0).permutation(len(points))
    tree = neighbours.tree_of(points[order])
    measured = Measurements.of(tree, neighbours.kth_distance(tree, KNN)[:, None], KNN)
    usual, normals.COARSE = normals.COARSE, coarse
    try:
        estimate = normals.estimated(measured)
    finally:
        normals.COARSE = usual
    found = np.empty_like(points)
    found[order] = estimate.normals
    return found


def after_training(points: np.ndarray, checkpoint: Path) -> np.ndarray:
    """Normals (N, 3) by `infer.py --normals`. Raises UserError with its line where it fails."""
    with tempfile.TemporaryDirectory() as folder:
        path, output = Path(folder) / "cloud.ply", Path(folder) / "oriented.ply"
        files.write(path, Geometry(points))
        done = subprocess.run(
            [sys.executable, str(ROOT / "infer.py"), "-mlp", str(checkpoint), "-f", str(path),
             "-o", str(Path(folder) / "mesh.ply"), "--normals", str(output), "--threads", "1"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise UserError(common.last_line(done))
        return files.read(output).normals


def tangent_planes(points: np.ndarray) -> np.ndarray:
    """Estimate normals (N, 3) by Open3D, as poisson-estimated has them."""
    cloud = peers.to_open3d(Geometry(points))
    peers.estimate_normals(cloud, peers.NEIGHBOURS)
    return np.asarray(cloud.normals)


def compare(normals: np.ndarray, truth: np.ndarray) -> dict:
    """Mean angle in degrees between normals and the true ones, both (N, 3), and the percentage of
    those on the wrong side."""
    cosine = (unit_vectors(normals) * unit_vectors(truth)).sum(axis=1)
    return {"mean_angle": float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean()),
            "wrong_percent": float(100 * (cosine < 0).mean())}


def measure(shape: str, path: Path, checkpoint: Path | None) -> list:
    """Measure each method, a row each; the last one needs a network of the cloud. Raises UserError
    where the cloud has no normals."""
    cloud = files.read(path)
    if cloud.normals is None:
        raise UserError(f"{path}: has no normals to compare with")
    points = cloud.points
    methods = {"ours": lambda: before_training(points, normals.COARSE),
               "ours, all points in each iteration": lambda: before_training(points, None),
               "winding numbers alone": lambda: winding.normals_of(points,
                                                                   winding.authors_widths()),
               "tangent planes": lambda: tangent_planes(points)}
    if checkpoint:
        methods["ours, after the training"] = lambda: after_training(points, checkpoint)
    rows = []
    for name, method in methods.items():
        before = sum(os.times()[:4])  # with children
        found = method()
        rows.append({"shape": shape, "points": len(points), "method": name,
                     "cpu_seconds": sum(os.times()[:4]) - before, **compare(found, cloud.normals)})
    return rows


def network_of(folder: Path, case: str) -> Path | None:
    """The newest checkpoint of driver.py's training on a case of a shape, None without one."""
    runs = sorted(folder.glob(f"{case}-ours-{8 * '?'}"), key=lambda run: run.stat().st_mtime)
    return newest_checkpoint(runs[-1]) if runs else None


def parse_args(argv=None) -> argparse.Namespace:
    parser = helper.parser(__doc__)
    parser.add_argument("shapes", nargs="+", metavar="SHAPE[=CASE]")
    parser.add_argument("--work", default=ROOT / "runs" / "results", type=Path,
                        help="folder of driver.py's clouds and networks")
    parser.add_argument("--json", metavar="FILE", help="write the figures")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    threads.set_count(1)
    rows = []
    for text in args.shapes:
        shape, _, case = text.partition("=")
        case = case or "clean"
        folder = args.work / shape
        rows += measure(text.replace("=", ", "), helper.existing_file(folder / f"{case}.ply"),
                        network_of(folder, case))
    common.report(rows, args.json)


if __name__ == "__main__":
    helper.run(main, parse_args())
