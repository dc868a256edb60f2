"""LAS, LAZ and E57: files that their own libraries write, and broken ones."""

import io
import sys
import time

import datasets
from helper import UserError
from igr.formats import files, laser
from igr.pointcloud import alignment

import laspy
import numpy as np
import pye57
import pytest

N = 500


@pytest.fixture
def points(rng):
    return rng.uniform(-1, 1, (N, 3)) * [30, 20, 5] + [4.5e5, 5.2e6, 300]  # as UTM


def las(path, points, colors=None, intensity=None, version="1.4", scale=0.001):
    header = laspy.LasHeader(version=version, point_format=3 if version == "1.2" else 7)
    header.offsets = np.floor(points.min(axis=0))
    header.scales = np.full(3, scale)
    made = laspy.LasData(header)
    made.x, made.y, made.z = points.T
    if colors is not None:
        made.red, made.green, made.blue = colors.T
    if intensity is not None:
        made.intensity = intensity
    made.write(path)
    return path


@pytest.mark.parametrize("suffix", [".las", ".laz"])
@pytest.mark.parametrize("version", ["1.2", "1.4"])
@pytest.mark.parametrize("top", [255, 65535])
def test_las_and_laz(tmp_path, points, rng, suffix, version, top):
    colors = rng.integers(0, top + 1, (N, 3)).astype(np.uint16)
    colors[0] = top
    path = las(str(tmp_path / f"a{suffix}"), points, colors, np.arange(N), version)
    cloud = files.read(path)
    np.testing.assert_allclose(cloud.points, points, atol=0.00051)
    np.testing.assert_allclose(cloud.colors, colors / top, atol=1e-6)
    assert cloud.intensity.tolist() == [*range(N)]


def test_las_in_blocks_and_without_colours(tmp_path, points, monkeypatch):
    monkeypatch.setattr(laser, "BLOCK", 70)
    cloud = files.read(las(str(tmp_path / "a.laz"), points))
    np.testing.assert_allclose(cloud.points, points, atol=0.00051)
    assert cloud.colors is None and cloud.intensity is None


def e57(path, parts):
    """parts: (points in the scanner's frame, colors or None, rotation, translation) a scan."""
    with pye57.E57(str(path), mode="w") as file:
        for points, colors, rotation, translation in parts:
            data = {f"cartesian{axis}": points[:, i].copy() for i, axis in enumerate("XYZ")}
            data["intensity"] = np.linspace(0, 1, len(points))
            if colors is not None:
                data.update({f"color{name}": colors[:, i].copy()
                             for i, name in enumerate(("Red", "Green", "Blue"))})
            file.write_scan_raw(data, rotation=np.array(rotation),
                                translation=np.array(translation))
    return path


def test_scans_of_e57_are_joined_in_one_frame(tmp_path, rng):
    one, two = rng.uniform(-1, 1, (2, N, 3))
    colors = rng.integers(0, 256, (N, 3)).astype(np.uint8)
    half = np.sqrt(0.5)  # a quarter turn about z: x to y
    path = e57(tmp_path / "a.e57", [(one, colors, [1.0, 0, 0, 0], [0.0, 0, 0]),
                                    (two, colors, [half, 0, 0, half], [10.0, 20, 30])])
    cloud = files.read(path)
    turned = np.stack([-two[:, 1], two[:, 0], two[:, 2]], axis=1) + np.array([10, 20, 30])
    np.testing.assert_allclose(cloud.points, np.concatenate([one, turned]), atol=1e-6)
    np.testing.assert_allclose(cloud.colors, np.tile(colors / 255, (2, 1)), atol=1e-6)
    assert np.unique(cloud.origins, axis=0).tolist() == [[0, 0, 0], [10, 20, 30]]
    assert cloud.origins[-1].tolist() == [10, 20, 30]
    assert cloud.intensity[N - 1] == 1


def test_normals_look_to_where_the_scanner_stood(tmp_path, rng):
    """Two caps of a sphere, each seen from its own side; the merged cloud's normals are outwards,
    and so are those of one scan that a matrix beside it moves."""
    ball = rng.standard_normal((2000, 3))
    ball /= np.linalg.norm(ball, axis=1, keepdims=True)
    parts = []
    for side in (-1, 1):
        stand = np.array([0, 5.0 * side, 0])
        parts.append((ball[side * ball[:, 1] > 0.3] - stand, None, [1.0, 0, 0, 0], stand))
    path = e57(tmp_path / "a.e57", parts)
    cloud, lines = alignment.merge([path], "z")
    assert lines[0].startswith("1 scans") and np.ptp(cloud.points[:, 1]) > 1.9
    assert ((cloud.normals * cloud.points).sum(axis=1) > 0.9).all()
    np.savetxt(tmp_path / "a.xf", [[2, 0, 0, 7], [0, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]])
    moved, _ = alignment.merge([path], "z")
    assert np.unique(moved.origins, axis=0).tolist() == [[7, -10, 0], [7, 10, 0]]
    assert ((moved.normals * (moved.points - [7, 0, 0])).sum(axis=1) > 0.9 * 2).all()


