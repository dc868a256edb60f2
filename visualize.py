"""Look at meshes, clouds and trainings: pictures on any machine, windows where there is a display.

    python visualize.py mesh -f bunny/param_NNNNN_mesh.ply       a mesh
    python visualize.py pcd -f bun_zipper_pcd.ply                a cloud
    python visualize.py pcdmesh -f bunny/param_NNNNN_mesh.ply    points of a mesh, and the mesh
    python visualize.py images -f bunny/param_NNNNN_mesh.ply     views from all around, as files
    python visualize.py error -f mesh.ply -r truth.ply           a mesh coloured by its distance
    python visualize.py compare a.ply b.ply c.ply                several, by the same camera
    python visualize.py html -f mesh.ply                         a page that rotates it in a browser
    python visualize.py curves -f bunny                          a training's losses and distances
    python visualize.py slices -mlp bunny/param_NNNNN.h5         f and |grad f| on three planes

The first three open windows where there is a display: "S" saves what is seen, and its camera as
json for -c. With -o, or without a display, they write a picture as the other modes do. Each mode
has its own --help.
"""

from __future__ import annotations

import argparse
from dataclasses import fields
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Callable, Mapping, NamedTuple

import helper
from helper import log, number
from igr.backend.threads import set_count
from igr.field import checkpoints
from igr.formats import files
from igr.geometry import meshes, neighbours
from igr.geometry.frames import Frame, Geometry
from igr.view import cameras, charts, colors, images, render, viewer, windows
from igr.view.cameras import View

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
    """Write a picture (height, width, 3 or 4) uint8 and report its name."""
    images.save(path, image)
    log.info(path)


def draw_all(shapes: list, view: View) -> list:
    """A picture (height, width, 3 or 4) uint8 of each shape, all by the same camera."""
    camera = view.camera(*shapes)
    shape_colors = [colors.vertex_colors(shape, view.color) for shape in shapes]
    return [render.shape(shape, camera, view, of_shape)
            for shape, of_shape in zip(shapes, shape_colors)]


def points_and_mesh(path, rate: float) -> list:
    """Points at random on a mesh, `rate` for each vertex, and the mesh."""
    mesh = read_mesh(path)
    n = max(1, int(rate * len(mesh.points)))
    meshes.check_points(n, f"-r {rate:g}")
    return [meshes.sample_mesh(mesh, n, np.random.default_rng(0)), mesh]


# ------------------------------------------------- the modes; a mode's parameters are its own flags


def show(read: Callable, end: str, fpath: Path, output: str | None, view: View, **flags) -> None:
    """Show shapes in windows; write a picture where `output` names one, or without a display.

    read(fpath, **flags) gives the shapes from left to right. end: of the picture's default name.
    """
    stem = helper.without_suffix(fpath)
    in_windows = output is None and windows.has_display()
    view = view.sized()
    if in_windows:
        return windows.show_shapes(read(fpath, **flags), view, stem)
    output = images.check_image(output or f"{stem}{end}.png", view.background, [fpath, view.cpath])
    pictures = draw_all(read(fpath, **flags), view)
    return save_image(output, images.side_by_side(pictures, view.background))


def draw_views(fpath: Path, output: str | None, view: View, movie: str | None,
               number: int | None, **directions) -> None:
    """Write views of a shape as <folder>/00000.png, ... and as a movie, if `movie` names one.

    directions: `turntable` and `seed`, as cameras.views_around has them. Pictures that an earlier,
    longer series left in the folder stay there, with a warning.
    """
    number = number or (36 if directions["turntable"] else 8)
    view = view.sized(number if movie else 1)
    movie = helper.check_writable(movie, [".gif"], [fpath]) if movie else None
    folder = images.check_folder(output or helper.without_suffix(fpath))
    shape = read_shape(fpath)
    shape_colors = colors.vertex_colors(shape, view.color)
    folder.mkdir(parents=True, exist_ok=True)
    suffix = ".jpeg" if view.background == "white" else ".png"
    older = set(folder.glob(f"[0-9][0-9][0-9][0-9][0-9]{suffix}"))
    frames = []
    for i, one in enumerate(cameras.views_around(view, number, **directions)):
        image = render.shape(shape, one.camera(shape), one, shape_colors)
        save_image(folder / f"{i:05d}{suffix}", image)
        older.discard(folder / f"{i:05d}{suffix}")
        if movie:
            frames.append(image)
    if older:
        log.warning(f"{folder}: {len(older)} pictures of an earlier series stay, from {min(older)}")
    if movie:
        images.save_movie(movie, frames)
        log.info(movie)


