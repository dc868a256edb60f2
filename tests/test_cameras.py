"""Cameras frame the shape, turn evenly, and read what open3d saves."""

import json

from helper import UserError
from igr.geometry import shapes
from igr.geometry.frames import Geometry
from igr.view import cameras, render
from igr.view.cameras import Camera, View, views_around

import numpy as np
import pytest


def test_random_directions_are_spread_over_the_ball_and_repeat():
    views, again, others = (list(views_around(View(), 2000, seed, False)) for seed in (7, 7, 8))
    assert views == again != others
    a, e = np.radians([(view.azimuth, view.elevation) for view in views]).T
    towards = np.stack([np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)])
    assert np.abs(towards.mean(axis=1)).max() < 0.05 and np.abs(towards[1]).max() <= 0.9


def test_turntable_goes_once_around():
    views = views_around(View(30, 15, zoom=2), 4, 7, True)
    assert list(views) == [View(azimuth, 15, zoom=2) for azimuth in (30, 120, 210, 300)]


@pytest.mark.parametrize("up", cameras.UPWARDS)
def test_cameras_turn_evenly_up_to_the_poles(up):
    """A degree more of either angle turns the camera's axes by a degree at most."""
    mesh = shapes.mesh("letter")
    for azimuth in (0, 60, 200):
        for elevation in range(-90, 90):
            one, other = (View(azimuth, e, up=up).camera(mesh).axes()
                          for e in (elevation, elevation + 1))
            assert np.linalg.norm(one - other, axis=1).max() < 0.018
    above = [View(azimuth, 90, up=up).camera(mesh).axes() for azimuth in (0, 90)]
    assert np.allclose(above[0] @ above[1].T, [[0, 1, 0], [-1, 0, 0], [0, 0, 1]]) or np.allclose(
        above[0] @ above[1].T, [[0, -1, 0], [1, 0, 0], [0, 0, 1]])


def test_framing_is_tight(rng):
    """The farthest point is 1 / 1.08 of the way to the picture's side, whatever the shape."""
    cone = np.concatenate([rng.normal(size=(50, 3)) * [1, 1, 0.01] - [0, 0, 3], [[0, 0, 3.0]]])
    for azimuth in (0, 70, 180):
        camera = View(azimuth, 10, size=(300, 200)).camera(Geometry(cone[:20]), Geometry(cone[20:]))
        x, y, z = ((cone - camera.eye) @ camera.axes().T).T
        half = np.tan(np.radians(15))
        farthest = np.maximum(np.abs(x) / 1.5, np.abs(y)) / -z / half
        assert 0.85 < farthest.max() < 1


# --- cameras of open3d


def pinhole(eye, center, width=200, height=100, focal=150.0):
    """open3d's json of a camera, y up."""
    axes = Camera(np.array(eye, float), np.array(center, float), np.array([0, 1.0, 0])).axes()
    E = np.eye(4)
    E[:3, :3] = axes * [[1], [-1], [-1]]  # right, down, forward
    E[:3, 3] = -E[:3, :3] @ eye
    K = [focal, 0, 0, 0, focal, 0, width / 2 - 0.5, height / 2 - 0.5, 1]
    return {"class_name": "PinholeCameraParameters", "extrinsic": E.T.ravel().tolist(),
            "intrinsic": {"width": width, "height": height, "intrinsic_matrix": K}}


def test_pinhole_camera_sees_what_its_matrices_say(tmp_path):
    path = tmp_path / "camera.json"
    mesh = shapes.mesh("letter")
    middle = mesh.points.mean(axis=0)
    side = np.ptp(mesh.points, axis=0).max()
    path.write_text(json.dumps(pinhole(middle + np.array([1.5, 0.5, 2]) * side,
                                       middle + 0.1 * side)))
    view = View(cpath=path, background="transparent").sized()
    assert view.size == (200, 100)
    data = json.loads(path.read_text())
    E = np.array(data["extrinsic"]).reshape(4, 4).T
    local = mesh.points @ E[:3, :3].T + E[:3, 3]
    assert (local[:, 2] > 0).all()
    x, y = (150 * local[:, :2] / local[:, 2:] + [100, 50]).T
    alpha = render.shape(mesh, view.camera(mesh), view)[..., 3]
    rows, columns = np.nonzero(alpha)
    for found, true in ((columns, x), (rows, y)):
        assert found.min() == pytest.approx(true.min() - 0.5, abs=1.1)
        assert found.max() == pytest.approx(true.max() - 0.5, abs=1.1)


@pytest.mark.parametrize("damage", [
    lambda d: d.pop("extrinsic"), lambda d: d["intrinsic"].update(width=-3),
    lambda d: d["intrinsic"].update(width=10**9),
    lambda d: d["intrinsic"].update(width=float("inf")), lambda d: d["extrinsic"].append(1.0),
    lambda d: d["intrinsic"]["intrinsic_matrix"].__setitem__(0, 300.0),
    lambda d: d["intrinsic"]["intrinsic_matrix"].__setitem__(6, 10.0),
    lambda d: d["extrinsic"].__setitem__(3, float("nan"))])
def test_damaged_cameras_are_refused(tmp_path, damage):
    data = pinhole([3, 1, 4], [0, 0, 0])
    damage(data)
    (tmp_path / "c.json").write_text(json.dumps(data))
    with pytest.raises(UserError, match=r"c\.json"):
        Camera.from_pinhole(tmp_path / "c.json")
