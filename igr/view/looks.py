"""How shapes are shown: from where, how large, before what."""

from __future__ import annotations

from typing import NamedTuple

from igr.backend import memory
from igr.view import windows
from igr.view.cameras import Camera
from igr.view.render import Style

import numpy as np

BYTES_PER_PIXEL = 80  # when pictures are put side by side

class Look(NamedTuple):
    """How shapes are shown: the flags of the same names, and their defaults."""

    azimuth: float = 30.0  # degrees
    elevation: float = 15.0  # degrees
    zoom: float = 1.0
    up: str = "y"
    color: str = "clay"
    size: list | None = None  # width and height, pixels
    background: str = "white"
    ground: bool = False
    samples: int = 2
    point_size: float = 1.0
    cpath: str | None = None  # the camera's file, instead of angles and zoom

    def style_and_camera(self, pictures: int = 1) -> tuple:
        """The Style of the pictures, and the camera of cpath (None where none is given).

        Raises UserError where so many pictures do not fit into the memory together.
        """
        camera = None
        size = windows.SIZE
        if self.cpath:
            camera, *size = Camera.from_pinhole(self.cpath)
        width, height = self.size or size
        memory.check((BYTES_PER_PIXEL + 4 * pictures) * width * height,
                     f"{pictures} x {width} x {height} pixels", "take a smaller --size")
        return Style(width, height, self.samples, self.background, self.ground, self.up), camera

    def camera_around(self, shapes: list, style: Style) -> Camera:
        """The camera of the angles and the zoom that sees all shapes."""
        points = np.concatenate([shape.points for shape in shapes])
        return Camera.around(points, self.azimuth, self.elevation, self.zoom, self.up, style.aspect)
