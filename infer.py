"""Make a mesh of a trained network, in the coordinates of the cloud that it was trained on.

    python infer.py -mlp bunny/param_NNNNN.h5 --grid-size 512

writes bunny/param_NNNNN_mesh.ply. The checkpoint knows its network, its frame, its cube and its
cloud. f is evaluated only near the surface (see igr/isosurface/extraction.py), for the
mesh of the whole grid. Then the mesh gets the detail that the cloud's points have beyond the
network (see igr/refinement/detail.py), pieces that no point supports are dropped, and the surface
is cut off where the points end, but not across small holes. A verdict says how good the mesh is.

    python infer.py -mlp bunny/param_NNNNN.h5 --normals bunny/oriented.ply

also writes the cloud with the normals of that surface.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
import logging
from pathlib import Path
from typing import NamedTuple, Sequence

import datasets
import helper
from helper import UserError, flag, log, number
from igr.backend import devices, threads
from igr.backend.devices import Device
from igr.field import checkpoints
from igr.formats import files
from igr.geometry import meshes, neighbours, supported_components
from igr.geometry.frames import Frame, Geometry
from igr.isosurface import extraction
from igr.pointcloud import noise
from igr.refinement import detail, trimming, verdict
from igr.refinement.coloring import NEIGHBOURS, carry_colors
from igr.refinement.detail import NEAR, Detail
from igr.refinement.orientation import normals_of
from igr.refinement.simplification import FEWEST, simplified
from igr.refinement.trimming import FAR, NOISY_SPACING
from igr.refinement.verdict import Verdict
import networks
from networks import Network

import numpy as np

TRIM_POINTS = 1_000_000  # of a larger cloud so many tell where the points end
HOLE = 0.25  # diameter of the largest hole that is closed, in parts of the cloud's longest side
CELL = 0.5  # side of the cells in which points are averaged, in parts of the grid's
CROWD = 2.0  # points for each of the surface's cells from which on they are averaged
NO_DETAIL = "detail: off, this is the network's surface"
SIGNS = {"ascent": 1, "descent": -1}  # of f outside


def detail_rounds(text: str) -> str | int:
    """The type of --detail."""
    return text if text in ("auto", "off") else number(int, 0)(text)


def trim_distance(text: str) -> str | float:
    """The type of --trim."""
    return text if text == "auto" else number(float, above=0)(text)


@dataclass(frozen=True)
class Extraction:
    """Which surface of a network becomes the mesh, and what is done with the mesh."""

    grid_size: int = flag(256, type=number(int, 8),
                          help="grid points along the longest side of the box")
    sub_batch_size: int | None = flag(
        None, "-sb", type=number(int, 1),
        help="points at a time; default: what suits the device (the CPU's kernel ignores it)")
    volume_factor: float | None = flag(
        None, "-vf", type=number(float, high=100, above=0),
        help="half the side of the cube, unit frame; default: the checkpoint's, else 1.5")
    bounds: Sequence[float] | None = flag(
        None, type=number(float), nargs=6, metavar=("X0", "Y0", "Z0", "X1", "Y1", "Z1"),
        help="extract this box, in the cloud's coordinates, instead of the cube")
    level: float = flag(
        0.0, type=number(float),
        help="value of f on the mesh, unit frame; above 0 is outside where f grows outwards")
    gradient_direction: str | None = flag(
        None, "-gd", choices=list(SIGNS),
        help="whether f grows or falls towards the outside; default: seen at the sides of the "
        "training's cube")
    detail: str | int = flag(
        "auto", type=detail_rounds, metavar="{auto,off,ROUNDS}",
        help="what the cloud's points say beyond the network: auto, as much as brings points that "
        "were left out nearer; off; or this many rounds of smoothing")
    fpath: str | Path | None = flag(
        None, "-f", help="cloud for detail, ends, verdict, --normals and the pieces that no "
        "point supports; default: the one of the training")
    keep_all: bool = flag(False, help="keep pieces that no point of the cloud supports")
    largest: bool = flag(False, alternatives="components",
                         help="keep only the largest component")
    min_component: float | None = flag(
        None, type=number(float, 0, 1), metavar="F", alternatives="components",
        help="drop components with less than this share of the area")
    fill: float | None = flag(
        None, type=number(float, 0), metavar="D", alternatives="ends",
        help="close holes in the points up to this diameter, in the cloud's units; across larger "
        f"ones and beyond the points the surface is cut off; default: {HOLE:g} of the cloud's "
        "longest side; with --level nothing is cut off")
    closed: bool = flag(False, alternatives="ends", help="cut off nothing, however far from the "
                        "points the surface runs to close itself")
    trim: str | float | None = flag(
        None, type=trim_distance, metavar="{auto,D}", alternatives="ends",
        help="cut off all that is farther from the cloud than D, in its units; auto: than its "
        "points suggest, so that no hole is closed")
    smooth_rims: bool = flag(False, help="smooth the rims of an open mesh")
    faces: int | None = flag(
        None, type=number(int, FEWEST), metavar="N",
        help="simplify the mesh to N faces; prints the error that it makes")
    dense: bool = flag(False, help="evaluate the whole grid: the slow reference")


# ------------------------------------------------------------------------------------ from Python


class Result(NamedTuple):
    """The mesh of a network, and how it came about."""

    mesh: Geometry  # world coordinates
    stats: extraction.Stats
    detail: Detail | None
    cloud: datasets.TrainingPoints | None  # the points that the mesh was made with, if any
    verdict: Verdict | None  # None without such points, and on other levels

    @property
    def note(self) -> str:
        """What a mesh file says about its detail."""
        return str(self.detail.report) if self.detail else NO_DETAIL


def mesh_of(checkpoint: str | Path, options: Extraction = Extraction(),
            device: Device | None = None) -> Result:
    """Make the mesh of a checkpoint's network, in world coordinates.

    device: what devices.set_context returned; default: CUDA if it works, else the CPU.
    Raises UserError where the checkpoint is damaged, or no surface is found or left.
    """
    device = device or devices.set_context("auto", "0")
    return extracted(networks.load_network(checkpoint, device.kernel), options, device)


class Work(NamedTuple):
    """What the steps from the network to the mesh share. All lengths are in the unit frame."""

    network: Network
    options: Extraction
    grid: extraction.Grid
    cloud: datasets.TrainingPoints | None


def extracted(network: Network, options: Extraction, device: Device) -> Result:
    """Make the mesh of a network on a device: mesh_of() after the checkpoint is read."""
    half_side = options.volume_factor or network.volume_factor
    grid = extraction.Grid.of(*grid_box(options.bounds, half_side, network.frame),
                              options.grid_size)
    log.info(f"grid {' x '.join(map(str, grid.shape))}")
    if network.info.get("paper") and options.detail == "auto":
        log.info("detail: off, the paper has none; --detail with a number adds it")
        options = replace(options, detail="off", keep_all=True,
                          closed=options.trim is None and options.fill is None)
    work = Work(network, options, grid, known_cloud(network, options))
    mesh, stats = level_set(work, options.sub_batch_size or device.rows)
    fitted = None
    if work.cloud:
        mesh = supported_part(mesh, work)
        mesh, fitted = detailed(mesh, work)
    mesh = trimmed(mesh, work, fitted.report.noise if fitted else 0.0)
    mesh = finished(kept_part(mesh, options), work)
    mesh = mesh._replace(points=network.frame.to_world(mesh.points))
    return Result(mesh, stats, fitted, work.cloud, judged(mesh, work))


def level_set(work: Work, rows: int) -> tuple[Geometry, extraction.Stats]:
    """Extract the level set in the unit frame, and warn where it may have missed something.

    rows: points that f is evaluated at together.
    """
    network, options = work.network, work.options

    def f(points: np.ndarray) -> np.ndarray:
        return network.mlp.evaluate(points, rows)

    outward = SIGNS.get(options.gradient_direction)
    extraction.check_memory(f, work.grid, options.level)
    mesh, stats = extraction.extract(f, work.grid, options.level, dense=options.dense,
                                     outward=outward or sign_outside(f, network.volume_factor))
    log.info(f"{stats.evaluations} evaluations for {stats.cells} cells on the surface "
             f"({stats.dense / stats.evaluations:.0f} times fewer than the grid has points), "
             f"{stats.seconds:.1f} s")
    for warning in extraction.warnings_of(stats):
        log.warning(warning)
    if outward and not stats.open and meshes.signed_volume(mesh) < 0:
        log.warning("the mesh is inside out: by -gd (outward) f "
                    f"{'grows' if outward > 0 else 'falls'} towards the outside, but it does the "
                    "opposite; leave the flag away")
    return mesh, stats


def sign_outside(f, half_side: float) -> float:
    """+1 or -1: the sign of f at the sides of the training's cube."""
    return extraction.sign_outside(f, extraction.Grid.of([-half_side] * 3, [half_side] * 3, 8))


