"""Points of the network's zero set, for the loss term that pulls it to the cloud.

The zero set moves little from step to step. So its points come from a pool that serves for some
hundred steps: points s on a coarse mesh of the network, each with its nearest cloud point p. Those
s are left out that are in the dead zone of p (schedule.py): pulled to few or inexact points, the
surface gets flat between them, and what closes an open surface would be pulled to its rim. Also
left out are those on bubbles, pieces inside the shape that no point supports: they would be pulled
outwards and grow, and the mesh is made without them anyway. The loss moves the points that a step
draws onto the zero set of that step. A state file keeps the pool, so a resumed run has the one that
it would have had without the stop.
"""

from __future__ import annotations

from typing import Callable, NamedTuple

from helper import UserError
from igr.geometry import meshes, neighbours, supported_components
from igr.geometry.frames import Geometry
from igr.isosurface import extraction

import numpy as np

SAMPLE = 32_768  # points of the coarse mesh, of which those outside the dead zones make the pool
SIZE = 8192  # points of a pool
PER_STEP = 128  # points that a step draws from it
GRID = 96  # points along a side of the grid that the coarse mesh is made on


class Pool(NamedTuple):
    """Points of a zero set and what they are pulled to, unit frame."""

    s: np.ndarray  # (SIZE, 3) float32
    p: np.ndarray  # (SIZE, 3) float32, the nearest cloud point of each s
    weight: float = 1.0  # the share of the zero set that they stand for


class ZeroSet:
    """The network's zero set as it is, seen from a cloud."""

    def __init__(self, f: Callable[[np.ndarray], np.ndarray], points: np.ndarray,
                 dead_zone: np.ndarray, half_side: float, seed: int):
        """f: the network, points (N, 3) to values (N,); points (N, 3) float32: the cloud's;
        dead_zone (N, 1): the distance, maybe infinite, from each up to which the zero set is left;
        half_side: of the cube that is searched; lengths in the unit frame."""
        self.f = f
        self.points = points
        self.dead_zone = dead_zone[:, 0]
        self.half_side = half_side
        self.seed = seed
        self.tree = neighbours.tree_of(points)

    def pool(self, step: int) -> Pool | None:
        """A pool of the network as it is before a step; None where it has no zero set, or all of it
        lies in the points' dead zones."""
        mesh = mesh_of(self.f, self.half_side, GRID)
        if mesh is None:
            return None
        mesh = without_bubbles(mesh, self.points)
        rng = np.random.default_rng((self.seed, 2, step))
        s = meshes.sample_mesh(mesh, SAMPLE, rng).points.astype(np.float32)
        distance, nearest = neighbours.search(self.tree, s)
        far = np.flatnonzero(distance > self.dead_zone[nearest])
        if len(far) == 0:
            return None
        some = np.resize(far, SIZE)
        return Pool(s[some], self.points[nearest[some]], len(far) / SAMPLE)


def mesh_of(f: Callable[[np.ndarray], np.ndarray], half_side: float,
            grid_size: int) -> Geometry | None:
    """The zero set of f in the cube [-half_side, half_side]^3 as a mesh; None where it is empty."""
    low = [-half_side] * 3
    high = [half_side] * 3
    try:
        return extraction.extract(f, extraction.Grid.of(low, high, grid_size))[0]
    except UserError:
        return None


def without_bubbles(mesh: Geometry, points: np.ndarray) -> Geometry:
    """A mesh without the pieces that no point supports, points (N, 3), and whose faces look the
    other way than those of the mesh as a whole."""
    supported = supported_components.supported_faces(mesh, points)
    if supported.all():
        return mesh
    piece = meshes.components(mesh)
    p, q, r = mesh.points[mesh.faces].transpose(1, 0, 2)
    volume = np.bincount(piece, (p * np.cross(q, r)).sum(axis=1))
    bubbles = volume * volume.sum() < 0
    return meshes.keep_faces(mesh, supported | ~bubbles[piece])


# ------------------------------------------------------------------------------ in the state file


def arrays_of(pool: Pool | None) -> dict[str, np.ndarray]:
    """A pool as arrays by the names that they have in a state file."""
    return {} if pool is None else {"pool/s": pool.s, "pool/p": pool.p,
                                    "pool/weight": np.float64(pool.weight)}


def pool_of(arrays: dict[str, np.ndarray]) -> Pool | None:
    """The reverse of arrays_of. Raises UserError where the arrays have another shape."""
    if "pool/s" not in arrays:
        return None
    pool = Pool(arrays["pool/s"], arrays["pool/p"], float(arrays["pool/weight"]))
    if pool.s.shape != (SIZE, 3) or pool.p.shape != (SIZE, 3):
        raise UserError(f"the state's points of the zero set have the shapes {pool.s.shape} and "
                        f"{pool.p.shape}, not {(SIZE, 3)}")
    return pool
