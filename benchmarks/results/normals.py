"""Compare normals found without any with the true ones: ours, tangent planes, winding numbers.

    python -m benchmarks.results.normals bunny=CHECKPOINT lucy=CHECKPOINT \\
        --json benchmarks/results/normals.json

CHECKPOINT is train.py's of the shape's clean cloud, which driver.py has made: its points have the
normals of the faces that they lie on, which no method is given. A normal is on the wrong side where
it is more than 90 degrees off.
"""

from __future__ import annotations

import argparse
from pathlib import Path
import subprocess
import sys
import tempfile

from benchmarks import common
from benchmarks.common import ROOT
from benchmarks.results import peers
import helper
from helper import UserError
from igr.formats import files
from igr.geometry.frames import Geometry
from igr.geometry.meshes import unit_vectors
from igr.pointcloud import winding

import numpy as np


def ours(cloud: Geometry, checkpoint: str) -> np.ndarray:
    """Normals (N, 3) by `infer.py --normals`. Raises UserError with its line where it fails."""
    with tempfile.TemporaryDirectory() as folder:
        path, output = Path(folder) / "cloud.ply", Path(folder) / "oriented.ply"
        files.write(path, Geometry(cloud.points))
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


def measure(shape: str, path: Path, checkpoint: str) -> list:
    """Measure each method, a row each. Raises UserError where the cloud has no normals."""
    cloud = files.read(path)
    if cloud.normals is None:
        raise UserError(f"{path}: has no normals to compare with")
    points = cloud.points
    methods = {"ours": lambda: ours(cloud, checkpoint),
               "tangent planes": lambda: tangent_planes(points),
               "winding numbers": lambda: winding.normals_of(points, winding.authors_widths())}
    return [{"shape": shape, "points": len(points), "method": name,
             **compare(method(), cloud.normals)} for name, method in methods.items()]


def parse_args(argv=None) -> argparse.Namespace:
    parser = helper.parser(__doc__)
    parser.add_argument("shapes", nargs="+", metavar="SHAPE=CHECKPOINT",
                        help="shape of driver.py, and a network of its clean cloud")
    parser.add_argument("--work", default=ROOT / "runs" / "results", type=Path,
                        help="folder of driver.py's clouds")
    parser.add_argument("--json", metavar="FILE", help="write the figures")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    rows = []
    for text in args.shapes:
        shape, equals, checkpoint = text.partition("=")
        if not equals:
            raise UserError(f"{text} is not SHAPE=CHECKPOINT")
        rows += measure(shape, args.work / shape / "clean.ply", helper.existing_file(checkpoint))
    common.report(rows, args.json)


if __name__ == "__main__":
    helper.run(main, parse_args())
