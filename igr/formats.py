"""Readers of the formats beside ply: text tables, pcd, numpy, obj, and off and stl by trimesh.

Each takes a file's bytes and gives a Geometry, unchecked; files.read checks it.
"""

from __future__ import annotations

import io
import warnings

from helper import UserError, reason_of
from igr.frames import Geometry

import numpy as np


def limit(data: bytes) -> int:
    """Bytes that compressed data may grow to: 64 times, or 64 MiB."""
    return max(64 * len(data), 1 << 26)


def numbers(text: bytes) -> np.ndarray:
    """All numbers of a text, up to the first word that is none. (n,) float64"""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # numpy's word for that last case
        return np.fromstring(text, np.float64, sep=" ")


def triangles(polygons) -> np.ndarray:
    """Fans of triangles (M, 3) for polygons given as an array (n, k) or a list of arrays."""
    if isinstance(polygons, np.ndarray):
        polygons = polygons.astype(np.int64)
        fans = [polygons[:, [0, i, i + 1]] for i in range(1, polygons.shape[1] - 1)]
        return np.stack(fans, axis=1).reshape(-1, 3) if fans else np.empty((0, 3), np.int64)
    lengths = np.array([len(p) for p in polygons])
    groups = [np.stack([polygons[i] for i in np.flatnonzero(lengths == k)])
              for k in np.unique(lengths) if k >= 3]
    return np.concatenate([np.empty((0, 3), np.int64), *(triangles(g) for g in groups)])


def _split_columns(table: np.ndarray) -> Geometry:
    """Columns x y z, and columns 4 to 6 as normals where their lengths are 1 (within 1 %)."""
    if table.ndim != 2 or table.shape[1] < 3:
        raise UserError(f"needs rows of x y z, found an array of shape {table.shape}")
    normals = table[:, 3:6] if table.shape[1] >= 6 else None
    with np.errstate(over="ignore"):
        if normals is not None and not np.allclose(np.linalg.norm(normals, axis=1), 1, atol=0.01):
            normals = None  # colours or intensities
    return Geometry(table[:, :3], normals)


def read_table(data: bytes) -> Geometry:
    """Rows of x y z [nx ny nz] ...; lines that begin with #, // or ; and a leading count pass."""
    text = data.decode("utf-8-sig", "replace").replace(",", " ")
    lines = [line for line in text.splitlines() if line.strip()]
    lines = [line for line in lines if not line.lstrip().startswith(("#", "//", ";"))]
    if lines and len(lines[0].split()) == 1:
        lines = lines[1:]  # a .pts file begins with its number of points
    if not lines:
        raise UserError("holds no points")
    columns = len(lines[0].split())
    values = numbers(" ".join(lines).encode())
    if len(values) != len(lines) * columns:
        bad = next((i for i, line in enumerate(lines)
                    if len(numbers(line.encode())) != columns), 0)
        raise UserError(f"data row {bad + 1} is not {columns} numbers: '{lines[bad][:60]}'")
    return _split_columns(values.reshape(len(lines), columns))


def read_pcd(data: bytes) -> Geometry:
    """Point Cloud Library's format: ascii, binary and binary_compressed."""
    mark = data.find(b"\nDATA ", 0, 1 << 16)
    newline = data.find(b"\n", mark + 1)
    if mark < 0 or newline < 0:
        raise UserError("not a pcd file: its header has no DATA line")
    header = {}
    for line in data[:newline].decode("latin-1").splitlines():
        if line.split() and not line.startswith("#"):
            header[line.split()[0]] = line.split()[1:]
    body = data[newline + 1 :]
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
    if not {"x", "y", "z"} <= set(names) or not 0 < rows <= len(body):
        raise UserError("the pcd header names no points with x, y, z, or more than the file holds")
    columns = _pcd_columns(body, encoding, rows, dtype)
    points = np.stack([columns[axis] for axis in ("x", "y", "z")], axis=1)
    if {"normal_x", "normal_y", "normal_z"} <= set(names):
        normals = np.stack([columns[f"normal_{axis}"] for axis in "xyz"], axis=1)
        return Geometry(points, normals)
    return Geometry(points)


