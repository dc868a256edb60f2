"""Readers of numpy's .npy and .npz.

Each takes a file's bytes and returns a Geometry, unchecked; files.read checks it. Each raises
UserError, without the file's name, where the bytes are not of its format.
"""

from __future__ import annotations

from mmap import mmap
import warnings

from helper import UserError
from igr.formats import columns
from igr.formats.streams import Stream, unpacked_limit
from igr.geometry.frames import Geometry

import numpy as np

# names of arrays in an npz file, lower case, the best first
NAMES = {
    "points": ("points", "pos", "xyz", "vertices", "coords", "positions", "verts", "coord",
               "position", "point_cloud", "pointcloud", "cloud", "pcd", "pc", "arr_0"),
    "normals": ("normals", "normal"),
    "faces": ("faces", "triangles", "mesh", "face"),
    "colors": ("colors", "colours", "color", "rgb"),
    "intensity": ("intensity", "intensities"),
}


def read_npy(data: bytes | mmap) -> Geometry:
    """An array of rows as columns.split_columns() has them, of records with x, y and z, or of
    points in any order (.., 3)."""
    loaded = _numpy_load(data)
    if isinstance(loaded, np.lib.npyio.NpzFile):
        raise UserError("an npz file, by another name: rename it")
    return _cloud_of(loaded)


def read_npz(data: bytes | mmap) -> Geometry:
    """Arrays called points (or pos, xyz, vertices, ...) with optional normals, faces, colors and
    intensity, or one lone array."""
    loaded = _numpy_load(data)
    if not isinstance(loaded, np.lib.npyio.NpzFile):
        return _cloud_of(loaded)
    with loaded as arrays:
        try:
            if sum(entry.file_size for entry in arrays.zip.infolist()) > unpacked_limit(len(data)):
                raise UserError("the npz file promises too much for its size: refused")
            return _named_arrays(arrays)
        except UserError:
            raise
        except Exception as error:  # the zip module's types and numpy's: any
            raise UserError(f"the npz file is damaged ({error})") from None


def _named_arrays(arrays) -> Geometry:
    keys = {key.lower(): key for key in arrays.files}
    names = {what: next((keys[name] for name in names if name in keys), None)
             for what, names in NAMES.items()}
    if names["points"] is None and len(keys) == 1:
        return _cloud_of(arrays[arrays.files[0]])
    if names["points"] is None:
        raise UserError(f"the npz file has no array 'points' (it has {sorted(keys)})")
    cloud = _cloud_of(arrays[names["points"]])
    for what, of_points in (("normals", cloud.normals), ("colors", cloud.colors),
                            ("intensity", cloud.intensity)):
        if of_points is None and names[what] is not None:
            values = arrays[names[what]]
            if what == "colors":
                values = columns.unit_colors(values[..., :3])  # without the opacity
            cloud = cloud._replace(**{what: values})
    faces = None if names["faces"] is None else arrays[names["faces"]]
    if faces is not None and faces.dtype.names:
        faces = np.stack([faces[name] for name in faces.dtype.names[:3]], axis=-1)
    return cloud._replace(faces=faces)


def _cloud_of(array: np.ndarray) -> Geometry:
    """The cloud of an array. Raises UserError where its shape or type is none of a cloud."""
    if array.dtype.names:
        return columns.named({name: array[name].reshape(-1) for name in array.dtype.names
                              if array.dtype[name].shape == ()}, "the records' type")
    if array.dtype.kind == "c":
        raise UserError("not an array that numpy reads (its numbers are complex)")
    try:
        array = array.astype(np.float64, copy=False)
    except (TypeError, ValueError) as error:
        raise UserError(f"its array is not of numbers ({str(error)[:60]})") from None
    if array.ndim > 2 and 3 <= array.shape[-1] <= columns.MOST_COLUMNS:  # of a depth camera
        array = array.reshape(-1, array.shape[-1])
    if array.ndim == 2 and array.shape[0] == 3 and array.shape[1] > columns.MOST_COLUMNS:
        array = array.T  # rows of all x, y and z
    return columns.split_columns(array)


def _numpy_load(data: bytes | mmap):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about files of Python 2, which can be read
            return np.load(Stream(data), allow_pickle=False)
    except Exception as error:  # its header is parsed as Python: any type
        raise UserError(f"not an array that numpy reads ({str(error)[:80]})") from None
