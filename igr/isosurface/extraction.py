"""The level set of a function f: R^3 -> R as a mesh, at a cost that grows with the surface.

The grid has n points along each axis, but f is evaluated only near the surface:

1. Lattices that get finer near the surface give a few cells in each piece of it (seeds.py).
2. From these seeds the surface is followed from cell to cell (tracing.py).
3. The cells with a sign change are marched, and the blocks' meshes are sewn to one (marching.py).

All of them take the values from one store (values.py), block by block. No array of the whole grid
exists.

The mesh is that of the whole grid, but for separate pieces without a seed. If f is nowhere much
steeper than a distance, these are small ones within four cells of another piece, between every
fourth grid point. In a steeper f, other small pieces may be missed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
import itertools
import time
from typing import NamedTuple

from helper import UserError
from igr.backend import memory
from igr.geometry.frames import Geometry
from igr.isosurface.grids import CORNERS, Grid
from igr.isosurface.marching import Patch, march, sew
from igr.isosurface.seeds import find_seeds
from igr.isosurface.tracing import Tracer
from igr.isosurface.values import CHUNK, Blocks, ValueStore, in_chunks

import numpy as np

BLOCK = 32  # cells a side of the blocks that are traced and marched together
STEEP = 2.0  # slopes above this make a function that is not a distance
MARGIN = 1e-4  # least |f - level| that scikit-image sees, in units of the grid's spacing
COARSE = 64  # points a side of the grid that tells how much memory a finer one takes
CELLS_PER_SQUARE = 1.5  # cells with a sign change for each square of a cell's side of the surface
BYTES_PER_CELL = 190  # at the peak of extract, measured on a sphere at a grid of 2,049


class Stats(NamedTuple):
    """What an extraction took."""

    grid: tuple[int, int, int]  # points along each axis
    evaluations: int  # points at which f was evaluated
    dense: int  # points of the whole grid
    cells: int  # with a sign change
    slope: float  # steepest change of f a unit of length between the seeds' lattice points
    open: bool  # the surface reaches a side of the box and is cut there
    seconds: float


def warnings_of(stats: Stats) -> list[str]:
    """Warnings, a line each, where an extraction may not show the whole surface."""
    found = []
    if stats.open:
        found.append("the surface reaches the side of the box and is open there; a larger "
                     "-vf (or --bounds) shows what lies beyond")
    if stats.slope > STEEP:
        found.append(f"f is not a distance (it changes by up to {stats.slope:.2g} a unit of "
                     "length): small separate pieces may be missing; --dense finds them")
    return found


def extract(f: Callable[[np.ndarray], np.ndarray], grid: Grid, level: float = 0.0, *,
            dense: bool = False, outward: float | None = None) -> tuple[Geometry, Stats]:
    """The mesh of {f = level} over a grid, in f's coordinates, and what it took.

    f maps float64 points (N, 3) to values (N,). dense: evaluate every grid point (the reference).
    outward: +1 where f grows from the inside to the outside, -1 where it falls, None to take the
    sign that f has on the grid's boundary.
    Raises UserError where f is not finite or nowhere crosses the level.
    """
    start = time.perf_counter()
    iso_value = np.float32(level)  # as f's values, so that all comparisons agree
    store = ValueStore(f, grid)
    tracer = Tracer(store, iso_value, BLOCK)
    slope = 0.0
    if not dense:
        seeds, slope = find_seeds(store, iso_value)
        tracer.start_from(seeds)
    patches, crossed = _march_all(whole_grid(grid) if dense else (), tracer)
    if not patches:
        raise UserError(f"f does not cross {level:g} inside the grid: there is no surface. "
                        "Train longer, or take another --level")
    points, faces, _ = sew(patches, BLOCK)
    is_open = _reaches_side(points, grid)
    if outward is None:
        outward = sign_outside(f, grid, level)
    if outward > 0:
        faces[:, [1, 2]] = faces[:, [2, 1]]  # the patches are wound towards larger f
    points *= grid.spacing
    points += grid.low
    stats = Stats(
        grid=tuple(grid.shape.tolist()), evaluations=store.evaluations,
        dense=int(grid.shape.prod()), cells=crossed, slope=slope, open=is_open,
        seconds=time.perf_counter() - start,
    )
    return Geometry(points, None, faces), stats


def part(f: Callable[[np.ndarray], np.ndarray], grid: Grid,
         owned: Callable[[np.ndarray], np.ndarray]) -> Patch:
    """The part of {f = 0} in some cells of a grid, wound towards larger f, in grid units.

    owned: which of grid cells (n, 3) these are, a mask (n,). Parts of one surface by owners that
    share all cells fit together: a vertex on a grid edge has the number of this edge in each, see
    marching.Patch. It may be empty. Raises UserError where f is not finite.
    """
    level = np.float32(0)
    tracer = Tracer(ValueStore(f, grid), level, BLOCK)
    tracer.start_from(find_seeds(tracer.store, level)[0])
    patches = _march_all((), tracer, owned)[0]
    return Patch(*sew(patches, BLOCK))


def whole_grid(grid: Grid) -> Iterator[tuple[Blocks, np.ndarray]]:
    """Blocks that tile the grid, a chunk at a time, with the places (n,) of all their cells."""
    axes = [np.arange(0, points - 1, BLOCK) for points in grid.shape]
    origins = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    for blocks in in_chunks(origins, BLOCK, CHUNK // 16):  # the cells take 16 times the memory
        yield blocks, np.flatnonzero(blocks.has_cells(grid))


def _march_all(chunks: Iterable[tuple[Blocks, np.ndarray]], tracer: Tracer,
               owned: Callable[[np.ndarray], np.ndarray] | None = None,
               ) -> tuple[list[Patch], int]:
    """The patches of all chunks and of the cells to which the surface leads, and how many cells
    have a sign change. owned: which cells are marched, see part(); None: all."""
    margin = MARGIN * tracer.store.grid.spacing
    patches = []
    count = 0
    for blocks, cells in itertools.chain(chunks, tracer.remaining()):
        crossed = tracer.crossed_cells(blocks, cells)
        tracer.store.end_chunk()
        count += np.count_nonzero(crossed)
        if owned:
            block, *index = np.nonzero(crossed)
            crossed[(block, *index)] = owned(blocks.origins[block] + np.stack(index, axis=1))
        patches += march(blocks, crossed, tracer.level, margin)
        del blocks, cells, crossed  # else they are held while the next chunk is traced
    return patches, count


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
    return BYTES_PER_CELL * CELLS_PER_SQUARE * area / grid.spacing**2


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
