"""Components, topology and cutting, on meshes whose parts are known."""

from igr import meshes, shapes
from igr.frames import Geometry

import numpy as np
import pytest


def two(scale=0.1):
    """A torus and a smaller sphere beside it in one mesh."""
    torus, ball = shapes.mesh("torus"), shapes.mesh("sphere")
    return Geometry(
        np.concatenate([torus.points, scale * ball.points + [3, 0, 0]]), None,
        np.concatenate([torus.faces, ball.faces + len(torus.points)]),
    ), len(torus.faces)


def test_components_and_topology():
    mesh, n = two()
    label = meshes.components(mesh)
    assert len(set(label[:n])) == 1 and len(set(label[n:])) == 1 and label[0] != label[-1]
    found = meshes.topology(mesh)
    assert found["components"] == 2 and found["euler_characteristic"] == 0 + 2
    assert found["watertight"] and found["boundary_edges"] == found["nonmanifold_edges"] == 0


def test_topology_of_an_open_and_of_a_branching_mesh():
    fan = np.array([[0, 1, 2], [0, 1, 3], [0, 1, 4]])  # three faces on one edge
    found = meshes.topology(Geometry(np.random.default_rng(0).uniform(size=(5, 3)), None, fan))
    assert found["nonmanifold_edges"] == 1 and found["boundary_edges"] == 6
    assert not found["watertight"] and found["euler_characteristic"] == 5 - 7 + 3


def test_large_components_by_area():
    mesh, n = two()
    assert meshes.face_areas(mesh)[:n].sum() == pytest.approx(4 * np.pi**2 * 0.4, rel=1e-3)
    share = 0.04 * np.pi / (0.04 * np.pi + 1.6 * np.pi**2)
    for fraction, kept in ((1.0, n), (1.1 * share, n), (0.9 * share, len(mesh.faces))):
        keep = meshes.large_components(mesh, fraction)
        assert keep.sum() == kept and keep[:n].all()
    rest = meshes.keep_faces(mesh, meshes.large_components(mesh, 1.0))
    assert len(rest.points) == len(shapes.mesh("torus").points)
    assert meshes.topology(rest)["watertight"]


def test_near_keeps_what_the_cloud_covers():
    mesh = shapes.mesh("sphere")
    upper = mesh.points[mesh.points[:, 2] > 0]
    rest = meshes.keep_faces(mesh, meshes.faces_near(mesh, upper, 0.05))
    assert -0.06 < rest.points[:, 2].min() < 0 and meshes.topology(rest)["boundary_edges"] > 0
