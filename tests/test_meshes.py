"""Samples, components, topology and cutting, on meshes whose parts are known."""

from helper import UserError
from igr.geometry import meshes, shapes
from igr.geometry.frames import Geometry

import numpy as np
import pytest


def torus_and_ball(scale=0.1):
    """A torus and a smaller sphere beside it in one mesh; and how many faces the torus has."""
    torus = shapes.mesh("torus")
    ball = shapes.mesh("sphere")
    return Geometry(
        np.concatenate([torus.points, scale * ball.points + [3, 0, 0]]), None,
        np.concatenate([torus.faces, ball.faces + len(torus.points)]),
    ), len(torus.faces)


def test_components_and_topology():
    mesh, n = torus_and_ball()
    label = meshes.components(mesh)
    assert len(set(label[:n])) == 1 and len(set(label[n:])) == 1 and label[0] != label[-1]
    found = meshes.topology(mesh)
    assert found["components"] == 2 and found["euler_characteristic"] == 0 + 2
    assert found["watertight"] and found["boundary_edges"] == found["nonmanifold_edges"] == 0
    assert found["genus"] == 1 and found["rims"] == 0


def test_volume_has_the_sign_of_the_faces():
    mesh = shapes.mesh("sphere")
    far = mesh._replace(points=4 * mesh.points + [30, -20, 10])
    assert meshes.signed_volume(far) == pytest.approx(4 / 3 * np.pi / 8, rel=1e-3)  # in sides
    turned = far._replace(faces=far.faces[:, ::-1])
    assert meshes.signed_volume(turned) == pytest.approx(-meshes.signed_volume(far))
    assert meshes.topology(turned)["inside_out"] is True
    assert meshes.topology(far)["inside_out"] is False
    opened = meshes.keep_faces(turned, np.arange(len(turned.faces)) > 0)
    open_topology = meshes.topology(opened)
    assert open_topology["inside_out"] is None and open_topology["genus"] is None
    assert open_topology["rims"] == 1


def test_topology_of_a_mesh_that_is_open_and_branches():
    fan = np.array([[0, 1, 2], [0, 1, 3], [0, 1, 4]])  # three faces on one edge
    found = meshes.topology(Geometry(np.random.default_rng(0).uniform(size=(5, 3)), None, fan))
    assert found["nonmanifold_edges"] == 1 and found["boundary_edges"] == 6
    assert not found["watertight"] and found["euler_characteristic"] == 5 - 7 + 3


def test_large_components_by_area():
    mesh, n = torus_and_ball()
    assert meshes.face_areas(mesh)[:n].sum() == pytest.approx(4 * np.pi**2 * 0.4, rel=1e-3)
    share = 0.04 * np.pi / (0.04 * np.pi + 1.6 * np.pi**2)
    for fraction, kept in ((1.0, n), (1.1 * share, n), (0.9 * share, len(mesh.faces))):
        keep = meshes.large_components(mesh, fraction)
        assert keep.sum() == kept and keep[:n].all()
    rest = meshes.keep_faces(mesh, meshes.large_components(mesh, 1.0))
    assert len(rest.points) == len(shapes.mesh("torus").points)
    assert meshes.topology(rest)["watertight"]


def test_samples_lie_on_the_mesh_evenly():
    tetra = Geometry(np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]]), None,
                     np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]]))
    cloud = meshes.sample_mesh(tetra, 40_000, np.random.default_rng(0))
    on_slant = np.isclose(cloud.points.sum(axis=1), 1)
    assert (on_slant | (np.abs(cloud.points) < 1e-12).any(axis=1)).all()
    share = np.sqrt(3) / 2 / (np.sqrt(3) / 2 + 1.5)
    assert on_slant.mean() == pytest.approx(share, abs=0.01)
    np.testing.assert_allclose(cloud.normals[on_slant & (cloud.points > 0).all(axis=1)],
                               np.sqrt(1 / 3), atol=1e-9)


def test_areas_do_not_depend_on_the_blocks(monkeypatch):
    mesh = shapes.mesh("torus")
    whole = meshes.face_areas(mesh)
    monkeypatch.setattr(meshes, "BLOCK", 1000)
    assert np.array_equal(meshes.face_areas(mesh), whole)


def test_a_mesh_without_area_has_no_samples():
    flat = Geometry(np.zeros((3, 3)), None, np.array([[0, 1, 2]]))
    with pytest.raises(UserError, match="no area"):
        meshes.sample_mesh(flat, 5, np.random.default_rng(0))
    with pytest.raises(UserError, match="no area"):
        meshes.sample_poisson(flat, 5, 0)


def test_turn_against_reverses_only_what_points_along():
    normals = np.array([[0, 0, 1.0], [0, 0, -1.0]])
    view = np.array([[0, 0, -1.0], [1.0, 0, -1.0]])
    assert meshes.turn_against(normals, view).tolist() == [[0, 0, 1], [0, 0, 1]]


def test_moved_points_turn_no_face_over(rng):
    ball = shapes.mesh("sphere")
    before = meshes.scaled_face_normals(ball.points[ball.faces])
    small = 1e-6 * rng.standard_normal(ball.points.shape)
    assert np.array_equal(meshes.moved(ball, small).points, ball.points + small)
    rough = 0.01 * rng.standard_normal(ball.points.shape)  # an edge is 0.02 long
    after = meshes.scaled_face_normals((ball.points + rough)[ball.faces])
    assert ((before * after).sum(axis=1) <= 0).any()
    found = meshes.moved(ball, rough)
    after = meshes.scaled_face_normals(found.points[ball.faces])
    assert ((before * after).sum(axis=1) > 0).all()
    assert np.abs(found.points - ball.points).mean() > 0.002
