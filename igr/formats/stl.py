"""Stl files: all solids of a file as one mesh, whose triangles share their corners."""

from __future__ import annotations

from mmap import mmap
import re

from helper import UserError
from igr.formats import lines
from igr.geometry.frames import Geometry

import numpy as np

HEAD = 84  # bytes of a binary file: anything, and the number of triangles
TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
CORNER = re.compile(rb"\bvertex[ \t]+([^\n\r]*)", re.IGNORECASE)
FACET = re.compile(rb"\bfacet[ \t]+normal\b", re.IGNORECASE)
SOLID = re.compile(rb"^\s*(end)?[ \t]*solid\b", re.IGNORECASE | re.MULTILINE)


def read(data: bytes | mmap) -> Geometry:
    """Triangles of a binary file, or of an ascii one; the corners are joined where they are equal.

    Raises UserError where the file ends before what it promises.
    """
    data = bytes(data)
    count = int.from_bytes(data[80:HEAD], "little") if len(data) >= HEAD else -1
    if count >= 0 and len(data) == HEAD + TRIANGLE.itemsize * count:
        soup = _binary(data, count)
    elif SOLID.match(data[3:] if data.startswith(lines.BOM) else data) and FACET.search(data):
        soup = _ascii(data)
    elif SOLID.match(data) and re.search(rb"endsolid", data, re.IGNORECASE):
        raise UserError("holds no points: its solids are empty")
    elif len(data) > HEAD + TRIANGLE.itemsize * count >= HEAD:
        soup = _binary(data, count)
    elif count < 0 or b"facet" in data[:1000]:
        raise UserError("not a stl file: neither 'solid' and its facets nor a binary header")
    else:
        raise UserError(f"not a stl file, or cut short: {count} triangles were promised in "
                        f"{len(data)} bytes")
    if not len(soup):
        raise UserError("holds no points: it has no triangle")
    points, corner = np.unique(soup, axis=0, return_inverse=True)
    return Geometry(points, None, corner.reshape(-1, 3))


def _binary(data: bytes, count: int) -> np.ndarray:
    """The corners (3 n, 3) of n triangles."""
    return np.frombuffer(data, TRIANGLE, count, HEAD)["corners"].reshape(-1, 3).astype(np.float64)


def _ascii(data: bytes) -> np.ndarray:
    """The corners (3 n, 3) of the n facets of all solids. Raises UserError where a facet has not
    three corners, or the last solid no end."""
    corners = CORNER.findall(data)
    facets = len(FACET.findall(data))
    ends = [bool(found) for found in SOLID.findall(data)]
    if len(corners) != 3 * facets or not ends[-1]:
        raise UserError(f"cut short: {facets} facets have {len(corners)} corners, or the last "
                        "solid has no end")
    text = b"\n".join(corners)
    values = lines.numbers_of(text, 3 * len(corners))
    if values is None or (lines.count_words(text)[0] != 3).any():
        bad = next(line for line in corners if len(line.split()) != 3 or lines.why_not(line))
        raise UserError(f"the stl file has a bad line: 'vertex {lines.shown(bad)}'"
                        f"{lines.why_not(bad)}")
    return values.reshape(-1, 3)
