"""Tables of points as text: what separates their numbers, and what their columns mean.

A row is x y z and whatever follows. Blanks, tabs, commas and semicolons separate; between digits a
comma is a decimal point where the rows have another separator and all agree. A first line of words
names the columns; a first line of one number counts the rows.
"""

from __future__ import annotations

import re
import warnings

from helper import UserError
from igr.frames import Geometry

import numpy as np

MOST_COLUMNS = 16  # of a table that does not name them: a point has no more to it
COMMENTS = ("#", "//", ";")
NAMES = {  # of columns in a file's header, lower case: what they are called here
    "normal_x": "nx", "normal_y": "ny", "normal_z": "nz", "red": "r", "green": "g", "blue": "b",
    "i": "intensity", "reflectance": "intensity", "scalar_intensity": "intensity",
}


def parse_numbers(text: bytes) -> np.ndarray:
    """All numbers (n,) of a text, float64, up to the first word that is no number."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # numpy's, about such a word
        return np.fromstring(text, np.float64, sep=" ")


# ------------------------------------------------------------------------------------------- tables


def read_table(data: bytes) -> Geometry:
    """The points of a file's bytes. Skips lines that begin with one of COMMENTS.

    Raises UserError where rows have unequal numbers of columns, or commas that can be read in two
    ways.
    """
    lines = [line.strip() for line in data.decode("utf-8-sig", "replace").splitlines()]
    comments = [line for line in lines if line.startswith(COMMENTS)]
    lines = [line for line in lines if line and not line.startswith(COMMENTS)]
    count = int(lines.pop(0)) if lines and re.fullmatch(r"[0-9]{1,15}", lines[0]) else None
    names = _column_names(lines, comments)
    if not lines:
        raise UserError("holds no points")
    if count not in (None, len(lines)):
        raise UserError(f"the first line promises {count} rows, the file has {len(lines)}")
    lines = _with_blanks_only(lines)
    columns = len(lines[0].split())
    values = parse_numbers(" ".join(lines).encode())
    if len(values) != len(lines) * columns or any(len(line.split()) != columns for line in lines):
        bad = next((i for i, line in enumerate(lines) if len(line.split()) != columns
                    or len(parse_numbers(line.encode())) != columns), 0)
        raise UserError(f"data row {bad + 1} is not {columns} numbers: '{lines[bad][:60]}'")
    return split_columns(values.reshape(len(lines), columns), names)


def _column_names(lines: list, comments: list) -> list:
    """The names of the columns, lower case, or []. They are the first of `lines`, which is removed,
    if none of its words is a number, or stand in a comment that names x, y and z."""
    first = _words(lines[0]) if lines else []
    if first and not any(len(parse_numbers(word.encode())) for word in first):
        del lines[0]
        return first
    named = [_words(comment.lstrip("#/;")) for comment in comments[:20]]
    return next((words for words in named if {"x", "y", "z"} <= set(words)), [])


def _words(line: str) -> list:
    return [word.strip("\"'").lower() for word in re.split(r"[\s,;]+", line) if word]


def _with_blanks_only(lines: list) -> list:
    """Lines of numbers with decimal points and nothing but blanks between them."""
    text = "\n".join(lines)
    if "," not in text and ";" not in text:
        return lines
    _refuse(text, r"[,;][ \t]*[,;]|(?:^|\n),", "a row has an empty column")
    semicolons = ";" in text
    text = re.sub(r",[ \t]+|[,;]$", " ", text, flags=re.M).replace(";", " ")
    # a comma that is left separates if nothing else does
    if not semicolons and not any("," in line and len(line.split()) > 1
                                  for line in text.split("\n")):
        if "." not in text:  # as in 0,320,-0,919,-0,230
            _refuse(text, r"(?:^|[\s,])(?:-0|[+-]?0[0-9]+)(?=[\s,]|$)",
                    "commas both separate and stand in numbers; write decimal points")
        return text.replace(",", " ").split("\n")
    if "," in text:
        _refuse(text, r"\.|,[^\s,]*,|(?<!\S),|,(?!\S)",
                "some numbers have a decimal comma, but not all rows agree; write decimal points")
    return text.replace(",", ".").split("\n")


def _refuse(text: str, pattern: str, why: str) -> None:
    """Raises UserError with the line of `text` where `pattern` is found."""
    found = re.search(pattern, text)
    if found:
        place = found.end() - 1
        line = text[text.rfind("\n", 0, place) + 1 :].partition("\n")[0]
        raise UserError(f"{why}: '{line[:60]}'")


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
    return geometry_of({name: table[:, i] for i, name in enumerate(names)})


def geometry_of(columns: dict) -> Geometry:
    """The cloud of columns {name: (n,)}: x y z, and where they are there nx ny nz, r g b and
    intensity."""
    colors = _joined(columns, "r g b")
    return Geometry(_joined(columns, "x y z"), _joined(columns, "nx ny nz"),
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


def _joined(columns: dict, names: str):
    """The columns of three names as (n, 3), or None where one is missing."""
    names = names.split()
    if not set(names) <= columns.keys():
        return None
    return np.stack([columns[name] for name in names], axis=1)


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
