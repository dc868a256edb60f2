"""Hold a shape (Geometry), and move it between the world and the unit frame (Frame)."""

from __future__ import annotations

from typing import NamedTuple

from helper import UserError

import numpy as np

LARGEST = 1e100  # coordinate of a file: areas and volumes must not overflow
BLOCK = 1 << 18  # points that are moved at a time, to spare memory


class Geometry(NamedTuple):
    """A cloud (no faces) or a triangle mesh, in the coordinates of its file."""

    points: np.ndarray  # (N, 3) float64
    normals: np.ndarray | None = None  # (N, 3) float64, one for each point, any length
    faces: np.ndarray | None = None  # (M, 3) int64, counter-clockwise seen from outside
    colors: np.ndarray | None = None  # (N, 3) float32, sRGB from 0 to 1
    intensity: np.ndarray | None = None  # (N,) float32, of a scanner's echo, its own unit
    origins: np.ndarray | None = None  # (N, 3) float64, where the scanner stood

    @property
    def surface_points(self) -> np.ndarray:
        """The points (n, 3) that belong to the shape; in a mesh, only those that a face uses."""
        return self.points if self.faces is None else self.points[self.used]

    @property
    def used(self) -> np.ndarray:
        """Mask (N,) of a mesh's points that a face uses."""
        used = np.zeros(len(self.points), bool)
        used[self.faces.ravel()] = True
        return used

    def part(self, index: np.ndarray) -> Geometry:
        """The cloud of the points of an index or mask, with all that belongs to them."""
        belongings = self._replace(faces=None)
        return Geometry(*(None if values is None else values[index] for values in belongings))


class Frame(NamedTuple):
    """pts_unit = (pts_world - center) / scale: the shape fills [-1, 1] along its longest side."""

    center: tuple = (0.0, 0.0, 0.0)  # middle of the bounding box, world units
    scale: float = 1.0  # half the longest side of the bounding box, world units

    @classmethod
    def of(cls, pts_world: np.ndarray) -> Frame:
        """The frame of points (N, 3). Raises UserError where they span no size."""
        low = pts_world.min(axis=0)
        high = pts_world.max(axis=0)
        scale = float((high / 2 - low / 2).max())
        if not scale > 0 or not np.isfinite(1 / scale):
            raise UserError("all points are equal: there is no shape to see")
        return cls(tuple((low / 2 + high / 2).tolist()), scale)

    def to_unit(self, pts_world: np.ndarray, dtype: type = np.float64) -> np.ndarray:
        """Points (N, 3) of the world in the unit frame, computed in float64."""
        pts_unit = np.empty(np.shape(pts_world), dtype)
        for start in range(0, len(pts_unit), BLOCK):
            block = np.asarray(pts_world[start : start + BLOCK], np.float64)
            pts_unit[start : start + BLOCK] = (block - self.center) / self.scale
        return pts_unit

    def to_world(self, pts_unit: np.ndarray) -> np.ndarray:
        """The reverse of to_unit()."""
        return np.asarray(pts_unit, np.float64) * self.scale + self.center

    def geometry_to_unit(self, geometry: Geometry) -> Geometry:
        """A shape of the world in the unit frame. Normals keep direction and length."""
        origins = geometry.origins
        return geometry._replace(points=self.to_unit(geometry.points),
                                 origins=None if origins is None else self.to_unit(origins))

    def geometry_to_world(self, geometry: Geometry) -> Geometry:
        """The reverse of geometry_to_unit()."""
        origins = geometry.origins
        return geometry._replace(points=self.to_world(geometry.points),
                                 origins=None if origins is None else self.to_world(origins))
