"""Cutting along a line of the surface: rims, areas and topology on shapes whose parts are known."""

from helper import UserError
from igr.geometry import meshes, neighbours, shapes
from igr.geometry.frames import Geometry
from igr.isosurface import extraction
from igr.refinement import trimming

import numpy as np
import pytest
import trimesh

LIMIT = 1.5  # spacings
RADIUS = 0.3  # of the tube
TURN = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]  # no axis lies along the grid


@pytest.fixture(scope="module")
def tube():
    """A closed cylinder around the z axis, |z| <= 1, marched on a grid that is turned to it."""

    def distance(points):
        x, y, z = (points @ TURN).T
        out = np.stack([np.hypot(x, y) - RADIUS, np.abs(z) - 1])
        return np.hypot(*np.maximum(out, 0)) + np.minimum(out.max(axis=0), 0)

    mesh, _ = extraction.extract(distance, extraction.Grid.of([-1.4] * 3, [1.4] * 3, 160))
    return Geometry(mesh.points @ TURN, None, mesh.faces)


def middle(n, rng):
    """n points at random on the middle of the tube, |z| <= 0.5."""
    angle = rng.uniform(0, 2 * np.pi, n)
    return np.column_stack([RADIUS * np.cos(angle), RADIUS * np.sin(angle),
                            rng.uniform(-0.5, 0.5, n)])


def spacing(cloud):
    """The median distance to the tenth neighbour, by brute force."""
    distances = np.linalg.norm(cloud[:50, None] - cloud, axis=2)
    return np.median(np.sort(distances, axis=1)[:, 10])


