"""Tables of points as text: what separates their numbers, and which columns are which.

A row is a line: x y z and whatever follows. Blanks, tabs, commas and semicolons separate; between
digits a comma is a decimal point where the rows have another separator and all agree. Lines in
front of the rows may name the columns, or count the rows; then only the columns that are named x,
y, z, nx, ny, nz, r, g, b or intensity have to hold numbers.
"""

from __future__ import annotations

import codecs
import io
from itertools import islice
import re
from typing import BinaryIO, Iterator, NamedTuple

from helper import UserError
from igr.formats import columns, lines, streams
from igr.geometry.frames import Geometry

import numpy as np

MANY = 100  # rows whose numbers do not count up by chance
PREAMBLE = 100  # lines in front of the rows, at most
# lines that are no rows: comments and what programs write in front of them
# (a semicolon beside a word separates: the first column of such a row is empty)
COMMENT = re.compile(rb"^[ \t]*(?:(?:#|//|%|@|!).*|;+(?:[ \t][^;\n]*)?$)", re.MULTILINE)
BLANK = re.compile(rb"\A(?:[ \t]*(?:\n|\Z))+")  # lines at the start of a block
KEY = re.compile(r"[^:=,;\t]*[:=](?: [^:=,;\t]*)?")  # a line such as: Scanner: X30
MARKER = re.compile(r"^[ \t]*(?:#+|/{2,}|[;%@!]+) *")  # of a comment
LABEL = re.compile(r"^\w[\w ]*:\s+")  # in front of names: Columns: x y z
IDENTIFIER = re.compile(r"[a-z_][\w.:/\[\]()]*")
PROSE = {"the", "a", "is", "of", "by", "and", "my", "this", "with", "for", "in", "from", "file",
         "cloud", "points", "point", "data", "scan", "created", "exported", "written"}
COUNT = re.compile(r"[0-9]{1,15}")
# between two words, or at the end of a line; a comma that is left separates if nothing else does
SEPARATOR = re.compile(rb",[ \t]+|[,;][ \t]*$", re.MULTILINE)
EMPTY = re.compile(rb"[,;][ \t]*[,;]|^[ \t]*[,;]|''|\"\"|\[\]|\(\)", re.MULTILINE)  # a column
LEADING_ZERO = re.compile(rb"(?:^|[\s,])(?:-0|[+-]?0[0-9]+)(?=[\s,]|$)", re.MULTILINE)
NOT_DECIMAL = re.compile(rb"\.|,[^\s,]*,|(?<!\S),|,(?!\S)")
COMMA_BLANK = re.compile(rb",[ \t]+(?=[^\s])")
QUOTED = re.compile(rb'"[^"\n]*"')
MARKS = b"\"'[](){}"  # around numbers; they mean nothing
DECIMAL = bytes.maketrans(b",;" + MARKS, b". " + b" " * len(MARKS))
BLANKS = bytes.maketrans(b",;" + MARKS, b"  " + b" " * len(MARKS))
ENCODINGS = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
             codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


class _Style(NamedTuple):
    """How the rows of a table are written."""

    lines: int  # at least as many as there are rows
    size: int  # bytes of them
    separators: bool  # are there commas, semicolons, quotes or brackets?
    decimal: bool  # is a comma a decimal point? Else it separates, as a semicolon does
    empty: str | None  # the first line with an empty column
    footer: bytes  # the last line, if it is a word such as EOF


class _Head(NamedTuple):
    """What stands in front of the rows."""

    skipped: int  # lines, without comments
    count: int | None  # of the rows, as such a line promises
    names: list  # lines that may name the columns
    comments: list  # the same that are comments
    first: str  # the first row


class _Columns(NamedTuple):
    """Which columns of the rows are which."""

    number: int
    places: dict  # {x, y, z, ..: place}; empty where no line names them
    separator: str | None  # between the names; None: blanks


# ---------------------------------------------------------------------------------------- the rows
#
# A file is read twice, in blocks of whole lines: its last row may be the one that says whether a
# comma is a decimal point. All is done with bytes, of which numbers have no other than ASCII's.


