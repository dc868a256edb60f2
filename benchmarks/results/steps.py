"""Make one step of a rival that takes several: normals, detail.

    python -m benchmarks.results.steps normals -f cloud.ply -o oriented.ply
    python -m benchmarks.results.steps detail -f cloud.ply --mesh poisson.ply -o mesh.ply

    normals  write a cloud with the normals that train.py estimates for it
    detail   move a mesh's vertices by the heights of the cloud's points over it, as infer.py does
             with a network's surface
"""

from __future__ import annotations

import argparse

import helper
from helper import UserError
from igr.backend import threads
from igr.formats import files
from igr.geometry import meshes, neighbours
from igr.geometry.frames import Frame, Geometry

import numpy as np

KNN = 10  # neighbours that tell the spacing, as train.py's -k


def with_normals(cloud: Geometry) -> Geometry:
    """A cloud in random order with the normals that train.py estimates without --with-normals."""
    from igr.pointcloud import noise, normals  # here: numba takes memory, which is measured

    order = np.random.default_rng(0).permutation(len(cloud.points))
    points_unit = Frame.of(cloud.points).to_unit(cloud.points[order], np.float32)
    tree = neighbours.tree_of(points_unit)
    sigma = neighbours.kth_distance(tree, KNN)[:, None]
    estimated = normals.estimated(noise.Measurements.of(tree, sigma, KNN)).normals
    return Geometry(cloud.points[order], estimated)


class PlanesOfMesh:
    """The signed distance to a mesh as a field f with its gradient, smooth across the faces: the
    height of x over the plane through the closest point c of the mesh, f(x) = (x - c) . n(c), whose
    normal n is interpolated between the vertices'."""

    def __init__(self, mesh: Geometry):
        self.faces = mesh.faces
        self.normals = meshes.vertex_normals(mesh)
        self.scene = meshes.ray_scene(mesh.points, mesh.faces)

    def __call__(self, points: np.ndarray):
        """f (N,) and its gradient (N, 3) at points (N, 3)."""
        closest = self.scene.compute_closest_points(meshes.tensor(points))
        uv = closest["primitive_uvs"].numpy().astype(np.float64)
        corners = self.faces[closest["primitive_ids"].numpy()]
        weights = np.column_stack([1 - uv.sum(axis=1), uv])
        normals = meshes.unit_vectors(np.einsum("nk,nki->ni", weights, self.normals[corners]))
        heights = ((points - closest["points"].numpy()) * normals).sum(axis=1)
        return heights, normals


def with_detail(cloud: Geometry, mesh: Geometry) -> Geometry:
    """A mesh with its vertices moved by the detail of a cloud."""
    from igr.refinement import detail

    frame = Frame.of(cloud.points)
    mesh_unit = frame.geometry_to_unit(mesh)
    fitted = detail.fit(PlanesOfMesh(mesh_unit), frame.to_unit(cloud.points))
    return Geometry(frame.to_world(fitted.move(mesh_unit.points)), None, mesh.faces)


def parse_args(argv=None) -> argparse.Namespace:
    parser = helper.parser(__doc__)
    parser.add_argument("step", choices=["normals", "detail"])
    parser.add_argument("-f", "--fpath", required=True, help="cloud")
    parser.add_argument("--mesh", help="mesh that gets the detail")
    parser.add_argument("-o", "--output", required=True, help="cloud or mesh to write")
    parser.add_argument("--threads", type=helper.number(int, 1), default=1, help="of the process")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    threads.set_count(args.threads)
    writers = files.MESH_WRITERS if args.step == "detail" else files.CLOUD_WRITERS
    helper.check_writable(args.output, writers, [args.fpath, args.mesh])
    cloud = files.read(args.fpath)
    if args.step == "normals":
        made = with_normals(cloud)
    elif args.mesh is None:
        raise UserError("detail needs --mesh, the mesh that gets it")
    else:
        made = with_detail(cloud, files.read_mesh(args.mesh))
    files.write(args.output, made)
    print(args.output)


if __name__ == "__main__":
    helper.run(main, parse_args())
