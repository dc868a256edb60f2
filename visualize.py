"""Look at meshes, clouds and trainings: pictures on any machine, windows where there is a display.

    python visualize.py mesh -f bunny/param_01500_mesh.ply       a mesh
    python visualize.py pcd -f bun_zipper_pcd.ply                a cloud
    python visualize.py pcdmesh -f bunny/param_01500_mesh.ply    a cloud of the mesh beside it
    python visualize.py images -f bunny/param_01500_mesh.ply     views from all around, as files
    python visualize.py error -f mesh.ply -r truth.ply           a mesh coloured by its distance
    python visualize.py compare a.ply b.ply c.ply                several, by the same camera
    python visualize.py html -f mesh.ply                         a page that turns it in a browser
    python visualize.py curves -f bunny                          a training's losses and distances
    python visualize.py slices -mlp bunny/param_01500.h5         f and |grad f| on three planes

The first three open windows where there is a display: "S" saves what is seen, and its camera as
json for -c. With -o, and where there is no display, they write a picture, as the others do. Each
mode has its own --help.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
from pathlib import Path
import sys

import helper
from helper import UserError
from igr import charts, checkpoints, devices, files, meshes, metrics, render, threads, viewer
from igr.frames import Frame, Geometry
from igr.render import Camera, Style

import numpy as np

IMAGES = (".png", ".jpg", ".jpeg")
MOVIES = (".gif", ".mp4")
FRAMES_A_SECOND = 15
WINDOW = (960, 720)  # pixels
SCALAR_SHADING = 0.25  # of a surface whose colour is to be read off a legend
WINDOW_EXPOSURE = 0.6  # open3d's lamps turn light colours white
WINDOWS = ("mesh", "pcd", "pcdmesh")  # the modes that open one where they can


def has_display() -> bool:
    return sys.platform != "linux" or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )


# -------------------------------------------------------------------------------------------- files


def check_image(path, style: Style) -> Path:
    """`path` as a Path; raises UserError where a picture in this style cannot be written there."""
    path = files.check_writable(path, IMAGES)
    if style.background != "white" and path.suffix.lower() != ".png":
        raise UserError(f"{path}: jpeg has no transparency; take .png, or a white background")
    return path


def check_folder(path: Path) -> None:
    """Raises UserError where a folder of pictures would have a picture's or another file's name."""
    if path.suffix.lower() in IMAGES or path.is_file():
        raise UserError(f"{path}: is to be the folder of the pictures, and that is a file's name")


def save_image(path, image: np.ndarray) -> None:
    """Write a picture and say so."""
    render.save(path, image)
    print(path)


def check_movie(path) -> Path:
    """`path` as a Path; raises UserError where a movie cannot be written there."""
    path = files.check_writable(path, MOVIES)
    if path.suffix.lower() == ".mp4" and importlib.util.find_spec("imageio_ffmpeg") is None:
        raise UserError(f"{path}: .mp4 needs pip install imageio-ffmpeg; or take .gif")
    return path


def save_movie(path: Path, frames: list) -> None:
    """Write pictures (height, width, 3) uint8 as .gif or .mp4, to be played over and over."""
    import imageio

    options = {"duration": 1000 / FRAMES_A_SECOND, "loop": 0}
    if path.suffix.lower() == ".mp4":
        options = {"fps": FRAMES_A_SECOND, "macro_block_size": 2}
    with helper.replacing(path) as temporary:
        imageio.mimsave(temporary, frames, **options)
    print(path)


# ------------------------------------------------------------------------------------------ windows


def to_open3d(shape: Geometry, colors):
    """A legacy open3d mesh or cloud for a window; colors as vertex_colors gives them."""
    o3d = helper.open3d()
    colors = WINDOW_EXPOSURE * np.broadcast_to(colors, shape.points.shape)
    if shape.faces is not None:
        shape, origin = meshes.split_creases(shape)
        colors = colors[origin]
    points, colors = (o3d.utility.Vector3dVector(array) for array in (shape.points, colors))
    if shape.faces is None:
        made = o3d.geometry.PointCloud(points)
        made.colors = colors
        if shape.normals is not None:
            made.normals = o3d.utility.Vector3dVector(shape.normals)
        return made
    made = o3d.geometry.TriangleMesh(points, o3d.utility.Vector3iVector(shape.faces))
    made.vertex_colors = colors
    made.compute_vertex_normals()
    return made


def pinhole(camera: Camera):
    """open3d's parameters of a camera for a window."""
    o3d = helper.open3d()
    found = o3d.camera.PinholeCameraParameters()
    width, height = WINDOW
    focal = height / 2 / np.tan(np.radians(camera.fov / 2))
    found.intrinsic.set_intrinsics(width, height, focal, focal, width / 2 - 0.5, height / 2 - 0.5)
    found.extrinsic = camera.extrinsic()
    return found


