"""Make a mesh of a trained network, in the coordinates of the cloud that it was trained on.

    python infer.py -mlp bunny/param_01500.h5 --grid-size 512

writes bunny/param_01500_mesh.ply. The checkpoint knows its network, its frame and its cube.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import geometry
from geometry import Frame, Geometry
import helper
from helper import UserError
import kernels
from networks import MLP
import surface

PUBLISHED = {"activation": "leaky_relu", "skip_scale": 1.0}  # nnabla-examples' models say nothing


def load_network(path, kernel: bool, overrides: dict):
    """(MLP, Frame, volume factor or None) of a checkpoint; `overrides` of its architecture."""
    arrays, info = helper.load_checkpoint(path)
    if info is None:
        architecture = {"dims": arrays["fc0/affine/W"].shape[1], **PUBLISHED}
        frame, volume_factor = Frame(), None
    else:
        architecture, volume_factor = info["architecture"], info["volume_factor"]
        frame = Frame(tuple(info["frame"]["center"]), info["frame"]["scale"])
    architecture = {**architecture, **{k: v for k, v in overrides.items() if v is not None}}
    try:
        return MLP.from_arrays(arrays, kernel, **architecture), frame, volume_factor
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: does not fit the network ({error})") from None


def to_world(mesh: Geometry, frame: Frame) -> Geometry:
    return mesh._replace(points=frame.to_world(mesh.points))


def parse_args(argv=None) -> argparse.Namespace:
    parser = helper.parser(__doc__)
    number, add = helper.number, parser.add_argument
    add("-mlp", "--model-load-path", help="checkpoint; default: the newest here or below")
    add("-o", "--output", help="mesh to write (.ply .obj .off .stl); default: "
        "<checkpoint>_mesh.ply beside it")
    helper.add_device_flags(parser)
    add("--grid-size", type=number(int, 8), default=256, help="grid points along each side")
    add("-sb", "--sub-batch-size", type=number(int, 1), default=16384, help="points at a time")
    add("-vf", "--volume-factor", type=number(float, above=0),
        help="half the side of the cube, unit frame; default: the checkpoint's, else 1.5")
    add("-gd", "--gradient-direction", choices=["ascent", "descent"],
        help="whether f grows or falls towards the outside; default: as f does at the cube")
    add("--dense", action="store_true", help="evaluate the whole grid: the slow reference")
    add("--activation", choices=["softplus", "leaky_relu"], help="override the checkpoint's")
    add("--skip-scale", type=number(float, above=0), help="override the checkpoint's")
    add("--quiet", action="store_true", help="print the name of the mesh only")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    checkpoint = Path(args.model_load_path or helper.newest_checkpoint())
    if not args.model_load_path and not args.quiet:
        print(f"taking {checkpoint}, the newest checkpoint here or below")
    output = args.output or checkpoint.with_name(checkpoint.stem + "_mesh.ply")
    geometry.check_writable(output, geometry.MESH_WRITERS)
    device = helper.set_context(args.context, args.device_id)
    kernels.set_threads(args.threads)
    overrides = {"activation": args.activation, "skip_scale": args.skip_scale}
    mlp, frame, volume_factor = load_network(checkpoint, device.kernel, overrides)
    side = args.volume_factor or volume_factor or 1.5
    if not args.quiet:
        print(f"{checkpoint} on {device.text}, grid {args.grid_size}")
    outward = {"ascent": 1, "descent": -1, None: None}[args.gradient_direction]
    mesh, stats = surface.extract(
        lambda points: mlp.evaluate(points, args.sub_batch_size),
        surface.Grid.of([-side] * 3, [side] * 3, args.grid_size),
        dense=args.dense, outward=outward,
    )
    geometry.write(output, to_world(mesh, frame))
    if not args.quiet:
        print(f"{stats.evaluations} evaluations ({stats.dense / stats.evaluations:.0f} times fewer "
              f"than the grid's points) in {stats.seconds:.1f} s; "
              f"{len(mesh.points)} vertices, {len(mesh.faces)} faces")
    print(output)


if __name__ == "__main__":
    helper.run(main, parse_args())
