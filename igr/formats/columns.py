"""What the columns of a cloud mean: by their names, as people write them, or by their values."""

from __future__ import annotations

import re

from helper import UserError
from igr.formats import streams
from igr.geometry.frames import Geometry

import numpy as np

MOST_COLUMNS = 16  # of a table that does not name them: a point has no more to it
OURS = ("x", "y", "z", "nx", "ny", "nz", "r", "g", "b", "intensity")
UNIT = re.compile(r"\s*[\[(<{][^\])>}]*[\])>}]")  # behind a name: [m]
PREFIX = re.compile(r"^(?:scalar|diffuse|field|vertex|point|coord|coords|coordinate|coordinates|"
                    r"position|pos|cartesian)_?(?=[xyz]$|n[xyz]$|red|green|blue|[rgb]$|normal|"
                    r"intensity|reflect)")
SUFFIX = re.compile(r"(?<=^[xyz])_?(?:coord|coordinate|position|pos|m|mm|cm|meters?|metres?)$")
NAMES = {  # of a column, as plain_name() has it: what it is called here
    "easting": "x", "northing": "y", "east": "x", "north": "y", "up": "z", "elevation": "z",
    "height": "z", "altitude": "z", "elev": "z", "alt": "z",
    **{f"{word}_{i}": f"{ours}{'xyz'[i]}" for i in range(3)
       for word, ours in (("points", ""), ("coordinates", ""), ("normals", "n"), ("normal", "n"))},
    **{f"{word}{axis}": f"n{axis}" for axis in "xyz"
       for word in ("normal", "normal_", "normals_", "n_")},
    **{f"{word}{which}{end}": which[0] for which in ("red", "green", "blue", "r", "g", "b")
       for word in ("", "color_", "colour_", "color", "f_") for end in ("", "_f", "f")},
    "i": "intensity", "intensities": "intensity", "reflectance": "intensity",
    "reflectivity": "intensity", "amplitude": "intensity", "remission": "intensity",
}


# ------------------------------------------------------------------------------------------- names


def without_units(line: str) -> str:
    """A header without the units in brackets behind its names."""
    return UNIT.sub("", line)


def plain_name(name: str) -> str:
    """A column's name in lower case, without unit, quotes and the words that programs add."""
    name = UNIT.sub("", name.strip().strip("\"'").strip()).lower()
    name = re.sub(r"[\s.:\-]+", "_", name.lstrip("#/;%").strip()).strip("_")
    return SUFFIX.sub("", PREFIX.sub("", name))


def distinct_names(names: list) -> list:
    """Names of columns of which no two are equal: the second of a name is numbered. Raises
    UserError where x, y or z is named twice."""
    made = []
    for i, name in enumerate(names):
        if name in names[:i] and name.lower() in ("x", "y", "z"):
            raise UserError(f"two columns are called {name}")
        made.append(f"{name} #{i}" if name in names[:i] or name == "_" else name)
    return made


def places_of(names: list) -> dict:
    """{name of OURS: the place of its column} of a header's names.

    The same word counts before the same in other letters, and that before a synonym. Raises
    UserError where x, y or z is named twice.
    """
    ranked = {}
    for place, name in enumerate(names):
        plain = plain_name(name)
        ours = NAMES.get(plain, plain)
        if ours in OURS:
            rank = 0 if name == ours else 1 if name.strip().lower() == ours else 2
            ranked.setdefault(ours, []).append((rank, place))
    places = {}
    for ours, found in ranked.items():
        found.sort()
        if ours in "xyz" and [rank for rank, _ in found].count(found[0][0]) > 1:
            raise UserError(f"two columns are called {ours}: {', '.join(names)[:60]}")
        places[ours] = found[0][1]
    return places


