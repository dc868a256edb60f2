"""Cut a mesh where it is far from its cloud: open ends, and what no point supports.

A network's surface is closed, or runs on to the side of the box, even where the scan is open. What
closes a hole may stay. Each vertex has a value that says how far it is from the cloud, and the mesh
is cut through its faces along the line {value = limit}. The value is a distance, or
distance_ratio(), which needs no number from the user. Mesh and cloud are in the same frame; any
frame will do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from helper import UserError
from igr.geometry import meshes, neighbours
from igr.geometry.frames import Geometry
from igr.geometry.meshes import TINY

import numpy as np

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

FAR = 1.5  # spacings of the points: farther from them than that, the surface is the network's own
NOISY_SPACING = 3.0  # the least spacing of noisy points, in standard deviations of their noise
LID = 3.0  # areas of a flat lid, that what closes a hole has at most: it may bulge
CLEARANCE = 0.01  # each part of a cut edge is at least this share of it: no face without area
SPACINGS = 4.0  # the spacing of the points is about this many medians of the distance to them
EDGES = (1.5, 16.0)  # narrowest and widest kernel of the average at the rim, in edges
STEPS = 2  # implicit ones, of the heat equation
RIM_EDGES = 8.0  # a rim is smoothed over so many edges of the mesh
RIM_SHARE = 0.03  # but over that share of its length at most, so that small rims keep their size
NEEDLE = 1e-6  # a triangle has at least that part of its longest edge's square as area

# ---------------------------------------------------------------------------------------- distance


def distance_ratio(vertices: np.ndarray, cloud: np.ndarray, neighbour: int = 10,
                   least: float = 0.0) -> np.ndarray:
    """The distance (N,) of vertices (N, 3) to a cloud (P, 3), in spacings of the cloud.

    That is the distance to the nearest point over the spacing at this point: a ratio without a
    unit that follows the density. Here the spacing is the whole distance to the neighbour of number
    `neighbour`, see neighbours.kth_around. Equal points count once.

    least: smallest spacing (units of the cloud); under noise, a few times the noise
    """
    return ratio_to(neighbours.tree_of(cloud[neighbours.distinct(cloud)[0]]), vertices, neighbour,
                    least)


def ratio_to(tree: cKDTree, places: np.ndarray, neighbour: int = 10,
             least: float = 0.0) -> np.ndarray:
    """distance_ratio() of places (N, 3) to the points of a tree, of which none are equal."""
    distance, nearest = neighbours.search(tree, places)
    spacing = neighbours.kth_around(tree, nearest, min(neighbour, tree.n - 1))
    return distance / np.maximum(spacing, max(least, TINY))


def closing_holes(mesh: Geometry, values: np.ndarray, limit: float, distance: np.ndarray,
                  hole: float) -> tuple[np.ndarray, list[float]]:
    """Tell what closes a hole in the points from what runs on where they end.

    mesh: with values (N,), as trim() takes them, and distances (N,) to the cloud; hole: diameter of
    the largest hole that is closed, in the distances' unit. A region above the limit closes a hole
    if none of it is farther from the points than half of that, as a flat lid over a round hole is
    in its middle, if it is not much larger than that lid, as what runs behind a whole scan is, and
    if it has no rim of its own, as what runs to the side of a box has.

    Returns the values, at most `limit` in these regions, and how far from the points each is.
    """
    region = _regions(mesh.faces, values > limit)
    deepest = np.zeros(len(values))
    np.maximum.at(deepest, region, distance)
    deepest[region[np.unique(meshes.boundary_edges(mesh))]] = np.inf
    size = _region_areas(mesh.faces, values > limit, meshes.face_areas(mesh))
    small = size <= LID * np.pi * (hole / 2) ** 2
    closes = (values > limit) & (deepest[region] <= hole / 2) & small
    return (np.where(closes, limit, values),
            [float(depth) for depth in np.unique(deepest[region[closes]])])


def far_share(mesh: Geometry, values: np.ndarray, limit: float) -> float:
    """The share of a mesh's area where the values (N,) at its vertices are above limit."""
    areas = meshes.face_areas(mesh)
    far = areas * (1 - _share_below(mesh.faces, values, limit))
    return float(far.sum() / max(areas.sum(), TINY))


# ----------------------------------------------------------------------------------------- cutting


