"""The unit frame, and shapes that travel into it and back."""

from helper import UserError
from igr.geometry import frames, shapes
from igr.geometry.frames import Frame, Geometry

import numpy as np
import pytest


def test_frame_fills_the_unit_cube_and_comes_back(rng, monkeypatch):
    points = rng.uniform(-1, 1, (500, 3)) * [3, 1, 2] + [10, -20, 1e6]
    frame = Frame.of(points)
    unit = frame.to_unit(points)
    assert np.abs(unit).max() == pytest.approx(1) and np.ptp(unit[:, 0]) == pytest.approx(2)
    np.testing.assert_allclose(frame.to_world(unit), points, rtol=1e-12)
    assert np.array_equal(unit, (points - frame.center) / frame.scale)
    monkeypatch.setattr(frames, "BLOCK", 99)
    assert np.array_equal(frame.to_unit(points), unit)
    assert np.array_equal(frame.to_unit(points, np.float32), unit.astype(np.float32))
    with pytest.raises(UserError, match="equal"):
        Frame.of(np.ones((4, 3)))


def test_a_geometry_keeps_its_normals_and_faces():
    mesh = shapes.mesh("letter")
    mesh = mesh._replace(points=3 * mesh.points + [5, 6, 7], normals=2 * mesh.points)
    frame = Frame.of(mesh.points)
    unit = frame.geometry_to_unit(mesh)
    assert np.array_equal(unit.points, frame.to_unit(mesh.points))
    assert np.array_equal(unit.normals, mesh.normals) and np.array_equal(unit.faces, mesh.faces)
    np.testing.assert_allclose(frame.geometry_to_world(unit).points, mesh.points, rtol=1e-12)


def test_origins_move_with_the_points_and_parts_keep_all():
    points = np.arange(12.0).reshape(4, 3)
    cloud = Geometry(points, None, None, points / 12, points[:, 0], points + 1)
    frame = Frame.of(points)
    unit = frame.geometry_to_unit(cloud)
    assert np.allclose(unit.origins, frame.to_unit(cloud.origins))
    assert np.allclose(frame.geometry_to_world(unit).origins, cloud.origins)
    part = cloud.part(np.array([False, True, False, True]))
    assert part.faces is None and part.normals is None
    for name in ("points", "colors", "intensity", "origins"):
        assert np.array_equal(getattr(part, name), getattr(cloud, name)[1::2])


def test_vertices_that_no_face_uses_are_not_on_the_surface():
    mesh = shapes.mesh("letter")
    more = mesh._replace(points=np.append(mesh.points, [[50.0, 0, 0]], axis=0))
    assert np.array_equal(more.surface_points, mesh.points)
