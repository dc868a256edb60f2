"""The ply format: ascii and binary, any properties, polygons cut into triangles."""

from __future__ import annotations

from mmap import mmap
import re
from typing import BinaryIO, NamedTuple

from helper import UserError
from igr.formats import streams, tables
from igr.geometry.frames import Geometry

import numpy as np

_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4",
    "float": "f4", "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2",
    "int32": "i4", "uint32": "u4", "int64": "i8", "uint64": "u8", "float32": "f4", "float64": "f8",
}
NOTE = "comment igr: "
ROWS = 1 << 18  # that are written together, to spare memory


class _Property(NamedTuple):
    name: str
    kind: str  # numpy type of the value
    length: str | None  # numpy type of a list's length, or None for a scalar


class _Element(NamedTuple):
    name: str
    count: int  # rows
    properties: list  # of _Property


# ------------------------------------------------------------------------------------------ reading


def read(data: bytes | mmap) -> Geometry:
    """The cloud or mesh of a file's bytes, unchecked. Raises UserError where they are no ply."""
    data = memoryview(data)  # whose parts are no copies
    encoding, elements, body = _header(data[3:] if data[:3] == b"\xef\xbb\xbf" else data)
    kinds = {p.name: p.kind[-2:] for e in elements if e.name == "vertex" for p in e.properties}
    if encoding == "ascii":  # an ascii body is a binary one in which every property is a double
        body = memoryview(tables.parse_numbers(body).view(np.uint8))
        elements = [_with_doubles(element) for element in elements]
    columns_of = {}
    position = 0
    for element in elements:
        columns_of[element.name], position = _read_element(body, position, element)
        if {"vertex", "face"} <= columns_of.keys():
            break  # nothing behind them is of use here
    vertex = columns_of.get("vertex", {})
    face = columns_of.get("face", {})
    if not {"x", "y", "z"} <= vertex.keys():
        raise UserError("the ply file has no vertices with x, y, z")
    polygons = face.get("vertex_indices", face.get("vertex_index"))
    faces = None if polygons is None else streams.split_polygons(polygons)
    for name in ("red", "green", "blue"):
        if name in vertex and kinds[name][0] != "f":  # an ascii file's were read as doubles, too
            with np.errstate(invalid="ignore"):  # a damaged file's; refused where it is too large
                vertex[name] = np.asarray(vertex[name]).astype(np.int64)
    columns = {tables.NAMES.get(name.lower(), name): column for name, column in vertex.items()}
    return tables.geometry_of(columns)._replace(faces=faces)


def _with_doubles(element: _Element) -> _Element:
    properties = [_Property(p.name, "<f8", p.length and "<f8") for p in element.properties]
    return element._replace(properties=properties)


def _header(data: memoryview):
    """Returns (encoding, elements, the bytes behind the header)."""
    if data[:3] != b"ply":
        raise UserError("not a ply file: it does not begin with 'ply'")
    end = re.search(rb"[\r\n]end_header[ \t]*(\r\n|\r|\n)", data[: 1 << 20])
    if end is None:
        raise UserError("the ply header has no end_header")
    body = data[end.end() :]
    encoding = None
    order = "<"
    elements = []
    for line in bytes(data[: end.start()]).decode("latin-1").splitlines():
        words = line.split()
        try:
            if words[:1] == ["format"]:
                encoding = words[1]
                order = ">" if encoding == "binary_big_endian" else "<"
            elif words[:1] == ["element"]:
                elements.append(_Element(words[1], int(words[2]), []))
            elif words[:1] == ["property"]:
                elements[-1].properties.append(_property(words, order))
        except (IndexError, KeyError, ValueError):
            raise UserError(f"the ply header has a bad line: '{line[:60]}'") from None
    if encoding not in ("ascii", "binary_little_endian", "binary_big_endian"):
        raise UserError(f"unknown ply format '{encoding}'")
    for name, count, properties in elements:
        if not 0 <= count <= len(body) or (count and not properties):
            raise UserError(f"the ply header promises {count} of '{name}', the file holds fewer")
        if len({p.name for p in properties}) < len(properties):
            raise UserError(f"the ply header names a property of '{name}' twice")
    return encoding, elements, body


def _property(words: list, order: str) -> _Property:
    """Of a header line: property TYPE NAME or property list LENGTH TYPE NAME."""
    if words[1:2] == ["list"]:
        return _Property(words[4], order + _TYPES[words[3]], order + _TYPES[words[2]])
    return _Property(words[2], order + _TYPES[words[1]], None)


