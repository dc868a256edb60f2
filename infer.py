"""Make a mesh of a trained network, in the coordinates of the cloud that it was trained on.

    python infer.py -mlp bunny/param_01500.h5 --grid-size 512

writes bunny/param_01500_mesh.ply. The checkpoint knows its network, its frame and its cube. f is
evaluated only near the surface (see surface.py); the mesh is that of the whole grid.
"""

from __future__ import annotations

import argparse
from pathlib import Path
import sys

import helper
from helper import UserError
from igr import checkpoints, files, meshes, ranks, surface, threads
from igr.frames import Frame, Geometry
import networks

import numpy as np


def box(bounds, side: float, frame: Frame):
    """Low and high corner (3,) of the grid in the unit frame: the cube of half side `side`, or
    bounds (6,) given in world coordinates."""
    if bounds is None:
        return np.full(3, -side), np.full(3, side)
    if not all(a < b for a, b in zip(bounds[:3], bounds[3:])):
        raise UserError(f"--bounds {' '.join(f'{b:g}' for b in bounds)}: the box is inside out; "
                        "its lower corner comes first")
    return frame.to_unit(bounds[:3]), frame.to_unit(bounds[3:])


def without(mesh: Geometry, keep: np.ndarray, what: str):
    """The mesh of the faces in the mask keep (M,), and a line that says what went."""
    if not keep.any():
        raise UserError(f"{what} would drop the whole mesh")
    rest, areas = meshes.with_faces(mesh, keep), meshes.face_areas(mesh)
    return rest, (f"{what}: dropped {(~keep).sum()} of {len(keep)} faces "
                  f"({100 * areas[~keep].sum() / areas.sum():.2g} % of the area), "
                  f"{meshes.components(mesh).max() + 1} components before, "
                  f"{meshes.components(rest).max() + 1} now")


def trim(mesh: Geometry, cloud: str, distance: float):
    """without() the faces farther than `distance` from the cloud file, all in world units."""
    if not Path(cloud).is_file():
        raise UserError(f"--trim needs the cloud of the training; '{cloud}' is not there")
    keep = meshes.near(mesh, files.read(cloud).surface_points, distance)
    return without(mesh, keep, f"--trim {distance:g}")


def description(mesh: Geometry) -> str:
    """Its size and, where it has several components, that."""
    text = f"{len(mesh.points)} vertices, {len(mesh.faces)} faces"
    areas = np.bincount(meshes.components(mesh), meshes.face_areas(mesh))
    if len(areas) > 1:
        share = 100 * areas.max() / areas.sum()
        text += (f", {len(areas)} components, the largest with {share:.3g} % of the area "
                 "(--largest keeps it alone)")
    return text


def parse_args(argv=None) -> argparse.Namespace:
    parser = helper.parser(__doc__)
    number, add = helper.number, parser.add_argument
    add("-mlp", "--model-load-path", help="checkpoint; default: the newest here or below")
    add("-o", "--output", help="mesh to write (.ply .obj .off .stl); default: "
        "<checkpoint>_mesh.ply beside it")
    helper.add_device_flags(parser)
    add("--grid-size", type=number(int, 8), default=256,
        help="grid points along the box's longest side")
    add("-sb", "--sub-batch-size", type=number(int, 1),
        help="points at a time; default: what suits the device (the CPU's kernel takes its own)")
    add("-vf", "--volume-factor", type=number(float, above=0),
        help="half the side of the cube, unit frame; default: the checkpoint's, else 1.5")
    add("--bounds", type=number(float), nargs=6, metavar=("X0", "Y0", "Z0", "X1", "Y1", "Z1"),
        help="extract this box, in the cloud's coordinates, and not the cube")
    add("--level", type=number(float), default=0.0,
        help="value of f on the mesh, unit frame; above 0 is outside where f grows outwards")
    add("-gd", "--gradient-direction", choices=["ascent", "descent"],
        help="whether f grows or falls towards the outside; default: as at the training's cube")
    some = parser.add_mutually_exclusive_group()
    some.add_argument("--largest", action="store_true", help="keep the largest component only")
    some.add_argument("--min-component", type=number(float, 0, 1), metavar="F",
                      help="drop components with less than this share of the area")
    add("--trim", type=number(float, above=0), metavar="D",
        help="cut what is farther than D from the cloud, in its units (for open scans)")
    add("--lipschitz", type=number(float, 1), default=1.0,
        help="how much steeper than a distance f may be between the points looked at")
    add("--dense", action="store_true", help="evaluate the whole grid: the slow reference")
    add("--activation", choices=["softplus", "leaky_relu"], help="override the checkpoint's")
    add("--skip-scale", type=number(float, above=0), help="override the checkpoint's")
    add("--quiet", action="store_true", help="print warnings and the name of the mesh only")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    device, group = ranks.start(args.context, args.device_id)

    def say(text: str) -> None:
        if not args.quiet and group.rank == 0:
            print(text)

    checkpoint = Path(args.model_load_path or checkpoints.newest_checkpoint())
    if not args.model_load_path:
        say(f"taking {checkpoint}, the newest checkpoint here or below")
    output = args.output or checkpoint.with_name(checkpoint.stem + "_mesh.ply")
    files.check_writable(output, files.MESH_WRITERS)
    threads.set_count(args.threads)
    overrides = {"activation": args.activation, "skip_scale": args.skip_scale}
    network = networks.load(checkpoint, device.kernel, overrides)
    low, high = box(args.bounds, args.volume_factor or network.volume_factor, network.frame)
    grid = surface.Grid.of(low, high, args.grid_size)
    say(f"{checkpoint} on {device.text}, grid {' x '.join(map(str, grid.shape))}")

    f = group.share_out(
        lambda points: network.mlp.evaluate(points, args.sub_batch_size or device.rows))
    cube = surface.Grid.of([-network.volume_factor] * 3, [network.volume_factor] * 3, 8)
    outward = {"ascent": 1, "descent": -1}.get(args.gradient_direction)
    mesh, stats = surface.extract(f, grid, args.level, dense=args.dense, lipschitz=args.lipschitz,
                                  outward=outward or surface.sign_outside(f, cube))
    say(f"{stats.evaluations} evaluations ({stats.dense / stats.evaluations:.0f} times fewer than "
        f"the grid's points), {stats.levels} levels, {stats.followed} cells found by following, "
        f"{stats.seconds:.1f} s")
    if group.rank:  # every rank has the whole mesh, the first writes it
        return
    for warning in surface.warnings_of(stats):
        print(f"warning: {warning}", file=sys.stderr)
    mesh = mesh._replace(points=network.frame.to_world(mesh.points))
    if args.trim is not None:
        mesh, report = trim(mesh, network.cloud, args.trim)
        say(report)
    if args.largest or args.min_component is not None:
        fraction = 1.0 if args.largest else args.min_component
        what = "--largest" if args.largest else f"--min-component {fraction:g}"
        mesh, report = without(mesh, meshes.large_components(mesh, fraction), what)
        say(report)
    files.write(output, mesh)
    if not args.quiet:
        print(description(mesh))
    print(output)


if __name__ == "__main__":
    helper.run(main, parse_args())