def show(shapes: list, stem: Path, camera: Camera, color: str) -> None:
    """A window for each shape, side by side; what one shows, all show. "S" saves <stem>.jpeg and
    the camera <stem>_camera.json (<stem>_0.jpeg, ... for several windows)."""
    o3d = helper.open3d()
    windows = []
    for i, shape in enumerate(shapes):
        window = o3d.visualization.VisualizerWithKeyCallback()
        if not window.create_window(f"{stem.name} {i}", *WINDOW, left=WINDOW[0] * i, top=0):
            raise UserError("no window opens on this display; name an image with -o")
        window.add_geometry(to_open3d(shape, vertex_colors(shape, color)))
        window.get_view_control().convert_from_pinhole_camera_parameters(pinhole(camera), True)
        name = stem if len(shapes) == 1 else stem.with_name(f"{stem.name}_{i}")

        def save(window, name=name):
            save_window(window, f"{name}.jpeg", f"{name}_camera.json")
            return False

        window.register_key_callback(ord("S"), save)
        windows.append(window)
    while all(window.poll_events() for window in windows):
        seen = windows[0].get_view_control().convert_to_pinhole_camera_parameters()
        for other in windows[1:]:
            other.get_view_control().convert_from_pinhole_camera_parameters(seen, True)
        for window in windows:
            window.update_renderer()
    for window in windows:
        window.destroy_window()


def save_window(window, image: str, camera: str) -> None:
    """Write what a window shows and its camera; what goes wrong is said and the window stays."""
    o3d = helper.open3d()
    seen = window.get_view_control().convert_to_pinhole_camera_parameters()
    try:
        with helper.replacing(image) as temporary:
            window.capture_screen_image(str(temporary), do_render=True)
        with helper.replacing(camera) as temporary:
            o3d.io.write_pinhole_camera_parameters(str(temporary), seen)
    except OSError as error:
        print(f"{error.filename2 or error.filename}: {error.strerror}", file=sys.stderr)
        return
    print(f"{image} and {camera}", flush=True)


# ----------------------------------------------------------------------------------------- pictures


def vertex_colors(shape: Geometry, color: str) -> np.ndarray:
    """sRGB (3,) of a colour's name or #rrggbb, or (N, 3) of the normals for "normal": x, y, z in
    [-1, 1] become red, green, blue. Raises UserError for what is neither."""
    from PIL import ImageColor

    if color == "normal":
        if shape.faces is None and shape.normals is None:
            raise UserError("--color normal: the cloud has no normals")
        normals = shape.normals if shape.faces is None else meshes.vertex_normals(shape)
        length = np.linalg.norm(normals, axis=1, keepdims=True)
        return (normals / np.maximum(length, 1e-300) + 1) / 2
    if color == "clay":
        return np.array(render.CLAY)
    try:
        return np.array(ImageColor.getrgb(color)[:3]) / 255
    except ValueError:
        raise UserError(f"--color {color}: no colour; take a name, #rrggbb or normal") from None


def picture(shape: Geometry, camera: Camera, style: Style, colors, point_size) -> np.ndarray:
    if shape.faces is None:
        return render.cloud(shape, camera, style, colors, point_size)
    return render.mesh(shape, camera, style, colors)


def beside(images: list, background: str) -> np.ndarray:
    """Pictures of one height in a row, with alpha or on white."""
    made = []
    for image in images:
        rgb, alpha = image[..., :3], np.full(image.shape[:2], 255, np.uint8)
        if image.shape[2] == 4:
            alpha = image[..., 3]
        if background == "white":
            share = alpha[..., None] / 255
            made.append(np.round(share * rgb + (1 - share) * 255).astype(np.uint8))
        else:
            made.append(np.dstack([rgb, alpha]))
    return np.concatenate(made, axis=1)


