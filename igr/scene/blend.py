"""Blend the networks of cells into one function over the whole scene.

    f(x) = sum_i w_i(x) s_i f_i(x) / sum_i w_i(x)

f_i is the network of cell i in its own unit frame, s_i the length of that unit, and w_i a smooth
weight: 1 inside the cell, 1/2 on the side of its core, 0 beyond its margin. The sum runs over the
cells in the plan's order, and a place is known by its grid coordinates: so all jobs that evaluate
it have the same value, bit for bit, on one type of processor. All lengths are in spacings of the
grid.
"""

from __future__ import annotations

from typing import Callable, NamedTuple

from igr.geometry.frames import Frame
from igr.scene.plan import Cell, Plan

import numpy as np

STEPS_OUTSIDE = 1.0  # beyond a margin, where the weight is 0


class Member(NamedTuple):
    """A cell with its network."""

    cell: Cell
    frame: Frame  # of the network
    evaluate: Callable[[np.ndarray], np.ndarray]  # unit frame: points (N, 3) to f (N,)
    with_gradient: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # to f and grad f (N, 3)


def weight(cell: Cell, places: np.ndarray) -> np.ndarray:
    """w (N,) of a cell at places (N, 3)."""
    return _weight_of_axes(cell, places)[0].prod(axis=1)


def weight_with_gradient(cell: Cell, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """w (N,) of a cell at places (N, 3) and its gradient (N, 3)."""
    along, slope = _weight_of_axes(cell, places)
    others = np.stack([along[:, 1] * along[:, 2], along[:, 0] * along[:, 2],
                       along[:, 0] * along[:, 1]], axis=1)
    return along.prod(axis=1), slope * others


def _weight_of_axes(cell: Cell, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The factors (N, 3) of the weight along each axis, t^2 (3 - 2 t), and their slopes (N, 3)."""
    low, high = cell.reach()
    low, high = low - STEPS_OUTSIDE, high + STEPS_OUTSIDE
    ramp = 2 * (cell.margin + STEPS_OUTSIDE)
    up, down = (places - low) / ramp, (high - places) / ramp
    t = np.clip(np.minimum(up, down), 0, 1)
    sign = np.where(up < down, 1.0, -1.0) * ((t > 0) & (t < 1))
    return t * t * (3 - 2 * t), sign * 6 * t * (1 - t) / ramp


class Blend(NamedTuple):
    """f near one cell: of its own network and those that touch it."""

    plan: Plan
    members: list[Member]  # in the plan's order
    own: Member  # whose network alone is taken where all weights are 0

    def values(self, places: np.ndarray) -> np.ndarray:
        """f (N,) float32 at places (N, 3)."""
        total, weights = np.zeros((2, len(places)))
        world = self.plan.to_world(places)
        for member in self.members:
            w = weight(member.cell, places)
            near = w > 0
            scale = member.frame.scale / self.plan.spacing
            f = member.evaluate(member.frame.to_unit(world[near], np.float32))
            total[near] += w[near] * scale * f
            weights[near] += w[near]
        nowhere = weights == 0
        if nowhere.any():
            scale = self.own.frame.scale / self.plan.spacing
            total[nowhere] = scale * self.own.evaluate(
                self.own.frame.to_unit(world[nowhere], np.float32))
            weights[nowhere] = 1
        return (total / weights).astype(np.float32)

    def values_with_gradient(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """f (N,) and grad f (N, 3) at places (N, 3), float64."""
        total, weights = np.zeros((2, len(places)))
        slope, weight_slope = np.zeros((2, len(places), 3))
        world = self.plan.to_world(places)
        for member in self.members:
            w, dw = weight_with_gradient(member.cell, places)
            near = w > 0
            f, df = self._with_gradient(member, world[near])
            total[near] += w[near] * f
            weights[near] += w[near]
            slope[near] += w[near, None] * df + dw[near] * f[:, None]
            weight_slope[near] += dw[near]
        nowhere = weights == 0
        if nowhere.any():
            total[nowhere], slope[nowhere] = self._with_gradient(self.own, world[nowhere])
            weights[nowhere] = 1
        f = total / weights
        return f, (slope - f[:, None] * weight_slope) / weights[:, None]

    def _with_gradient(self, member: Member, world: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A member's f and gradient at points (N, 3) of the world."""
        f, gradient = member.with_gradient(member.frame.to_unit(world, np.float32))
        return f * (member.frame.scale / self.plan.spacing), gradient.astype(np.float64)

    def field(self, frame: Frame) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
        """f and its gradient as functions in a unit frame, lengths included."""

        def evaluate(pts_unit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            f, gradient = self.values_with_gradient(self.plan.to_grid(frame.to_world(pts_unit)))
            return f * (self.plan.spacing / frame.scale), gradient

        return evaluate

    def owns(self, grid_cells: np.ndarray) -> np.ndarray:
        """Mask (N,) of the grid cells (N, 3) that this cell marches: those in its core, and of
        those in no core with a network those where its weight is the largest."""
        mine = self.own.cell.has(grid_cells)
        free = np.flatnonzero(~mine)
        for member in self.members:
            free = free[~member.cell.has(grid_cells[free])]
        middles = grid_cells[free] + 0.5
        best = weight(self.own.cell, middles)
        wins = best > 0
        before = True
        for member in self.members:
            before = before and member.cell.name != self.own.cell.name
            if member.cell.name != self.own.cell.name:
                w = weight(member.cell, middles)
                wins &= (w < best) if before else (w <= best)
        mine[free[wins]] = True
        return mine
