"""A mesh as one html file that turns it in any browser with WebGL 2: nothing to install, no
network. The page itself is viewer.html beside this file.

The mesh travels as zlib-compressed base64: the x of all vertices, then y, then z as 16-bit steps of
the longest side, the faces' corners as 32-bit numbers, each column as differences to the number
before and split into its lower and higher bytes (that is what packs well), then 8-bit colours.
"""

from __future__ import annotations

import base64
import html
import json
from pathlib import Path
import re
import zlib

from igr import meshes, render
from igr.frames import Geometry

import numpy as np

STEPS = 65535


def page(mesh: Geometry, title: str, colors=render.CLAY, azimuth=30.0, elevation=15.0, zoom=1.0,
         up="y") -> str:
    """The html text for a mesh; colors sRGB, (3,) or one a vertex (N, 3); angles in degrees."""
    mesh, origin = meshes.split_creases(mesh)  # the page averages normals at vertices
    low, high = mesh.points.min(axis=0), mesh.points.max(axis=0)
    side = max((high - low).max(), 1e-300)
    center = (low + high) / 2  # farthest from here, the shape is 1 away on the page
    scale = max(np.linalg.norm(mesh.points - center, axis=1).max(), 1e-300)
    steps = np.round((mesh.points - low) * (STEPS / side)).astype(np.uint16)
    colors = np.asarray(colors)
    body = [_column(steps[:, axis]) for axis in range(3)]
    body.append(_column(mesh.faces.astype(np.uint32).ravel()))
    if colors.ndim == 2:
        body.append(np.round(255 * np.clip(colors[origin], 0, 1)).astype(np.uint8).tobytes())
    towards = np.array([direction for direction, _ in render.LIGHTS])
    settings = {
        "vertices": len(mesh.points), "faces": len(mesh.faces), "colored": colors.ndim == 2,
        "color": colors.tolist() if colors.ndim == 1 else None,
        "low": ((low - center) / scale).tolist(), "step": side / STEPS / scale,
        "azimuth": azimuth, "elevation": elevation, "zoom": zoom, "up": up,
        "towards": (towards / np.linalg.norm(towards, axis=1, keepdims=True)).tolist(),
        "strengths": [strength for _, strength in render.LIGHTS] + [render.AMBIENT],
    }
    text = (Path(__file__).parent / "viewer.html").read_text(encoding="utf-8")
    values = {
        "TITLE": html.escape(title), "COUNTS": f"{len(mesh.faces):,} faces",
        "SETTINGS": json.dumps(settings),
        "DATA": base64.b64encode(zlib.compress(b"".join(body), 9)).decode(),
    }
    return re.sub("@([A-Z]+)@", lambda found: values[found[1]], text)


def _column(values: np.ndarray) -> bytes:
    """Differences of unsigned integers (modulo their range), all lowest bytes first."""
    steps = np.diff(values, prepend=values.dtype.type(0))
    split = steps.astype(values.dtype.newbyteorder("<")).view(np.uint8)
    return split.reshape(-1, values.dtype.itemsize).T.tobytes()