def named(columns: dict, what: str) -> Geometry:
    """The cloud of columns {name: (n,)} as a file names them. what: the file, for the message.

    Raises UserError where they name no x, y and z.
    """
    places = places_of(list(columns))
    if not {"x", "y", "z"} <= places.keys():
        raise UserError(f"{what} names no x, y and z, but {', '.join(columns)[:60] or 'nothing'}: "
                        "rename those that are")
    values = list(columns.values())
    return geometry_of({name: values[place] for name, place in places.items()})


def geometry_of(columns: dict) -> Geometry:
    """The cloud of columns {name of OURS: (n,)}: x y z, and where they are there nx ny nz, r g b
    and intensity."""
    points, normals, colors = (_joined(columns, names) for names in ("x y z", "nx ny nz", "r g b"))
    return Geometry(points, normals, colors=None if colors is None else unit_colors(colors),
                    intensity=columns.get("intensity"))


def _joined(columns: dict, names: str):
    """The columns of three names as (n, 3), float64 but for colours; None where one is missing."""
    names = names.split()
    there = [name for name in names if name in columns]
    if len(there) < 3:
        if there:
            missing = [name for name in names if name not in columns]
            streams.warn(f"{' '.join(there)} without {' '.join(missing)}: left out")
        return None
    dtype = None if names[0] == "r" else np.float64
    with np.errstate(invalid="ignore"):  # a damaged file's signalling NaNs
        return np.stack([columns[name] for name in names], axis=1, dtype=dtype, casting="unsafe")


# ------------------------------------------------------------------------------------------ values


def split_columns(table: np.ndarray) -> Geometry:
    """The cloud of a table (n, columns) without names.

    x, y and z come first. Of the rest the first three columns of length 1 (within 1 %) are normals,
    the first three of integers from 0 to 255, or of numbers from 0 to 1, colours, and the first
    single one is the intensity.
    """
    if table.ndim != 2 or table.shape[1] < 3:
        raise UserError(f"needs rows of x y z, found an array of shape {table.shape}")
    if table.shape[1] > MOST_COLUMNS:
        raise UserError(f"{table.shape[1]} columns without a header that names x, y and z: which "
                        "are they?")
    if table.shape[1] == 3:  # no copy
        return Geometry(table)
    return geometry_of({name: table[:, i] for i, name in enumerate(guessed_names(table))})


def guessed_names(table: np.ndarray) -> list:
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
        lengths = np.linalg.norm(table, axis=1)
        known = np.isfinite(lengths)  # points without an echo have none
        return bool(table.shape[1] == 3 and known.any()
                    and np.allclose(lengths[known], 1, atol=0.01))


def _is_color(table: np.ndarray) -> bool:
    if table.shape[1] != 3:
        return False
    table = table[~np.isnan(table).any(axis=1)]
    with np.errstate(invalid="ignore"):
        inside = len(table) > 0 and 0 <= table.min() and 0 < table.max() <= 255
        return bool(inside and (table.max() <= 1 or (table == np.round(table)).all()))


def unit_colors(colors: np.ndarray, top: float | None = None) -> np.ndarray | None:
    """Colours (N, 3) of any numeric type as float32 from 0 to 1; None, with a warning, where they
    are no colours.

    top: the brightest value; None: 1, 255 or 65535, the first that is not exceeded, but no less
    than 255 for integers.
    """
    if colors.dtype.kind not in "biuf":
        streams.warn("its colours are no numbers: left out")
        return None
    if top is None:
        peak = np.nanmax(colors, initial=0)
        top = top_of(peak, colors.dtype.kind in "iu")
    if top is None:
        streams.warn(f"colours up to {peak:g}, more than 16 bits hold: left out")
        return None
    with np.errstate(invalid="ignore"):
        return np.clip(np.asarray(colors, np.float32) / np.float32(top), 0, 1)


def top_of(peak: float, whole: bool) -> int | None:
    """The brightest value that colours can have, whose brightest is `peak`: the first of 1, 255 and
    65535 that is not exceeded, but no less than 255 for integers (whole); None: no colours."""
    return next((top for top in ((255, 65535) if whole else (1, 255, 65535)) if peak <= top), None)
