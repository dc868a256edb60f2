"""A picture of the surface while it trains.
"""

from __future__ import annotations

from pathlib import Path

from igr.geometry.frames import Geometry
from igr.view import cameras, images, render

import numpy as np


def save_preview(path: Path, mesh: Geometry) -> None:
    """Write a picture of a mesh in the unit frame, always by the same camera."""
    cube = np.stack(np.meshgrid([-1, 1], [-1, 1], [-1, 1]), axis=-1).reshape(-1, 3)
    style = render.Style(640, 480)
    camera = cameras.Camera.around(cube, aspect=style.aspect)
    images.save(path, render.mesh(mesh, camera, style))