def _pcd_columns(body: bytes, encoding: str, rows: int, dtype: np.dtype) -> dict:
    """First value of every field, {name: (rows,)}."""
    short = UserError(f"cut short: {rows} points were promised, the data ends earlier")
    width = sum(dtype[n].shape[0] for n in dtype.names)
    if encoding == "ascii":
        values = numbers(body)
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
    if encoding != "binary_compressed":
        raise UserError(f"unknown pcd encoding '{encoding}'")
    if len(body) < 8:
        raise short
    packed, size = (int(v) for v in np.frombuffer(body, "<u4", 2))
    if size < rows * dtype.itemsize or len(body) < 8 + packed:
        raise short
    raw, columns, position = _lzf(body[8 : 8 + packed], size), {}, 0
    for n in dtype.names:  # a field behind the other, not a point behind the other
        base, (count,) = dtype[n].base, dtype[n].shape
        columns[n] = np.frombuffer(raw, base, rows * count, position).reshape(rows, count)[:, 0]
        position += rows * count * base.itemsize
    return columns


def _lzf(data: bytes, size: int) -> bytes:
    """Decompress LibLZF data to `size` bytes."""
    out, i = bytearray(), 0
    try:
        while i < len(data) and len(out) <= size:
            control, i = data[i], i + 1
            if control < 32:  # a run of literal bytes
                out += data[i : i + control + 1]
                i += control + 1
                continue
            length = control >> 5
            if length == 7:
                length, i = length + data[i], i + 1
            start, i = len(out) - ((control & 31) << 8) - data[i] - 1, i + 1
            if start < 0:
                raise UserError("the compressed data is damaged")
            for k in range(start, start + length + 2):  # it may copy what it has just written
                out.append(out[k])
    except IndexError:
        raise UserError("the compressed data is cut short") from None
    if len(out) != size:
        raise UserError("the compressed data is damaged")
    return bytes(out)


def read_npy(data: bytes) -> Geometry:
    return _split_columns(_numpy_load(data))


def read_npz(data: bytes) -> Geometry:
    """Keys points (or pos, xyz, vertices) with optional normals and faces, or one lone array."""
    with _numpy_load(data) as arrays:
        try:
            if sum(entry.file_size for entry in arrays.zip.infolist()) > limit(data):
                raise UserError("the npz file promises too much for its size: refused")
            keys = set(arrays.files)
            key = next((k for k in ("points", "pos", "xyz", "vertices") if k in keys), None)
            if key is None and len(keys) == 1:
                return _split_columns(np.asarray(arrays[keys.pop()], np.float64))
            if key is None:
                raise UserError(f"the npz file has no array 'points' (it has {sorted(keys)})")
            normals = arrays["normals"] if "normals" in keys else None
            return Geometry(arrays[key], normals, arrays["faces"] if "faces" in keys else None)
        except UserError:
            raise
        except Exception as error:  # the zip module's types and numpy's: any
            raise UserError(f"the npz file is damaged ({error})") from None


def _numpy_load(data: bytes):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about files of Python 2, which are read all the same
            loaded = np.load(io.BytesIO(data), allow_pickle=False)
        return loaded if isinstance(loaded, np.lib.npyio.NpzFile) else loaded.astype(np.float64)
    except Exception as error:  # its header is parsed as Python: any type
        raise UserError(f"not an array that numpy reads ({str(error)[:80]})") from None


def read_obj(data: bytes) -> Geometry:
    """Vertices and faces; texture, normals, groups, materials and lines do not matter here."""
    points, polygons = [], []
    for line in data.decode("utf-8-sig", "replace").splitlines():
        words = line.split()
        try:
            if words[:1] == ["v"]:
                points.append((float(words[1]), float(words[2]), float(words[3])))
            elif words[:1] == ["f"]:
                corners = [int(word.split("/")[0]) for word in words[1:]]
                if len(corners) < 3 or not all(corners):
                    raise ValueError
                # from 1, or from the last vertex so far backwards
                polygons.append([c - 1 if c > 0 else len(points) + c for c in corners])
        except (ValueError, IndexError):
            raise UserError(f"the obj file has a bad line: '{line[:60]}'") from None
    if not points:
        raise UserError("the obj file holds no points")
    faces = triangles([np.array(p, np.int64) for p in polygons]) if polygons else None
    return Geometry(np.array(points), None, faces)


def read_with_trimesh(kind: str):
    def read(data: bytes) -> Geometry:
        import trimesh

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", DeprecationWarning)  # "not read to its end": refuse
                loaded = trimesh.load(io.BytesIO(data), file_type=kind, process=False)
            points, faces = np.asarray(loaded.vertices), getattr(loaded, "faces", None)
            if kind == "stl":  # a soup: its triangles share corners only by their coordinates
                points, corner = np.unique(points, axis=0, return_inverse=True)
                faces = corner.reshape(-1)[faces]
            return Geometry(points, None, faces)
        except Exception as error:  # trimesh's parsers raise whatever they stumble on
            raise UserError(f"not a readable {kind} file ({reason_of(error)[:80]})") from None

    return read


