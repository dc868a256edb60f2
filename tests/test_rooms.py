"""The building of benchmarks/stress/rooms.py: its points lie on it, its distances are distances."""

import json

from benchmarks.stress import rooms, scenes
from igr.geometry import meshes, neighbours
from igr.geometry.frames import Geometry

import numpy as np
import pytest


@pytest.fixture(scope="module")
def solids():
    return rooms.building((2, 1, 1))


def test_points_are_on_the_surface_and_everywhere(solids, rng):
    points = solids.sample(60_000, rng)
    assert len(points) == 60_000 and np.abs(solids.depth(points)).max() < 1e-9
    other = solids.sample(60_000, np.random.default_rng(1))
    reach = neighbours.nearest(other, points)[0]
    assert reach.max() < 0.6 and np.median(reach) < 0.05  # no side is left out


def test_distances_are_those_to_many_points(solids, rng):
    """In the air, where the least distance to a solid is that to the union, and a little inside."""
    dense = neighbours.tree_of(solids.sample(400_000, rng))
    places = rng.uniform([-0.5, -0.5, -0.5], [8.5, 4.5, 3.3], (3000, 3))
    depth = solids.depth(places)
    near = neighbours.search(dense, places)[0]
    air = depth > 0
    assert 0.5 < air.mean() < 0.95
    assert (depth[air] <= near[air] + 1e-9).all() and np.median(near[air] - depth[air]) < 0.01
    shallow = (depth < 0) & (depth > -0.02)
    assert shallow.any() and (near[shallow] + 1e-9 >= -depth[shallow]).all()
    assert np.median(near[shallow] + depth[shallow]) < 0.02


def test_a_wall_with_a_door_is_one_solid(solids):
    """Boxes that continue each other leave no step: a little inside the head of the door's frame,
    the nearest surface is the wall's own side."""
    x = rooms.ROOM[0]  # of the inner wall's middle
    places = np.array([[x + rooms.WALL / 2 - 0.01, y, 2.5] for y in np.linspace(0.3, 3.7, 200)])
    assert solids.depth(places) == pytest.approx(np.full(200, -0.01))


def test_measures_of_a_mesh(solids):
    """A room's own box, moved: far from most of the furniture, near to the outer walls."""
    corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)], float)
    low, high = np.full(3, -0.1), np.array([8.1, 4.1, 2.9])
    faces = np.array([[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1],
                      [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]])
    shell = Geometry(low + corners * (high - low), None, faces)
    assert meshes.topology(shell)["watertight"]
    found = rooms.measured(solids, shell)
    assert found["mesh_to_truth"] < 1e-6 and found["wrong"] == 0 and found["boundary_edges"] == 0
    assert found["truth_to_mesh"] > 0.1 and found["missing"] > 0.3


def test_the_page_has_the_measured_rows():
    page = scenes.PAGE.read_text()
    assert scenes.render(page, json.loads(scenes.ROWS.read_text())) == page