def test_where_the_scanner_stood_tells_the_sides(tmp_path, rng, script):
    """Of a plate that two scans see, each its own face: of the file, and of the cleaned one."""
    parts = []
    for side in (-1, 1):
        stand = np.array([0, 0, 5.0 * side])
        face = np.column_stack([rng.uniform(-1, 1, (4000, 2)), np.full(4000, 0.06 * side)])
        parts.append((face - stand, None, [1.0, 0, 0, 0], stand))
    path = e57(tmp_path / "a.e57", parts)
    script("datasets.py clean -f a.e57 -o clean.ply")
    for cloud in (path, tmp_path / "clean.ply"):
        given = datasets.load_cloud(cloud, 10, 0, False, 0)
        assert given.normals is None  # of the training: the file has none, or they are not wanted
        side = np.sign(given.points[:, 2:])
        assert ((given.measured.given * side)[:, 2] > 0.9).mean() > 0.98


def test_colours_of_some_scans_only_are_left_out(tmp_path, rng):
    points = rng.uniform(-1, 1, (9, 3))
    colors = np.full((9, 3), 99, np.uint8)
    path = e57(tmp_path / "a.e57", [(points, colors, [1.0, 0, 0, 0], [0.0, 0, 0]),
                                    (points, None, [1.0, 0, 0, 0], [0.0, 0, 0])])
    assert files.read(path).colors is None


def test_an_e57_file_without_points(tmp_path):
    with pye57.E57(str(tmp_path / "a.e57"), mode="w"):
        pass
    with pytest.raises(UserError, match="holds no points"):
        files.read(tmp_path / "a.e57")


def test_a_scale_of_zero_is_refused(tmp_path, points):
    path = tmp_path / "a.las"
    las(str(path), points)
    data = bytearray(path.read_bytes())
    data[131:139] = bytes(8)  # the header's scale of x
    path.write_bytes(data)
    with pytest.raises(UserError, match="scale is 0 "):
        files.read(path)


def layered_laz(points) -> bytearray:
    """A laz file whose chunks are in layers, as lazrs writes point formats from 6 on."""
    header = laspy.LasHeader(version="1.4", point_format=7)
    made = laspy.LasData(header)
    made.x, made.y, made.z = points.T
    buffer = io.BytesIO()
    made.write(buffer, do_compress=True)
    return bytearray(buffer.getvalue())


def test_layers_longer_than_the_file_are_refused_at_once(points):
    """The first layer of a chunk says 4 GB: lazrs would take the memory."""
    data = layered_laz(points)
    assert len(laser.read_las(bytes(data)).points) == len(points)
    start = int.from_bytes(data[96:100], "little") + 8 + laspy.PointFormat(7).size + 4
    data[start : start + 4] = b"\xff" * 4
    with pytest.raises(UserError, match="chunks are damaged"):
        laser.read_las(bytes(data))


def test_a_table_of_chunks_far_beyond_the_file_is_refused_at_once(points):
    """The search for it went from chunk to chunk for ever."""
    data = layered_laz(points)
    start = int.from_bytes(data[96:100], "little")
    data[start : start + 8] = (1 << 62).to_bytes(8, "little")
    begin = time.perf_counter()
    with pytest.raises(UserError, match=r"not a readable las or laz file|damaged"):
        laser.read_las(bytes(data))
    assert time.perf_counter() - begin < 5


@pytest.mark.parametrize("suffix, place", [(".las", 100), (".laz", 100), (".laz", None)])
def test_absurd_counts_are_refused_at_once(tmp_path, points, suffix, place):
    """4 billion records, or chunks in a laz file's table: for these lazrs ends the process."""
    path = tmp_path / f"a{suffix}"
    las(str(path), points)
    data = bytearray(path.read_bytes())
    if place is None:
        start = int.from_bytes(data[96:100], "little")  # of the points
        place = int.from_bytes(data[start : start + 8], "little") + 4
    data[place : place + 4] = b"\xff" * 4
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"promised|damaged"):
        files.read(path)


@pytest.mark.parametrize("suffix", [".las", ".laz", ".e57"])
@pytest.mark.parametrize("keep", [0.02, 0.5, 0.95])
def test_scans_that_are_cut_short_are_refused(tmp_path, points, suffix, keep):
    path = tmp_path / f"a{suffix}"
    if suffix == ".e57":
        e57(path, [(points, None, [1.0, 0, 0, 0], [0.0, 0, 0])])
    else:
        las(str(path), points)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(UserError) as error:
        files.read(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)


@pytest.mark.parametrize("suffix, module", [
    (".las", "laspy"), (".laz", "lazrs"), (".e57", "pye57")])
