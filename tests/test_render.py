"""Pictures show what is there: outline, colour, light, the nearer of two, all in its place."""

from helper import UserError
from igr.geometry import meshes, shapes
from igr.geometry.frames import Geometry
from igr.view import render
from igr.view.cameras import Camera, View
from igr.view.colors import CLAY

import numpy as np
import pytest

SIZE = 120
PLATE = Geometry(np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0.0]]), None,
                 np.array([[0, 1, 2], [0, 2, 3]]))


def drawn(shape, colors=CLAY, camera=None, **view):
    """A square picture of a shape, by a camera around it where none is given."""
    view = View(**{"size": (SIZE, SIZE), **view})
    return render.shape(shape, camera or view.camera(shape), view, colors)


def opacity(shape, **view):
    """drawn()'s alpha, from 0 to 1, on a transparent background."""
    return drawn(shape, background="transparent", **view)[..., 3] / 255


def covered(image):
    return (image < 250).any(axis=2)


def linear(image):
    """Light (..., 3) of a picture's pixels."""
    return (image[..., :3] / 255.0) ** 2.2


def outline(mesh, camera, width, height):
    """Coverage of the picture by filling every projected triangle, without the renderer."""
    from PIL import Image, ImageDraw

    local = (mesh.points - camera.eye) @ camera.axes().T
    focal = height * 4 / 2 / np.tan(np.radians(camera.fov / 2))  # four times larger: then averaged
    x = width * 2 - focal * local[:, 0] / local[:, 2]
    y = height * 2 + focal * local[:, 1] / local[:, 2]
    image = Image.new("L", (4 * width, 4 * height))
    draw = ImageDraw.Draw(image)
    for face in mesh.faces:
        draw.polygon([(x[v], y[v]) for v in face], fill=255)
    return np.asarray(image).reshape(height, 4, width, 4).mean(axis=(1, 3)) / 255


# --- where things are


@pytest.mark.parametrize("name, azimuth, elevation, up", [
    ("letter", 30, 15, "y"), ("letter", 200, -40, "z"), ("sponge", 40, 20, "x"),
    ("letter", 0, 90, "y"), ("letter", 10, -90, "-z")])
def test_outline_of_a_mesh(name, azimuth, elevation, up):
    mesh = shapes.mesh(name)
    view = dict(azimuth=azimuth, elevation=elevation, up=up, size=(160, SIZE))
    alpha = opacity(mesh, **view)
    true = outline(mesh, View(**view).camera(mesh), 160, SIZE)
    assert np.abs(alpha - true).mean() < 0.006 and true.mean() > 0.1
    assert not true[0].any() and not true[-1].any()  # framed
    assert not true[:, 0].any() and not true[:, -1].any()
    assert true.any(axis=0).mean() > 0.7 or true.any(axis=1).mean() > 0.7


@pytest.mark.parametrize("azimuth, elevation", [(0, 0), (40, 20), (180, -60), (90, 90)])
def test_silhouette_of_a_sphere(azimuth, elevation):
    mesh = shapes.mesh("sphere")
    view = View(azimuth, elevation, size=(SIZE, SIZE))
    camera = view.camera(mesh)
    seen = covered(render.shape(mesh, camera, view))
    rows, columns = np.nonzero(seen)
    distance = np.linalg.norm(camera.eye)
    radius = 1 / np.sqrt(distance**2 - 1) / np.tan(np.radians(15)) * SIZE / 2
    assert seen.sum() == pytest.approx(np.pi * radius**2, rel=0.03)
    assert rows.mean() == pytest.approx(SIZE / 2 - 0.5, abs=0.6)
    assert columns.mean() == pytest.approx(SIZE / 2 - 0.5, abs=0.6)


def test_projection_of_a_known_corner():
    """A small ball at a known place comes out at the pixel where the pinhole sees it."""
    ball = shapes.mesh("sphere")
    camera = Camera(np.array([0, 0, 10.0]), np.zeros(3), np.array([0, 1.0, 0]), fov=30)
    at = np.array([1.0, 0.5, 0])
    image = drawn(ball._replace(points=0.1 * ball.points + at), camera=camera, size=(200, 100))
    rows, columns = np.nonzero(covered(image))
    focal = 50 / np.tan(np.radians(15))
    assert columns.mean() == pytest.approx(100 + focal * at[0] / 10 - 0.5, abs=0.7)
    assert rows.mean() == pytest.approx(50 - focal * at[1] / 10 - 0.5, abs=0.7)


def test_zoom_enlarges():
    mesh = shapes.mesh("letter")
    sizes = [opacity(mesh, zoom=zoom).sum() for zoom in (0.5, 1)]
    assert sizes[1] == pytest.approx(4 * sizes[0], rel=0.02)


@pytest.mark.parametrize("up, turn", [
    ("z", lambda p: np.roll(p, 1, axis=1)), ("-y", lambda p: p * [1, -1, -1]),
    ("-x", lambda p: np.roll(p * [1, -1, -1], -1, axis=1))])
