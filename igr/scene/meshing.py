"""The detail of a cell over the blended surface, and the cell's part of the scene's mesh.

Heights are blended as f is: so a vertex on a seam moves to the same place whichever cell moves it.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import helper
from igr.geometry import neighbours
from igr.geometry.frames import Frame
from igr.geometry.regression import Samples
from igr.isosurface import extraction
from igr.isosurface.grids import Grid, keys_of
from igr.refinement import detail, trimming
from igr.refinement.detail import MOVED, Heights
from igr.scene.blend import Blend, weight
from igr.scene.plan import Cell, Plan

import numpy as np

NEIGHBOUR = 10  # that tells the spacing where the mesh is cut off
FARTHEST = 1e6  # distance ratio of a mesh's part without any point


class CellDetail(NamedTuple):
    """The heights of a cell's points over the blended surface, in the unit frame of its cloud."""

    frame: Frame
    heights: Heights | None  # None: the points say no more than the networks
    noise: float  # of the points, standard deviation

    def write(self, path: Path) -> None:
        """Write an npz file."""
        arrays = {"center": np.array(self.frame.center), "scale": np.array(self.frame.scale),
                  "noise": np.array(self.noise)}
        if self.heights:
            samples = self.heights.samples
            arrays.update(points=samples.points, normals=samples.normals, sums=samples.heights,
                          weights=samples.weights, rest=self.heights.rest,
                          spacing=self.heights.spacing)
        with helper.replacing(path) as temporary:
            np.savez(temporary, **arrays)

    @classmethod
    def read(cls, path: Path, plan: Plan, near: Cell) -> CellDetail:
        """Read an npz file; of its samples those that vertices near a cell can need."""
        with np.load(path) as file:
            arrays = dict(file)
        frame = Frame(tuple(arrays["center"].tolist()), float(arrays["scale"]))
        heights = None
        if "points" in arrays:
            places = plan.to_grid(frame.to_world(arrays["points"]))
            some = near.has(places, 2 * near.margin)
            if some.sum() > detail.SPACING:
                samples = Samples.of(*(arrays[name][some]
                                       for name in ("points", "normals", "sums", "weights")))
                heights = Heights(samples, arrays["rest"][some], arrays["spacing"][some])
        return cls(frame, heights, float(arrays["noise"]))


def fit_detail(blend: Blend, points: np.ndarray, held_out: np.ndarray | None) -> CellDetail:
    """The detail of a cell's points (N, 3), world, over the blended surface. held_out: mask (N,) of
    those that the training left out."""
    frame = blend.own.frame
    fitted = detail.fit(blend.field(frame), frame.to_unit(points), None, held_out)
    helper.log.info(fitted.report)
    return CellDetail(frame, fitted.fitted, fitted.report.noise)


class Part(NamedTuple):
    """A cell's part of the scene's mesh. Places are grid coordinates."""

    places: np.ndarray  # (V, 3) float64
    edges: np.ndarray  # (V,) int64, number of the scene's grid edge a vertex is on; -1: in a cell
    faces: np.ndarray  # (F, 3)
    far: np.ndarray  # (V,) distance to the nearest point, in the points' spacings there
    distance: np.ndarray  # (V,) the same, in spacings of the grid
    support: np.ndarray  # (V,) points of the core that are nearest to a vertex

    def write(self, path: Path) -> None:
        """Write an npz file."""
        with helper.replacing(path) as temporary:
            np.savez(temporary, **self._asdict())

    @classmethod
    def read(cls, path: Path) -> Part:
        with np.load(path) as file:
            return cls(**{name: file[name] for name in cls._fields})


def make_part(blend: Blend, details: dict[str, CellDetail], points: np.ndarray) -> Part:
    """A cell's part of the mesh.

    details: by cell, of those that touch it; points: (N, 3) of core and margin, world.
    """
    cell = blend.own.cell
    low, high = cell.reach()
    # local coordinates begin at 0 and count grid cells, so that a place is exact in all of them
    grid = Grid(np.zeros(3), 1.0, high - low + 1)
    part = extraction.part(lambda local: blend.values(local + low), grid,
                           lambda cells: blend.owns(cells + low))
    shift = 4 * (keys_of(low[None]) - keys_of(np.zeros((1, 3), np.int64)))[0]
    edges = np.where(part.edges < 0, part.edges, part.edges + shift)
    faces = part.faces[:, [0, 2, 1]]  # f grows outwards
    places = part.vertices + low
    for block in neighbours.blocks(len(places), MOVED):
        places[block] = _moved(blend, details, places[block])
    own = details.get(cell.name)
    return Part(places, edges, faces, *_measured(blend, places, points, own.noise if own else 0.0))


def _moved(blend: Blend, details: dict[str, CellDetail], places: np.ndarray) -> np.ndarray:
    """Vertices (M, 3), at most MOVED, moved to the surface with detail."""
    frame = blend.own.frame
    plan = blend.plan

    def heights(feet_unit: np.ndarray, normals: np.ndarray) -> np.ndarray:
        world = frame.to_world(feet_unit)
        at = plan.to_grid(world)
        total, weights = np.zeros((2, len(world)))
        for member in blend.members:
            w = weight(member.cell, at)
            near = w > 0
            weights += w
            found = details.get(member.cell.name)
            if found and found.heights and near.any():
                height = found.heights.at(found.frame.to_unit(world[near]), normals[near])
                total[near] += w[near] * height * found.frame.scale
        return total / np.maximum(weights, np.finfo(float).tiny) / frame.scale

    moved = detail.moved_by(blend.field(frame), heights, frame.to_unit(plan.to_world(places)))
    return plan.to_grid(frame.to_world(moved))


def _measured(blend: Blend, places: np.ndarray, points: np.ndarray,
              noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """far, distance and support of Part at vertices (V, 3). noise: in the unit frame."""
    at = blend.plan.to_grid(points)
    tree = neighbours.tree_of(at[neighbours.distinct(at)[0]])
    if not len(places) or tree.n <= NEIGHBOUR:
        nothing = np.full(len(places), FARTHEST)
        return nothing, nothing, np.zeros(len(places), np.int64)
    noise *= blend.own.frame.scale / blend.plan.spacing
    far = trimming.ratio_to(tree, places, NEIGHBOUR, trimming.NOISY_SPACING * noise)
    distance = neighbours.search(tree, places)[0]
    nearest = neighbours.nearest(at[blend.own.cell.has(at)], places)[1]
    return far, distance, np.bincount(nearest, minlength=len(places))
