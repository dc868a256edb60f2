"""Choose the colours of a shape: a name's, the file's, its normals' or its distances'.

They are sRGB in [0, 1].
"""

from __future__ import annotations

from helper import UserError
from igr.geometry import meshes, metrics
from igr.geometry.frames import Frame, Geometry

import numpy as np

CLAY = (0.91, 0.84, 0.73)
COLOR_MAP = "viridis"  # perceptually uniform: equal steps of distance look equal
TINY = 1e-30  # divides in place of a length or scale of 0; float32 holds it
ROUNDING = 1e-6  # distances below it, in the unit frame, are float32's rounding


def vertex_colors(shape: Geometry, color: str) -> np.ndarray:
    """Colour (3,) of a name or #rrggbb; for "normal", colours (N, 3) of the points' unit normals:
    x, y, z in [-1, 1] become red, green, blue; for "file", the shape's own colours (N, 3), or greys
    by its intensity.

    Raises UserError where `color` is none of these, and for the normals of a cloud without any.
    """
    from PIL import ImageColor

    if color == "normal":
        if shape.faces is None and shape.normals is None:
            raise UserError("--color normal: the cloud has no normals")
        normals = shape.normals if shape.faces is None else meshes.vertex_normals(shape)
        return (meshes.unit_vectors(normals) + 1) / 2
    if color == "file":
        if shape.colors is None and shape.intensity is None:
            raise UserError("--color file: the file has neither colours nor intensities")
        return shape.colors if shape.colors is not None else greys(shape.intensity)
    if color == "clay":
        return np.array(CLAY)
    try:
        return np.array(ImageColor.getrgb(color)[:3]) / 255
    except ValueError:
        raise UserError(f"--color {color}: unknown; take a name, #rrggbb, normal or file") from None


def greys(intensity: np.ndarray) -> np.ndarray:
    """Greys (N, 3) of intensities (N,): the lowest hundredth is black, the highest white."""
    low, high = np.percentile(intensity, [1, 99])
    grey = np.clip((intensity - low) / max(high - low, TINY), 0, 1)
    return np.repeat(grey[:, None], 3, axis=1)


def color_map(values: np.ndarray, top: float) -> np.ndarray:
    """Colours (N, 3) of values (N,) on a scale from 0 to top."""
    from matplotlib import colormaps

    return colormaps[COLOR_MAP](np.clip(values / max(top, TINY), 0, 1))[:, :3]


def reference_distances(mesh: Geometry, reference: Geometry) -> np.ndarray:
    """Distances (N,) of a mesh's vertices to a mesh or cloud, in the reference's unit frame."""
    frame = Frame.of(reference.surface_points)
    reference = reference._replace(points=frame.to_unit(reference.points))
    return metrics.distance_to(frame.to_unit(mesh.points), reference)


def scale_top(distances: np.ndarray) -> float:
    """The top of a scale for distances (N,): their 99th percentile, rounded up to 1, 2 or 5 times
    a power of ten."""
    percentile = max(float(np.percentile(distances, 99)), ROUNDING)
    power = 10 ** np.floor(np.log10(percentile))
    return next(power * step for step in (1, 2, 5, 10) if power * step >= percentile)
