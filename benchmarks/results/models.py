"""Train the published models: results/models/NAME.h5, each beside its cloud, NAME.ply.gz.

    python -m benchmarks.results.models             all whose shape is here
    python -m benchmarks.results.models bunny dc    some

A model is what train.py gives by its defaults. Its cloud has coordinates of 16 bits, so that its
file is small: what a mesh loses by that is below a hundredth of the points' spacing. Clouds and
runs lie in runs/results, as the driver's.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

from benchmarks.results import driver, process, settings
from benchmarks.results.jobs import newest_checkpoint
import helper
from helper import UserError
from igr.field import checkpoints
from igr.formats import files
from igr.geometry.frames import Frame, Geometry

import numpy as np

NAMES = ("bunny", "lucy", "dragon", "armadillo", "knot", "dc")
STEPS = 1 << 15  # of a coordinate from the middle to the side


def rounded(points: np.ndarray) -> np.ndarray:
    """Points (N, 3) at the nearest places of a grid of 2 STEPS + 1 places along the longest side.

    The grid's spacing is a power of two, so that float32 holds each place in few bits.
    """
    frame = Frame.of(points)
    step = 2.0 ** np.ceil(np.log2(frame.scale / STEPS))
    return np.round(points / step) * step


def train(name: str, work: Path, output: Path) -> Path:
    """Train the model of a shape; returns its path. Raises Failed where the training fails."""
    folder = work / name
    folder.mkdir(parents=True, exist_ok=True)
    with driver.locked(folder, name) as lock:
        _, source = driver.sources(name, folder, lock)
        cloud = output / f"{name}.ply.gz"
        plain = folder / f"{name}.ply"
        files.write(plain, Geometry(rounded(files.read_cloud(source).points)))
        with helper.replacing(cloud) as temporary:
            temporary.write_bytes(gzip.compress(plain.read_bytes(), mtime=0))  # the same each time
        run = folder / "model"
        process.run_checked(["train.py", "-f", cloud, "-m", run, "--overwrite", "--threads", "1",
                             "--quiet"], lock)
        return publish(newest_checkpoint(run), cloud)


def publish(checkpoint: Path, cloud: Path) -> Path:
    """Copy a checkpoint beside its cloud, NAME.ply.gz, which it then names without a folder;
    returns the copy's path."""
    arrays, info = checkpoints.load_checkpoint(checkpoint)
    info["cloud"] = cloud.name
    info["flags"].update(fpath=cloud.name, monitor_path=checkpoint.parent.name)
    model = helper.without_suffix(cloud).with_suffix(".h5")
    checkpoints.save_arrays(model, arrays, info)
    return model


def parse_args(argv=None) -> argparse.Namespace:
    parser = helper.parser(__doc__)
    parser.add_argument("names", nargs="*", metavar="shape",
                        help=f"default: {', '.join(NAMES)}")
    parser.add_argument("--work", default=settings.ROOT / "runs" / "results", type=Path,
                        help="folder of clouds and runs")
    parser.add_argument("-o", "--output", default=settings.ROOT / "results" / "models", type=Path,
                        help="folder of the models")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    unknown = [name for name in args.names if name not in NAMES]
    if unknown:
        raise UserError(f"no model of {', '.join(unknown)}; there are {', '.join(NAMES)}")
    args.output.mkdir(parents=True, exist_ok=True)
    for name in args.names or NAMES:
        shape = settings.SHAPES[name]
        if shape.files and settings.find_reference(shape) is None:
            print(f"{name}: no file of it here, skipped")
            continue
        model = train(name, args.work.resolve(), args.output.resolve())
        print(model, f"{model.stat().st_size + model.with_suffix('.ply.gz').stat().st_size} bytes")


if __name__ == "__main__":
    helper.run(main, parse_args())
