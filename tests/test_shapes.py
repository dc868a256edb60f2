"""The built-in shapes: closed, with the genus they promise, exact points and normals."""

from igr.geometry import metrics, neighbours, shapes
from igr.geometry.frames import Frame

import numpy as np
import pytest
import trimesh


@pytest.mark.parametrize("name, genus", [("sphere", 0), ("torus", 1), ("knot", 1), ("sponge", 5),
                                         ("letter", 0)])
def test_mesh_is_closed_and_faces_outwards(name, genus):
    mesh = shapes.mesh(name)
    solid = trimesh.Trimesh(mesh.points, mesh.faces, process=False)
    assert solid.is_watertight and solid.is_winding_consistent and solid.volume > 0
    assert solid.euler_number == 2 - 2 * genus


@pytest.mark.parametrize("name", shapes.SHAPES)
def test_samples_lie_on_the_surface_with_outward_normals(name):
    cloud = shapes.sample(name, 3000, seed=1)
    mesh = shapes.mesh(name)
    frame = Frame.of(mesh.points)
    unit = frame.geometry_to_unit(mesh)
    points = frame.to_unit(cloud.points)
    assert neighbours.point_to_surface(points, unit).max() < 1.2e-4
    np.testing.assert_allclose(np.linalg.norm(cloud.normals, axis=1), 1)
    solid = trimesh.Trimesh(unit.points, unit.faces, process=False)
    face = neighbours.nearest(points, solid.triangles_center)[1]
    agree = (solid.face_normals[face] * cloud.normals).sum(axis=1)
    assert np.median(agree) > 0.99


def test_samples_of_a_tube_are_even_by_area():
    """The outer half of the torus has more than half of the area, so it has more points."""
    points = shapes.sample("torus", 50_000).points
    outer = np.linalg.norm(points[:, :2], axis=1) > 1
    assert outer.mean() == pytest.approx(0.5 + 0.4 / np.pi, abs=0.01)


def test_seeds_repeat():
    a = shapes.sample("knot", 50, 3)
    b = shapes.sample("knot", 50, 3)
    assert np.array_equal(a.points, b.points)
    assert not np.array_equal(a.points, shapes.sample("knot", 50, 4).points)


def test_letter_has_no_symmetry():
    """Every turn and mirror of the axes moves the letter, so it shows a turned frame."""
    mesh = shapes.mesh("letter")
    unit = Frame.of(mesh.points).to_unit(mesh.points)
    for signs in np.ndindex(2, 2, 2):
        for order in [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]:
            if signs != (0, 0, 0) or order != (0, 1, 2):
                turned = unit[:, order] * (1 - 2 * np.array(signs))
                assert metrics.chamfer_hausdorff(turned, unit)["hausdorff"] > 0.05
