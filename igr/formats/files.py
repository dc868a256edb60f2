"""Read or write the file of a cloud or mesh, in the format that its suffix names.

Reads .ply .obj .off .stl .glb .gltf .vtk .pcd .ptx .npy .npz .las .laz .e57, tables of points as
.xyz .pts .txt .csv .asc .xyzn .xyzrgb, and any of them with .gz added; writes meshes as .ply .obj
.off .stl .glb and clouds as .ply .xyz .npy. READERS, TABLES, PATH_READERS, MESH_WRITERS and
CLOUD_WRITERS at the end list them: a new format is a function in a module of this package and a
line there.
"""

from __future__ import annotations

import gzip
import io
import mmap
from pathlib import Path
import tempfile
from typing import BinaryIO
import zlib

from helper import UserError, check_writable, existing_file, log, reason_of, replacing
from igr.formats import arrays, gltf, laser, obj, off, pcd, ply, ptx, stl, streams, tables, vtk
from igr.geometry import meshes
from igr.geometry.frames import LARGEST, Geometry

import numpy as np

BLOCK = 1 << 20  # bytes that are unzipped at a time
FAR = 1e30  # coordinates of points without an echo, where other points have smaller ones
ZEROS = 10  # so many points at 0 0 0 are none: a surface goes through it once
COARSE, FEW = 5.0, 500  # see _is_coarse(); meshes of fewer vertices always are
SAMPLES = 20_000  # points on a coarse mesh

# ------------------------------------------------------------------------------------------ reading


def read(path) -> Geometry:
    """Read a cloud or mesh, also from a pipe. A path without suffix (/dev/stdin) is told by its
    first bytes.

    Points that are none (not finite, without an echo, flagged by the file) are left out, and so is
    whatever belongs to the points but does not fit; a warning says so. Raises UserError for
    whatever holds no points, or cannot be read as a whole.
    """
    path = existing_file(path)
    suffixes = [s.lower() for s in path.suffixes]
    zipped = suffixes[-1:] == [".gz"]
    suffix = "".join(suffixes[:-1][-1:] if zipped else suffixes[-1:])
    if suffix and suffix not in FORMATS:
        raise UserError(f"{path}: {_unknown(suffix)}")
    token = streams.READING.set(str(path))
    try:
        if suffix in PATH_READERS and path.is_file() and not zipped:
            return _checked(PATH_READERS[suffix](path))
        with open(path, "rb") if path.is_file() else io.BytesIO(path.read_bytes()) as file:
            start = _start_of(file)
            if zipped or start.startswith(b"\x1f\x8b"):
                file = _Unzipped(file)
                start = _start_of(file)
            _refuse_others(start, suffix)
            return _checked(_parsed(file, suffix or _suffix_for(start)))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise UserError(f"{path}: the gzip data is damaged or cut short") from None
    finally:
        streams.READING.reset(token)


def _refuse_others(start: bytes, suffix: str) -> None:
    """Raises UserError where a file begins as what is often found under a cloud's name."""
    for mark, what in OTHERS.items():
        if start.lower().startswith(mark) and not (mark == b"pk\3\4" and suffix in NUMPY):
            raise UserError(what)


def _unknown(suffix: str) -> str:
    """What to say of a suffix that is none of FORMATS."""
    if suffix == ".bin":
        return ("raw numbers without a header, as KITTI's; write them as .npy: np.save('cloud.npy',"
                " np.fromfile('cloud.bin', 'f4').reshape(-1, 4))")
    return (f"unknown format; known are {' '.join(FORMATS)}, also with .gz; a table of points as "
            "text may be renamed to .xyz")


def read_cloud(path) -> Geometry:
    """read(), and of a mesh the vertices that its faces use, or, where these are too few to show
    its surface, points at random on it; a warning says so."""
    geometry = read(path)
    if geometry.faces is None:
        return geometry
    vertices = geometry.part(geometry.used)
    if not _is_coarse(geometry, len(vertices.points)):
        log.warning("%s: is a mesh, of which only the %d vertices are taken; datasets.py create -f "
                    "samples its surface", path, len(vertices.points))
        return vertices
    log.warning("%s: is a mesh of %d vertices, too few to show its surface: %d points at random on "
                "it are taken; datasets.py create -f makes even ones", path, len(vertices.points),
                SAMPLES)
    return meshes.sample_mesh(geometry, SAMPLES, np.random.default_rng(0))


