"""A picture of the surface while it trains."""

from __future__ import annotations

from pathlib import Path

from igr.geometry.frames import Geometry
from igr.view import images, render
from igr.view.cameras import View

import numpy as np


def save_preview(path: Path, mesh: Geometry) -> None:
    """Write a picture of a mesh in the unit frame, always by the same camera."""
    view = View(size=(640, 480))
    cube = np.stack(np.meshgrid([-1, 1], [-1, 1], [-1, 1]), axis=-1).reshape(-1, 3)
    images.save(path, render.shape(mesh, view.camera(Geometry(cube)), view))
