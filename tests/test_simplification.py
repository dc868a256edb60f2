"""Fewer faces: how many, how near, and that changes of the topology are told."""

from helper import UserError
from igr.geometry import meshes, neighbours, shapes
from igr.geometry.frames import Geometry
from igr.refinement.simplification import simplified
from igr.view import viewer

import numpy as np
import pytest
import trimesh


def test_a_knot_keeps_its_place_and_topology():
    mesh = shapes.mesh("knot")
    small, text = simplified(mesh, 3000, scale=2.0)
    found = meshes.topology(small)
    assert found["faces"] <= 3000 and found["watertight"] and found["euler_characteristic"] == 0
    samples = meshes.sample_mesh(mesh, 20_000, np.random.default_rng(1)).points
    error = neighbours.point_to_surface(samples, small).mean()
    assert error < 0.005 * np.ptp(mesh.points, axis=0).max() / 2
    said = float(text.split("mean distance ")[1].split()[0])
    assert said == pytest.approx(2 * error, rel=0.05) and text.endswith("watertight")
    assert text.startswith(f"{found['faces']} of {len(mesh.faces)} faces")


def test_a_lost_piece_is_told(rng):
    """A speck of a tetrahedron beside a sphere goes before the sphere does."""
    ball = shapes.mesh("sphere")
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]) * 1e-4 + 3
    speck = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]]) + len(ball.points)
    both = Geometry(np.concatenate([ball.points, corners]), None,
                    np.concatenate([ball.faces, speck]))
    small, text = simplified(both, 200)
    assert meshes.topology(small)["components"] == 1
    assert "; changed: " in text and "components 2 -> 1" in text


def test_an_open_mesh_is_not_called_watertight():
    ball = shapes.mesh("sphere")
    cap = meshes.keep_faces(ball, ball.points[ball.faces][:, :, 2].min(axis=1) > 0)
    small, text = simplified(cap, 500)
    assert meshes.topology(small)["boundary_edges"] > 0 and "watertight" not in text


def test_too_few_faces_to_simplify():
    mesh = shapes.mesh("letter")
    with pytest.raises(UserError, match="has 36 faces, not more than 36"):
        simplified(mesh, 36)


def test_clusters_keep_place_and_colours():
    """Half a sphere red, half of it blue; a mesh of few faces is left as it is."""
    ball = trimesh.creation.icosphere(5, 1.0)
    colors = np.where(ball.vertices[:, :1] > 0, (1.0, 0, 0), (0, 0, 1.0))
    mesh = Geometry(np.array(ball.vertices), None, np.array(ball.faces), colors)
    small = viewer.thinned(mesh, 2000)
    assert 1000 < len(small.faces) <= 2000
    assert np.abs(np.linalg.norm(small.points, axis=1) - 1).max() < 0.02
    away = np.abs(small.points[:, 0]) > 0.1
    assert away.any() and (small.colors[away, 0] == (small.points[away, 0] > 0)).all()
    assert viewer.thinned(mesh, len(mesh.faces)) is mesh


def test_a_mesh_without_area_is_thinned():
    line = Geometry(np.arange(300.0).reshape(100, 3), None, np.arange(99).reshape(33, 3))
    assert len(viewer.thinned(line, 10).faces) <= 10
