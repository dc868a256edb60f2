"""The cells of a scene: each point in one core, margins complete, memory bounded."""

import tracemalloc

from helper import UserError
from igr.formats import blocks
from igr.scene import octree, survey
from igr.scene.plan import Folder

import numpy as np
import pytest

SETTINGS = {"clouds": [], "quality": "draft", "train_iter": 5, "dims": 8, "cell_points": 1500,
            "spacing": None, "winding": False, "context": "cpu"}


def sphere(rng, n, radius=1.0, center=(0.0, 0.0, 0.0)):
    points = rng.standard_normal((n, 3))
    return radius * points / np.linalg.norm(points, axis=1, keepdims=True) + center


def made(tmp_path, points, **settings):
    """The plan of a cloud, and its folder."""
    np.save(tmp_path / "cloud.npy", points)
    folder = Folder(tmp_path / "scene")
    folder.path.mkdir(exist_ok=True)
    return survey.make_plan([tmp_path / "cloud.npy"], folder, {**SETTINGS, **settings}), folder


def test_codes_are_the_octrees_order(rng):
    index = rng.integers(0, 1 << octree.DEEPEST, (500, 3))
    codes = octree.codes_of(index)
    assert [octree.index_of(int(code)) for code in codes] == [tuple(i) for i in index.tolist()]
    # a cell of side 2^k is a range of codes
    cell = index >> 7
    first = octree.codes_of(cell << 7)
    assert ((codes >= first) & (codes < first + (1 << 21))).all()


def test_leaves_hold_each_voxel_once(rng):
    codes = octree.codes_of((rng.random((20_000, 3)) ** 2 * 64).astype(int))
    voxels = octree.Voxels.empty().with_points(codes[:7000]).with_points(codes[7000:])
    assert voxels.counts.sum() == 20_000 and (np.diff(voxels.codes) > 0).all()
    leaves = octree.leaves(voxels, 6, 300)
    starts = np.array([leaf.first for leaf in leaves])
    ends = starts + [leaf.size**3 for leaf in leaves]
    assert (starts[1:] >= ends[:-1]).all()
    counts = [((codes >= a) & (codes < b)).sum() for a, b in zip(starts, ends)]
    assert sum(counts) == 20_000 and min(counts) > 0
    assert all(count <= 300 or leaf.size == 1 for count, leaf in zip(counts, leaves))


@pytest.mark.parametrize("shift", [0.0, 1e7])
def test_each_point_is_in_one_core_and_in_all_margins(tmp_path, rng, shift):
    points = sphere(rng, 8000) + shift
    plan, folder = made(tmp_path, points)
    assert 8 <= len(plan.cells) < 40
    places = plan.to_grid(points)
    cores = np.stack([cell.has(places) for cell in plan.cells])
    assert (cores.sum(axis=0) == 1).all()
    assert [cell.points for cell in plan.cells] == cores.sum(axis=1).tolist()
    for cell in plan.cells:
        stored = np.load(folder.points(cell.name))
        expected = points[cell.has(places, cell.margin)]
        assert sorted(map(tuple, stored)) == sorted(map(tuple, expected))
        assert cell.points <= 1500
        assert len(stored) > cell.points  # the sphere has no edge: each margin has points


def test_blocks_do_not_change_the_cells(tmp_path, rng, monkeypatch):
    points = sphere(rng, 6000)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole, _ = made(tmp_path / "a", points)
    monkeypatch.setattr(blocks, "ROWS", 617)
    pieces, folder = made(tmp_path / "b", points)
    assert whole.cells == pieces.cells and whole.origin == pieces.origin
    assert len(np.load(folder.sample)) == 6000


def test_a_crowded_place_keeps_a_part(tmp_path, rng):
    """As beside a scanner: the even part of the cloud decides on the cells and keeps its points."""
    even = sphere(rng, 8000)
    spot = np.array([1.0, 0, 0]) + 1e-3 * rng.standard_normal((60_000, 3))
    plan, folder = made(tmp_path, np.concatenate([even, spot]), spacing=0.02)
    assert len(plan.cells) < 40
    total = sum(cell.points for cell in plan.cells)
    assert 8000 - 1500 < total < 25_000
    far = even[np.linalg.norm(even - [1, 0, 0], axis=1) > 0.5]
    stored = {tuple(p) for cell in plan.cells for p in np.load(folder.points(cell.name))}
    assert all(tuple(p) in stored for p in far)


def test_a_stray_point_changes_nothing(tmp_path, rng, caplog):
    points = sphere(rng, 6000)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    plain, _ = made(tmp_path / "a", points)
    stray, _ = made(tmp_path / "b", np.concatenate([points, [[1e6, 0, 0]]]))
    assert "1 of 6001 points lie far from all others" in caplog.text
    assert stray.spacing == pytest.approx(plain.spacing, rel=0.1)


@pytest.mark.parametrize(("points", "message"), [
    (np.ones((100, 3)), "different points are too few"),
    (np.arange(30.0).reshape(10, 3), "10 different points are too few")])
def test_what_is_no_scene(tmp_path, points, message):
    with pytest.raises(UserError, match=message):
        made(tmp_path, points)


def test_one_point_a_cell(tmp_path, rng):
    """Points so far apart that each would have a cell of its own still make cells."""
    plan, _ = made(tmp_path, rng.random((300, 3)), cell_points=1)
    assert sum(cell.points for cell in plan.cells) == 300
    assert max(cell.points for cell in plan.cells) <= 30


def test_memory_does_not_grow_with_the_cloud(tmp_path, rng, monkeypatch):
    monkeypatch.setattr(survey, "SAMPLE", 5000)
    monkeypatch.setattr(survey, "SIDES", 5000)
    monkeypatch.setattr(blocks, "ROWS", 20_000)
    peaks = []
    for n in (100_000, 800_000):
        folder = tmp_path / str(n)
        folder.mkdir()
        points = sphere(rng, n)
        np.save(folder / "cloud.npy", points)
        del points
        scene = Folder(folder / "scene")
        scene.path.mkdir()
        tracemalloc.start()
        survey.make_plan([folder / "cloud.npy"], scene,
                         {**SETTINGS, "cell_points": 20_000, "spacing": 0.05})
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0] and peaks[1] < 19e6  # the large cloud alone has 19.2 MB


def test_a_damaged_plan_is_named(tmp_path):
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(UserError, match="damaged"):
        Folder(tmp_path).read_plan()
