"""Point clouds and meshes: the one frame they live in, and reading and writing their files.

Reads .ply .obj .off .stl .xyz .pts .pcd .npy .npz and any of them with .gz behind;
writes meshes as .ply .obj .off .stl and clouds as .ply .xyz .npy. Only sample_poisson needs open3d.
"""

from __future__ import annotations

import gzip
import io
from pathlib import Path
import re
from typing import NamedTuple
import warnings
import zlib

from helper import UserError, existing_file, open3d, reason_of, replacing

import numpy as np


class Geometry(NamedTuple):
    """A cloud (no faces) or a triangle mesh, in the coordinates of its file."""

    points: np.ndarray  # (N, 3) float64
    normals: np.ndarray | None = None  # (N, 3) float64, one for each point, any length
    faces: np.ndarray | None = None  # (M, 3) int64, counter-clockwise seen from outside

    @property
    def surface_points(self) -> np.ndarray:
        """The points that belong to the shape: of a mesh only those that a face uses. (n, 3)"""
        return self.points if self.faces is None else self.points[np.unique(self.faces)]


class Frame(NamedTuple):
    """pts_unit = (pts_world - center) / scale: the shape fills [-1, 1] along its longest side."""

    center: tuple = (0.0, 0.0, 0.0)  # middle of the bounding box, world units
    scale: float = 1.0  # half the longest side of the bounding box, world units

    @classmethod
    def of(cls, pts_world: np.ndarray) -> Frame:
        """The frame of points (N, 3). Raises UserError where they span no size."""
        low, high = pts_world.min(axis=0), pts_world.max(axis=0)
        scale = float((high / 2 - low / 2).max())
        if not scale > 0 or not np.isfinite(1 / scale):
            raise UserError("all points are equal: there is no shape to see")
        return cls(tuple((low / 2 + high / 2).tolist()), scale)

    def to_unit(self, pts_world: np.ndarray) -> np.ndarray:
        return (np.asarray(pts_world, np.float64) - self.center) / self.scale

    def to_world(self, pts_unit: np.ndarray) -> np.ndarray:
        return np.asarray(pts_unit, np.float64) * self.scale + self.center


def sample_mesh(mesh: Geometry, n: int, rng: np.random.Generator) -> Geometry:
    """n points at random by area over a mesh, each with the unit normal of its face.

    Raises UserError where the mesh has no area.
    """
    blocks = np.array_split(mesh.faces, len(mesh.faces) // 1_000_000 + 1)  # to spare memory
    with np.errstate(over="ignore", invalid="ignore"):
        total = np.cumsum(np.concatenate(
            [np.linalg.norm(crosses(mesh.points[faces]), axis=1) for faces in blocks]))
    if not 0 < total[-1] < np.inf:
        raise UserError("the mesh has no area, or more than numbers hold: nothing to sample")
    picked = np.searchsorted(total, rng.uniform(0, total[-1], n), side="right")
    picked = np.minimum(picked, len(total) - 1)
    a, b = rng.uniform(size=(2, n, 1))
    fold = a + b > 1  # the other half of the parallelogram
    a, b = np.where(fold, 1 - a, a), np.where(fold, 1 - b, b)
    corners = mesh.points[mesh.faces[picked]]
    cross, (o, p, q) = crosses(corners), corners.transpose(1, 0, 2)
    return Geometry(o + a * (p - o) + b * (q - o),
                    cross / np.linalg.norm(cross, axis=1, keepdims=True))


def crosses(corners: np.ndarray) -> np.ndarray:
    """Normals (M, 3) of triangles (M, 3, 3), as long as twice their areas."""
    return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])


def sample_poisson(mesh: Geometry, n: int, seed: int) -> Geometry:
    """n points of a mesh, evenly spaced (Poisson disk), each with the normal of its face.

    Raises UserError where the mesh has no area or n is 0.
    """
    sample_mesh(mesh, 1, np.random.default_rng(0))  # has it an area?
    if n < 1:
        raise UserError("no points to sample")
    o3d = open3d()
    o3d.utility.random.seed(seed)
    legacy = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(mesh.points), o3d.utility.Vector3iVector(mesh.faces)
    )
    cloud = legacy.sample_points_poisson_disk(n, use_triangle_normal=True)
    return Geometry(np.asarray(cloud.points), np.asarray(cloud.normals))


# ------------------------------------------------------------------------------------------ reading


def read(path) -> Geometry:
    """Read a cloud or mesh. Raises UserError for whatever does not hold finite points."""
    path = existing_file(path)
    suffixes = [s.lower() for s in path.suffixes]
    zipped = suffixes[-1:] == [".gz"]
    suffix = "".join(suffixes[:-1][-1:] if zipped else suffixes[-1:])
    if suffix not in READERS:
        raise UserError(f"{path}: unknown format; known are {' '.join(READERS)}, also with .gz")
    data = path.read_bytes()
    try:
        geometry = READERS[suffix](_unzipped(data) if zipped else data)
        return _checked(geometry)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise UserError(f"{path}: the gzip data is damaged or cut short") from None


