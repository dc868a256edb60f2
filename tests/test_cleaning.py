"""Cleaning: what goes, what stays as it was, and when the training advises it."""

from dataclasses import replace

import datasets
from helper import UserError
from igr.formats import files
from igr.geometry import shapes
from igr.geometry.frames import Geometry
from igr.pointcloud import checks, cleaning
from igr.pointcloud.cleaning import Limits

import numpy as np
import pytest
from scipy.spatial.distance import cdist

NOTHING = Limits(near=0, outliers=0)


@pytest.fixture
def knot():
    return shapes.sample("knot", 1000)


def test_duplicates_go_and_the_first_one_stays(knot):
    doubled = Geometry(np.concatenate([knot.points, knot.points[:300]]),
                       np.concatenate([knot.normals, -knot.normals[:300]]))
    kept, removed, lines = cleaning.clean(doubled, NOTHING)
    assert np.array_equal(kept.points, knot.points) and np.array_equal(kept.normals, knot.normals)
    assert np.array_equal(removed.normals, -knot.normals[:300])
    assert lines == ["duplicates: 300 of 1300 points removed (23 %)"]


def test_near_duplicates_are_told_by_the_spacing(knot, rng):
    for scale in (1e-3, 1e3):
        beside = scale * (knot.points[:50] + 1e-6 * rng.standard_normal((50, 3)))
        cloud = Geometry(np.concatenate([scale * knot.points, beside]))
        kept, _, lines = cleaning.clean(cloud, Limits(near=0.01, outliers=0))
        assert np.array_equal(kept.points, scale * knot.points)
        assert lines[-1] == "near duplicates: 50 of 1050 points removed (4.8 %)"


def test_strays_go_and_the_surface_stays(knot, rng):
    strays = 50 + rng.uniform(-9, 9, (20, 3))
    kept, removed, _ = cleaning.clean(Geometry(np.concatenate([knot.points, strays])), Limits())
    assert np.array_equal(kept.points, knot.points) and np.array_equal(removed.points, strays)


def test_thin_parts_stay_where_the_density_falls(rng):
    """A wall that is scanned from its foot: the gap between points grows with distance squared."""
    along = np.exp(rng.uniform(0, np.log(60), 30_000))
    wall = np.column_stack([along, along * rng.uniform(0, 0.3, len(along)),
                            np.zeros(len(along))])
    sparse = rng.permutation(len(wall))[:999]
    for points in (wall, wall[sparse]):
        assert cleaning.clean(Geometry(points), Limits(near=0))[1].points.size == 0
    stray = np.array([[2.0, 0.3, 1.0], [40.0, 6.0, 20.0]])
    _, removed, lines = cleaning.clean(Geometry(np.concatenate([wall, stray])), Limits(near=0))
    assert np.array_equal(removed.points, stray) and lines[-1].startswith("outliers: 2 of 30002")


def test_outliers_anywhere_go(rng):
    """1 % of the points, of which those within three gaps of the surface cannot be told."""
    points = shapes.sample("sphere", 20_000).points
    outliers = rng.uniform(-1.5, 1.5, (200, 3))
    far = np.abs(np.linalg.norm(outliers, axis=1) - 1) > 0.2
    kept = cleaning.among_others(np.concatenate([outliers, points]), 3.0, rng)
    assert kept[200:].all() and (~kept[:200][far]).mean() > 0.95


@pytest.mark.parametrize("count", [12, 45])
def test_a_clump_goes_and_a_larger_group_stays(rng, count):
    cloud = shapes.sample("knot", 10_000).points
    clump = [9, 0, 0] + 0.02 * rng.standard_normal((count, 3))
    group = [0, 9, 0] + 0.02 * rng.standard_normal((60, 3))
    kept = cleaning.among_others(np.concatenate([cloud, group, clump]), 3.0, rng)
    assert not kept[-count:].any() and kept[:10_000].all() and kept[10_000:-count].mean() > 0.9


def test_lonely_points_are_counted_by_brute_force(rng):
    cloud = Geometry(rng.uniform(size=(400, 3)))
    others = (cdist(cloud.points, cloud.points) < 0.15).sum(axis=1) - 1
    assert 50 < (others < 4).sum() < 350
    kept, removed, _ = cleaning.clean(cloud, replace(NOTHING, radius=0.15))
    assert np.array_equal(kept.points, cloud.points[others >= 4])
    assert np.array_equal(removed.points, cloud.points[others < 4])


