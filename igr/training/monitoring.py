"""Evaluate the surface during training: mesh and distances to the held-out points."""

from __future__ import annotations

from typing import Callable, NamedTuple

from helper import UserError
from igr.backend import memory
from igr.geometry import metrics
from igr.geometry.frames import Geometry
from igr.geometry.meshes import TINY, face_areas, sample_mesh, topology
from igr.isosurface import extraction
from igr.training.settling import Evidence

import numpy as np

LOOK_GRID = 96  # grid points along a side of the cube, for the topology
CHECKED = 5_000  # points whose heights are looked at
LEAST_AREA = 4.0  # of a surface whose longest side is 2; flat and thin ones may have less


def check_grid(grid_size: int, half_side: float) -> None:
    """Raises UserError where a surface on that grid would not fit into the memory."""
    grid = extraction.Grid.of([-half_side] * 3, [half_side] * 3, grid_size)
    memory.check(extraction.memory_of_area(LEAST_AREA, grid), f"--grid-size {grid_size}",
                 "take a smaller one")


class SurfaceMonitor(NamedTuple):
    """Extract and measure the surface of a network in training, in the unit frame."""

    f: Callable[[np.ndarray], np.ndarray]  # the network: points (N, 3) to values (N,)
    held_out: np.ndarray  # (M, 3), points that are not trained on
    grid_size: int  # grid points along a side of the cube
    half_side: float  # of the cube of the grid
    checked: np.ndarray  # (K, 3), some held-out points, or of the training where there are none
    spacing: float  # of the points

    def look(self, step: int) -> Evidence:
        """Look whether a training may end after a step. The level that most points lie on does not
        count: it moves as a whole until the rate falls."""
        mesh = self._replace(grid_size=LOOK_GRID).mesh()
        found = topology(mesh) if mesh else {"components": 0, "euler_characteristic": 0}
        f = self.f(self.checked)
        height = float(np.abs(f - np.median(f)).mean() / max(self.spacing, TINY))
        return Evidence(step, height, found["components"], found["euler_characteristic"])

    def mesh(self) -> Geometry | None:
        """The network's surface; None where there is none yet."""
        low, high = [-self.half_side] * 3, [self.half_side] * 3
        try:
            grid = extraction.Grid.of(low, high, self.grid_size)
            return extraction.extract(self.f, grid)[0]
        except UserError:
            return None

    def distances(self, mesh: Geometry | None) -> dict[str, float]:
        """Measure Chamfer and Hausdorff between a mesh and the held-out points, and estimate the
        Chamfer of a perfect surface; {} without a mesh or such points."""
        if not mesh or not len(self.held_out):
            return {}
        n = max(len(self.held_out), 10_000)
        samples = sample_mesh(mesh, n, np.random.default_rng(0))
        # the mean distance of a point of the surface to the nearest of k random ones
        area = face_areas(mesh).sum()
        floors = [np.sqrt(area / k) / 2 for k in (n, len(self.held_out))]
        return {**metrics.chamfer_hausdorff(samples.points, self.held_out),
                "chamfer_floor": float(np.mean(floors))}
