"""Readers of numpy's .npy and .npz.

Each takes a file's bytes and returns a Geometry, unchecked; files.read checks it. Each raises
UserError, without the file's name, where the bytes are not of its format.
"""

from __future__ import annotations

from mmap import mmap
import warnings

from helper import UserError
from igr.formats.streams import Stream, unpacked_limit
from igr.formats.tables import split_columns, unit_colors
from igr.geometry.frames import Geometry

import numpy as np


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