def _unzipped(data: bytes) -> bytes:
    """gzip data, unless it grows beyond what geometry does (a bomb)."""
    limit = _limit(data)
    with gzip.open(io.BytesIO(data)) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise UserError(f"unzips to more than {limit >> 20} MiB from {len(data)} bytes: refused")
    return content


def _limit(data: bytes) -> int:
    """Bytes that compressed data may grow to: 64 times, or 64 MiB."""
    return max(64 * len(data), 1 << 26)


def read_mesh(path) -> Geometry:
    """read(), and UserError where the file has no faces."""
    geometry = read(path)
    if geometry.faces is None:
        raise UserError(f"{path}: a point cloud; a mesh with faces is needed here")
    return geometry


def _checked(geometry: Geometry) -> Geometry:
    points, normals, faces = geometry
    with np.errstate(invalid="ignore"):  # a damaged file's signalling NaNs; they are refused below
        points = np.ascontiguousarray(points, np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or len(points) == 0:
        raise UserError(f"holds no points (found an array of shape {points.shape})")
    bad = ~np.isfinite(points).all(axis=1)
    if bad.any():
        raise UserError(
            f"{bad.sum()} of {len(points)} points are NaN or infinite (the first is point "
            f"{bad.argmax()}); remove them"
        )
    if normals is not None:
        with np.errstate(invalid="ignore"):
            normals = np.array(normals, np.float64)
        if normals.shape != points.shape:
            raise UserError(f"{len(points)} points but normals of shape {normals.shape}")
        bad = ~np.isfinite(normals).all(axis=1)
        normals[bad] = 0  # refused where normals are needed
    if faces is not None:
        faces = np.asarray(faces, np.int64).reshape(-1, 3)
        if len(faces) == 0:
            faces = None
        elif faces.min() < 0 or faces.max() >= len(points):
            raise UserError(f"a face names a vertex outside 0..{len(points) - 1}")
    return Geometry(points, normals, faces)


# --- ply

_PLY_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4",
    "float": "f4", "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2",
    "int32": "i4", "uint32": "u4", "int64": "i8", "uint64": "u8", "float32": "f4", "float64": "f8",
}


class _PlyElement(NamedTuple):
    name: str
    count: int  # rows
    properties: list  # (name, numpy type of the value, numpy type of a list's length or None)


def _read_ply(data: bytes) -> Geometry:
    data = data[3:] if data.startswith(b"\xef\xbb\xbf") else data
    encoding, elements, body = _ply_header(data)
    if encoding == "ascii":  # an ascii body is a binary one in which every property is a double
        body = _numbers(body).tobytes()
        elements = [
            _PlyElement(name, count, [(p, "<f8", length and "<f8") for p, _, length in properties])
            for name, count, properties in elements
        ]
    tables, position = {}, 0
    for element in elements:
        tables[element.name], position = _ply_element(body, position, element)
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
    return Geometry(points, normals, None if polygons is None else _triangles(polygons))


def _ply_header(data: bytes):
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
                elements.append(_PlyElement(words[1], int(words[2]), []))
            elif words[:2] == ["property", "list"]:
                length, kind = order + _PLY_TYPES[words[2]], order + _PLY_TYPES[words[3]]
                elements[-1].properties.append((words[4], kind, length))
            elif words[:1] == ["property"]:
                elements[-1].properties.append((words[2], order + _PLY_TYPES[words[1]], None))
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


def _ply_element(body: bytes, position: int, element: _PlyElement):
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


def _triangles(polygons) -> np.ndarray:
    """Fans of triangles (M, 3) for polygons given as an array (n, k) or a list of arrays."""
    if isinstance(polygons, np.ndarray):
        polygons = polygons.astype(np.int64)
        fans = [polygons[:, [0, i, i + 1]] for i in range(1, polygons.shape[1] - 1)]
        return np.stack(fans, axis=1).reshape(-1, 3) if fans else np.empty((0, 3), np.int64)
    lengths = np.array([len(p) for p in polygons])
    groups = [np.stack([polygons[i] for i in np.flatnonzero(lengths == k)])
              for k in np.unique(lengths) if k >= 3]
    return np.concatenate([np.empty((0, 3), np.int64), *(_triangles(g) for g in groups)])


# --- text tables, pcd, numpy, and the formats that trimesh reads


def _numbers(text: bytes) -> np.ndarray:
    """All numbers of a text, up to the first word that is none. (n,) float64"""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # numpy's word for that last case
        return np.fromstring(text, np.float64, sep=" ")


def _split_columns(table: np.ndarray) -> Geometry:
    """Columns x y z, and columns 4 to 6 as normals where their lengths are 1 (within 1 %)."""
    if table.ndim != 2 or table.shape[1] < 3:
        raise UserError(f"needs rows of x y z, found an array of shape {table.shape}")
    normals = table[:, 3:6] if table.shape[1] >= 6 else None
    with np.errstate(over="ignore"):
        if normals is not None and not np.allclose(np.linalg.norm(normals, axis=1), 1, atol=0.01):
            normals = None  # colours or intensities
    return Geometry(table[:, :3], normals)