def _read_element(body: memoryview, position: int, element: _Element):
    """Returns ({property: column}, position behind the element).

    A scalar's column has shape (rows,), a list's (rows, length), or is a list of arrays where the
    lengths differ. All rows are read at once when every list is as long as in the first row.
    """
    name, rows, properties = element
    if rows == 0:
        return {}, position
    short = UserError(f"cut short: {rows} rows of '{name}' were promised, the data ends earlier")
    row = _type_of_first_row(body, position, properties, short)
    end = position + rows * row.itemsize
    lists = [p.name for p in properties if p.length is not None]
    if end <= len(body):
        table = np.frombuffer(body, row, rows, position)
        if all((table[f"{p} length"] == table[p].shape[1]).all() for p in lists):
            return {p.name: table[p.name] for p in properties}, end
    elif not lists:
        raise short
    return _read_row_by_row(body, position, element, short)


def _type_of_first_row(body: memoryview, position: int, properties: list,
                       short: UserError) -> np.dtype:
    """numpy's type of the row at position, each list with the length that it has there."""
    fields = []
    row = np.dtype(fields)
    for p in properties:
        if p.length is None:
            fields.append((p.name, p.kind))
        else:
            k = _list_length(body, position + row.itemsize, p.length, short)
            fields += [(f"{p.name} length", p.length), (p.name, p.kind, (k,))]
        try:
            row = np.dtype(fields)
        except ValueError:  # a list longer than numpy can name
            raise short from None
    return row


def _read_row_by_row(body: memoryview, position: int, element: _Element, short: UserError):
    """As _read_element(), for lists of different lengths."""
    columns = {p.name: [] for p in element.properties}
    for _ in range(element.count):
        for p in element.properties:
            k = 1
            if p.length is not None:
                k = _list_length(body, position, p.length, short)
                position += np.dtype(p.length).itemsize
            end = position + k * np.dtype(p.kind).itemsize
            if end > len(body):
                raise short
            columns[p.name].append(np.frombuffer(body[position:end], p.kind))
            position = end
    for p in element.properties:
        if p.length is None:
            columns[p.name] = np.concatenate(columns[p.name])
    return columns, position


def _list_length(body: memoryview, position: int, kind: str, short: UserError) -> int:
    end = position + np.dtype(kind).itemsize
    if end > len(body):
        raise short
    length = np.frombuffer(body[position:end], kind)[0]
    if not 0 <= length <= len(body) or length != int(length):
        raise short
    return int(length)


# ------------------------------------------------------------------------------------------ writing


def write(file: BinaryIO, geometry: Geometry, note: str = "") -> None:
    """Write a cloud or mesh as binary ply, float32 or, where that loses, float64; colours are
    rounded to 8 bits. note: a line that the header keeps, see note_of."""
    points, faces = geometry.points, geometry.faces
    number = ("float", "<f4") if fits_float32(points) else ("double", "<f8")
    header = ["ply", "format binary_little_endian 1.0", *[f"{NOTE}{note}"] * bool(note),
              f"element vertex {len(points)}"]
    header += [f"property {word} {name}"
               for name, word, _, _ in _columns(geometry.part(slice(0)), number)]
    if faces is not None:
        header += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
    file.write("\n".join([*header, "end_header", ""]).encode())
    for start in range(0, len(points), ROWS):
        columns = _columns(geometry.part(slice(start, start + ROWS)), number)
        table = np.empty(len(columns[0][3]), [(name, kind) for name, _, kind, _ in columns])
        for name, _, _, values in columns:
            table[name] = values
        file.write(table.tobytes())
    for start in range(0, 0 if faces is None else len(faces), ROWS):
        some = faces[start : start + ROWS]
        rows = np.empty(len(some), [("length", "u1"), ("vertices", "<i4", (3,))])
        rows["length"] = 3
        rows["vertices"] = some
        file.write(rows.tobytes())


def _columns(cloud: Geometry, number: tuple) -> list:
    """(name, ply's type, numpy's type, values) of what a cloud's rows hold; number: both types of
    coordinates."""
    columns = [(name, *number, cloud.points[:, i]) for i, name in enumerate("xyz")]
    if cloud.normals is not None:
        columns += [(f"n{name}", *number, cloud.normals[:, i]) for i, name in enumerate("xyz")]
    if cloud.colors is not None:
        columns += [(name, "uchar", "u1", np.round(255 * cloud.colors[:, i]))
                    for i, name in enumerate(("red", "green", "blue"))]
    if cloud.intensity is not None:
        columns.append(("intensity", "float", "<f4", cloud.intensity))
    return columns


def note_of(data: bytes) -> str:
    """The note in the header of a file's first bytes; empty where there is none."""
    header = data.partition(b"end_header")[0].decode(errors="replace").splitlines()
    return next((line[len(NOTE) :] for line in header if line.startswith(NOTE)), "")


def fits_float32(points: np.ndarray) -> bool:
    """Does float32 move no point of points (N, 3) by more than a millionth of the shape's size?"""
    size = np.ptp(points, axis=0).max()
    blocks = (points[start : start + ROWS] for start in range(0, len(points), ROWS))
    with np.errstate(over="ignore"):  # what is beyond float32 becomes infinite and does not fit
        return all(np.abs(some.astype(np.float32) - some).max() <= 1e-6 * size for some in blocks)
