"""Make a mesh of a trained network, in the coordinates of the cloud that it was trained on.

    python infer.py -mlp bunny/param_00154.h5 --grid-size 512

writes bunny/param_00154_mesh.ply. The checkpoint knows its network, its frame, its cube and its
cloud. f is evaluated only near the surface (see igr/isosurface/extraction.py), for the
mesh of the whole grid. Then the mesh gets the detail that the cloud's points have beyond the
network (see igr/refinement/detail.py), and pieces that no point supports are dropped.
"""

from __future__ import annotations

import argparse
from pathlib import Path
import sys
from typing import Callable, Sequence

import datasets
import helper
from helper import UserError
from igr.backend import ranks, threads
from igr.backend.devices import Device
from igr.backend.ranks import Ranks
from igr.field import checkpoints
from igr.formats import files
from igr.geometry import meshes, neighbours, supported_components
from igr.geometry.frames import Frame, Geometry
from igr.isosurface import extraction
from igr.refinement import trimming
from igr.refinement.coloring import NEIGHBOURS, carry_colors
from igr.refinement.detail import fit
from igr.refinement.simplification import FEWEST, simplified
import networks
from networks import Network

import numpy as np

FAR = 1.5  # spacings of the points: farther from them than that, the surface is the network's own
HINT_POINTS = 1_000_000  # of larger clouds nobody is told that --trim auto may serve
CELL = 0.5  # side of the cells in which points are averaged, in parts of the grid's
CROWD = 2.0  # points for each of the surface's cells from which on they are averaged
NOISY_SPACING = 3.0  # the least spacing of noisy points, in standard deviations of their noise

# ------------------------------------------------------------------------------------ from Python


def mesh_of(checkpoint: str | Path, grid_size: int = 256, *, bounds: Sequence[float] | None = None,
            volume_factor: float | None = None, level: float = 0.0, outward: int | None = None,
            detail: str | int = "auto", cloud: str | Path | None = None, keep_all: bool = False,
            largest: bool = False, min_component: float | None = None,
            trim: str | float | None = None, smooth_rims: bool = False, faces: int | None = None,
            dense: bool = False, sub_batch_size: int | None = None,
            overrides: dict | None = None, where: tuple[Device, Ranks] | None = None,
            say: Callable[[str], None] = lambda line: None) -> tuple[Geometry, extraction.Stats]:
    """The mesh of a checkpoint's network in world coordinates, and what the extraction took.

    grid_size: grid points along the longest side of the box; bounds: of the box (6,), world
        coordinates; None: the cube of half side volume_factor (default: the checkpoint's)
    level, dense: see extraction.extract; sub_batch_size: points at a time
    outward: 1 or -1 where f grows or falls towards the outside; None: seen at the training's cube
    detail: "auto", "off" or a number of rounds, see igr/refinement/detail.py
    cloud: default: the training's; keep_all: keep pieces that no point supports
    trim: cut what is farther from the cloud, world units; "auto": 1.5 spacings
    largest, min_component: see kept_part; smooth_rims, faces: see finished
    overrides: entries of the architecture that replace the checkpoint's
    where: what ranks.start returned; default: CUDA if it works, else the CPU
    say: is called with each line about the work; warnings go to stderr

    With several ranks each returns the whole mesh, but only the first one trims it. Raises
    UserError where the checkpoint is damaged, or no surface is found or left.
    """
    device, group = where or ranks.start("auto", "0")
    network = networks.load_network(checkpoint, device.kernel, overrides)
    half_side = volume_factor or network.volume_factor
    grid = extraction.Grid.of(*grid_box(bounds, half_side, network.frame), grid_size)
    say(f"{checkpoint} on {device.text}, grid {' x '.join(map(str, grid.shape))}")
    f = group.share_out(lambda points: network.mlp.evaluate(points, sub_batch_size or device.rows))
    if network.info.get("paper") and detail == "auto":
        say("detail: off, the paper has none; --detail with a number adds it")
        detail, keep_all = "off", True
    points = None
    if detail != "off" or not keep_all or trim is not None:
        points = known_cloud(network, cloud, needed=trim is not None, say=say)
    mesh, stats = level_set(f, grid, network.volume_factor, level, dense, outward, say)
    if points:
        mesh = with_points(mesh, network, grid, level, detail, trim, points, keep_all, say, group)
    if group.rank == 0:
        mesh = kept_part(mesh, largest, min_component, say)
        mesh = finished(mesh, points, grid, smooth_rims, faces, network.frame.scale, say)
    return mesh._replace(points=network.frame.to_world(mesh.points)), stats


