"""Read a scene's clouds block by block, and sort their points into the files of cells.

The clouds are read three times, and no more than a block of them is in memory: for the box, the
spacing and what belongs to the points; for the number of points in each voxel, which the octree is
cut by; and to write the points of each cell with its margin.

A voxel that has far more points than the grid can show, as beside a scanner, keeps a random part of
them: what counts for a cell is so the area of its surface, and not where the scanner stood.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
import shutil
from typing import Iterator, NamedTuple

from helper import UserError, fingerprint, log
from igr.backend.progress import Watch
from igr.formats import blocks, columns
from igr.geometry import neighbours
from igr.geometry.meshes import unit_vectors
from igr.scene import octree
from igr.scene.octree import Voxels
from igr.scene.plan import NORMALS, NOTHING, SCANNER, Cell, Folder, Plan

import numpy as np

SAMPLE = 200_000  # points by which box and spacing are told
SIDES = 1_000_000  # points by which the sides are told, at most
KTH = 10  # neighbour that tells the spacing
FINER = 1.0  # the grid's spacing in that of the points
CROWDED = 1.0  # surface of the points, in that of the box around them: more has many rooms, floors
# or parts. The real scans and statues in docs/scenes.md have up to 0.65, a building 2.3
ONE_NETWORK = 20_000_000  # points that one network was measured with, about: more takes too long
FEW = 100_000  # points: with fewer, a cell has too few
STRAY = (0.999, 10.0)  # farther from the KTH neighbour than this share of the points is, by this
# factor, a point is a stray one
AROUND = 0.02  # of the longest side, around the box of the sample
VOXEL = 64  # grid cells along a voxel at most
LEAST_LEVEL = 3
CROWD = {"draft": 1.0, "normal": 4.0, "fine": 4.0}  # points kept for each square of the grid in a
# voxel, by quality
OVERLAP = 0.06  # margin of a cell, in its sides
LEAST_MARGIN = 14  # grid cells


class Survey(NamedTuple):
    """What the first pass tells of a scene."""

    count: int  # points
    low: np.ndarray  # (3,) of the box without stray points, world
    high: np.ndarray
    gap: float  # spacing of the points, the median over the surface's area, world
    area: float  # of the surface, as the distances of the points tell it, world
    tops: list | None  # the brightest colour of each cloud; None: no colours
    given: str  # what tells the sides, see plan.Plan
    digest: str  # of all points


class Reservoir:
    """A random sample of rows that come block by block: those with the smallest numbers."""

    def __init__(self, size: int, seed: int, columns: int = 3):
        self.size = size
        self.rng = np.random.default_rng(seed)
        self.numbers = np.empty(0)
        self.rows = np.empty((0, columns))

    def add(self, rows: np.ndarray) -> None:
        """Take rows (n, columns) into account."""
        numbers = self.rng.random(len(rows))
        if len(self.numbers) == self.size:
            smaller = numbers < self.numbers.max()
            numbers, rows = numbers[smaller], rows[smaller]
        self.numbers = np.concatenate([self.numbers, numbers])
        self.rows = np.concatenate([self.rows, rows])
        if len(self.numbers) > self.size:
            kept = np.argpartition(self.numbers, self.size - 1)[: self.size]
            self.numbers, self.rows = self.numbers[kept], self.rows[kept]

    def shuffled(self) -> np.ndarray:
        """The sample (M, columns), in random order."""
        return self.rows[np.argsort(self.numbers)]


# ------------------------------------------------------------------------------------- the passes


def survey(clouds: list[Path]) -> Survey:
    """The first pass. Raises UserError where the clouds hold no points, or all at one place."""
    sample = Reservoir(SAMPLE, 0)
    digest = hashlib.sha256()
    count = 0
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    peaks, kinds = [], set()
    for cloud in clouds:
        peak, whole = -1.0, False
        for block in blocks.blocks(cloud):
            digest.update(fingerprint(*block).encode())
            kinds.add(NORMALS if block.normals is not None
                      else SCANNER if block.origins is not None else NOTHING)
            sample.add(block.points)
            count += len(block.points)
            low = np.minimum(low, block.points.min(axis=0))
            high = np.maximum(high, block.points.max(axis=0))
            if block.colors is not None:
                whole = block.colors.dtype.kind in "iu"
                peak = max(peak, float(np.nanmax(block.colors, initial=0)))
        peaks.append(columns.top_of(peak, whole) if peak > 0 else None)
    if not count:
        raise UserError(f"{clouds[0]}: holds no points")
    if any(peaks) and not all(peaks):
        log.warning("only some of the clouds have colours: left out")
    inner, gap, area = _box_gap_and_area(sample.shuffled(), count)
    return Survey(count, np.maximum(low, inner[0]), np.minimum(high, inner[1]), gap, area,
                  peaks if all(peaks) else None, _given(kinds), digest.hexdigest())


def reason_for_cells(clouds: list[Path]) -> str:
    """Why one network is too few for clouds, in words; empty where it is enough."""
    count = sum(len(block.points) for cloud in clouds for block in blocks.blocks(cloud))
    if count > ONE_NETWORK:
        return f"{count} points are many for one network"
    if count < FEW:
        return ""
    found = survey(clouds)
    size = found.high - found.low
    box = 2 * float((size * np.roll(size, 1)).sum())
    if found.area < CROWDED * box:
        return ""
    return (f"its surface is {found.area / box:.2g} times that of the box around it, more than one "
            "network learns well")


def _given(kinds: set[str]) -> str:
    """What tells the sides of a scene, of what the blocks of its clouds have."""
    if NOTHING not in kinds:
        return NORMALS if kinds == {NORMALS} else SCANNER
    if len(kinds) > 1:
        log.warning("only some of the clouds have normals or scanners' places: left out")
    return NOTHING


def _box_gap_and_area(sample: np.ndarray, count: int) -> tuple[np.ndarray, float, float]:
    """The box (2, 3) around a random sample (M, 3) of `count` points, without stray ones, the
    spacing of all points, the median by the area that each of the sample stands for, and the area
    of all."""
    sample = sample[neighbours.distinct(sample)[0]]
    if len(sample) < 2 * KTH:
        raise UserError(f"{len(sample)} different points are too few for a scene")
    reach = neighbours.kth_distance(neighbours.tree_of(sample), KTH)
    stray = reach > STRAY[1] * np.quantile(reach, STRAY[0])
    order = np.argsort(reach[~stray])
    area = np.cumsum(reach[~stray][order] ** 2)
    typical = reach[~stray][order][np.searchsorted(area, area[-1] / 2)]
    box = np.stack([sample[~stray].min(axis=0), sample[~stray].max(axis=0)])
    away = max(AROUND * np.ptp(box, axis=0).max(), 2 * typical)
    gap = neighbours.spacing_of(typical, KTH) * (len(sample) / count) ** 0.5
    if not gap > 0:
        raise UserError("all points are equal: there is no scene to see")
    return box + np.array([[-away], [away]]), float(gap), float(np.pi / KTH * area[-1])


class Layout(NamedTuple):
    """The grid of a scene and the voxels over it."""

    origin: np.ndarray  # (3,), world: the lowest corner of grid and voxels
    spacing: float  # of the grid, world
    voxel: int  # grid cells along a voxel's side
    level: int  # 2^level voxels along the octree's side
    crowd: int  # points that a voxel keeps at most

    @classmethod
    def of(cls, found: Survey, spacing: float, quality: str) -> Layout:
        """The layout for a grid of at most this spacing."""
        longest = float((found.high - found.low).max()) * (1 + 1e-9)
        level = LEAST_LEVEL
        while longest / 2**level > VOXEL * spacing:
            level += 1
        if level > octree.DEEPEST - 6:
            raise UserError(f"a scene of {longest:g} with a grid of {spacing:g} is too large: "
                            "--spacing takes a coarser one")
        voxel = max(4, int(np.ceil(longest / 2**level / spacing)))
        spacing = longest / 2**level / voxel
        return cls((found.low + found.high) / 2 - longest / 2, spacing, voxel, level,
                   int(CROWD[quality] * voxel**2))

    def codes(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The codes (m,) of the voxels in which points (n, 3) lie, and a mask (n,) of those points
        that lie in any."""
        index = np.floor((points - self.origin) / (self.spacing * self.voxel))
        inside = ((index >= 0) & (index < 2**self.level)).all(axis=1)
        return octree.codes_of(index[inside]), inside