def labelled(image: np.ndarray, text: str) -> np.ndarray:
    """A picture with a line of text below it; what is too long loses its middle."""
    from matplotlib import font_manager
    from PIL import Image, ImageDraw, ImageFont

    height, width, channels = image.shape
    line = max(12, height // 28)
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), line)  # has most scripts
    while font.getlength(text) > 0.95 * width and len(text) > 3:
        half = (len(text) - 2) // 2
        text = f"{text[:half]}…{text[-half:]}"
    blank = (255,) * 3 + (0,) * (channels - 3)
    made = Image.new("RGB" if channels == 3 else "RGBA", (width, height + 2 * line), blank)
    made.paste(Image.fromarray(image))
    ImageDraw.Draw(made).text((width / 2, height + line), text, fill=(60, 60, 60), anchor="mm",
                              font=font)
    return np.asarray(made)


def directions(n: int, seed: int, turntable: bool, azimuth: float, elevation: float):
    """n pairs of azimuth and elevation: at random, or once around from the one given."""
    rng = np.random.default_rng(seed)
    for i in range(n):
        if turntable:
            yield azimuth + 360 * i / n, elevation
        else:
            yield rng.uniform(0, 360), float(np.degrees(np.arcsin(rng.uniform(-0.9, 0.9))))


def all_around(shape: Geometry, cameras, style: Style, colors, point_size, folder: Path,
               movie) -> None:
    """The shape before each camera as <folder>/00000.png, ... and as the movie, if one is named.
    Pictures of a longer series that lie there are left, and that is said."""
    folder.mkdir(parents=True, exist_ok=True)
    suffix, frames = ".jpeg" if style.background == "white" else ".png", []
    older = set(folder.glob(f"[0-9][0-9][0-9][0-9][0-9]{suffix}"))
    for i, camera in enumerate(cameras):
        image = picture(shape, camera, style, colors, point_size)
        save_image(folder / f"{i:05d}{suffix}", image)
        older.discard(folder / f"{i:05d}{suffix}")
        if movie:
            frames.append(image)
    if older:
        print(f"{min(older)} and {len(older) - 1} more were there before" if len(older) > 1
              else f"{min(older)} was there before")
    if movie:
        save_movie(movie, frames)


def errors(mesh: Geometry, reference: Geometry, top):
    """Distances of a mesh's vertices to the reference, in the reference's unit frame, as colours
    (N, 3), with the top of their scale (default: their 99th percentile, rounded up to 1, 2 or 5 in
    its last digit) and whether some lie beyond it."""
    frame = Frame.of(reference.surface_points)
    distances = metrics.distance_to(
        frame.to_unit(mesh.points), reference._replace(points=frame.to_unit(reference.points)))
    if top is None:
        most = max(float(np.percentile(distances, 99)), 1e-6)  # below: rounding only
        digit = 10 ** np.floor(np.log10(most))
        top = next(digit * step for step in (1, 2, 5, 10) if digit * step >= most)
    return charts.color_map(distances, top), top, bool((distances > top).any())


# --------------------------------------------------------------------------------- the command line


def add_look_flags(add, default_output: str) -> None:
    """The flags of all modes that make a picture of shapes."""
    number = helper.number
    add("-o", "--output", help=f"what to write; default: {default_output}")
    add("--azimuth", type=number(float), default=30.0,
        help="of the camera (of a turntable's first), degrees")
    add("--elevation", type=number(float, -90, 90), default=15.0, help="likewise")
    add("--zoom", type=number(float, above=0), default=1.0, help="1: the shape fills the picture")
    add("--up", choices=render.UPWARDS, default="y",
        help="axis that points upwards (--up=-z for a negative one)")
    add("--color", default="clay",
        help="of the shape (of the reference, for error): a name, #rrggbb, or normal (x, y, z as "
        "red, green, blue)")


