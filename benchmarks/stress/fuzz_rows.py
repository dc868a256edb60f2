"""Write text files of points in many ways and check that none is read as another cloud.

    python -m benchmarks.stress.fuzz_rows --files 10000

Tables, ascii ply, pcd and off are written with headers of any words, rows with a number more or
less, blank lines, comments and words among the numbers. A file may be refused; where it is read,
its points must be those of a straight reader: a few lines of plain Python that know nothing of
blocks and guesses. Prints a line a format: how many files were read and refused, tracebacks, and
those that were read differently.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
import re
import tempfile

import helper
from helper import UserError
from igr.formats import files

import numpy as np

AXES = {"x": ["x", "X", "X [m]", "Points:0", "easting", "x_coord", '"x"', "scalar_x", "(x)"],
        "y": ["y", "Y", "Y [m]", "Points:1", "Northing", "y(m)", '"y"', "pos_y"],
        "z": ["z", "Z", "Z [m]", "Points:2", "elevation", "Height", '"z"', "z_m"]}
OTHERS = ["", "id", "time", "Time [s]", "label", "intensity", "nx", "Red", "lat", "foo", "class",
          "x2", "dz", "xy", "zone", "n", "u", "1st"]
ODD = ["nan", "abc", "1,5", "-", "1.2.3", "0x1F", "1e5", "+3", "1d2", "''", "1;2", "12-3"]
SEPARATORS = [" ", ",", ";", "\t", ", ", "  "]


# ------------------------------------------------------------------------------------- files


def rows_of(rng: np.random.Generator, columns: int) -> list:
    """Some rows of numbers as words."""
    values = rng.normal(5, 3, (int(rng.integers(1, 12)), columns))
    return [[f"{value:.{rng.integers(0, 5)}f}" for value in row] for row in values]


def spoiled(rows: list, rng: np.random.Generator) -> list:
    """The rows, some with a number more or less, or with a word that may be none."""
    for _ in range(int(rng.integers(0, 3))):
        row = rows[rng.integers(len(rows))]
        kind = rng.integers(4)
        if kind == 0:
            row.insert(int(rng.integers(len(row) + 1)), "7")
        elif kind == 1 and row:
            row.pop(int(rng.integers(len(row))))
        elif kind == 2 and row:
            row[rng.integers(len(row))] = ODD[rng.integers(len(ODD))]
        else:
            row.append("255")
    return rows


def lines_of(rows: list, separator: str, rng: np.random.Generator) -> list:
    lines = [separator.join(row) for row in rows]
    if rng.random() < 0.2:
        lines.insert(int(rng.integers(len(lines) + 1)), "")
    return lines


def header_of(columns: int, rng: np.random.Generator) -> list:
    """Words for the columns, most often with those of x, y and z among them, in any place."""
    words = [OTHERS[rng.integers(len(OTHERS))] for _ in range(columns)]
    if rng.random() < 0.8 and columns >= 3:
        style = int(rng.integers(7))
        for place, axis in zip(rng.permutation(columns)[:3], "xyz"):
            words[place] = AXES[axis][style if rng.random() < 0.8 else rng.integers(7)]
    if rng.random() < 0.1:
        words.insert(int(rng.integers(len(words) + 1)), OTHERS[rng.integers(len(OTHERS))])
    return words


def table(rng: np.random.Generator) -> str:
    columns = int(rng.integers(2, 8))
    separator = SEPARATORS[rng.integers(len(SEPARATORS))]
    lines = lines_of(spoiled(rows_of(rng, columns), rng), separator, rng)
    kind = rng.random()
    if kind < 0.6:
        lines.insert(0, separator.join(header_of(columns, rng)))
    elif kind < 0.7:
        lines.insert(0, "# " + separator.join(header_of(columns, rng)))
    elif kind < 0.8:
        lines.insert(0, str(len(lines) + int(rng.integers(2))))
    if rng.random() < 0.1:
        lines.append("EOF")
    return "\n".join(lines) + "\n"


def ply(rng: np.random.Generator) -> str:
    names = header_of(int(rng.integers(3, 7)), rng)
    rows = rows_of(rng, len(names))
    count = len(rows)
    kinds = [("float", "double")[rng.integers(2)] for _ in names]
    head = ["ply", "format ascii 1.0", f"element vertex {count}",
            *(f"property {kind} {name.replace(' ', '_') or '_'}"
              for kind, name in zip(kinds, names))]
    faces = []
    if rng.random() < 0.4:
        faces = [["3", "0", "0", "0"] for _ in range(int(rng.integers(1, 4)))]
        head += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
    return "\n".join([*head, "end_header", *lines_of(spoiled(rows, rng), " ", rng),
                      *map(" ".join, faces), ""])


def pcd(rng: np.random.Generator) -> str:
    names = [name.replace(" ", "_") or "_" for name in header_of(int(rng.integers(3, 7)), rng)]
    counts = [int(rng.choice([1, 1, 1, 1, 0, 2])) if name not in "xyzXYZ" else 1 for name in names]
    rows = rows_of(rng, max(sum(counts), 1))
    head = ["VERSION 0.7", "FIELDS " + " ".join(names), "SIZE" + " 4" * len(names),
            "TYPE" + " F" * len(names), "COUNT " + " ".join(map(str, counts)),
            f"WIDTH {len(rows)}", "HEIGHT 1", f"POINTS {len(rows)}", "DATA ascii"]
    return "\n".join([*head, *lines_of(spoiled(rows, rng), " ", rng), ""])


def off(rng: np.random.Generator) -> str:
    columns = int(rng.choice([3, 3, 6, 7]))
    rows = rows_of(rng, columns)
    faces = [["3", "0", "0", "0"] for _ in range(int(rng.integers(0, 4)))]
    word = rng.choice(["OFF", "COFF", "NOFF"])
    return "\n".join([f"{word}\n{len(rows)} {len(faces)} 0",
                      *lines_of(spoiled(rows, rng), " ", rng), *map(" ".join, faces), ""])


# -------------------------------------------------------------------------------- a straight reader


def number_of(word: str) -> float:
    """A number as text, nan included. Raises ValueError for other words."""
    word = word.strip("\"'()[]{} ")
    if "_" in word:
        raise ValueError
    if not word:  # an empty cell
        return float("nan")
    return float(word.lower().replace("d", "e") if word[0] in "+-.0123456789" else word)


def places(words: list) -> list | None:
    """Where x, y and z stand in a header; None where that is not clear."""
    found = []
    for axis, known in AXES.items():
        exact = [i for i, word in enumerate(words) if word == axis]
        same = [i for i, word in enumerate(words) if word.strip("\"'").lower() == axis]
        other = [i for i, word in enumerate(words)
                 if word.replace("_[", " [") in known or word.replace(" [", "_[") in known]
        candidates = exact or same or other
        if len(candidates) != 1:
            return None
        found += candidates
    return found


def straight_rows(lines: list, where: list, width: int, exact: bool) -> list | None:
    """The points of lines of words; None where a line has not so many, or exactly so many."""
    points = []
    for words in lines:
        if len(words) < width or (exact and len(words) != width):
            return None
        points.append([number_of(words[i]) for i in where])
    return points


def separator_of(line: str) -> str | None:
    return next((mark for mark in ";\t," if mark in line), None)


def split(line: str, separator: str | None) -> list:
    """The words of a line; a unit in brackets belongs to the word in front of it, and beside
    semicolons a comma is a decimal point."""
    line = line.replace(",", ".") if separator == ";" else line
    line = line if separator else re.sub(r" (?=[\[(])", "_", line)
    return [word.strip() for word in line.split(separator)]


def without_last(words: list, width: int) -> list:
    """Words without an empty one behind a separator at the end of the line."""
    return words[:-1] if len(words) == width + 1 and not words[-1] else words


def straight_table(text: str) -> list | None:
    lines = [line for line in text.split("\n") if line.strip()]
    lines = lines[:-1] if lines[-1:] == ["EOF"] else lines
    comment = lines.pop(0)[1:].strip(" ") if lines and lines[0].startswith("#") else ""
    if lines and lines[0].strip().isdigit():
        lines.pop(0)
    if not lines:
        return None
    for text in filter(None, (comment, comment.strip())):
        separator = separator_of(text)
        words = split(text, separator)
        if places(words) is not None and len(words) == len(split(lines[0], separator)):
            return straight_rows([without_last(split(line, separator), len(words))
                                  for line in lines], places(words), len(words), True)
    separator = separator_of(lines[0])
    words = split(lines[0], separator)
    where, width = [0, 1, 2], len(words)
    numbers = [word for word in words if is_number(word) and word.strip("'")]
    if not all(map(is_number, words)) and len(numbers) < 3:
        where = places(words)
        lines.pop(0)
    if where is None or width < 3:
        return None
    rows = [without_last(split(line, separator), width) for line in lines]
    return straight_rows(rows, where, width, True)


def is_number(word: str) -> bool:
    try:
        number_of(word)
    except ValueError:
        return False
    return True


def straight_ply(text: str) -> list | None:
    head, _, body = text.partition("end_header\n")
    names = [line.split()[2] for line in head.split("\n") if line.startswith("property f") or
             line.startswith("property d")]
    count = int(next(line for line in head.split("\n") if "vertex" in line).split()[2])
    lines = [line.split() for line in body.split("\n") if line.strip()]
    where = places(names)
    return None if where is None else straight_rows(lines[:count], where, len(names), False)


def straight_pcd(text: str) -> list | None:
    head, _, body = text.partition("DATA ascii\n")
    fields = {line.split()[0]: line.split()[1:] for line in head.strip().split("\n")}
    counts = [int(count) for count in fields["COUNT"]]
    kept = [i for i, count in enumerate(counts) if count]
    where = places([fields["FIELDS"][i] for i in kept])
    if where is None:
        return None
    where = [sum(counts[: kept[i]]) for i in where]
    lines = [line.split() for line in body.split("\n") if line.strip()]
    return straight_rows(lines[: int(fields["POINTS"][0])], where, sum(counts), False)


def straight_off(text: str) -> list | None:
    lines = [line.split() for line in text.split("\n") if line.strip()]
    return straight_rows(lines[2 : 2 + int(lines[1][0])], [0, 1, 2], 3, False)


FORMATS = {".xyz": (table, straight_table), ".csv": (table, straight_table),
           ".ply": (ply, straight_ply), ".pcd": (pcd, straight_pcd), ".off": (off, straight_off)}


# -------------------------------------------------------------------------------------- comparison


def expected(suffix: str, text: str) -> np.ndarray | None:
    """The points (N, 3) that the straight reader finds, without those that are none."""
    try:
        points = FORMATS[suffix][1](text)
    except (ValueError, IndexError):
        return None
    if points is None:
        return None
    points = np.array(points, np.float64).reshape(-1, 3)
    return points[np.isfinite(points).all(axis=1)]


def outcome(path: Path, wanted: np.ndarray | None) -> str:
    """"read", "refused" or "different". Other errors than UserError pass."""
    try:
        points = files.read(path).points
    except UserError as error:
        if "\n" in str(error):
            raise RuntimeError("a refusal of several lines") from error
        return "refused"
    same = wanted is not None and points.shape == wanted.shape and np.allclose(points, wanted)
    return "read" if same else "different"


def campaign(suffix: str, count: int, folder: Path, seed: int = 0) -> dict:
    """Read `count` files of a format and count the outcomes; "failures" has the first texts that
    ended in a traceback or were read differently."""
    rng = np.random.default_rng([seed, *suffix.encode()])
    row = {"rows of": suffix, "files": count, "read": 0, "refused": 0, "different": 0,
           "tracebacks": 0, "readable": 0}
    failures = []
    path = folder / f"rows{suffix}"
    for _ in range(count):
        text = FORMATS[suffix][0](rng)
        path.write_text(text)
        wanted = expected(suffix, text)
        row["readable"] += wanted is not None and len(wanted) > 0
        try:
            found = outcome(path, wanted)
        except Exception as error:  # what the campaign looks for
            found = "tracebacks"
            text = f"{error!r}: {text}"
        row[found] += 1
        if found in ("different", "tracebacks"):
            failures.append(text)
    return {**row, "failures": failures[:5]}


def parse_args() -> argparse.Namespace:
    parser = helper.parser(__doc__)
    parser.add_argument("--files", type=int, default=8000, help="files of each format")
    parser.add_argument("--formats", nargs="+", default=list(FORMATS), choices=list(FORMATS),
                        help="suffixes")
    parser.add_argument("--seed", type=int, default=0, help="of the files")
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    helper.log.setLevel("ERROR")  # thousands of warnings
    with tempfile.TemporaryDirectory() as folder:
        for suffix in args.formats:
            found = campaign(suffix, args.files, Path(folder), args.seed)
            failures = found.pop("failures")
            print(json.dumps(found), flush=True)
            for text in failures:
                print("   ", repr(text[:300]))


if __name__ == "__main__":
    main(parse_args())