def known_cloud(network: Network, options: Extraction) -> datasets.TrainingPoints | None:
    """Read the points that the options need: of the cloud that they name, else of the training's.

    None where they need none, or, with a warning, where the training's is gone or has changed.
    Raises UserError for a named cloud that cannot be read, and where --trim or --fill needs one.
    """
    path = options.fpath
    needed = options.trim is not None or options.fill is not None
    if options.detail == "off" and options.keep_all and not needed:
        return None
    try:
        if not (path or network.info.get("cloud")):
            raise UserError("the checkpoint does not know its cloud")
        return datasets.training_points(path or network.info["cloud"], network.info, network.frame,
                                        named=bool(path))
    except UserError as error:
        if path or needed:
            raise UserError(f"{error}" if path else f"{error}; -f names the cloud") from None
        log.warning(f"no detail, and nothing dropped, cut or judged: {error}; -f names the cloud")
        return None


def supported_part(mesh: Geometry, work: Work) -> Geometry:
    """Drop the pieces of a mesh that no point of the cloud supports, unless --keep-all."""
    if work.options.keep_all:
        return mesh
    supported = supported_components.supported_faces(mesh, work.cloud.points)
    if supported.all():
        return mesh
    return keep_and_report(mesh, supported, "pieces without points (--keep-all keeps them)")


