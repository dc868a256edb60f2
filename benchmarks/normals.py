"""Normals of clouds without any against the true ones: ours, tangent planes, winding numbers.

    python benchmarks/normals.py bunny=CHECKPOINT lucy=CHECKPOINT --json benchmarks/normals.json

CHECKPOINT is train.py's of the shape's clean cloud, which results.py has made: its points have the
normals of the faces that they lie on, which no method is given. A normal is on the wrong side where
it is more than 90 degrees off.
"""

from __future__ import annotations

import argparse
from pathlib import Path
import subprocess
import sys
import tempfile

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import common  # noqa: E402
import helper  # noqa: E402
from helper import UserError  # noqa: E402
from igr.formats import files  # noqa: E402
from igr.geometry.frames import Geometry  # noqa: E402
from igr.geometry.meshes import unit_vectors  # noqa: E402
from igr.pointcloud import winding  # noqa: E402
import peers  # noqa: E402

import numpy as np  # noqa: E402


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
    """Normals (N, 3) by Open3D, as poisson-estimated has them."""
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
    """A row for each method. Raises UserError where the cloud has no normals."""
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
                        help="shape of results.py, and a network of its clean cloud")
    parser.add_argument("--work", default=ROOT / "runs" / "results", type=Path,
                        help="folder of results.py's clouds")
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
