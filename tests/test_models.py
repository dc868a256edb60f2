"""The published models, and what makes them."""

import gzip
from pathlib import Path

from benchmarks.results import models
from igr.backend import threads
from igr.field import checkpoints
from igr.formats import files
from igr.geometry import neighbours, shapes
from igr.geometry.frames import Frame, Geometry
import infer
import train

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[1] / "results" / "models"
MODELS = sorted(FOLDER.glob("*.h5"))


def test_rounded_points_stay_near(rng):
    points = 1e4 + 30 * rng.uniform(-1, 1, (5000, 3))
    got = models.rounded(points)
    step = 2 * Frame.of(points).scale / models.STEPS
    assert 0 < np.abs(got - points).max() <= step / 2
    assert np.array_equal(got, got.astype(np.float32))


def test_a_model_finds_its_cloud_beside_it(tmp_path):
    before = threads.count()
    cloud = tmp_path / "a.ply.gz"
    files.write(tmp_path / "a.ply", Geometry(shapes.sample("sphere", 500).points))
    cloud.write_bytes(gzip.compress((tmp_path / "a.ply").read_bytes()))
    last = train.fit(cloud, tmp_path / "run", train.Settings(train_iter=60, dims=16, batch_size=32),
                     train.Options(quiet=True, threads=1))
    model = models.publish(last, cloud)
    assert model == tmp_path / "a.h5"
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for path in (model, cloud):
        path.rename(moved / path.name)
    info = checkpoints.load_checkpoint(moved / "a.h5")[1]
    assert info["cloud"] == str(moved / "a.ply.gz") and str(tmp_path) not in str(info["flags"])
    assert infer.mesh_of(moved / "a.h5", infer.Extraction(24)).detail
    threads.set_count(before)


def test_the_models_are_there_and_small():
    assert {path.stem for path in MODELS} == set(models.NAMES)
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 6e6


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_the_mesh_of_a_model_lies_on_its_cloud(path):
    """Within a cell of a grid of 128 points, in which thin parts may be lost."""
    mesh = infer.mesh_of(path, infer.Extraction(128)).mesh
    cloud = files.read_cloud(path.with_suffix(".ply.gz")).points
    frame = Frame.of(cloud)
    distance = neighbours.point_to_surface(frame.to_unit(cloud), frame.geometry_to_unit(mesh))
    assert np.median(distance) < 0.002 and (distance > 3 / 128).mean() < 0.01
