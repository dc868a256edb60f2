"""Fewer faces: quadric error metrics (Garland & Heckbert 1997), and a fit of the vertices.

Edges are collapsed one by one, each into the point that is nearest to the planes of all faces that
went into it: flat parts lose the most. That is VTK's code in open3d; the one of open3d's older mesh
class leaves twice the error. Then the vertices are moved so that the faces go through points of the
full mesh, by least squares, which takes another fifth of the error away.
"""

from __future__ import annotations

from helper import UserError, open3d
from igr.geometry import meshes, neighbours
from igr.geometry.frames import Geometry

import numpy as np

SAMPLES = 200_000  # on the full mesh, by area, whose distance to the new one is the error
FEWEST = 4  # faces of a closed surface
FITS = 2  # of the vertices
PER_FACE = 10  # samples of the full mesh in a fit, for each face
STAY = 0.1  # weight of a vertex's old place, where a sample has 1
TOLD = {"components": "components", "rims": "rims", "non-manifold edges": "nonmanifold_edges",
        "Euler characteristic": "euler_characteristic"}  # keys of meshes.topology


def simplified(mesh: Geometry, count: int, scale: float = 1.0) -> tuple[Geometry, str]:
    """Reduce a mesh (unit frame) to `count` faces, or a few less: the new mesh, without normals,
    and a text that says what it cost: the mean distance of points of the full mesh to it, in units
    of which scale make one.

    Raises UserError where there are not so many faces, or nothing is left of the shape.
    """
    if count >= len(mesh.faces):
        raise UserError(f"the mesh has {len(mesh.faces)} faces, not more than {count}; "
                        "leave out --faces, or take a larger --grid-size")
    o3d = open3d()
    reduced = o3d.t.geometry.TriangleMesh(
        meshes.tensor(mesh.points), o3d.core.Tensor(mesh.faces.astype(np.int32))
    ).simplify_quadric_decimation(1 - count / len(mesh.faces))
    faces = reduced.triangle.indices.numpy().astype(np.int64)
    if len(faces) < FEWEST:
        raise UserError(f"{count} faces are too few for this shape")
    small = Geometry(reduced.vertex.positions.numpy().astype(np.float64), None, faces)
    small = meshes.keep_faces(small, np.ones(len(faces), bool))
    rng = np.random.default_rng(0)
    for _ in range(FITS):
        small = _fitted(small, meshes.sample_mesh(mesh, PER_FACE * len(faces), rng).points)
    samples = meshes.sample_mesh(mesh, SAMPLES, rng).points
    error = scale * neighbours.point_to_surface(samples, small).mean()
    return small, (f"{len(faces)} of {len(mesh.faces)} faces, mean distance {error:.3g} to the "
                   f"full mesh{_changes(mesh, small)}")


def _fitted(mesh: Geometry, samples: np.ndarray) -> Geometry:
    """A mesh whose vertices moved so that the planes of its faces are nearer to samples (n, 3), by
    one step of Gauss and Newton: each sample pulls the face that is nearest to it along its normal.
    """
    from scipy.sparse import coo_matrix, identity
    from scipy.sparse.linalg import cg

    hit = meshes.ray_scene(mesh.points, mesh.faces).compute_closest_points(meshes.tensor(samples))
    face = hit["primitive_ids"].numpy().astype(np.int64)
    b = hit["primitive_uvs"].numpy().astype(np.float64)
    b = np.column_stack([1 - b.sum(axis=1), b])  # barycentric coordinates
    corners = mesh.faces[face]
    normals = meshes.unit_vectors(meshes.scaled_face_normals(mesh.points[corners]))
    offset = samples - np.einsum("ij,ijk->ik", b, mesh.points[corners])
    columns = 3 * corners[:, :, None] + np.arange(3)
    rows = np.broadcast_to(np.arange(len(samples))[:, None, None], columns.shape)
    A = coo_matrix(((b[:, :, None] * normals[:, None]).ravel(), (rows.ravel(), columns.ravel())),
                   shape=(len(samples), mesh.points.size)).tocsr()
    system = A.T @ A + STAY * identity(mesh.points.size)
    shift = cg(system, A.T @ (offset * normals).sum(axis=1), maxiter=200)[0].reshape(-1, 3)
    return meshes.moved(mesh, shift)


def _changes(mesh: Geometry, small: Geometry) -> str:
    """Text that says whether the new mesh is watertight, and which counts are not the full one's.
    """
    before, after = meshes.topology(mesh), meshes.topology(small)
    changed = [f"{name} {before[key]} -> {after[key]}" for name, key in TOLD.items()
               if before[key] != after[key]]
    text = ", watertight" if after["watertight"] else ""
    return f"{text}; changed: {', '.join(changed)}" if changed else text