def test_upward_axis_is_a_turn_of_the_shape(up, turn):
    mesh = shapes.mesh("letter")
    turned = mesh._replace(points=turn(mesh.points))  # its y now points along `up`
    axis = np.eye(3)["xyz".index(up[-1])] * (-1 if up[0] == "-" else 1)
    assert np.allclose(turned.points @ axis, mesh.points[:, 1])
    pictures = [drawn(m, azimuth=20, elevation=30, up=u, ground=True)
                for m, u in ((mesh, "y"), (turned, up))]
    assert np.abs(pictures[0].astype(int) - pictures[1]).max() <= 25
    assert np.abs(pictures[0].astype(int) - pictures[1]).mean() < 2


def test_symmetric_shape_gives_the_same_picture_all_around():
    mesh = shapes.mesh("torus")  # of 262,144 faces
    spread = np.ptp(mesh.points, axis=0)
    up = "xyz"[int(spread.argmin())]  # the axis of its symmetry
    first, second = (drawn(mesh, azimuth=azimuth, elevation=35, up=up).astype(int)
                     for azimuth in (0, 90))
    assert np.abs(first - second).mean() < 1 and covered(first).mean() > 0.1


def test_far_from_the_origin_the_picture_is_the_same():
    mesh = shapes.mesh("letter")
    pictures = [drawn(m) for m in (mesh, mesh._replace(points=mesh.points + 1e5))]
    assert (np.abs(pictures[0].astype(int) - pictures[1]) > 3).mean() < 0.002


# --- light and colour


def test_light_comes_from_above():
    mesh = shapes.mesh("sphere")
    image = drawn(mesh, azimuth=0, elevation=0).astype(float)
    assert image[40, 60].mean() > image[80, 60].mean() + 20


def test_outline_of_a_coarse_ball_is_lit_from_its_own_side():
    """Its smooth normals look away from us there, though its faces do not."""
    import trimesh

    coarse = trimesh.creation.icosphere(subdivisions=2)
    ball = Geometry(np.array(coarse.vertices), None, np.array(coarse.faces))
    camera = View(0, 0, size=(SIZE, SIZE)).camera(ball)
    image, fine = (drawn(m, camera=camera, background="transparent")
                   for m in (ball, shapes.mesh("sphere")))
    both = (image[..., 3] == 255) & (fine[..., 3] == 255)
    off = np.abs(linear(image) - linear(fine)).mean(axis=2)[both]
    assert off.max() < 0.25 and off.mean() < 0.02 and both.sum() > 3000


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1e6, 1e30])
def test_size_does_not_matter(scale):
    mesh = shapes.mesh("letter")
    first, second = (drawn(m) for m in (mesh, mesh._replace(points=scale * mesh.points)))
    assert (np.abs(first.astype(int) - second) > 3).mean() < 0.002


def test_a_mesh_without_area_is_refused():
    flat = Geometry(np.array([[0, 0, 0], [1, 1, 1], [2, 2, 2.0]]), None, np.array([[0, 1, 2]]))
    with pytest.raises(UserError, match="area"):
        drawn(flat)


def test_bands_do_not_show(monkeypatch):
    """A picture made a few rows at a time is the picture made at once."""
    both = (shapes.sample("knot", 3000), shapes.mesh("letter"))
    whole = [drawn(shape, ground=True) for shape in both]
    monkeypatch.setattr(render, "BAND", 5 * SIZE * 4)
    for shape, at_once in zip(both, whole):
        assert (drawn(shape, ground=True) == at_once).all()


def test_a_face_is_lit_on_both_sides():
    front, back = (drawn(PLATE._replace(faces=faces), azimuth=0, elevation=0)
                   for faces in (PLATE.faces, PLATE.faces[:, ::-1]))
    assert np.abs(front.astype(int) - back).max() <= 1 and front[60, 60].mean() > 100


def test_colours_of_vertices_are_blended_over_a_face():
    colors = np.array([[1, 0, 0], [1, 0, 0], [0, 0, 1], [0, 0, 1.0]])  # red below, blue above
    image = linear(drawn(PLATE, colors, azimuth=0, elevation=0))
    rows = np.flatnonzero((image[:, 60] < 0.99).any(axis=1))[4:-4]
    share = image[rows, 60, 0] / (image[rows, 60, 0] + image[rows, 60, 2])
    assert np.allclose(share, np.linspace(share[0], share[-1], len(rows)), atol=0.03)
    assert share[0] < 0.1 < 0.9 < share[-1]


def test_constant_colour_is_that_colour_in_white_light():
    color = np.array([0.2, 0.6, 0.9])
    image = linear(drawn(PLATE, color, azimuth=0, elevation=0))
    seen = image[60, 60]
    assert seen / seen[2] == pytest.approx(color**2.2 / 0.9**2.2, abs=0.02)


