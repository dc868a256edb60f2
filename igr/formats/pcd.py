"""Reader of pcd, the Point Cloud Library's format.

It takes the bytes of a file and returns a Geometry, unchecked; files.read checks it. UserError,
without the name of the file, where the bytes are no pcd.
"""

from __future__ import annotations

from mmap import mmap
from typing import NamedTuple

from helper import UserError
from igr.formats import tables
from igr.formats.tables import geometry_of, parse_numbers
from igr.geometry.frames import Geometry

import numpy as np


class _PcdHeader(NamedTuple):
    names: list  # of the fields
    dtype: np.dtype  # of a point, each field an array of its COUNT values
    rows: int
    encoding: str


def read_pcd(data: bytes | mmap) -> Geometry:
    """Point Cloud Library's format: ascii, binary and binary_compressed."""
    header, body = _pcd_header(data)
    names = set(header.names)
    if not {"x", "y", "z"} <= names or not 0 < header.rows <= len(body):
        raise UserError("the pcd header names no points with x, y, z, or more than the file holds")
    columns = _pcd_columns(body, header)
    packed = columns.get("rgb", columns.get("rgba"))
    if packed is not None:
        columns.update(zip("rgb", _unpacked_colors(packed, header)))
    return geometry_of({tables.NAMES.get(name, name): column for name, column in columns.items()})


def _unpacked_colors(packed: np.ndarray, header: _PcdHeader) -> np.ndarray:
    """Red, green and blue (3, n) uint8 of the numbers 0xRRGGBB, which may be in a float's bits."""
    dtype = header.dtype["rgb" if "rgb" in header.names else "rgba"].base
    if dtype.itemsize != 4:
        raise UserError(f"the pcd file's colours have {dtype.itemsize} bytes, not 4")
    with np.errstate(invalid="ignore", over="ignore"):
        bits = packed.astype(dtype).view(np.uint32)
    return np.stack([bits >> 16, bits >> 8, bits]).astype(np.uint8)


def _pcd_header(data: bytes | mmap):
    """(_PcdHeader, the bytes behind it)."""
    mark = data.find(b"\nDATA ", 0, 1 << 16)
    newline = data.find(b"\n", mark + 1)
    if mark < 0 or newline < 0:
        raise UserError("not a pcd file: its header has no DATA line")
    header = {}
    for line in data[:newline].decode("latin-1").splitlines():
        if line.split() and not line.startswith("#"):
            header[line.split()[0]] = line.split()[1:]
    try:
        names = header["FIELDS"]
        counts = [int(c) for c in header.get("COUNT", ["1"] * len(names))]
        kinds = [f"<{t.lower()}{int(s)}" for t, s in zip(header["TYPE"], header["SIZE"])]
        rows = int(header["POINTS"][0]) if "POINTS" in header else int(header["WIDTH"][0])
        # "_" stands for padding, any number of times: only its place counts
        labels = [f"{name} {i}" if name == "_" else name for i, name in enumerate(names)]
        dtype = np.dtype([(n, k, (c,)) for n, k, c in zip(labels, kinds, counts)])
        encoding = header["DATA"][0]
        if not len(names) == len(counts) == len(kinds):
            raise ValueError
    except (KeyError, ValueError, IndexError, TypeError):
        raise UserError("the pcd header is damaged") from None
    return _PcdHeader(names, dtype, rows, encoding), memoryview(data)[newline + 1 :]


def _pcd_columns(body: memoryview, header: _PcdHeader) -> dict:
    """First value of every field, {name: (rows,)}."""
    _, dtype, rows, encoding = header
    short = UserError(f"cut short: {rows} points were promised, the data ends earlier")
    if encoding == "ascii":
        width = sum(dtype[n].shape[0] for n in dtype.names)
        values = parse_numbers(body)
        if len(values) < rows * width:
            raise short
        table = values[: rows * width].reshape(rows, width)
        starts = np.cumsum([0] + [dtype[n].shape[0] for n in dtype.names])
        return {n: table[:, s] for n, s in zip(dtype.names, starts)}
    if encoding == "binary":
        if len(body) < rows * dtype.itemsize:
            raise short
        table = np.frombuffer(body, dtype, rows)
        return {n: table[n][:, 0] for n in dtype.names}
    if encoding == "binary_compressed":
        return _pcd_compressed(body, dtype, rows, short)
    raise UserError(f"unknown pcd encoding '{encoding}'")


def _pcd_compressed(body: memoryview, dtype: np.dtype, rows: int, short: UserError) -> dict:
    """As _pcd_columns(): here field follows field, not point follows point."""
    if len(body) < 8:
        raise short
    packed, size = (int(v) for v in np.frombuffer(body, "<u4", 2))
    if size < rows * dtype.itemsize or len(body) < 8 + packed:
        raise short
    raw = _lzf(body[8 : 8 + packed], size)
    columns = {}
    position = 0
    for n in dtype.names:
        base = dtype[n].base
        count = dtype[n].shape[0]
        values = np.frombuffer(raw, base, rows * count, position)
        columns[n] = values.reshape(rows, count)[:, 0]
        position += values.nbytes
    return columns


def _lzf(data: memoryview, size: int) -> bytes:
    """Decompress LibLZF data to `size` bytes."""
    out = bytearray()
    i = 0
    try:
        while i < len(data) and len(out) <= size:
            control = data[i]
            i += 1
            if control < 32:  # a run of literal bytes
                out += data[i : i + control + 1]
                i += control + 1
                continue
            length = control >> 5
            if length == 7:
                length += data[i]
                i += 1
            start = len(out) - ((control & 31) << 8) - data[i] - 1
            i += 1
            if start < 0:
                raise UserError("the compressed data is damaged")
            for k in range(start, start + length + 2):  # it may copy what it has just written
                out.append(out[k])
    except IndexError:
        raise UserError("the compressed data is cut short") from None
    if len(out) != size:
        raise UserError("the compressed data is damaged")
    return bytes(out)
