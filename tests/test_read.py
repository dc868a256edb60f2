"""What every file is checked for: points without an echo, shapes of arrays, meshes as clouds."""

import gzip

from helper import UserError
from igr.formats import arrays, files
from igr.geometry import shapes
from igr.geometry.frames import Geometry

import numpy as np
import pytest


@pytest.fixture
def points(rng):
    return rng.uniform(1, 2, (60, 3))


@pytest.mark.parametrize("value, word", [
    (np.nan, "5 of 60 points are NaN or infinite"), (np.inf, "5 of 60 points are NaN or infinite"),
    (3.4028235e38, "5 of 60 points are NaN or infinite")])
def test_points_without_an_echo_are_left_out(tmp_path, points, caplog, value, word):
    bad = points.copy()
    bad[10:15, 1] = value
    np.savez(tmp_path / "a.npz", points=bad, normals=points, intensity=np.arange(60))
    cloud = files.read(tmp_path / "a.npz")
    kept = np.delete(np.arange(60), np.arange(10, 15))
    assert np.array_equal(cloud.points, points[kept])
    assert np.array_equal(cloud.normals, points[kept]) and np.array_equal(cloud.intensity, kept)
    assert f"a.npz: {word}" in caplog.text


@pytest.mark.parametrize("number, left", [(files.ZEROS, 60 - files.ZEROS), (1, 60), (60, 60)])
def test_zeros_again_and_again_are_no_points(tmp_path, points, caplog, number, left):
    points[:number] = 0
    np.save(tmp_path / "a.npy", points)
    assert len(files.read(tmp_path / "a.npy").points) == left
    assert (f"{number} of 60 points are 0 0 0" in caplog.text) == (left < 60)


def test_faces_of_vertices_that_are_none_go_with_them(tmp_path, caplog):
    mesh = shapes.mesh("letter")
    bad = mesh.points.copy()
    bad[0] = np.nan
    np.savez(tmp_path / "a.npz", points=bad, faces=mesh.faces)
    again = files.read(tmp_path / "a.npz")
    using = (mesh.faces == 0).any(axis=1)
    assert np.array_equal(again.points, mesh.points[1:])
    assert np.array_equal(again.points[again.faces], mesh.points[mesh.faces[~using]])
    assert f"1 of {len(bad)} points are NaN or infinite (no echo), {using.sum()} f" in caplog.text
    np.savez(tmp_path / "a.npz", points=bad, faces=mesh.faces[using])
    with pytest.raises(UserError, match="no face is left"):
        files.read(tmp_path / "a.npz")


RECORDS = np.dtype([("X", "<f4"), ("Y", "<f4"), ("Z", "<f4"), ("red", "u1"), ("green", "u1"),
                    ("blue", "u1"), ("name", "U3")])


def records(points) -> np.ndarray:
    made = np.zeros(len(points), RECORDS)
    made["X"], made["Y"], made["Z"] = points.T
    made["red"] = 255
    return made


@pytest.mark.parametrize("change", [
    lambda points: points.reshape(4, 15, 3), lambda points: points[None], lambda points: points.T,
    lambda points: np.asfortranarray(points), lambda points: points.astype(">f4"), records,
    lambda points: records(points).reshape(6, 10)])
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_arrays_of_many_shapes(tmp_path, points, change, suffix):
    points = points.astype(np.float32).astype(np.float64)
    path = tmp_path / f"a.{suffix}"
    np.save(path, change(points)) if suffix == "npy" else np.savez(path, Coords=change(points))
    assert files.read(path).points.tolist() == points.tolist()


def test_records_of_points_and_triangles(tmp_path, points):
    triangles = np.zeros(1, [("v1", "<i4"), ("v2", "<i4"), ("v3", "<i4")])
    triangles["v2"], triangles["v3"] = 1, 2
    np.savez(tmp_path / "a.npz", points=records(points), mesh=triangles)
    shape = files.read(tmp_path / "a.npz")
    assert shape.faces.tolist() == [[0, 1, 2]] and shape.colors.tolist() == [[1, 0, 0]] * 60


@pytest.mark.parametrize("array, message", [
    (np.array(["a", "b"]), "not of numbers"), (np.zeros(3, "V3"), "not of numbers"),
    (np.zeros((2, 2, 2)), "needs rows of x y z"), (np.float64(1), "needs rows of x y z"),
    (np.zeros((100, 100)), "100 columns without a header"),
    (np.zeros(3, [("a", "f4")]), "names no x, y and z, but a"),
    (np.zeros(2, "M8[s]"), "needs rows|not of numbers")])
def test_arrays_that_are_no_points(tmp_path, array, message):
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", array)
    for path in (tmp_path / "a.npy", tmp_path / "a.npz"):
        with pytest.raises(UserError, match=message) as error:
            files.read(path)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("faces", [np.array([["a", "b", "c"]]), np.array([[0, 1, 99]]),
                                   np.array([[0, 1]]), np.array([1e300, 0, 0])])
def test_faces_that_are_none_are_refused(tmp_path, points, faces):
    np.savez(tmp_path / "a.npz", points=points, faces=faces)
    with pytest.raises(UserError):
        files.read(tmp_path / "a.npz")


def test_names_of_arrays_are_tried_in_order():
    assert arrays.NAMES["points"][0] == "points" and arrays.NAMES["points"][-1] == "arr_0"


# --------------------------------------------------------------------------------------------- stl

SOLID = ("solid {0}\nfacet normal 0 0 1\n outer loop\n  vertex 0 0 {0}\n  vertex 1 0 {0}\n"
         "  VERTEX 0 1 {0}\n endloop\nendfacet\nendsolid {0}\n")


