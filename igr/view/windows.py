"""Windows of open3d: shapes side by side that rotate together, and what "S" saves of them."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
import socket
import sys

import helper
from helper import UserError, log
from igr.geometry import meshes
from igr.geometry.frames import Geometry
from igr.view.cameras import SIZE, Camera, View
from igr.view.colors import vertex_colors

import numpy as np

EXPOSURE = 0.6  # factor on the colours: open3d's lamps turn light ones white


def has_display() -> bool:
    """Whether windows may open here. Warns of a display that the environment names and that does
    not answer: open3d would wait for it for ever."""
    if sys.platform != "linux":
        return True
    probes = {"WAYLAND_DISPLAY": wayland_answers, "DISPLAY": x_answers}
    named = {name: os.environ[name] for name in probes if os.environ.get(name)}
    if any(probes[name](value) for name, value in named.items()):
        return True
    for name, value in named.items():
        log.warning(f"{name}={value}: no display answers, so there is no window")
    return False


def x_answers(display: str) -> bool:
    """Can X's display of that name be opened?"""
    try:
        x11 = ctypes.CDLL("libX11.so.6")  # open3d's windows need it, too
    except OSError:
        return False
    x11.XOpenDisplay.restype = ctypes.c_void_p
    x11.XCloseDisplay.argtypes = [ctypes.c_void_p]
    opened = x11.XOpenDisplay(display.encode())
    if opened:
        x11.XCloseDisplay(opened)
    return bool(opened)


def wayland_answers(display: str) -> bool:
    """Does Wayland's display of that name accept a connection?"""
    path = os.path.join(os.environ.get("XDG_RUNTIME_DIR", ""), display)
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0


def show_shapes(shapes: list, view: View, stem: Path) -> None:
    """Show each shape in a window of its own, side by side, all by the same camera, until one of
    the windows is closed.

    "S" saves what a window shows as <stem>.jpeg and its camera as <stem>_camera.json
    (<stem>_0.jpeg, ... with several windows). Raises UserError where no window opens.
    """
    camera = pinhole_parameters(view.camera(*shapes))
    shown = [to_open3d(shape, vertex_colors(shape, view.color)) for shape in shapes]
    windows = []
    for i, shape in enumerate(shown):
        window = helper.open3d().visualization.VisualizerWithKeyCallback()
        if not window.create_window(f"{stem.name} {i}", *SIZE, left=SIZE[0] * i, top=0):
            raise UserError("no window opens on this display; name an image with -o")
        name = stem if len(shapes) == 1 else stem.with_name(f"{stem.name}_{i}")
        window.register_key_callback(ord("S"), lambda window, name=name: save(window, name))
        window.add_geometry(shape)
        set_camera(window, camera)
        windows.append(window)
    while all(window.poll_events() for window in windows):
        seen = get_camera(windows[0])
        for other in windows[1:]:
            set_camera(other, seen)
        for window in windows:
            window.update_renderer()
    for window in windows:
        window.destroy_window()


def save(window, name: Path) -> bool:
    """Write what a window shows to <name>.jpeg and its camera to <name>_camera.json; False says to
    open3d that the shape has not changed. Where a file cannot be written, the window stays open."""
    seen = get_camera(window)
    image, camera = f"{name}.jpeg", f"{name}_camera.json"
    try:
        with helper.replacing(image) as temporary:
            window.capture_screen_image(str(temporary), do_render=True)
        with helper.replacing(camera) as temporary:
            helper.open3d().io.write_pinhole_camera_parameters(str(temporary), seen)
        log.info(f"{image} and {camera}")
    except OSError as error:
        log.warning(f"{error.filename2 or error.filename}: {error.strerror}")
    return False


def get_camera(window):
    """open3d's parameters of a window's camera."""
    return window.get_view_control().convert_to_pinhole_camera_parameters()


def set_camera(window, parameters) -> None:
    """Set a window's camera to open3d's parameters."""
    window.get_view_control().convert_from_pinhole_camera_parameters(parameters, True)


def pinhole_parameters(camera: Camera):
    """open3d's parameters of a camera for a window of SIZE."""
    parameters = helper.open3d().camera.PinholeCameraParameters()
    width, height = SIZE
    focal = height / 2 / np.tan(np.radians(camera.fov / 2))  # pixels
    parameters.intrinsic.set_intrinsics(width, height, focal, focal, width / 2 - 0.5,
                                        height / 2 - 0.5)
    parameters.extrinsic = camera.extrinsic()
    return parameters


def to_open3d(shape: Geometry, colors: np.ndarray):
    """open3d's legacy mesh or cloud of a shape; colors: sRGB (3,) or one a vertex (N, 3)."""
    o3d = helper.open3d()
    colors = EXPOSURE * np.broadcast_to(colors, shape.points.shape)
    if shape.faces is None:
        cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(shape.points))
        cloud.colors = o3d.utility.Vector3dVector(colors)
        if shape.normals is not None:
            cloud.normals = o3d.utility.Vector3dVector(shape.normals)
        return cloud
    split, origin = meshes.split_creases(shape)
    mesh = o3d.geometry.TriangleMesh(o3d.utility.Vector3dVector(split.points),
                                     o3d.utility.Vector3iVector(split.faces))
    mesh.vertex_colors = o3d.utility.Vector3dVector(colors[origin])
    mesh.compute_vertex_normals()
    return mesh