def rim_points(mesh):
    """The ends (E, 2, 3) of the edges with one face."""
    edges = np.sort(mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    edges, faces = np.unique(edges, axis=0, return_counts=True)
    return mesh.points[edges[faces == 1]]


def assert_sound(mesh):
    """No edge with more than two faces, no vertex without a face, no face without area, no two
    vertices in one place, faces turned the same way, each rim a closed line without branches."""
    assert meshes.topology(mesh)["nonmanifold_edges"] == 0
    assert np.array_equal(np.unique(mesh.faces), np.arange(len(mesh.points)))
    assert meshes.face_areas(mesh).min() > 0
    assert len(np.unique(mesh.points, axis=0)) == len(mesh.points)
    ends = rim_points(mesh).reshape(-1, 3)
    if len(ends):
        assert set(np.unique(ends, axis=0, return_counts=True)[1]) == {2}
    other = trimesh.Trimesh(mesh.points, mesh.faces, process=False)
    assert other.is_winding_consistent


def patch(mesh, center, radius):
    """Mask (N,) of the vertices within radius of a place."""
    return np.linalg.norm(mesh.points - center, axis=1) < radius


# ------------------------------------------------------------------------------------- open ends


@pytest.mark.parametrize("n", [1000, 5000, 20_000, 100_000])  # spacings from 5 edges to half of one
def test_tube_is_cut_at_the_ends_of_its_cloud(tube, n, rng):
    cloud = middle(n, rng)
    ratio = trimming.distance_ratio(tube.points, cloud)
    kept, text = trimming.trim(tube, ratio, LIMIT)
    assert_sound(kept)
    found = meshes.topology(kept)
    assert meshes.boundary_loops(kept) == 2 and found["components"] == 1
    assert found["euler_characteristic"] == 0  # a tube: closed but for its two rims
    rim = rim_points(kept)
    for side in (-1, 1):
        mine = rim[side * rim[:, 0, 2] > 0]
        length = np.linalg.norm(mine[:, 0] - mine[:, 1], axis=1).sum()
        assert length == pytest.approx(2 * np.pi * RADIUS, rel=0.01)
        beyond = (side * mine[:, :, 2] - 0.5) / spacing(cloud)
        assert 0 < beyond.mean() < LIMIT + 0.2 and beyond.std() < 0.4
        area = meshes.face_areas(kept).sum()
    assert area == pytest.approx(2 * np.pi * RADIUS * 2 * np.abs(rim[..., 2]).mean(), rel=0.01)
    cut_off = 100 * (1 - area / meshes.face_areas(tube).sum())
    assert f"cut off {cut_off:.2g} % of the area; pieces: 2, rims now: 2" == text


def test_cut_off_is_exact_and_the_rim_is_straight(tube):
    distance = np.maximum(np.abs(tube.points[:, 2]) - 0.4, 0)  # to a dense cloud
    kept, _ = trimming.trim(tube, distance, 0.1)
    assert_sound(kept)
    assert meshes.face_areas(kept).sum() == pytest.approx(2 * np.pi * RADIUS, rel=2e-3)
    heights = np.abs(rim_points(kept)[..., 2])
    edge = np.sqrt(np.median(meshes.face_areas(tube)))
    assert np.abs(heights - 0.5).max() < 0.1 * edge


def test_jump_of_the_value_keeps_its_place(tube):
    """A dense cloud: within an edge of the mesh the ratio jumps from below the limit far above."""
    ratio = 0.3 + 1000 * np.maximum(np.abs(tube.points[:, 2]) - 0.5, 0)
    kept, _ = trimming.trim(tube, ratio, LIMIT)
    edge = np.sqrt(2 * np.median(meshes.face_areas(tube)))
    heights = np.abs(rim_points(kept)[..., 2])
    assert np.abs(heights - 0.5).max() < 0.5 * edge


def test_scale_and_place_change_nothing(tube, rng):
    cloud = middle(2000, rng)
    ratio = trimming.distance_ratio(tube.points, cloud)
    kept, text = trimming.trim(tube, ratio, LIMIT)
    for scale in (1e-4, 1e5):
        moved = tube._replace(points=scale * (tube.points + 7))
        ratio_moved = trimming.distance_ratio(moved.points, scale * (cloud + 7))
        np.testing.assert_allclose(ratio_moved, ratio, rtol=1e-6)
        kept_moved, text_moved = trimming.trim(moved, ratio_moved, LIMIT)
        assert text_moved == text and np.array_equal(kept_moved.faces, kept.faces)
        np.testing.assert_allclose(kept_moved.points / scale - 7, kept.points, atol=1e-5)


# -------------------------------------------------------------------------- small holes and islands


def test_covered_shape_loses_nothing():
    mesh = shapes.mesh("torus")
    ratio = trimming.distance_ratio(mesh.points, shapes.sample("torus", 20_000).points)
    assert trimming.far_share(mesh, ratio, LIMIT) < 1e-6
    kept, text = trimming.trim(mesh, ratio, LIMIT)
    assert np.array_equal(kept.faces, mesh.faces) and np.array_equal(kept.points, mesh.points)
    assert text == "cut off 0 % of the area; pieces: 0, rims now: 0"


@pytest.mark.parametrize("radius, rims", [(0.07, 0), (0.3, 1)])
def test_small_hole_in_the_cloud_stays_closed(radius, rims):
    mesh = shapes.mesh("sphere")
    cloud = shapes.sample("sphere", 200_000).points
    cloud = cloud[np.linalg.norm(cloud - [0, 0, 1], axis=1) > radius]
    ratio = trimming.distance_ratio(mesh.points, cloud)
    assert trimming.far_share(mesh, ratio, LIMIT) > 0
    kept, _ = trimming.trim(mesh, ratio, LIMIT)
    assert_sound(kept)
    assert meshes.boundary_loops(kept) == rims
    assert meshes.topology(kept)["watertight"] == (rims == 0)
    assert meshes.boundary_loops(trimming.trim(mesh, ratio, LIMIT, smallest=0.0)[0]) == 1


@pytest.mark.parametrize("radius, hole, rims", [(0.3, 0.7, 0), (0.3, 0.5, 1), (0.7, 1.6, 0)])
def test_holes_up_to_a_size_are_closed(radius, hole, rims):
    """Of a ball with one hole of that radius and one of .2; nothing else is far from the points."""
    mesh = shapes.mesh("sphere")
    cloud = shapes.sample("sphere", 50_000).points
    size = np.linalg.norm(cloud[0])
    for place, least in (([0, 0, size], radius), ([0, 0, -size], 0.2)):
        cloud = cloud[np.linalg.norm(cloud - place, axis=1) > least]
    ratio = trimming.distance_ratio(mesh.points, cloud)
    distance = neighbours.nearest(mesh.points, cloud)[0]
    values, closed = trimming.closing_holes(mesh, ratio, LIMIT, distance, hole)
    assert len(closed) == 2 - rims and max(closed) <= hole / 2
    assert np.array_equal(values[values > LIMIT], ratio[values > LIMIT])
    kept, _ = trimming.trim(mesh, values, LIMIT)
    assert meshes.boundary_loops(kept) == rims
    cut = trimming.cut(mesh, mesh.points[:, 2], 0.99 * size)  # as a box's side would the first lid
    ends = trimming.distance_ratio(cut.points, cloud)
    distance_of_cut = neighbours.nearest(cut.points, cloud)[0]
    assert len(trimming.closing_holes(cut, ends, LIMIT, distance_of_cut, 2.0)[1]) == 1
    none, closed = trimming.closing_holes(mesh, ratio, LIMIT, distance, 0.0)
    assert np.array_equal(none, ratio) and closed == []


def test_what_runs_behind_a_whole_scan_closes_no_hole():
    """The lower half of a flat body, of which only the upper one was seen, is near the points."""
    mesh = shapes.mesh("sphere")
    mesh = mesh._replace(points=mesh.points * [1, 1, 0.1])
    cloud = shapes.sample("sphere", 50_000).points * [1, 1, 0.1]
    cloud = cloud[cloud[:, 2] > 0]
    distance = neighbours.nearest(mesh.points, cloud)[0]
    ratio = trimming.distance_ratio(mesh.points, cloud)
    assert distance.max() < 0.25
    values, _ = trimming.closing_holes(mesh, ratio, LIMIT, distance, 0.5)
    assert trimming.far_share(mesh, values, LIMIT) > 0.4  # all but specks


def test_small_islands_go_and_large_ones_stay():
    mesh = shapes.mesh("sphere")
    values = np.where(mesh.points[:, 2] < 0, 0.1, 3.0)
    small = patch(mesh, [0, 0, 1], 0.04)
    large = patch(mesh, [0, 0.8, 0.6], 0.2)
    values[small | large] = 0.1
    kept, text = trimming.trim(mesh, values, LIMIT)
    assert_sound(kept)
    assert meshes.topology(kept)["components"] == 2 and text.endswith("pieces: 1, rims now: 2")
    rim_heights = rim_points(kept)[..., 2]
    assert rim_heights.max() < 0.85  # nothing is left at the pole
    assert meshes.topology(trimming.trim(mesh, values, LIMIT, 0.0)[0])["components"] == 3


def test_far_component_goes_whatever_its_size():
    ball = shapes.mesh("sphere")
    for scale in (0.01, 0.5):
        mesh = Geometry(np.concatenate([ball.points, scale * ball.points + [3, 0, 0]]), None,
                        np.concatenate([ball.faces, ball.faces + len(ball.points)]))
        values = np.repeat([0.3, 9.0], len(ball.points))
        kept, text = trimming.trim(mesh, values, LIMIT)
        assert np.array_equal(kept.points, ball.points) and "pieces: 1, rims now: 0" in text


def test_many_equal_islands_leave_one():
    ball = trimesh.creation.icosphere(subdivisions=0)
    shift = np.arange(2000)[:, None, None] * [3.0, 0, 0]
    faces = ball.faces + len(ball.vertices) * np.arange(2000)[:, None, None]
    mesh = Geometry((ball.vertices + shift).reshape(-1, 3), None, faces.reshape(-1, 3))
    kept, _ = trimming.trim(mesh, np.zeros(len(mesh.points)), LIMIT)
    assert len(kept.faces) > 0


def test_nothing_left_is_refused():
    mesh = shapes.mesh("sphere")
    with pytest.raises(UserError, match=r"beyond the limit of 1\.5"):
        trimming.trim(mesh, np.full(len(mesh.points), 2.0), LIMIT)


# ----------------------------------------------------------------------------------- the cut itself


def test_both_sides_of_a_cut_are_the_whole(rng):
    mesh = shapes.mesh("sphere")
    values = rng.uniform(size=len(mesh.points))
    below = trimming.cut(mesh, values, 0.5)
    above = trimming.cut(mesh, -values, -0.5)
    for part in (below, above):
        assert_sound(part)
    area = meshes.face_areas(mesh).sum()
    assert sum(meshes.face_areas(part).sum() for part in (below, above)) == pytest.approx(area)
    share = meshes.face_areas(above).sum() / area
    assert trimming.far_share(mesh, values, 0.5) == pytest.approx(share)


def test_one_face_is_cut_where_the_value_is_the_limit():
    face = Geometry(np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), None, np.array([[0, 1, 2]]))
    tip = trimming.cut(face, np.array([0.0, 4, 2]), 1.0)
    assert sorted(tip.points.tolist()) == [[0, 0, 0], [0, 0.5, 0], [0.25, 0, 0]]
    rest = trimming.cut(face, np.array([4.0, 0, 2]), 3.0)
    assert sorted(rest.points.tolist()) == [[0, 0.5, 0], [0, 1, 0], [0.25, 0, 0], [1, 0, 0]]
    for part, area in ((tip, 1 / 16), (rest, 1 / 2 - 1 / 16)):
        assert meshes.scaled_face_normals(part.points[part.faces])[:, 2].min() > 0
        assert meshes.face_areas(part).sum() == pytest.approx(area)
        assert len(part.faces) == len(part.points) - 2