def detailed(mesh: Geometry, work: Work) -> tuple[Geometry, Detail | None]:
    """Move a mesh (unit frame) to the surface with detail. Returns it and the detail, if any."""
    options, cloud, grid = work.options, work.cloud, work.grid
    if options.detail == "off":
        log.info(NO_DETAIL)
        return mesh, None
    rounds = None if options.detail == "auto" else int(options.detail)
    cells = len(mesh.points) / CELL**2  # a mesh has about one vertex for each cell of the grid
    cell = CELL * grid.spacing if len(cloud.points) > CROWD * cells else None
    fitted = detail.fit(work.network.mlp.evaluate_with_gradient, cloud.points, rounds,
                        cloud.held_out, cell=cell)
    log.info(fitted.report)
    moved = fitted.move(mesh.points, options.level)
    np.clip(moved, grid.low, grid.points(grid.shape - 1), out=moved)
    np.copyto(moved, mesh.points, where=on_side(mesh, grid))
    return mesh._replace(points=moved), fitted


def on_side(mesh: Geometry, grid: extraction.Grid) -> np.ndarray:
    """Mask (N, 3) of the coordinates that lie on a side of the grid's box, where cuts are straight.
    """
    return (mesh.points < grid.low + 1e-9) | (mesh.points > grid.points(grid.shape - 1) - 1e-9)


