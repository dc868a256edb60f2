"""Views and cameras: the flags that say how shapes are shown, and the pinhole cameras they place.

A camera is placed around a shape, or read from the json that an open3d window saves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
import json
from typing import Iterator, NamedTuple, Sequence

import helper
from helper import UserError, flag, number
from igr.backend import memory
from igr.geometry.frames import Geometry

import numpy as np

UPWARDS = ("x", "y", "z", "-x", "-y", "-z")  # axes that may point upwards
SIZE = (960, 720)  # of a picture or window without --size, pixels
MAX_PIXELS = 16384  # along a side of a picture
FOV = 30.0  # vertical field of view, degrees
MARGIN = 1.08  # a shape's farthest point is 1 / MARGIN of the way from the middle to the side
BYTES_PER_PIXEL = 80  # when pictures are put side by side


@dataclass(frozen=True)
class View:
    """How shapes are shown: camera, colour, size and quality; each field is a flag.

    azimuth 0 looks along -z where y is up (from_y_up() says how other axes follow). Without `size`
    a picture has SIZE.
    """

    azimuth: float = flag(30.0, type=number(float), help="of the camera, degrees")
    elevation: float = flag(15.0, type=number(float, -90, 90), help="of the camera, degrees")
    zoom: float = flag(1.0, type=number(float, above=0), help="1: the shape fills the picture")
    up: str = flag("y", choices=UPWARDS,
                   help="axis that points upwards (--up=-z for a negative one)")
    color: str = flag("clay", help="of the shape (error: of the reference): a name, #rrggbb, "
                      "normal (x, y, z as red, green, blue) or file (its own colours, or greys by "
                      "its intensities)")
    cpath: str | None = flag(None, "-c", help="json saved with S in a window: its camera and size "
                             "instead of angles, zoom and 960 720")
    size: Sequence[int] | None = flag(None, type=number(int, 16, MAX_PIXELS), nargs=2,
                                      metavar=("W", "H"), help="of each picture, pixels; "
                                      "default: 960 720")
    background: str = flag("white", choices=("white", "transparent"),
                           help="transparent needs .png")
    ground: bool = flag(False, help="add a soft shadow below")
    samples: int = flag(2, metavar="N", type=number(int, 1, 8), help="N x N rays per pixel")

    def sized(self, pictures: int = 1) -> View:
        """The view with its size set: the given one, else the camera file's, else SIZE.

        Raises UserError where so many pictures do not fit into the memory together.
        """
        size = Camera.from_pinhole(self.cpath)[1] if self.cpath else SIZE
        width, height = self.size or size
        memory.check((BYTES_PER_PIXEL + 4 * pictures) * width * height,
                     f"{pictures} x {width} x {height} pixels", "take a smaller --size")
        return replace(self, size=(width, height))

    def camera(self, *shapes: Geometry) -> Camera:
        """The camera of cpath, else the nearest one that sees all points of the shapes."""
        if self.cpath:
            return Camera.from_pinhole(self.cpath)[0]
        points = np.concatenate([shape.points for shape in shapes])
        center = (points.min(axis=0) + points.max(axis=0)) / 2
        a, e = np.radians([self.azimuth, self.elevation])
        towards = from_y_up([np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)], self.up)
        upwards = from_y_up([-np.sin(a) * np.sin(e), np.cos(e), -np.cos(a) * np.sin(e)], self.up)
        half = np.tan(np.radians(FOV / 2))
        width, height = self.size or SIZE
        aspect = width / height
        x, y, z = ((points - center) @ Camera(towards, np.zeros(3), upwards).axes().T).T
        distance = MARGIN * (np.maximum(np.abs(x) / aspect, np.abs(y)) / half + z).max()
        fov = np.degrees(2 * np.arctan(half / self.zoom))
        return Camera(center + towards * (distance or 1.0), center, upwards, float(fov))


def views_around(view: View, number: int, seed: int, turntable: bool) -> Iterator[View]:
    """Views from all sides: once around the upward axis from the given one, else from random
    directions that are not too near the poles."""
    rng = np.random.default_rng(seed)
    for i in range(number):
        if turntable:
            yield replace(view, azimuth=view.azimuth + 360 * i / number)
        else:
            yield replace(view, azimuth=rng.uniform(0, 360),
                          elevation=float(np.degrees(np.arcsin(rng.uniform(-0.9, 0.9)))))


def from_y_up(vector, up: str) -> np.ndarray:
    """Rotate a vector (3,) given for y upwards to where the axis `up` of UPWARDS points upwards.

    The axes change places in cyclic order; a negative axis adds half a turn around x beforehand.
    """
    sign = [1, -1, -1] if up.startswith("-") else [1, 1, 1]
    return np.roll(np.multiply(vector, sign), "xyz".index(up[-1]) - 1)


class Camera(NamedTuple):
    """A pinhole camera, in world units."""

    eye: np.ndarray  # (3,)
    center: np.ndarray  # (3,) the point that it looks at
    up: np.ndarray  # (3,) at a right angle to the line of sight, or nearly
    fov: float = FOV  # vertical, degrees

    @classmethod
    def from_pinhole(cls, path) -> tuple:
        """A camera, and the size of its picture in pixels, from open3d's json of pinhole
        parameters.

        Raises UserError where the file holds something else, where the camera's axis is off the
        picture's middle and where pixels are not square.
        """
        try:
            data = json.loads(helper.existing_file(path).read_text())
            size = tuple(int(data["intrinsic"][name]) for name in ("width", "height"))
            K = np.array(data["intrinsic"]["intrinsic_matrix"], float).reshape(3, 3).T
            E = np.array(data["extrinsic"], float).reshape(4, 4).T  # world to camera, y down
            if not (np.isfinite(K).all() and np.isfinite(E).all() and K[1, 1] > 0):
                raise ValueError("numbers that are not finite")
            if min(size) < 1 or max(size) > MAX_PIXELS:
                raise ValueError(f"a picture of {size[0]} x {size[1]}")
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise UserError(f"{path}: no pinhole camera of open3d ({error})") from None
        off_middle = np.abs(K[:2, 2] - np.array(size) / 2)
        oblong = abs(K[0, 0] / K[1, 1] - 1) > 0.01
        if oblong or (off_middle > 0.01 * max(size) + 1).any():
            raise UserError(f"{path}: a camera with oblong pixels or its axis off the middle is "
                            "not supported")
        eye = -E[:3, :3].T @ E[:3, 3]
        fov = 2 * np.degrees(np.arctan(size[1] / 2 / K[1, 1]))
        return cls(eye, eye + E[2, :3], -E[1, :3], float(fov)), size

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