def count_voxels(clouds: list[Path], layout: Layout) -> Voxels:
    """The second pass: the number of points in each voxel."""
    voxels = Voxels.empty()
    for cloud in clouds:
        for block in blocks.blocks(cloud):
            voxels = voxels.with_points(layout.codes(block.points)[0])
    return voxels


def make_cells(voxels: Voxels, layout: Layout, limit: int) -> list[Cell]:
    """The cells of an octree with at most `limit` points each, those that crowd a voxel aside."""
    kept = voxels._replace(counts=np.minimum(voxels.counts, layout.crowd))
    sums = np.concatenate([[0], np.cumsum(kept.counts)])
    cells = []
    for number, leaf in enumerate(octree.leaves(kept, layout.level, limit)):
        low = tuple(layout.voxel * i for i in octree.index_of(leaf.first))
        side = layout.voxel * leaf.size
        ends = np.searchsorted(kept.codes, [leaf.first, leaf.first + leaf.size**3])
        margin = max(LEAST_MARGIN, round(OVERLAP * side))
        cells.append(Cell(f"{number:04d}", low, side, margin, int(sums[ends[1]] - sums[ends[0]])))
    return cells


class Sorting(NamedTuple):
    """What the third pass sorts points by."""

    plan: Plan
    layout: Layout
    voxels: Voxels
    firsts: np.ndarray  # (C,) the first code of each cell, sorted
    around: list[list[int]]  # of each cell, the numbers of those that touch it

    @classmethod
    def of(cls, plan: Plan, layout: Layout, voxels: Voxels) -> Sorting:
        corners = np.array([cell.low for cell in plan.cells]) // layout.voxel
        number = {cell.name: i for i, cell in enumerate(plan.cells)}
        around = [[number[other.name] for other in plan.around(cell)] for cell in plan.cells]
        return cls(plan, layout, voxels, octree.codes_of(corners), around)


