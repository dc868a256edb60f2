"""March the blocks one by one, and sew their meshes to one.

The triangles in a cell are scikit-image's (Lewiner's tables). Each vertex knows the grid edge on
which it lies, so vertices of two blocks on the same edge are joined exactly, without a tolerance.
"""

from __future__ import annotations

from typing import NamedTuple

from igr.isosurface.grids import keys_of
from igr.isosurface.values import Blocks

import numpy as np

FACES_AT_A_TIME = 1 << 20  # renumbered together: keeps the memory for it small


class Patch(NamedTuple):
    """The mesh of one block."""

    vertices: np.ndarray  # (n, 3) float64, grid units: a grid point is at its index
    faces: np.ndarray  # (m, 3) int32, wound towards larger f
    edges: np.ndarray  # (n,) int64, 4 keys_of(start of the vertex's edge) + axis; -1: in a cell


def march(blocks: Blocks, crossed: np.ndarray, level: np.float32, margin: float) -> list[Patch]:
    """A patch of {f = level} for each block with cells to march.

    crossed (B, m, m, m): mask of these cells. The values of f at their corners must be known.
    margin: see march_block.
    """
    patches = []
    for b in np.flatnonzero(crossed.any(axis=(1, 2, 3))):
        values = blocks.values[b].astype(np.float64) - np.float64(level)
        patches.append(march_block(values, crossed[b], blocks.origins[b], margin))
    return patches


def march_block(values: np.ndarray, crossed: np.ndarray, origin: np.ndarray,
                margin: float) -> Patch:
    """The zero set of `values` in the crossed cells of one block.

    values (m + 1, m + 1, m + 1) float64; crossed (m, m, m) mask; origin (3,): grid index of
    values[0, 0, 0].
    scikit-image gets values that keep `margin` away from 0. So each vertex keeps away from the grid
    points, and its coordinates show on which edge it lies. Its place on the edge is then computed
    from the values themselves, in float64.
    """
    from skimage.measure import marching_cubes

    mask = np.zeros(values.shape, bool)
    mask[1:, 1:, 1:] = crossed  # scikit-image looks a cell up at its upper corner
    pushed = np.where(values > 0, margin, -margin)
    apart = np.where(np.abs(values) < margin, pushed, values)
    vertices, faces, _, _ = marching_cubes(
        apart, 0.0, mask=mask, gradient_direction="ascent", allow_degenerate=True
    )
    vertices = vertices.astype(np.float64)
    lower = np.floor(vertices).astype(np.int64)
    off_grid = vertices > lower
    on_edge = np.flatnonzero(off_grid.sum(axis=1) == 1)  # the others are in the middle of a cell
    axis = off_grid[on_edge].argmax(axis=1)
    start = lower[on_edge]
    end = start + np.eye(3, dtype=int)[axis]
    v0 = values[tuple(start.T)]
    v1 = values[tuple(end.T)]
    vertices[on_edge, axis] = start[np.arange(len(axis)), axis] + v0 / (v0 - v1)
    edges = np.full(len(vertices), -1, np.int64)
    edges[on_edge] = 4 * keys_of(start + origin) + axis
    return Patch(vertices + origin, faces.astype(np.int32), edges)


def sew(patches: list[Patch], size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One mesh of all patches: vertices (N, 3) float64 in grid units, faces (M, 3), and the edges
    (N,) of the vertices, see Patch.

    Vertices on the same grid edge become one; only those in the side of a block can have a twin.
    size: cells along a block's side. The list is emptied, which frees memory on the way.
    """
    vertices, faces, edges = _concatenate(patches)
    on_side = np.flatnonzero(_on_block_side(vertices, edges, size))
    _, first, copy = np.unique(edges[on_side], return_index=True, return_inverse=True)
    kept = np.ones(len(vertices), bool)
    kept[on_side] = False
    kept[on_side[first]] = True
    number = np.cumsum(kept, dtype=faces.dtype) - 1
    number[on_side] = number[on_side[first]][copy.reshape(-1)]
    for start in range(0, len(faces), FACES_AT_A_TIME):
        some = slice(start, start + FACES_AT_A_TIME)
        faces[some] = number[faces[some]]
    return vertices[kept], faces, edges[kept]


def _concatenate(patches) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices, faces and edges of all patches in their order; empties the list."""
    v = sum(len(patch.vertices) for patch in patches)
    f = sum(len(patch.faces) for patch in patches)
    vertices = np.empty((v, 3))
    edges = np.empty(v, np.int64)
    faces = np.empty((f, 3), np.int32 if v < 2**31 else np.int64)
    while patches:  # from the last on; each is freed when it has been copied
        patch = patches.pop()
        v -= len(patch.vertices)
        f -= len(patch.faces)
        vertices[v : v + len(patch.vertices)] = patch.vertices
        edges[v : v + len(patch.vertices)] = patch.edges
        faces[f : f + len(patch.faces)] = patch.faces + v
    return vertices, faces, edges


def _on_block_side(vertices, edges, size) -> np.ndarray:
    """Mask (n,) of the vertices on a grid edge and in a side of a block."""
    in_side = (vertices % size == 0).any(axis=1)
    return in_side & (edges >= 0)