def test_disks_are_apart_and_leave_no_gap(knot):
    kept, _, _ = cleaning.clean(knot, replace(NOTHING, disk=0.3))
    between = cdist(kept.points, kept.points) + np.eye(len(kept.points))
    assert between.min() > 0.3 and cdist(knot.points, kept.points).min(axis=1).max() <= 0.3
    again, _, _ = cleaning.clean(knot, replace(NOTHING, disk=0.3), seed=1)
    assert not np.array_equal(again.points, kept.points)


def test_voxels_keep_the_point_nearest_to_their_mean(knot):
    kept, removed, _ = cleaning.clean(knot, replace(NOTHING, voxel=0.4))
    cells = np.floor((knot.points - knot.points.min(axis=0)) / 0.4)
    expected = []
    for cell in np.unique(cells, axis=0):
        inside = knot.points[(cells == cell).all(axis=1)]
        expected.append(inside[np.linalg.norm(inside - inside.mean(axis=0), axis=1).argmin()])
    assert len(kept.points) + len(removed.points) == 1000
    np.testing.assert_array_equal(np.unique(kept.points, axis=0), np.unique(expected, axis=0))


def test_the_vertices_of_a_mesh_are_its_cloud():
    mesh = Geometry(np.eye(4)[:, :3], np.eye(4)[::-1, :3], np.array([[0, 1, 3]]))
    cloud = cleaning.cloud_of(mesh)
    assert cloud.faces is None and np.array_equal(cloud.points, mesh.points[[0, 1, 3]])
    assert np.array_equal(cloud.normals, mesh.normals[[0, 1, 3]])


def test_the_training_advises_to_clean_once_there_is_much(tmp_path, caplog, rng, knot):
    def warnings(points) -> str:
        caplog.clear()
        files.write(tmp_path / "c.npy", Geometry(points))
        datasets.load_cloud(tmp_path / "c.npy", 10, 0.25, False, 0)
        return caplog.text

    assert warnings(knot.points) == ""
    assert warnings(knot.points[rng.random(1000) < np.where(knot.points[:, 0] > 0, 1, 0.3)]) == ""
    said = warnings(np.concatenate([knot.points, knot.points[:200]]))
    assert "16.7 % of the 1200 points are duplicates" in said and "datasets.py clean" in said
    assert f"datasets.py clean -f {tmp_path / 'c.npy'}" in said
    strays = rng.uniform(-9, 9, (40, 3))
    assert "far from all others" in warnings(np.concatenate([knot.points, strays]))


def test_duplicates_are_counted_in_all_points_and_flat_clouds_seen_in_some(monkeypatch, knot):
    monkeypatch.setattr(checks, "SAMPLE", 100)
    twice = np.concatenate([knot.points, knot.points[:200]]) / 4
    assert checks.doubts(twice) == ["16.7 % of the 1200 points are duplicates, only 1000 are "
                                    "distinct"]
    assert "almost on a plane" in checks.doubts(knot.points * [0.3, 0.3, 1e-5])[0]
    with pytest.raises(UserError, match="on a line"):
        checks.doubts(knot.points * [0.3, 0, 0])


@pytest.mark.parametrize("number", [999, 20_000])
def test_a_ball_full_of_points_shows_no_surface(rng, number):
    ball = rng.standard_normal((number, 3)) / 4
    noisy = shapes.sample("knot", number).points / 4 + 0.02 * rng.standard_normal((number, 3))
    assert [line[:21] for line in checks.doubts(ball)] == ["no surface is seen: t"]
    assert checks.doubts(noisy) == []


def test_clean_by_the_command_line(script, tmp_path, knot, rng):
    far = rng.uniform(20, 60, (9, 3))
    files.write(tmp_path / "scan.xyz", Geometry(np.concatenate([knot.points, far]),
                                                np.concatenate([knot.normals, knot.normals[:9]])))
    said = script("datasets.py clean -f scan.xyz --removed gone.ply").stdout
    assert "outliers: 9 of 1009 points removed (0.89 %)" in said
    assert "1000 of 1009 points are left, 0.89 % were removed" in said
    assert said.endswith("scan_clean.ply\n")
    cloud = files.read(tmp_path / "scan_clean.ply")
    np.testing.assert_allclose(cloud.points, knot.points, atol=1e-5)
    np.testing.assert_allclose(cloud.normals, knot.normals, atol=1e-5)
    np.testing.assert_allclose(files.read(tmp_path / "gone.ply").points, far, atol=1e-5)
