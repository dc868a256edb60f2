"""Wavefront's obj files, a block of lines at a time."""

from __future__ import annotations

from mmap import mmap
import re
from typing import NamedTuple

from helper import UserError
from igr.formats import lines, streams
from igr.formats.columns import unit_colors
from igr.formats.lines import parse_numbers
from igr.formats.streams import Stream, split_polygons
from igr.geometry.frames import Geometry

import numpy as np

BLOCK = 1 << 22  # bytes that are read at a time, to spare memory
VERTEX = re.compile(rb"^[ \t]*v(?!\S)([^\n]*)", re.MULTILINE)
NORMAL = re.compile(rb"^[ \t]*vn(?!\S)([^\n]*)", re.MULTILINE)
FACE = re.compile(rb"^[ \t]*f(?!\S)([^\n]*)", re.MULTILINE)
BEHIND = re.compile(rb"/[^ \t\n]*")  # a corner's vertex: its texture and normal
CORNER = re.compile(rb"(-?[0-9]+)/[^ \t\n/]*/(-?[0-9]+)")  # its vertex and its normal
CONTINUED = re.compile(rb"\\[ \t]*\n")  # a line that goes on in the next one
COLORED = (6, 7)  # numbers of a vertex with a colour, and opacity


class _Part(NamedTuple):
    """What some lines hold."""

    points: np.ndarray  # (n, 3)
    colors: np.ndarray  # (m, 3), of those vertices that have one
    faces: np.ndarray  # (k, 3)
    normals: np.ndarray  # (l, 3)
    own: np.ndarray  # (0 or 1,) False: a face's corner has the normal of another number


def read(data: bytes | mmap) -> Geometry:
    """Vertices, with the colours behind them, faces, and normals if each vertex has its own;
    texture, groups, materials and lines do not matter here."""
    parts = []
    before = 0  # vertices of the blocks before
    directed = False  # has there been a normal?
    for block in _blocks(Stream(data)):
        part = _even_lines(block) or _any_lines(block, before)
        directed |= b"vn" in block
        normals = _rows(NORMAL.findall(block) if directed else [])
        usable = normals is not None and normals.shape[1] == 3
        own = [] if usable and (not directed or _own_normals(block)) else [False]
        parts.append(part._replace(normals=normals if usable else np.empty((0, 3)),
                                   own=np.array(own, bool)))
        before += len(part.points)
    if not before:
        raise UserError("the obj file holds no points")
    points, colors, faces, normals, own = (np.concatenate(columns) for columns in zip(*parts))
    kept = len(normals) == len(points) and not len(own)  # files have them before their faces
    if len(normals) and not kept and not len(faces):
        streams.warn(f"{len(normals)} normals of {len(points)} points: left out")
    if 0 < len(colors) < len(points):
        streams.warn(f"only {len(colors)} of {len(points)} points have a colour: colours are left "
                     "out")
    return Geometry(points, normals if kept else None, faces if len(faces) else None,
                    unit_colors(colors) if len(colors) == len(points) else None)


def _own_normals(block: bytes) -> bool:
    """Has each corner of the block's faces the normal of its vertex's number?"""
    return all(vertex == normal for vertex, normal in CORNER.findall(block))


def _blocks(file: Stream):
    """Yield the lines of a file, many in one bytes; continued ones as one line."""
    block = file.read(BLOCK) + file.readline()
    block = block[3:] if block.startswith(lines.BOM) else block
    while block:
        while block.rstrip().endswith(b"\\") and (more := file.readline()):
            block += more
        block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        yield CONTINUED.sub(b" ", block) if b"\\" in block else block
        block = file.read(BLOCK) + file.readline()


def _even_lines(block: bytes) -> _Part | None:
    """The block's lines, all at once, if all vertices have as many numbers and all faces as many
    corners, counted from the file's first vertex; else None."""
    vertices = _rows(VERTEX.findall(block))
    corners = _rows([BEHIND.sub(b"", line) for line in FACE.findall(block)])
    if vertices is None or corners is None:
        return None
    if len(vertices) and vertices.shape[1] < 3:
        return None
    if len(corners) and (corners.shape[1] < 3 or not _are_numbers_of_rows(corners)):
        return None
    vertices = vertices.reshape(len(vertices), -1 if len(vertices) else 3)
    colors = vertices[:, 3:6] if vertices.shape[1] in COLORED else vertices[:0, :3]
    polygons = corners.astype(np.int64) - 1
    return _part(vertices[:, :3], colors, split_polygons(polygons) if len(corners) else None)


def _part(points, colors, faces) -> _Part:
    points, colors = (np.array(values, np.float64).reshape(-1, 3) for values in (points, colors))
    return _Part(points, colors, np.empty((0, 3), np.int64) if faces is None else faces,
                 np.empty((0, 3)), np.empty(0, bool))


def _are_numbers_of_rows(values: np.ndarray) -> bool:
    """Are all values whole numbers from 1 on, as float64 has them?"""
    return bool(np.isfinite(values).all() and (values >= 1).all() and (values < 2**53).all()
                and (values == np.floor(values)).all())


def _rows(lines: list) -> np.ndarray | None:
    """The numbers (n, k) of n lines that have k each; None where they do not."""
    if not lines:
        return np.empty((0, 3))
    count = len(lines[0].split())
    if any(len(line.split()) != count for line in lines):
        return None
    numbers = parse_numbers(b" ".join(lines))
    return numbers.reshape(-1, count) if count and len(numbers) == count * len(lines) else None


def _any_lines(block: bytes, before: int) -> _Part:
    """The block's lines one by one. before: vertices of the blocks before, for corners that are
    counted backwards. Raises UserError where a line is bad."""
    points = []
    colors = []
    polygons = []
    for line in block.decode("utf-8", "replace").split("\n"):
        words = line.split()
        try:
            if words[:1] == ["v"]:
                numbers = [float(word) for word in words[1:]]
                points.append((numbers[0], numbers[1], numbers[2]))
                colors += [numbers[3:6]] * (len(numbers) in COLORED)
            elif words[:1] == ["f"]:
                polygons.append(_polygon(words[1:], before + len(points)))
        except (ValueError, IndexError, OverflowError):
            reason = lines.why_not(BEHIND.sub(b"", " ".join(words[1:]).encode()))
            raise UserError(f"the obj file has a bad line: '{lines.shown(line)}'{reason}") from None
    return _part(points, colors, split_polygons(polygons))


def _polygon(words: list, before: int) -> np.ndarray:
    """The numbers (k,) of a face's vertices; in the file they are counted from 1, or backwards
    from the last one of those before. Raises ValueError where there are too few."""
    corners = [int(word.split("/")[0]) for word in words]
    if len(corners) < 3 or not all(corners):
        raise ValueError
    return np.array([c - 1 if c > 0 else before + c for c in corners], np.int64)
