"""Clouds for the training: the split, neighbours, clouds that cannot serve, and create."""

import hashlib
import os

import datasets
import helper
from helper import UserError, sha256_of_file
from igr.field import checkpoints
from igr.formats import files
from igr.geometry import neighbours, shapes
from igr.geometry.frames import Frame, Geometry
from igr.isosurface.extraction import Grid
from igr.pointcloud import checks, noise, normals
from igr.training.runs import RunFolder
import infer
import train

import numpy as np
import pytest
import scipy.spatial
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist


@pytest.fixture
def knot(tmp_path):
    files.write(tmp_path / "knot.ply", shapes.sample("knot", 400))
    return tmp_path / "knot.ply"


def test_split_covers_the_cloud_once(knot):
    cloud = datasets.load_cloud(knot, 5, 0.25, True, seed=0)
    assert len(cloud.points) == 300 and len(cloud.held_out) == 100
    pts_unit = np.concatenate([cloud.points, cloud.held_out])
    pts_world = cloud.frame.to_world(pts_unit)
    truth = files.read(knot).points
    np.testing.assert_allclose(np.sort(pts_world, axis=0), np.sort(truth, axis=0), atol=1e-6)
    assert np.abs(pts_unit).max() == pytest.approx(1)


def test_normals_stay_with_their_points(knot):
    cloud = datasets.load_cloud(knot, 5, 0.25, True, seed=0)
    whole = files.read(knot)
    place = cdist(cloud.frame.to_world(cloud.points), whole.points).argmin(axis=1)
    np.testing.assert_allclose(cloud.normals, whole.normals[place], atol=1e-6)


def test_trusted_normals_are_taken_as_they_are(knot, caplog):
    """Those of a room look into it; turned round, they would contradict the room beside it."""
    whole = files.read(knot)
    files.write(knot, whole._replace(normals=-whole.normals))
    inward = datasets.load_cloud(knot, 5, 0.25, True, seed=0, trust_normals=True)
    assert "inwards" not in caplog.text
    turned = datasets.load_cloud(knot, 5, 0.25, True, seed=0)
    assert "inwards" in caplog.text
    np.testing.assert_allclose(inward.normals, -turned.normals, atol=1e-6)


def test_a_cloud_comes_with_its_hash_and_measurements(knot):
    """The file's hash for the checkpoint, and the points' measurements for the schedule."""
    cloud = datasets.load_cloud(knot, 5, 0.25, True, seed=0)
    assert cloud.file_sha256 == hashlib.sha256(knot.read_bytes()).hexdigest()
    assert np.array_equal(cloud.measured.tree.data, cloud.points)
    assert cloud.measured.spacing == pytest.approx(np.median(cloud.sigma) / 5**0.5)
    assert cloud.measured.scatter == noise.scatter(cloud.measured.tree) > 0


def test_a_default_start_builds_few_trees_and_measures_the_scatter_once(tmp_path, monkeypatch):
    """Of exact points that get normals by winding numbers: one of the few points that show whether
    there is a surface, the load's, which the normals and the schedule use, and of more than
    normals.ORIENTED points one of these."""
    files.write(tmp_path / "a.ply", Geometry(shapes.sample("sphere", 8000).points))
    trees, measured = [], []
    scatter = noise.scatter
    monkeypatch.setattr(scipy.spatial, "cKDTree", lambda points, **options: (
        trees.append(len(points)) or cKDTree(points, **options)))
    monkeypatch.setattr(noise, "scatter", lambda tree: measured.append(tree.n) or scatter(tree))
    for oriented, sizes in ((normals.ORIENTED, [6000, 5000]), (3000, [6000, 3000])):
        monkeypatch.setattr(normals, "COARSE", 5000)
        monkeypatch.setattr(normals, "ORIENTED", oriented)
        trees.clear()
        measured.clear()
        start = train.Start(tmp_path / "a.ply", train.Settings(), train.Options(context="cpu"))
        job = train.build(start, RunFolder(tmp_path / "run"))
        assert job.info["flags"]["winding"]
        assert trees == [checks.SEEN_BY, *sizes] and measured == [checks.SEEN_BY, 6000]


