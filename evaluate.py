"""Measure a mesh against the cloud or mesh that it should reproduce.

    python evaluate.py -f bun_zipper.ply -mdp bunny/param_01500_mesh.ply

prints a table and writes bunny/param_01500_mesh.json. See metrics.py for the protocols. With

    python evaluate.py -f knot.ply -mdp knot_mesh.ply -mlp knot/param_00035.h5

also what the network's f is worth as a distance to the reference, a mesh; where that is open, the
sign is left out of account.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import helper
from helper import UserError
from igr import checkpoints, devices, files, frames, meshes, metrics

import numpy as np


def field(checkpoint, reference: frames.Geometry) -> dict:
    """metrics.field_error of a checkpoint's network against a mesh in world coordinates, in the
    mesh's unit frame: the network's own may be another, its cloud misses the outermost points.
    """
    import networks  # and nnabla with it: not for those who measure meshes only

    frame = frames.Frame.of(reference.surface_points)
    truth = reference._replace(points=frame.to_unit(reference.points))
    distance, signed = metrics.true_distance(truth)
    network = networks.load_network(checkpoint, devices.set_context("cpu").kernel)
    ratio = network.frame.scale / frame.scale

    def value_and_gradient(points):
        own = network.frame.to_unit(frame.to_world(points))
        f, gradient = network.mlp.evaluate_with_gradient(own)
        return ratio * f, gradient

    surface = meshes.sample_mesh(truth, metrics.FIELD_SAMPLES, np.random.default_rng(0))
    return metrics.field_error(value_and_gradient, distance, surface, network.volume_factor, signed)


def rows(result: dict, prefix: str = ""):
    """(name, text) of every figure of a protocol's result, nested ones with their path."""
    for name, value in result.items():
        if isinstance(value, dict):
            yield from rows(value, f"{prefix}{name} ")
        else:
            text = f"{value:.6f}" if isinstance(value, float) else str(value)
            yield f"{prefix}{name}".replace("_", " "), text


def parse_args(argv=None) -> argparse.Namespace:
    parser = helper.parser(__doc__)
    add = parser.add_argument
    add("-mdp", "--mesh-data-path", required=True, help="mesh to measure")
    add("-f", "--fpath", help="reference, mesh or cloud; default: the cloud it was trained on")
    add("--protocol", nargs="+", choices=list(metrics.PROTOCOLS), default=["default"],
        help="one or more")
    add("-mlp", "--model-load-path", help="checkpoint: measure its f as a distance as well; the "
        "reference must be a mesh")
    add("-o", "--output", help="json to write; default: beside the mesh, by its name")
    add("--json", action="store_true", help="print the json and no table")
    # upstream's command has it; nothing here runs on a GPU
    add("-d", "--device-id", default="0", help="taken for upstream's sake; not used")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    path = Path(args.mesh_data_path)
    output = args.output or f"{helper.without_suffix(path)}.json"
    output = files.check_writable(output, [".json"])
    mesh = files.read_mesh(path)
    reference = Path(args.fpath) if args.fpath else checkpoints.trained_cloud(path)
    truth = files.read(reference)
    result = {"mesh": str(path), "reference": str(reference)}
    if args.model_load_path:
        if truth.faces is None:
            raise UserError(f"{reference}: -mlp needs a mesh to measure the distance to")
        result["field"] = field(args.model_load_path, truth)
    result.update(metrics.measure(mesh, truth, args.protocol))
    helper.write_json(output, result)
    if args.json:
        print(json.dumps(result, indent=2))
        return
    print(f"mesh       {path}\nreference  {reference}" + ("" if args.fpath else " (trained on it)"))
    for title in ["topology", *args.protocol, *(["field"] if args.model_load_path else [])]:
        print(f"\n{'protocol ' if title in metrics.PROTOCOLS else ''}{title}")
        for name, text in rows(result[title]):
            print(f"  {name:<34} {text}")
    print(f"\n{output}")


if __name__ == "__main__":
    helper.run(main, parse_args())
