"""The parts of a mesh: connected components, topology, and meshes without some of their faces."""

from __future__ import annotations

from geometry import Geometry, crosses
import helper

import numpy as np


def face_areas(mesh: Geometry) -> np.ndarray:
    """Areas (M,) of the faces."""
    return np.linalg.norm(crosses(mesh.points[mesh.faces]), axis=1) / 2


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