def trim(mesh: Geometry, values: np.ndarray, limit: float,
         smallest: float = 0.001) -> tuple[Geometry, str]:
    """The part of a mesh where the values are at most limit, and a text that says what went.

    values: (N,) at the vertices, at least 0: a distance to the cloud in any unit
    limit: above 0
    smallest: what has less than this share of the area below the limit is no open end if it is
        above the limit, and stays; if it is a component below the limit, it goes

    The values are averaged near the limit, so the rim is smooth. The mesh returned has no normals.
    Raises UserError where nothing is left.
    """
    areas = meshes.face_areas(mesh)
    values = _without_specks(mesh.faces, areas, values, limit, smallest)
    values = _smoothed(mesh, values, limit)
    values = _without_specks(mesh.faces, areas, values, limit, smallest)
    kept = cut(mesh, values, limit)
    if len(kept.faces) == 0:
        raise UserError(f"the whole mesh is beyond the limit of {limit:g}: nothing would be left")
    share = far_share(mesh, values, limit)
    pieces = _count(mesh.faces, values > limit)
    return kept, (f"cut off {100 * share:.2g} % of the area; pieces: {pieces}, "
                  f"rims now: {meshes.boundary_loops(kept)}")


def cut(mesh: Geometry, values: np.ndarray, limit: float) -> Geometry:
    """The part of a mesh where a function is at most limit, without normals; it may be empty.

    values: (N,) of the function at the vertices, finite; it is linear in each face

    Faces that the limit crosses are split, with one new vertex an edge. So a manifold remains one,
    and each new rim is one closed line or ends at the rims of before.
    """
    below = values <= limit
    corners_below = below[mesh.faces].sum(axis=1)
    whole = mesh.faces[corners_below == 3]
    one = _with_first(mesh.faces[corners_below == 1], below)  # a triangle of it stays
    two = _with_first(mesh.faces[corners_below == 2], ~below)  # a quadrangle of it stays
    crossed = [one[:, [0, 1]], one[:, [0, 2]], two[:, [1, 0]], two[:, [2, 0]]]  # from below upwards
    ends = np.concatenate(crossed).astype(np.int64)
    keys, new = np.unique(ends[:, 0] * len(values) + ends[:, 1], return_inverse=True)
    low, high = np.divmod(keys, len(values))
    t = _crossing(values[low], values[high], limit)[:, None]
    points = np.concatenate([mesh.points, (1 - t) * mesh.points[low] + t * mesh.points[high]])
    new = len(values) + new.reshape(-1)
    p, q, r, s = np.split(new, np.cumsum([len(one), len(one), len(two)]))
    faces = np.concatenate([
        whole,
        np.stack([one[:, 0], p, q], axis=1),
        np.stack([two[:, 1], two[:, 2], s], axis=1),
        np.stack([two[:, 1], s, r], axis=1),
    ])
    return meshes.keep_faces(Geometry(points, None, faces), np.ones(len(faces), bool))