def test_sharp_edges_stay_sharp_and_round_shapes_smooth():
    """Each side of a cube has one tone, and a coarse ball keeps one normal a vertex."""
    import trimesh

    cube = trimesh.creation.box()
    ball = trimesh.creation.icosphere(subdivisions=2)
    box = Geometry(np.array(cube.vertices), None, np.array(cube.faces))
    split, origin = meshes.split_creases(box)
    assert len(split.points) == 24 and (split.points == box.points[origin]).all()
    normals = np.abs(meshes.vertex_normals(split))
    assert np.allclose(np.sort(normals, axis=1), [0, 0, 1])
    image = drawn(box, azimuth=30, elevation=20)
    tones = np.unique(image[covered(image)], axis=0, return_counts=True)[1]
    assert np.sort(tones)[-3:].sum() > 0.9 * covered(image).sum()
    round_ = Geometry(np.array(ball.vertices), None, np.array(ball.faces))
    assert len(meshes.split_creases(round_)[0].points) == len(round_.points)


def test_split_is_right_where_faces_are_wound_against_each_other():
    flipped = PLATE._replace(faces=np.array([[0, 1, 2], [0, 3, 2]]))
    image = drawn(flipped, azimuth=0, elevation=0)
    assert np.ptp(image[30:90, 30:90].astype(int), axis=(0, 1)).max() <= 1


def test_occlusion_darkens_a_corner():
    """A plate is darker at the foot of a wall that stands on it than without the wall."""
    wall = PLATE.points[:, [0, 2, 1]] + [0, 0, 1.0]  # on the plane y = 0, towards the camera
    both = Geometry(np.concatenate([PLATE.points, wall]), None,
                    np.concatenate([PLATE.faces, PLATE.faces + 4]))
    camera = Camera(np.array([0, 2.0, 8]), np.zeros(3), np.array([0, 1.0, 0]))
    alone, with_wall = (linear(drawn(m, camera=camera))[:, 60].mean(axis=1)
                        for m in (both._replace(faces=PLATE.faces), both))
    foot = 60 - 3  # just above y = 0
    assert with_wall[foot] < 0.8 * alone[foot]
    assert with_wall[foot - 20] > 0.95 * alone[foot - 20]


def test_ground_shadow_lies_below_and_only_there():
    mesh = shapes.mesh("sphere")
    above = dict(azimuth=0, elevation=20, zoom=0.6)
    bare, shaded = (opacity(mesh, ground=ground, **above) for ground in (False, True))
    rows = np.flatnonzero((bare > 0.98).any(axis=1))
    assert (shaded - bare)[rows[-1] + 1, 60] > 0.2  # where it stands
    assert (shaded == bare)[: rows[0] + 10].all()  # not in the sky
    from_below = [opacity(mesh, azimuth=0, elevation=-20, ground=on) for on in (False, True)]
    assert (from_below[0] == from_below[1]).all()
    cloud = opacity(shapes.sample("sphere", 2000), ground=True, **above)
    below = slice(rows[-1] + 8, None)
    assert np.abs(cloud - shaded)[below].mean() < 0.04 < shaded[below].mean()


def test_transparent_and_white_background_agree():
    mesh = shapes.mesh("letter")
    white, clear = (drawn(mesh, background=name) for name in ("white", "transparent"))
    alpha = clear[..., 3:] / 255
    assert set(np.unique(alpha[0])) == {0} and (alpha == 1).any()
    assert np.abs(linear(clear) * alpha + 1 - alpha - linear(white)).max() < 0.02


# --- clouds


def test_cloud_covers_what_its_mesh_covers():
    cloud = shapes.sample("knot", 20_000)
    mesh = shapes.mesh("knot")
    camera = View(size=(SIZE, SIZE)).camera(mesh)
    of_cloud, of_mesh = (covered(drawn(shape, camera=camera, size=(2 * SIZE, 2 * SIZE)))
                         for shape in (cloud, mesh))
    assert (of_cloud & ~of_mesh).mean() < 0.06 and (of_mesh & ~of_cloud).mean() < 0.005


@pytest.mark.parametrize("with_normals", [False, True])
def test_nearer_points_hide_farther_ones(rng, with_normals):
    """A red plane of points hides a blue one behind it, in whatever order the points come."""
    side = np.stack(np.meshgrid(np.linspace(-1, 1, 60), np.linspace(-1, 1, 60)), -1).reshape(-1, 2)
    points = np.concatenate([np.insert(side, 2, z, axis=1) for z in (0.5, -0.5)])
    colors = np.repeat([[1.0, 0, 0], [0, 0, 1.0]], len(side), axis=0)
    order = rng.permutation(len(points))
    normals = np.tile([0, 0, 1.0], (len(points), 1)) if with_normals else None
    image = drawn(Geometry(points[order], normals), colors[order], azimuth=0, elevation=0)
    middle = image[40:80, 40:80].astype(int)
    assert (middle[..., 0] > middle[..., 2] + 60).all()


def test_discs_of_a_cloud_are_lit_as_the_surface():
    camera = View(size=(SIZE, SIZE)).camera(shapes.mesh("sphere"))
    lit, true = (drawn(shape, camera=camera).astype(int)
                 for shape in (shapes.sample("sphere", 20_000), shapes.mesh("sphere")))
    assert np.abs(lit - true)[40:80, 40:80].mean() < 12


@pytest.mark.parametrize("points", [np.zeros((1, 3)), np.array([[0, 0, 0], [1, 1, 1.0]])])
def test_the_smallest_clouds(points):
    assert covered(drawn(Geometry(points))).any()