def draw_error(fpath: Path, output: str | None, view: View, reference: str | None,
               top: float | None) -> None:
    """Write a picture of a mesh coloured by its distance to a reference, the reference beside it,
    and the scale of the colours.

    reference: path; None for the cloud that the mesh's network was trained on. top: the scale's
    end, unit frame; None: chosen from the distances.
    """
    view = view.sized()
    output = images.check_image(output or f"{helper.without_suffix(fpath)}_error.png",
                                view.background, [fpath, reference, view.cpath])
    mesh = read_mesh(fpath)
    truth = read_shape(reference or checkpoints.trained_cloud(fpath))
    camera = view.camera(mesh, truth)
    truth_colors = colors.vertex_colors(truth, view.color)
    distances = colors.reference_distances(mesh, truth)
    top = colors.scale_top(distances) if top is None else top
    pictures = [
        render.shape(mesh, camera, view, colors.color_map(distances, top), SCALAR_SHADING),
        render.shape(truth, camera, view, truth_colors),
        charts.legend(view.size[1], top, "distance to the reference, unit frame",
                      bool((distances > top).any())),
    ]
    save_image(output, images.side_by_side(pictures, view.background))


def draw_comparison(files: list, output: str | None, view: View) -> None:
    """Write one picture of several shapes by the same camera, each with its file's name below."""
    view = view.sized(len(files))
    output = images.check_image(output or "compare.png", view.background, [*files, view.cpath])
    pictures = draw_all([read_shape(path) for path in files], view)
    pictures = [images.captioned(image, path.name) for image, path in zip(pictures, files)]
    save_image(output, images.side_by_side(pictures, view.background))


def write_page(fpath: Path, output: str | None, view: View, reference: str | None) -> None:
    """Write a mesh's html page, with a cloud's points coloured by their distance to the mesh.

    reference: path of the cloud; None for none.
    """
    output = helper.check_writable(output or f"{helper.without_suffix(fpath)}.html", [".html"],
                                   [fpath, reference])
    mesh = read_mesh(fpath)
    dots = None
    if reference:
        points = read_shape(reference).points
        frame = Frame.of(mesh.points)  # float32 has no room for an offset
        distances = frame.scale * neighbours.point_to_surface(frame.to_unit(points),
                                                              frame.geometry_to_unit(mesh))
        top = colors.scale_top(distances)
        dots = viewer.Dots(points, colors.color_map(distances, top),
                           f"points: distance to the mesh, 0 (dark) to {top:g}")
    shown = viewer.thinned(mesh, viewer.MOST_FACES)
    title = fpath.name.encode(errors="replace").decode()
    text = viewer.page(shown, title, view, colors.vertex_colors(shown, view.color), dots)
    with helper.replacing(output) as temporary:
        temporary.write_text(text, encoding="utf-8")
    log.info(f"{output}" if shown is mesh else f"{output}: {len(mesh.faces):,} faces thinned to "
             f"{len(shown.faces):,} for the browser")


def draw_curves(fpath: Path, output: str | None) -> None:
    """Write the curves of a log, or of the run folder that has it."""
    folder = fpath if fpath.is_dir() else fpath.parent
    output = images.check_image(output or folder / "curves.png", "white", [fpath])
    save_image(output, charts.curves(charts.read_log(fpath), folder.resolve().name))


def draw_slices(model_load_path: str | None, output: str | None, context: str, device_id: str,
                threads: int) -> None:
    """Write slices of a checkpoint's field: of the newest one here or below, if none is named."""
    from igr.backend import devices
    import networks

    path = checkpoints.checkpoint_of(model_load_path)
    output = images.check_image(output or path.with_name(path.stem + "_slices.png"), "white",
                                [path])
    device = devices.set_context(context, device_id)
    set_count(threads)
    network = networks.load_network(path, device.kernel)
    save_image(output, charts.slices(network.mlp.evaluate_with_gradient, network.volume_factor,
                                     f"{path.name}, unit frame"))


# --------------------------------------------------------------------------------- the command line


