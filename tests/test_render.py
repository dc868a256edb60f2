"""Pictures show what is there: the silhouette, the side that is lit, the nearer of two."""

from geometry import Geometry
import render
import shapes

import numpy as np
import pytest

SIZE = 120


def covered(image):
    return (image < 250).any(axis=2)


@pytest.mark.parametrize("azimuth, elevation", [(0, 0), (40, 20), (180, -60), (90, 90)])
def test_silhouette_of_a_sphere(azimuth, elevation):
    mesh = shapes.mesh("sphere")
    camera = render.Camera.around(mesh.points, azimuth, elevation, aspect=1)
    seen = covered(render.mesh(mesh, camera, SIZE, SIZE))
    rows, columns = np.nonzero(seen)
    distance = np.linalg.norm(camera.eye)
    radius = 1 / np.sqrt(distance**2 - 1) / np.tan(np.radians(15)) * SIZE / 2
    assert seen.sum() == pytest.approx(np.pi * radius**2, rel=0.03)
    assert rows.mean() == pytest.approx(SIZE / 2 - 0.5, abs=0.6)
    assert columns.mean() == pytest.approx(SIZE / 2 - 0.5, abs=0.6)


def test_projection_of_a_known_corner():
    """A small ball at a known place comes out at the pixel where the pinhole sees it."""
    ball = shapes.mesh("sphere")
    camera = render.Camera(np.array([0, 0, 10.0]), np.zeros(3), np.array([0, 1.0, 0]), fov=30)
    at = np.array([1.0, 0.5, 0])
    image = render.mesh(ball._replace(points=0.1 * ball.points + at), camera, 200, 100)
    rows, columns = np.nonzero(covered(image))
    focal = 50 / np.tan(np.radians(15))
    assert columns.mean() == pytest.approx(100 + focal * at[0] / 10 - 0.5, abs=0.7)
    assert rows.mean() == pytest.approx(50 - focal * at[1] / 10 - 0.5, abs=0.7)


def test_light_comes_from_above():
    mesh = shapes.mesh("sphere")
    image = render.mesh(mesh, render.Camera.around(mesh.points, 0, 0), SIZE, SIZE).astype(float)
    assert image[40, 60].mean() > image[80, 60].mean() + 20


def test_a_face_is_lit_on_both_sides():
    plate = Geometry(np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0.0]]), None,
                     np.array([[0, 1, 2], [0, 2, 3]]))
    camera = render.Camera.around(plate.points, 0, 0)
    front = render.mesh(plate, camera, 40, 40)
    back = render.mesh(plate._replace(faces=plate.faces[:, ::-1]), camera, 40, 40)
    assert np.abs(front.astype(int) - back).max() <= 1 and front[20, 20].mean() > 100


def test_far_from_the_origin_the_picture_is_the_same():
    mesh = shapes.mesh("letter")
    pictures = [render.mesh(m, render.Camera.around(m.points), SIZE, SIZE)
                for m in (mesh, mesh._replace(points=mesh.points + 1e5))]
    assert (np.abs(pictures[0].astype(int) - pictures[1]) > 3).mean() < 0.002


def test_cloud_covers_what_its_mesh_covers():
    cloud, mesh = shapes.sample("knot", 20_000), shapes.mesh("knot")
    camera = render.Camera.around(mesh.points, aspect=1)
    of_cloud = covered(render.cloud(cloud, camera, 2 * SIZE, 2 * SIZE))
    of_mesh = covered(render.mesh(mesh, camera, 2 * SIZE, 2 * SIZE))
    assert (of_cloud & ~of_mesh).mean() < 0.03 and (of_mesh & ~of_cloud).mean() < 0.03
