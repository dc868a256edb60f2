"""The ply format: ascii and binary, any properties, polygons cut into triangles."""

from __future__ import annotations

from mmap import mmap
import re
from typing import BinaryIO, NamedTuple

from helper import UserError
from igr.formats import columns, lines, streams
from igr.geometry.frames import Geometry

import numpy as np

_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4",
    "float": "f4", "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2",
    "int32": "i4", "uint32": "u4", "int64": "i8", "uint64": "u8", "float32": "f4", "float64": "f8",
    "bool": "u1",
}
VERTEX = ("vertex", "vertices", "point", "points")  # names of elements, lower case
FACE = ("face", "faces")
INDICES = ("vertex_indices", "vertex_index")
NOTE = "comment igr: "
MOST = 0.0005  # that float32 may move a coordinate: those of a survey keep their millimetres
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
    encoding, elements, body = _header(data[3:] if data[:3] == lines.BOM else data)
    read_element = _read_element
    if encoding == "ascii":
        read_element = _read_lines
        body = lines.with_newlines(body)
    vertex = face = None
    position = 0
    for element in elements:
        table, position = read_element(body, position, element)
        vertex = table if vertex is None and element.name.lower() in VERTEX else vertex
        face = table if face is None and element.name.lower() in FACE else face
        if element.name == "tristrips" and table:
            streams.warn("its triangle strips are not read, only its points")
        if vertex is not None and face is not None:
            break  # nothing behind them is of use here
    if not vertex:
        held = ", ".join(f"{element.count} {element.name}" for element in elements)
        raise UserError(f"the ply file has no points: it holds {held or 'no element'}")
    cloud = columns.named(vertex, "the ply file's vertex")
    polygons = next((face[name] for name in INDICES if name in (face or {})), None)
    return cloud._replace(faces=None if polygons is None else streams.split_polygons(polygons))


def vertex_rows(data: bytes | mmap) -> np.ndarray | None:
    """The vertices of a binary ply file as records (N,) that are read from the disk where they are
    used; None where they have lists or stand behind rows of unknown size."""
    encoding, elements, body = _header(memoryview(data))
    if encoding == "ascii" or not elements or elements[0].name.lower() not in VERTEX:
        return None
    _, rows, properties = elements[0]
    if any(p.length is not None for p in properties):
        return None
    row = np.dtype([(p.name, p.kind) for p in properties])
    if rows * row.itemsize > len(body):
        raise UserError(f"cut short: {rows} rows of '{elements[0].name}' were promised, the data "
                        "ends earlier")
    return np.frombuffer(body, row, rows)


def _header(data: memoryview):
    """Returns (encoding, elements, the bytes behind the header)."""
    if data[:3] != b"ply":
        raise UserError("not a ply file: it does not begin with 'ply'")
    first = re.match(rb"[^\r\n]*(\r\n|\r|\n)", data[:100])
    # as the first line ends: \n may be the first byte of the data behind old Mac's \r
    newline = rb"\r" if first and first[1] == b"\r" else rb"\r?\n"
    end = re.search(rb"[\r\n]end_header[ \t]*" + newline, data[: 1 << 20])
    if end is None:
        raise UserError("the ply header has no end_header line, or its lines end in several ways")
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
        labels = columns.distinct_names([p.name for p in properties])
        properties[:] = [p._replace(name=label) for p, label in zip(properties, labels)]
    return encoding, elements, body


def _property(words: list, order: str) -> _Property:
    """Of a header line: property TYPE NAME or property list LENGTH TYPE NAME."""
    if words[1:2] == ["list"]:
        return _Property(words[4], order + _TYPES[words[3]], order + _TYPES[words[2]])
    return _Property(words[2], order + _TYPES[words[1]], None)


def _read_lines(body: memoryview, position: int, element: _Element):
    """As _read_element(), of an ascii body: each line is a row. What stands in a line behind the
    declared numbers is left out."""
    name, count, properties = element
    if not count:
        return {}, position
    values, starts, position = lines.take_rows(body, position, count, name)
    at = starts[:-1].copy()
    table = {}
    for p in properties:
        lengths = np.ones(count, np.int64)
        if p.length is not None:
            lengths = _lengths(values, at, starts, name)
            at = at + 1
        _check_rows(at + lengths, starts, name)
        if p.length is None:
            table[p.name] = values[at]
            if p.kind[-2] != "f":
                table[p.name] = _whole(table[p.name])
        elif (lengths == lengths[0]).all():
            table[p.name] = values[at[:, None] + np.arange(lengths[0])]
        else:
            table[p.name] = [values[i : i + k] for i, k in zip(at.tolist(), lengths.tolist())]
        at = at + lengths
    longer = np.count_nonzero(at < starts[1:])
    if longer:
        streams.warn(f"{longer} rows of '{name}' have more numbers than the header declares: these "
                     "are left out")
    return table, position