def sort_points(clouds: list[Path], sorting: Sorting, folder: Folder, tops: list | None) -> int:
    """The third pass: write the points of each cell and its margin, and a sample of all. Returns
    how many points lie outside the scene's box. The files appear together, when all are whole."""
    writing = folder.path / "cells.writing"
    shutil.rmtree(writing, ignore_errors=True)
    shutil.rmtree(folder.cells, ignore_errors=True)
    writing.mkdir()
    for cell in sorting.plan.cells:
        (writing / cell.name).mkdir()
    sample = Reservoir(SIDES, 1, 6 if sorting.plan.given else 3)
    target = Target(writing, sample, np.random.default_rng(2))
    outside = 0
    watch = Watch("sorting points", int(sorting.voxels.counts.sum()))
    for cloud, top in zip(clouds, tops or [None] * len(clouds)):
        for block in blocks.blocks(cloud):
            outside += _sort_block(block, top, sorting, target)
            watch.done(len(block.points))
    for cell in sorting.plan.cells:
        for name, kind in (("points", np.float64), ("colors", np.float32), ("given", np.float32)):
            _finish(writing / cell.name / name, kind)
    np.save(folder.sample, target.sample.shuffled())
    writing.rename(folder.cells)
    return outside


class Target(NamedTuple):
    """Where the third pass puts points."""

    folder: Path  # of the cells' folders
    sample: Reservoir
    rng: np.random.Generator  # decides which points of a crowded voxel are kept


