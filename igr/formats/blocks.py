"""Read a cloud of any size in blocks of bounded memory.

LAS, LAZ, E57, binary ply, npy and tables of points are read block by block; other formats, and
zipped files, as a whole. Only points and colours are read.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Iterator, NamedTuple

from helper import UserError, existing_file
from igr.formats import columns, files, laser, ply, streams, tables
from igr.geometry.frames import LARGEST

import numpy as np

ROWS = 500_000  # points of a block at most
GUESSED = 100_000  # rows of an array, by whose values its columns are told


class Block(NamedTuple):
    """Points of a cloud, in the coordinates of its file."""

    points: np.ndarray  # (n, 3) float64, finite
    colors: np.ndarray | None  # (n, 3) as the file has them, see columns.top_of; None without any


def blocks(path: str | Path) -> Iterator[Block]:
    """Yield a cloud's points in the file's order, without those that are none (not finite, without
    an echo, flagged by the file). Raises UserError as files.read does."""
    path = existing_file(path)
    streams.READING.set(str(path))
    try:
        for points, colors in _raw_blocks(path):
            for start in range(0, len(points), ROWS):
                some = slice(start, start + ROWS)
                yield from _good(points[some], None if colors is None else colors[some])
    except UserError as error:
        text = str(error)
        raise UserError(text if text.startswith(f"{path}:") else f"{path}: {text}") from None
    finally:
        streams.READING.set("")


def _raw_blocks(path: Path) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    suffix = path.suffix.lower()
    if path.is_fifo():
        raise UserError("is a pipe, which can be read only once; write a file first")
    if suffix == ".e57":
        yield from laser.e57_blocks(path)
    elif suffix in (".las", ".laz"):
        with open(path, "rb") as file:
            yield from laser.las_blocks(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    elif suffix in files.TABLES:
        with open(path, "rb") as file:
            for table in tables.table_blocks(file, files.TABLES[suffix]):
                yield _of_columns(table)
    else:
        table = _mapped_columns(path, suffix)
        if table is None:
            cloud = files.read_cloud(path)
            yield cloud.points, cloud.colors
            return
        for start in range(0, len(next(iter(table.values()))), ROWS):
            yield _of_columns({name: values[start : start + ROWS]
                               for name, values in table.items()})


def _mapped_columns(path: Path, suffix: str) -> dict[str, np.ndarray] | None:
    """The columns {x, y, z, ..: (N,)} of a file that can stay on the disk; None of another."""
    if suffix == ".npy":
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if array.ndim == 2 and array.dtype.kind in "fiu" and 3 <= array.shape[1] < len(array):
            some = np.asarray(array[:: -(-len(array) // GUESSED)], np.float64)
            return {name: array[:, i] for i, name in enumerate(columns.guessed_names(some))}
    if suffix == ".ply":
        with open(path, "rb") as file:
            start = file.read(4)
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        rows = ply.vertex_rows(data) if start[:3] == b"ply" else None
        if rows is not None and rows.dtype.names:
            places = columns.places_of(list(rows.dtype.names))
            return {name: rows[rows.dtype.names[place]] for name, place in places.items()}
    return None


def _of_columns(table: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray | None]:
    """Points and colours (n, 3) of columns. Raises UserError where x, y or z is missing."""
    if not {"x", "y", "z"} <= table.keys():
        raise UserError("its columns name no x, y and z")
    points = np.stack([table[name] for name in "xyz"], axis=1).astype(np.float64)
    colored = {"r", "g", "b"} <= table.keys()
    return points, np.stack([table[name] for name in "rgb"], axis=1) if colored else None


def _good(points: np.ndarray, colors: np.ndarray | None) -> Iterator[Block]:
    """The points that are some, if there are any."""
    with np.errstate(invalid="ignore"):
        good = (np.abs(points) < LARGEST).all(axis=1)
    zeros = ~points.any(axis=1)
    if zeros.sum() >= files.ZEROS:  # as scanners write where nothing came back
        good &= ~zeros
    if good.any():
        yield Block(points[good], None if colors is None else colors[good])