def _lengths(values: np.ndarray, at: np.ndarray, starts: np.ndarray, name: str) -> np.ndarray:
    """How many numbers a list has in each row; it begins at values[at]."""
    _check_rows(at + 1, starts, name)
    lengths = values[at]
    bad = np.flatnonzero(~((lengths >= 0) & (lengths <= np.diff(starts))
                           & (lengths == np.floor(lengths))))
    if len(bad):
        raise UserError(f"row {bad[0] + 1} of '{name}' has fewer numbers than its list's length "
                        f"{lengths[bad[0]]:g} promises")
    return lengths.astype(np.int64)


def _check_rows(ends: np.ndarray, starts: np.ndarray, name: str) -> None:
    """Raises UserError where a row of numbers ends before `ends`."""
    short = np.flatnonzero(ends > starts[1:])
    if len(short):
        raise UserError(f"row {short[0] + 1} of '{name}' has only "
                        f"{np.diff(starts)[short[0]]} numbers, fewer than the header declares")


def _whole(values: np.ndarray) -> np.ndarray:
    """Numbers of an integer property; as they are where one is none."""
    if np.isfinite(values).all() and np.abs(values).max(initial=0) < 2**53:
        return values.astype(np.int64)
    return values


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
    number = ("float", "<f4") if fits_float32(points, MOST) else ("double", "<f8")
    header = ["ply", "format binary_little_endian 1.0", *[f"{NOTE}{note}"] * bool(note),
              f"element vertex {len(points)}"]
    header += [f"property {word} {name}"
               for name, word, _, _ in _fields(geometry.part(slice(0)), number)]
    if faces is not None:
        header += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
    file.write("\n".join([*header, "end_header", ""]).encode())
    for start in range(0, len(points), ROWS):
        fields = _fields(geometry.part(slice(start, start + ROWS)), number)
        table = np.empty(len(fields[0][3]), [(name, kind) for name, _, kind, _ in fields])
        for name, _, _, values in fields:
            table[name] = values
        file.write(table.tobytes())
    for start in range(0, 0 if faces is None else len(faces), ROWS):
        some = faces[start : start + ROWS]
        rows = np.empty(len(some), [("length", "u1"), ("vertices", "<i4", (3,))])
        rows["length"] = 3
        rows["vertices"] = some
        file.write(rows.tobytes())


def _fields(cloud: Geometry, number: tuple) -> list:
    """(name, ply's type, numpy's type, values) of what a cloud's rows hold; number: both types of
    coordinates."""
    fields = [(name, *number, cloud.points[:, i]) for i, name in enumerate("xyz")]
    if cloud.normals is not None:
        fields += [(f"n{name}", *number, cloud.normals[:, i]) for i, name in enumerate("xyz")]
    if cloud.colors is not None:
        fields += [(name, "uchar", "u1", np.round(255 * cloud.colors[:, i]))
                    for i, name in enumerate(("red", "green", "blue"))]
    if cloud.intensity is not None:
        fields.append(("intensity", "float", "<f4", cloud.intensity))
    return fields


def note_of(data: bytes) -> str:
    """The note in the header of a file's first bytes; empty where there is none."""
    header = data.partition(b"end_header")[0].decode(errors="replace").splitlines()
    return next((line[len(NOTE) :] for line in header if line.startswith(NOTE)), "")


def fits_float32(points: np.ndarray, most: float = np.inf) -> bool:
    """Does float32 move no point of points (N, 3) by more than a millionth of the shape's size, or
    `most`?

    The size is that of the inner 90 % along the longest axis, twice the distance of its quarters
    where that is less: one far point must not round all others.
    """
    some = points[:: -(-len(points) // ROWS)]
    low, first, third, high = np.percentile(some, [5, 25, 75, 95], axis=0)
    size = min((high - low).max(), 2 * (third - first).max()) or np.ptp(points, axis=0).max()
    blocks = (points[start : start + ROWS] for start in range(0, len(points), ROWS))
    with np.errstate(over="ignore"):  # what is beyond float32 becomes infinite and does not fit
        return all(np.abs(some.astype(np.float32) - some).max() <= min(1e-6 * size, most)
                   for some in blocks)
