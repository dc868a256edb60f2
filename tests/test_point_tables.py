"""Text tables: separators, decimal commas, headers and counts; rows of unequal meaning."""

import io
import time

from helper import UserError
from igr.formats import columns, lines, tables

import numpy as np
import pytest

ROWS = [[0.32, -0.919, -0.23], [1.5, 2.25, -3]]


@pytest.fixture(params=[1, 20, 1 << 22])
def block(request, monkeypatch):
    """Tables are read in blocks of so many bytes and the rest of a line."""
    monkeypatch.setattr(lines, "BLOCK", request.param)


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("written", [
    "0.320 -0.919 -0.230\n1.5 2.25 -3\n",
    "0.320,-0.919,-0.230\n1.5,2.25,-3\n",
    "0.320, -0.919, -0.230\n1.5, 2.25, -3,\n",
    "0.320;-0.919;-0.230\n1.5;2.25;-3;\n",
    "0.320\t-0.919\t-0.230\r\n1.5\t2.25\t-3\r\n",
    "0,320 -0,919 -0,230\n1,5 2,25 -3\n",
    "0,320;-0,919;-0,230\n1,5; 2,25; -3\n",
    "0,320, -0,919, -0,230\n1,5, 2,25, -3\n",
    "2\n0.320 -0.919 -0.230\n1.5 2.25 -3\n",
    "x y z\n0.320 -0.919 -0.230\n1.5 2.25 -3\n",
    '2\n"X";"Y";"Z"\n0,320;-0,919;-0,230\n1,5;2,25;-3\n',
    "id,z,y,x\n1,-0.230,-0.919,0.320\n2,-3,2.25,1.5\n",
    "//X Y Z\n0.320 -0.919 -0.230\n1.5 2.25 -3\n",
    "\ufeff# a\n\n  # x y z\n 0.320 -0.919 -0.230 \n \n# b\n1.5 2.25 -3\n\n",
    "0.320 -0.919 -0.230\r1.5 2.25 -3",
])
def test_what_separates_numbers(written):
    assert tables.read_table(io.BytesIO(written.encode())).points.tolist() == ROWS


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("written, message", [
    ("0,320 -0,919 -0,230\n1.5 2.25 -3\n", "but not all rows agree.*'1.5"),
    ("0 0 0\n1,234,567 2 3\n", "but not all rows agree.*'1,234,567"),
    ("1.5 2 3\n0,320 -0,919 -0,230\n", "but not all rows agree.*'1.5 2 3'"),
    ("1 2 3\n4 5 word\n7 8 9\n", "row 2 is not 3 numbers: '4 5 word'"),
    ("1,2,3\n4,5 6,7 8,9\n", "but not all rows agree.*'1,2,3'"),
    ("0,320,-0,919,-0,230\n", "commas both separate and stand in numbers"),
    ("1,,3,4\n1,2,,4\n", "empty column: '1,,3,4'"),
    ("1;2;;4\n1;2;3;4\n", "empty column: '1;2;;4'"),
    ("0 0 0\n,1,2,3\n", "empty column: ',1,2,3'"),
    ("1 2 3\n4 5\n6 7 8 9\n", "row 2 is not 3 numbers: '4 5'"),
    ("x y z\n", "no points"),
])
def test_rows_of_unequal_meaning_are_refused(written, message):
    with pytest.raises(UserError, match=message):
        tables.read_table(io.BytesIO(written.encode()))


def test_a_header_says_which_columns_are_normals():
    table = "x y z curvature nx ny nz\n1 2 3 9 0 0 5\n4 5 6 9 0 5 0\n"
    cloud = tables.read_table(io.BytesIO(table.encode()))
    assert cloud.points.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert cloud.normals.tolist() == [[0, 0, 5], [0, 5, 0]]


@pytest.mark.parametrize("columns, normals, colors, intensity", [
    ("0 0 1 255 0 0", True, True, False), ("255 0 0 0 0 1", True, True, False),
    ("7 255 0 0", False, True, True), ("255 0 0", False, True, False),
    ("1.0 0.5 0.25", False, True, False),
    ("0.5", False, False, True), ("300 0 0", False, False, True), ("0 0 1 9", True, False, True)])
def test_columns_by_their_values(columns, normals, colors, intensity):
    rows = "\n".join(f"{i} 2 3 {columns}" for i in range(9))
    cloud = tables.read_table(io.BytesIO(rows.encode()))
    assert cloud.points[:, 0].tolist() == [*range(9)]
    assert (cloud.normals is not None) == normals and (cloud.colors is not None) == colors
    assert (cloud.intensity is not None) == intensity
    if normals:
        assert cloud.normals[0].tolist() == [0, 0, 1]
    if colors:
        assert cloud.colors[0, 0] == 1


def test_a_header_says_which_columns_are_colours():
    table = b"Red Green Blue X Y Z Intensity\n255 0 0 1 2 3 9\n0 51 0 4 5 6 8\n"
    cloud = tables.read_table(io.BytesIO(table))
    np.testing.assert_allclose(cloud.colors, [[1, 0, 0], [0, 0.2, 0]], atol=1e-6)
    assert cloud.points.tolist() == [[1, 2, 3], [4, 5, 6]] and cloud.intensity.tolist() == [9, 8]


def test_long_lines_take_no_long_time():
    """Each row is looked at once: a million commas in one line are refused in seconds."""
    start = time.process_time()
    for line in (b"1," * 500_000 + b"\n", b"1, " * 400_000 + b"2,5\n", b"," * 1_000_000):
        with pytest.raises(UserError):
            tables.read_table(io.BytesIO(b"1 2 3\n" + line))
    assert time.process_time() - start < 10


@pytest.mark.usefixtures("block")
def test_numbers_end_at_a_word():
    assert np.array_equal(lines.parse_numbers(b"1 2.5 -3e2 word 4"), [1, 2.5, -300])


def test_many_columns_need_names():
    table = np.random.default_rng(0).random((9, 40))
    with pytest.raises(UserError, match="40 columns without a header"):
        columns.split_columns(table)
    text = " ".join([f"c{i}" for i in range(37)] + ["x", "y", "z"]) + "\n"
    text += "\n".join(" ".join(map(repr, row)) for row in table.tolist())
    assert np.array_equal(tables.read_table(io.BytesIO(text.encode())).points, table[:, 37:])
