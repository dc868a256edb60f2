"""The plan of a scene: its cells, the grid that they share, and where its files lie.

All lengths are in spacings of the grid, and places in grid coordinates: the grid point (i, j, k) is
at origin + spacing (i, j, k) in the world. A cell has a core; the cores tile the space that has
points, and no two overlap. Its network learns the core and a margin around it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import helper
from helper import UserError

import numpy as np

NORMALS, SCANNER, NOTHING = "normals", "scanner", ""  # see Plan.given


class Cell(NamedTuple):
    """A cube of space with a network of its own."""

    name: str  # its number, as text
    low: tuple[int, int, int]  # of its core, grid coordinates
    side: int  # of its core
    margin: int  # around the core
    points: int  # in the core, those that were kept

    def reach(self) -> tuple[np.ndarray, np.ndarray]:
        """The low and the high corner (3,) of core and margin."""
        low = np.array(self.low)
        return low - self.margin, low + self.side + self.margin

    def has(self, places: np.ndarray, beyond: int = 0) -> np.ndarray:
        """Mask (n,) of the places (n, 3) in the core, or up to `beyond` around it."""
        low = np.array(self.low)
        return ((places >= low - beyond) & (places < low + self.side + beyond)).all(axis=1)


class Plan(NamedTuple):
    """What all jobs of a scene share."""

    origin: tuple[float, float, float]  # of the grid, in the world
    spacing: float  # of the grid, world units
    gap: float  # of the points: their typical spacing, world units
    cells: list[Cell]
    colored: bool
    given: str  # what tells the sides: the files' normals, the way to the scanner, nothing
    settings: dict  # the flags that decide on the mesh
    digest: str  # of the points and all of the above

    def to_world(self, places: np.ndarray) -> np.ndarray:
        """Places (n, 3) of the grid in the world."""
        return np.asarray(places, np.float64) * self.spacing + self.origin

    def to_grid(self, points: np.ndarray) -> np.ndarray:
        """The reverse of to_world()."""
        return (np.asarray(points, np.float64) - self.origin) / self.spacing

    def around(self, cell: Cell) -> list[Cell]:
        """The cells whose margins overlap with a cell's, and the cell itself, in the plan's order.
        """
        low = np.array([other.low for other in self.cells])
        side, margin = np.array([(other.side, other.margin) for other in self.cells]).T[..., None]
        own_low, own_high = cell.reach()
        touch = (low - margin <= own_high + 1) & (own_low <= low + side + margin + 1)
        return [self.cells[number] for number in np.flatnonzero(touch.all(axis=1))]

    def cell(self, name: str) -> Cell:
        return next(cell for cell in self.cells if cell.name == name)


class Folder(NamedTuple):
    """The files of a scene."""

    path: Path

    @property
    def plan_file(self) -> Path:
        return self.path / "plan.json"

    @property
    def sides(self) -> Path:
        """Points of the whole scene with normals."""
        return self.path / "sides.npz"

    @property
    def sample(self) -> Path:
        """Points of the whole scene (M, 3), with what is given of them (M, 6)."""
        return self.path / "sample.npy"

    @property
    def cells(self) -> Path:
        return self.path / "cells"

    def cell(self, name: str) -> Path:
        """The folder of a cell's files."""
        return self.cells / name

    def points(self, name: str) -> Path:
        """All points (N, 3) of a cell and its margin, float64, world."""
        return self.cell(name) / "points.npy"

    def colors(self, name: str) -> Path:
        """Their colours (N, 3), float32 from 0 to 1; missing without any."""
        return self.cell(name) / "colors.npy"

    def given(self, name: str) -> Path:
        """Their normals (N, 3) by the files, or the ways to the scanner, float32, of length 1, or 0
        where unknown; missing without any."""
        return self.cell(name) / "given.npy"

    def read_plan(self) -> Plan | None:
        """The plan; None where there is none yet. Raises UserError where it is damaged."""
        if not self.plan_file.exists():
            return None
        try:
            plan = Plan(**json.loads(self.plan_file.read_text()))
            return plan._replace(cells=[Cell(*cell) for cell in plan.cells])
        except (ValueError, TypeError):
            raise UserError(f"{self.plan_file}: damaged; remove the folder, and the scene begins "
                            "again") from None

    def write_plan(self, plan: Plan) -> None:
        helper.write_json(self.plan_file, plan._asdict())
