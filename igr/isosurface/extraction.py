"""The level set of a function f: R^3 -> R as a mesh, at a cost that grows with the surface.

The grid has n points along each axis, but f is evaluated only near the surface:

1. An octree finds the cells that may hold a zero of f - level (octree.py).
2. The surface is followed across every face with a sign change into cells that the octree dropped,
   so a component that was touched is complete (tracing.py).
3. At places all over the grid f's slope is measured. Where it is too steep for the octree, the
   surface is looked for where value and slope say that it is, and followed from there.
4. The cells with a sign change are marched, and the blocks' meshes are sewn to one (marching.py).

All of them take the values from one store (values.py), block by block. No array of the whole grid
exists.

The mesh is that of the whole grid if f is nowhere much steeper than a distance (or than
`lipschitz`). No few values can vouch for that: a steep dent in which no place of 3. lies is not
seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import itertools
import math
import time
from typing import NamedTuple

from helper import UserError
from igr.backend import memory
from igr.geometry.frames import Geometry
from igr.isosurface.grids import CORNERS, Grid
from igr.isosurface.marching import Patch, march, sew
from igr.isosurface.seeds import seeds
from igr.isosurface.tracing import Tracer
from igr.isosurface.values import CHUNK, Blocks, ValueStore, in_chunks

import numpy as np

BLOCK = 32  # cells a side of the blocks that are refined and marched together
STEEP = 1.5  # slopes above this, times `lipschitz`, are not left to the octree
PLACES = 2048  # at least, where the slope is measured; fewer in a grid of few points
MARGIN = 1e-4  # least |f - level| that scikit-image sees, in units of the grid's spacing
COARSE = 64  # points a side of the grid that tells how much memory a finer one takes
CELLS_PER_SQUARE = 1.5  # cells with a sign change for each square of a cell's side of the surface
BYTES_PER_CELL = 150  # at the peak of extract, measured on a sphere at a grid of 1,025
BYTES_PER_ROOT_POINT = 8  # values and masks of the octree's root


class Stats(NamedTuple):
    """What an extraction took."""

    grid: tuple[int, int, int]  # points along each axis
    evaluations: int  # points at which f was evaluated
    dense: int  # points of the whole grid
    levels: int  # of the octree; 0 if dense
    cells: int  # with a sign change
    followed: int  # cells that were found only by following the surface
    slope: float  # steepest change of f a unit of length that was seen
    open: bool  # the surface reaches a side of the box and is cut there
    seconds: float


def warnings_of(stats: Stats, lipschitz: float = 1.0) -> list[str]:
    """Warnings, a line each, where an extraction with this bound may not show the whole surface."""
    found = []
    if stats.open:
        found.append("the surface reaches the side of the box and is open there; a larger "
                     "-vf (or --bounds) shows what lies beyond")
    if stats.followed > 0.01 * stats.cells or stats.slope > 2 * lipschitz:
        found.append(f"f is not a distance (it changes by up to {stats.slope:.2g} a unit of "
                     f"length; {stats.followed} cells were found only by following the surface): "
                     "small separate pieces may be missing; use --lipschitz "
                     f"{max(2, math.ceil(stats.slope))} or --dense to find them")
    return found


def extract(f: Callable[[np.ndarray], np.ndarray], grid: Grid, level: float = 0.0, *,
            dense: bool = False, lipschitz: float = 1.0,
            outward: float | None = None, probe: bool = True) -> tuple[Geometry, Stats]:
    """The mesh of {f = level} over a grid, in f's coordinates, and what it took.

    f maps float64 points (N, 3) to values (N,). The octree's coarse cells may reach up to a grid's
    length beyond the grid, and f is evaluated there, too.
    dense: evaluate every grid point (the reference). lipschitz: how much f may change a unit of
    length. outward: +1 where f grows from the inside to the outside, -1 where it falls, None to
    take the sign that f has on the grid's boundary. probe: look for the surface in steep places; a
    training's coarse meshes do without.
    Raises UserError where f is not finite or nowhere crosses the level.
    """
    start = time.perf_counter()
    iso_value = np.float32(level)  # as f's values, so that all comparisons agree
    size = min(BLOCK, 1 << int(grid.shape.max() - 2).bit_length())
    store = ValueStore(f, grid)
    tracer = Tracer(store, iso_value, size)
    slope = 0.0
    if not dense:
        cells, slope = seeds(store, iso_value)
        tracer.start_from(cells)
    blocks = whole_grid(grid, size) if dense else ()
    patches, crossed = _march_all(blocks, store, tracer, iso_value)
    if not patches:
        raise UserError(f"f does not cross {level:g} inside the grid: there is no surface. "
                        "Train longer, or take another --level")
    points, faces = sew(patches, size)
    is_open = _reaches_side(points, grid)
    if outward is None:
        outward = sign_outside(f, grid, level)
    if outward > 0:
        faces[:, [1, 2]] = faces[:, [2, 1]]  # the patches are wound towards larger f
    points *= grid.spacing
    points += grid.low
    stats = Stats(
        grid=tuple(grid.shape.tolist()), evaluations=store.evaluations,
        dense=int(grid.shape.prod()), levels=0, cells=crossed,
        followed=0, slope=slope, open=is_open,
        seconds=time.perf_counter() - start,
    )
    return Geometry(points, None, faces), stats


def whole_grid(grid: Grid, size: int) -> Iterator[tuple[Blocks, np.ndarray]]:
    """Blocks that tile the grid, a chunk at a time, with all their cells (n, 4)."""
    axes = [np.arange(0, points - 1, size) for points in grid.shape]
    origins = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    for blocks in in_chunks(origins, size, CHUNK // 16):  # the cells take 16 times the memory
        yield blocks, blocks.cells(grid)


def near_surface(octree: Octree, size: int) -> Iterator[tuple[Blocks, np.ndarray]]:
    """Blocks near the surface, a chunk at a time, with their cells (n, 4) that may hold a zero."""
    for blocks in in_chunks(octree.candidate_blocks(size), size):
        yield blocks, octree.candidate_cells(blocks, size)


def steep_places(store: ValueStore, level: np.float32,
                 limit: float) -> tuple[np.ndarray, float]:
    """Grid cells (n, 3) where the surface should be by f at places where f is steeper than limit
    (they may lie beyond the grid), and the steepest slope of all places.

    From a place with value v and gradient g one step of Newton's method leads to the surface.
    """
    n = int(store.grid.shape.max())
    count = max(n**2 // 32, min(PLACES, int(store.grid.shape.prod()) // 64))
    # Roberts' sequence: evenly spread, for any number; powers of the root of x^4 = x + 1
    steps = 1.2207440846 ** -np.arange(1.0, 4.0)
    sites = (0.5 + np.arange(count)[:, None] * steps) % 1
    sites = (sites * (store.grid.shape - 1)).astype(np.int64)
    corners = sites[:, None] + np.concatenate([np.zeros((1, 3), int), np.eye(3, dtype=int)])
    values = store.evaluate(corners.reshape(-1, 3)).reshape(-1, 4) - level
    values = values.astype(np.float64)
    gradient = values[:, 1:] - values[:, :1]  # a grid's spacing
    slope = np.linalg.norm(gradient, axis=1) / store.grid.spacing
    steep = slope > limit
    gradient = gradient[steep]
    feet = sites[steep] - values[steep, :1] * gradient / (gradient**2).sum(axis=1, keepdims=True)
    lowest = np.floor(np.clip(feet, -2, n) - 0.5).astype(np.int64)
    return (lowest[:, None] + CORNERS).reshape(-1, 3), float(slope.max(initial=0))


def _march_all(chunks, store: ValueStore, tracer: Tracer,
               iso_value: np.float32) -> tuple[list[Patch], int]:
    """The patches of all chunks and of the cells to which the surface leads from there, and how
    many cells have a sign change."""
    patches = []
    cells = 0
    for blocks, block_cells in itertools.chain(chunks, tracer.remaining()):
        crossed = tracer.crossed_cells(blocks, block_cells)
        store.end_chunk()
        cells += np.count_nonzero(crossed)
        patches += march(blocks, crossed, iso_value, MARGIN * store.grid.spacing)
        del blocks, block_cells, crossed  # else they are held while the next chunk is refined
    return patches, cells


def _reaches_side(points: np.ndarray, grid: Grid) -> bool:
    """Whether points (n, 3), in grid units, reach a side of the grid's box."""
    low = points.min(axis=0)
    high = points.max(axis=0)
    return bool((low < 1e-3).any() or (high > grid.shape - 1 - 1e-3).any())


