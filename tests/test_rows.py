"""Ascii ply, pcd and off: a line is a row, and is taken by the declared columns or refused."""

from helper import UserError
from igr.formats import files, lines

import numpy as np
import pytest

ROWS = ["1 2 3", "4 5 6", "7 8 9"]
POINTS = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


def ply(rows, names="x y z", faces=()) -> str:
    head = ["ply", "format ascii 1.0", f"element vertex {len(ROWS)}",
            *(f"property float {name}" for name in names.split())]
    if faces:
        head += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
    return "\n".join([*head, "end_header", *rows, *faces, ""])


def pcd(rows, names="x y z") -> str:
    number = len(names.split())
    return "\n".join([f"VERSION 0.7\nFIELDS {names}\nSIZE" + " 4" * number, "TYPE" + " F" * number,
                      f"WIDTH {len(ROWS)}\nHEIGHT 1\nDATA ascii", *rows, ""])


def off(rows, names="") -> str:
    return "\n".join([f"OFF\n{len(ROWS)} 0 0", *rows, ""])


FORMATS = {"ply": ply, "pcd": pcd, "off": off}


@pytest.fixture(params=FORMATS)
def read(request, tmp_path, monkeypatch):
    """Write rows in one of the formats and read them, in small blocks."""
    monkeypatch.setattr(lines, "BLOCK", 8)

    def from_file(rows, names="x y z"):
        path = tmp_path / f"a.{request.param}"
        path.write_text(FORMATS[request.param](rows, names))
        return files.read(path)

    return from_file


@pytest.mark.parametrize("rows", [
    ROWS, ["", *ROWS], [ROWS[0], " ", *ROWS[1:], "", ""], ["\t1  2 3 ", *ROWS[1:]],
    ["1 2.0D0 3", *ROWS[1:]]])
def test_rows_are_lines(read, caplog, rows):
    assert read(rows).points.tolist() == POINTS and caplog.text == ""


@pytest.mark.parametrize("rows, number", [
    (["1 2 3 255", *ROWS[1:]], 1), ([f"{row} 7 7" for row in ROWS], 3)])
def test_numbers_behind_the_declared_ones_are_left_out(read, caplog, rows, number):
    assert read(rows).points.tolist() == POINTS
    assert "more numbers" in caplog.text


@pytest.mark.parametrize("rows, message", [
    (["1 2 3 4", "5 6", "7 8 9"], "row 2 .*has only 2 numbers"),
    (["1 2 3", "4 5 6 7 8 9"], "cut short: 3 rows"),
    (["1 2 3", "4 5 word", "7 8 9"], "row 2 .*is not numbers: '4 5 word' .'word' is none"),
    (["1,5 2 3", *ROWS[1:]], "row 1 .*'1,5' is none; write decimal points"),
    (["1 2 3", "4 5 6", "7 8-9"], "row 3 .*'8-9' is none")])
def test_rows_that_are_none_are_named(read, rows, message):
    with pytest.raises(UserError, match=message):
        read(rows)


@pytest.mark.parametrize("kind", ["ply", "pcd"])
def test_a_mark_in_front_of_the_rows(tmp_path, kind):
    (tmp_path / f"a.{kind}").write_text(FORMATS[kind](["\ufeff1 2 3", *ROWS[1:]]))
    assert files.read(tmp_path / f"a.{kind}").points.tolist() == POINTS


@pytest.mark.parametrize("word", ["nan", "-nan(ind)", "1.#QNAN", "NULL", "inf"])
def test_points_without_an_echo_are_left_out(read, caplog, word):
    assert read(["1 2 3", f"4 {word} 6", "7 8 9"]).points.tolist() == [POINTS[0], POINTS[2]]
    assert "1 of 3 points are NaN or infinite (no echo): left out" in caplog.text


@pytest.mark.parametrize("kind", ["ply", "pcd"])
@pytest.mark.parametrize("names", ["Z Y X", "coord_z pos_y x_m", "Points:2 Points:1 Points:0"])
def test_names_of_properties_in_any_letters(tmp_path, kind, names):
    (tmp_path / f"a.{kind}").write_text(FORMATS[kind]([row[::-1] for row in ROWS], names))
    assert files.read(tmp_path / f"a.{kind}").points.tolist() == POINTS


@pytest.mark.parametrize("kind", ["ply", "pcd"])
def test_names_without_x_are_refused(tmp_path, kind):
    (tmp_path / f"a.{kind}").write_text(FORMATS[kind](ROWS, "r g b"))
    with pytest.raises(UserError, match=r"names no x, y and z, but r, g, b: rename"):
        files.read(tmp_path / f"a.{kind}")


