"""Measure, sample, split and cut triangle meshes, and cast rays at them.

Lengths are in the units of the mesh's points.
"""

from __future__ import annotations

import math

from helper import UserError, open3d
from igr.backend import memory
from igr.geometry.frames import Geometry

import numpy as np

TINY = 1e-30  # divides instead of 0: as float32, too, it is no 0
CREASE = math.cos(math.radians(45))  # an edge with a larger angle is meant to be seen as one
BYTES_PER_POINT = 250  # that are sampled, at least
BYTES_PER_FACE = 300  # of a mesh that is measured or drawn
BLOCK = 1_000_000  # faces whose corners are gathered at a time, to spare memory

# ------------------------------------------------------------------------------ areas and normals


def scaled_face_normals(corners: np.ndarray) -> np.ndarray:
    """Normals (M, 3) of triangles (M, 3, 3), each as long as twice the triangle's area."""
    return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])


def face_areas(mesh: Geometry) -> np.ndarray:
    """Areas (M,) of the faces."""
    blocks = np.array_split(mesh.faces, len(mesh.faces) // BLOCK + 1)
    doubled = [np.linalg.norm(scaled_face_normals(mesh.points[faces]), axis=1) for faces in blocks]
    return np.concatenate(doubled) / 2


def vertex_normals(mesh: Geometry) -> np.ndarray:
    """Unit normals (N, 3) of the vertices: the area-weighted mean of their faces' normals."""
    scaled = scaled_face_normals(mesh.points[mesh.faces])
    normals = np.zeros_like(mesh.points)
    for axis in range(3):
        for corner in range(3):
            normals[:, axis] += np.bincount(mesh.faces[:, corner], scaled[:, axis], len(normals))
    return unit_vectors(normals)


def unit_vectors(vectors: np.ndarray) -> np.ndarray:
    """The rows of vectors (N, 3) at length 1; zeros stay zeros."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), TINY)


def turn_against(normals: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """normals (N, 3), those reversed that point along their directions (N, 3)."""
    along = np.einsum("ij,ij->i", normals, directions) > 0
    return np.where(along[:, None], -normals, normals)


def moved(mesh: Geometry, shift: np.ndarray) -> Geometry:
    """A mesh with its points moved by shift (N, 3), and by less where a face would turn over."""
    before = scaled_face_normals(mesh.points[mesh.faces])
    has_area = (before != 0).any(axis=1)
    share = np.ones((len(mesh.points), 1))
    while True:
        points = mesh.points + share * shift
        after = scaled_face_normals(points[mesh.faces])
        turned = has_area & ((before * after).sum(axis=1) <= 0)
        if not turned.any():
            return mesh._replace(points=points)
        share[mesh.faces[turned]] /= 2


# --------------------------------------------------------------------------------------- sampling


def check_points(n: int, what: str) -> None:
    """Raises UserError where n sampled points would not fit into the memory. what: asks for them"""
    memory.check(BYTES_PER_POINT * n, f"{what}: a cloud of {n} points", "take fewer")


def check_faces(mesh: Geometry, path) -> None:
    """Raises UserError where the mesh of a file is too large for the memory to measure or draw."""
    if mesh.faces is not None:
        memory.check(BYTES_PER_FACE * len(mesh.faces), f"{path}: {len(mesh.faces)} faces",
                     "make fewer (infer.py --faces)")


def sample_mesh(mesh: Geometry, n: int, rng: np.random.Generator,
                areas: np.ndarray | None = None) -> Geometry:
    """n points at random by area over a mesh, each with the unit normal of its face, and with a
    colour if the mesh has colours.

    areas: (M,) of the faces, where they are known. Raises UserError where the mesh has no area.
    """
    areas_up_to = _cumulated_areas(mesh, areas)
    picked = np.searchsorted(areas_up_to, rng.uniform(0, areas_up_to[-1], n), side="right")
    picked = np.minimum(picked, len(areas_up_to) - 1)
    a, b = rng.uniform(size=(2, n, 1))
    beyond = a + b > 1  # in the other half of the parallelogram
    a = np.where(beyond, 1 - a, a)
    b = np.where(beyond, 1 - b, b)

    def between(values: np.ndarray) -> np.ndarray:
        o, p, q = values[mesh.faces[picked]].transpose(1, 0, 2)
        return o + a * (p - o) + b * (q - o)

    normals = unit_vectors(scaled_face_normals(mesh.points[mesh.faces[picked]]))
    colors = None if mesh.colors is None else between(mesh.colors)
    return Geometry(between(mesh.points), normals, colors=colors)


def sample_poisson(mesh: Geometry, n: int, seed: int) -> Geometry:
    """n points of a mesh, evenly spaced (Poisson disk), each with the normal of its face, and with
    a colour if the mesh has colours.

    Raises UserError where the mesh has no area or n is 0.
    """
    _cumulated_areas(mesh)  # refuses a mesh without area
    if n < 1:
        raise UserError("no points to sample")
    o3d = open3d()
    o3d.utility.random.seed(seed)
    legacy = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(mesh.points), o3d.utility.Vector3iVector(mesh.faces)
    )
    if mesh.colors is not None:
        legacy.vertex_colors = o3d.utility.Vector3dVector(mesh.colors)
    cloud = legacy.sample_points_poisson_disk(n, use_triangle_normal=True)
    colors = None if mesh.colors is None else np.asarray(cloud.colors)
    return Geometry(np.asarray(cloud.points), np.asarray(cloud.normals), colors=colors)


def _cumulated_areas(mesh: Geometry, areas: np.ndarray | None = None) -> np.ndarray:
    """Area (M,) of the faces up to each one. Raises UserError where the whole is 0 or no number."""
    with np.errstate(over="ignore", invalid="ignore"):
        areas_up_to = np.cumsum(face_areas(mesh) if areas is None else areas)
    if not 0 < areas_up_to[-1] < np.inf:
        raise UserError("the mesh has no area, or more than numbers hold: nothing to sample")
    return areas_up_to


# ------------------------------------------------------------------------ components and topology


def components(mesh: Geometry) -> np.ndarray:
    """Label (M,) of each face's connected component, 0, 1, ...; faces with a vertex in common are
    connected."""
    ends = mesh.faces[:, [0, 1, 1, 2]].reshape(-1, 2).T
    of_vertex = connected_sets(ends[0], ends[1], len(mesh.points))
    return np.unique(of_vertex[mesh.faces[:, 0]], return_inverse=True)[1].reshape(-1)


def connected_sets(one: np.ndarray, other: np.ndarray, n: int) -> np.ndarray:
    """Labels (n,) of the connected components of n nodes, with links (E,) from one to other."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    graph = coo_matrix((np.ones(len(one), bool), (one, other)), shape=(n, n))
    return connected_components(graph, directed=False)[1]


def topology(mesh: Geometry) -> dict:
    """Counts: vertices (used ones), faces, components, boundary edges (one face) and the rims that
    they form, non-manifold edges (more than two), Euler characteristic, whether the mesh is
    watertight, and if so, its genus (handles of all components) and whether it is inside out."""
    keys, faces_of_edge = _edges(mesh)
    vertices = int(mesh.used.sum())
    watertight = bool((faces_of_edge == 2).all())
    pieces = int(components(mesh).max()) + 1
    euler = vertices - len(faces_of_edge) + len(mesh.faces)
    return {
        "vertices": vertices,
        "faces": len(mesh.faces),
        "components": pieces,
        "boundary_edges": int((faces_of_edge == 1).sum()),
        "rims": _lines(_ends(keys[faces_of_edge == 1], mesh)),
        "nonmanifold_edges": int((faces_of_edge > 2).sum()),
        "euler_characteristic": euler,
        "watertight": watertight,
        "genus": pieces - euler // 2 if watertight else None,
        "inside_out": signed_volume(mesh) < 0 if watertight else None,
    }


def boundary_loops(mesh: Geometry) -> int:
    """The number of rims: lines of edges with one face. Rims that touch count as one."""
    return _lines(boundary_edges(mesh))


def boundary_edges(mesh: Geometry) -> np.ndarray:
    """The vertices (2, E) of the edges with one face."""
    keys, faces_of_edge = _edges(mesh)
    return _ends(keys[faces_of_edge == 1], mesh)


def _edges(mesh: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """A number for each edge (E,), from which _ends() finds its vertices, and how many faces it
    has (E,)."""
    faces = mesh.faces.astype(np.int64)
    after = np.roll(faces, -1, axis=1)
    keys = np.minimum(faces, after) * len(mesh.points) + np.maximum(faces, after)
    return np.unique(keys, return_counts=True)


def _ends(keys: np.ndarray, mesh: Geometry) -> np.ndarray:
    """The vertices (2, E) of edges with the numbers of _edges()."""
    return np.stack(np.divmod(keys, len(mesh.points)))


def _lines(ends: np.ndarray) -> int:
    """How many connected lines edges with vertices (2, E) form."""
    vertices, ends = np.unique(ends, return_inverse=True)
    ends = ends.reshape(2, -1)
    return len(np.unique(connected_sets(ends[0], ends[1], len(vertices))))


def volume(mesh: Geometry) -> float:
    """The volume in a closed mesh, negative where its faces look inwards."""
    return signed_volume(mesh) * float(np.ptp(mesh.points, axis=0).max()) ** 3


def signed_volume(mesh: Geometry) -> float:
    """The volume in a closed mesh, in cubes of its bounding box's longest side: negative where its
    faces look inwards."""
    low = mesh.points.min(axis=0)
    side = max((mesh.points.max(axis=0) - low).max(), TINY)
    blocks = np.array_split(mesh.faces, len(mesh.faces) // BLOCK + 1)
    volume = 0.0
    for faces in blocks:
        p, q, r = ((mesh.points[faces] - low) / side).transpose(1, 0, 2)
        volume += float(np.einsum("ij,ij->", p, np.cross(q, r))) / 6
    return volume


# ----------------------------------------------------------------------------- parts of the faces


def keep_faces(mesh: Geometry, keep: np.ndarray) -> Geometry:
    """The mesh of the faces in the mask keep (M,), without the vertices that none of them uses."""
    vertices, faces = np.unique(mesh.faces[keep], return_inverse=True)
    return mesh.part(vertices)._replace(faces=faces.reshape(-1, 3))


def large_components(mesh: Geometry, fraction: float) -> np.ndarray:
    """Mask (M,) of the faces in components with at least `fraction` of the whole area; with
    fraction 1, in the largest one."""
    label = components(mesh)
    area = np.bincount(label, face_areas(mesh))
    return area[label] >= min(fraction * area.sum(), area.max())


# ---------------------------------------------------------------------------------------- creases
#
# Half-edge k runs from corner k of the flattened faces to the next corner of the same face.


def split_creases(mesh: Geometry) -> tuple[Geometry, np.ndarray]:
    """A mesh whose vertices are doubled along edges sharper than CREASE, so that normals averaged
    at vertices keep those edges sharp; and each new vertex's old index (n,)."""
    normals = unit_vectors(scaled_face_normals(mesh.points[mesh.faces]))
    one, other = _shared_edges(mesh)
    soft = np.einsum("ij,ij->i", normals[one // 3], normals[other // 3]) >= CREASE
    if soft.all():
        return mesh, np.arange(len(mesh.points))
    corners = _same_corners(mesh.faces.ravel(), one[soft], other[soft])
    group = connected_sets(*corners, mesh.faces.size)
    _, first, vertex = np.unique(group, return_index=True, return_inverse=True)
    origin = mesh.faces.ravel()[first]
    return Geometry(mesh.points[origin], None, vertex.reshape(-1, 3)), origin


def _shared_edges(mesh: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """The two half-edges, (E,) and (E,), of each edge between two faces."""
    ends = np.stack([mesh.faces, np.roll(mesh.faces, -1, axis=1)], axis=-1).reshape(-1, 2)
    keys = ends.min(axis=1) * len(mesh.points) + ends.max(axis=1)
    order = np.argsort(keys, kind="stable")
    pairs = np.flatnonzero(np.diff(keys[order]) == 0)
    return order[pairs], order[pairs + 1]


def _same_corners(vertices: np.ndarray, one: np.ndarray, other: np.ndarray):
    """Pairs of corners, (2 E,) and (2 E,), that two half-edges (E,) of the same edge have in
    common; vertices (3 M,): the vertex of each corner."""
    one_end = _next_corner(one)
    other_end = _next_corner(other)
    same_way = vertices[one] == vertices[other]  # do both begin at the same vertex?
    at_begin = np.where(same_way, other, other_end)
    at_end = np.where(same_way, other_end, other)
    return np.concatenate([one, one_end]), np.concatenate([at_begin, at_end])


def _next_corner(corner: np.ndarray) -> np.ndarray:
    return corner - corner % 3 + (corner + 1) % 3


# ------------------------------------------------------------------------------------------- rays


def ray_scene(points: np.ndarray, faces: np.ndarray):
    """Open3D's scene of a mesh, points (N, 3) and faces (M, 3), to cast rays at; float32."""
    o3d = open3d()
    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(tensor(points), o3d.core.Tensor(faces.astype(np.uint32)))
    return scene


def tensor(array: np.ndarray):
    """An array as Open3D's float32 tensor of the same shape."""
    return open3d().core.Tensor(np.ascontiguousarray(array, np.float32))
