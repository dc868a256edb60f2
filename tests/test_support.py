"""Pieces of a mesh that points support stay, ghosts go."""

from igr.geometry import shapes, supported_components
from igr.geometry.frames import Geometry

import numpy as np


def together(*parts):
    """Meshes as one, each (mesh, scale, shift)."""
    points, faces, n = [], [], 0
    for mesh, scale, shift in parts:
        points.append(scale * mesh.points + shift)
        faces.append(mesh.faces + n)
        n += len(mesh.points)
    return Geometry(np.concatenate(points), None, np.concatenate(faces))


def test_ghosts_go_and_small_pieces_with_points_stay(rng):
    ball = shapes.mesh("sphere")
    mesh = together((ball, 0.5, 0.0), (ball, 0.05, [0.9, 0, 0]), (ball, 0.3, [0, 0.95, 0]),
                    (ball, 0.01, [0.52, 0, 0]))
    sample = shapes.sample("sphere", 5000).points
    points = np.concatenate([0.5 * sample, 0.05 * sample[:50] + [0.9, 0, 0]])
    kept = supported_components.supported_faces(mesh, points).reshape(4, -1)
    assert kept[0].all() and kept[1].all() and not kept[2].any() and not kept[3].any()


def test_one_piece_always_stays(rng):
    mesh = together((shapes.mesh("sphere"), 0.5, 0.0))
    assert supported_components.supported_faces(mesh, np.array([[5.0, 5, 5]])).all()


def test_a_point_too_far_for_numbers_supports_nothing():
    mesh = together((shapes.mesh("sphere"), 0.5, 0.0), (shapes.mesh("sphere"), 0.05, [0.9, 0, 0]))
    points = np.concatenate([0.5 * shapes.sample("sphere", 500).points, [[1e200, 0, 0]] * 9])
    kept = supported_components.supported_faces(mesh, points).reshape(2, -1)
    assert kept[0].all() and not kept[1].any()