def _is_coarse(mesh: Geometry, vertices: int) -> bool:
    """Do a mesh's vertices leave most of its surface without points, as a part's that was drawn?

    They do where most of its area lies in triangles with a side of more than COARSE times the
    distance that so many even points would have.
    """
    corners = mesh.points[mesh.faces]
    sides = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(axis=1)
    area = np.linalg.norm(meshes.scaled_face_normals(corners), axis=1) / 2
    if not area.sum() > 0 or not np.isfinite(area.sum()):
        return False
    long = sides > COARSE * np.sqrt(area.sum() / vertices)
    return bool(vertices < FEW or area[long].sum() > area.sum() / 2)


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
        return tables.read_table(file, TABLES[suffix])
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


# ----------------------------------------------------------------------------------------- checking


def _checked(geometry: Geometry) -> Geometry:
    """The geometry with the types and shapes that Geometry promises, without points that are none.
    Raises UserError where it has no points, or faces that name others."""
    try:
        with np.errstate(invalid="ignore", over="ignore"):  # a damaged file's signalling NaNs
            points = np.ascontiguousarray(geometry.points, np.float64)
            faces = geometry.faces
            faces = None if faces is None else np.asarray(faces, np.int64).reshape(-1, 3)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"its points or faces are no numbers ({reason_of(error)[:80]})") from None
    if points.ndim != 2 or points.shape[1] != 3 or len(points) == 0:
        raise UserError(f"holds no points (found an array of shape {points.shape})")
    if faces is not None and len(faces) == 0:
        faces = None
    if faces is not None and (faces.min() < 0 or faces.max() >= len(points)):
        raise UserError(f"a face names a vertex outside 0..{len(points) - 1}")
    normals = _fitting(geometry.normals, points.shape, "normals", np.float64)
    shape = Geometry(points, normals, faces, _fitting(geometry.colors, points.shape, "colours"),
                     _fitting(geometry.intensity, points.shape[:1], "intensities"),
                     geometry.origins)
    shape = _without_echoless(shape)
    if max(shape.points.max(), -shape.points.min()) > LARGEST:
        raise UserError(f"coordinates beyond {LARGEST:g}: scale the shape down")
    return shape


def _fitting(values, shape: tuple, name: str, dtype: type = np.float32) -> np.ndarray | None:
    """Values of points as numbers, those of a point 0 where one is not finite; None, with a
    warning, where they have another shape or are no numbers."""
    if values is None:
        return None
    if np.shape(values) != shape:
        streams.warn(f"{shape[0]} points but {name} of shape {np.shape(values)}: left out")
        return None
    try:
        with np.errstate(invalid="ignore", over="ignore"):
            values = np.require(values, dtype, ["C", "W"])
    except (TypeError, ValueError):
        streams.warn(f"its {name} are no numbers: left out")
        return None
    bad = ~np.isfinite(values)
    values[bad.any(axis=1) if bad.ndim > 1 else bad] = 0  # normals: refused where they are needed
    return values


def _without_echoless(shape: Geometry) -> Geometry:
    """The shape without points that are not finite, or are zeros again and again, as scanners
    write where nothing came back, and without the faces that use them; a warning has their number.
    Raises UserError where nothing is left."""
    points = shape.points
    with np.errstate(invalid="ignore"):
        lost = np.zeros(len(points), bool)
        for column in points.T:  # one after the other, to spare memory
            lost |= ~((column < FAR) & (column > -FAR))
    if lost.all() or shape.faces is not None:  # far away, but all of them, or a shape of their own
        lost = ~np.isfinite(points).all(axis=1)
    number = int(lost.sum())
    if number == len(points):
        raise UserError(f"all {number} points are NaN or infinite")
    words = [f"{number} of {len(points)} points are NaN or infinite (no echo)"] * bool(number)
    if shape.faces is None:
        zeros = ~points.any(axis=1)
        number = int(zeros.sum())
        if ZEROS <= number < len(points) - lost.sum():
            words.append(f"{number} of {len(points)} points are 0 0 0 (no echo)")
            lost |= zeros
    if not words:
        return shape
    faces = None
    if shape.faces is not None:
        whole = ~lost[shape.faces].any(axis=1)
        if not whole.any():
            raise UserError(f"{words[0]}: no face is left")
        faces = (np.cumsum(~lost) - 1)[shape.faces[whole]]
        words[0] += f", {(~whole).sum()} faces use them"
    streams.warn(f"{'; '.join(words)}: left out")
    return shape.part(~lost)._replace(faces=faces)


