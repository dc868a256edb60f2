"""What one would use instead: Open3D's surface reconstructions, one in a process of its own.

    python benchmarks/peers.py poisson -f cloud.ply -o mesh.ply

    poisson             screened Poisson (Kazhdan and Hoppe 2013), --depth 9, by the cloud's normals
    poisson-estimated   the same by normals estimated from --neighbours 30 and turned consistently
                        along the tangent planes: the cloud's own are not looked at
    ball-pivoting       Bernardini et al. 1999, by such normals, radii 1, 2 and 4 mean spacings: the
                        floor, it only connects the points

Nothing is trimmed, smoothed or filled afterwards.
"""

from __future__ import annotations

from pathlib import Path
import sys

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

import helper  # noqa: E402
from helper import UserError  # noqa: E402
from igr import files  # noqa: E402
from igr.frames import Geometry  # noqa: E402

import numpy as np  # noqa: E402

RADII = (1, 2, 4)  # of the balls, in mean distances of nearest neighbours


def to_open3d(cloud: Geometry):
    o3d = helper.open3d()
    made = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(cloud.points))
    if cloud.normals is not None:
        made.normals = o3d.utility.Vector3dVector(cloud.normals)
    return made


def estimate_normals(cloud, neighbours: int) -> None:
    cloud.estimate_normals(helper.open3d().geometry.KDTreeSearchParamKNN(neighbours))
    cloud.orient_normals_consistent_tangent_plane(neighbours)


def poisson(cloud, args):
    """Raises UserError where the cloud has no normals."""
    if not cloud.has_normals():
        raise UserError("poisson needs a cloud with normals; poisson-estimated does not")
    return helper.open3d().geometry.TriangleMesh.create_from_point_cloud_poisson(
        cloud, depth=args.depth)[0]


def poisson_estimated(cloud, args):
    estimate_normals(cloud, args.neighbours)
    return poisson(cloud, args)


def ball_pivoting(cloud, args):
    o3d = helper.open3d()
    estimate_normals(cloud, args.neighbours)
    spacing = np.asarray(cloud.compute_nearest_neighbor_distance()).mean()
    return o3d.geometry.TriangleMesh.create_from_point_cloud_ball_pivoting(
        cloud, o3d.utility.DoubleVector(spacing * np.array(RADII)))


PEERS = {"poisson": poisson, "poisson-estimated": poisson_estimated,
         "ball-pivoting": ball_pivoting}


def main(args) -> None:
    files.check_writable(args.output, files.MESH_WRITERS)
    mesh = PEERS[args.peer](to_open3d(files.read(args.fpath)), args)
    points, faces = np.asarray(mesh.vertices), np.asarray(mesh.triangles, np.int64)
    if len(faces) == 0:
        raise UserError(f"{args.fpath}: {args.peer} makes no face of it")
    files.write(args.output, Geometry(points, None, faces))
    print(args.output)


if __name__ == "__main__":
    made = helper.parser(__doc__)
    made.add_argument("peer", choices=list(PEERS))
    made.add_argument("-f", "--fpath", required=True, help="cloud")
    made.add_argument("-o", "--output", required=True, help="mesh to write")
    made.add_argument("--depth", type=helper.number(int, 1, 12), default=9,
                      help="of Poisson's octree; 9: cells of 1.1 times the longest side / 512")
    made.add_argument("--neighbours", type=helper.number(int, 3), default=30,
                      help="for estimating a normal, and for turning it")
    helper.run(main, made.parse_args())