def _read_table(data: bytes) -> Geometry:
    """Rows of x y z [nx ny nz] ...; lines that begin with #, // or ; and a leading count pass."""
    text = data.decode("utf-8-sig", "replace").replace(",", " ")
    lines = [line for line in text.splitlines() if line.strip()]
    lines = [line for line in lines if not line.lstrip().startswith(("#", "//", ";"))]
    if lines and len(lines[0].split()) == 1:
        lines = lines[1:]  # a .pts file begins with its number of points
    if not lines:
        raise UserError("holds no points")
    numbers, columns = _numbers(" ".join(lines).encode()), len(lines[0].split())
    if len(numbers) != len(lines) * columns:
        bad = next((i for i, line in enumerate(lines)
                    if len(_numbers(line.encode())) != columns), 0)
        raise UserError(f"data row {bad + 1} is not {columns} numbers: '{lines[bad][:60]}'")
    return _split_columns(numbers.reshape(len(lines), columns))


def _read_pcd(data: bytes) -> Geometry:
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
        numbers = _numbers(body)
        if len(numbers) < rows * width:
            raise short
        table = numbers[: rows * width].reshape(rows, width)
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


def _read_npy(data: bytes) -> Geometry:
    return _split_columns(_numpy_load(data))


def _read_npz(data: bytes) -> Geometry:
    """Keys points (or pos, xyz, vertices) with optional normals and faces, or one lone array."""
    with _numpy_load(data) as arrays:
        try:
            if sum(entry.file_size for entry in arrays.zip.infolist()) > _limit(data):
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


def _read_obj(data: bytes) -> Geometry:
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
    faces = _triangles([np.array(p, np.int64) for p in polygons]) if polygons else None
    return Geometry(np.array(points), None, faces)


def _read_with_trimesh(kind: str):
    def read_bytes(data: bytes) -> Geometry:
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

    return read_bytes


READERS = {
    ".ply": _read_ply, ".obj": _read_obj, ".off": _read_with_trimesh("off"),
    ".stl": _read_with_trimesh("stl"), ".xyz": _read_table, ".pts": _read_table,
    ".pcd": _read_pcd, ".npy": _read_npy, ".npz": _read_npz,
}

# ------------------------------------------------------------------------------------------ writing

MESH_WRITERS = (".ply", ".obj", ".off", ".stl")
CLOUD_WRITERS = (".ply", ".xyz", ".npy")


def check_writable(path, formats) -> Path:
    """`path` as a Path; raises UserError, before any work, where its format or folder is wrong."""
    path = Path(path)
    if path.suffix.lower() not in formats:
        raise UserError(f"{path}: cannot write '{path.suffix}'; use one of {' '.join(formats)}")
    if not path.parent.is_dir():
        raise UserError(f"{path}: the folder {path.parent} does not exist; make it first")
    return path


def write(path, geometry: Geometry) -> None:
    """Write a mesh or cloud in the format of the suffix; float32, or float64 where that loses."""
    mesh = geometry.faces is not None
    path = check_writable(path, MESH_WRITERS if mesh else CLOUD_WRITERS)
    suffix = path.suffix.lower()
    with replacing(path) as temporary:
        if suffix == ".ply":
            temporary.write_bytes(_ply_bytes(geometry))
        elif suffix == ".stl":
            import trimesh

            if not _fits_float32(geometry.points):
                raise UserError(f"{path}: .stl keeps seven digits, too few so far from the origin; "
                                "take .ply, .obj or .off")
            made = trimesh.Trimesh(geometry.points, geometry.faces, process=False)
            made.export(temporary, file_type="stl")
        elif mesh:
            temporary.write_text(_obj_text(geometry) if suffix == ".obj" else _off_text(geometry))
        else:
            normals = [] if geometry.normals is None else [geometry.normals]
            table = np.concatenate([geometry.points, *normals], axis=1)
            if suffix == ".npy":
                np.save(temporary, table)
            else:
                np.savetxt(temporary, table, fmt="%.12g")


def _obj_text(mesh: Geometry) -> str:
    vertices = "".join(f"v {x:.12g} {y:.12g} {z:.12g}\n" for x, y, z in mesh.points.tolist())
    return vertices + "".join(f"f {a} {b} {c}\n" for a, b, c in (mesh.faces + 1).tolist())


def _off_text(mesh: Geometry) -> str:
    vertices = "".join(f"{x:.12g} {y:.12g} {z:.12g}\n" for x, y, z in mesh.points.tolist())
    faces = "".join(f"3 {a} {b} {c}\n" for a, b, c in mesh.faces.tolist())
    return f"OFF\n{len(mesh.points)} {len(mesh.faces)} 0\n{vertices}{faces}"


def _fits_float32(points: np.ndarray) -> bool:
    """Does float32 move no point by more than a millionth of the size?"""
    moved = np.abs(points.astype(np.float32) - points).max()
    return moved <= 1e-6 * np.ptp(points, axis=0).max()


def _ply_bytes(geometry: Geometry) -> bytes:
    points, normals, faces = geometry
    kind, word = ("<f4", "float") if _fits_float32(points) else ("<f8", "double")
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