def trimmed(mesh: Geometry, work: Work, deviation: float) -> Geometry:
    """Cut off what is far from the cloud and closes no hole, or what --trim says.

    deviation: standard deviation of the points around the surface; all in the unit frame.
    """
    cloud, options = work.cloud, work.options
    if cloud is None or options.closed or (options.level and not options.trim):
        return mesh  # another level is meant to be away from the points
    points = cloud.points
    if len(points) > TRIM_POINTS:
        points = points[np.random.default_rng(0).permutation(len(points))[:TRIM_POINTS]]
    distance = neighbours.nearest(mesh.points, points)[0]
    scale = work.network.frame.scale
    if options.trim not in (None, "auto"):
        mesh, report = trimming.trim(mesh, distance * scale, float(options.trim))
        log.info(f"--trim {options.trim:g}: {report}")
        return mesh
    values = trimming.distance_ratio(mesh.points, points, least=NOISY_SPACING * deviation)
    if options.trim is None:
        hole = 2 * HOLE if options.fill is None else options.fill / scale
        values, holes = trimming.closing_holes(mesh, values, FAR, distance, hole)
        if holes:
            log.info(f"closed where points are missing: up to {2 * scale * max(holes):.3g} across "
                     "(--fill 0 cuts it off)")
    if not (values > FAR).any():
        return mesh
    try:
        mesh, report = trimming.trim(mesh, values, FAR)
    except UserError:
        if options.trim:
            raise
        log.warning("nearly all of the surface is far from the points: nothing of it is cut off")
        return mesh
    log.info(f"the surface ends where the points end: {report}"
             + ("" if options.trim else " (--closed keeps it)"))
    return mesh


def judged(mesh: Geometry, work: Work) -> Verdict | None:
    """Judge a mesh (world coordinates) by the points of the cloud that lie in the grid's box.

    None without a cloud, and on other levels, which are meant to be away from the points.
    """
    if work.cloud is None or work.options.level:
        return None
    points, grid = work.cloud.points, work.grid
    if work.options.bounds is not None:
        high = grid.points(grid.shape - 1)
        points = points[((points >= grid.low) & (points <= high)).all(axis=1)]
    tree = verdict.tree_of(work.network.frame.to_world(points))
    return verdict.judge(mesh, tree, noise.scatter(tree), len(points))