def level_set(f: Callable[[np.ndarray], np.ndarray], grid: extraction.Grid, half_side: float,
              level: float, dense: bool, outward: int | None,
              say: Callable[[str], None]) -> tuple[Geometry, extraction.Stats]:
    """extraction.extract in the unit frame; says what it took, and warns where it may have missed
    something. half_side: of the training's cube, where outward is seen if it is None."""
    cube = extraction.Grid.of([-half_side] * 3, [half_side] * 3, 8)
    extraction.check_memory(f, grid, level)
    mesh, stats = extraction.extract(f, grid, level, dense=dense,
                                    outward=outward or extraction.sign_outside(f, cube))
    say(f"{stats.evaluations} evaluations for {stats.cells} cells on the surface "
        f"({stats.dense / stats.evaluations:.0f} times fewer than the grid has points), "
        f"{stats.seconds:.1f} s")
    for warning in extraction.warnings_of(stats):
        print(f"warning: {warning}", file=sys.stderr)
    if outward and not stats.open and meshes.signed_volume(mesh) < 0:
        print("warning: the mesh is inside out: by -gd (outward) f "
              f"{'grows' if outward > 0 else 'falls'} towards the outside, but it does the "
              "opposite; leave the flag away", file=sys.stderr)
    return mesh, stats


def known_cloud(network: Network, path: str | Path | None, needed: bool,
                say: Callable[[str], None]) -> datasets.TrainingPoints | None:
    """The points of the cloud `path`, by default of the one that the network was trained on; None,
    after it was said, where that is not there any more or has changed.

    needed: raise UserError instead, as for a path that was named.
    """
    try:
        if not (path or network.info.get("cloud")):
            raise UserError("the checkpoint does not know its cloud")
        return datasets.training_points(path or network.info["cloud"], network.info, network.frame,
                                        named=bool(path))
    except UserError as error:
        if path or needed:
            raise UserError(f"{error}" if path else f"{error}; -f names the cloud") from None
        say(f"no detail, and no piece dropped: {error}; -f names the cloud")
        return None


def with_points(mesh: Geometry, network: Network, grid: extraction.Grid, level: float,
                detail: str | int, trim: str | float | None, cloud: datasets.TrainingPoints,
                keep_all: bool, say: Callable[[str], None], group: Ranks) -> Geometry:
    """What the cloud's points make of a mesh in the unit frame: without the pieces that none of
    them supports, with their detail and, by the first rank, trimmed. Arguments as mesh_of has them.
    """
    mesh, noise = detailed(mesh, network, grid, level, detail, cloud, keep_all, say, group)
    if group.rank == 0:
        mesh = trimmed(mesh, cloud, trim, noise, level, network.frame, say)
    return mesh


def detailed(mesh: Geometry, network: Network, grid: extraction.Grid, level: float,
             detail: str | int, cloud: datasets.TrainingPoints, keep_all: bool,
             say: Callable[[str], None], group: Ranks) -> tuple[Geometry, float]:
    """A mesh (unit frame) without unsupported pieces and with detail, and the points' noise."""
    if not keep_all:
        supported = supported_components.supported_faces(mesh, cloud.points)
        if not supported.all():
            mesh = keep_and_report(mesh, supported, "pieces without points (--keep-all keeps them)",
                                   say)
    if detail == "off":
        say("detail: off, this is the network's surface")
        return mesh, 0.0
    rounds = None if detail == "auto" else int(detail)
    cells = len(mesh.points) / CELL**2  # a mesh has about one vertex for each cell of the grid
    cell = CELL * grid.spacing if len(cloud.points) > CROWD * cells else None
    found = fit(network.mlp.evaluate_with_gradient, cloud.points, rounds, cloud.held_out, cell=cell,
                say=say, group=group)
    say(str(found.report))
    moved = found.move(mesh.points, level)
    np.clip(moved, grid.low, grid.points(grid.shape - 1), out=moved)
    np.copyto(moved, mesh.points, where=on_side(mesh, grid))
    return mesh._replace(points=moved), found.report.noise


