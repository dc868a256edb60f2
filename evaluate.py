"""Measure a mesh against the cloud or mesh that it should reproduce.

    python evaluate.py -f bun_zipper.ply -mdp bunny/param_00154_mesh.ply

prints a table and writes bunny/param_00154_mesh.json. See docs/metrics.md for the protocols.

    python evaluate.py -f knot.ply -mdp knot_mesh.ply -mlp knot/param_00018.h5

also measures how far the network's f is from the true distance to the reference. This needs a mesh
as reference; if the mesh is open, signs are ignored.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Iterator

import helper
from helper import UserError, log
from igr.backend import devices
from igr.field import checkpoints
from igr.formats import files
from igr.geometry import frames, meshes, metrics

import numpy as np


def field_error(checkpoint: str | Path, reference: frames.Geometry) -> dict:
    """Measure how far a checkpoint's network is from the true distance to a mesh.

    reference: the mesh, in world coordinates. The unit of length is that of its unit frame. The
    network's own frame may differ: its cloud need not contain the outermost points.
    """
    import networks  # it imports nnabla, which measuring a mesh does not need

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


def figures(result: dict, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield (name, text) of every figure in a protocol's result; a nested one's name has its path.
    """
    for name, value in result.items():
        if isinstance(value, dict):
            yield from figures(value, f"{prefix}{name} ")
        else:
            text = f"{value:.6f}" if isinstance(value, float) else str(value)
            yield f"{prefix}{name}".replace("_", " "), text


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = helper.parser(__doc__)
    add = parser.add_argument
    add("-mdp", "--mesh-data-path", required=True, help="mesh to measure")
    add("-f", "--fpath",
        help="reference: mesh or cloud; default: the cloud that the mesh's network was trained on")
    add("--protocol", nargs="+", choices=list(metrics.PROTOCOLS), default=["default"],
        help="one or more, each with its own table")
    add("-mlp", "--model-load-path",
        help="checkpoint whose f is measured as a distance as well; the reference must be a mesh")
    add("-o", "--output", help="JSON file to write; default: beside the mesh, with its name")
    add("--json", action="store_true", help="print the JSON instead of the table")
    add("-d", "--device-id", default="0", type=helper.device_number,
        help="not used; accepted because upstream's command has it")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    path = Path(args.mesh_data_path)
    output = args.output or f"{helper.without_suffix(path)}.json"
    mesh = files.read_mesh(path)
    reference = Path(args.fpath) if args.fpath else checkpoints.trained_cloud(path)
    helper.check_writable(output, [".json"], [path, reference, args.model_load_path])
    truth = files.read(reference)
    meshes.check_faces(mesh, path)
    note = files.note_of(path)
    result = {"mesh": str(path), "note": note, "reference": str(reference)}
    if args.model_load_path:
        if truth.faces is None:
            raise UserError(f"{reference}: -mlp needs a mesh to measure the distance to")
        result["field"] = field_error(args.model_load_path, truth)
    result.update(metrics.measure(mesh, truth, args.protocol))
    if result["topology"]["inside_out"]:
        log.warning(f"{path}: the mesh is inside out, its faces look inwards")
    helper.write_json(output, result)
    if args.json:
        print(json.dumps(result, indent=2))
        return
    print(f"mesh       {path}\n" + (f"           {note}\n" if note else "")
          + f"reference  {reference}" + ("" if args.fpath else " (trained on it)"))
    for title in ["topology", *args.protocol, *(["field"] if args.model_load_path else [])]:
        print(f"\n{'protocol ' if title in metrics.PROTOCOLS else ''}{title}")
        for name, text in figures(result[title]):
            print(f"  {name:<34} {text}")
    print(f"\n{output}")


if __name__ == "__main__":
    helper.run(main, parse_args())
