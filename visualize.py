"""Look at meshes, clouds and trainings: pictures on any machine, windows where there is a display.

    python visualize.py mesh -f bunny/param_00154_mesh.ply       a mesh
    python visualize.py pcd -f bun_zipper_pcd.ply                a cloud
    python visualize.py pcdmesh -f bunny/param_00154_mesh.ply    points of a mesh, and the mesh
    python visualize.py images -f bunny/param_00154_mesh.ply     views from all around, as files
    python visualize.py error -f mesh.ply -r truth.ply           a mesh coloured by its distance
    python visualize.py compare a.ply b.ply c.ply                several, by the same camera
    python visualize.py html -f mesh.ply                         a page that turns it in a browser
    python visualize.py curves -f bunny                          a training's losses and distances
    python visualize.py slices -mlp bunny/param_00154.h5         f and |grad f| on three planes

The first three open windows where there is a display: "S" saves what is seen, and its camera as
json for -c. With -o, or without a display, they write a picture as the other modes do. Each mode
has its own --help.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import helper
from igr.field import checkpoints
from igr.formats import files
from igr.geometry import meshes, neighbours
from igr.geometry.frames import Frame, Geometry
from igr.view import cameras, charts, colors, images, render, viewer, windows
from igr.view.cameras import Camera
from igr.view.looks import Look
from igr.view.render import Style

import numpy as np

SCALAR_SHADING = 0.25  # of a surface whose colour is to be read off a legend


def read_shape(path, read=files.read) -> Geometry:
    """A mesh, without the vertices that no face uses, or a cloud. Raises UserError where the
    memory does not suffice to draw it."""
    shape = read(path)
    meshes.check_faces(shape, path)
    if shape.faces is None:
        return shape
    return meshes.keep_faces(shape, np.ones(len(shape.faces), bool))


def read_mesh(path) -> Geometry:
    """read_shape(), and UserError where the file has no faces."""
    return read_shape(path, files.read_mesh)


def save_image(path, image: np.ndarray) -> None:
    """Write a picture (height, width, 3 or 4) uint8 and print its name."""
    images.save(path, image)
    print(path)


def show_or_draw(path: Path, read_shapes, output: str | None, look: Look, end: str = "") -> None:
    """Show shapes in windows; write a picture where `output` names one, or without a display.

    read_shapes(path) gives the shapes from left to right; it is called after all other checks.
    end: of the picture's default name, so that each mode has its own.
    """
    stem = helper.without_suffix(path)
    in_windows = output is None and windows.has_display()
    style, camera = look.style_and_camera()
    if not in_windows:
        output = images.check_image(output or f"{stem}{end}.png", look.background,
                                    [path, look.cpath])
    shapes = read_shapes(path)
    camera = camera or look.camera_around(shapes, style)
    if in_windows:
        shape_colors = [colors.vertex_colors(shape, look.color) for shape in shapes]
        return windows.show_shapes(shapes, shape_colors, stem, camera)
    pictures = draw_all(shapes, camera, style, look)
    return save_image(output, images.side_by_side(pictures, look.background))


def draw_all(shapes: list, camera: Camera, style: Style, look: Look) -> list:
    """A picture (height, width, 3 or 4) uint8 of each shape, by the same camera."""
    shape_colors = [colors.vertex_colors(shape, look.color) for shape in shapes]
    return [render.shape(shape, camera, style, some_colors, look.point_size)
            for shape, some_colors in zip(shapes, shape_colors)]


# ---------------------------------------------------------------------------------------- the modes


def run_mesh(args: argparse.Namespace) -> None:
    show_or_draw(Path(args.fpath), lambda path: [read_mesh(path)], args.output, args.look)


def run_pcd(args: argparse.Namespace) -> None:
    show_or_draw(Path(args.fpath), lambda path: [read_shape(path)._replace(faces=None)],
                 args.output, args.look, "_points")


def run_pcdmesh(args: argparse.Namespace) -> None:
    rate = args.rate

    def read_mesh_and_sample(path) -> list:
        mesh = read_mesh(path)
        n = max(1, int(rate * len(mesh.points)))
        meshes.check_points(n, f"-r {rate:g}")
        return [meshes.sample_mesh(mesh, n, np.random.default_rng(0)), mesh]

    show_or_draw(Path(args.fpath), read_mesh_and_sample, args.output, args.look, "_pcdmesh")


def run_images(args: argparse.Namespace) -> None:
    look = args.look
    number = args.number or (36 if args.turntable else 8)
    look.style_and_camera(number if args.movie else 1)  # refuses a movie that is too large
    if args.turntable:
        directions = cameras.turntable_directions(number, look.azimuth, look.elevation)
    else:
        directions = cameras.random_directions(number, args.seed)
    draw_views(Path(args.fpath), args.output, args.movie, directions, look)


def draw_views(path: Path, output: str | None, movie: str | None, directions, look: Look) -> None:
    """Write views of a shape as <folder>/00000.png, ... and as a movie, if `movie` names one.

    directions: pairs of azimuth and elevation, degrees. Pictures that an earlier, longer series
    left in the folder stay there, and that is said.
    """
    style, _ = look.style_and_camera()
    movie = images.check_movie(movie, [path]) if movie else None
    folder = images.check_folder(output or helper.without_suffix(path))
    shape = read_shape(path)
    shape_colors = colors.vertex_colors(shape, look.color)
    folder.mkdir(parents=True, exist_ok=True)
    suffix = ".jpeg" if style.background == "white" else ".png"
    older = set(folder.glob(f"[0-9][0-9][0-9][0-9][0-9]{suffix}"))
    frames = []
    for i, (azimuth, elevation) in enumerate(directions):
        camera = look._replace(azimuth=azimuth, elevation=elevation).camera_around([shape], style)
        image = render.shape(shape, camera, style, shape_colors, look.point_size)
        save_image(folder / f"{i:05d}{suffix}", image)
        older.discard(folder / f"{i:05d}{suffix}")
        if movie:
            frames.append(image)
    if older:
        print(f"{min(older)} and {len(older) - 1} more were there before" if len(older) > 1
              else f"{min(older)} was there before")
    if movie:
        images.save_movie(movie, frames)
        print(movie)


def run_error(args: argparse.Namespace) -> None:
    draw_error(Path(args.fpath), args.output, args.reference, args.max, args.look)


def draw_error(path: Path, output: str | None, reference_path: str | None, top: float | None,
               look: Look) -> None:
    """Write a picture of a mesh coloured by its distance to a reference, the reference beside it,
    and the scale of the colours.

    reference_path: None for the cloud that the mesh's network was trained on. top: the scale's end,
    unit frame; None: chosen from the distances.
    """
    style, camera = look.style_and_camera()
    output = images.check_image(output or f"{helper.without_suffix(path)}_error.png",
                                look.background, [path, reference_path, look.cpath])
    mesh = read_mesh(path)
    reference = read_shape(reference_path or checkpoints.trained_cloud(path))
    camera = camera or look.camera_around([mesh, reference], style)
    reference_colors = colors.vertex_colors(reference, look.color)
    distances = colors.reference_distances(mesh, reference)
    top = colors.scale_top(distances) if top is None else top
    flat_style = style._replace(shading=SCALAR_SHADING)
    pictures = [
        render.mesh(mesh, camera, flat_style, colors.color_map(distances, top)),
        render.shape(reference, camera, style, reference_colors, look.point_size),
        charts.legend(style.height, top, "distance to the reference, unit frame",
                      bool((distances > top).any())),
    ]
    save_image(output, images.side_by_side(pictures, look.background))


def run_compare(args: argparse.Namespace) -> None:
    draw_comparison([Path(file) for file in args.files], args.output, args.look)


def draw_comparison(paths: list, output: str | None, look: Look) -> None:
    """Write one picture of several shapes by the same camera, each with its file's name below."""
    style, camera = look.style_and_camera(len(paths))
    output = images.check_image(output or "compare.png", look.background, [*paths, look.cpath])
    shapes = [read_shape(path) for path in paths]
    camera = camera or look.camera_around(shapes, style)
    pictures = draw_all(shapes, camera, style, look)
    pictures = [images.captioned(image, path.name) for image, path in zip(pictures, paths)]
    save_image(output, images.side_by_side(pictures, look.background))