def on_side(mesh: Geometry, grid: extraction.Grid) -> np.ndarray:
    """Mask (N, 3) of the coordinates that lie on a side of the grid's box, where cuts are straight.
    """
    return (mesh.points < grid.low + 1e-9) | (mesh.points > grid.points(grid.shape - 1) - 1e-9)


def trimmed(mesh: Geometry, cloud: datasets.TrainingPoints, trim: str | float | None, noise: float,
            level: float, frame: Frame, say: Callable[[str], None]) -> Geometry:
    """A mesh (unit frame) without what is far from the cloud; where nothing is asked for and much
    is far, says so. trim: as mesh_of has it; noise: of the points, unit frame."""
    if trim not in (None, "auto"):
        values = neighbours.nearest(mesh.points, cloud.points)[0] * frame.scale
        mesh, report = trimming.trim(mesh, values, float(trim))
        say(f"--trim {trim:g}: {report}")
        return mesh
    if trim is None and (level or len(cloud.points) > HINT_POINTS):
        return mesh  # another level is meant to be away from the points; the hint is to cost little
    values = trimming.distance_ratio(mesh.points, cloud.points, least=NOISY_SPACING * noise)
    if trim == "auto":
        mesh, report = trimming.trim(mesh, values, FAR)
        say(f"--trim auto: {report}")
        return mesh
    share = trimming.far_share(mesh, values, FAR)
    if share > 0.01:
        say(f"{100 * share:.2g} % of the surface is far from all points; --trim auto cuts it off")
    return mesh


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


def kept_part(mesh: Geometry, largest: bool, min_component: float | None,
              say: Callable[[str], None]) -> Geometry:
    """The part of a mesh that is asked for: only the largest component, or those with at least the
    share min_component of the area. Raises UserError where nothing is left."""
    if largest:
        return keep_and_report(mesh, meshes.large_components(mesh, 1.0), "--largest", say)
    if min_component is not None:
        return keep_and_report(mesh, meshes.large_components(mesh, min_component),
                               f"--min-component {min_component:g}", say)
    return mesh


def finished(mesh: Geometry, cloud: datasets.TrainingPoints | None, grid: extraction.Grid,
             smooth_rims: bool, faces: int | None, scale: float,
             say: Callable[[str], None]) -> Geometry:
    """A mesh (unit frame) as it is to be used: with smoothed rims, except on the sides of the
    grid's box, and with at most `faces` faces, if these are asked for; with the colours of the
    cloud, if that has some. Says what that cost; scale: of the frame."""
    if smooth_rims:
        say(f"--smooth-rims: {meshes.boundary_loops(mesh)} rims")
        mesh = trimming.smooth_rims(mesh, on_side(mesh, grid).any(axis=1))
    if faces:
        mesh, report = simplified(mesh, faces, scale)
        say(f"--faces {faces}: {report}")
    if cloud is not None and cloud.colors is not None:
        say(f"colours: of the {NEIGHBOURS} points nearest to each vertex")
        mesh = carry_colors(Geometry(cloud.points, colors=cloud.colors), mesh)
    return mesh


def keep_and_report(mesh: Geometry, keep: np.ndarray, flag: str,
                    say: Callable[[str], None]) -> Geometry:
    """The mesh of the faces in the mask keep (M,); says what went. Raises UserError if all did."""
    if not keep.any():
        raise UserError(f"{flag} would drop the whole mesh")
    kept = meshes.keep_faces(mesh, keep)
    areas = meshes.face_areas(mesh)
    say(f"{flag}: dropped {(~keep).sum()} of {len(keep)} faces "
        f"({100 * areas[~keep].sum() / areas.sum():.2g} % of the area), "
        f"{meshes.components(mesh).max() + 1} components before, "
        f"{meshes.components(kept).max() + 1} now")
    return kept


def description(mesh: Geometry) -> str:
    """The size of a mesh, and how many components it has if there are several."""
    text = f"{len(mesh.points)} vertices, {len(mesh.faces)} faces"
    areas = np.bincount(meshes.components(mesh), meshes.face_areas(mesh))
    if len(areas) > 1:
        share = 100 * areas.max() / areas.sum()
        text += (f", {len(areas)} components, the largest with {share:.3g} % of the area "
                 "(--largest keeps only that)")
    return text


# ------------------------------------------------------------------------------- the command line


def detail_rounds(text: str) -> str | int:
    """The type of --detail."""
    return text if text in ("auto", "off") else helper.number(int, 0)(text)


