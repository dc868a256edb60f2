"""Measure a mesh against the cloud or mesh that it should reproduce.

    python evaluate.py -f bun_zipper.ply -mdp bunny/param_01500_mesh.ply

prints a table and writes bunny/param_01500_mesh.json. See metrics.py for the protocols.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import geometry
import helper
import metrics


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
    add("-o", "--output", help="json to write; default: beside the mesh, by its name")
    add("--json", action="store_true", help="print the json and no table")
    # upstream's command has it; nothing here runs on a GPU
    add("-d", "--device-id", default="0", help="taken for upstream's sake; not used")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    path = Path(args.mesh_data_path)
    output = geometry.check_writable(args.output or path.with_suffix(".json"), [".json"])
    mesh = geometry.read_mesh(path)
    reference = Path(args.fpath) if args.fpath else helper.trained_cloud(path)
    result = {"mesh": str(path), "reference": str(reference),
              **metrics.measure(mesh, geometry.read(reference), args.protocol)}
    helper.write_json(output, result)
    if args.json:
        print(json.dumps(result, indent=2))
        return
    print(f"mesh       {path}\nreference  {reference}" + ("" if args.fpath else " (trained on it)"))
    for title in ["topology", *args.protocol]:
        print(f"\n{title if title == 'topology' else 'protocol ' + title}")
        for name, text in rows(result[title]):
            print(f"  {name:<34} {text}")
    print(f"\n{output}")


if __name__ == "__main__":
    helper.run(main, parse_args())