def read_table(file: BinaryIO, names: str = "") -> Geometry:
    """The points of an open file. names: of the columns where the file does not name them.

    Raises UserError where rows have unequal numbers of columns, commas can be read in two ways, or
    a header names no x, y and z.
    """
    file = _as_utf8(file)
    head, style, layout = _description(file, names)
    table = np.empty((_most_rows(style, layout.number), layout.number))
    rows = 0
    for values in _number_blocks(file, head, style, layout):
        table[rows : rows + len(values)] = values
        rows += len(values)
    return _cloud_of(table[:rows], layout)


def table_blocks(file: BinaryIO, names: str = "") -> Iterator[dict[str, np.ndarray]]:
    """Yield the rows of an open file, many at a time, as columns {name: (n,)}. The first block
    tells what columns without names are. Arguments and errors are read_table()'s."""
    file = _as_utf8(file)
    head, style, layout = _description(file, names)
    places = layout.places
    for values in _number_blocks(file, head, style, layout):
        if len(values) and not places:
            found = columns.guessed_names(_without_numbering(values))
            places = {name: i for i, name in enumerate(found)}
        yield {name: values[:, i] for name, i in places.items()}


def _description(file: BinaryIO, names: str) -> tuple[_Head, _Style, _Columns]:
    """Read what stands in front of a file's rows, how they are written, and what columns are."""
    head = _head(file)
    style = _style(file, head)
    layout = _columns(head, style, names.split())
    if style.empty is not None and not layout.places:
        raise UserError(f"a row has an empty column: '{lines.shown(style.empty)}'")
    return head, style, layout


def _number_blocks(file: BinaryIO, head: _Head, style: _Style,
                   layout: _Columns) -> Iterator[np.ndarray]:
    """Yield the numbers (n, columns) of an open file's rows, block by block."""
    promised = head.count
    rows = 0
    for block in _blocks(file, [], head.skipped):
        block, promised = _without_counts(_without_footer(block, style), promised, rows)
        values = _numbers(block, style, layout, rows)
        rows += len(values)
        yield values
    if promised not in (None, rows):
        streams.warn(f"promises {promised} points, but has {rows}, which are taken; is it whole?")


