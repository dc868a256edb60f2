"""Parts that several readers share: warnings, bytes as a file, a limit of unpacking, polygons."""

from __future__ import annotations

from contextvars import ContextVar
import io
from mmap import mmap

from helper import log
from igr.geometry.frames import Geometry

import numpy as np

READING = ContextVar("the file that is read", default="")


def warn(text: str) -> None:
    """Report what a reader leaves out of the file that files.read() reads now."""
    name = READING.get()
    log.warning("%s", f"{name}: {text}" if name else text)


def joined(parts: list, what: str) -> Geometry:
    """One cloud of several; what belongs to the points of some only is left out, with a warning.

    what: the parts' name in it.
    """
    columns = []
    for name, values in zip(Geometry._fields, zip(*parts)):
        those = sum(some is not None for some in values)
        if 0 < those < len(values):
            warn(f"only {those} of {len(values)} {what} have {name}: left out")
        columns.append(np.concatenate(values) if those == len(values) else None)
    return Geometry(*columns)


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
