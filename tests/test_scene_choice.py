"""reconstruct cuts a cloud into cells by itself where it has more surface than its box."""

import sys

from benchmarks.stress import rooms
from igr import __main__ as program
from igr.formats import files
from igr.geometry.frames import Geometry
from igr.scene import driver, survey

import numpy as np
import pytest


def sphere(rng, n):
    points = rng.standard_normal((n, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def building(rng, n):
    return rooms.building((2, 1, 1)).sample(n, rng)


@pytest.fixture
def job(tmp_path, monkeypatch):
    """job(points, flags): a job of reconstruct after its cleaning, and the scenes that it makes."""
    made = []
    monkeypatch.setattr(driver, "reconstruct", lambda *words: made.append(words))

    def make(points, *flags):
        job = program.job_of([str(tmp_path / "a.ply"), *flags])
        job.folder.mkdir(exist_ok=True)
        files.write(job.folder / "cleaned.ply", Geometry(points))
        return job, made

    return make


def test_a_building_is_cut_into_cells(job, rng):
    cut, made = job(building(rng, 120_000), "--quality", "draft", "--trim")
    assert program.in_cells(cut) and len(made) == 1
    clouds, mesh, options, _ = made[0]
    assert clouds == [cut.folder / "cleaned.ply"] and mesh == cut.mesh
    assert options == driver.Options(quality="draft", trim=True)


@pytest.mark.parametrize(("points", "flags"), [
    (lambda rng: sphere(rng, 120_000), []),
    (lambda rng: building(rng, 50_000), []),  # a cell would have too few
    (lambda rng: building(rng, 120_000), ["--one-network"])])
def test_what_one_network_learns_stays_whole(job, rng, points, flags):
    whole, made = job(points(rng), *flags)
    assert not program.in_cells(whole) and not made


def test_what_is_not_there_is_warned_of(job, rng, monkeypatch, caplog):
    points = building(rng, 120_000)
    simplified, made = job(points, "--faces", "1000")
    assert not program.in_cells(simplified) and "--faces simplifies" in caplog.text
    monkeypatch.setitem(sys.modules, "distributed", None)
    without, _ = job(points)
    assert not program.in_cells(without) and not made
    assert "requirements-scene.txt" in caplog.text and "times that of the box" in caplog.text


def test_many_points_are_cut_whatever_their_surface(tmp_path, rng, monkeypatch):
    np.save(tmp_path / "a.npy", sphere(rng, 3000))
    assert survey.reason_for_cells([tmp_path / "a.npy"]) == ""
    monkeypatch.setattr(survey, "ONE_NETWORK", 2000)
    assert survey.reason_for_cells([tmp_path / "a.npy"]).startswith("3000 points are many")


def test_a_cloud_of_three_points_is_left_to_the_training(job):
    assert not program.in_cells(job(np.eye(3))[0])
