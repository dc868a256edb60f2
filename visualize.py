"""Look at meshes and clouds: in a window where there is a display, as an image file where not.

    python visualize.py mesh -f bunny/param_01500_mesh.ply       a mesh
    python visualize.py pcd -f bun_zipper_pcd.ply                a cloud
    python visualize.py pcdmesh -f bunny/param_01500_mesh.ply    a cloud of the mesh beside it
    python visualize.py images -f bunny/param_01500_mesh.ply     views from all around, as files

In a window, "S" saves what is seen, and its camera as json. -o names an image and opens no window.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
import sys

import geometry
from geometry import Geometry
import helper
from helper import UserError
import render

import numpy as np

IMAGES = (".png", ".jpg", ".jpeg")


def has_display() -> bool:
    return sys.platform != "linux" or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )


def save_image(path, image: np.ndarray) -> None:
    """Write (height, width, 3) uint8 as .png or .jpeg."""
    from PIL import Image

    with helper.replacing(geometry.check_writable(path, IMAGES)) as temporary:
        Image.fromarray(image).save(temporary, quality=95)
    print(path)


# ------------------------------------------------------------------------------------------ windows


def to_open3d(shape: Geometry):
    """A legacy open3d mesh or cloud for a window."""
    o3d = helper.open3d()
    points = o3d.utility.Vector3dVector(shape.points)
    if shape.faces is None:
        cloud = o3d.geometry.PointCloud(points)
        if shape.normals is not None:
            cloud.normals = o3d.utility.Vector3dVector(shape.normals)
        return cloud
    mesh = o3d.geometry.TriangleMesh(points, o3d.utility.Vector3iVector(shape.faces))
    mesh.compute_vertex_normals()
    return mesh


def show(shapes: list, stem: Path, camera_path) -> None:
    """A window for each shape, side by side; what one shows, all show. "S" saves <stem>.jpeg and
    the camera <stem>_camera.json (<stem>_0.jpeg, ... for several windows)."""
    o3d = helper.open3d()
    windows = []
    for i, shape in enumerate(shapes):
        window = o3d.visualization.VisualizerWithKeyCallback()
        if not window.create_window(f"{stem.name} {i}", 960, 720, left=960 * i, top=0):
            raise UserError("no window opens on this display; name an image with -o")
        window.add_geometry(to_open3d(shape))
        name = stem if len(shapes) == 1 else stem.with_name(f"{stem.name}_{i}")

        def save(vis, name=name):
            vis.capture_screen_image(f"{name}.jpeg", do_render=True)
            camera = vis.get_view_control().convert_to_pinhole_camera_parameters()
            o3d.io.write_pinhole_camera_parameters(f"{name}_camera.json", camera)
            print(f"{name}.jpeg and {name}_camera.json", flush=True)
            return False

        window.register_key_callback(ord("S"), save)
        windows.append(window)
    if camera_path:
        camera = o3d.io.read_pinhole_camera_parameters(str(helper.existing_file(camera_path)))
        windows[0].get_view_control().convert_from_pinhole_camera_parameters(camera, True)
    while all(window.poll_events() for window in windows):
        camera = windows[0].get_view_control().convert_to_pinhole_camera_parameters()
        for other in windows[1:]:
            other.get_view_control().convert_from_pinhole_camera_parameters(camera, True)
        for window in windows:
            window.update_renderer()
    for window in windows:
        window.destroy_window()


# --------------------------------------------------------------------------------------- the modes


def picture(shape: Geometry, camera: render.Camera) -> np.ndarray:
    return (render.cloud if shape.faces is None else render.mesh)(shape, camera)


def look_at(shapes: list, path: Path, output, camera_path, azimuth, elevation) -> None:
    """The shapes in windows, or side by side in the image `output`."""
    if output is None and has_display():
        show(shapes, path.with_suffix(""), camera_path)
        return
    camera = render.Camera.around(shapes[0].points, azimuth, elevation)
    image = np.concatenate([picture(shape, camera) for shape in shapes], axis=1)
    save_image(output or path.with_suffix(".png"), image)


def all_around(shape: Geometry, folder: Path, n: int, seed: int) -> None:
    """n views from random directions as <folder>/00000.jpeg, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for i in range(n):
        elevation = np.degrees(np.arcsin(rng.uniform(-0.9, 0.9)))
        camera = render.Camera.around(shape.points, rng.uniform(0, 360), elevation)
        save_image(folder / f"{i:05d}.jpeg", picture(shape, camera))


def parse_args(argv=None) -> argparse.Namespace:
    parser = helper.parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    def mode(name: str, text: str):
        made = commands.add_parser(name, help=text, formatter_class=parser.formatter_class)
        made.add_argument("-f", "--fpath", required=True, help="file to look at")
        return made

    for name, text in (("mesh", "a mesh"), ("pcd", "a cloud, or a mesh's vertices"),
                       ("pcdmesh", "points sampled on a mesh beside the mesh")):
        one = mode(name, text)
        one.add_argument("-o", "--output", help="image to write, .png or .jpeg, and no window; "
                         "default without a display: the file's name with .png")
        one.add_argument("-c", "--cpath", help="camera for the window: json saved with S")
        one.add_argument("--azimuth", type=float, default=30.0, help="of the image, degrees")
        one.add_argument("--elevation", type=float, default=15.0, help="likewise")
        if name == "pcdmesh":
            one.add_argument("-r", "--rate", type=helper.number(float, above=0), default=0.1,
                             help="points to sample for each vertex of the mesh")
    images = mode("images", "views from random directions, as files")
    images.add_argument("-o", "--output", help="folder; default: the file's name without suffix")
    images.add_argument("-n", "--number", type=helper.number(int, 1), default=8, help="of views")
    images.add_argument("--seed", type=helper.number(int, 0), default=412, help="of the directions")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    path = Path(args.fpath)
    if args.command == "images":
        folder = Path(args.output) if args.output else path.with_suffix("")
        all_around(geometry.read(path), folder, args.number, args.seed)
        return
    if args.output:
        geometry.check_writable(args.output, IMAGES)
    if args.command == "pcd":
        shapes = [geometry.read(path)._replace(faces=None)]
    else:
        shapes = [geometry.read_mesh(path)]
    if args.command == "pcdmesh":
        n = max(1, int(args.rate * len(shapes[0].points)))
        shapes.insert(0, geometry.sample_mesh(shapes[0], n, np.random.default_rng(0)))
    look_at(shapes, path, args.output, args.cpath, args.azimuth, args.elevation)


if __name__ == "__main__":
    helper.run(main, parse_args())
