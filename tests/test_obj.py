"""Obj files."""

from helper import UserError
from igr.formats import files, obj

import numpy as np
import pytest


@pytest.mark.parametrize("block", [1, 30, 60, 1 << 22])
def test_obj_in_blocks(tmp_path, monkeypatch, block):
    """Lines of all kinds mean the same wherever a block ends."""
    monkeypatch.setattr(obj, "BLOCK", block)
    path = tmp_path / "a.obj"
    path.write_bytes(b"\xef\xbb\xbf# a\r\nv 0 0 0\r\nv 1 0 0 1\r\n v 1 1 0\rv\t0 1 0\r\nvn 0 0 1\n"
                     b"f 1//1 2//1 3//1\nf -4 -2 -1\nv 0 0 1\nvt 0 0\nf 1/1 2/1/1 3 4 5\nf 2 3 5\n")
    mesh = files.read(path)
    assert mesh.points.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert sorted(mesh.faces.tolist()) == [[0, 1, 2], [0, 1, 2], [0, 2, 3], [0, 2, 3], [0, 3, 4],
                                           [1, 2, 4]]
    path.write_text("v 0 0 0 1 0 0\nv 1 0 0 0 1 0\nv 1 1 0 0 0 1\nf 1 2 3\n")
    np.testing.assert_array_equal(files.read(path).colors, np.eye(3))


@pytest.mark.parametrize("line", ["v", "v 1 2", "v 1 2 x", "f 1 2", "f 1 0 2", "f 1 2 1.5",
                                  "f 1 2 x"])
def test_bad_lines_of_obj(tmp_path, line):
    path = tmp_path / "a.obj"
    path.write_text(f"v 0 0 0\nv 1 0 0\nv 1 1 0\nf 1 2 3\n{line}\n")
    with pytest.raises(UserError, match=f"a.obj: the obj file has a bad line: '{line}'"):
        files.read(path)


def test_obj_with_textures_groups_and_negative_indices(tmp_path):
    path = tmp_path / "a.obj"
    path.write_bytes(b"\xef\xbb\xbfmtllib a.mtl\r\nv 0 0 0\r\nv 1 0 0\r\nv 1 1 0\r\nv 0 1 0\r\n"
                     b"vt 0 0\r\nvt 1 1\r\nusemtl one\r\nf 1/1 2/2 3/1 4/1\r\nusemtl two\r\n"
                     b"v 0 0 1\r\nf -1//1 1//1 2//1\r\n")
    mesh = files.read(path)
    assert mesh.faces.tolist() == [[4, 0, 1], [0, 1, 2], [0, 2, 3]] and len(mesh.points) == 5


@pytest.mark.parametrize("block", [1, 30, 1 << 22])
def test_continued_lines(tmp_path, monkeypatch, block):
    monkeypatch.setattr(obj, "BLOCK", block)
    path = tmp_path / "a.obj"
    path.write_bytes(b"v 0 0 \\\n 0\nv 1 0 0\r\nv 1 1 0\nv 0 \\ \r\n 1 0\nf 1 2\\\n 3 4\n")
    mesh = files.read(path)
    assert mesh.points.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3]]


def test_normals_of_points(tmp_path, caplog):
    path = tmp_path / "a.obj"
    path.write_text("v 0 0 0\nvn 0 0 1\nv 1 0 0\nvn 0 1 0\n")
    assert files.read(path).normals.tolist() == [[0, 0, 1], [0, 1, 0]]
    path.write_text("v 0 0 0\nvn 0 0 1\nv 1 0 0\n")
    assert files.read(path).normals is None and "1 normals of 2 points: left out" in caplog.text


@pytest.mark.parametrize("face, kept", [("f 1//1 2//2 3//3", True), ("f 1/9/1 2/9/2 3/9/3", True),
                                        ("f 1//2 2//1 3//3", False), ("f 1 2 3", True)])
def test_normals_of_a_meshs_vertices_have_their_numbers(tmp_path, face, kept):
    path = tmp_path / "a.obj"
    path.write_text("v 0 0 0\nv 1 0 0\nv 1 1 0\nvn 0 0 1\nvn 0 1 0\nvn 1 0 0\n" + face)
    normals = files.read(path).normals
    assert (normals is not None) == kept
    assert not kept or normals.tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 0]]


def test_colours_of_some_vertices_are_left_out(tmp_path, caplog):
    path = tmp_path / "a.obj"
    path.write_text("v 0 0 0 1 0 0\nv 1 0 0\nv 1 1 0 0 0 1\n")
    cloud = files.read(path)
    assert len(cloud.points) == 3 and cloud.colors is None
    assert "only 2 of 3 points have a colour" in caplog.text
    path.write_text("v 0 0 0 1 0 0 1\nv 1 0 0 0 1 0 1\n")  # with opacity
    assert files.read(path).colors.tolist() == [[1, 0, 0], [0, 1, 0]]


def test_decimal_commas_are_named(tmp_path):
    (tmp_path / "a.obj").write_text("v 1,5 2,5 3,5\n")
    with pytest.raises(UserError, match=r"bad line: 'v 1,5 2,5 3,5' .'1,5' is none; write decimal"):
        files.read(tmp_path / "a.obj")
