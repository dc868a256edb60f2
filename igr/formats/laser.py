"""Laser scanners' files: LAS and LAZ by laspy, E57 by pye57 (requirements-formats.txt)."""

from __future__ import annotations

import contextlib
import importlib
import logging
from mmap import mmap
from pathlib import Path
from types import ModuleType
from typing import Iterator

from helper import UserError, reason_of
from igr.formats import streams
from igr.formats.columns import unit_colors
from igr.geometry.frames import Geometry

import numpy as np

RECORD = 54  # bytes of a LAS file's variable length record, at least
WHOLE = b"\1\0"  # of LASzip's compressors, that without chunks
LAYERED = b"\3\0"  # of LASzip's compressors, that of the point formats from 6 on
LAYERS = {10: 9, 11: 1, 12: 2, 13: 1}  # of its items but the last kind, which has one a byte
COLORS = ("red", "green", "blue")
NOISE = (7, 18)  # classes of a LAS point: low noise, high noise
SAME = 2  # points in one scanner that are no points: a surface may have one there
BLOCK = 1_000_000  # points that are unpacked at a time, to spare memory


def needed(module: str, what: str) -> ModuleType:
    """An optional library. Raises UserError with the command that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise UserError(f"{what} needs {module}: pip install -r requirements-formats.txt") from None


# -------------------------------------------------------------------------------------- las and laz


def read_las(data: bytes | mmap) -> Geometry:
    """A LAS or LAZ file's points, colours and intensities (colours and intensities that are all 0
    are none), without those that the file itself calls withheld or noise."""
    with opened_las(data) as (file, count):
        return _las_points(file, count)


def las_blocks(data: bytes | mmap) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Yield the points (n, 3) of a LAS or LAZ file and their colours (n, 3) as stored, None without
    any, block by block, without what the file calls withheld or noise."""
    with opened_las(data) as (file, _):
        colored = set(COLORS) <= set(file.header.point_format.dimension_names)
        for block in file.chunk_iterator(BLOCK):
            valid = _is_valid(block)
            points = np.stack([block[name] for name in "xyz"], axis=1, dtype=np.float64)[valid]
            yield points, (np.stack([block[name] for name in COLORS], axis=1)[valid]
                           if colored else None)


