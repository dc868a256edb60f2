"""Reader of pcd, the Point Cloud Library's format.

It takes the bytes of a file and returns a Geometry, unchecked; files.read checks it. UserError,
without the name of the file, where the bytes are no pcd.
"""

from __future__ import annotations

from mmap import mmap
import re
from typing import NamedTuple

from helper import UserError
from igr.formats import columns, lines, streams
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
    compressed = header.encoding == "binary_compressed"
    most = streams.unpacked_limit(len(body)) if compressed else len(body)
    if not 0 < header.rows * max(header.dtype.itemsize * compressed, 1) <= most:
        raise UserError(f"the pcd header promises {header.rows} points, the file does not hold so "
                        "many" if header.rows > 0 else "holds no points")
    fields = _pcd_columns(body, header)
    packed = next((name for name in fields if name.lower() in ("rgb", "rgba")), None)
    if packed is not None:
        fields.update(zip("rgb", _unpacked_colors(fields.pop(packed), header.dtype[packed].base)))
    return columns.named(fields, "the pcd file's FIELDS line")


def _unpacked_colors(packed: np.ndarray, kind: np.dtype) -> np.ndarray:
    """Red, green and blue (3, n) uint8 of the numbers 0xRRGGBB, which may be in a float's bits;
    nothing, with a warning, of other numbers."""
    if kind.itemsize != 4:
        streams.warn(f"its colours have {kind.itemsize} bytes, not 4: left out")
        return np.empty((0, len(packed)), np.uint8)
    with np.errstate(invalid="ignore", over="ignore"):
        bits = packed.astype(kind).view(np.uint32)
    return np.stack([bits >> 16, bits >> 8, bits]).astype(np.uint8)


def _pcd_header(data: bytes | mmap):
    """(_PcdHeader, the bytes behind it)."""
    start = bytes(data[: 1 << 16])
    mark = re.search(rb"(?:^|[\r\n])[ \t]*DATA[ \t]+\w+[ \t]*(\r\n|\n|\r)", start)
    if mark is None:
        raise UserError("not a pcd file: its header has no DATA line")
    header = {}
    for line in start[: mark.end()].decode("latin-1").splitlines():
        line = line.replace("\u00ef\u00bb\u00bf", "")  # UTF-8's mark, as Latin-1
        if line.split() and not line.startswith("#"):
            header[line.split()[0]] = line.split()[1:]
    try:
        names = header["FIELDS"]
        counts = [int(c) for c in header.get("COUNT", ["1"] * len(names))]
        kinds = [f"<{t.lower()}{int(s)}" for t, s in zip(header["TYPE"], header["SIZE"])]
        cells = int(header["WIDTH"][0]) * int(header.get("HEIGHT", ["1"])[0])
        rows = int(header["POINTS"][0]) if "POINTS" in header else cells
        # "_" stands for padding, any number of times: only its place counts
        labels = columns.distinct_names(names)
        dtype = np.dtype([(n, k, (c,)) for n, k, c in zip(labels, kinds, counts)])
        encoding = header["DATA"][0]
        if not len(names) == len(counts) == len(kinds) or min(counts) < 0:
            raise ValueError
    except (KeyError, ValueError, IndexError, TypeError):
        raise UserError("the pcd header is damaged: its FIELDS, SIZE, TYPE, COUNT, WIDTH or POINTS "
                        "do not agree") from None
    if rows != cells:
        streams.warn(f"its header promises {rows} points, but WIDTH x HEIGHT are {cells}: {rows} "
                     "are read")
    return _PcdHeader(names, dtype, rows, encoding), memoryview(data)[mark.end() :]


def _pcd_columns(body: memoryview, header: _PcdHeader) -> dict:
    """First value of every field that has any, {name: (rows,)}."""
    _, dtype, rows, encoding = header
    short = UserError(f"cut short: {rows} points were promised, the data ends earlier")
    if encoding == "ascii":
        return _pcd_lines(body, header)
    if encoding == "binary":
        if len(body) < rows * dtype.itemsize:
            raise short
        table = np.frombuffer(body, dtype, rows)
        return {n: table[n][:, 0] for n in dtype.names if table[n].shape[1]}
    if encoding == "binary_compressed":
        return _pcd_compressed(body, dtype, rows, short)
    raise UserError(f"unknown pcd encoding '{encoding}'")


def _pcd_lines(body: memoryview, header: _PcdHeader) -> dict:
    """As _pcd_columns(), of lines of text: each is a row."""
    _, dtype, rows, _ = header
    ends = np.cumsum([dtype[n].shape[0] for n in dtype.names])
    values, starts, _ = lines.take_rows(lines.with_newlines(body), 0, rows, "point")
    lengths = np.diff(starts)
    short = np.flatnonzero(lengths < ends[-1])
    if len(short):
        raise UserError(f"row {short[0] + 1} has only {lengths[short[0]]} numbers, fewer than the "
                        f"{ends[-1]} that the header names")
    longer = np.count_nonzero(lengths > ends[-1])
    if longer:
        streams.warn(f"{longer} rows have more numbers than the header names: these are left out")
    return {name: values[starts[:-1] + end - dtype[name].shape[0]]
            for name, end in zip(dtype.names, ends) if dtype[name].shape[0]}


def _pcd_compressed(body: memoryview, dtype: np.dtype, rows: int, short: UserError) -> dict:
    """As _pcd_columns(): here field follows field, not point follows point."""
    if len(body) < 8:
        raise short
    packed, size = (int(v) for v in np.frombuffer(body, "<u4", 2))
    if size < rows * dtype.itemsize or len(body) < 8 + packed:
        raise short
    raw = _lzf(body[8 : 8 + packed], size)
    fields = {}
    position = 0
    for n in dtype.names:
        base = dtype[n].base
        count = dtype[n].shape[0]
        values = np.frombuffer(raw, base, rows * count, position)
        if count:
            fields[n] = values.reshape(rows, count)[:, 0]
        position += values.nbytes
    return fields


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