def _with_first(faces: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """faces (M, 3), each turned so that a vertex in the mask chosen (N,) comes first."""
    start = chosen[faces].argmax(axis=1)[:, None]
    return np.take_along_axis(faces, (start + np.arange(3)) % 3, axis=1)


def _crossing(here: np.ndarray, there: np.ndarray, limit: float) -> np.ndarray:
    """Where the limit is between vertices with values here (E,) and there (E,), one of them above
    it: 0 here, 1 there."""
    return np.clip((limit - here) / (there - here), CLEARANCE, 1 - CLEARANCE)


# -------------------------------------------------------------------------------- rims and regions


def _regions(faces: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Labels (N,) of the vertices: those in the mask chosen (N,) have the same label where edges
    of faces (M, 3) between chosen vertices connect them."""
    faces = faces[chosen[faces].any(axis=1)]
    edges = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    edges = edges[chosen[edges].all(axis=1)]
    return meshes.connected_sets(edges[:, 0], edges[:, 1], len(chosen))


def _count(faces: np.ndarray, chosen: np.ndarray) -> int:
    """The number of regions of the mask chosen (N,) that faces (M, 3) touch."""
    some = faces[chosen[faces].any(axis=1)]
    return len(np.unique(_regions(faces, chosen)[_with_first(some, chosen)[:, 0]]))


def _region_areas(faces: np.ndarray, chosen: np.ndarray, areas: np.ndarray) -> np.ndarray:
    """The area (N,) of each vertex's region in the mask chosen (N,); 0 for the other vertices.

    areas: (M,) the part of each face of faces (M, 3) that belongs to its chosen corners
    """
    region = _regions(faces, chosen)
    some = chosen[faces].any(axis=1)
    corner = _with_first(faces[some], chosen)[:, 0]
    return chosen * np.bincount(region[corner], areas[some], len(chosen))[region]


def _share_below(faces: np.ndarray, values: np.ndarray, limit: float) -> np.ndarray:
    """The share (M,) of the area of each of faces (M, 3) where values (N,) are at most limit."""
    below = values <= limit
    corners_below = below[faces].sum(axis=1)
    share = corners_below / 3
    for n, lonely in ((1, below), (2, ~below)):
        corners = values[_with_first(faces[corners_below == n], lonely)]
        triangle = _crossing(corners[:, 0], corners[:, 1], limit)
        triangle *= _crossing(corners[:, 0], corners[:, 2], limit)
        share[corners_below == n] = triangle if n == 1 else 1 - triangle
    return share


def _without_specks(faces: np.ndarray, areas: np.ndarray, values: np.ndarray, limit: float,
                    smallest: float) -> np.ndarray:
    """The values (N,), moved across the limit in small regions: first in those above it, then in
    those below, except the largest. A small component above it is dropped by the second move.

    smallest: share of the area below the limit; areas: (M,) of the faces (M, 3)
    """
    below = areas * _share_below(faces, values, limit)
    least = smallest * below.sum()
    size = _region_areas(faces, values > limit, areas - below)
    values = np.where((values > limit) & (size < least), limit, values)
    below = areas * _share_below(faces, values, limit)
    size = _region_areas(faces, values <= limit, below)
    return np.where((values <= limit) & (size < min(least, size.max())), 2 * limit, values)


# -------------------------------------------------------------------------------- the smooth rim


def _smoothed(mesh: Geometry, values: np.ndarray, limit: float) -> np.ndarray:
    """The values (N,), averaged near the limit over the spacing of the points, so that the rim does
    not bulge around each point at the edge, and over EDGES at least, against zigzags.

    Values are cut at twice the limit: a jump from small to large ones then keeps its place.
    """
    values = np.minimum(values, 2 * limit)
    below = values <= limit
    across = mesh.faces[below[mesh.faces].sum(axis=1) % 3 > 0]
    if len(across) == 0:
        return values
    corners = mesh.points[across]
    change = min(SPACINGS * np.median(values[below]), limit)
    width = _width(corners, values[across], change)
    middles = neighbours.tree_of(corners.mean(axis=1))
    near = neighbours.search(middles, mesh.points, within=4 * width)[0] < np.inf
    vertices, faces = np.unique(mesh.faces[near[mesh.faces].any(axis=1)], return_inverse=True)
    part = Geometry(mesh.points[vertices], None, faces.reshape(-1, 3))
    values[vertices] = _averaged(part, values[vertices], width)
    return values


def _width(corners: np.ndarray, values: np.ndarray, change: float) -> float:
    """The length over which values (M, 3) at corners (M, 3, 3) of faces change by `change`, within
    EDGES edges."""
    cotangents, doubled = _cotangents(corners)
    rise = np.roll(values, -1, axis=1) - np.roll(values, 1, axis=1)  # along the opposite edges
    slope = np.sqrt(np.median((cotangents * rise**2).sum(axis=1) / doubled))
    edge = np.sqrt(doubled.mean())
    return float(np.clip(change / max(slope, TINY), EDGES[0] * edge, EDGES[1] * edge))


def _averaged(mesh: Geometry, values: np.ndarray, width: float) -> np.ndarray:
    """Values (N,) averaged over the mesh with a kernel of standard deviation `width`.

    These are implicit steps of the heat equation with linear elements. They keep linear functions
    on a plane whatever its faces; the mean over a vertex's neighbours makes zigzags of them.
    """
    from scipy.sparse import diags

    mass, stiffness = _elements(mesh)
    system = diags(mass) + width**2 / (2 * STEPS) * stiffness
    for _ in range(STEPS):
        values = _solved(system, mass * values, values)
    return values


def _elements(mesh: Geometry) -> tuple:
    """The masses (N,) of the vertices and the stiffness (N, N, sparse) of linear elements."""
    n = len(mesh.points)
    cotangents, doubled = _cotangents(mesh.points[mesh.faces])
    ends = np.roll(mesh.faces, -1, axis=1).ravel(), np.roll(mesh.faces, 1, axis=1).ravel()
    mass = np.bincount(mesh.faces.ravel(), np.repeat(doubled / 6, 3), n)
    return mass, _stiffness(ends, cotangents.ravel() / 2, n)


def _stiffness(ends, weights: np.ndarray, n: int):
    """The matrix (n, n, sparse) of the form  sum_e w_e (x_i - x_j)^2  over edges (2, E)."""
    from scipy.sparse import coo_matrix, diags

    one_way = coo_matrix((weights, (ends[0], ends[1])), shape=(n, n))
    both_ways = (one_way + one_way.T).tocsr()
    return diags(np.asarray(both_ways.sum(axis=1)).ravel()) - both_ways


def _solved(system, right: np.ndarray, start: np.ndarray) -> np.ndarray:
    """x (n,) of system x = right, by conjugate gradients from a start (n,)."""
    from scipy.sparse import diags
    from scipy.sparse.linalg import cg

    scaling = diags(1 / np.maximum(system.diagonal(), TINY))
    return cg(system, right, x0=start, M=scaling, maxiter=500, atol=0.0)[0]


def _cotangents(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cotangents (M, 3) of the angles of triangles with corners (M, 3, 3), and twice the areas
    (M,). A triangle without area counts as a thin one."""
    to_next = np.roll(corners, -1, axis=1) - corners
    to_last = np.roll(corners, 1, axis=1) - corners
    doubled = np.linalg.norm(meshes.scaled_face_normals(corners), axis=1)
    longest = (to_next**2).sum(axis=2).max(axis=1)
    doubled = np.maximum(doubled, np.maximum(NEEDLE * longest, TINY))
    return (to_next * to_last).sum(axis=2) / doubled[:, None], doubled


def smooth_rims(mesh: Geometry, fixed: np.ndarray) -> Geometry:
    """A mesh whose rims are smoothed along themselves, within the surface; what is near them moves
    with them. Same faces, no normals. Vertices in the mask fixed (N,) stay.

    Each rim takes an implicit step S of the heat equation along itself, and a second one that gives
    back what the first took too much: 2 S - S^2 leaves a circle its size to the second order.
    """
    ends = meshes.boundary_edges(mesh)
    ends = ends[:, ~fixed[ends].all(axis=0)]
    if ends.size == 0:
        return mesh._replace(normals=None)
    vertices, ends = np.unique(ends, return_inverse=True)
    edge = np.sqrt(2 * np.median(meshes.face_areas(mesh)))
    shift = _along_rims(mesh.points[vertices], ends.reshape(2, -1), RIM_EDGES * edge)
    normals = meshes.vertex_normals(mesh)[vertices]
    shift -= (shift * normals).sum(axis=1, keepdims=True) * normals
    shift[fixed[vertices]] = 0
    shift = _carried(mesh, vertices, shift, RIM_EDGES * edge)
    shift[fixed] = 0
    return meshes.moved(mesh._replace(normals=None), shift)


def _along_rims(points: np.ndarray, ends: np.ndarray, width: float) -> np.ndarray:
    """The shifts (n, 3) that smooth lines of points (n, 3) with edges (2, E) over a width."""
    from scipy.sparse import diags
    from scipy.sparse.linalg import splu

    n = len(points)
    lengths = np.maximum(np.linalg.norm(points[ends[0]] - points[ends[1]], axis=1), TINY)
    rim = meshes.connected_sets(ends[0], ends[1], n)[ends[0]]
    widths = np.minimum(width, RIM_SHARE * np.bincount(rim, lengths))[rim]
    mass = np.bincount(ends.ravel(), np.tile(lengths / 2, 2), n)
    step = splu((diags(mass) + _stiffness(ends, widths**2 / 2 / lengths, n)).tocsc())

    def smoothed(values: np.ndarray) -> np.ndarray:
        return step.solve(mass[:, None] * values)

    once = smoothed(points)
    return once + smoothed(points - once) - points


def _carried(mesh: Geometry, vertices: np.ndarray, shift: np.ndarray, width: float) -> np.ndarray:
    """Shifts (N, 3) of a mesh's points that are given (n, 3) at some vertices (n,) and fade out
    over the surface: the solution of  u = width^2 Laplace u  with these boundary values."""
    from scipy.sparse import diags

    mass, stiffness = _elements(mesh)
    system = (diags(mass) + width**2 * stiffness).tocsr()
    inner = np.ones(len(mesh.points), bool)
    inner[vertices] = False
    across = system[inner][:, vertices]
    within = system[inner][:, inner]
    shifts = np.zeros(mesh.points.shape)
    shifts[vertices] = shift
    for axis in range(3):
        shifts[inner, axis] = _solved(within, -across @ shift[:, axis], np.zeros(inner.sum()))
    return shifts