def _most_rows(style: _Style, number: int) -> int:
    """How many rows of a number of columns there are at most: a column takes two bytes, but for
    those that may be empty."""
    return style.lines if style.empty else min(style.lines, (style.size + 1) // (2 * number))


def _cloud_of(table: np.ndarray, layout: _Columns) -> Geometry:
    if not len(table):
        raise UserError("holds no points")
    if not layout.places:
        return columns.split_columns(_without_numbering(table))
    if layout.number == 3 and list(layout.places.items()) == [("x", 0), ("y", 1), ("z", 2)]:
        return Geometry(table)  # no copy
    return columns.geometry_of({name: table[:, i] for name, i in layout.places.items()})


def _without_numbering(table: np.ndarray) -> np.ndarray:
    """A table without a first line 0 1 2 ... that numbers the columns, as pandas writes it where
    these have no names. Raises UserError where the first column numbers the rows."""
    rows, number = table.shape
    if number >= 3 and rows > MANY and (table[0] == np.arange(number)).all():
        fractions = (table[1:] != np.round(table[1:])).any(axis=1)
        if fractions.mean() > 0.9:
            streams.warn("its first line numbers the columns: left out")
            return table[1:]
    if number > 3 and rows > MANY and (table[:, 0] - table[0, 0] == np.arange(rows)).all():
        raise UserError("the first column numbers the rows: remove it, or name the columns in a "
                        "first line")
    return table


def _as_utf8(file: BinaryIO) -> BinaryIO:
    """The file, or its text where it is UTF-16 or UTF-32, as Windows' programs write them."""
    file.seek(0)
    start = file.read(4)
    encoding = next((name for mark, name in ENCODINGS.items() if start.startswith(mark)), None)
    if encoding is None:
        return file
    try:
        return io.BytesIO((start + file.read()).decode(encoding).encode())
    except UnicodeError:
        raise UserError(f"the text is no {encoding}, as its byte order mark says") from None


def _blocks(file: BinaryIO, comments: list, head: int = 0):
    """Yield the lines of an open file from its start, many in one bytes, but for empty ones at the
    start of a block, comments, and the first `head` of what is left. Comments are added to a list.
    """
    file.seek(0)
    block = file.read(lines.BLOCK) + file.readline()
    block = block[3:] if block.startswith(lines.BOM) else block
    while block:
        if b"\r" in block:
            block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if any(mark in block for mark in (b"#", b"//", b";", b"%", b"@", b"!")):
            comments += COMMENT.findall(block)
            block = COMMENT.sub(b"", block)
        block = BLANK.sub(b"", block)
        while head and block:
            block = BLANK.sub(b"", block.partition(b"\n")[2])
            head -= 1
        if block:
            yield block
        block = file.read(lines.BLOCK) + file.readline()


def _without_footer(block: bytes, style: _Style) -> bytes:
    end = block.rstrip()
    footed = style.footer and end.rpartition(b"\n")[2] == style.footer
    return end[: -len(style.footer)] if footed else block


def _without_counts(block: bytes, promised: int | None, rows: int) -> tuple[bytes, int | None]:
    """A block without lines that count the rows behind them, and how many rows are promised then:
    a pts file may hold several clouds, and the first line of each counts its rows.

    promised: how many are promised in front of the block, None: nothing counts them; rows: how
    many are there.
    """
    if promised is None or not (lines.count_words(block)[0] == 1).any():
        return block, promised
    kept = []
    for line in filter(bytes.strip, block.split(b"\n")):
        counts = rows + len(kept) == promised
        if counts and COUNT.fullmatch(line.strip().decode(errors="replace")):
            promised += int(line)
        else:
            kept.append(line)
    return b"\n".join(kept), promised


def _numbers(block: bytes, style: _Style, layout: _Columns, rows: int) -> np.ndarray:
    """The numbers (n, columns) of a block's n rows. Raises UserError where a line is no row.

    rows: in front of the block.
    """
    plain = _with_blanks_only(block, style)
    words, _ = lines.count_words(plain) if plain else ([], [])
    if not len(words):
        return np.empty((0, layout.number))
    if (style.empty is None and (words == layout.number).all()
            and _separated(block, style, layout)):
        values = lines.numbers_of(plain, len(words) * layout.number)
        if values is not None:
            return values.reshape(len(words), layout.number)
    texts = [line for line in block.split(b"\n") if line.strip()]
    if layout.places:
        return _picked(texts, style, layout, rows)
    for i, line in enumerate(texts, rows + 1):
        found = _with_blanks_only(line, style)
        if len(found.split()) != layout.number or lines.numbers_of(found, layout.number) is None:
            raise UserError(f"data row {i} is not {layout.number} numbers: "
                            f"'{lines.shown(found)}'{lines.why_not(found)}")
        if not _separated(line, style, layout):
            raise UserError(f"data row {i} mixes separators: '{lines.shown(line)}'")
    raise UserError(f"data row {rows + 1} is not {layout.number} numbers")


def _separated(block: bytes, style: _Style, layout: _Columns) -> bool:
    """Has each line as many semicolons, commas that separate, and tabs where these separate the
    names, as there are columns, or one less, or none? Else a number stands in two columns."""
    marks = ["," if not style.decimal else "", ";", "\t" if layout.separator == "\t" else ""]
    for mark in filter(None, marks):
        if mark.encode() not in block:
            continue
        characters = np.frombuffer(block, np.uint8)
        ends = np.append(np.flatnonzero(characters == ord("\n")), len(block))
        places = np.flatnonzero(characters == ord(mark))
        number = np.diff(np.searchsorted(places, ends), prepend=0)
        if not np.isin(number, (0, layout.number - 1, layout.number)).all():
            return False
    return True


def _picked(texts: list, style: _Style, layout: _Columns, rows: int) -> np.ndarray:
    """As _numbers(), of lines that have numbers in the named columns only; nan elsewhere."""
    picked = []
    for i, line in enumerate(texts, rows + 1):
        text = line.decode(errors="replace")
        cells = _cells(text, layout.separator)
        if len(cells) == layout.number + 1 and text.rstrip(" ").endswith(layout.separator or " "):
            cells.pop()  # behind it
        if len(cells) != layout.number:
            raise UserError(f"data row {i} is not {layout.number} columns, as the header is: "
                            f"'{lines.shown(line)}'")
        picked.append(" ".join(cells[place] or "nan" for place in layout.places.values()))
    text = "\n".join(picked)
    text = (text.replace(",", ".") if style.decimal else text).encode()
    values = lines.numbers_of(text, len(picked) * len(layout.places))
    if values is None:
        raise lines.not_numbers(text, "data row {}", rows)
    table = np.full((len(picked), layout.number), np.nan)
    table[:, list(layout.places.values())] = values.reshape(len(picked), -1)
    return table


def _cells(line: str, separator: str | None) -> list:
    """The words of a line between separators (None: blanks), without quotes and brackets."""
    cells = line.split(separator) if separator else line.split()
    return [cell.strip(" \t\r\"'[](){}") for cell in cells]


# ------------------------------------------------------------------------------- in front of them


def _head(file: BinaryIO) -> _Head:
    """What stands in front of the rows. The first row is the first line of three numbers or more,
    or of nothing but numbers. Raises UserError where there is no row."""
    comments, names = [], []
    count = None
    texts = (line for block in _blocks(file, comments) for line in block.split(b"\n"))
    for skipped, line in enumerate(islice(filter(bytes.strip, texts), PREAMBLE)):
        text = line.decode(errors="replace")
        words = line.translate(BLANKS).split()
        numbers = sum(lines.numbers_of(word, 1) is not None for word in words[:99])
        if skipped == 0 and COUNT.fullmatch(text.strip()):
            count = int(text)
        elif numbers >= 3 or (numbers > 1 and numbers == len(words)):
            comments = [line.strip(b" \n").decode(errors="replace") for line in comments[:20]]
            return _Head(skipped, count, names, comments, text)
        else:
            names.append(text)
    if names and not any(columns.plain_name(word) == "x" for word in _cells(names[0], None)):
        raise UserError(f"has no row of numbers, but '{lines.shown(names[0])}'")
    raise UserError("holds no points")


def _columns(head: _Head, style: _Style, names: list) -> _Columns:
    """Which columns are which, by the lines in front of the rows, or names. Raises UserError where
    such a line names no x, y and z: a guess by their places would be another cloud."""
    number = len(_with_blanks_only(head.first.encode(), style).split())
    for i, text in enumerate(head.names, 1):
        found = _named(text, head.first, number)
        if found is not None:
            _refuse(next(filter(_has_number, head.names[i:]), None), "no row of numbers")
            return found  # what else is behind it are units
    unknown = [text for text in head.names if not KEY.fullmatch(text)]
    if unknown and unknown[0].lower().startswith(("ncols", "nrows")):
        raise UserError("an Esri grid of heights, no table of points; write it as rows x y z")
    if unknown:
        raise UserError(f"the line '{lines.shown(unknown[0])}' names no x, y and z for "
                        f"{number} columns; name each column, or remove it")
    for text in head.comments:
        found = _named_by_comment(text, head.first, number)
        if found is not None:
            return found
    return _Columns(number, dict(zip(names, range(number))) if len(names) == number else {}, None)


def _has_number(line: str) -> bool:
    return any(lines.numbers_of(word, 1) is not None
               for word in line.encode().translate(BLANKS).split())


def _named_by_comment(text: str, first: str, number: int) -> _Columns | None:
    """As _named(); a comment may also be prose, which names nothing. Raises UserError where it
    seems to name columns in another way than the rows are read without it."""
    text = LABEL.sub("", MARKER.sub("", text))
    try:
        found = _named(text, first, number) or _named(text.strip(), first, number)
    except UserError:  # a word twice
        found = None
    if found is not None:
        return found
    words = re.split(r"[\s,;]+", columns.without_units(text).lower())
    words = [word.strip("\"'") for word in words if word]
    prose = not all(IDENTIFIER.fullmatch(word) for word in words) or PROSE & set(words)
    separated = any(separator in text for separator in ",;\t")
    ours = [columns.NAMES.get(columns.plain_name(word), columns.plain_name(word)) for word in words]
    if {"x", "y", "z"} <= set(ours) and ours[:3] != ["x", "y", "z"] and not prose:
        raise UserError(f"the comment '{lines.shown(text)}' names {len(words)} columns, the rows "
                        f"have {number}")
    if len(words) == number and not prose and (separated or number > 3):
        raise UserError(f"the comment '{lines.shown(text)}' names no x, y and z for {number} "
                        "columns; name them, or remove it")
    return None


def _named(text: str, first: str, number: int) -> _Columns | None:
    """The columns of rows that a line names, or None where it does not. first: the first row, of
    a number of words; empty columns count only where the line has a separator."""
    for separator in (";", "\t", ",", None):
        if separator and separator not in text:
            continue
        cells = text.split(separator) if separator else columns.without_units(text).split()
        if len(cells) > 1 and not cells[-1].strip() and first[-1:] == separator:
            cells.pop()
        places = columns.places_of(cells)
        between = len(_cells(first, separator)) if separator else number
        if {"x", "y", "z"} <= places.keys() and len(cells) in (number, between):
            return _Columns(len(cells), places, separator)
        if not all(cell.strip() for cell in cells):
            return None
    return None


# ------------------------------------------------------------------------------------- separators


def _style(file: BinaryIO, head: _Head) -> _Style:
    """How the rows behind the head are written. Raises UserError where commas can be read in two
    ways."""
    as_named = any("," in line and line.count(",") == head.first.count(",") for line in head.names)
    number_of_lines = size = 0
    commas = semicolons = marks = dots = inner = beside_blanks = False
    number = other = None  # the first line that cannot be where commas separate; are decimal
    both = empty = None  # with a comma that separates; with an empty column
    last = b""
    for block in _blocks(file, [], head.skipped):
        number_of_lines += block.count(b"\n") + 1
        size += len(block)
        commas |= b"," in block
        semicolons |= b";" in block
        dots |= b"." in block
        marks = marks or any(mark in block for mark in (b'"', b"'", b"[", b"(", b"{"))
        if b'"' in block and b"," in block:
            _refuse(_quoted_comma(block), "a comma in quotes; write decimal points")
        if commas or semicolons or marks:
            empty = empty or _line_with(EMPTY, block)
        if b"," in block or b";" in block:
            both = both or _line_with(COMMA_BLANK, block)
            block = SEPARATOR.sub(b" ", block).replace(b";", b" ")
            inner |= b"," in block
            beside_blanks = beside_blanks or (not as_named and _has_line_of_both(block))
            number = number or (None if dots else _line_with(LEADING_ZERO, block))
        if b"," in block or b"." in block:
            other = other or _line_with(NOT_DECIMAL, block)
        last = block.rstrip().rpartition(b"\n")[2]
    decimal = semicolons or beside_blanks
    if commas and not decimal and not dots:  # as in 0,320,-0,919,-0,230
        _refuse(number, "commas both separate and stand in numbers; write decimal points")
    if semicolons:
        _refuse(both, "commas and semicolons both separate; write one of them")
    if inner and decimal:
        _refuse(other, "some numbers have a decimal comma, but not all rows agree; write decimal "
                "points")
    footer = last if last.isalpha() and lines.numbers_of(last, 1) is None else b""
    return _Style(number_of_lines, size, commas or semicolons or marks, decimal, empty, footer)


def _quoted_comma(block: bytes) -> str | None:
    """The first line with a comma within quotes and another one outside: it would separate."""
    if not any(b"," in cell for cell in QUOTED.findall(block)):
        return None
    for line in block.split(b"\n"):
        if b"," in QUOTED.sub(b"", line) and b"," in b"".join(QUOTED.findall(line)):
            return line.decode(errors="replace")
    return None


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
        raise UserError(f"{why}: '{lines.shown(line)}'")


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