def test_values_equal_to_the_limit_make_no_face_without_area(rng):
    mesh = shapes.mesh("sphere")
    for values in (rng.integers(0, 3, len(mesh.points)), 1 + np.arange(len(mesh.points)) % 2,
                   1 + 1e-15 * rng.integers(0, 3, len(mesh.points))):
        part = trimming.cut(mesh, values.astype(float), 1.0)
        assert_sound(part)
        assert meshes.face_areas(part).min() > 1e-5 * meshes.face_areas(mesh).min()
    at_limit = trimming.cut(mesh, np.ones(len(mesh.points)), 1.0)
    assert np.array_equal(at_limit.faces, mesh.faces)


def test_empty_part():
    mesh = shapes.mesh("sphere")
    part = trimming.cut(mesh, np.ones(len(mesh.points)), 0.5)
    assert part.points.shape == part.faces.shape == (0, 3)
    assert meshes.boundary_loops(part) == 0


def test_mesh_that_branches_and_is_open(rng):
    fan = Geometry(rng.uniform(size=(7, 3)), None,
                   np.array([[0, 1, 2], [0, 1, 3], [0, 1, 4], [5, 5, 6]]))  # and one without area
    values = np.array([0.0, 2, 2, 2, 0, 2, 0])
    part = trimming.cut(fan, values, 1.0)
    assert len(part.points) == 3 + 4 + 1  # one on the edge that three faces share
    kept, _ = trimming.trim(fan, values, 1.0)
    assert len(kept.faces) and np.isfinite(kept.points).all()


