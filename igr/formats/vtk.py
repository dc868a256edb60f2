"""The points of VTK's legacy files (.vtk), ascii and binary.

Of a data set with POINTS (PolyData, unstructured and structured grids) only these are read, not the
cells: Kitware's "VTK File Formats", section "Simple Legacy Formats".
"""

from __future__ import annotations

from mmap import mmap
import re

from helper import UserError
from igr.formats import lines
from igr.geometry.frames import Geometry

import numpy as np

TYPES = {b"float": ">f4", b"double": ">f8", b"char": ">i1", b"unsigned_char": ">u1",
         b"short": ">i2", b"unsigned_short": ">u2", b"int": ">i4", b"unsigned_int": ">u4",
         b"long": ">i8", b"unsigned_long": ">u8", b"vtktypeint64": ">i8"}


def read(data: bytes | mmap) -> Geometry:
    """The points of a file's bytes as a cloud."""
    head = re.match(rb"# vtk DataFile Version [^\n]*\n[^\n]*\n\s*(ASCII|BINARY)\s", data[:1024])
    if head is None:
        raise UserError("not a legacy vtk file: it does not begin with '# vtk DataFile Version', a "
                        "title, and ASCII or BINARY")
    found = re.compile(rb"\nPOINTS[ \t]+([0-9]{1,15})[ \t]+(\w+)[ \t]*\r?\n").search(data)
    if found is None:
        raise UserError("the vtk file has no POINTS")
    count, kind = int(found[1]), TYPES.get(found[2].lower())
    if kind is None:
        raise UserError(f"the vtk file's points have an unknown type '{found[2].decode()[:20]}'")
    body = memoryview(data)[found.end() :]
    if head[1] == b"ASCII":
        values = lines.parse_numbers(body)  # up to the next keyword
    else:
        values = np.frombuffer(body, kind, min(3 * count, len(body) // np.dtype(kind).itemsize))
    if len(values) < 3 * count:
        bad = bytes(body[:4096]).split()[len(values) : len(values) + 1]
        if head[1] == b"ASCII" and bad and lines.why_not(bad[0]):
            raise UserError(f"number {len(values) + 1} of {3 * count} is none"
                            f"{lines.why_not(bad[0])}")
        raise UserError(f"cut short: {count} points were promised, the data ends earlier")
    return Geometry(values[: 3 * count].reshape(count, 3))
