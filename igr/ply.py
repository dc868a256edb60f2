"""The ply format: ascii and binary, any properties, polygons cut into triangles."""

from __future__ import annotations

import re
from typing import NamedTuple

from helper import UserError
from igr import formats
from igr.frames import Geometry

import numpy as np

_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4",
    "float": "f4", "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2",
    "int32": "i4", "uint32": "u4", "int64": "i8", "uint64": "u8", "float32": "f4", "float64": "f8",
}


class _Element(NamedTuple):
    name: str
    count: int  # rows
    properties: list  # (name, numpy type of the value, numpy type of a list's length or None)


def read(data: bytes) -> Geometry:
    data = data[3:] if data.startswith(b"\xef\xbb\xbf") else data
    encoding, elements, body = _header(data)
    if encoding == "ascii":  # an ascii body is a binary one in which every property is a double
        body = formats.numbers(body).tobytes()
        elements = [
            _Element(name, count, [(p, "<f8", length and "<f8") for p, _, length in properties])
            for name, count, properties in elements
        ]
    tables, position = {}, 0
    for element in elements:
        tables[element.name], position = _element(body, position, element)
        if {"vertex", "face"} <= tables.keys():
            break  # nothing behind them is of use here
    vertex, face = tables.get("vertex", {}), tables.get("face", {})
    if not {"x", "y", "z"} <= vertex.keys():
        raise UserError("the ply file has no vertices with x, y, z")
    points = np.stack([vertex[axis] for axis in ("x", "y", "z")], axis=1)
    normals = None
    if {"nx", "ny", "nz"} <= vertex.keys():
        normals = np.stack([vertex[axis] for axis in ("nx", "ny", "nz")], axis=1)
    polygons = face.get("vertex_indices", face.get("vertex_index"))
    return Geometry(points, normals, None if polygons is None else formats.triangles(polygons))


def _header(data: bytes):
    """Returns (encoding, elements, the bytes behind the header)."""
    if not data.startswith(b"ply"):
        raise UserError("not a ply file: it does not begin with 'ply'")
    end = re.search(rb"[\r\n]end_header[ \t]*(\r\n|\r|\n)", data[: 1 << 20])
    if end is None:
        raise UserError("the ply header has no end_header")
    mark, body = end.start(), data[end.end() :]
    encoding, order, elements = None, "<", []
    for line in data[:mark].decode("latin-1").splitlines():
        words = line.split()
        try:
            if words[:1] == ["format"]:
                encoding = words[1]
                order = ">" if encoding == "binary_big_endian" else "<"
            elif words[:1] == ["element"]:
                elements.append(_Element(words[1], int(words[2]), []))
            elif words[:2] == ["property", "list"]:
                length, kind = order + _TYPES[words[2]], order + _TYPES[words[3]]
                elements[-1].properties.append((words[4], kind, length))
            elif words[:1] == ["property"]:
                elements[-1].properties.append((words[2], order + _TYPES[words[1]], None))
        except (IndexError, KeyError, ValueError):
            raise UserError(f"the ply header has a bad line: '{line[:60]}'") from None
    if encoding not in ("ascii", "binary_little_endian", "binary_big_endian"):
        raise UserError(f"unknown ply format '{encoding}'")
    for name, count, properties in elements:
        if not 0 <= count <= len(body) or (count and not properties):
            raise UserError(f"the ply header promises {count} of '{name}', the file holds fewer")
        if len({p[0] for p in properties}) < len(properties):
            raise UserError(f"the ply header names a property of '{name}' twice")
    return encoding, elements, body


def _element(body: bytes, position: int, element: _Element):
    """Returns ({property: column}, position behind the element).

    A scalar's column has shape (rows,), a list's (rows, length), or is a list of arrays where the
    lengths differ. All rows are read at once when every list is as long as in the first row.
    """
    name, rows, properties = element
    if rows == 0:
        return {}, position
    short = UserError(f"cut short: {rows} rows of '{name}' were promised, the data ends earlier")
    fields, size = [], 0  # the row's numpy type, as its first row suggests
    for p, kind, length in properties:
        if length is None:
            fields.append((p, kind))
        else:
            k = _list_length(body, position + size, length, short)
            fields += [(f"{p} length", length), (p, kind, (k,))]
        try:
            size = np.dtype(fields).itemsize
        except ValueError:  # a list longer than numpy can name
            raise short from None
    if position + rows * size <= len(body):
        table = np.frombuffer(body, np.dtype(fields), rows, position)
        lists = [p for p, _, length in properties if length is not None]
        if all((table[f"{p} length"] == table[p].shape[1]).all() for p in lists):
            return {p: table[p] for p, _, _ in properties}, position + rows * size
    elif all(length is None for _, _, length in properties):
        raise short
    columns = {p: [] for p, _, _ in properties}
    for _ in range(rows):
        for p, kind, length in properties:
            k = 1
            if length is not None:
                k = _list_length(body, position, length, short)
                position += np.dtype(length).itemsize
            end = position + k * np.dtype(kind).itemsize
            if end > len(body):
                raise short
            columns[p].append(np.frombuffer(body[position:end], kind))
            position = end
    return {p: np.concatenate(columns[p]) if length is None else columns[p]
            for p, _, length in properties}, position


def _list_length(body: bytes, position: int, kind: str, short: UserError) -> int:
    end = position + np.dtype(kind).itemsize
    if end > len(body):
        raise short
    length = np.frombuffer(body[position:end], kind)[0]
    if not 0 <= length <= len(body) or length != int(length):
        raise short
    return int(length)


def to_bytes(geometry: Geometry) -> bytes:
    points, normals, faces = geometry
    kind, word = ("<f4", "float") if fits_float32(points) else ("<f8", "double")
    names = ["x", "y", "z"] + ([] if normals is None else ["nx", "ny", "nz"])
    table = np.concatenate([points] + ([] if normals is None else [normals]), axis=1)
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}"]
    header += [f"property {word} {name}" for name in names]
    body = table.astype(kind).tobytes()
    if faces is not None:
        header += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
        rows = np.empty(len(faces), [("length", "u1"), ("vertices", "<i4", (3,))])
        rows["length"], rows["vertices"] = 3, faces
        body += rows.tobytes()
    return "\n".join([*header, "end_header", ""]).encode() + body


def fits_float32(points: np.ndarray) -> bool:
    """Does float32 move no point by more than a millionth of the size?"""
    moved = np.abs(points.astype(np.float32) - points).max()
    return moved <= 1e-6 * np.ptp(points, axis=0).max()
