"""Read a cloud of any size in blocks of bounded memory.

LAS, LAZ, E57, binary ply, npy and tables of points are read block by block; other formats, and
zipped files, as a whole. Points, colours, normals and scanners' places are read.
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
    normals: np.ndarray | None = None  # (n, 3) as the file has them, 0 where one is not finite
    origins: np.ndarray | None = None  # (n, 3) float64, where the scanner stood

    def part(self, index: slice | np.ndarray) -> Block:
        """The block of the points of a slice, an index or a mask."""
        return Block(*(None if values is None else values[index] for values in self))


def blocks(path: str | Path) -> Iterator[Block]:
    """Yield a cloud's points in the file's order, without those that are none (not finite, without
    an echo, flagged by the file). Raises UserError as files.read does."""
    path = existing_file(path)
    streams.READING.set(str(path))
    try:
        for raw in _raw_blocks(path):
            for start in range(0, len(raw.points), ROWS):
                yield from _good(raw.part(slice(start, start + ROWS)))
    except UserError as error:
        text = str(error)
        raise UserError(text if text.startswith(f"{path}:") else f"{path}: {text}") from None
    finally:
        streams.READING.set("")


def _raw_blocks(path: Path) -> Iterator[Block]:
    suffix = path.suffix.lower()
    if path.is_fifo():
        raise UserError("is a pipe, which can be read only once; write a file first")
    if suffix == ".e57":
        for points, colors, origins in laser.e57_blocks(path):
            yield Block(points, colors, None, origins)
    elif suffix in (".las", ".laz"):
        with open(path, "rb") as file:
            for points, colors in laser.las_blocks(
                    mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)):
                yield Block(points, colors)
    elif suffix in files.TABLES:
        with open(path, "rb") as file:
            for table in tables.table_blocks(file, files.TABLES[suffix]):
                yield _of_columns(table)
    else:
        table = _mapped_columns(path, suffix)
        if table is None:
            cloud = files.read_cloud(path)
            yield Block(cloud.points, cloud.colors, cloud.normals, cloud.origins)
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


def _of_columns(table: dict[str, np.ndarray]) -> Block:
    """The block of columns. Raises UserError where x, y or z is missing."""
    points, colors, normals = (
        np.stack([table[name] for name in names], axis=1) if set(names) <= table.keys() else None
        for names in (("x", "y", "z"), ("r", "g", "b"), ("nx", "ny", "nz")))
    if points is None:
        raise UserError("its columns name no x, y and z")
    return Block(points.astype(np.float64), colors, normals)


def _good(block: Block) -> Iterator[Block]:
    """The points that are some, if there are any."""
    with np.errstate(invalid="ignore"):
        good = (np.abs(block.points) < LARGEST).all(axis=1)
    zeros = ~block.points.any(axis=1)
    if zeros.sum() >= files.ZEROS:  # as scanners write where nothing came back
        good &= ~zeros
    if good.any():
        block = block.part(good)
        if block.normals is not None:
            known = np.isfinite(block.normals).all(axis=1, keepdims=True)
            block = block._replace(normals=np.where(known, block.normals, 0))
        yield block