def test_a_missing_library_is_named(tmp_path, points, monkeypatch, suffix, module):
    path = tmp_path / f"a{suffix}"
    if suffix == ".e57":
        e57(path, [(points, None, [1.0, 0, 0, 0], [0.0, 0, 0])])
    else:
        las(str(path), points)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=f"needs {module}: pip install -r requirements-formats.txt"):
        files.read(path)


@pytest.mark.parametrize("suffix", [".las", ".laz"])
@pytest.mark.parametrize("version", ["1.2", "1.4"])
def test_points_that_the_file_flags_are_left_out(tmp_path, points, caplog, suffix, version):
    header = laspy.LasHeader(version=version, point_format=3 if version == "1.2" else 7)
    header.scales, header.offsets = np.full(3, 0.001), points[0]
    made = laspy.LasData(header)
    made.x, made.y, made.z = points.T
    made.classification = np.where(np.arange(N) < 5, 7, np.where(np.arange(N) < 9, 18, 2))
    made.withheld = np.arange(N) % 100 == 99
    made.intensity = np.arange(N)
    made.write(str(tmp_path / f"a{suffix}"))
    cloud = files.read(tmp_path / f"a{suffix}")
    assert "14 of 500 points are flagged as withheld or noise" in caplog.text
    np.testing.assert_allclose(cloud.points[:3], points[9:12], atol=0.00051)
    assert cloud.intensity[0] == 9 and len(cloud.points) == N - 14
    made.withheld = np.ones(N, bool)
    made.write(str(tmp_path / f"a{suffix}"))
    with pytest.raises(UserError, match="all 500 points are flagged"):
        files.read(tmp_path / f"a{suffix}")


def test_a_laz_file_in_one_piece_is_named(points):
    data = layered_laz(points)
    record = data.find(b"laszip encoded") - 2 + laser.RECORD
    data[record : record + 2] = laser.WHOLE
    with pytest.raises(UserError, match="compressed in one piece"):
        laser.read_las(bytes(data))


def test_points_in_the_scanner_had_no_echo(tmp_path, rng, caplog):
    points = rng.uniform(-1, 1, (N, 3))
    points[::5] = 0
    path = e57(tmp_path / "a.e57", [(points, None, [1.0, 0, 0, 0], [4e5, 5e6, 0.0])])
    cloud = files.read(path)
    assert len(cloud.points) == 400 and np.ptp(cloud.points, axis=0).max() < 2
    assert "100 of 500 points lie in the scanner itself" in caplog.text


def ptx(shift: float, rows: list) -> str:
    pose = f"0 0 0\n1 0 0\n0 1 0\n0 0 1\n0 1 0 0\n-1 0 0 0\n0 0 1 0\n{shift} 0 0 1\n"
    return f"{len(rows)}\n1\n{pose}" + "".join(f"{row}\n" for row in rows)


def test_ptx_scans_are_placed_by_their_matrices(tmp_path):
    """A quarter turn, x to y, and a shift."""
    path = tmp_path / "a.ptx"
    path.write_text(ptx(0, ["1 0 0 0.5", "0 0 0 0.5"]) + "\n" + ptx(10, ["0 2 0 0.25"]))
    cloud = files.read(path)
    assert cloud.points.tolist() == [[0, 1, 0], [8, 0, 0]]
    assert cloud.intensity.tolist() == [0.5, 0.25] and cloud.colors is None
    assert cloud.origins.tolist() == [[0, 0, 0], [10, 0, 0]]
    path.write_text(ptx(0, ["1 0 0 0.5 255 0 51"]))
    assert files.read(path).colors.tolist() == [[1, 0, np.float32(0.2)]]


@pytest.mark.parametrize("text, message", [
    ("1 2 3\n", "cut short: 10 rows of 'ptx header'"),
    (ptx(0, ["1 0 0 0.5"]).replace("0 0 0\n", "0 0\n", 1), "not a ptx file: a scan begins with"),
    (ptx(0, ["1 0 0 0.5"]).replace("0 0 1\n", "0 0 2\n").replace("0 1 0 0", "0 1 0 1"), "matrix"),
    (ptx(0, ["0 0 0 0.5"]), "holds no points"),
    (ptx(0, ["1 0 0 0.5"]).replace("1\n1\n", "9\n1\n", 1), "cut short: 9 rows of 'point'"),
    (ptx(0, ["1 0 0 0.5"]).replace("1\n1\n", "99999999\n1\n", 1), "does not hold so many"),
    (ptx(0, ["1 0 0 0.5", "1 0 0"]), "row 2 of 'point' has 3 numbers")])
def test_ptx_files_that_are_none(tmp_path, text, message):
    (tmp_path / "a.ptx").write_text(text)
    with pytest.raises(UserError, match=message):
        files.read(tmp_path / "a.ptx")