def grid_box(bounds: Sequence[float] | None, half_side: float,
             frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    """The low and the high corner (3,) of the grid's box in the unit frame.

    bounds: of the box (6,), world coordinates; None: the cube of half side half_side (unit frame).
    Raises UserError where the box is inside out.
    """
    if bounds is None:
        return np.full(3, -half_side), np.full(3, half_side)
    if not all(low < high for low, high in zip(bounds[:3], bounds[3:])):
        raise UserError(f"--bounds {' '.join(f'{b:g}' for b in bounds)}: the box is inside out; "
                        "its lower corner comes first")
    return frame.to_unit(bounds[:3]), frame.to_unit(bounds[3:])


def kept_part(mesh: Geometry, options: Extraction) -> Geometry:
    """Keep the largest component, or those with at least the share min_component of the area, if
    the options ask for it. Raises UserError where nothing is left."""
    if options.largest:
        return keep_and_report(mesh, meshes.large_components(mesh, 1.0), "--largest")
    if options.min_component is not None:
        share = options.min_component
        return keep_and_report(mesh, meshes.large_components(mesh, share),
                               f"--min-component {share:g}")
    return mesh


def finished(mesh: Geometry, work: Work) -> Geometry:
    """Smooth the rims of a mesh (unit frame) except on the sides of the grid's box, reduce its
    faces, both if the options ask for it, and colour it as the cloud, if that has colours."""
    options, cloud = work.options, work.cloud
    if options.smooth_rims:
        log.info(f"--smooth-rims: {meshes.boundary_loops(mesh)} rims")
        mesh = trimming.smooth_rims(mesh, on_side(mesh, work.grid).any(axis=1))
    if options.faces:
        mesh, report = simplified(mesh, options.faces, work.network.frame.scale)
        log.info(f"--faces {options.faces}: {report}")
    if cloud is not None and cloud.colors is not None:
        log.info(f"colours: of the {NEIGHBOURS} points nearest to each vertex")
        mesh = carry_colors(Geometry(cloud.points, colors=cloud.colors), mesh)
    return mesh


def keep_and_report(mesh: Geometry, keep: np.ndarray, reason: str) -> Geometry:
    """Keep the faces in the mask keep (M,) and log what was dropped. Raises UserError if all were.
    """
    if not keep.any():
        raise UserError(f"{reason} would drop the whole mesh")
    kept = meshes.keep_faces(mesh, keep)
    areas = meshes.face_areas(mesh)
    log.info(f"{reason}: dropped {(~keep).sum()} of {len(keep)} faces "
             f"({100 * areas[~keep].sum() / areas.sum():.2g} % of the area), "
             f"{meshes.components(mesh).max() + 1} components before, "
             f"{meshes.components(kept).max() + 1} now")
    return kept


def oriented_cloud(network: Network, result: Result, path: str | Path) -> Geometry:
    """Give the cloud of a file the normals of the surface with detail at its points.

    result: made with the cloud of that file. Raises UserError where it is without detail, or where
    the points do not lie on the network's surface.
    """
    if result.detail is None:
        raise UserError("--normals needs a cloud and its detail, and there is none")
    if result.detail.report.near < NEAR:
        raise UserError(f"{path}: does not lie on the network's surface; train.py, longer, makes "
                        "a better one, which -mlp names")
    mlp = network.mlp
    normals, on_surface = normals_of(mlp.evaluate_with_gradient, result.detail,
                                     result.cloud.points)
    normals *= sign_outside(mlp.evaluate, network.volume_factor)
    log.info(f"{len(normals)} normals, {(~on_surface).sum()} of them of points that are away from "
             "the surface")
    return files.read_cloud(path)._replace(normals=normals)


def description(mesh: Geometry) -> str:
    """Describe a mesh in a line: its size, and its components if there are several."""
    text = f"{len(mesh.points)} vertices, {len(mesh.faces)} faces"
    areas = np.bincount(meshes.components(mesh), meshes.face_areas(mesh))
    if len(areas) > 1:
        share = 100 * areas.max() / areas.sum()
        text += (f", {len(areas)} components, the largest with {share:.3g} % of the area "
                 "(--largest keeps only that)")
    return text


def report_verdict(found: Verdict) -> None:
    """Log a verdict: a result in a line, and its troubles, doubts as warnings."""
    log.info(f"verdict: {found}")
    for trouble in found.troubles:
        log.log(logging.WARNING if trouble.level else logging.INFO, trouble.text)


# ------------------------------------------------------------------------------- the command line


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = helper.parser(__doc__)
    add = parser.add_argument
    add("-mlp", "--model-load-path",
        help="checkpoint, or a folder: the newest in it or below; default: this folder")
    add("-o", "--output", help="mesh to write (.ply .obj .off .stl .glb); default: "
        "<checkpoint>_mesh.ply beside the checkpoint")
    add("--normals", metavar="FILE",
        help="also write the cloud to this file, with the normals of the surface with detail")
    helper.add_flags(parser, helper.DeviceOptions)
    helper.add_flags(parser, Extraction)
    add("--quiet", action="store_true", help="print only warnings and the name of the mesh")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    device = devices.set_context(args.context, args.device_id)
    threads.set_count(args.threads)
    checkpoint = checkpoints.checkpoint_of(args.model_load_path)
    network = networks.load_network(checkpoint, device.kernel)
    log.info(f"{checkpoint} on {device.text}")
    output = args.output or checkpoint.with_name(checkpoint.stem + "_mesh.ply")
    cloud = args.fpath or network.info.get("cloud")
    inputs = [checkpoint, args.fpath, network.info.get("cloud")]
    helper.check_writable(output, files.MESH_WRITERS, inputs)
    files.check_digits(output, network.frame.to_world(np.linspace([-1.0] * 3, [1.0] * 3, 99)))
    if args.normals:
        helper.check_writable(args.normals, files.CLOUD_WRITERS, inputs)
    result = extracted(network, helper.options_from(Extraction, vars(args)), device)
    oriented = oriented_cloud(network, result, cloud) if args.normals else None
    files.write(output, result.mesh, result.note)  # evaluate.py tells what it measures
    if oriented:
        files.write(args.normals, oriented)
    log.info(description(result.mesh))
    if result.verdict:
        report_verdict(result.verdict)
    print(output)


if __name__ == "__main__":
    helper.run(main, parse_args())
