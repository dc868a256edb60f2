"""Scan a mesh by a virtual range scanner, whose clouds have a real one's faults.

The scanner stands at several places around the mesh and casts the rays of a pin-hole camera. What
is wrong with its points, of all lengths in the mesh's unit frame (half the longest side = 1):

    range noise      along the ray; the more the ray grazes the surface, the larger
    steps            ranges are multiples of a step
    lost rays        grazing rays come back rarely, very flat ones never
    flying pixels    at an edge a ray sees front and back, and measures a range between them
    pose errors      each view is turned and shifted a little as a whole
    stray points     some lie anywhere
    unseen parts     there are no points where no view looks; y is up, and none looks from far below
"""

from __future__ import annotations

from dataclasses import dataclass

from igr.geometry import meshes
from igr.geometry.frames import Geometry

import numpy as np

SIDE = 480  # rays along each side of a picture
FIELD_OF_VIEW = np.radians(36)
DISTANCE = 3.4  # of the scanner from the mesh's middle
LOWEST = -0.55  # height of a place over the middle, in DISTANCE
GOLDEN_ANGLE = np.pi * (3 - 5**0.5)  # between two places, seen from above
FLATTEST = 0.2  # cosine between ray and normal, below which no ray comes back
SURE = 1.3  # at this many times the cosine, as a probability, others do
NOISIEST = 0.3  # cosine, below which the noise grows no more
EDGE = 0.03  # jump of the range between neighbouring rays that makes a flying pixel
STRAY = 1 / 500  # share of the points that lie anywhere
STRAY_SIDE = 1.2  # half the side of the cube that they lie in


@dataclass(frozen=True)
class Level:
    """How good a scanner is. Angles in radians, lengths in the unit frame."""

    views: int
    points: int  # of the cloud, at most
    noise: float  # of the range where the ray meets the surface upright, standard deviation
    step: float  # of the range
    flying: float  # share of the rays at edges that measure between front and back
    turn: float  # of a view, standard deviation about each axis
    shift: float  # of a view, standard deviation along each axis


LEVELS = {
    "light": Level(14, 100_000, noise=0.001, step=0.0005, flying=0.1, turn=0.0005, shift=0.0005),
    "hand": Level(12, 100_000, noise=0.003, step=0.001, flying=0.3, turn=0.002, shift=0.002),
    "rough": Level(10, 60_000, noise=0.008, step=0.004, flying=0.5, turn=0.004, shift=0.004),
}


def scan(mesh: Geometry, level: Level, seed: int = 0) -> np.ndarray:
    """The points (N, 3), in random order, that a scanner of a level sees of a mesh; both in the
    mesh's unit frame."""
    rng = np.random.default_rng(seed)
    scene = meshes.ray_scene(mesh.points, mesh.faces)
    views = [displaced(seen_from(place, scene, level, rng), level, rng)
             for place in places(level.views)]
    points = rng.permutation(np.concatenate(views))[: level.points]
    strays = rng.permutation(len(points))[: int(STRAY * len(points))]
    points[strays] = rng.uniform(-STRAY_SIDE, STRAY_SIDE, (len(strays), 3))
    return points


def places(count: int) -> np.ndarray:
    """Where the scanner stands (count, 3): evenly on a sphere, the lowest ones lifted to LOWEST."""
    y = np.maximum(1 - (2 * np.arange(count) + 1) / count, LOWEST)
    across = np.sqrt(1 - y**2)
    angle = GOLDEN_ANGLE * np.arange(count)
    return DISTANCE * np.stack([across * np.cos(angle), y, across * np.sin(angle)], axis=1)


def rays(place: np.ndarray) -> np.ndarray:
    """Unit directions (SIDE, SIDE, 3) from a place (3,): rows from top to bottom, towards the
    middle."""
    ahead = -place / np.linalg.norm(place)
    right = meshes.unit_vectors(np.cross(ahead, (0.0, 1.0, 0.0))[None])[0]
    up = np.cross(right, ahead)
    along = np.tan(FIELD_OF_VIEW / 2) * ((2 * np.arange(SIDE) + 1) / SIDE - 1)
    directions = ahead + along[None, :, None] * right - along[:, None, None] * up
    return directions / np.linalg.norm(directions, axis=2, keepdims=True)


def seen_from(place: np.ndarray, scene, level: Level, rng: np.random.Generator) -> np.ndarray:
    """The points (n, 3) that the scanner measures from a place (3,)."""
    directions = rays(place)
    origins = np.broadcast_to(place, directions.shape)
    hits = scene.cast_rays(meshes.tensor(np.concatenate([origins, directions], axis=2)))
    exact = hits["t_hit"].numpy().astype(np.float64)  # (SIDE, SIDE), inf where there is no surface
    cosine = np.abs((hits["primitive_normals"].numpy() * directions).sum(axis=2))
    back = np.isfinite(exact) & (cosine > FLATTEST)
    back &= rng.random(exact.shape) < SURE * cosine
    noise = level.noise / np.sqrt(np.maximum(cosine[back], NOISIEST))
    ranges = exact[back] + noise * rng.standard_normal(back.sum())
    behind = range_behind(exact)[back]
    flying = np.isfinite(behind) & (rng.random(len(ranges)) < level.flying)
    ranges[flying] += rng.random(flying.sum()) * (behind - ranges)[flying]
    if level.step:
        ranges = np.round(ranges / level.step) * level.step
    return place + ranges[:, None] * directions[back]


def range_behind(ranges: np.ndarray) -> np.ndarray:
    """For each of the ranges (H, W), the least one of its four neighbours that is more than EDGE
    larger; inf where there is none."""
    padded = np.pad(ranges, 1, constant_values=np.inf)
    beside = np.stack([padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]])
    return np.where(beside > ranges + EDGE, beside, np.inf).min(axis=0)


def displaced(points: np.ndarray, level: Level, rng: np.random.Generator) -> np.ndarray:
    """A view's points (n, 3) where its wrong pose lays them."""
    from scipy.spatial.transform import Rotation

    turn = Rotation.from_rotvec(level.turn * rng.standard_normal(3))
    return turn.apply(points) + level.shift * rng.standard_normal(3)