def run_html(args: argparse.Namespace) -> None:
    write_page(Path(args.fpath), args.output, args.reference, args.look)


def write_page(path: Path, output: str | None, cloud: str | None, look: Look) -> None:
    """Write a mesh's html page, with a cloud's points coloured by their distance to the mesh."""
    output = helper.check_writable(output or f"{helper.without_suffix(path)}.html", [".html"],
                                  [path, cloud])
    mesh = read_mesh(path)
    dots = None
    if cloud:
        points = read_shape(cloud).points
        frame = Frame.of(mesh.points)  # float32 has no room for an offset
        distances = frame.scale * neighbours.point_to_surface(frame.to_unit(points),
                                                           frame.geometry_to_unit(mesh))
        top = colors.scale_top(distances)
        dots = viewer.Dots(points, colors.color_map(distances, top),
                           f"points: distance to the mesh, 0 (dark) to {top:g}")
    mesh, faces = viewer.thinned(mesh)
    title = path.name.encode(errors="replace").decode()
    text = viewer.page(mesh, title, colors.vertex_colors(mesh, look.color), look.azimuth,
                       look.elevation, look.zoom, look.up, dots)
    with helper.replacing(output) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"{output}{faces}")


def run_curves(args: argparse.Namespace) -> None:
    draw_curves(Path(args.fpath), args.output)