def add_picture_flags(add) -> None:
    number = helper.number
    add("--size", type=number(int, 16, 16384), nargs=2, metavar=("W", "H"),
        help="of each picture, pixels; default: the camera file's, else 960 720")
    add("--background", choices=["white", "transparent"], default="white", help="(.png only)")
    add("--ground", action="store_true", help="add a soft shadow below")
    add("--samples", type=number(int, 1, 8), default=2, help="a pixel along each side")
    add("--point-size", type=number(float, 0.01, 10), default=1.0,
        help="of a cloud's points, in parts of the usual size")


def parse_args(argv=None) -> argparse.Namespace:
    parser = helper.parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    def mode(name: str, text: str, default_output: str):
        made = commands.add_parser(name, help=text, description=text,
                                   formatter_class=parser.formatter_class)
        made.set_defaults(cpath=None, movie=None, rate=None, reference=None)
        if name == "html":
            made.add_argument("-f", "--fpath", required=True, help="mesh to show")
        elif name == "compare":
            made.add_argument("files", nargs="+", help="files to look at")
        else:
            made.add_argument("-f", "--fpath", dest="files", nargs=1, required=True,
                              help="file to look at")
        add_look_flags(made.add_argument, default_output)
        if name != "html":
            title = "of the picture, not of a window" if name in WINDOWS else "of the picture"
            add_picture_flags(made.add_argument_group(title).add_argument)
        if name not in ("html", "images"):
            made.add_argument("-c", "--cpath", help="camera, instead of angles and zoom: json "
                              "saved with S")
        return made.add_argument

    for name, text in zip(WINDOWS, ("a mesh", "a cloud, or a mesh's vertices",
                                    "points sampled on a mesh beside the mesh")):
        add = mode(name, text, "a window; without a display the file's name with .png")
        if name == "pcdmesh":
            add("-r", "--rate", type=helper.number(float, above=0), default=0.1,
                help="points to sample for each vertex of the mesh")
    add = mode("images", "views of a mesh or cloud from random directions, or once around it",
               "the folder that has the file's name without suffix")
    add("-n", "--number", type=helper.number(int, 1), help="of views; default: 8, turntable 36")
    add("--seed", type=helper.number(int, 0), default=412, help="of the directions")
    add("--turntable", action="store_true", help="once around the upward axis")
    add("--movie", help="write the views as this .gif as well, or .mp4 (needs imageio-ffmpeg)")
    add = mode("error", "a mesh coloured by its distance to a reference, beside the reference",
               "<mesh>_error.png")
    add("-r", "--reference", help="mesh or cloud; default: the cloud it was trained on")
    add("--max", type=helper.number(float, above=0),
        help="distance at the top of the scale, unit frame; default: 99 %% lie below")
    mode("compare", "several meshes or clouds by the same camera", "compare.png")
    mode("html", "a mesh as one html file that turns it in a browser", "<mesh>.html")

    curves = commands.add_parser("curves", help="a training's losses, rate and distances",
                                 formatter_class=parser.formatter_class)
    curves.add_argument("-f", "--fpath", required=True, help="run folder, or its log.jsonl")
    curves.add_argument("-o", "--output", help="picture; default: curves.png beside the log")
    slices = commands.add_parser("slices", formatter_class=parser.formatter_class,
                                 help="f with iso-lines and |grad f| on three planes")
    slices.add_argument("-mlp", "--model-load-path", help="checkpoint; default: the newest here "
                        "or below")
    slices.add_argument("-o", "--output", help="picture; default: <checkpoint>_slices.png")
    helper.add_device_flags(slices)
    return parser.parse_args(argv)


def used(shape: Geometry) -> Geometry:
    """A mesh without the vertices that no face uses; a cloud as it is."""
    if shape.faces is None:
        return shape
    return meshes.keep_faces(shape, np.ones(len(shape.faces), bool))


def load_shapes(command: str, paths: list, rate: float, reference) -> list:
    """The shapes that a mode shows, from left to right."""
    if command == "compare":
        return [used(files.read(path)) for path in paths]
    (path,) = paths
    if command == "pcd":
        return [used(files.read(path))._replace(faces=None)]
    if command == "images":
        return [used(files.read(path))]
    mesh = used(files.read_mesh(path))
    if command == "pcdmesh":
        n = max(1, int(rate * len(mesh.points)))
        return [meshes.sample_mesh(mesh, n, np.random.default_rng(0)), mesh]
    if command == "error":
        return [mesh, used(files.read(reference or checkpoints.trained_cloud(path)))]
    return [mesh]


