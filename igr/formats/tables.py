"""Tables of points as text: what separates their numbers, and what their columns mean.

A row is x y z and whatever follows. Blanks, tabs, commas and semicolons separate; between digits a
comma is a decimal point where the rows have another separator and all agree. A first line of words
names the columns; a first line of one number counts the rows.
"""

from __future__ import annotations

from itertools import islice
import re
from typing import BinaryIO, NamedTuple
import warnings

from helper import UserError
from igr.geometry.frames import Geometry

import numpy as np

MOST_COLUMNS = 16  # of a table that does not name them: a point has no more to it
BLOCK = 1 << 22  # bytes that are read at a time, to spare memory
COMMENT = re.compile(rb"^[ \t]*(?:#|//|;).*", re.MULTILINE)  # a line of
# between two words, or at the end of a line; a comma that is left separates if nothing else does
SEPARATOR = re.compile(rb",[ \t]+|[,;][ \t]*$", re.MULTILINE)
EMPTY = re.compile(rb"[,;][ \t]*[,;]|^[ \t]*,", re.MULTILINE)  # a column
LEADING_ZERO = re.compile(rb"(?:^|[\s,])(?:-0|[+-]?0[0-9]+)(?=[\s,]|$)", re.MULTILINE)
NOT_DECIMAL = re.compile(rb"\.|,[^\s,]*,|(?<!\S),|,(?!\S)")
DECIMAL = bytes.maketrans(b",;", b". ")
BLANKS = bytes.maketrans(b",;", b"  ")
WORD = bytes(set(range(256)) - set(b" \t\n\r\v\f"))
NAMES = {  # of columns in a file's header, lower case: what they are called here
    "normal_x": "nx", "normal_y": "ny", "normal_z": "nz", "red": "r", "green": "g", "blue": "b",
    "i": "intensity", "reflectance": "intensity", "scalar_intensity": "intensity",
}


def parse_numbers(text: bytes | memoryview) -> np.ndarray:
    """All numbers (n,) of a text, float64, up to the first word that is no number."""
    found = [np.empty(0)]
    start = 0
    stopped = []
    while start < len(text) and not stopped:
        block = bytes(text[start : start + BLOCK])
        if start + BLOCK < len(text):  # its last word may go on behind it
            block = block.rstrip(WORD) or bytes(text[start:])
        start += len(block)
        if block.strip():
            with warnings.catch_warnings(record=True) as stopped:  # numpy's, about such a word
                warnings.simplefilter("always")
                found.append(np.fromstring(block, np.float64, sep=" "))
    return np.concatenate(found)


# ------------------------------------------------------------------------------------------- tables
#
# A file is read twice, in blocks of whole lines: its last row may be the one that says whether a
# comma is a decimal point. All is done with bytes, of which numbers have no other than ASCII's.


class _Style(NamedTuple):
    """How the rows of a table are written."""

    lines: int  # at least as many as there are rows
    size: int  # bytes of them
    separators: bool  # are there commas or semicolons?
    decimal: bool  # is a comma a decimal point? Else it separates, as a semicolon does