def test_cut_of_an_int32_mesh_with_many_vertices():
    """surface.extract() returns int32 faces; keys of edges need more."""
    mesh = shapes.mesh("torus")
    assert len(mesh.points) ** 2 > 2**31
    values = mesh.points[:, 2]
    part = trimming.cut(mesh._replace(faces=mesh.faces.astype(np.int32)), values, 0.1)
    assert np.array_equal(part.points, trimming.cut(mesh, values, 0.1).points)
    assert meshes.boundary_loops(part) == 2


# ------------------------------------------------------------------------------------- the measures


def test_share_of_a_sphere_above_a_plane():
    ball = shapes.mesh("sphere")
    assert trimming.far_share(ball, ball.points[:, 2], 0.2) == pytest.approx(0.4, abs=1e-3)


def test_loops():
    assert meshes.boundary_loops(shapes.mesh("sphere")) == 0
    fan = np.array([[0, 1, 2], [0, 1, 3], [0, 1, 4]])  # the edges of its rim meet in 0 and 1
    assert meshes.boundary_loops(Geometry(np.zeros((5, 3)), None, fan)) == 1
    two = np.array([[0, 1, 2], [3, 4, 5]])
    assert meshes.boundary_loops(Geometry(np.zeros((6, 3)), None, two)) == 2


