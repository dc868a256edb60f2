"""Reading and writing the files of clouds and meshes.

Reads .ply .obj .off .stl .glb .gltf .vtk .xyz .pts .pcd .npy .npz .las .laz .e57, and any of them
with .gz added; writes meshes as .ply .obj .off .stl .glb and clouds as .ply .xyz .npy. READERS,
TABLES, PATH_READERS, MESH_WRITERS and CLOUD_WRITERS at the end list them: a new format is a
function in a module of this package and a line there.
"""

from __future__ import annotations

import gzip
import io
import mmap
from pathlib import Path
import tempfile
from typing import BinaryIO
import zlib

from helper import UserError, check_writable, existing_file, replacing
from igr.formats import arrays, laser, obj, pcd, ply, streams, tables, trimeshes, vtk
from igr.geometry.frames import LARGEST, Geometry

import numpy as np

BLOCK = 1 << 20  # bytes that are unzipped at a time

# ------------------------------------------------------------------------------------------ reading


def read(path) -> Geometry:
    """Read a cloud or mesh, also from a pipe. A path without suffix (/dev/stdin) is told by its
    first bytes. Raises UserError for whatever does not hold finite points."""
    path = existing_file(path)
    suffixes = [s.lower() for s in path.suffixes]
    zipped = suffixes[-1:] == [".gz"]
    suffix = "".join(suffixes[:-1][-1:] if zipped else suffixes[-1:])
    if suffix and suffix not in FORMATS:
        raise UserError(f"{path}: unknown format; known are {' '.join(FORMATS)}, also with .gz")
    try:
        if suffix in PATH_READERS and path.is_file() and not zipped:
            return _checked(PATH_READERS[suffix](path))
        with open(path, "rb") if path.is_file() else io.BytesIO(path.read_bytes()) as file:
            start = _start_of(file)
            if zipped or (not suffix and start.startswith(b"\x1f\x8b")):
                file = _Unzipped(file)
                start = _start_of(file)
            return _checked(_parsed(file, suffix or _suffix_for(start)))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise UserError(f"{path}: the gzip data is damaged or cut short") from None


def note_of(path) -> str:
    """The note that write() left in a ply file; empty where there is none."""
    path = Path(path)
    if path.suffix.lower() != ".ply" or not path.is_file():  # a pipe gives its bytes only once
        return ""
    with open(path, "rb") as file:
        return ply.note_of(file.read(1 << 16))


def read_mesh(path) -> Geometry:
    """read(), and UserError where the file has no faces."""
    geometry = read(path)
    if geometry.faces is None:
        raise UserError(f"{path}: a point cloud; a mesh with faces is needed here")
    return geometry