@pytest.mark.parametrize("kind", ["ply", "pcd"])
def test_names_that_stand_twice(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    path.write_text(FORMATS[kind]([f"0 {row} 0" for row in ROWS], "t x y z t"))
    assert files.read(path).points.tolist() == POINTS
    path.write_text(FORMATS[kind]([f"0 {row}" for row in ROWS], "x x y z"))
    with pytest.raises(UserError, match="two columns are called x"):
        files.read(path)


def test_belongings_of_ply_by_other_names(tmp_path, caplog):
    names = "diffuse_red diffuse_green diffuse_blue x y z scalar_Intensity Normal_X nx"
    rows = [f"255 0 51 {row} 9 1 1" for row in ROWS]
    (tmp_path / "a.ply").write_text(ply(rows, names))
    cloud = files.read(tmp_path / "a.ply")
    assert cloud.colors.tolist() == [[1, 0, np.float32(0.2)]] * 3
    assert cloud.intensity.tolist() == [9] * 3 and cloud.normals is None
    assert "nx without ny nz: left out" in caplog.text


def test_rows_of_faces(tmp_path):
    path = tmp_path / "a.ply"
    path.write_text(ply(ROWS, faces=["3 0 1 2", "4 0 1 2 0 9"]))
    assert files.read(path).faces.tolist() == [[0, 1, 2], [0, 1, 2], [0, 2, 0]]
    for line, message in (("3 0 1", "row 1 of 'face' has only 3 numbers"),
                          ("9 0 1 2", "list's length 9 promises"), ("-1 0 1 2", "list's length")):
        path.write_text(ply(ROWS, faces=[line]))
        with pytest.raises(UserError, match=message):
            files.read(path)


@pytest.mark.parametrize("newline", ["\r\n", "\r"])
@pytest.mark.parametrize("kind", FORMATS)
def test_line_ends_of_other_systems(tmp_path, kind, newline):
    text = FORMATS[kind](ROWS).replace("\n", newline)
    (tmp_path / f"a.{kind}").write_bytes(text.encode())
    assert files.read(tmp_path / f"a.{kind}").points.tolist() == POINTS


def test_old_macs_line_ends_before_a_byte_that_is_a_newline(tmp_path):
    points = np.array([[2.0, 0, 1]], "<f4").view(np.uint8)
    points[0, 0] = ord("\n")
    head = ply([]).partition("\n1 ")[0].replace("ascii", "binary_little_endian").replace("3", "1")
    (tmp_path / "a.ply").write_bytes(head.strip().replace("\n", "\r").encode() + b"\r"
                                     + points.tobytes())
    assert files.read(tmp_path / "a.ply").points.tolist() == points.view("<f4").tolist()


@pytest.mark.parametrize("encoding", ["ascii", "binary", "binary_compressed"])
def test_fields_of_no_values(tmp_path, encoding):
    """As a lidar's driver pads its records: COUNT 0 takes no place."""
    head = ("VERSION 0.7\nFIELDS x _ y z _\nSIZE 4 2 4 4 1\nTYPE F U F F U\nCOUNT 1 0 1 1 4\n"
            f"WIDTH 2\nHEIGHT 1\nPOINTS 2\nDATA {encoding}\n").encode()
    table = np.zeros(2, [("p", "<f4", 3), ("pad", "u1", 4)])
    table["p"] = POINTS[:2]
    columns = np.array(POINTS[:2], "<f4").T.tobytes() + bytes(8)
    packed = bytes([31]) + columns
    body = {"ascii": b"1 2 3 0 0 0 0\n4 5 6 0 0 0 0\n", "binary": table.tobytes(),
            "binary_compressed": np.array([len(packed), 32], "<u4").tobytes() + packed}
    (tmp_path / "a.pcd").write_bytes(head + body[encoding])
    assert files.read(tmp_path / "a.pcd").points.tolist() == POINTS[:2]


def test_the_height_of_pcd_counts(tmp_path, caplog):
    text = pcd([*ROWS, *ROWS]).replace("HEIGHT 1", "HEIGHT 2")
    (tmp_path / "a.pcd").write_text(text)
    assert len(files.read(tmp_path / "a.pcd").points) == 6
    (tmp_path / "a.pcd").write_text(text.replace("DATA", "POINTS 4\nDATA"))
    assert len(files.read(tmp_path / "a.pcd").points) == 4
    assert "promises 4 points, but WIDTH x HEIGHT are 6" in caplog.text


@pytest.mark.parametrize("word, columns, what", [
    ("COFF", "255 0 0 255", "colors"), ("OFF", "255 0 0", "colors"), ("NOFF", "0 0 1", "normals"),
    ("CNOFF", "0 0 1 9 9 9", "normals colors"), ("STOFF", "0.5 0.5", "")])
def test_what_belongs_to_points_of_off(tmp_path, word, columns, what):
    rows = "\n".join(f"{row} {columns}" for row in ROWS)
    (tmp_path / "a.off").write_text(f"{word} # made by hand\n3 1 0\n{rows}\n3 0 1 2 9 9 9\n")
    shape = files.read(tmp_path / "a.off")
    assert shape.points.tolist() == POINTS and shape.faces.tolist() == [[0, 1, 2]]
    assert [name for name in ("normals", "colors") if getattr(shape, name) is not None] \
        == what.split()


@pytest.mark.parametrize("text, message", [
    ("3 1 0\n", "does not begin with OFF"), ("OFF BINARY\n", "binary"), ("4OFF\n", "other points"),
    ("OFF\nx y z\n", "numbers of points and faces"), ("OFF\n0 0 0\n", "holds no points"),
    ("OFF\n9 0 0\n1 2 3\n", "cut short: 9 rows of 'point'"),
    ("OFF\n999999 0 0\n1 2 3\n", "not hold so many"),
    ("NOFF\n1 0 0\n1 2 3\n", "row 1 of 'point' has only 3 numbers, not 6"),
    ("OFF\n1 1 0\n1 2 3\n3 0 0\n", "row 1 of 'face' has fewer than 3 corners")])
def test_off_files_that_are_none(tmp_path, text, message):
    (tmp_path / "a.off").write_text(text)
    with pytest.raises(UserError, match=message):
        files.read(tmp_path / "a.off")
