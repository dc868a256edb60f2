"""Pinhole cameras: placed around a shape, or read from the json that an open3d window saves."""

from __future__ import annotations

import json
from typing import Iterator, NamedTuple

import helper
from helper import UserError

import numpy as np

UPWARDS = ("x", "y", "z", "-x", "-y", "-z")  # axes that may point upwards
FOV = 30.0  # vertical field of view, degrees
MARGIN = 1.08  # a shape's farthest point is 1 / MARGIN of the way from the middle to the side
MAX_PIXELS = 16384  # along a side of a picture


def from_y_up(vector, up: str) -> np.ndarray:
    """Turn a vector (3,) given for y upwards to where the axis `up` of UPWARDS points upwards.

    The axes change places in cyclic order; a negative axis adds half a turn around x beforehand.
    """
    sign = [1, -1, -1] if up.startswith("-") else [1, 1, 1]
    return np.roll(np.multiply(vector, sign), "xyz".index(up[-1]) - 1)


def random_directions(n: int, seed: int) -> Iterator:
    """n pairs of azimuth and elevation at random, degrees; not too near the poles."""
    rng = np.random.default_rng(seed)
    for _ in range(n):
        yield rng.uniform(0, 360), float(np.degrees(np.arcsin(rng.uniform(-0.9, 0.9))))


def turntable_directions(n: int, azimuth: float, elevation: float) -> Iterator:
    """n pairs of azimuth and elevation, once around from the given pair, degrees."""
    for i in range(n):
        yield azimuth + 360 * i / n, elevation


class Camera(NamedTuple):
    """A pinhole camera, in world units."""

    eye: np.ndarray  # (3,)
    center: np.ndarray  # (3,) the point that it looks at
    up: np.ndarray  # (3,) at a right angle to the line of sight, or nearly
    fov: float = FOV  # vertical, degrees

    @classmethod
    def around(cls, points: np.ndarray, azimuth: float = 30.0, elevation: float = 15.0,
               zoom: float = 1.0, up: str = "y", aspect: float = 4 / 3) -> Camera:
        """A camera just far enough away to see all points (N, 3).

        azimuth and elevation are degrees; azimuth 0 looks along -z where y is up (from_y_up() says
        how other axes follow). zoom > 1 shows less, larger. up is one of UPWARDS. aspect is the
        picture's width / height.
        """
        center = (points.min(axis=0) + points.max(axis=0)) / 2
        a, e = np.radians([azimuth, elevation])
        towards = np.array([np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)])
        upwards = np.array([-np.sin(a) * np.sin(e), np.cos(e), -np.cos(a) * np.sin(e)])
        towards = from_y_up(towards, up)
        upwards = from_y_up(upwards, up)
        half = np.tan(np.radians(FOV / 2))
        x, y, z = ((points - center) @ cls(towards, np.zeros(3), upwards).axes().T).T
        distance = MARGIN * (np.maximum(np.abs(x) / aspect, np.abs(y)) / half + z).max()
        fov = np.degrees(2 * np.arctan(half / zoom))
        return cls(center + towards * (distance or 1.0), center, upwards, float(fov))

    @classmethod
    def from_pinhole(cls, path) -> tuple:
        """Camera, width and height (pixels) from open3d's json of pinhole camera parameters.

        Raises UserError where the file holds something else, where the camera's axis is off the
        picture's middle and where pixels are not square.
        """
        try:
            width, height, K, E = _pinhole_parameters(helper.existing_file(path).read_text())
        except (ValueError, KeyError, TypeError, UnicodeDecodeError, RecursionError) as error:
            raise UserError(f"{path}: no pinhole camera of open3d ({error})") from None
        off_middle = np.abs(K[:2, 2] - np.array([width, height]) / 2)
        oblong = abs(K[0, 0] / K[1, 1] - 1) > 0.01
        if oblong or (off_middle > 0.01 * max(width, height) + 1).any():
            raise UserError(f"{path}: a camera with oblong pixels or its axis off the middle is "
                            "not supported")
        eye = -E[:3, :3].T @ E[:3, 3]
        fov = 2 * np.degrees(np.arctan(height / 2 / K[1, 1]))
        return cls(eye, eye + E[2, :3], -E[1, :3], float(fov)), width, height

    def extrinsic(self) -> np.ndarray:
        """World to camera (4, 4) with y down and z forward, as open3d has it."""
        matrix = np.eye(4)
        matrix[:3, :3] = self.axes() * [[1], [-1], [-1]]
        matrix[:3, 3] = -matrix[:3, :3] @ self.eye
        return matrix

    def axes(self) -> np.ndarray:
        """Unit vectors (3, 3), one a row: to the right, up and back."""
        back = (self.eye - self.center) / np.linalg.norm(self.eye - self.center)
        right = np.cross(self.up, back)
        right /= np.linalg.norm(right)
        return np.stack([right, np.cross(back, right), back])


def _pinhole_parameters(text: str) -> tuple:
    """Width and height (pixels), intrinsic matrix (3, 3) and world to camera (4, 4), y down, of
    open3d's json. Raises ValueError, KeyError or TypeError where it holds something else."""
    data = json.loads(text)
    width, height = (int(data["intrinsic"][name]) for name in ("width", "height"))
    K = np.array(data["intrinsic"]["intrinsic_matrix"], float).reshape(3, 3).T
    E = np.array(data["extrinsic"], float).reshape(4, 4).T
    if not (np.isfinite(K).all() and np.isfinite(E).all() and K[1, 1] > 0):
        raise ValueError("numbers that are not finite")
    if not 0 < max(width, height) <= MAX_PIXELS or min(width, height) < 1:
        raise ValueError(f"a picture of {width} x {height}")
    return width, height, K, E