class Mode(NamedTuple):
    """A mode of the command line. Its flags are -f, -o, those of a View, and its own."""

    run: Callable[..., None]  # its parameters are the flags; `view`: those of a View
    text: str  # what it shows
    output: str  # what is written without -o
    file: str = ""  # what -f names; "": there is no -f
    own: Mapping = MappingProxyType({})  # names of a flag: what argparse's add_argument takes
    without: frozenset = frozenset()  # fields of View that are no flags of the mode


EVERY = frozenset(field.name for field in fields(View))
IN_FILES = frozenset(("size", "background", "ground", "samples"))  # windows do not heed these
WINDOW = "a window; without a display, <file>"
MODES = {
    "mesh": Mode(partial(show, lambda path: [read_mesh(path)], ""), "a mesh", f"{WINDOW}.png",
                 "mesh to look at"),
    "pcd": Mode(partial(show, lambda path: [read_shape(path)._replace(faces=None)], "_points"),
                "a cloud, or a mesh's vertices", f"{WINDOW}_points.png", "file to look at"),
    "pcdmesh": Mode(
        partial(show, points_and_mesh, "_pcdmesh"), "points sampled on a mesh, beside the mesh",
        f"{WINDOW}_pcdmesh.png", "mesh to look at",
        {"-r --rate": dict(type=number(float, above=0), default=0.1,
                           help="points to sample for each vertex of the mesh")}),
    "images": Mode(
        draw_views, "views of a mesh or cloud from random directions, or once around it",
        "the folder that has the file's name without suffix", "file to look at",
        {"-n --number": dict(type=number(int, 1), help="of views; default: 8, with --turntable 36"),
         "--seed": dict(type=number(int, 0), default=412, help="of the random directions"),
         "--turntable": dict(action="store_true", help="once around the upward axis, beginning at "
                             "--azimuth and --elevation"),
         "--movie": dict(help="write the views as this .gif, too")}, frozenset(["cpath"])),
    "error": Mode(
        draw_error, "a mesh coloured by its distance to a reference, beside the reference",
        "<mesh>_error.png", "mesh to look at",
        {"-r --reference": dict(help="mesh or cloud; default: the cloud it was trained on"),
         "--max": dict(dest="top", metavar="MAX", type=number(float, above=0), help="distance at "
                       "the top of the scale, unit frame; default: 99 %% lie below")}),
    "compare": Mode(draw_comparison, "several meshes or clouds by the same camera", "compare.png",
                    own={"files": dict(nargs="+", type=Path, help="files to look at")}),
    "html": Mode(
        write_page, "a mesh as one html file that rotates it in a browser", "<mesh>.html",
        "mesh to show",
        {"-r --reference": dict(metavar="CLOUD", help="show this cloud as well, coloured by its "
                                "points' distance to the mesh")}, IN_FILES | {"cpath"}),
    "curves": Mode(draw_curves, "a training's losses, rate and distances",
                   "curves.png beside the log", "run folder, or its log.jsonl", without=EVERY),
    "slices": Mode(
        draw_slices, "f with iso-lines and |grad f| on three planes", "<checkpoint>_slices.png",
        own={"-mlp --model-load-path": dict(help="checkpoint, or a folder: the newest in it or "
                                          "below; default: this folder")},
        without=EVERY),
}


def parse_args(argv=None) -> argparse.Namespace:
    """`command`, a mode, and its flags."""
    parser = helper.parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, mode in MODES.items():
        flags = commands.add_parser(name, help=mode.text, description=mode.text,
                                    formatter_class=parser.formatter_class)
        if mode.file:
            flags.add_argument("-f", "--fpath", required=True, type=Path, help=mode.file)
        for names, of_argparse in mode.own.items():
            flags.add_argument(*names.split(), **of_argparse)
        flags.add_argument("-o", "--output", help=f"what to write; default: {mode.output}")
        helper.add_flags(flags, View, IN_FILES | mode.without)
        in_files = flags.add_argument_group("of pictures in files, not of windows")
        helper.add_flags(in_files, View, EVERY - IN_FILES | mode.without)
    helper.add_flags(commands.choices["slices"], helper.DeviceOptions)
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    flags = dict(vars(args))
    mode = MODES[flags.pop("command")]
    if mode.without != EVERY:
        flags["view"] = helper.options_from(View, flags)
    mode.run(**{name: value for name, value in flags.items() if name not in EVERY})


if __name__ == "__main__":
    helper.run(main, parse_args())