def _parsed(file: BinaryIO, suffix: str) -> Geometry:
    """What an open file holds, unchecked. Formats of large clouds are read without a copy of the
    file in memory."""
    if suffix in TABLES:
        return tables.read_table(file)
    if suffix in MAPPED and isinstance(file, io.BufferedReader):
        return READERS[suffix](mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    if suffix in READERS:
        return READERS[suffix](file.read())
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / f"copy{suffix}"
        copy.write_bytes(file.read())
        return PATH_READERS[suffix](copy)


def _start_of(file: BinaryIO) -> bytes:
    """The first bytes of an open file, which is then at its start again."""
    start = file.read(16)
    if not start:
        raise UserError("no data")  # a pipe's: a file's size is known before
    file.seek(0)
    return start


def _suffix_for(data: bytes) -> str:
    """The suffix of the format of bytes without a name, as of /dev/stdin; .xyz for unknown ones."""
    return next((suffix for start, suffix in STARTS.items() if data.startswith(start)), ".xyz")


class _Unzipped(gzip.GzipFile):
    """The content of a gzip file. Raises UserError where it grows beyond what geometry does (a
    bomb)."""

    def __init__(self, file: BinaryIO):
        super().__init__(fileobj=file)
        self.packed = file.seek(0, io.SEEK_END)
        self.limit = streams.unpacked_limit(self.packed)
        file.seek(0)

    def read(self, size: int = -1) -> bytes:
        if size >= 0:
            return self._limited(super().read(size))
        whole = bytearray()
        while block := self._limited(super().read(BLOCK)):
            whole += block
        return bytes(whole)

    def readline(self, size: int = -1) -> bytes:
        return self._limited(super().readline(size if size >= 0 else self.limit + 1))

    def _limited(self, data: bytes) -> bytes:
        if self.tell() > self.limit:
            raise UserError(f"unzips to more than {self.limit >> 20} MiB from {self.packed} bytes: "
                            "refused")
        return data


def _checked(geometry: Geometry) -> Geometry:
    """The geometry with the types and shapes that Geometry promises. Raises UserError."""
    points = _checked_points(geometry.points)
    normals = geometry.normals
    if normals is not None:
        with np.errstate(invalid="ignore"):
            normals = np.require(normals, np.float64, ["C", "W"])
        if normals.shape != points.shape:
            raise UserError(f"{len(points)} points but normals of shape {normals.shape}")
        normals[~np.isfinite(normals).all(axis=1)] = 0  # refused where normals are needed
    faces = geometry.faces
    if faces is not None:
        faces = np.asarray(faces, np.int64).reshape(-1, 3)
        if len(faces) == 0:
            faces = None
        elif faces.min() < 0 or faces.max() >= len(points):
            raise UserError(f"a face names a vertex outside 0..{len(points) - 1}")
    return Geometry(points, normals, faces, _checked_rows(geometry.colors, points.shape, "colours"),
                    _checked_rows(geometry.intensity, points.shape[:1], "intensities"),
                    geometry.origins)


def _checked_rows(values, shape: tuple, name: str):
    """values as float32, 0 where they are not finite. Raises UserError where they have another
    shape."""
    if values is None:
        return None
    if np.shape(values) != shape:
        raise UserError(f"{shape[0]} points but {name} of shape {np.shape(values)}")
    with np.errstate(invalid="ignore", over="ignore"):
        return np.nan_to_num(np.asarray(values, np.float32), nan=0, posinf=0, neginf=0)


def _checked_points(points) -> np.ndarray:
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
    if max(points.max(), -points.min()) > LARGEST:
        raise UserError(f"coordinates beyond {LARGEST:g}: scale the shape down")
    return points


# ------------------------------------------------------------------------------------------ writing


def write(path, geometry: Geometry, note: str = "") -> None:
    """Write a mesh or cloud in the format of the suffix; float32, or float64 where that loses.

    note: a line on what it is, which only a ply file keeps.
    """
    writers = CLOUD_WRITERS if geometry.faces is None else MESH_WRITERS
    path = check_writable(path, writers)
    suffix = path.suffix.lower()
    with replacing(path) as temporary:
        try:
            if note and suffix == ".ply":
                _write_ply(temporary, geometry, note)
            else:
                writers[suffix](temporary, geometry)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None


def _write_ply(path: Path, geometry: Geometry, note: str = "") -> None:
    with open(path, "wb") as file:
        ply.write(file, geometry, note)


def _write_obj(path: Path, mesh: Geometry) -> None:
    # the shortest text of a float that is read as the same float64
    vertices = [f"v {x!r} {y!r} {z!r}" for x, y, z in mesh.points.tolist()]
    if mesh.colors is not None:
        colors = np.round(mesh.colors, 4).astype(float).tolist()
        vertices = [f"{vertex} {r:g} {g:g} {b:g}" for vertex, (r, g, b) in zip(vertices, colors)]
    faces = "".join(f"f {a} {b} {c}\n" for a, b, c in (mesh.faces + 1).tolist())
    path.write_text("\n".join([*vertices, faces]))


def _write_off(path: Path, mesh: Geometry) -> None:
    vertices = "".join(f"{x!r} {y!r} {z!r}\n" for x, y, z in mesh.points.tolist())
    faces = "".join(f"3 {a} {b} {c}\n" for a, b, c in mesh.faces.tolist())
    path.write_text(f"OFF\n{len(mesh.points)} {len(mesh.faces)} 0\n{vertices}{faces}")


def _write_stl(path: Path, mesh: Geometry) -> None:
    import trimesh

    if not ply.fits_float32(mesh.points):
        raise UserError(".stl keeps seven digits, too few so far from the origin; take .ply, .obj "
                        "or .off")
    made = trimesh.Trimesh(mesh.points, mesh.faces, process=False)
    made.export(path, file_type="stl")


def _write_glb(path: Path, mesh: Geometry) -> None:
    import trimesh

    if not ply.fits_float32(mesh.points):
        raise UserError(".glb keeps seven digits, too few so far from the origin; take .ply, .obj "
                        "or .off")
    colors = None if mesh.colors is None else np.round(255 * mesh.colors).astype(np.uint8)
    made = trimesh.Trimesh(mesh.points, mesh.faces, vertex_colors=colors, process=False)
    path.write_bytes(trimesh.Scene(made).export(file_type="glb"))


def _write_xyz(path: Path, cloud: Geometry) -> None:
    np.savetxt(path, _table(cloud), fmt="%s")


def _write_npy(path: Path, cloud: Geometry) -> None:
    np.save(path, _table(cloud))


def _table(cloud: Geometry) -> np.ndarray:
    """Columns (N, 3) of the points, then those of the normals and of the colours from 0 to 255."""
    normals = [] if cloud.normals is None else [cloud.normals]
    colors = [] if cloud.colors is None else [np.round(255 * cloud.colors.astype(np.float64))]
    return np.concatenate([cloud.points, *normals, *colors], axis=1)


# ------------------------------------------------------------------------------------------ formats

READERS = {  # suffix: bytes of a file -> Geometry, unchecked
    ".ply": ply.read, ".obj": obj.read, ".pcd": pcd.read_pcd,
    ".off": trimeshes.read_with_trimesh("off"), ".stl": trimeshes.read_with_trimesh("stl"),
    ".npy": arrays.read_npy, ".npz": arrays.read_npz, ".vtk": vtk.read,
    ".glb": trimeshes.read_glb, ".las": laser.read_las, ".laz": laser.read_las,
}
TABLES = (".xyz", ".pts")  # which tables.read_table() reads
# whose readers also take the map of a file
MAPPED = (".ply", ".obj", ".pcd", ".npy", ".npz", ".vtk", ".las", ".laz")
PATH_READERS = {".e57": laser.read_e57, ".gltf": trimeshes.read_gltf}  # suffix: path -> Geometry
FORMATS = (*READERS, *TABLES, *PATH_READERS)
# how files of a format begin
STARTS = {b"ply": ".ply", b"OFF": ".off", b"solid": ".stl", b"v ": ".obj", b"# .PCD": ".pcd",
          b"VERSION": ".pcd", b"\x93NUMPY": ".npy", b"PK": ".npz",
          b"# vtk": ".vtk", b"glTF": ".glb", b"LASF": ".las", b"ASTM-E57": ".e57", b"{": ".gltf"}
# suffix: writes a Geometry to a path
MESH_WRITERS = {".ply": _write_ply, ".obj": _write_obj, ".off": _write_off, ".stl": _write_stl,
                ".glb": _write_glb}
CLOUD_WRITERS = {".ply": _write_ply, ".xyz": _write_xyz, ".npy": _write_npy}
