"""A mesh as one html file that any browser with WebGL 2 rotates: nothing to install, no network.
The page itself is viewer.html beside this file.

The mesh travels as zlib-compressed base64: the x of all vertices, then y, then z, as 16-bit steps
of the longest side; then the faces' corners as 32-bit numbers; then 8-bit colours. Then come the
coordinates and the colours of a cloud's points, where there is one. Each column but the colours
holds differences to the number before, split into lower and higher bytes, which compresses well.
"""

from __future__ import annotations

import base64
import html
import json
from pathlib import Path
import re
from typing import NamedTuple
import zlib

from helper import open3d
from igr.geometry import meshes
from igr.geometry.frames import Geometry
from igr.view import render
from igr.view.cameras import View
from igr.view.colors import CLAY, TINY

import numpy as np

STEPS = 65535  # of 16 bits
LEVEL = 7  # of zlib's 9: 1 % more bytes in a tenth of the time
MOST_FACES = 1_000_000  # that a browser rotates smoothly
MOST_POINTS = 200_000  # of a cloud; a larger one is thinned at random
LEAST_SIDE = 1e-6  # of a cube of vertices, in longest sides of the mesh: it may have no area
BEYOND = 0.1  # of the mesh's longest side: what is farther outside its box is not shown


class Dots(NamedTuple):
    """A cloud's points beside a mesh."""

    points: np.ndarray  # (N, 3)
    colors: np.ndarray  # (N, 3), sRGB
    note: str  # what the colours mean

    def near(self, low: np.ndarray, high: np.ndarray) -> Dots:
        """Those that are shown with a mesh in the box from low (3,) to high (3,)."""
        margin = BEYOND * (high - low).max()
        inside = ((self.points > low - margin) & (self.points < high + margin)).all(axis=1)
        shown = np.random.default_rng(0).permutation(np.flatnonzero(inside))[:MOST_POINTS]
        shown.sort()
        return Dots(self.points[shown], self.colors[shown], self.note)


def page(mesh: Geometry, title: str, view: View, colors=CLAY, dots: Dots | None = None,
         again: int = 0) -> str:
    """The html text for a mesh, and for a cloud that buttons show in its place or with it.

    colors: sRGB (3,) or one a vertex (N, 3). view: its angles, zoom and up are the camera's at
    first. again: seconds, after which a browser reads the page again; 0: never.
    """
    mesh, origin = meshes.split_creases(mesh)  # the page averages normals at vertices
    low = mesh.points.min(axis=0)
    high = mesh.points.max(axis=0)
    center = (low + high) / 2
    dots = (dots or Dots(*np.empty((2, 0, 3)), "")).near(low, high)
    low = np.minimum(low, dots.points.min(axis=0, initial=np.inf))
    high = np.maximum(high, dots.points.max(axis=0, initial=-np.inf))
    side = max((high - low).max(), TINY)
    # on the page the vertex farthest from the center is 1 away from it
    scale = max(np.linalg.norm(mesh.points - center, axis=1).max(), TINY)
    colors = np.asarray(colors)
    of_vertices = colors.ndim == 2
    towards, strengths = zip(*render.LIGHTS)
    settings = {
        "vertices": len(mesh.points), "faces": len(mesh.faces), "colored": of_vertices,
        "points": len(dots.points), "color": None if of_vertices else colors.tolist(),
        "low": ((low - center) / scale).tolist(), "step": side / STEPS / scale,
        "azimuth": view.azimuth, "elevation": view.elevation, "zoom": view.zoom, "up": view.up,
        "towards": meshes.unit_vectors(np.array(towards)).tolist(),
        "strengths": [*strengths, render.AMBIENT],
    }
    data = [_places(mesh.points, low, side), _column(mesh.faces.astype(np.uint32).ravel()),
            _bytes(colors[origin]) if of_vertices else b"",
            _places(dots.points, low, side), _bytes(dots.colors)]
    values = {
        "TITLE": html.escape(title), "COUNTS": f"{len(mesh.faces):,} faces",
        "AGAIN": f'<meta http-equiv="refresh" content="{again}">\n' if again else "",
        "NOTE": html.escape(dots.note), "SETTINGS": json.dumps(settings),
        "DATA": base64.b64encode(zlib.compress(b"".join(data), LEVEL)).decode(),
    }
    text = (Path(__file__).parent / "viewer.html").read_text(encoding="utf-8")
    return re.sub("@([A-Z]+)@", lambda found: values[found[1]], text)


def _places(points: np.ndarray, low: np.ndarray, side: float) -> bytes:
    """Points (n, 3) as STEPS from low (3,), the corner of a cube with that side, in columns."""
    steps = np.round((points - low) * (STEPS / side)).astype(np.uint16)
    return b"".join(_column(steps[:, axis]) for axis in range(3))


def _bytes(colors: np.ndarray) -> bytes:
    return np.round(255 * np.clip(colors, 0, 1)).astype(np.uint8).tobytes()


def _column(values: np.ndarray) -> bytes:
    """Unsigned integers (n,) as differences to the one before (modulo their range): the lowest
    bytes of all first, then the next ones."""
    steps = np.diff(values, prepend=values.dtype.type(0))
    split = steps.astype(values.dtype.newbyteorder("<")).view(np.uint8)
    return split.reshape(-1, values.dtype.itemsize).T.tobytes()


def thinned(mesh: Geometry, count: int) -> Geometry:
    """A mesh of at most `count` faces to look at, made quickly: all vertices in a cube become one,
    their mean (Rossignac & Borrel 1993). It has colours but no normals, and is not manifold in
    general. The mesh itself where it has no more faces.
    """
    if count >= len(mesh.faces):
        return mesh
    o3d = open3d()
    full = o3d.geometry.TriangleMesh(o3d.utility.Vector3dVector(mesh.points),
                                     o3d.utility.Vector3iVector(mesh.faces.astype(np.int32)))
    if mesh.colors is not None:
        full.vertex_colors = o3d.utility.Vector3dVector(mesh.colors)
    # a surface of area A crosses some 1.5 A / side^2 cubes, and has twice as many faces as vertices
    side = max((3 * meshes.face_areas(mesh).sum() / count) ** 0.5,
               LEAST_SIDE * np.ptp(mesh.points, axis=0).max(), TINY)
    while True:
        small = full.simplify_vertex_clustering(
            side, o3d.geometry.SimplificationContraction.Average)
        if len(small.triangles) <= count:
            break
        side *= 1.1
    colors = None if mesh.colors is None else np.asarray(small.vertex_colors)
    return Geometry(np.asarray(small.vertices), None, np.asarray(small.triangles, np.int64), colors)
