"""Draw the README's picture results/overview.jpeg.

A cloud, our network, our mesh, the rival's, the truth, and how far each mesh is from it. See
driver.py.
"""

from __future__ import annotations

import os
from pathlib import Path

SHAPE = "lucy"
# columns: title, file in the shape's folder ("": the truth)
COLUMNS = (("50,000 points", "clean.ply"), ("the network", "clean-ours-network.ply"),
           ("with the points' detail", "clean-ours.ply"),
           ("Poisson, winding-number normals", "clean-poisson-winding.ply"), ("the truth", ""))
FARTHEST = 0.005  # unit frame: the top of the scale
WIDTH, HEIGHT = 360, 560  # of each picture, pixels


def is_there(folder: Path) -> bool:
    """Whether all meshes are there."""
    return all((folder / file).is_file() for _, file in COLUMNS if file)


def newest(folder: Path) -> Path:
    """The mesh that was made last."""
    return max((folder / file for _, file in COLUMNS if file), key=os.path.getmtime)


def write(folder: Path, truth: Path, output: Path) -> None:
    """Draw it, in a process of its own. folder: the shape's, with the meshes; truth: the true mesh.
    """
    from igr.formats import files
    from igr.view import charts, colors, images, render
    from igr.view.cameras import View

    import numpy as np

    view = View(azimuth=20, elevation=10, up="z", size=(WIDTH, HEIGHT), samples=3)
    shapes = [files.read(folder / file if file else truth) for _, file in COLUMNS]
    camera = view.camera(shapes[-1])
    upper, lower = [], []
    for (title, _), shape in zip(COLUMNS, shapes):
        image = render.shape(shape, camera, view)
        upper.append(images.captioned(image, title))
        lower.append(np.full((HEIGHT, WIDTH, 3), 255, np.uint8))
    scale = charts.legend(HEIGHT, FARTHEST, "distance to the truth (unit frame)", True)
    lower[0][:, -scale.shape[1] :] = images.side_by_side([scale], "white")
    for column in (1, 2, 3):
        distances = colors.reference_distances(shapes[column], shapes[-1])
        lower[column] = render.shape(shapes[column], camera, view,
                                     colors.color_map(distances, FARTHEST), shading=0.3)
    rows = [images.side_by_side(row, "white") for row in (upper, lower)]
    images.save(output, np.concatenate(rows))