def draw_curves(log: Path, output: str | None) -> None:
    """Write the curves of a log, or of the run folder that has it."""
    folder = log if log.is_dir() else log.parent
    output = images.check_image(output or folder / "curves.png", "white", [log])
    save_image(output, charts.curves(charts.read_log(log), folder.resolve().name))


def run_slices(args: argparse.Namespace) -> None:
    draw_slices(args.model_load_path, args.output, args.context, args.device_id, args.threads)


def draw_slices(checkpoint: str | None, output: str | None, context: str, device_id: str,
                thread_count: int) -> None:
    """Write slices of a checkpoint's field. checkpoint None: the newest one here or below."""
    from igr.backend import devices, threads
    import networks

    path = Path(checkpoint or checkpoints.newest_checkpoint())
    output = images.check_image(output or path.with_name(path.stem + "_slices.png"), "white",
                                [path])
    device = devices.set_context(context, device_id)
    threads.set_count(thread_count)
    network = networks.load_network(path, device.kernel)
    save_image(output, charts.slices(network.mlp.evaluate_with_gradient, network.volume_factor,
                                     f"{path.name}, unit frame"))


# --------------------------------------------------------------------------------- the command line


def add_look_flags(mode: argparse.ArgumentParser, default_output: str, colored="shape") -> None:
    """-o, and the flags of all modes that show shapes; colored: what --color is for."""
    add = mode.add_argument
    number = helper.number
    look = Look()
    add("-o", "--output", help=f"what to write; default: {default_output}")
    add("--azimuth", type=number(float), default=look.azimuth, help="of the camera, degrees")
    add("--elevation", type=number(float, -90, 90), default=look.elevation,
        help="of the camera, degrees")
    add("--zoom", type=number(float, above=0), default=look.zoom,
        help="1: the shape fills the picture")
    add("--up", choices=cameras.UPWARDS, default=look.up,
        help="axis that points upwards (--up=-z for a negative one)")
    add("--color", default=look.color,
        help=f"of the {colored}: a name, #rrggbb, normal (x, y, z as red, green, blue) or "
        "file (its own colours, or greys by its intensities)")


def add_picture_flags(mode: argparse.ArgumentParser, title: str, one_camera: bool = True) -> None:
    """The flags of all modes that draw shapes; with one camera, -c for it as well."""
    default_size = "960 720"
    if one_camera:
        default_size = "the camera file's, else 960 720"
        mode.add_argument("-c", "--cpath",
                          help="camera, instead of angles and zoom: json saved with S in a window")
    add = mode.add_argument_group(title).add_argument
    number = helper.number
    look = Look()
    add("--size", type=number(int, 16, 16384), nargs=2, metavar=("W", "H"),
        help=f"of each picture, pixels; default: {default_size}")
    add("--background", choices=["white", "transparent"], default=look.background,
        help="transparent needs .png")
    add("--ground", action="store_true", help="add a soft shadow below")
    add("--samples", metavar="N", type=number(int, 1, 8), default=look.samples,
        help="N x N rays per pixel")
    add("--point-size", type=number(float, 0.01, 10), default=look.point_size,
        help="of a cloud's points; 1: the usual size")


