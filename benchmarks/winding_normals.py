"""Normals for a cloud without any, by winding numbers as their authors take them.

    python benchmarks/winding_normals.py -f cloud.ply -o oriented.ply
"""

from __future__ import annotations

import argparse
from pathlib import Path
import sys

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

import helper  # noqa: E402
from igr.formats import files  # noqa: E402
from igr.geometry.frames import Geometry  # noqa: E402
from igr.pointcloud import winding  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = helper.parser(__doc__)
    parser.add_argument("-f", "--fpath", required=True, help="cloud; its own normals are not used")
    parser.add_argument("-o", "--output", required=True, help="cloud with normals to write")
    parser.add_argument("--widths", nargs=2, type=helper.number(float, above=0),
                        default=(), metavar=("LAST", "FIRST"),
                        help="of the last and the first iteration; the more noise, the larger")
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    helper.check_writable(args.output, files.CLOUD_WRITERS, [args.fpath])
    cloud = files.read(args.fpath)
    normals = winding.normals_of(cloud.points, winding.authors_widths(*args.widths))
    files.write(args.output, Geometry(cloud.points, normals))
    print(args.output)


if __name__ == "__main__":
    helper.run(main, parse_args())