def draw_curves(log: Path, output) -> None:
    """Write the curves of a log, or of the run folder that has it."""
    folder = log if log.is_dir() else log.parent
    output = files.check_writable(output or folder / "curves.png", IMAGES)
    save_image(output, charts.curves(charts.read_log(log), folder.resolve().name))


def draw_slices(checkpoint, output, context: str, device_id: str, thread_count: int) -> None:
    """Write the slices of a checkpoint's field; None: the newest checkpoint, the default name."""
    import networks

    path = Path(checkpoint or checkpoints.newest_checkpoint())
    output = files.check_writable(output or path.with_name(path.stem + "_slices.png"), IMAGES)
    device = devices.set_context(context, device_id)
    threads.set_count(thread_count)
    network = networks.load_network(path, device.kernel)
    save_image(output, charts.slices(network.mlp.evaluate_with_gradient, network.volume_factor,
                                    f"{path.name}, unit frame"))


def write_page(path: Path, output, color: str, azimuth, elevation, zoom, up) -> None:
    """Write a mesh's html page."""
    output = files.check_writable(output or f"{helper.without_suffix(path)}.html", [".html"])
    mesh, title = used(files.read_mesh(path)), path.name.encode(errors="replace").decode()
    text = viewer.page(mesh, title, vertex_colors(mesh, color), azimuth, elevation, zoom, up)
    with helper.replacing(output) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(output)


def main(args: argparse.Namespace) -> None:
    command = args.command
    if command == "curves":
        return draw_curves(Path(args.fpath), args.output)
    if command == "slices":
        return draw_slices(args.model_load_path, args.output, args.context, args.device_id,
                           args.threads)
    if command == "html":
        return write_page(Path(args.fpath), args.output, args.color, args.azimuth, args.elevation,
                          args.zoom, args.up)

    # where to; all is checked before the work
    paths = [Path(file) for file in args.files]
    folder = helper.without_suffix(paths[0])
    defaults = {"compare": "compare.png", "error": f"{folder}_error.png", "images": folder}
    output = args.output or defaults.get(command)
    window = command in WINDOWS and output is None and has_display()
    output = Path(output or f"{folder}.png")
    camera, (width, height) = None, args.size or WINDOW
    if args.cpath:
        camera, *size = Camera.from_pinhole(args.cpath)
        width, height = args.size or size
    style = Style(width, height, args.samples, args.background, args.ground, args.up)
    movie = check_movie(args.movie) if args.movie else None
    if command == "images":
        check_folder(output)
    elif not window:
        check_image(output, style)

    # what, and from where
    shapes = load_shapes(command, paths, args.rate, args.reference)
    points = np.concatenate([shape.points for shape in shapes])

    def camera_from(azimuth: float, elevation: float) -> Camera:
        return Camera.around(points, azimuth, elevation, args.zoom, args.up, style.aspect)

    camera = camera or camera_from(args.azimuth, args.elevation)
    if window:
        return show(shapes, folder, camera, args.color)
    colors = [vertex_colors(shape, args.color) for shape in shapes]
    if command == "images":
        number = args.number or (36 if args.turntable else 8)
        around = directions(number, args.seed, args.turntable, args.azimuth, args.elevation)
        cameras = (camera_from(*direction) for direction in around)
        return all_around(shapes[0], cameras, style, colors[0], args.point_size, output, movie)

    # the picture
    styles = [style] * len(shapes)
    if command == "error":
        colors[0], top, beyond = errors(*shapes, args.max)
        styles[0] = style._replace(shading=SCALAR_SHADING)
    images = [picture(shape, camera, *how, args.point_size)
              for shape, how in zip(shapes, zip(styles, colors))]
    if command == "error":
        images.append(charts.legend(height, top, "distance to the reference, unit frame", beyond))
    if command == "compare":
        images = [labelled(image, path.name) for image, path in zip(images, paths)]
    return save_image(output, beside(images, args.background))


if __name__ == "__main__":
    helper.run(main, parse_args())