def add_window_modes(add_mode) -> None:
    """mesh, pcd and pcdmesh; add_mode as in parse_args."""
    mesh = add_mode("mesh", run_mesh, "a mesh", "mesh to look at")
    pcd = add_mode("pcd", run_pcd, "a cloud, or a mesh's vertices", "file to look at")
    pcdmesh = add_mode("pcdmesh", run_pcdmesh, "points sampled on a mesh, beside the mesh",
                       "mesh to look at")
    for mode, end in ((mesh, ""), (pcd, "_points"), (pcdmesh, "_pcdmesh")):
        add_look_flags(mode, f"a window; without a display, <file>{end}.png")
        add_picture_flags(mode, "of the picture, not of a window")
    pcdmesh.add_argument("-r", "--rate", type=helper.number(float, above=0), default=0.1,
                         help="points to sample for each vertex of the mesh")


def add_file_modes(add_mode) -> None:
    """images, error, compare and html, which only write files; add_mode as in parse_args."""
    number = helper.number
    mode = add_mode("images", run_images,
                    "views of a mesh or cloud from random directions, or once around it",
                    "file to look at")
    add_look_flags(mode, "the folder that has the file's name without suffix")
    add_picture_flags(mode, "of the pictures", one_camera=False)
    add = mode.add_argument
    add("-n", "--number", type=number(int, 1), help="of views; default: 8, with --turntable 36")
    add("--seed", type=number(int, 0), default=412, help="of the random directions")
    add("--turntable", action="store_true",
        help="once around the upward axis, beginning at --azimuth and --elevation")
    add("--movie", help="write the views as this .gif or .mp4, too (.mp4 needs imageio-ffmpeg)")

    mode = add_mode("error", run_error,
                    "a mesh coloured by its distance to a reference, beside the reference",
                    "mesh to look at")
    add_look_flags(mode, "<mesh>_error.png", colored="reference")
    add_picture_flags(mode, "of the picture")
    add = mode.add_argument
    add("-r", "--reference", help="mesh or cloud; default: the cloud it was trained on")
    add("--max", type=number(float, above=0),
        help="distance at the top of the scale, unit frame; default: 99 %% lie below")

    mode = add_mode("compare", run_compare, "several meshes or clouds by the same camera")
    mode.add_argument("files", nargs="+", help="files to look at")
    add_look_flags(mode, "compare.png")
    add_picture_flags(mode, "of the picture")

    mode = add_mode("html", run_html, "a mesh as one html file that turns it in a browser",
                    "mesh to show")
    add_look_flags(mode, "<mesh>.html")
    mode.add_argument("-r", "--reference", metavar="CLOUD", help="show this cloud as well, "
                      "coloured by its points' distance to the mesh")


def add_training_modes(add_mode) -> None:
    """curves and slices; add_mode as in parse_args."""
    mode = add_mode("curves", run_curves, "a training's losses, rate and distances",
                    "run folder, or its log.jsonl")
    mode.add_argument("-o", "--output", help="picture; default: curves.png beside the log")
    mode = add_mode("slices", run_slices, "f with iso-lines and |grad f| on three planes")
    mode.add_argument("-mlp", "--model-load-path",
                      help="checkpoint; default: the newest here or below")
    mode.add_argument("-o", "--output", help="picture; default: <checkpoint>_slices.png")
    helper.add_flags(mode, helper.DeviceOptions)


def parse_args(argv=None) -> argparse.Namespace:
    """The flags of the mode, with `run`, its function, and, where it shows shapes, `look`."""
    parser = helper.parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    def add_mode(name: str, run, text: str, file=None) -> argparse.ArgumentParser:
        """A mode's parser; file: what -f names, for the modes that have it."""
        mode = commands.add_parser(name, help=text, description=text,
                                   formatter_class=parser.formatter_class)
        mode.set_defaults(run=run)
        if file:
            mode.add_argument("-f", "--fpath", required=True, help=file)
        return mode

    add_window_modes(add_mode)
    add_file_modes(add_mode)
    add_training_modes(add_mode)
    args = parser.parse_args(argv)
    look = {name: value for name, value in vars(args).items() if name in Look._fields}
    if look:
        args.look = Look(**look)
    return args


def main(args: argparse.Namespace) -> None:
    args.run(args)


if __name__ == "__main__":
    helper.run(main, parse_args())