def test_all_solids_of_stl(tmp_path):
    (tmp_path / "a.stl").write_text(SOLID.format(0) + SOLID.format(7))
    mesh = files.read(tmp_path / "a.stl")
    assert len(mesh.faces) == 2 and mesh.points[:, 2].tolist() == [0, 7, 0, 7, 0, 7]


@pytest.mark.parametrize("data, message", [
    (SOLID.format(0)[:-12].encode(), "the last solid has no end"),
    (SOLID.format(0)[:60].encode(), "cut short"), (b"solid a\nendsolid a\n", "solids are empty"),
    (SOLID.format(0).replace("1 0 0", "1 x 0").encode(), "bad line: 'vertex 1 x 0'"),
    (bytes(84), "no triangle"), (bytes(80) + b"\2\0\0\0" + bytes(50), "2 triangles were promised"),
    (b"what", "not a stl file")])
def test_stl_files_that_are_none(tmp_path, data, message):
    (tmp_path / "a.stl").write_bytes(data)
    with pytest.raises(UserError, match=message):
        files.read(tmp_path / "a.stl")


def test_a_binary_stl_that_begins_with_solid(tmp_path):
    path = tmp_path / "a.stl"
    files.write(path, shapes.mesh("letter"))
    path.write_bytes(b"solid made by a program".ljust(80) + path.read_bytes()[80:])
    assert len(files.read(path).faces) == len(shapes.mesh("letter").faces)


# ------------------------------------------------------------------------ formats, meshes as clouds


@pytest.mark.parametrize("name, data, message", [
    ("a.ply", b"<!DOCTYPE html><html>", "a web page"), ("a.las", b"<HTML>\n", "a web page"),
    ("a.stl", b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
    ("a.xyz", b"PK\3\4 what", "a zip archive"), ("a.bin", b"1234", "raw numbers without a header"),
    ("a.dat", b"1 2 3\n", "may be renamed to .xyz")])
def test_files_that_are_something_else(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=message):
        files.read(tmp_path / name)


@pytest.mark.parametrize("suffix, columns", [
    (".txt", ""), (".csv", ""), (".asc", ""), (".xyzn", "0 0 1"), (".xyzrgb", "0.5 0 1")])
def test_tables_by_other_names(tmp_path, suffix, columns):
    path = tmp_path / f"a{suffix}"
    path.write_text(f"1 2 3 {columns}\n4 5 6 {columns}\n")
    cloud = files.read(path)
    assert cloud.points.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert (cloud.normals is not None) == (suffix == ".xyzn")
    assert (cloud.colors is not None) == (suffix == ".xyzrgb")


def test_a_zipped_file_under_a_plain_name(tmp_path):
    (tmp_path / "a.xyz").write_bytes(gzip.compress(b"1 2 3\n4 5 6\n"))
    assert len(files.read(tmp_path / "a.xyz").points) == 2


def test_a_mesh_as_a_cloud(tmp_path, caplog, rng):
    """Fine meshes give their vertices, coarse ones points on them; both are said to be meshes."""
    ball = shapes.mesh("sphere")
    assert len(ball.points) > files.FEW
    more = np.concatenate([ball.points, [[9] * 3]])  # a vertex that no face uses
    files.write(tmp_path / "ball.ply", ball._replace(points=more))
    cloud = files.read_cloud(tmp_path / "ball.ply")
    assert len(cloud.points) == len(ball.points) and cloud.faces is None
    assert f"ball.ply: is a mesh, of which only the {len(ball.points)} vertices" in caplog.text
    letter = shapes.mesh("letter")
    files.write(tmp_path / "letter.ply", letter)
    sampled = files.read_cloud(tmp_path / "letter.ply")
    assert len(sampled.points) == files.SAMPLES and sampled.normals is not None
    assert np.array_equal(sampled.points, files.read_cloud(tmp_path / "letter.ply").points)
    assert f"is a mesh of {len(letter.points)} vertices, too few" in caplog.text
    caplog.clear()
    files.write(tmp_path / "cloud.ply", shapes.sample("knot", 100))
    assert len(files.read_cloud(tmp_path / "cloud.ply").points) == 100 and caplog.text == ""


# ------------------------------------------------------------------------------------------- digits


@pytest.mark.parametrize("away", [0, 1e7])
def test_one_far_point_rounds_no_other(tmp_path, away):
    """UTM coordinates of a surface of 100 m, with and without a point in the middle of nowhere."""
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 100, (500, 3)) + np.array([4.5e5, 5.2e6, 300])
    points[0] += away
    files.write(tmp_path / "a.ply", Geometry(points))
    assert np.abs(files.read(tmp_path / "a.ply").points - points).max() < 1e-6


def test_surveys_keep_their_millimetres(tmp_path, rng):
    points = rng.uniform(0, 5e4, (500, 3)) + np.array([4.5e5, 5.2e6, 300])
    files.write(tmp_path / "a.ply", Geometry(points))
    assert np.abs(files.read(tmp_path / "a.ply").points - points).max() < 0.001


@pytest.mark.parametrize("suffix", files.SEVEN_DIGITS)
def test_too_few_digits_are_told_at_once(suffix):
    corners = np.linspace([4.5e5, 5.2e6, 0], [4.5e5 + 100, 5.2e6 + 100, 30], 10)
    with pytest.raises(UserError, match=f"a{suffix}: {suffix} keeps seven digits"):
        files.check_digits(f"a{suffix}", corners)
    files.check_digits("a.ply", corners)
    files.check_digits(f"a{suffix}", corners - corners[0])
