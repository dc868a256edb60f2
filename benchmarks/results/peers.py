"""Reconstruct a surface by a rival's method, to compare ours with.

    python -m benchmarks.results.peers poisson -f cloud.ply -o mesh.ply

    poisson             screened Poisson (Kazhdan and Hoppe 2013) with the cloud's normals, as all
                        below by Open3D where nothing else is said
    poisson-estimated   the same with estimated normals, oriented consistently along the tangent
                        planes; the cloud's own normals are not used
    poisson-winding     the same with winding-number normals (igr/pointcloud/winding.py)
    poisson-meshlab     with the cloud's normals, by MeshLab (requirements-peers.txt)
    apss, rimls         algebraic point set surfaces (Guennebaud and Gross 2007) and robust implicit
                        moving least squares (Oeztireli et al. 2009) with the cloud's normals, by
                        MeshLab
    advancing-front     Cohen-Steiner and Da 2004 on the points alone, by CGAL
    ball-pivoting       Bernardini et al. 1999 with estimated normals, radii 1, 2 and 4 mean
                        spacings; it only connects the points, so it shows the least distance to
                        expect

Nothing is trimmed, smoothed or filled afterwards.
"""

from __future__ import annotations

import argparse
import importlib
import sys

import helper
from helper import UserError
from igr.formats import files
from igr.geometry.frames import Geometry

import numpy as np

PEERS = ("poisson", "poisson-estimated", "poisson-winding", "poisson-meshlab", "apss", "rimls",
         "advancing-front", "ball-pivoting")
NEED_NORMALS = ("poisson", "poisson-meshlab", "apss", "rimls")
NEIGHBOURS = 30
RADII = (1, 2, 4)  # of the balls, in mean distances to the nearest neighbour
RESOLUTION = 512  # cells along the longest side, of apss and rimls


def to_open3d(cloud: Geometry):
    """Convert a cloud to an open3d PointCloud, with its normals where it has any."""
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
    """Reconstruct an open3d mesh by screened Poisson from an open3d cloud with normals."""
    return helper.open3d().geometry.TriangleMesh.create_from_point_cloud_poisson(
        cloud, depth=depth)[0]


def ball_pivoting(cloud):
    """Reconstruct an open3d mesh by ball pivoting from an open3d cloud with normals."""
    o3d = helper.open3d()
    spacing = np.asarray(cloud.compute_nearest_neighbor_distance()).mean()
    return o3d.geometry.TriangleMesh.create_from_point_cloud_ball_pivoting(
        cloud, o3d.utility.DoubleVector(spacing * np.array(RADII)))


def imported(name: str):
    """Import a module of requirements-peers.txt. Raises UserError where it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"{name} cannot be imported ({error}); type {sys.executable} -m pip "
                        "install -r benchmarks/requirements-peers.txt") from None


def advancing_front(points: np.ndarray) -> Geometry:
    """Connect points (N, 3) by CGAL's advancing front. Raises UserError where CGAL is missing."""
    kernel, sets, front = (imported(f"CGAL.CGAL_{name}") for name in (
        "Kernel", "Point_set_3", "Advancing_front_surface_reconstruction"))
    cloud = sets.Point_set_3()
    for point in points.tolist():
        cloud.insert(kernel.Point_3(*point))
    corners = []
    front.advancing_front_surface_reconstruction(cloud, corners)
    return Geometry(points, None, np.reshape(corners, (-1, 3)).astype(np.int64))


def by_meshlab(name: str, cloud: Geometry, **parameters) -> Geometry:
    """Reconstruct a mesh by a filter of MeshLab. Raises UserError where pymeshlab is missing."""
    pymeshlab = imported("pymeshlab")
    shapes = pymeshlab.MeshSet(verbose=False)
    shapes.add_mesh(pymeshlab.Mesh(vertex_matrix=cloud.points, v_normals_matrix=cloud.normals))
    shapes.apply_filter(name, **parameters)
    mesh = shapes.current_mesh()
    return Geometry(mesh.vertex_matrix(), None, mesh.face_matrix().astype(np.int64))


def reconstruct(args: argparse.Namespace, cloud: Geometry) -> Geometry:
    """Reconstruct a cloud's mesh by the peer of the flags. Raises UserError where the cloud lacks
    normals."""
    peer = args.peer
    if peer in NEED_NORMALS and cloud.normals is None:
        raise UserError(f"{peer} needs a cloud with normals; poisson-estimated does not")
    if peer == "poisson-meshlab":
        return by_meshlab("generate_surface_reconstruction_screened_poisson", cloud, threads=1,
                          depth=args.depth, samplespernode=args.samples_per_node)
    if peer in ("apss", "rimls"):
        return by_meshlab(f"generate_marching_cubes_{peer}", cloud, filterscale=args.filter_scale,
                          resolution=RESOLUTION)
    if peer == "advancing-front":
        return advancing_front(cloud.points)
    if peer == "poisson-winding":
        from igr.pointcloud import winding  # here: numba takes memory, which is measured

        normals = winding.normals_of(cloud.points, winding.authors_widths(*args.widths))
        cloud = cloud._replace(normals=normals)
    made = to_open3d(cloud)
    if peer in ("poisson-estimated", "ball-pivoting"):
        estimate_normals(made, args.neighbours)
    mesh = ball_pivoting(made) if peer == "ball-pivoting" else poisson(made, args.depth)
    return Geometry(np.asarray(mesh.vertices), None, np.asarray(mesh.triangles, np.int64))


def parse_args(argv=None) -> argparse.Namespace:
    parser = helper.parser(__doc__)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("-f", "--fpath", required=True, help="cloud")
    parser.add_argument("-o", "--output", required=True, help="mesh to write")
    parser.add_argument("--depth", type=helper.number(int, 1, 12), default=9,
                        help="of Poisson's octree; 9: cells of 1.1 times the longest side / 512")
    parser.add_argument("--neighbours", type=helper.number(int, 3), default=NEIGHBOURS,
                        help="points for estimating a normal and for orienting it")
    parser.add_argument("--widths", nargs=2, type=helper.number(float, above=0), default=(),
                        metavar=("LAST", "FIRST"),
                        help="of winding.authors_widths, for poisson-winding")
    parser.add_argument("--samples-per-node", type=helper.number(float, above=0), default=1.5,
                        help="points in a cell of the octree at least, for poisson-meshlab; 15 to "
                        "20 for noise")
    parser.add_argument("--filter-scale", type=helper.number(float, above=0), default=2,
                        help="of apss and rimls: the width of their weights in local spacings")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    helper.check_writable(args.output, files.MESH_WRITERS, [args.fpath])
    mesh = reconstruct(args, files.read(args.fpath))
    if len(mesh.faces) == 0:
        raise UserError(f"{args.fpath}: {args.peer} makes no face of it")
    files.write(args.output, mesh)
    print(args.output)


if __name__ == "__main__":
    helper.run(main, parse_args())
