"""Wavefront's obj files, a block of lines at a time."""

from __future__ import annotations

from mmap import mmap
import re
from typing import NamedTuple

from helper import UserError
from igr.formats.streams import Stream, split_polygons
from igr.formats.tables import parse_numbers, unit_colors
from igr.geometry.frames import Geometry

import numpy as np

BLOCK = 1 << 22  # bytes that are read at a time, to spare memory
VERTEX = re.compile(rb"^[ \t]*v(?!\S)([^\n]*)", re.MULTILINE)
FACE = re.compile(rb"^[ \t]*f(?!\S)([^\n]*)", re.MULTILINE)
BEHIND = re.compile(rb"/[^ \t\n]*")  # a corner's vertex: its texture and normal
COLORED = 6  # numbers of a vertex with a colour


class _Part(NamedTuple):
    """What some lines hold."""

    points: np.ndarray  # (n, 3)
    colors: np.ndarray  # (m, 3), of those vertices that have one
    faces: np.ndarray  # (k, 3)


def read(data: bytes | mmap) -> Geometry:
    """Vertices, with the colours behind them, and faces; texture, normals, groups, materials and
    lines do not matter here."""
    file = Stream(data)
    parts = []
    before = 0  # vertices of the blocks before
    block = file.read(BLOCK) + file.readline()
    block = block[3:] if block.startswith(b"\xef\xbb\xbf") else block
    while block:
        block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        parts.append(_even_lines(block) or _any_lines(block, before))
        before += len(parts[-1].points)
        block = file.read(BLOCK) + file.readline()
    if not before:
        raise UserError("the obj file holds no points")
    points, colors, faces = (np.concatenate(columns) for columns in zip(*parts))
    return Geometry(points, None, faces if len(faces) else None,
                    unit_colors(colors) if len(colors) else None)


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
    colored = vertices.shape[1] == COLORED
    polygons = corners.astype(np.int64) - 1
    return _Part(vertices[:, :3], vertices[:, 3:] if colored else np.empty((0, 3)),
                 split_polygons(polygons) if len(corners) else np.empty((0, 3), np.int64))


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
    for line in block.decode("utf-8", "replace").splitlines():
        words = line.split()
        try:
            if words[:1] == ["v"]:
                points.append((float(words[1]), float(words[2]), float(words[3])))
                if len(words) == 1 + COLORED:
                    colors.append((float(words[4]), float(words[5]), float(words[6])))
            elif words[:1] == ["f"]:
                corners = [int(word.split("/")[0]) for word in words[1:]]
                if len(corners) < 3 or not all(corners):
                    raise ValueError
                here = before + len(points)
                # counted from 1, or backwards from the last vertex so far
                polygons.append(np.array([c - 1 if c > 0 else here + c for c in corners], np.int64))
        except (ValueError, IndexError, OverflowError):
            raise UserError(f"the obj file has a bad line: '{line[:60]}'") from None
    return _Part(np.array(points).reshape(-1, 3), np.array(colors).reshape(-1, 3),
                 split_polygons(polygons))