def sign_outside(f: Callable[[np.ndarray], np.ndarray], grid: Grid, level: float = 0.0) -> float:
    """+1 or -1: the sign of f - level outside the surface, if the grid's box holds all of it.

    It is the sign at most of 14 points: the box's eight corners and the centres of its six sides.
    """
    centers = [np.where(np.arange(3) == axis, side, 0.5) for axis in range(3) for side in (0, 1)]
    index = np.concatenate([CORNERS, np.array(centers)]) * (grid.shape - 1)
    values = np.asarray(f(grid.points(index)), np.float64).reshape(-1)
    return 1.0 if np.median(values) > level else -1.0


# ------------------------------------------------------------------------------------------- memory


def memory_of_area(area: float, grid: Grid) -> float:
    """About how many bytes extract takes for a surface of so large an area, in f's units."""
    blocks = 1 << int((grid.shape.max() - 2) // BLOCK).bit_length()  # along the octree's root
    cells = CELLS_PER_SQUARE * area / grid.spacing**2
    return BYTES_PER_ROOT_POINT * float(blocks) ** 3 + BYTES_PER_CELL * cells


def memory_needed(f: Callable[[np.ndarray], np.ndarray], grid: Grid, level: float = 0.0) -> float:
    """About how many bytes extract takes, from the surface on a coarse grid over the same box; 0
    for a grid that is not much finer itself, or without a surface there."""
    if grid.shape.max() < 4 * COARSE:
        return 0.0
    coarse = Grid.of(grid.low, grid.points(grid.shape - 1), COARSE)
    try:
        cells = extract(f, coarse, level, outward=1)[1].cells
    except UserError:
        return 0.0
    return memory_of_area(cells * coarse.spacing**2 / CELLS_PER_SQUARE, grid)


def check_memory(f: Callable[[np.ndarray], np.ndarray], grid: Grid, level: float = 0.0) -> None:
    """Raises UserError where the level set on the grid would not fit into the memory."""
    memory.check(memory_needed(f, grid, level), f"a grid of {grid.shape.max()} points a side",
                 "take a smaller --grid-size, or --bounds")
