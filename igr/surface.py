"""The level set of a function f: R^3 -> R as a mesh, at a cost that grows with the surface.

The grid has n points along each axis, but f is evaluated only near the surface: an octree is cut
down from coarse cells, and a cell is dropped when f's values at two of its opposite corners show
that no zero fits into it. Behind the finest level the surface is followed across every face with a
sign change into cells that were dropped, so a component that was touched is complete. What is left
is marched (scikit-image's Lewiner tables) and sewn together. No array of the whole grid exists.

The drop test. Let f change by at most L a unit of length and let k, c be opposite corners of a
cubic cell of side a. Then no zero lies within r_k = |f(k)| / L of k, nor within r_c of c. The two
balls cover the cell when r_c > d(r_k), where d(r) is the distance from c of the farthest point of
the cell that is r away from k:

    r <= a:          d^2 = (a - r)^2 + 2 a^2
    r <= sqrt(2) a:  d^2 = (a - sqrt(r^2 - a^2))^2 + a^2
    r <= sqrt(3) a:  d^2 = (a - sqrt(r^2 - 2 a^2))^2,   beyond: 0

c is the centre of the cell's parent, so every value is one of the grid's own and serves again.
L is `lipschitz` (1: the eikonal equation) times the steepest slope seen in the parent, if above 1.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from helper import UserError
from igr.frames import Geometry

import numpy as np

BLOCK = 32  # cells a side of the blocks that are refined and marched together
CHUNK = 512  # blocks that are held at the same time: 75 MB of values


class Stats(NamedTuple):
    """What an extraction took."""

    grid: tuple[int, int, int]  # points along each axis
    evaluations: int  # of f, at points
    dense: int  # points of the whole grid
    levels: int  # of the octree
    cells: int  # with a sign change
    followed: int  # of the cells looked at, found only by following the surface
    slope: float  # steepest change of f a unit of length that was seen
    open: bool  # the surface reaches a side of the box and is cut there
    seconds: float


class Grid(NamedTuple):
    """Grid points low + spacing (i, j, k), 0 <= i, j, k < shape."""

    low: np.ndarray  # (3,)
    spacing: float
    shape: np.ndarray  # (3,) int64, points along each axis

    @classmethod
    def of(cls, low, high, n: int) -> Grid:
        """n points along the longest side of the box [low, high], as many as fit along the others.

        Raises UserError for n < 8 and for a box that is turned inside out.
        """
        low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
        if n < 8:
            raise UserError(f"a grid of {n} points a side is too coarse; take 8 or more")
        if not (high > low).all():
            raise UserError(f"the box from {low.tolist()} to {high.tolist()} is inside out")
        spacing = (high - low).max() / (n - 1)
        cells = np.ceil((high - low) / spacing * (1 - 1e-9)).astype(np.int64)
        return cls(low, spacing, cells + 1)

    def points(self, index: np.ndarray) -> np.ndarray:
        return self.low + self.spacing * index


def doubts(stats: Stats) -> list:
    """Warnings, a line each, where an extraction may not show the whole surface."""
    found = []
    if stats.open:
        found.append("the surface reaches the side of the box and is open there; a larger "
                     "-vf (or --bounds) shows what lies beyond")
    if stats.followed > 0.01 * stats.cells or stats.slope > 2:
        found.append(f"f is no distance (it changes by up to {stats.slope:.2g} a unit of length; "
                     f"{stats.followed} cells were found only by following the surface): small "
                     "separate parts may be missing; --lipschitz 2 or --dense makes sure")
    return found


def extract(f, grid: Grid, level: float = 0.0, *, dense=False, lipschitz=1.0, outward=None):
    """The mesh of {f = level} over a grid, in f's coordinates, and Stats.

    f maps float64 points (N, 3) to values (N,); the octree's coarse cells may also ask for it up to
    a grid's length beyond the grid.
    dense: evaluate every grid point (the reference). outward: +1 where f grows from the inside to
    the outside, -1 where it falls, None to take the sign that f has on the grid's boundary.
    Raises UserError where f is not finite or nowhere crosses the level.
    """
    start = time.perf_counter()
    work = _Extraction(f, grid, level, lipschitz)
    blocks = work.all_blocks() if dense else work.candidate_blocks()
    work.march(blocks, dense)
    points, faces = work.sewn()
    ends = points.min(axis=0), points.max(axis=0)
    cut = bool((ends[0] < 1e-3).any() or (ends[1] > grid.shape - 1 - 1e-3).any())
    if outward is None:
        outward = sign_outside(f, grid, level)
    if outward > 0:
        faces[:, [1, 2]] = faces[:, [2, 1]]  # "ascent" winds them towards larger f
    points *= grid.spacing
    points += grid.low
    stats = Stats(tuple(grid.shape.tolist()), work.evaluations, int(grid.shape.prod()), work.levels,
                  work.cells, work.followed, work.slope, cut, time.perf_counter() - start)
    return Geometry(points, None, faces), stats


CORNERS = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), axis=-1).reshape(8, 3)
# the neighbour across each face, and the corners of that face
FACES = [(step * np.eye(3, dtype=int)[axis], np.flatnonzero(CORNERS[:, axis] == (step > 0)))
         for axis in range(3) for step in (-1, 1)]


class _Extraction:
    def __init__(self, f, grid: Grid, level: float, lipschitz: float):
        self.f, self.grid, self.lipschitz = f, grid, lipschitz
        self.level = np.float32(level)  # as the values, so that all comparisons agree
        self.evaluations = self.levels = self.cells = self.followed = 0
        self.slope = 0.0
        self.size = min(BLOCK, 1 << int(grid.shape.max() - 2).bit_length())
        # values on the blocks' sides, (sorted keys, values): of former chunks and of this one
        self.known = [(np.empty(0, np.int64), np.empty(0, np.float32))] * 2
        self.seen = {}  # block -> bits of its cells that are done
        self.parts = []  # (vertices in grid units, faces, the vertices' edges) of each block

    # --- blocks of values: V[b, i, j, k] at origin[b] + stride (i, j, k); NaN where not evaluated

    def _fill(self, V, origin, stride, flat) -> None:
        """Evaluate f at the vertices `flat` (indices into V.ravel()) that are not known yet."""
        values, side = V.reshape(-1), V.shape[1]
        wanted = np.zeros(values.shape, bool)
        wanted[flat] = True
        wanted &= np.isnan(values)
        flat = np.flatnonzero(wanted)
        local = np.stack(np.unravel_index(flat, V.shape), axis=1)
        index = origin[local[:, 0]] + stride * local[:, 1:]
        # neighbouring blocks share the values on their sides: those are remembered
        shared = (local[:, 1:] % (side - 1) == 0).any(axis=1)
        keys = self._key(index[shared])
        found = np.zeros(len(flat), bool)
        for known_keys, known_values in self.known:
            if len(known_keys):
                place = np.minimum(np.searchsorted(known_keys, keys), len(known_keys) - 1)
                hit = known_keys[place] == keys
                found[np.flatnonzero(shared)[hit]] = True
                values[flat[shared][hit]] = known_values[place[hit]]
        fresh = flat[~found]
        # two blocks of one chunk may share a vertex: evaluate it once
        index = index[~found]
        _, first, copy = np.unique(self._key(index), return_index=True, return_inverse=True)
        new = self._evaluate(index[first])[copy.reshape(-1)]
        values[fresh] = new
        side = shared[~found]
        self.known[1] = _merged(self.known[1], (self._key(index[side]), new[side]))

    def _evaluate(self, index) -> np.ndarray:
        if len(index) == 0:
            return np.empty(0, np.float32)
        points = self.grid.points(index)
        values = np.asarray(self.f(points), np.float32).reshape(-1)
        self.evaluations += len(points)
        bad = ~np.isfinite(values)
        if bad.any():
            where = np.round(points[bad.argmax()], 4).tolist()
            raise UserError(f"f is not finite at {bad.sum()} of {len(points)} points, as {where}")
        return values

    @staticmethod
    def _key(index) -> np.ndarray:
        """One integer for each grid index (n, 3); they may lie beyond the grid."""
        index = index + (1 << 17)
        return (index[:, 0] << 40) | (index[:, 1] << 20) | index[:, 2]

    def _refine(self, V, origin, stride, depth):
        """Unit cells (n, 4: block, i, j, k) of the blocks V that may hold a zero; starts with cells
        of 2^depth units."""
        m = V.shape[1] - 1
        step = 1 << depth
        axis = np.arange(0, m, step)
        cells = np.stack(np.meshgrid(np.arange(len(V)), axis, axis, axis, indexing="ij"), axis=-1)
        cells = self._within(cells.reshape(-1, 4), origin, stride)
        while step > 1:
            half = step // 2
            corner = _flat(V.shape, cells, step * CORNERS)
            center = _flat(V.shape, cells, half * np.ones((1, 3), int))
            self._fill(V, origin, stride, np.concatenate([corner.ravel(), center.ravel()]))
            fk, fc = V.reshape(-1)[corner] - self.level, V.reshape(-1)[center] - self.level
            length = step * stride * self.grid.spacing
            slopes = [np.abs(fk - fc).max(axis=1) / (np.sqrt(0.75) * length)]
            edges = [(fk[:, CORNERS[:, a] == 1] - fk[:, CORNERS[:, a] == 0]).mean(axis=1)
                     for a in range(3)]
            slopes.append(np.linalg.norm(edges, axis=0) / length)
            steepest = np.maximum(*slopes)
            self.slope = max(self.slope, float(steepest.max(initial=0)))
            L = self.lipschitz * np.maximum(1, steepest)[:, None]
            keep = ~_no_zero(fk, fc, L, length / 2)
            parent, child = np.nonzero(keep)
            cells = cells[parent].copy()
            cells[:, 1:] += half * CORNERS[child]
            cells = self._within(cells, origin, stride)
            step = half
        return cells

    def _within(self, cells, origin, stride):
        """Without the cells that lie wholly beyond the grid."""
        low = origin[cells[:, 0]] + stride * cells[:, 1:]
        return cells[((low >= 0) & (low < self.grid.shape - 1)).all(axis=1)]

    # --- the steps of an extraction

    def all_blocks(self) -> np.ndarray:
        """Origins (n, 3) of the blocks that tile the grid."""
        axes = [np.arange(0, n - 1, self.size) for n in self.grid.shape]
        return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)

    def candidate_blocks(self) -> np.ndarray:
        """Origins (n, 3) of the blocks that may hold a zero, by an octree of blocks."""
        blocks = -(-(self.grid.shape - 1).max() // self.size)
        m = 1 << int(blocks - 1).bit_length()
        V = np.full((1, m + 1, m + 1, m + 1), np.nan, np.float32)
        cells = self._refine(V, np.zeros((1, 3), np.int64), self.size, min(2, m.bit_length() - 1))
        self.levels = min(2, m.bit_length() - 1) + (self.size.bit_length() - 1) + 1
        return self.size * cells[:, 1:]

    def march(self, origins, dense: bool) -> None:
        """Refine and march the blocks, then the cells beyond them into which the surface goes."""
        size, outside = self.size, []
        chunk = CHUNK // 16 if dense else CHUNK
        for first in range(0, len(origins), chunk):
            origin = origins[first : first + chunk]
            V = np.full((len(origin), size + 1, size + 1, size + 1), np.nan, np.float32)
            if dense:
                cells = np.argwhere(np.ones((len(origin), size, size, size), bool))
                cells = self._within(cells, origin, 1)
            else:
                cells = self._refine(V, origin, 1, size.bit_length() - 1)
            outside.append(self._march_chunk(V, origin, cells))
        while outside:
            cells = np.concatenate(outside)
            cells = cells[((cells >= 0) & (cells < self.grid.shape - 1)).all(axis=1)]
            cells = cells[np.unique(self._key(cells), return_index=True)[1]]
            cells = cells[~self._is_seen(cells)]
            outside = []
            self.followed += len(cells)
            _, one, block = np.unique(self._key(cells // size), return_index=True,
                                      return_inverse=True)
            origins, block = cells[one] // size * size, block.reshape(-1)
            for first in range(0, len(origins), CHUNK):
                origin = origins[first : first + CHUNK]
                V = np.full((len(origin), size + 1, size + 1, size + 1), np.nan, np.float32)
                mine = (block >= first) & (block < first + CHUNK)
                local = np.column_stack([block[mine] - first, cells[mine] % size])
                outside.append(self._march_chunk(V, origin, local))

    def _is_seen(self, cells) -> np.ndarray:
        """Mask (n,) of the cells (n, 3) that are done."""
        _, first, block = np.unique(self._key(cells // self.size), return_index=True,
                                    return_inverse=True)
        order = np.argsort(block.reshape(-1), kind="stable")
        ends = np.cumsum(np.bincount(block.reshape(-1), minlength=len(first)))
        seen = np.zeros(len(cells), bool)
        for one, mine in zip(first, np.split(order, ends[:-1])):
            bits = self.seen.get(tuple(cells[one] // self.size))
            if bits is not None:
                i, j, k = (cells[mine] % self.size).T
                place = (i * self.size + j) * self.size + k
                seen[mine] = bits[place >> 3] >> (7 - (place & 7)) & 1
        return seen

    def _march_chunk(self, V, origin, cells):
        """March the unit cells (n, 4) of blocks V and those into which the surface leads inside
        the blocks. Returns the cells (m, 3), in grid units, that it leads to outside of them."""
        size = self.size
        seen = np.zeros((len(V), size, size, size), bool)
        for b, o in enumerate(origin):
            bits = self.seen.get(tuple(o // size))
            if bits is not None:
                seen[b] = np.unpackbits(bits).reshape(size, size, size)
        active = np.zeros_like(seen)
        outside, first = [], True
        while len(cells):
            seen[tuple(cells.T)] = True
            corner = _flat(V.shape, cells, CORNERS)
            self._fill(V, origin, 1, corner.ravel())
            above = V.reshape(-1)[corner] > self.level
            mixed = above.any(axis=1) & ~above.all(axis=1)
            cells, above = cells[mixed], above[mixed]
            active[tuple(cells.T)] = True
            if not first:
                self.followed += len(cells)
            found = []
            for step, face in FACES:
                crossed = above[:, face].any(axis=1) & ~above[:, face].all(axis=1)
                to = cells[crossed].copy()
                to[:, 1:] += step
                here = ((to[:, 1:] >= 0) & (to[:, 1:] < size)).all(axis=1)
                outside.append(origin[to[~here, 0]] + to[~here, 1:])
                to = to[here]
                found.append(to[~seen[tuple(to.T)]])
            cells = self._within(np.unique(np.concatenate(found), axis=0), origin, 1)
            first = False
        self.known = [_merged(*self.known), (np.empty(0, np.int64), np.empty(0, np.float32))]
        for b, o in enumerate(origin):
            self.seen[tuple(o // size)] = np.packbits(seen[b].ravel())
            if active[b].any():
                self._march_block(V[b], o, active[b])
        return np.concatenate(outside) if outside else np.empty((0, 3), np.int64)

    def _march_block(self, values, origin, active) -> None:
        """March the active cells of one block.

        scikit-image gets values that keep 1e-4 of a cell away from 0, so that each vertex tells by
        its coordinates on which edge it lies; its place there is then taken from the true values.
        """
        from skimage.measure import marching_cubes

        self.cells += int(active.sum())
        mask = np.zeros(values.shape, bool)
        mask[1:, 1:, 1:] = active  # scikit-image looks a cell up at its upper corner
        value = values.astype(np.float64) - np.float64(self.level)
        least = 1e-4 * self.grid.spacing
        clear = np.where(np.abs(value) < least, np.where(value > 0, least, -least), value)
        vertices, faces, _, _ = marching_cubes(
            clear, 0.0, mask=mask, gradient_direction="ascent", allow_degenerate=True
        )
        vertices = vertices.astype(np.float64)
        lower = np.floor(vertices).astype(np.int64)
        along = vertices > lower
        on_edge = np.flatnonzero(along.sum(axis=1) == 1)  # not: a vertex in the middle of a cell
        axis = along[on_edge].argmax(axis=1)
        start = lower[on_edge]
        v0, v1 = value[tuple(start.T)], value[tuple((start + np.eye(3, dtype=int)[axis]).T)]
        vertices[on_edge, axis] = start[np.arange(len(axis)), axis] + v0 / (v0 - v1)
        keys = np.full(len(vertices), -1, np.int64)
        keys[on_edge] = 4 * self._key(start + origin) + axis
        self.parts.append((vertices + origin, faces.astype(np.int32), keys))

    def sewn(self):
        """Vertices (N, 3) in grid units and faces (M, 3) of all parts; vertices on the same edge
        of the grid are one."""
        if not self.parts:
            raise UserError(
                f"f does not cross {self.level:g} inside the grid: there is no surface. "
                "Train longer, or take another --level"
            )
        v, f = (sum(len(part[i]) for part in self.parts) for i in (0, 1))
        vertices, keys = np.empty((v, 3)), np.empty(v, np.int64)
        faces = np.empty((f, 3), np.int32 if v < 2**31 else np.int64)
        while self.parts:  # from the last, each freed when it has found its place
            some, corners, some_keys = self.parts.pop()
            v, f = v - len(some), f - len(corners)
            vertices[v : v + len(some)], keys[v : v + len(some)] = some, some_keys
            faces[f : f + len(corners)] = corners + v
        # an edge lies on the side of a block where one of its other two coordinates does
        side = np.zeros(len(vertices), bool)
        for axis in range(3):
            side |= (vertices[:, axis] % self.size == 0) & (keys % 4 != axis) & (keys >= 0)
        on_side = np.flatnonzero(side)
        _, first, copy = np.unique(keys[on_side], return_index=True, return_inverse=True)
        kept = np.ones(len(vertices), bool)
        kept[on_side] = False
        kept[on_side[first]] = True
        number = np.cumsum(kept, dtype=faces.dtype) - 1
        number[on_side] = number[on_side[first]][copy.reshape(-1)]
        for start in range(0, len(faces), 1 << 20):
            faces[start : start + (1 << 20)] = number[faces[start : start + (1 << 20)]]
        return vertices[kept], faces


def sign_outside(f, grid: Grid, level: float = 0.0) -> float:
    """+1 or -1: the sign of f - level at most of the eight corners and six sides of the grid's box;
    the side that is outside where the box is around the whole surface."""
    sides = [np.where(np.arange(3) == a, s, 0.5) for a in range(3) for s in (0, 1)]
    index = np.concatenate([CORNERS, np.array(sides)]) * (grid.shape - 1)
    values = np.asarray(f(grid.points(index)), np.float64).reshape(-1)
    return 1.0 if np.median(values) > level else -1.0


def _merged(a, b):
    """Two (keys, values) as one with sorted keys, each key once."""
    keys, first = np.unique(np.concatenate([a[0], b[0]]), return_index=True)
    return keys, np.concatenate([a[1], b[1]])[first]


def _flat(shape, cells, offsets) -> np.ndarray:
    """Indices (n, len(offsets)) into V.ravel() of the vertices cell + offset."""
    _, a, b, c = shape
    base = ((cells[:, 0] * a + cells[:, 1]) * b + cells[:, 2]) * c + cells[:, 3]
    return base[:, None] + (offsets[:, 0] * b + offsets[:, 1]) * c + offsets[:, 2]


def _no_zero(fk, fc, L, a) -> np.ndarray:
    """True where the cell of side a with opposite corners k and c holds no zero (see above)."""
    rk, rc = np.abs(fk) / (L * a), np.abs(fc) / (L * a)  # in units of a
    square = rk * rk
    d2 = np.where(square <= 1, (1 - rk) ** 2 + 2,
         np.where(square <= 2, (1 - np.sqrt(np.clip(square - 1, 0, None))) ** 2 + 1,
         np.where(square <= 3, (1 - np.sqrt(np.clip(square - 2, 0, None))) ** 2, 0)))
    return (np.sign(fk) == np.sign(fc)) & (rc > np.sqrt(d2) + 1e-3)  # 1e-3: float32's rounding
