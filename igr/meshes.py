"""Triangle meshes: areas and normals, sampling, components and topology, and casting rays at them.
"""

from __future__ import annotations

import math

import helper
from helper import UserError, open3d
from igr.frames import Geometry

import numpy as np

CREASE = math.cos(math.radians(45))  # beyond this angle an edge is meant to be seen as one



def face_areas(mesh: Geometry) -> np.ndarray:
    """Areas (M,) of the faces."""
    return np.linalg.norm(face_crosses(mesh.points[mesh.faces]), axis=1) / 2


def components(mesh: Geometry) -> np.ndarray:
    """Label (M,) of each face's connected component, 0, 1, ...; faces with a vertex in common are
    connected."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    ends = mesh.faces[:, [0, 1, 1, 2]].reshape(-1, 2).T
    n = len(mesh.points)
    graph = coo_matrix((np.ones(ends.shape[1], bool), tuple(ends)), shape=(n, n))
    _, of_vertex = connected_components(graph, directed=False)
    return np.unique(of_vertex[mesh.faces[:, 0]], return_inverse=True)[1].reshape(-1)


def topology(mesh: Geometry) -> dict:
    """Counts: vertices (used ones), faces, components, boundary edges (one face), non-manifold
    edges (more than two), Euler characteristic, and whether the mesh is watertight."""
    edges = np.sort(mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1).astype(np.int64)
    _, faces_of_edge = np.unique(edges[:, 0] * len(mesh.points) + edges[:, 1], return_counts=True)
    vertices = len(np.unique(mesh.faces))
    return {
        "vertices": vertices,
        "faces": len(mesh.faces),
        "components": int(components(mesh).max()) + 1,
        "boundary_edges": int((faces_of_edge == 1).sum()),
        "nonmanifold_edges": int((faces_of_edge > 2).sum()),
        "euler_characteristic": vertices - len(faces_of_edge) + len(mesh.faces),
        "watertight": bool((faces_of_edge == 2).all()),
    }


def with_faces(mesh: Geometry, keep: np.ndarray) -> Geometry:
    """The mesh of the faces in the mask keep (M,), without the vertices that none of them uses."""
    faces = mesh.faces[keep]
    used, faces = np.unique(faces, return_inverse=True)
    normals = None if mesh.normals is None else mesh.normals[used]
    return Geometry(mesh.points[used], normals, faces.reshape(-1, 3))


def large_components(mesh: Geometry, fraction: float) -> np.ndarray:
    """Mask (M,) of the faces in components with at least `fraction` of the whole area; with
    fraction 1, in the largest one."""
    label, areas = components(mesh), face_areas(mesh)
    area = np.bincount(label, areas)
    return area[label] >= min(fraction * area.sum(), area.max())


def near(mesh: Geometry, points: np.ndarray, distance: float) -> np.ndarray:
    """Mask (M,) of the faces all of whose corners are within `distance` of points (N, 3)."""
    from scipy.spatial import cKDTree

    close = cKDTree(points).query(mesh.points, workers=helper.cores())[0] <= distance
    return close[mesh.faces].all(axis=1)


def sample_mesh(mesh: Geometry, n: int, rng: np.random.Generator) -> Geometry:
    """n points at random by area over a mesh, each with the unit normal of its face.

    Raises UserError where the mesh has no area.
    """
    blocks = np.array_split(mesh.faces, len(mesh.faces) // 1_000_000 + 1)  # to spare memory
    with np.errstate(over="ignore", invalid="ignore"):
        total = np.cumsum(np.concatenate(
            [np.linalg.norm(face_crosses(mesh.points[faces]), axis=1) for faces in blocks]))
    if not 0 < total[-1] < np.inf:
        raise UserError("the mesh has no area, or more than numbers hold: nothing to sample")
    picked = np.searchsorted(total, rng.uniform(0, total[-1], n), side="right")
    picked = np.minimum(picked, len(total) - 1)
    a, b = rng.uniform(size=(2, n, 1))
    fold = a + b > 1  # the other half of the parallelogram
    a, b = np.where(fold, 1 - a, a), np.where(fold, 1 - b, b)
    corners = mesh.points[mesh.faces[picked]]
    cross, (o, p, q) = face_crosses(corners), corners.transpose(1, 0, 2)
    return Geometry(o + a * (p - o) + b * (q - o),
                    cross / np.linalg.norm(cross, axis=1, keepdims=True))


def face_crosses(corners: np.ndarray) -> np.ndarray:
    """Normals (M, 3) of triangles (M, 3, 3), as long as twice their areas."""
    return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])


def sample_poisson(mesh: Geometry, n: int, seed: int) -> Geometry:
    """n points of a mesh, evenly spaced (Poisson disk), each with the normal of its face.

    Raises UserError where the mesh has no area or n is 0.
    """
    sample_mesh(mesh, 1, np.random.default_rng(0))  # has it an area?
    if n < 1:
        raise UserError("no points to sample")
    o3d = open3d()
    o3d.utility.random.seed(seed)
    legacy = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(mesh.points), o3d.utility.Vector3iVector(mesh.faces)
    )
    cloud = legacy.sample_points_poisson_disk(n, use_triangle_normal=True)
    return Geometry(np.asarray(cloud.points), np.asarray(cloud.normals))


def vertex_normals(geometry: Geometry) -> np.ndarray:
    """Unit normals (N, 3) of a mesh's vertices: the area-weighted mean of their faces'."""
    corners = geometry.points[geometry.faces]
    cross = face_crosses(corners)
    normals = np.zeros_like(geometry.points)
    for axis in range(3):
        for corner in range(3):
            normals[:, axis] += np.bincount(
                geometry.faces[:, corner], cross[:, axis], len(normals)
            )
    return unit(normals)


def split_creases(mesh: Geometry):
    """A mesh whose vertices are doubled along edges sharper than CREASE, so that normals averaged
    at vertices keep those edges sharp; and each new vertex's old index (n,)."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    faces = mesh.faces
    corners = mesh.points[faces]
    normals = unit(face_crosses(corners))
    edges = np.stack([faces, np.roll(faces, -1, axis=1)], axis=-1).reshape(-1, 2)
    low, high = edges.min(axis=1), edges.max(axis=1)
    key = low * len(mesh.points) + high
    order = np.argsort(key, kind="stable")
    pairs = np.flatnonzero(np.diff(key[order]) == 0)
    one, other = order[pairs], order[pairs + 1]  # edge k runs from corner k of the flat faces
    soft = np.einsum("ij,ij->i", normals[one // 3], normals[other // 3]) >= CREASE
    if soft.all():
        return mesh, np.arange(len(mesh.points))
    one, other = one[soft], other[soft]

    def end(edge):  # the corner where the edge ends
        return edge - edge % 3 + (edge + 1) % 3

    same = faces.ravel()[one] == faces.ravel()[other]  # begin at the same vertex?
    begin, finish = np.where(same, other, end(other)), np.where(same, end(other), other)
    links = np.concatenate([one, end(one)]), np.concatenate([begin, finish])
    graph = coo_matrix((np.ones(len(links[0]), bool), links), shape=(faces.size,) * 2)
    _, group = connected_components(graph, directed=False)
    _, first, corner = np.unique(group, return_index=True, return_inverse=True)
    origin = faces.ravel()[first]
    split = Geometry(mesh.points[origin], None, corner.reshape(-1, 3))
    return split, origin


def unit(vectors) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)


def against(normals, directions) -> np.ndarray:
    """normals (N, 3), turned against the directions (N, 3) where they go along."""
    along = np.einsum("ij,ij->i", normals, directions) > 0
    return np.where(along[:, None], -normals, normals)


def ray_scene(points, faces):
    o3d = open3d()
    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(tensor(points), o3d.core.Tensor(faces.astype(np.uint32)))
    return scene


def tensor(array):
    return open3d().core.Tensor(np.ascontiguousarray(array, np.float32))

