"""Reconstruct a surface by one of Open3D's methods, to compare ours with.

    python benchmarks/peers.py poisson -f cloud.ply -o mesh.ply

    poisson             screened Poisson (Kazhdan and Hoppe 2013) with the cloud's normals
    poisson-estimated   the same with estimated normals, oriented consistently along the tangent
                        planes; the cloud's own normals are not used
    ball-pivoting       Bernardini et al. 1999 with such normals, radii 1, 2 and 4 mean spacings; it
                        only connects the points, so it shows the least distance to expect

Nothing is trimmed, smoothed or filled afterwards.
"""

from __future__ import annotations

import argparse
from pathlib import Path
import sys

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

import helper  # noqa: E402
from helper import UserError  # noqa: E402
from igr import files  # noqa: E402
from igr.frames import Geometry  # noqa: E402

import numpy as np  # noqa: E402

RADII = (1, 2, 4)  # of the balls, in mean distances to the nearest neighbour


def to_open3d(cloud: Geometry):
    """An open3d PointCloud with the points, and the normals where there are any."""
    o3d = helper.open3d()
    made = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(cloud.points))
    if cloud.normals is not None:
        made.normals = o3d.utility.Vector3dVector(cloud.normals)
    return made


def estimate_normals(cloud, neighbours: int) -> None:
    """Give an open3d cloud oriented normals, estimated from so many neighbours."""
    cloud.estimate_normals(helper.open3d().geometry.KDTreeSearchParamKNN(neighbours))
    cloud.orient_normals_consistent_tangent_plane(neighbours)


def poisson(cloud, depth: int):
    """An open3d mesh by the cloud's normals. Raises UserError where it has none."""
    if not cloud.has_normals():
        raise UserError("poisson needs a cloud with normals; poisson-estimated does not")
    return helper.open3d().geometry.TriangleMesh.create_from_point_cloud_poisson(
        cloud, depth=depth)[0]


def ball_pivoting(cloud):
    """An open3d mesh by the cloud's normals."""
    o3d = helper.open3d()
    spacing = np.asarray(cloud.compute_nearest_neighbor_distance()).mean()
    return o3d.geometry.TriangleMesh.create_from_point_cloud_ball_pivoting(
        cloud, o3d.utility.DoubleVector(spacing * np.array(RADII)))


def reconstruct(peer: str, cloud, depth: int, neighbours: int):
    """The open3d mesh that a peer makes of an open3d cloud, whose normals may be replaced."""
    if peer != "poisson":
        estimate_normals(cloud, neighbours)
    return ball_pivoting(cloud) if peer == "ball-pivoting" else poisson(cloud, depth)


def parse_args() -> argparse.Namespace:
    parser = helper.parser(__doc__)
    parser.add_argument("peer", choices=["poisson", "poisson-estimated", "ball-pivoting"])
    parser.add_argument("-f", "--fpath", required=True, help="cloud")
    parser.add_argument("-o", "--output", required=True, help="mesh to write")
    parser.add_argument("--depth", type=helper.number(int, 1, 12), default=9,
                        help="of Poisson's octree; 9: cells of 1.1 times the longest side / 512")
    parser.add_argument("--neighbours", type=helper.number(int, 3), default=30,
                        help="points for estimating a normal and for orienting it")
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    files.check_writable(args.output, files.MESH_WRITERS)
    cloud = to_open3d(files.read(args.fpath))
    mesh = reconstruct(args.peer, cloud, args.depth, args.neighbours)
    points = np.asarray(mesh.vertices)
    faces = np.asarray(mesh.triangles, np.int64)
    if len(faces) == 0:
        raise UserError(f"{args.fpath}: {args.peer} makes no face of it")
    files.write(args.output, Geometry(points, None, faces))
    print(args.output)


if __name__ == "__main__":
    helper.run(main, parse_args())
