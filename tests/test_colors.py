"""Colours of distances, in the reference's frame and on a scale that fits."""

from helper import UserError
from igr.geometry import shapes
from igr.geometry.frames import Frame, Geometry
from igr.refinement import coloring
from igr.view import colors

import numpy as np
import pytest


def test_distances_are_in_the_reference_frame():
    ball = shapes.mesh("sphere")
    reference = ball._replace(points=7 * ball.points + 3)  # unit frame: half its longest side is 7
    larger = ball._replace(points=7.07 * ball.points + 3)
    distances = colors.reference_distances(larger, reference)
    assert np.abs(distances - 0.01).max() < 0.0002
    to_cloud = colors.reference_distances(larger, Geometry(reference.points))
    assert np.allclose(to_cloud, distances, atol=0.0002)
    assert colors.scale_top(distances) == 0.02


@pytest.mark.parametrize("distances, top", [
    ([0.01] * 9, 0.01), ([0.0101] * 9, 0.02), ([0.3] * 9, 0.5), ([7.0] * 9, 10), ([0.0] * 9, 1e-6),
    ([0.01] * 999 + [9.0], 0.01)])
def test_scale_ends_at_a_round_number_above_nearly_all(distances, top):
    assert colors.scale_top(np.array(distances)) == pytest.approx(top)


def test_color_map_ends_at_its_top():
    ends = colors.color_map(np.array([-1, 0, 2.0, 3]), 2.0)
    assert (ends[0] == ends[1]).all() and (ends[2] == ends[3]).all()
    assert np.abs(ends[1] - ends[2]).max() > 0.5
    assert np.isfinite(colors.color_map(np.zeros(3), 0.0)).all()


@pytest.mark.parametrize("name", ["sphere", "sponge"])
def test_a_mesh_gets_the_colours_of_its_cloud(name):
    """A texture of two waves over the shape comes back within 0.02 of its range."""
    def texture(points):
        return 0.5 + 0.5 * np.sin(6 * points[:, [1, 2, 0]])

    frame = Frame.of(shapes.mesh(name).points)
    mesh, cloud = map(frame.geometry_to_unit, (shapes.mesh(name), shapes.sample(name, 20_000)))
    mesh = mesh._replace(points=mesh.points * 1.001)  # near the points, not on them
    colored = coloring.carry_colors(cloud._replace(colors=texture(cloud.points)), mesh)
    assert np.abs(colored.colors - texture(mesh.points)).mean() < 0.02
    assert np.array_equal(colored.points, mesh.points) and colored.faces is mesh.faces


@pytest.mark.parametrize("n", [1, 2, 5])
def test_few_points_give_their_colours_too(n):
    cloud = Geometry(np.arange(3.0 * n).reshape(n, 3), colors=np.full((n, 3), 0.25))
    assert np.allclose(coloring.carry_colors(cloud, shapes.mesh("sphere")).colors, 0.25)


def test_colours_of_the_file():
    cloud = Geometry(np.eye(3), colors=np.eye(3), intensity=np.arange(3))
    assert colors.vertex_colors(cloud, "file").tolist() == np.eye(3).tolist()
    greys = colors.vertex_colors(cloud._replace(colors=None), "file")
    assert greys[0].tolist() == [0] * 3 and greys[2].tolist() == [1] * 3
    assert colors.greys(np.ones(3, np.float32)).tolist() == np.zeros((3, 3)).tolist()
    with pytest.raises(UserError, match="neither colours nor intensities"):
        colors.vertex_colors(Geometry(np.eye(3)), "file")


def test_vertex_colors_of_normals():
    """x, y, z in [-1, 1] become red, green, blue, of a cloud's own normals of any length, too."""
    ball = shapes.mesh("sphere")
    wanted = (ball.points + 1) / 2
    assert np.allclose(colors.vertex_colors(ball, "normal"), wanted, atol=0.01)
    cloud = Geometry(ball.points, 5 * ball.points)
    assert np.allclose(colors.vertex_colors(cloud, "normal"), wanted, atol=0.01)
