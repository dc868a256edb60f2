"""Readers of pcd and numpy files, and of off, stl and glTF by trimesh.

Each takes a file's bytes and returns a Geometry, unchecked; files.read checks it. Each raises
UserError, without the file's name, where the bytes are not of its format.
"""

from __future__ import annotations

import io
from mmap import mmap
from typing import NamedTuple
import warnings

from helper import UserError, reason_of
from igr.formats import tables
from igr.formats.tables import geometry_of, parse_numbers, split_columns, unit_colors
from igr.geometry.frames import Geometry

import numpy as np

# ----------------------------------------------------------------------------- parts of the readers


def unpacked_limit(size: int) -> int:
    """Bytes that so many compressed ones may grow to: 64 times, or 64 MiB if that is more."""
    return max(64 * size, 1 << 26)


class Stream(io.RawIOBase):
    """Bytes, or the map of a file, as an open file; nothing is copied before it is read."""

    def __init__(self, data: bytes | mmap):
        self.view = memoryview(data)
        self.at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        some = self.view[self.at : self.at + len(buffer)]
        buffer[: len(some)] = some
        self.at += len(some)
        return len(some)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: len(self.view)}[whence]
        if start + offset < 0:
            raise OSError("a place before the start of the file")
        self.at = start + offset
        return self.at


def split_polygons(polygons) -> np.ndarray:
    """Fans of triangles (M, 3) int64 for polygons given as an array (n, k) or a list of arrays."""
    if isinstance(polygons, np.ndarray):
        polygons = polygons.astype(np.int64)
        if polygons.shape[1] == 3:
            return polygons
        fans = [polygons[:, [0, i, i + 1]] for i in range(1, polygons.shape[1] - 1)]
        return np.stack(fans, axis=1).reshape(-1, 3) if fans else np.empty((0, 3), np.int64)
    lengths = np.array([len(p) for p in polygons])
    groups = [np.stack([polygons[i] for i in np.flatnonzero(lengths == k)])
              for k in np.unique(lengths) if k >= 3]
    return np.concatenate([np.empty((0, 3), np.int64), *(split_polygons(g) for g in groups)])


# ---------------------------------------------------------------------------------------------- pcd


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


# -------------------------------------------------------------------------------------------- numpy


def read_npy(data: bytes | mmap) -> Geometry:
    """An array of rows as text.read_table() has them."""
    return split_columns(_numpy_load(data))


def read_npz(data: bytes | mmap) -> Geometry:
    """Keys points (or pos, xyz, vertices) with optional normals, faces, colors and intensity, or
    one lone array."""
    with _numpy_load(data) as arrays:
        try:
            if sum(entry.file_size for entry in arrays.zip.infolist()) > unpacked_limit(len(data)):
                raise UserError("the npz file promises too much for its size: refused")
            return _named_arrays(arrays)
        except UserError:
            raise
        except Exception as error:  # the zip module's types and numpy's: any
            raise UserError(f"the npz file is damaged ({error})") from None


def _named_arrays(arrays) -> Geometry:
    keys = set(arrays.files)
    key = next((k for k in ("points", "pos", "xyz", "vertices") if k in keys), None)
    if key is None and len(keys) == 1:
        return split_columns(np.asarray(arrays[keys.pop()], np.float64))
    if key is None:
        raise UserError(f"the npz file has no array 'points' (it has {sorted(keys)})")
    rest = {name: arrays[name] for name in ("normals", "faces", "intensity") if name in keys}
    if "colors" in keys:
        rest["colors"] = unit_colors(arrays["colors"])
    return Geometry(arrays[key], **rest)


def _numpy_load(data: bytes | mmap):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about files of Python 2, which can be read
            loaded = np.load(Stream(data), allow_pickle=False)
        if isinstance(loaded, np.lib.npyio.NpzFile):
            return loaded
        if np.iscomplexobj(loaded):
            raise ValueError("its numbers are complex")
        return loaded.astype(np.float64, copy=False)
    except Exception as error:  # its header is parsed as Python: any type
        raise UserError(f"not an array that numpy reads ({str(error)[:80]})") from None


# ------------------------------------------------------------------------------ off, stl, gltf


def read_with_trimesh(kind: str):
    """A reader of "off" or "stl"."""

    def read(data: bytes) -> Geometry:
        import trimesh

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", DeprecationWarning)  # "not read to its end": refuse
                loaded = trimesh.load(io.BytesIO(data), file_type=kind, process=False)
            points = np.asarray(loaded.vertices)
            faces = getattr(loaded, "faces", None)
            if kind == "stl":  # a soup: its triangles share corners only by their coordinates
                points, corner = np.unique(points, axis=0, return_inverse=True)
                faces = corner.reshape(-1)[faces]
            return Geometry(points, None, faces)
        except Exception as error:  # trimesh's parsers raise whatever they stumble on
            raise UserError(f"not a readable {kind} file ({reason_of(error)[:80]})") from None

    return read


def read_glb(data: bytes) -> Geometry:
    """As read_gltf(), of a glb file's bytes."""
    return _read_gltf(io.BytesIO(data), "glb")


def read_gltf(path) -> Geometry:
    """All meshes of a gltf file's scene, where it places them, or its points if it has no mesh;
    with colours if all have them. Buffers and pictures are files beside it."""
    return _read_gltf(path, "gltf")


def _read_gltf(source, kind: str) -> Geometry:
    import trimesh

    try:
        scene = trimesh.load_scene(source, file_type=kind, process=False)
        shapes = scene.dump()
        meshes = [shape for shape in shapes if isinstance(shape, trimesh.Trimesh)]
        clouds = [shape for shape in shapes if isinstance(shape, trimesh.PointCloud)]
        shapes = meshes or clouds
        if not shapes:
            raise UserError(f"the {kind} file holds no points")
        starts = np.cumsum([0] + [len(shape.vertices) for shape in shapes])
        faces = [mesh.faces + start for mesh, start in zip(meshes, starts)]
        colors = [_trimesh_colors(shape) for shape in shapes]
        colored = all(found is not None for found in colors)
        return Geometry(np.concatenate([shape.vertices for shape in shapes]), None,
                        np.concatenate(faces) if faces else None,
                        np.concatenate(colors) if colored else None)
    except UserError:
        raise
    except Exception as error:  # trimesh's parsers raise whatever they stumble on
        raise UserError(f"not a readable {kind} file ({reason_of(error)[:80]})") from None


def _trimesh_colors(shape):
    """The colours (n, 3) of a trimesh object's vertices, also from a texture, or None."""
    visual = shape.visual
    if visual.kind == "texture" and visual.uv is not None and visual.material.to_simple().image:
        visual = visual.to_color()
    return unit_colors(visual.vertex_colors[:, :3]) if visual.kind == "vertex" else None