def read_table(file: BinaryIO) -> Geometry:
    """The points of an open file. Skips lines that begin with # or // or ;.

    Raises UserError where rows have unequal numbers of columns, or commas that can be read in two
    ways.
    """
    head, count, names = _head(file)
    style = _style(file, head)
    table = None
    rows = 0
    for block in _blocks(file, [], head):
        block = _with_blanks_only(block, style)
        words = _words_of_lines(block)
        if table is None:  # a number and what separates it are two bytes
            table = np.empty((min(style.lines, (style.size + 1) // (2 * words[0])), words[0]))
        table[rows : rows + len(words)] = _numbers(block, words, table.shape[1], rows)
        rows += len(words)
    if table is None:
        raise UserError("holds no points")
    if count not in (None, rows):
        raise UserError(f"the first line promises {count} rows, the file has {rows}")
    return split_columns(table[:rows], names)


def _blocks(file: BinaryIO, comments: list, head: int = 0):
    """Yield the lines of an open file from its start, many in one bytes, but for empty ones at the
    start of a block, comments, and the first `head` of what is left. Comments are added to a list.
    """
    file.seek(0)
    block = file.read(BLOCK) + file.readline()
    block = block[3:] if block.startswith(b"\xef\xbb\xbf") else block
    while block:
        if b"\r" in block:
            block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if any(mark in block for mark in (b"#", b"//", b";")):
            comments += COMMENT.findall(block)
            block = COMMENT.sub(b"", block)
        block = block.lstrip()
        while head and block:
            block = block.partition(b"\n")[2].lstrip()
            head -= 1
        if block:
            yield block
        block = file.read(BLOCK) + file.readline()


def _head(file: BinaryIO):
    """(how many lines stand before the rows, the number of rows that one of them promises, or None,
    the names of the columns, lower case, or [])."""
    comments = []
    lines = (line.strip() for block in _blocks(file, comments) for line in block.split(b"\n"))
    lines = [line.decode(errors="replace") for line in islice(filter(None, lines), 2)]
    found = len(lines)
    count = int(lines.pop(0)) if lines and re.fullmatch(r"[0-9]{1,15}", lines[0]) else None
    names = _column_names(lines, [line.strip().decode(errors="replace") for line in comments[:20]])
    return found - len(lines), count, names


def _column_names(lines: list, comments: list) -> list:
    """The names of the columns, lower case, or []. They are the first of `lines`, which is removed,
    if none of its words is a number, or stand in a comment that names x, y and z."""
    first = _words(lines[0]) if lines else []
    if first and not any(len(parse_numbers(word.encode())) for word in first):
        del lines[0]
        return first
    named = [_words(comment.lstrip("#/;")) for comment in comments]
    return next((words for words in named if {"x", "y", "z"} <= set(words)), [])


def _words(line: str) -> list:
    return [word.strip("\"'").lower() for word in re.split(r"[\s,;]+", line) if word]


def _style(file: BinaryIO, head: int) -> _Style:
    """How the rows behind the first `head` lines are written. Raises UserError where commas can be
    read in two ways, or a column is empty."""
    lines = size = 0
    commas = semicolons = dots = inner = beside_blanks = False
    number = other = None  # the first line that cannot be where commas separate; are decimal
    for block in _blocks(file, [], head):
        lines += block.count(b"\n") + 1
        size += len(block)
        commas |= b"," in block
        semicolons |= b";" in block
        dots |= b"." in block
        if b"," in block or b";" in block:
            _refuse(_line_with(EMPTY, block), "a row has an empty column")
            block = SEPARATOR.sub(b" ", block).replace(b";", b" ")
            inner |= b"," in block
            beside_blanks = beside_blanks or _has_line_of_both(block)
            number = number or (None if dots else _line_with(LEADING_ZERO, block))
        if b"," in block or b"." in block:
            other = other or _line_with(NOT_DECIMAL, block)
    decimal = semicolons or beside_blanks
    if commas and not decimal and not dots:  # as in 0,320,-0,919,-0,230
        _refuse(number, "commas both separate and stand in numbers; write decimal points")
    if inner and decimal:
        _refuse(other, "some numbers have a decimal comma, but not all rows agree; write decimal "
                "points")
    return _Style(lines, size, commas or semicolons, decimal)


def _line_with(pattern: re.Pattern, block: bytes) -> str | None:
    """The line of a block where a pattern is found."""
    found = pattern.search(block)
    if not found:
        return None
    place = found.end() - 1
    line = block[block.rfind(b"\n", 0, place) + 1 :].partition(b"\n")[0]
    return line.strip().decode(errors="replace")


def _refuse(line: str | None, why: str) -> None:
    """Raises UserError where there is such a line."""
    if line is not None:
        raise UserError(f"{why}: '{line[:60]}'")


def _has_line_of_both(block: bytes) -> bool:
    """Has a line both a comma and several words?"""
    if b" " not in block and b"\t" not in block:
        return False
    return any(b"," in line and len(line.split()) > 1 for line in block.split(b"\n"))


def _with_blanks_only(block: bytes, style: _Style) -> bytes:
    """Lines with decimal points and nothing but blanks between the numbers."""
    if not style.separators:
        return block
    if style.decimal and b"," in block:
        block = SEPARATOR.sub(b" ", block)
    return block.translate(DECIMAL if style.decimal else BLANKS)


def _words_of_lines(block: bytes) -> np.ndarray:
    """The number of words in each line that has some."""
    characters = np.frombuffer(block, np.uint8)
    inside = (characters != ord(" ")) & (characters - np.uint8(ord("\t")) > ord("\r") - ord("\t"))
    begins = np.flatnonzero(inside[1:] & ~inside[:-1]) + 1  # but for the first
    ends = np.flatnonzero(characters == ord("\n"))
    words = np.diff(np.searchsorted(begins, ends), prepend=0, append=len(begins))
    words[0] += inside[0]
    return words[words > 0]


def _numbers(block: bytes, words: np.ndarray, columns: int, rows: int) -> np.ndarray:
    """The numbers (lines, columns) of a block; words: of its lines. Raises UserError where a line
    is not so many numbers; rows: lines before the block."""
    values = parse_numbers(block)
    if len(values) == len(words) * columns and (words == columns).all():
        return values.reshape(len(words), columns)
    lines = [line for line in block.split(b"\n") if line.strip()]
    bad = next((i for i, line in enumerate(lines)
                if len(line.split()) != columns or len(parse_numbers(line)) != columns), 0)
    raise UserError(f"data row {rows + bad + 1} is not {columns} numbers: "
                    f"'{lines[bad].strip().decode(errors='replace')[:60]}'")


# ------------------------------------------------------------------------------------------ columns


def split_columns(table: np.ndarray, names=()) -> Geometry:
    """The cloud of a table (n, columns).

    names: of its columns. Where they do not say which are x, y and z, these come first, and of the
    rest the first three columns of length 1 (within 1 %) are normals, the first three of integers
    from 0 to 255, or of numbers from 0 to 1, colours, and the first single one is the intensity.
    """
    if table.ndim != 2 or table.shape[1] < 3:
        raise UserError(f"needs rows of x y z, found an array of shape {table.shape}")
    names = [NAMES.get(name, name) for name in names]
    if len(names) != table.shape[1] or not {"x", "y", "z"} <= set(names):
        if table.shape[1] > MOST_COLUMNS:
            raise UserError(f"{table.shape[1]} columns without a header that names x, y and z: "
                            "which are they?")
        names = _guessed_names(table)
    if names == ["x", "y", "z"]:  # no copy
        return Geometry(table)
    return geometry_of({name: table[:, i] for i, name in enumerate(names)})


def geometry_of(columns: dict) -> Geometry:
    """The cloud of columns {name: (n,)}: x y z, and where they are there nx ny nz, r g b and
    intensity."""
    colors = _joined(columns, "r g b")
    return Geometry(_joined(columns, "x y z", np.float64), _joined(columns, "nx ny nz", np.float64),
                    colors=None if colors is None else unit_colors(colors),
                    intensity=columns.get("intensity"))


def unit_colors(colors: np.ndarray, top: float | None = None) -> np.ndarray:
    """Colours (N, 3) of any numeric type as float32 from 0 to 1. top: the brightest value; None:
    1, 255 or 65535, the first that is not exceeded, but no less than 255 for integers."""
    if top is None:
        peak = np.nanmax(colors, initial=0)
        tops = (255, 65535) if colors.dtype.kind in "iu" else (1, 255, 65535)
        top = next((value for value in tops if peak <= value), np.inf)
        if not np.isfinite(top):
            raise UserError(f"colours up to {peak:g}, more than 16 bits hold")
    with np.errstate(invalid="ignore"):
        return np.clip(np.asarray(colors, np.float32) / np.float32(top), 0, 1)


def _joined(columns: dict, names: str, dtype: type | None = None):
    """The columns of three names as (n, 3), or None where one is missing."""
    names = names.split()
    if not set(names) <= columns.keys():
        return None
    with np.errstate(invalid="ignore"):  # a damaged file's signalling NaNs
        return np.stack([columns[name] for name in names], axis=1, dtype=dtype, casting="unsafe")


def _guessed_names(table: np.ndarray) -> list:
    """Names of a table's columns by their values, as split_columns() says; others are numbered."""
    names = ["x", "y", "z"]
    while len(names) < table.shape[1]:
        i = len(names)
        three = table[:, i : i + 3]
        ahead = table[:, i + 1 : i + 4]  # behind one column, in tables of x y z intensity r g b
        single = (table.shape[1] - i) % 3 == 1 and _is_color(ahead)
        if "nx" not in names and _is_normal(three):
            names += ["nx", "ny", "nz"]
        elif "r" not in names and _is_color(three) and not single:
            names += ["r", "g", "b"]
        else:
            names.append("intensity" if "intensity" not in names else str(i))
    return names


def _is_normal(table: np.ndarray) -> bool:
    with np.errstate(over="ignore"):
        return (table.shape[1] == 3
                and np.allclose(np.linalg.norm(table, axis=1), 1, atol=0.01))


def _is_color(table: np.ndarray) -> bool:
    with np.errstate(invalid="ignore"):
        inside = table.shape[1] == 3 and 0 <= table.min() and 0 < table.max() <= 255
        return bool(inside and (table.max() <= 1 or (table == np.round(table)).all()))
