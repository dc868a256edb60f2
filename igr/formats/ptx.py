"""Leica's ptx: scans as text, each a grid of points in the scanner's frame with a matrix."""

from __future__ import annotations

from mmap import mmap

from helper import UserError
from igr.formats import columns, lines, streams
from igr.geometry.frames import Geometry

import numpy as np

HEAD = 10  # lines of a scan: columns, rows, the scanner's place and axes, a matrix of 4 rows
LENGTHS = [1, 1, 3, 3, 3, 3, 4, 4, 4, 4]  # numbers of these lines


def read(data: bytes | mmap) -> Geometry:
    """The points of all scans in the common frame, without those that had no echo (0 0 0), with
    intensities, the scanners' places, and colours if all scans have them."""
    text = memoryview(data)
    start = 3 if text[:3] == lines.BOM else 0
    scans = []
    while bytes(text[start : start + 100]).strip() or bytes(text[start:]).strip():
        scan, start = _scan(text, start)
        scans.append(scan)
    if not sum(len(scan.points) for scan in scans):
        raise UserError("holds no points")
    return streams.joined(scans, "scans")


def _scan(text: memoryview, start: int) -> tuple[Geometry, int]:
    """The points of the scan that begins at a place of the text, and where it ends."""
    head = lines.take_rows(text, start, HEAD, "ptx header")
    if np.diff(head.starts).tolist() != LENGTHS:
        raise UserError("not a ptx file: a scan begins with 10 lines of 1, 1, 3, 3, 3, 3, 4, 4, 4 "
                        "and 4 numbers")
    matrix = head.values[-16:].reshape(4, 4)  # p_world = p M, its last row is the shift
    if not np.isfinite(head.values).all() or not np.array_equal(matrix[:, 3], (0, 0, 0, 1)):
        raise UserError("the ptx file's matrix is not finite, or its last column is not 0 0 0 1")
    size = head.values[:2]
    count = int(size.prod())
    if not (size >= 1).all() or (size != np.floor(size)).any() or count > len(text):
        raise UserError(f"the ptx file promises {size[0]:g} x {size[1]:g} points, the file does "
                        "not hold so many")
    rows = lines.take_rows(text, head.end, count, "point")
    width = np.diff(rows.starts)
    if (width != width[0]).any() or width[0] not in (3, 4, 6, 7):
        bad = int((width != width[0]).argmax())
        raise UserError(f"row {bad + 1} of 'point' has {width[bad]} numbers, not x y z intensity, "
                        "or these and r g b")
    table = rows.values.reshape(count, -1)
    table = table[(table[:, :3] != 0).any(axis=1)]
    with np.errstate(invalid="ignore", over="ignore"):  # points that are not finite
        points = table[:, :3] @ matrix[:3, :3] + matrix[3, :3]
    colors = columns.unit_colors(table[:, -3:], 255) if width[0] > 4 else None
    intensity = table[:, 3] if width[0] in (4, 7) else None
    # the matrix has the last word on where the scanner stood: its frame's origin
    return Geometry(points, None, None, colors, intensity,
                    np.tile(matrix[3, :3], (len(points), 1))), rows.end
