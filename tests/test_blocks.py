"""Clouds read in blocks: the points and colours of files.read, a block at a time."""

from helper import UserError
from igr.formats import blocks, columns, files, laser, lines
from igr.geometry.frames import Geometry

import laspy
import numpy as np
import pye57
import pytest

N = 700


@pytest.fixture
def cloud(rng):
    points = np.round(rng.uniform(-1, 1, (N, 3)) * [30, 20, 5] + [4.5e5, 5.2e6, 300], 3)
    return Geometry(points, colors=np.round(rng.integers(0, 256, (N, 3)) / 255, 8))


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "ROWS", 100)
    monkeypatch.setattr(laser, "BLOCK", 150)
    monkeypatch.setattr(lines, "BLOCK", 5000)


def together(path):
    """Points and colours of all blocks, and how many blocks there are."""
    found = list(blocks.blocks(path))
    assert max(len(block.points) for block in found) <= 150
    points = np.concatenate([block.points for block in found])
    if found[0].colors is None:
        return points, None, len(found)
    raw = np.concatenate([block.colors for block in found])
    top = columns.top_of(float(raw.max()), raw.dtype.kind in "iu")
    return points, columns.unit_colors(raw, top), len(found)


def write_las(path, cloud):
    header = laspy.LasHeader(version="1.4", point_format=7)
    header.offsets, header.scales = np.floor(cloud.points.min(axis=0)), np.full(3, 0.001)
    made = laspy.LasData(header)
    made.x, made.y, made.z = cloud.points.T
    made.red, made.green, made.blue = np.round(255 * cloud.colors).astype(np.uint16).T
    made.withheld = np.arange(N) % 7 == 0
    made.write(str(path))
    return path


def write_e57(path, cloud):
    with pye57.E57(str(path), mode="w") as file:
        for start in (0, N // 2):
            some = slice(start, start + N // 2)
            data = {f"cartesian{axis}": cloud.points[some, i] for i, axis in enumerate("XYZ")}
            data.update({f"color{name}": np.round(255 * cloud.colors[some, i]).astype(np.uint8)
                         for i, name in enumerate(("Red", "Green", "Blue"))})
            file.write_scan_raw(data, rotation=np.array([np.cos(0.3), 0, 0, np.sin(0.3)]),
                                translation=np.array([1.0, 2.0, 3.0]))


def write_npy(path, cloud):
    np.save(path, np.concatenate([cloud.points, np.round(255 * cloud.colors)], axis=1))


def write_table(path, cloud):
    rows = np.concatenate([cloud.points, np.round(255 * cloud.colors)], axis=1)
    np.savetxt(path, rows, fmt="%.3f %.3f %.3f %d %d %d")


@pytest.mark.parametrize(("name", "write"), [
    ("a.las", write_las), ("a.laz", write_las), ("a.e57", write_e57), ("a.ply", files.write),
    ("a.npy", write_npy), ("a.xyz", write_table), ("a.pts", write_table)])
def test_blocks_are_the_file(tmp_path, cloud, name, write):
    path = tmp_path / name
    write(path, cloud)
    whole = files.read(path)
    points, colors, count = together(path)
    np.testing.assert_allclose(points, whole.points, atol=1e-9)
    np.testing.assert_allclose(colors, whole.colors, atol=1e-6)
    assert count >= 4


def test_colours_are_scaled_alike_in_all_blocks(tmp_path, cloud):
    """16 bits whose first blocks are dark: alone, these would be taken for 8 bits."""
    dark = cloud._replace(colors=np.linspace(0, 1, N)[:, None] * np.ones(3))
    header = laspy.LasHeader(version="1.4", point_format=7)
    header.offsets, header.scales = np.floor(cloud.points.min(axis=0)), np.full(3, 0.001)
    made = laspy.LasData(header)
    made.x, made.y, made.z = cloud.points.T
    made.red, made.green, made.blue = np.round(65535 * dark.colors).astype(np.uint16).T
    made.write(str(tmp_path / "a.laz"))
    np.testing.assert_allclose(together(tmp_path / "a.laz")[1], dark.colors, atol=1e-4)


def test_normals_and_scanners_places_come_along(tmp_path, cloud, rng):
    normals = rng.standard_normal((N, 3))
    normals[3] = np.nan
    files.write(tmp_path / "a.ply", cloud._replace(normals=normals))
    write_e57(tmp_path / "a.e57", cloud)
    for name, field in (("a.ply", "normals"), ("a.e57", "origins")):
        whole = getattr(files.read(tmp_path / name), field)
        found = np.concatenate([getattr(block, field)
                                for block in blocks.blocks(tmp_path / name)])
        np.testing.assert_allclose(found, whole, atol=1e-9)
    assert all(block.origins is None and block.normals is None
               for block in blocks.blocks(write_las(tmp_path / "a.laz", cloud)))


def test_other_formats_are_read_whole(tmp_path, cloud):
    files.write(tmp_path / "a.ply", cloud)
    import gzip
    (tmp_path / "b.ply.gz").write_bytes(gzip.compress((tmp_path / "a.ply").read_bytes()))
    np.testing.assert_array_equal(together(tmp_path / "b.ply.gz")[0], cloud.points)


def test_points_without_an_echo_are_left_out(tmp_path, cloud):
    points = np.array(cloud.points)
    points[5:25] = 0
    points[30] = np.nan
    np.save(tmp_path / "a.npy", points)
    assert len(together(tmp_path / "a.npy")[0]) == N - 21


def test_what_cannot_be_read_is_named(tmp_path):
    for name in ("a.laz", "a.e57", "a.ply", "a.xyz"):
        (tmp_path / name).write_bytes(b"no cloud at all\n" * 20)
        with pytest.raises(UserError, match=name):
            list(blocks.blocks(tmp_path / name))