def test_of_a_large_cloud_a_sample_is_trained_on(knot, monkeypatch, caplog):
    every = datasets.load_cloud(knot, 5, 0.25, True, seed=0)
    assert caplog.text == "" and every.whole == ""
    monkeypatch.setattr(datasets, "MOST", 200)
    cloud = datasets.load_cloud(knot, 5, 0.25, True, seed=0)
    assert "of 400 points, a random sample of 200 is trained on" in caplog.text
    assert cloud.frame == every.frame
    for name, count in (("points", 150), ("normals", 150), ("held_out", 50)):
        assert np.array_equal(getattr(cloud, name), getattr(every, name)[:count])
    brute = np.sort(cdist(cloud.points, cloud.points), axis=1)[:, 5]
    np.testing.assert_allclose(cloud.sigma[:, 0], brute, rtol=1e-5)
    # the detail, which takes all points, knows those that were held out
    info = {"held_out": checkpoints.packed(cloud.test), "cloud_file_sha256": sha256_of_file(knot)}
    known = datasets.training_points(knot, info, cloud.frame)
    assert len(known.points) == 400
    assert cdist(cloud.held_out, known.points[known.held_out]).min(axis=1).max() < 1e-6
    assert cdist(cloud.points, known.points[~known.held_out]).min(axis=1).max() < 1e-6


def test_the_fingerprint_sees_points_outside_of_the_sample(knot, monkeypatch):
    monkeypatch.setattr(datasets, "MOST", 200)
    cloud = files.read(knot)
    left_out = datasets.split(400, 0.25, 0)[1][-1]
    before = datasets.load_cloud(knot, 5, 0.25, False, seed=0)
    cloud.points[left_out] += 1e-3
    files.write(knot, cloud)
    after = datasets.load_cloud(knot, 5, 0.25, False, seed=0)
    assert np.array_equal(before.points, after.points) and before.whole != after.whole


def test_a_fingerprint_is_that_of_all_bytes_in_their_order(rng):
    a, b = rng.random((9, 3)), rng.random(6)[::2]
    both = hashlib.sha256(a.tobytes() + b.tobytes() + b"more").hexdigest()
    assert helper.fingerprint(a, None, b, "more") == both == helper.fingerprint(a, b, "", "more")


def test_neighbours_within_a_sample_are_farther_by_the_root_of_its_share():
    points = shapes.sample("sphere", 40_000).points
    whole, part = (np.median(neighbours.kth_distance(neighbours.tree_of(some), 10))
                   for some in (points, points[:4_000]))
    assert part / whole == pytest.approx(10**0.5, rel=0.03)


@pytest.mark.parametrize("points, knn, message", [
    (np.ones((99, 3)), 5, "equal"),
    (np.arange(99)[:, None] * [[1.0, 2.0, 3.0]], 5, "on a line"),
    (np.random.default_rng(0).uniform(size=(20, 3)), 50, "too few"),
])
def test_clouds_that_cannot_serve(tmp_path, points, knn, message):
    np.save(tmp_path / "cloud.npy", points)
    with pytest.raises(UserError, match=message):
        datasets.load_cloud(tmp_path / "cloud.npy", knn, 0.25, False, 0)


def test_normals_asked_for_and_missing(tmp_path, rng):
    files.write(tmp_path / "bare.ply", Geometry(rng.uniform(size=(99, 3))))
    with pytest.raises(UserError, match="no normals"):
        datasets.load_cloud(tmp_path / "bare.ply", 5, 0.25, True, 0)


def test_create_keeps_the_coordinates_of_the_mesh(tmp_path):
    mesh = shapes.mesh("letter")
    mesh = mesh._replace(points=1e-3 * mesh.points + [5, 6, 7])
    files.write(tmp_path / "letter.obj", mesh)
    path = datasets.create_from_mesh(tmp_path / "letter.obj", None, 500, "poisson", 0)
    assert path == tmp_path / "letter_pcd.ply"
    cloud = files.read(path)
    assert len(cloud.points) == 500 and cloud.normals is not None
    np.testing.assert_allclose(cloud.points.min(axis=0), mesh.points.min(axis=0), atol=1e-4)
    np.testing.assert_allclose(cloud.points.max(axis=0), mesh.points.max(axis=0), atol=1e-4)


@pytest.mark.parametrize("sampling", ["poisson", "uniform"])
def test_create_writes_the_colours_along(tmp_path, sampling):
    mesh = shapes.mesh("sponge")
    low, high = mesh.points.min(axis=0), mesh.points.max(axis=0)
    files.write(tmp_path / "a.ply", mesh._replace(colors=(mesh.points - low) / (high - low)))
    cloud = files.read(datasets.create_from_mesh(tmp_path / "a.ply", None, 200, sampling, 0))
    assert np.abs(cloud.colors - (cloud.points - low) / (high - low)).max() < 0.01


def test_the_clouds_colours_come_with_its_points(tmp_path):
    ball = shapes.sample("sphere", 300)
    files.write(tmp_path / "a.ply", ball._replace(colors=(ball.points + 1) / 2))
    frame = Frame.of(ball.points)
    cloud = datasets.training_points(tmp_path / "a.ply", {}, frame, named=True)
    assert np.abs(cloud.colors - (frame.to_world(cloud.points) + 1) / 2).max() < 0.003

    def colored_by(cloud):
        grid = Grid.of([-1.5] * 3, [1.5] * 3, 8)
        work = infer.Work(None, infer.Extraction(), grid, cloud)
        return infer.finished(shapes.mesh("sphere"), work)

    colored = colored_by(cloud)
    assert np.abs(colored.colors - (colored.points + 1) / 2).mean() < 0.05
    assert colored_by(cloud._replace(colors=None)).colors is None


