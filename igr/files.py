"""Reading and writing the files of clouds and meshes.

Reads .ply .obj .off .stl .xyz .pts .pcd .npy .npz and any of them with .gz behind;
writes meshes as .ply .obj .off .stl and clouds as .ply .xyz .npy.
"""

from __future__ import annotations

import gzip
import io
from pathlib import Path
import zlib

from helper import UserError, existing_file, replacing
from igr import formats, ply
from igr.frames import Geometry

import numpy as np

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
    limit = formats.limit(data)
    with gzip.open(io.BytesIO(data)) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise UserError(f"unzips to more than {limit >> 20} MiB from {len(data)} bytes: refused")
    return content


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



READERS = {
    ".ply": ply.read, ".obj": formats.read_obj, ".pcd": formats.read_pcd,
    ".off": formats.read_with_trimesh("off"), ".stl": formats.read_with_trimesh("stl"),
    ".xyz": formats.read_table, ".pts": formats.read_table,
    ".npy": formats.read_npy, ".npz": formats.read_npz,
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
            temporary.write_bytes(ply.to_bytes(geometry))
        elif suffix == ".stl":
            import trimesh

            if not ply.fits_float32(geometry.points):
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
