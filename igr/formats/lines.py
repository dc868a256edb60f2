"""Lines of numbers as text: a line is a row, whatever it holds.

The readers of tables, ply, pcd and off share this. Words are separated by blanks and tabs only.
"""

from __future__ import annotations

from mmap import mmap
import re
from typing import NamedTuple
import warnings

from helper import UserError

import numpy as np

BLOCK = 1 << 22  # bytes that are read at a time, to spare memory
BOM = b"\xef\xbb\xbf"  # UTF-8's byte order mark
WORD = bytes(set(range(256)) - set(b" \t\n\r\v\f"))
# not-a-number as Microsoft's, R's and databases' programs write it
MISSING = re.compile(rb"(?<!\S)[-+]?(?:1\.#\w+|s?nan\(\w*\)|null|none|n/?a|#n/a)(?!\S)", re.I)
FORTRAN = re.compile(rb"(?<=[0-9.])[dD](?=[-+]?[0-9])")  # its exponents: 1.5D+01


class Rows(NamedTuple):
    """Some lines that hold numbers only."""

    values: np.ndarray  # (n,) float64, of all lines
    starts: np.ndarray  # (lines + 1,) where each line's numbers begin in them
    end: int  # of the bytes that the lines take


# ----------------------------------------------------------------------------------------- numbers


def parse_numbers(text: bytes | memoryview | mmap) -> np.ndarray:
    """All numbers (n,) of a text, float64, up to the first word that is no number."""
    return _parsed(text)[0]


def numbers_of(block: bytes, words: int) -> np.ndarray | None:
    """The numbers (words,) of a block of so many words; None where one of them is no number."""
    values, whole = _parsed(block)
    if not whole:
        values, whole = _parsed(FORTRAN.sub(b"e", MISSING.sub(b"nan", block)))
    return values if whole and len(values) == words else None


def _parsed(text: bytes | memoryview | mmap) -> tuple[np.ndarray, bool]:
    """The numbers up to the first word that is none, and whether there is no such word."""
    parts = [np.empty(0)]
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
                parts.append(np.fromstring(block, np.float64, sep=" "))
    return np.concatenate(parts), not stopped


# ------------------------------------------------------------------------------------------- lines


def count_words(block: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Of each line that is not blank: the number of words, and where it ends."""
    characters = np.frombuffer(block, np.uint8)
    inside = (characters != ord(" ")) & (characters - np.uint8(ord("\t")) > ord("\r") - ord("\t"))
    begins = np.flatnonzero(inside[1:] & ~inside[:-1]) + 1  # but for the first
    ends = np.append(np.flatnonzero(characters == ord("\n")), len(block))
    words = np.diff(np.searchsorted(begins, ends), prepend=0)
    words[0] += len(block) > 0 and inside[0]
    return words[words > 0], ends[words > 0]


def with_newlines(text: memoryview) -> memoryview:
    """A text without a byte order mark, and with newlines where it has old Mac's \\r only."""
    text = text[3:] if text[:3] == BOM else text
    start = bytes(text[:4096])
    if b"\r" in start and b"\n" not in start:
        return memoryview(bytes(text).replace(b"\r", b"\n"))
    return text


def take_rows(text: bytes | memoryview | mmap, start: int, count: int, what: str) -> Rows:
    """The numbers of the next `count` lines of a text that are not blank.

    what: a row's name. Raises UserError where there are fewer, or names the line that holds
    anything else.
    """
    values, lengths = [np.empty(0)], [np.zeros(1, np.int64)]
    missing = count
    while missing:
        block = _whole_lines(text, start)
        if not block:
            raise UserError(f"cut short: {count} rows of '{what}' were promised, the data ends "
                            "earlier")
        words, ends = count_words(block)
        words = words[:missing]
        if len(words) == missing:
            block = block[: ends[missing - 1]]
        numbers = numbers_of(block, words.sum())
        if numbers is None:
            raise not_numbers(block, f"row {{}} of '{what}'", count - missing)
        values.append(numbers)
        lengths.append(words)
        missing -= len(words)
        start += len(block)
    return Rows(np.concatenate(values), np.cumsum(np.concatenate(lengths)), start)


def _whole_lines(text: bytes | memoryview | mmap, start: int) -> bytes:
    """About BLOCK bytes from a place on, up to the end of a line."""
    end = start + BLOCK
    block = bytes(text[start:end])
    while end < len(text) and b"\n" not in block[-BLOCK:]:
        block += bytes(text[end : end + BLOCK])
        end += BLOCK
    return block if end >= len(text) else block[: block.rfind(b"\n") + 1]


def not_numbers(block: bytes, row: str, before: int = 0) -> UserError:
    """The error that names the first line with a word that is no number, and the word.

    row: the line's name, with {} for its number; before: lines in front of the block.
    """
    lines = [line for line in block.split(b"\n") if line.strip()]
    number, line = next(((i, line) for i, line in enumerate(lines) if why_not(line)), (0, lines[0]))
    return UserError(f"{row.format(before + number + 1)} is not numbers: '{shown(line)}'"
                     f"{why_not(line)}")


def why_not(line: bytes) -> str:
    """Which word of a line is no number, in brackets; empty where all are numbers."""
    words = line.split(None, 999)[:999]
    word = next((word for word in words if numbers_of(word, 1) is None), None)
    if word is None:
        return ""
    advice = "; write decimal points, and blanks between numbers" if b"," in word else ""
    return f" ('{shown(word)[:20]}' is none{advice})"


def shown(line: bytes | str) -> str:
    """The beginning of a line, for a message of one line."""
    text = line.decode(errors="replace") if isinstance(line, bytes) else line
    return "".join(letter if letter.isprintable() else " " for letter in text.strip()[:60])