# ------------------------------------------------------------------------------------------ writing


def write(path, geometry: Geometry, note: str = "") -> None:
    """Write a mesh or cloud in the format of the suffix; float32, or float64 where that loses.

    note: a line on what it is, which only a ply file keeps.
    """
    writers = CLOUD_WRITERS if geometry.faces is None else MESH_WRITERS
    path = check_writable(path, writers)
    suffix = path.suffix.lower()
    check_digits(path, geometry.points)
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


def check_digits(path, points: np.ndarray) -> None:
    """Raises UserError where the format of a path keeps too few digits for points (N, 3): known
    before any work that takes minutes."""
    suffix = Path(path).suffix.lower()
    if suffix in SEVEN_DIGITS and not ply.fits_float32(points):
        raise UserError(f"{path}: {suffix} keeps seven digits, too few so far from the origin; "
                        "take .ply, .obj or .off")


def _write_stl(path: Path, mesh: Geometry) -> None:
    import trimesh

    made = trimesh.Trimesh(mesh.points, mesh.faces, process=False)
    made.export(path, file_type="stl")


def _write_glb(path: Path, mesh: Geometry) -> None:
    import trimesh

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
    ".ply": ply.read, ".obj": obj.read, ".pcd": pcd.read_pcd, ".off": off.read, ".stl": stl.read,
    ".npy": arrays.read_npy, ".npz": arrays.read_npz, ".vtk": vtk.read, ".ptx": ptx.read,
    ".glb": gltf.read_glb, ".las": laser.read_las, ".laz": laser.read_las,
}
# which tables.read_table() reads: the columns' names where the file does not name them
TABLES = {".xyz": "", ".pts": "", ".txt": "", ".csv": "", ".asc": "", ".xyzn": "x y z nx ny nz",
          ".xyzrgb": "x y z r g b"}
# whose readers also take the map of a file
MAPPED = (".ply", ".obj", ".pcd", ".npy", ".npz", ".vtk", ".ptx", ".stl", ".las", ".laz")
PATH_READERS = {".e57": laser.read_e57, ".gltf": gltf.read_gltf}  # suffix: path -> Geometry
FORMATS = (*READERS, *TABLES, *PATH_READERS)
# how files of a format begin
STARTS = {b"ply": ".ply", b"OFF": ".off", b"COFF": ".off", b"NOFF": ".off", b"solid": ".stl",
          b"v ": ".obj", b"# .PCD": ".pcd", b"VERSION": ".pcd", b"\x93NUMPY": ".npy",
          b"PK": ".npz", b"# vtk": ".vtk", b"glTF": ".glb", b"LASF": ".las", b"ASTM-E57": ".e57",
          b"{": ".gltf"}
NUMPY = ("", ".npz", ".npy")  # an npz file is a zip archive
OTHERS = {b"<!doctype html": "a web page, no shape: download the file itself",
          b"<html": "a web page, no shape: download the file itself",
          b"version https://": "a pointer of Git LFS, no shape: type git lfs pull",
          b"pk\3\4": "a zip archive: unpack it"}
# suffix: writes a Geometry to a path
MESH_WRITERS = {".ply": _write_ply, ".obj": _write_obj, ".off": _write_off, ".stl": _write_stl,
                ".glb": _write_glb}
CLOUD_WRITERS = {".ply": _write_ply, ".xyz": _write_xyz, ".npy": _write_npy}
SEVEN_DIGITS = (".stl", ".glb")
