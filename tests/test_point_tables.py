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


def points_of(written: str, names: str = "") -> list:
    return tables.read_table(io.BytesIO(written.encode()), names).points.tolist()


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("written", [
    ",x,y,z\n0,1,2,3\n1,4,5,6\n",  # pandas, with its index
    "\tx\ty\tz\n0\t1\t2\t3\n1\t4\t5\t6\n",
    ";x;y;z\n0;1;2;3\n1;4;5;6\n",
    "Time [s],X [m],Y [m],Z [m]\n0.5,1,2,3\n0.6,4,5,6\n",
    "Time [s] X [m] Y [m] Z [m]\n0.5 1 2 3\n0.6 4 5 6\n",
    '"Points:2","Points:0","Points:1"\n3,1,2\n6,4,5\n',  # ParaView
    "Northing Easting Height\n2 1 3\n5 4 6\n",
    "r,g,b,X,Y,Z\n1,1,1,1,2,3\n9,9,9,4,5,6\n",
    "height,x,y,z\n7,1,2,3\n8,4,5,6\n",  # z is called z
    "name,x,y,z\nP 1,1,2,3\nP 2,4,5,6\n",
    "x,y,z,remark\n1,2,3,\n4,5,6,corner\n",  # a column that is empty and none of ours
    "# northing, easting, elevation\n2,1,3\n5,4,6\n",
    "x,y,z\nm,m,m\n1,2,3\n4,5,6\n",
    "@File: 4\n@Type: 3\n#End\n1 2 3\n4 5 6\n",
    "Scanner: X30\nPoints = 2\n1 2 3\n4 5 6\n",
    "[1, 2, 3]\n[4, 5, 6]\n", '"1","2","3"\n"4","5","6"\n', "(1 2 3)\n(4 5 6)\n",
    "1 2 3\n4 5 6\nEOF\n", "1D0 2.0d+00 3\n4 5 60D-01\n",
    "2\n1 2 3\n4 5 6\n", "1\n1 2 3\n1\n4 5 6\n", "9\n1 2 3\n4 5 6\n"])
def test_tables_as_programs_write_them(written):
    assert points_of(written) == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("written, message", [
    ("lat,lon,alt\n1,2,3\n", "'lat,lon,alt' names no x, y and z for 3 columns"),
    ("X Y X\n1 2 3\n", "two columns are called x"),
    ("x y z\n1 2 3 4\n", "'x y z' names no x, y and z for 4 columns"),
    ("x y z i\n1 2 3 4\n1 2 3\n", "row 2 is not 4 columns, as the header is: '1 2 3'"),
    ("x,y,z\n7,8,9\n1,2,word\n", "row 2 is not numbers: '1 2 word' .'word' is none"),
    ("x y z\n1 2 -\n4 5 6\n", "no row of numbers: '1 2 -'"),
    ("x\ty\tz\tw\n1\t2\t3\t4\n1;2\t3\t4\n", "row 2 is not 4 columns"),
    ("1;2;3;4\n1;2 3;4\n", "row 2 mixes separators"),
    ("1, 2; 3\n", "commas and semicolons both separate"),
    ('"1,5","2","3"\n', "a comma in quotes"),
    ("1 '' 2 3\n", "an empty column"),
    ("# time range gain step\n1 2 3 4\n", "names no x, y and z for 4 columns"),
    ("# t x y z\n1 2 3\n4 5 6\n", "names 4 columns, the rows have 3"),
    ("3\n1 2 3\n1\n4 5 6\n", "row 2 is not 3 numbers: '1'"),
    ("x y z\n5\n1 2 3\n", "no row of numbers: '5'"),
    (";a\n1;2;3\n", "';a' names no x, y and z"),
    ("ncols 2\nnrows 2\nxllcorner 0\n1 2\n3 4\n", "an Esri grid"),
    ("this is no table\nat all\n", "no row of numbers, but 'this is no table'")])
def test_headers_and_rows_that_do_not_agree_are_refused(written, message):
    with pytest.raises(UserError, match=message):
        points_of(written)


def test_a_prose_comment_names_no_columns():
    assert points_of("# this is my cloud\n1 2 3 4\n") == [[1, 2, 3]]


def test_empty_cells_are_points_without_an_echo():
    table = tables.read_table(io.BytesIO(b"x,y,z\n1,2,3\n,,\n4,NA,6\n7,8,9\n")).points
    assert np.isnan(table).any(axis=1).tolist() == [False, True, True, False]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_encodings_with_a_mark(encoding):
    text = "x y z\n1 2 3\n4 5 6\n".encode(encoding)
    assert tables.read_table(io.BytesIO(text)).points.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_names_for_files_without_a_header():
    text = io.BytesIO(b"1 2 3 9 0 0\n4 5 6 0 9 0\n")
    assert tables.read_table(text, "x y z nx ny nz").normals.tolist() == [[9, 0, 0], [0, 9, 0]]


def test_numbers_of_rows_and_columns_are_no_coordinates(caplog):
    values = np.random.default_rng(0).random((200, 3)).round(3)
    rows = "".join(f"{x} {y} {z}\n" for x, y, z in values)
    assert points_of("0 1 2\n" + rows) == values.tolist()
    assert "its first line numbers the columns: left out" in caplog.text
    numbered = "".join(f"{i} {row}\n" for i, row in enumerate(rows.splitlines()))
    with pytest.raises(UserError, match="the first column numbers the rows"):
        points_of(numbered)


@pytest.mark.parametrize("name, plain", [
    ("X [m]", "x"), ("Points:0", "points_0"), ("scalar_Intensity", "intensity"), ("pos_x", "x"),
    ("diffuse_red", "red"), ("Normal X", "normal_x"), (' "z"', "z"), ("x_m", "x"), ("max", "max"),
    ("xy", "xy"), ("y(mm)", "y")])
def test_names_without_what_programs_add(name, plain):
    assert columns.plain_name(name) == plain


def test_the_same_word_counts_before_a_synonym():
    assert columns.places_of(["X", "x", "easting", "y", "z"]) == {"x": 1, "y": 3, "z": 4}