def trim_distance(text: str) -> str | float:
    """The type of --trim."""
    return text if text == "auto" else helper.number(float, above=0)(text)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = helper.parser(__doc__)
    number = helper.number
    add = parser.add_argument
    add("-mlp", "--model-load-path",
        help="checkpoint; default: the newest in this folder or below")
    add("-o", "--output", help="mesh to write (.ply .obj .off .stl .glb); default: "
        "<checkpoint>_mesh.ply beside the checkpoint")
    helper.add_device_flags(parser)
    add("--grid-size", type=number(int, 8), default=256,
        help="grid points along the longest side of the box")
    add("-sb", "--sub-batch-size", type=number(int, 1),
        help="points at a time; default: what suits the device (the CPU's kernel ignores it)")
    add("-vf", "--volume-factor", type=number(float, high=100, above=0),
        help="half the side of the cube, unit frame; default: the checkpoint's, else 1.5")
    add("--bounds", type=number(float), nargs=6, metavar=("X0", "Y0", "Z0", "X1", "Y1", "Z1"),
        help="extract this box, in the cloud's coordinates, instead of the cube")
    add("--level", type=number(float), default=0.0,
        help="value of f on the mesh, unit frame; above 0 is outside where f grows outwards")
    add("-gd", "--gradient-direction", choices=["ascent", "descent"],
        help="whether f grows or falls towards the outside; default: seen at the sides of the "
        "training's cube")
    add("--detail", type=detail_rounds, default="auto", metavar="{auto,off,ROUNDS}",
        help="what the cloud's points say beyond the network: auto, as much as brings points that "
        "were left out nearer; off; or this many rounds of smoothing")
    add("-f", "--fpath", help="cloud for detail, --trim and the pieces that no point supports; "
        "default: the one of the training")
    add("--keep-all", action="store_true", help="keep pieces that no point of the cloud supports")
    some = parser.add_mutually_exclusive_group()
    some.add_argument("--largest", action="store_true", help="keep only the largest component")
    some.add_argument("--min-component", type=number(float, 0, 1), metavar="F",
                      help="drop components with less than this share of the area")
    add("--trim", type=trim_distance, metavar="{auto,D}",
        help="for open scans: cut off what is farther from the cloud than D, in its units; auto: "
        "than its points suggest")
    add("--smooth-rims", action="store_true", help="smooth the rims of an open mesh")
    add("--faces", type=number(int, FEWEST), metavar="N",
        help="simplify the mesh to N faces; prints the error that it makes")
    add("--dense", action="store_true", help="evaluate the whole grid: the slow reference")
    add("--activation", choices=["softplus", "leaky_relu"], help="override the checkpoint's")
    add("--skip-scale", type=number(float, above=0), help="override the checkpoint's")
    add("--quiet", action="store_true", help="print only warnings and the name of the mesh")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    device, group = ranks.start(args.context, args.device_id)

    notes = []

    def say(line: str) -> None:
        if line.startswith(("detail", "no detail")):
            notes.append(line)
        if not args.quiet and group.rank == 0:
            print(line)

    checkpoint = Path(args.model_load_path or checkpoints.newest_checkpoint())
    if not args.model_load_path:
        say(f"taking {checkpoint}, the newest checkpoint here or below")
    output = args.output or checkpoint.with_name(checkpoint.stem + "_mesh.ply")
    inputs = [checkpoint, args.fpath, checkpoints.cloud_of(checkpoint)]
    helper.check_writable(output, files.MESH_WRITERS, inputs)
    threads.set_count(args.threads)
    mesh, _ = mesh_of(
        checkpoint, args.grid_size, bounds=args.bounds, volume_factor=args.volume_factor,
        level=args.level, outward={"ascent": 1, "descent": -1}.get(args.gradient_direction),
        detail=args.detail, cloud=args.fpath, keep_all=args.keep_all,
        largest=args.largest, min_component=args.min_component, trim=args.trim,
        smooth_rims=args.smooth_rims, faces=args.faces,
        dense=args.dense, sub_batch_size=args.sub_batch_size,
        overrides={"activation": args.activation, "skip_scale": args.skip_scale},
        where=(device, group), say=say)
    if group.rank == 0:
        files.write(output, mesh, "; ".join(notes))  # evaluate.py tells what it measures
        say(description(mesh))
        print(output)


if __name__ == "__main__":
    helper.run(main, parse_args())