def test_a_pipe_is_no_cloud_to_come_back_to(tmp_path):
    os.mkfifo(tmp_path / "a.ply")
    with pytest.raises(UserError, match="a pipe, which the training has read"):
        datasets.training_points(tmp_path / "a.ply", {}, Frame())


def test_a_point_far_from_the_rest_gets_a_warning(tmp_path, caplog):
    ball = shapes.sample("sphere", 400).points
    files.write(tmp_path / "a.xyz", Geometry(ball))
    datasets.load_cloud(tmp_path / "a.xyz", 5, 0, False, seed=0)
    assert caplog.text == ""
    files.write(tmp_path / "b.xyz", Geometry(np.append(ball, [[100.0, 0, 0]], axis=0)))
    datasets.load_cloud(tmp_path / "b.xyz", 5, 0, False, seed=0)
    assert "fills 1.9 % of the frame" in caplog.text


def test_duplicates_are_named(tmp_path, caplog):
    ball = shapes.sample("sphere", 400).points
    np.save(tmp_path / "a.npy", np.concatenate([ball, np.repeat(ball[:1], 3600, axis=0)]))
    datasets.load_cloud(tmp_path / "a.npy", 5, 0, False, seed=0)
    doubt, help_line = caplog.messages
    assert "90 % of the 4000 points are duplicates, only 400 are distinct" in doubt
    assert "clean" in help_line and "fills" not in caplog.text
    caplog.clear()
    np.save(tmp_path / "b.npy", np.concatenate([ball, ball[:6]]))
    datasets.load_cloud(tmp_path / "b.npy", 5, 0, False, seed=0)
    assert caplog.text == ""


@pytest.mark.parametrize("stretch, turned, said", [
    ((1, 1, 1e-4), 0.5, "almost on a plane"), ((1, 1, 0), 0, "almost on a plane"),
    ((1, 1e-4, 1e-4), 0.5, "almost on a line"), ((1, 1e-4, 0), 0, "almost on a line"),
    ((1, 0.5, 0.01), 0.5, ""), ((1, 0.05, 0.05), 0.5, "filled a volume")])
def test_flat_clouds_and_lines_get_a_warning(tmp_path, caplog, rng, stretch, turned, said):
    points = rng.uniform(-1, 1, (500, 3)) * stretch
    turn = np.array([[1, 0, 0], [0, np.cos(turned), -np.sin(turned)],
                     [0, np.sin(turned), np.cos(turned)]])
    np.save(tmp_path / "a.npy", points @ turn @ turn[:, [2, 0, 1]])
    datasets.load_cloud(tmp_path / "a.npy", 5, 0, False, seed=0)
    assert said in caplog.text and len(caplog.messages) == bool(said)


@pytest.mark.parametrize("other", [
    shapes.mesh("letter"),
    shapes.mesh("sphere")._replace(points=1.1 * shapes.mesh("sphere").points),
], ids=["another", "its own, larger"])
def test_create_replaces_only_its_own_surface(tmp_path, other):
    files.write(tmp_path / "bunny.ply", other)
    with pytest.raises(UserError, match=r"bunny\.ply: exists and is not the exact sphere"):
        datasets.create_shape("sphere", tmp_path / "bunny_pcd.ply", 50, 0)
    assert [p.name for p in tmp_path.iterdir()] == ["bunny.ply"]
    for _ in range(2):
        datasets.create_shape("sphere", tmp_path / "ball_pcd.ply", 50, 0)


def test_create_is_seeded(tmp_path):
    files.write(tmp_path / "sponge.ply", shapes.mesh("sponge"))
    for how in ("poisson", "uniform"):
        a, b, c = (
            files.read(datasets.create_from_mesh(tmp_path / "sponge.ply", tmp_path / "c.ply", 200,
                                                 how, seed)).points
            for seed in (1, 1, 2)
        )
        assert np.array_equal(a, b) and not np.array_equal(a, c)


def test_a_mask_of_no_text_is_empty():
    """numpy's unpackbits leaves the bits of no bytes as they were in memory."""
    for _ in range(5):
        np.ones(2000, np.uint8)  # whose memory is free again
        assert not checkpoints.unpacked("", 2000).any()
    mask = np.arange(2000) % 3 == 0
    assert np.array_equal(checkpoints.unpacked(checkpoints.packed(mask), 2000), mask)
