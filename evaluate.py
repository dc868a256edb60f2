"""Measure a mesh against the cloud or mesh that it should reproduce.

    python evaluate.py -f bun_zipper.ply -mdp bunny/param_NNNNN_mesh.ply

prints a report and writes bunny/param_NNNNN_mesh.json. See docs/metrics.md for the protocols.
Where the reference is a cloud, the mesh is judged: good, doubtful or a ruin, and what to do.

    python evaluate.py -f knot.ply -mdp knot_mesh.ply -mlp knot/param_NNNNN.h5

also measures how far the network's f is from the true distance to the reference. This needs a mesh
as reference; if the mesh is open, signs are ignored.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
import textwrap
from typing import Iterator

import helper
from helper import UserError, log
from igr.backend import devices
from igr.field import checkpoints
from igr.formats import files
from igr.geometry import frames, meshes, metrics
from igr.pointcloud import noise
from igr.refinement import verdict
from igr.refinement.verdict import Verdict

import numpy as np

WIDTH = 100  # of the report, columns


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


def judged(mesh: frames.Geometry, truth: frames.Geometry) -> Verdict | None:
    """Judge a mesh by a cloud; None where the reference is a mesh, or has too few points."""
    if truth.faces is not None:
        return None
    tree = verdict.tree_of(truth.points)
    return verdict.judge(mesh, tree, noise.scatter(tree), len(truth.points))


def report(result: dict, judgement: Verdict | None, titles: list[str]) -> Iterator[str]:
    """Yield the lines of the report: mesh, verdict, cloud, the tables with these titles, size."""
    yield from row("mesh", result["mesh"])
    topology = result["topology"]
    for text in (result["note"], f"{topology['vertices']} vertices, {topology['faces']} faces"):
        yield from row("", text or "")
    if judgement:
        yield from row("verdict", str(judgement))
        for trouble in judgement.troubles:
            yield from row("", f"- {trouble.text}")
    yield from row("cloud" if judgement else "reference", result["reference"])
    yield from row("", result["reference_note"])
    if judgement:
        yield from row("", f"{judgement.points} points, spacing {judgement.spacing:.3g}, "
                       + noise.scatter_class(judgement.scatter, judgement.spacing))
    for title in titles if judgement else ["topology", *titles]:
        yield f"{'protocol ' if title in metrics.PROTOCOLS else ''}{title}"
        for name, text in figures(result[title]):
            yield f"  {name:<34} {text}"
    yield from row("area", f"{result['area']:.6g} (the mesh's unit, squared)")
    volume = result["volume"]
    yield from row("volume", "none, the mesh is not watertight" if volume is None
                   else f"{volume:.6g} (the mesh's unit, cubed)")


def row(name: str, text: str) -> list[str]:
    """The lines of a named text in the report, none where it is empty."""
    return textwrap.wrap(text, WIDTH, initial_indent=f"{name:<10} ", subsequent_indent=" " * 11,
                         break_long_words=False, break_on_hyphens=False) if text else []


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
    result = {"mesh": str(path), "note": note, "reference": str(reference),
              "reference_note": files.note_of(reference)}
    if args.model_load_path:
        if truth.faces is None:
            raise UserError(f"{reference}: -mlp needs a mesh to measure the distance to")
        result["field"] = field_error(args.model_load_path, truth)
    result.update(metrics.measure(mesh, truth, args.protocol))
    judgement = judged(mesh, truth)
    result["area"] = float(meshes.face_areas(mesh).sum())
    result["volume"] = meshes.volume(mesh) if result["topology"]["watertight"] else None
    if judgement:
        result["verdict"] = judgement.as_json()
    if result["topology"]["inside_out"]:
        log.warning(f"{path}: the mesh is inside out, its faces look inwards")
    helper.write_json(output, result)
    if args.json:
        print(json.dumps(result, indent=2))
        return
    titles = [*args.protocol, *(["field"] if args.model_load_path else [])]
    print(*report(result, judgement, titles), output, sep="\n")


if __name__ == "__main__":
    helper.run(main, parse_args())
