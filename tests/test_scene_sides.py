"""The sides of a scene: by its files' normals, its scanners' places, or its points alone."""

from benchmarks.stress import rooms
from igr.formats import files
from igr.geometry.frames import Geometry
from igr.scene import sides, survey
from igr.scene.plan import NORMALS, NOTHING, SCANNER, Folder

import numpy as np
import pye57
import pytest

SETTINGS = {"clouds": [], "quality": "draft", "train_iter": 5, "dims": 8, "cell_points": 2500,
            "spacing": None, "winding": False, "context": "cpu"}
INNER = 0.7  # radius of the hole in the ball


@pytest.fixture(autouse=True)
def few_by_winding_numbers(monkeypatch):
    monkeypatch.setattr(sides.normals, "ORIENTED", 2000)


def hollow_ball(rng, n=9000):
    """Points (n, 3) of a ball with a hole, and the normals, out of the solid."""
    direction = rng.standard_normal((n, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    inner = np.arange(n) % 3 == 0
    return (direction * np.where(inner, INNER, 1)[:, None],
            direction * np.where(inner, -1, 1)[:, None])


def told(tmp_path, clouds, **settings):
    """The plan of clouds, how the sides were told, and the cells' points with normals."""
    folder = Folder(tmp_path / "scene")
    folder.path.mkdir(exist_ok=True)
    plan = survey.make_plan(clouds, folder, {**SETTINGS, **settings})
    report = sides.tell_sides(folder, plan)
    return plan, report, [sides.oriented(folder, plan, cell) for cell in plan.cells
                          if cell.points > sides.FEWEST]


def share_right(clouds):
    """The share of the hollow ball's points whose normals look out of the solid."""
    points = np.concatenate([cloud.points for cloud in clouds])
    found = np.concatenate([cloud.normals for cloud in clouds])
    outer = np.linalg.norm(points, axis=1) > (1 + INNER) / 2
    return (((found * points).sum(axis=1) > 0) == outer).mean()


@pytest.mark.parametrize("suffix", [".ply", ".npy"])
def test_the_files_normals_tell_the_sides(tmp_path, rng, suffix):
    points, normals = hollow_ball(rng)
    normals[::40] = 0  # unknown: as their neighbours'
    path = tmp_path / f"a{suffix}"
    if suffix == ".ply":
        files.write(path, Geometry(points, normals))
    else:
        np.save(path, np.concatenate([points, np.where(normals.any(axis=1)[:, None], normals,
                                                       np.nan)], axis=1))
    plan, report, cells = told(tmp_path, [path])
    assert plan.given == NORMALS and report == "by the files' normals" and len(cells) >= 8
    assert share_right(cells) > 0.999


def test_normals_that_all_look_inwards_are_turned_round(tmp_path, rng):
    points, normals = hollow_ball(rng)
    files.write(tmp_path / "a.ply", Geometry(points, -normals))
    _, report, cells = told(tmp_path, [tmp_path / "a.ply"])
    assert report == "by the files' normals" and share_right(cells) > 0.999


def test_normals_at_random_are_not_taken(tmp_path, rng):
    points, normals = hollow_ball(rng)
    files.write(tmp_path / "a.ply", Geometry(points, normals * rng.choice([-1, 1], (9000, 1))))
    _, report, cells = told(tmp_path, [tmp_path / "a.ply"])
    assert "files" not in report and share_right(cells) > 0.99


def test_winding_leaves_the_files_normals_out(tmp_path, rng):
    points, normals = hollow_ball(rng)
    files.write(tmp_path / "a.ply", Geometry(points, normals))
    plan, report, _ = told(tmp_path, [tmp_path / "a.ply"], winding=True)
    assert plan.given == NOTHING and "files" not in report


def test_the_scanners_places_tell_the_sides(tmp_path, rng):
    """One in the hole and six outside, each of which sees its own part."""
    points, _ = hollow_ball(rng)
    inner = np.arange(len(points)) % 3 == 0
    largest = np.abs(points).argmax(axis=1)
    front = np.take_along_axis(points, largest[:, None], axis=1)[:, 0] > 0
    scans = [(np.zeros(3), inner)] + [
        (9.0 * sign * np.eye(3)[axis], ~inner & (largest == axis) & (front == (sign > 0)))
        for axis in range(3) for sign in (-1, 1)]
    with pye57.E57(str(tmp_path / "a.e57"), mode="w") as file:
        for stand, seen in scans:
            data = {f"cartesian{axis}": points[seen, i] - stand[i] for i, axis in enumerate("XYZ")}
            file.write_scan_raw(data, rotation=np.array([1.0, 0, 0, 0]),
                                translation=stand)
    plan, report, cells = told(tmp_path, [tmp_path / "a.e57"])
    assert plan.given == SCANNER and report == "by the scanners' places"
    assert share_right(cells) > 0.999


def test_normals_of_some_clouds_only_are_named(tmp_path, rng, caplog):
    points, normals = hollow_ball(rng)
    files.write(tmp_path / "a.ply", Geometry(points[:5000], normals[:5000]))
    files.write(tmp_path / "b.ply", Geometry(points[5000:]))
    plan, _, _ = told(tmp_path, [tmp_path / "a.ply", tmp_path / "b.ply"])
    assert plan.given == NOTHING and "only some of the clouds have normals" in caplog.text


def test_where_surfaces_are_open_no_side_is_thinner(tmp_path, rng, monkeypatch):
    """Of a building it is, unless a winding number counts as that of an open one."""
    np.save(tmp_path / "a.npy", rooms.building((1, 1, 1)).sample(20_000, rng))
    assert "thinner" in told(tmp_path, [tmp_path / "a.npy"], cell_points=30_000)[1]
    monkeypatch.setattr(sides, "CLOSED", 0.0)
    assert "thinner" not in told(tmp_path, [tmp_path / "a.npy"], cell_points=30_000)[1]


@pytest.mark.parametrize("share", [1, 3])
def test_a_building_is_thinner_than_its_rooms(tmp_path, rng, monkeypatch, share):
    """Where the sample of the scene is as dense as its cells, and where it has a third of their
    points."""
    solids = rooms.building((2, 1, 1))
    points = solids.sample(90_000, rng)
    np.save(tmp_path / "a.npy", points)
    monkeypatch.setattr(survey, "SIDES", len(points) // share)
    _, report, cells = told(tmp_path, [tmp_path / "a.npy"], cell_points=30_000)
    assert report == "by the thinner side of each sheet"
    points, found = (np.concatenate([getattr(cell, name) for cell in cells])[::7]
                     for name in ("points", "normals"))
    right = solids.depth(points + 0.01 * found) > solids.depth(points - 0.01 * found)
    assert right.mean() > 0.972