def test_ratio_is_the_distance_over_the_spacing():
    line = np.column_stack([np.arange(100.0), np.zeros((100, 2))])  # the tenth neighbour is 5 away
    vertices = np.array([[50, 5, 0], [50, 0, 0], [50.5, 0, 0]])
    ratio = trimming.distance_ratio(vertices, line)
    np.testing.assert_allclose(ratio, [1, 0, 0.1])
    np.testing.assert_allclose(trimming.distance_ratio(vertices, line, neighbour=3)[0], 5 / 2)
    np.testing.assert_allclose(trimming.distance_ratio(vertices, line, least=50)[0], 0.1)
    assert np.array_equal(trimming.distance_ratio(vertices, np.repeat(line, 20, axis=0)), ratio)


def test_outlier_supports_no_more_than_a_point_of_the_surface(rng):
    plate = np.column_stack([rng.uniform(size=(5000, 2)), np.zeros(5000)])
    cloud = np.concatenate([plate, [[0.5, 0.5, 1]]])
    near, far = trimming.distance_ratio(np.array([[0.5, 0.5, 1.01], [0.5, 0.5, 1.2]]), cloud)
    assert near < LIMIT < 3 < far


@pytest.mark.parametrize("n", [1, 2, 5, 11])
def test_ratio_of_few_points(n, rng):
    cloud = rng.uniform(size=(n, 3))
    ratio = trimming.distance_ratio(np.concatenate([cloud, cloud + 100]), cloud)
    assert np.isfinite(ratio).all() and (ratio[:n] == 0).all() and (ratio[n:] > LIMIT).all()
    equal = np.repeat(cloud[:1], 20, axis=0)
    assert trimming.distance_ratio(cloud[:1] + 1, equal, least=0.5)[0] == pytest.approx(12**0.5)


# ---------------------------------------------------------------------------------- smoothed rims


def test_a_jagged_rim_becomes_smooth_and_stays_in_place(tube):
    """A tube cut along a zigzag: the rim becomes a circle of the same place, on the tube, and no
    face turns over."""
    angle = np.arctan2(tube.points[:, 1], tube.points[:, 0])
    height = 0.5 + 0.02 * np.sin(30 * angle)
    kept = trimming.cut(tube, np.abs(tube.points[:, 2]) / height, 1.0)
    smooth = trimming.smooth_rims(kept, np.zeros(len(kept.points), bool))
    assert_sound(smooth)
    before, after = (np.abs(rim_points(mesh)[..., 2]).ravel() for mesh in (kept, smooth))
    assert before.std() > 0.012 and after.std() < 0.004
    assert after.mean() == pytest.approx(before.mean(), abs=0.003)
    assert np.abs(np.linalg.norm(smooth.points[:, :2], axis=1) - RADIUS).max() < 0.004
    turned = [meshes.scaled_face_normals(mesh.points[mesh.faces]) for mesh in (kept, smooth)]
    assert ((turned[0] * turned[1]).sum(axis=1) > 0).all()
    deep = np.abs(kept.points[:, 2]) < 0.2
    assert np.abs(smooth.points - kept.points)[deep].max() < 1e-3


def test_fixed_rims_and_closed_meshes_stay(tube):
    wave = 0.02 * np.sin(30 * tube.points[:, 0])
    kept = trimming.cut(tube, np.abs(tube.points[:, 2] + wave), 0.5)
    upper = kept.points[:, 2] > 0
    smooth = trimming.smooth_rims(kept, upper)
    moved = np.abs(smooth.points - kept.points).max(axis=1)
    assert moved[upper].max() == 0 and moved[~upper].max() > 0.001
    ball = shapes.mesh("sphere")
    assert np.array_equal(trimming.smooth_rims(ball, np.zeros(len(ball.points), bool)).points,
                          ball.points)


def test_a_small_round_rim_keeps_its_size():
    ball = shapes.mesh("sphere")
    kept = trimming.cut(ball, -ball.points[:, 2], -0.2)  # the part above 0.2
    rim = rim_points(trimming.smooth_rims(kept, np.zeros(len(kept.points), bool)))
    radius = np.linalg.norm(rim[..., :2], axis=-1)
    assert radius.mean() == pytest.approx(np.linalg.norm(rim_points(kept)[..., :2], axis=-1).mean(),
                                          rel=0.005)
