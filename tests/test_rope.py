"""The rope: smooth, free of self-intersection, sampled exactly, and the distance to it."""

import sys

from benchmarks.stress import rope
from benchmarks.stress.rope import Rope, radius
from igr.formats import files
from igr.geometry import tubes
from igr.geometry.tubes import trefoil

import numpy as np
import pytest
from scipy.spatial import cKDTree
import trimesh

ROPE = Rope()


def sample(n, seed):
    return ROPE.sample(n, np.random.default_rng(seed))


@pytest.fixture
def angles(rng):
    return rng.uniform(0, 2 * np.pi, (2, 20_000))


def by_differences(t, u, step=1e-6):
    """Unit normals (n, 3) and area elements (n,) by central differences of the points."""
    x_t = ROPE(t + step, u)[0] - ROPE(t - step, u)[0]
    x_u = ROPE(t, u + step)[0] - ROPE(t, u - step)[0]
    normals = np.cross(x_u, x_t) / (2 * step) ** 2
    area = np.linalg.norm(normals, axis=1)
    return normals / area[:, None], area


def test_normals_and_areas_are_those_of_the_points(angles):
    _, normals, area = ROPE(*angles)
    found, found_area = by_differences(*angles)
    np.testing.assert_allclose(normals, found, atol=1e-6)
    np.testing.assert_allclose(area, found_area, rtol=1e-6)


def test_it_closes_and_is_smooth(angles):
    """Points and radius have the period 2 pi, and the third derivative by u is bounded: no corner.
    """
    t, u = angles
    whole = ROPE(t + 2 * np.pi, u - 2 * np.pi)
    for one, other in zip(ROPE(t, u), whole):
        np.testing.assert_allclose(one, other, atol=1e-9)
    thirds = []
    for step in (2e-3, 1e-3):
        r = [radius(t, u + k * step)[0][:, 0] for k in (-2, -1, 1, 2)]
        thirds.append(np.abs(r[3] - 2 * r[2] + 2 * r[1] - r[0]).max() / (2 * step**3))
    assert thirds[1] == pytest.approx(thirds[0], rel=0.05)


def test_no_part_touches_another(angles):
    """The radius is below the reach of the curve c, the infimum of |b - a|^2 / (2 dist(b - a, T_a))
    over all pairs of its points (Federer 1959, theorem 4.18); within it each point of space has one
    nearest point on the curve, so no two points of the surface are the same."""
    t = np.linspace(0, 2 * np.pi, 1000, endpoint=False)
    c, c1 = trefoil(t)[:2]
    away = c[None] - c[:, None]
    tangent = c1 / np.linalg.norm(c1, axis=1, keepdims=True)
    squared = (away**2).sum(axis=2)
    along = (away * tangent[:, None]).sum(axis=2)
    across = np.sqrt(np.maximum(squared - along**2, 1e-30))
    others = ~np.eye(len(t), dtype=bool)
    reach = (squared[others] / (2 * across[others])).min()
    assert 1.1 * radius(*angles)[0].max() < reach


def test_grooves_are_fine():
    """From crest to crest it is 1/200 of the longest side, at a right angle to the grooves."""
    angle = np.linspace(0, 2 * np.pi, 4096, endpoint=False)
    around = np.abs(np.fft.rfft(radius(np.zeros(4096), angle)[0][:, 0])) / 2048
    along = np.abs(np.fft.rfft(radius(angle, np.zeros(4096))[0][:, 0])) / 2048
    crests = 50 + around[50:].argmax(), 200 + along[200:].argmax()
    assert around[crests[0]] == pytest.approx(0.0016, rel=0.1)
    assert along[crests[1]] == pytest.approx(0.0016, rel=0.1)
    speed = np.linalg.norm(trefoil(angle)[1], axis=1).min()
    width = 2 * np.pi / np.hypot(crests[0] / 0.4, crests[1] / speed)
    side = np.ptp(ROPE.mesh(512, 64).points, axis=0).max()
    assert width / side == pytest.approx(1 / 200, rel=0.05)


def test_samples_are_even_by_area(angles):
    """Means over samples are means by area: of the height, and of the share in the valleys."""
    cloud = sample(200_000, 2)
    x, normals, _ = ROPE(*angles)
    weight = by_differences(*angles)[1]
    assert ROPE(*angles)[2].max() < ROPE.largest_area()
    for f in (lambda x, n: x[:, 2] ** 2, lambda x, n: n[:, 0] ** 2, lambda x, _: np.abs(x[:, 0])):
        expected = np.average(f(x, normals), weights=weight)
        assert f(cloud.points, cloud.normals).mean() == pytest.approx(expected, rel=0.02)


def test_its_program_writes_samples_on_the_surface(tmp_path, monkeypatch):
    path = tmp_path / "rope.ply"
    monkeypatch.setattr(sys, "argv", ["rope.py", "-n", "3000", "--seed", "1", "-o", str(path)])
    rope.main(rope.parse_args())
    cloud = files.read(path)
    assert ROPE.distance(cloud.points).max() < 1e-6
    np.testing.assert_allclose(cloud.points, sample(3000, 1).points, atol=1e-6)
    np.testing.assert_allclose(cloud.normals, sample(3000, 1).normals, atol=1e-6)


def test_mesh_is_closed_and_faces_outwards():
    mesh = ROPE.mesh(512, 64)
    solid = trimesh.Trimesh(mesh.points, mesh.faces, process=False)
    assert solid.is_watertight and solid.is_winding_consistent and solid.volume > 0
    assert solid.euler_number == 0


@pytest.mark.parametrize("height", [1e-5, -1e-3, 0.004, -0.004])
def test_distance_of_points_over_the_surface(height):
    """Nearer than the radius of curvature, a point's foot is where its normal comes from."""
    cloud = sample(2000, 3)
    away = ROPE.distance(cloud.points + height * cloud.normals)
    np.testing.assert_allclose(away, abs(height), atol=1e-10)


@pytest.mark.parametrize("farthest, above", [(0.01, 0), (0.05, 3e-4)])
def test_distance_against_many_samples(rng, farthest, above):
    """Near the surface it is never above the distance to samples; farther away hardly."""
    x = ROPE(rng.uniform(0, 0.1, 400_000), rng.uniform(0, 2 * np.pi, 400_000))[0]
    middle, normals, _ = ROPE(rng.uniform(0.03, 0.07, 2000), rng.uniform(0, 2 * np.pi, 2000))
    points = middle + rng.uniform(-farthest, farthest, (2000, 1)) * normals
    excess = ROPE.distance(points) - cKDTree(x).query(points)[0]
    assert excess.max() <= above and -3e-3 < excess.min() and np.median(excess) > -1e-3


def test_samples_do_not_depend_on_the_blocks(monkeypatch):
    whole = sample(5000, 0)
    monkeypatch.setattr(tubes, "BLOCK", 1 << 10)
    parts = sample(5000, 0)
    np.testing.assert_allclose(whole.points, parts.points, atol=1e-14)
    np.testing.assert_allclose(whole.normals, parts.normals, atol=1e-12)
