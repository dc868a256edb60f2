"""Geomview's off files, with the colours and normals of COFF, NOFF and CNOFF."""

from __future__ import annotations

from mmap import mmap
import re

from helper import UserError
from igr.formats import columns, lines, streams
from igr.geometry.frames import Geometry

import numpy as np

HEAD = re.compile(rb"\s*(ST)?(C)?(N)?(4)?(n)?OFF\b[ \t]*(BINARY)?|\s*OFF(?=[0-9])")
COMMENT = re.compile(rb"(?<!\S)#[^\n]*")


def read(data: bytes | mmap) -> Geometry:
    """Points, faces, and the normals and colours that the first word announces, or three or four
    numbers behind x, y and z, of colours as everybody writes them."""
    text = bytes(data).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    text = COMMENT.sub(b"", text[3:] if text.startswith(lines.BOM) else text)
    head = HEAD.match(text)
    if head is None:
        raise UserError("not an off file: it does not begin with OFF, COFF, NOFF or CNOFF")
    textured, _, normals, four, many, binary = head.groups()
    if binary or four or many:
        raise UserError("an off file that is binary, or has other points than x y z, is not read")
    counts = re.compile(rb"\s*([0-9]{1,15})[ \t]+([0-9]{1,15})(?:[ \t]+[0-9]+)?[ \t]*(?:\n|$)"
                        ).match(text, head.end())
    if counts is None:
        raise UserError("not an off file: OFF is not followed by the numbers of points and faces")
    vertices, faces = int(counts[1]), int(counts[2])
    if not 0 < vertices + faces <= len(text):
        raise UserError(f"promises {vertices} points and {faces} faces, the file does not hold so "
                        "many" if vertices + faces else "holds no points")
    rows = lines.take_rows(text, counts.end(), vertices, "point")
    cloud = _points_of(rows, bool(normals), bool(textured))
    return cloud._replace(faces=_faces_of(lines.take_rows(text, rows.end, faces, "face")))


def _points_of(rows: lines.Rows, normals: bool, textured: bool) -> Geometry:
    """The cloud of rows x y z, then nx ny nz, r g b (a) and s t, as far as they are there."""
    at, lengths = rows.starts[:-1], np.diff(rows.starts)
    width = int(lengths.min(initial=99))
    least = 6 if normals else 3
    if width < least:
        raise UserError(f"row {lengths.argmin() + 1} of 'point' has only {width} numbers, not "
                        f"{least}")
    table = rows.values[at[:, None] + np.arange(width)]
    behind = width - least - (2 if textured else 0)
    colored = behind in (3, 4) and (lengths == width).all()
    if not colored and (lengths.max() != width or behind):
        streams.warn("rows of points have more numbers than belong to them: these are left out")
    colors = columns.unit_colors(table[:, least : least + 3]) if colored else None
    return Geometry(table[:, :3], table[:, 3:6] if normals else None, colors=colors)


def _faces_of(rows: lines.Rows) -> np.ndarray | None:
    """The triangles of rows: the number of corners, these, and a colour that does not matter."""
    at, lengths = rows.starts[:-1], np.diff(rows.starts)
    corners = rows.values[at]
    bad = np.flatnonzero(~((corners >= 0) & (corners < lengths) & (corners == np.floor(corners))))
    if len(bad):
        raise UserError(f"row {bad[0] + 1} of 'face' has fewer than {corners[bad[0]]:g} corners")
    corners = corners.astype(np.int64)
    if not len(corners):
        return None
    if (corners == corners[0]).all():
        return streams.split_polygons(rows.values[at[:, None] + 1 + np.arange(corners[0])])
    return streams.split_polygons([rows.values[i + 1 : i + 1 + k].astype(np.int64)
                                   for i, k in zip(at.tolist(), corners.tolist())])