@contextlib.contextmanager
def opened_las(data: bytes | mmap) -> Iterator[tuple]:
    """Yield laspy's reader of a LAS or LAZ file, and the number of its points. Raises UserError
    where the file cannot be read, also within the block."""
    laspy = needed("laspy", "a las or laz file")
    logging.getLogger("laspy").setLevel(logging.CRITICAL)  # it logs what it raises
    records = int.from_bytes(data[100:104], "little")
    if records * RECORD > len(data):  # laspy would look for each
        raise UserError(f"not a readable las or laz file ({records} records are promised)")
    try:
        with laspy.open(streams.Stream(data), read_evlrs=False) as file:
            if file.header.are_points_compressed:
                needed("lazrs", "a laz file")
            yield file, _las_count(file.header, data)
    except (UserError, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # lazrs's panics are no Exception; laspy's parsers: any
        raise UserError(f"not a readable las or laz file ({reason_of(error)[:80]})") from None


def _las_count(header, data: bytes | mmap) -> int:
    """The number of points. Raises UserError where the header cannot be right."""
    count = header.point_count
    if not count:
        raise UserError("holds no points")
    if not (np.isfinite([*header.scales, *header.offsets]).all() and np.all(header.scales)):
        raise UserError(f"its header's scale is {' '.join(f'{s:g}' for s in header.scales)}: a "
                        "scale of 0 or no number makes all points one")
    packed = header.are_points_compressed
    most = streams.unpacked_limit(len(data)) if packed else len(data)
    if count * header.point_format.size > most:
        raise UserError(f"cut short: {count} points were promised, the data ends earlier")
    if packed:
        _check_chunks(data, header.offset_to_point_data, header.point_format.size, count)
    return count


def _check_chunks(data: bytes | mmap, start: int, size: int, count: int) -> None:
    """Raises UserError where a laz file of `count` points of `size` bytes, which begin at `start`,
    promises more chunks than points, or layers of a chunk that are longer than the file. lazrs
    would take the memory for them first, and end the process where there is none."""
    table = int.from_bytes(data[start : start + 8], "little", signed=True)
    if table == -1:  # it stands at the end
        table = int.from_bytes(data[-8:], "little", signed=True)
    record = data.find(b"laszip encoded") - 2 + RECORD  # as the LASzip specification has it
    at = start + 8
    if data[record : record + 2] == WHOLE:
        raise UserError("compressed in one piece, as LASzip wrote until 2010, which lazrs does not "
                        "read; write it anew with a later LASzip")
    if data[record : record + 2] == LAYERED:
        number = int.from_bytes(data[record + 32 : record + 34], "little")
        items = np.frombuffer(data[record + 34 : record + 34 + 6 * number], "<u2").reshape(-1, 3)
        layers = sum(LAYERS.get(int(kind), int(length)) for kind, length, _ in items)
        while at < min(table, len(data)):  # a first point as it is, a number of points, the layers
            sizes = np.frombuffer(data[at + size + 4 : at + size + 4 + 4 * layers], "<u4")
            at += size + 4 + 4 * layers + int(sizes.sum(dtype=np.int64))
    chunks = int.from_bytes(data[table + 4 : table + 8], "little") if table > 0 else 0
    if chunks > count or at > max(table, start + 8):
        raise UserError("the laz file's chunks are damaged")


def _las_points(file, count: int) -> Geometry:
    names = set(file.header.point_format.dimension_names)
    points = np.empty((count, 3))
    colors = np.empty((count, 3), np.uint16) if set(COLORS) <= names else None
    intensity = np.empty(count, np.float32)
    valid = np.empty(count, bool)
    done = 0
    for block in file.chunk_iterator(BLOCK):
        part = slice(done, done + len(block))
        for axis, name in enumerate("xyz"):
            points[part, axis] = block[name]
        if colors is not None:
            for channel, name in enumerate(COLORS):
                colors[part, channel] = block[name]
        intensity[part] = block["intensity"]
        valid[part] = _is_valid(block)
        done += len(block)
    if done != count:
        raise UserError(f"cut short: {count} points were promised, {done} are there")
    colored = colors is not None and colors.any()
    cloud = Geometry(points, colors=unit_colors(colors) if colored else None,
                     intensity=intensity if intensity.any() else None)
    if valid.all():
        return cloud
    if not valid.any():
        raise UserError(f"all {count} points are flagged as withheld or noise")
    streams.warn(f"{count - valid.sum()} of {count} points are flagged as withheld or noise (class "
                 "7 or 18): left out")
    return cloud.part(valid)


def _is_valid(block) -> np.ndarray:
    """Mask (n,) of laspy's points that the file itself does not call withheld or noise."""
    return ~(np.asarray(block["withheld"], bool) | np.isin(block["classification"], NOISE))


# ---------------------------------------------------------------------------------------------- e57


def e57_blocks(path: Path) -> Iterator[tuple[np.ndarray, np.ndarray | None, np.ndarray | None]]:
    """Yield the valid points (n, 3) of all scans of an E57 file in the file's common frame, their
    colours (n, 3) from 0 to 1, None without any, and where the scanner stood (n, 3), None where no
    scan has a pose, block by block."""
    pye57 = needed("pye57", "an e57 file")
    try:
        with pye57.E57(str(path)) as file:
            headers = [file.get_header(i) for i in range(file.scan_count)]
            _check_e57(headers, path.stat().st_size)
            for index in range(len(headers)):
                yield from _e57_scan_blocks(pye57, file, headers, index)
    except (UserError, GeneratorExit):
        raise
    except Exception as error:  # the library's own and Python's: any
        raise UserError(f"not a readable e57 file ({reason_of(error)[:80]})") from None


def _e57_scan_blocks(pye57, file, headers: list, index: int) -> Iterator[tuple]:
    """e57_blocks() of one scan."""
    header = headers[index]
    posed = any(header.has_pose() for header in headers)
    spherical = "sphericalRange" in header.point_fields
    system = "spherical" if spherical else "cartesian"
    axes = [system + name for name in (("Range", "Azimuth", "Elevation") if spherical else "XYZ")]
    colored = {"colorRed", "colorGreen", "colorBlue"} <= set(header.point_fields)
    channels = ["colorRed", "colorGreen", "colorBlue"] if colored else []
    flag = [f"{system}InvalidState"] * (f"{system}InvalidState" in header.point_fields)
    data, buffers = file.make_buffers([*axes, *channels, *flag], min(BLOCK, header.point_count))
    reader = header.points.reader(buffers)
    while count := reader.read():
        points = np.stack([data[name][:count] for name in axes], axis=1)
        if spherical:
            points = pye57.utils.convert_spherical_to_cartesian(points)
        valid = points.any(axis=1)  # what lies in the scanner itself had no echo
        if flag:
            valid &= data[flag[0]][:count] == 0
        if header.has_pose():
            points = file.to_global(points, header.rotation, header.translation)
        colors = None
        if colored:
            colors = unit_colors(np.stack([data[name][:count] for name in channels], axis=1),
                                 _color_top(header))
        origins = np.tile(file.scan_position(index), (valid.sum(), 1)) if posed else None
        yield points[valid], None if colors is None else colors[valid], origins


def read_e57(path: Path) -> Geometry:
    """The valid points of all scans of an E57 file in the file's common frame, with colours and
    intensities if all scans have them, and the scanner's position if a scan has a pose."""
    pye57 = needed("pye57", "an e57 file")
    try:
        with pye57.E57(str(path)) as file:
            headers = [file.get_header(i) for i in range(file.scan_count)]
            _check_e57(headers, path.stat().st_size)
            scans = [_e57_scan(file, i, header) for i, header in enumerate(headers)
                     if header.point_count]
            posed = any(header.has_pose() for header in headers)
    except UserError:
        raise
    except Exception as error:  # the library's own and Python's: any
        raise UserError(f"not a readable e57 file ({reason_of(error)[:80]})") from None
    geometry = streams.joined(scans, "scans")
    return geometry if posed else geometry._replace(origins=None)


def _check_e57(headers: list, size: int) -> None:
    """Raises UserError where scans (their headers) have no points, or more than a file of `size`
    bytes can hold."""
    count = sum(header.point_count for header in headers)
    if count == 0:
        raise UserError(f"holds no points ({len(headers)} scans)")
    if count > 64 * size:
        raise UserError(f"cut short: {count} points were promised in {size} bytes")


def _e57_scan(file, index: int, header) -> Geometry:
    data = file.read_scan(index, intensity=True, colors=True, ignore_missing_fields=True)
    points = np.stack([data[f"cartesian{axis}"] for axis in "XYZ"], axis=1)
    colors = None
    if {"colorRed", "colorGreen", "colorBlue"} <= data.keys():
        colors = np.stack([data[f"color{name}"] for name in ("Red", "Green", "Blue")], axis=1)
        colors = unit_colors(colors, _color_top(header))
    intensity = data.get("intensity")
    origins = np.tile(file.scan_position(index), (len(points), 1))
    scan = Geometry(points, None, None, colors, intensity, origins)
    echo = (points != origins).any(axis=1)  # without one, Leica writes zeros
    if len(points) - echo.sum() < SAME:
        return scan
    streams.warn(f"{len(points) - echo.sum()} of {len(points)} points lie in the scanner itself, "
                 "so they had no echo: left out")
    return scan.part(echo)


def _color_top(header) -> float | None:
    """The brightest value of a scan's colours by its header; None where that does not say."""
    if not header.node.isDefined("colorLimits"):
        return None
    return max(1.0, float(header["colorLimits"]["colorRedMaximum"].value()))
