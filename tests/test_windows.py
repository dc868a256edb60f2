"""Windows show the shape: their meshes and cameras, and, on a virtual screen, that they open, that
"S" saves picture and camera, and that the camera comes back."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time

from conftest import ROOT
from igr.formats import files
from igr.geometry import shapes
from igr.geometry.frames import Geometry
from igr.view import render, windows
from igr.view.cameras import SIZE, View
from test_cameras import pinhole

import numpy as np
from PIL import Image
import pytest

NEEDED = ("Xvfb", "xdotool")
on_a_screen = pytest.mark.skipif(
    not all(shutil.which(program) for program in NEEDED),
    reason=f"no {' or '.join(NEEDED)} on this machine (apt-get install xvfb xdotool)")


# --- without a screen


def test_mesh_for_a_window_has_sharp_edges_and_dimmed_colours():
    box = shapes.mesh("sponge")
    shown = windows.to_open3d(box, np.array([1.0, 0.5, 0]))
    assert len(shown.triangles) == len(box.faces) and len(shown.vertices) > len(box.points)
    corners = np.asarray(shown.vertices)[np.asarray(shown.triangles)]
    assert np.allclose(corners, box.points[box.faces])
    assert np.allclose(np.asarray(shown.vertex_colors), windows.EXPOSURE * np.array([1, 0.5, 0]))
    normals = np.abs(np.asarray(shown.vertex_normals))
    assert np.allclose(np.sort(normals, axis=1), [0, 0, 1], atol=1e-6)


def test_cloud_for_a_window_keeps_points_colours_and_normals(rng):
    points, normals, colors = rng.uniform(size=(3, 50, 3))
    shown = windows.to_open3d(Geometry(points, normals), colors)
    assert np.allclose(np.asarray(shown.points), points)
    assert np.allclose(np.asarray(shown.normals), normals)
    assert np.allclose(np.asarray(shown.colors), windows.EXPOSURE * colors)


def test_camera_of_a_window_is_the_pictures(tmp_path):
    """Written by open3d and read again, it is the same camera."""
    import open3d as o3d

    mesh = shapes.mesh("letter")
    camera = View(40, 20, zoom=1.5).camera(mesh)
    path = tmp_path / "c.json"
    o3d.io.write_pinhole_camera_parameters(str(path), windows.pinhole_parameters(camera))
    view = View(cpath=path).sized()
    found = view.camera(mesh)
    assert view.size == SIZE and found.fov == pytest.approx(camera.fov)
    assert np.allclose(found.eye, camera.eye) and np.allclose(found.axes(), camera.axes())


def test_a_display_that_does_not_answer_is_none(script, tmp_path):
    """open3d would poll it for ever."""
    files.write(tmp_path / "letter.ply", shapes.mesh("letter"))
    done = script("visualize.py mesh -f letter.ply --size 64 48", DISPLAY=":4242")
    assert "DISPLAY=:4242: no display answers, so there is no window" in done.stderr
    assert Image.open(tmp_path / "letter.png").size == (64, 48)


def test_a_display_of_wayland_is_a_socket_that_answers(tmp_path, monkeypatch, caplog):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-7")
    assert not windows.has_display() and caplog.text.count("wayland-7: no display") == 1
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "wayland-7"))
        server.listen()
        assert windows.has_display()
    assert not windows.has_display() and caplog.text.count("wayland-7: no display") == 2
    monkeypatch.delenv("WAYLAND_DISPLAY")
    assert not windows.has_display() and len(caplog.records) == 2


# --- on a virtual screen


@pytest.fixture(scope="module")
def display():
    """A virtual screen, as DISPLAY."""
    read, write = os.pipe()
    server = subprocess.Popen(["Xvfb", "-displayfd", str(write), "-screen", "0", "2000x900x24",
                               "-nolisten", "tcp"], pass_fds=[write], stderr=subprocess.DEVNULL)
    os.close(write)
    with os.fdopen(read) as answer:  # closed too early, its newline would kill the server
        yield f":{answer.readline().strip()}"
    server.terminate()
    server.wait()


@pytest.fixture
def window(display, tmp_path):
    """window("mesh -f letter.ply", n, file) opens n windows, types "s" into one of them until
    the file is there, and closes all; returns what was printed."""
    environment = {**os.environ, "DISPLAY": display}

    def xdotool(*words) -> str:
        done = subprocess.run(["xdotool", *words], env=environment, text=True, capture_output=True)
        return done.stdout

    def until(found, again=lambda: None):
        end = time.monotonic() + 60
        while not found():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end, "the window does not do it"
            again()
            time.sleep(0.3)

    def run(line: str, n: int, waits_for: str, typed_into=0):
        nonlocal process
        process = subprocess.Popen([sys.executable, str(ROOT / "visualize.py"), *line.split()],
                                   cwd=tmp_path, env=environment, text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)

        def key(name: str, window: int) -> None:
            title = "^" + line.split("-f ")[1].split(".")[0] + f" {window}$"
            found = xdotool("search", "--name", title).split()
            if found:
                xdotool("windowfocus", "--sync", found[0], "key", "--window", found[0], name)

        # again and again: what is typed before a window has its first frame is lost
        until((tmp_path / waits_for).is_file, lambda: key("s", typed_into))
        windows = xdotool("search", "--name", "^letter [0-9]$").split()
        key("q", 0)
        out, _ = process.communicate(timeout=60)
        assert len(windows) == n
        return out

    process = None
    yield run
    if process and process.poll() is None:
        process.kill()
        process.wait()


def seen(path):
    image = np.asarray(Image.open(path).convert("RGB")).astype(int)
    return np.abs(image - image[2, 2]).max(axis=2) > 12


def rendered(mesh, camera):
    """Mask of the pixels that a mesh covers by the camera of a file."""
    view = View(cpath=camera, background="transparent").sized()
    return render.shape(mesh, view.camera(mesh), view)[..., 3] > 127


@on_a_screen
def test_s_saves_what_is_seen_and_its_camera(window, tmp_path):
    mesh = shapes.mesh("letter")
    files.write(tmp_path / "letter.ply", mesh)
    out = window("mesh -f letter.ply", 1, "letter_camera.json")
    assert "letter.jpeg and letter_camera.json" in out
    in_window = seen(tmp_path / "letter.jpeg")
    assert in_window.shape == SIZE[::-1] and in_window.any()
    # the renderer sees by that camera what the window saw
    drawn = rendered(mesh, tmp_path / "letter_camera.json")
    assert (drawn ^ in_window).sum() < 0.03 * in_window.sum()


@on_a_screen
def test_mesh_and_cloud_turn_together(window, tmp_path):
    """With a camera given, both windows show the shape from there."""
    mesh = shapes.mesh("letter")
    files.write(tmp_path / "letter.ply", mesh)
    middle = mesh.points.mean(axis=0)
    side = np.ptp(mesh.points, axis=0).max()
    given = pinhole(middle + np.array([1.0, 0.5, 2.5]) * side, middle, 960, 720, 700.0)
    (tmp_path / "c.json").write_text(json.dumps(given))
    window("pcdmesh -f letter.ply -r 500 -c c.json", 2, "letter_1_camera.json", typed_into=1)
    found = json.loads((tmp_path / "letter_1_camera.json").read_text())
    assert np.allclose(found["extrinsic"], given["extrinsic"], atol=1e-3)
    in_window = seen(tmp_path / "letter_1.jpeg")
    drawn = rendered(mesh, tmp_path / "c.json")
    assert (drawn ^ in_window).sum() < 0.03 * in_window.sum()