def _sort_block(block: blocks.Block, top: int | None, sorting: Sorting, target: Target) -> int:
    """Append a block's points to the files of their cells, and colours where there is a brightest
    one. Returns how many lie outside the scene's box."""
    codes, inside = sorting.layout.codes(block.points)
    share = sorting.voxels.counts[np.searchsorted(sorting.voxels.codes, codes)]
    kept = target.rng.random(len(codes)) < sorting.layout.crowd / share
    block = block.part(inside).part(kept)
    rows = {"points": block.points}
    if top:
        rows["colors"] = columns.unit_colors(block.colors, top)
    if sorting.plan.given:
        toward = block.origins - block.points if block.normals is None else block.normals
        rows["given"] = unit_vectors(toward.astype(np.float64)).astype(np.float32)
    target.sample.add(np.concatenate([rows["points"], rows.get("given", rows["points"][:, :0])],
                                     axis=1))
    for number, mine in _parts(sorting, block.points, codes[kept]):
        folder = target.folder / sorting.plan.cells[number].name
        for name, values in rows.items():
            _append(folder / name, values[mine])
    return int((~inside).sum())


def _parts(sorting: Sorting, points: np.ndarray,
           codes: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Cells, by their number, and which points (indices) of a block lie in core or margin."""
    cells = sorting.plan.cells
    home = np.searchsorted(sorting.firsts, codes, side="right") - 1
    order = np.argsort(home, kind="stable")
    ends = np.searchsorted(home[order], np.arange(len(cells) + 1))
    places = sorting.plan.to_grid(points)
    for number in np.unique(home):
        mine = order[ends[number] : ends[number + 1]]
        for other in sorting.around[number]:
            cell = cells[other]
            near = mine if other == number else mine[cell.has(places[mine], cell.margin)]
            if len(near):
                yield other, near


def _append(path: Path, values: np.ndarray) -> None:
    with open(path, "ab") as file:
        values.tofile(file)


def _finish(path: Path, kind: type) -> None:
    """Make an npy file of raw rows of three, without reading them."""
    if not path.exists():
        return
    rows = path.stat().st_size // (3 * np.dtype(kind).itemsize)
    target = np.lib.format.open_memmap(path.with_suffix(".npy"), "w+", kind, (rows, 3))
    source = np.memmap(path, kind, "r", shape=(rows, 3))
    for start in range(0, rows, blocks.ROWS):
        target[start : start + blocks.ROWS] = source[start : start + blocks.ROWS]
    target.flush()
    path.unlink()


# ------------------------------------------------------------------------------------- all of them


def make_plan(clouds: list[Path], folder: Folder, settings: dict) -> Plan:
    """Survey the clouds and write the cells' files and the plan, which then is there as a whole.

    settings: the scene's flags: spacing of the grid in world units, None: FINER times that of the
    points; cell_points, the points of a cell; winding: given normals and scanners' places are left
    out; clouds, what the files were, which the digest leaves out: the same points under another
    name are the same scene.
    """
    found = survey(clouds)
    given = NOTHING if settings["winding"] else found.given
    layout = Layout.of(found, settings["spacing"] or FINER * found.gap, settings["quality"])
    voxels = count_voxels(clouds, layout)
    if not len(voxels.codes):
        raise UserError("no points are left inside the scene's box")
    cells = make_cells(voxels, layout, settings["cell_points"])
    decisive = sorted((name, value) for name, value in settings.items() if name != "clouds")
    digest = fingerprint(found.digest, repr(layout), repr(cells), repr(decisive))
    plan = Plan(tuple(layout.origin.tolist()), layout.spacing, found.gap, cells,
                found.tops is not None, given, settings, digest)
    folder.plan_file.unlink(missing_ok=True)
    outside = sort_points(clouds, Sorting.of(plan, layout, voxels), folder, found.tops)
    if outside:
        log.warning(f"{outside} of {found.count} points lie far from all others: left out")
    folder.write_plan(plan)
    log.info(f"{found.count} points, {found.gap:.3g} apart; {len(cells)} cells; grid spacing "
             f"{layout.spacing:.3g}")
    return plan
