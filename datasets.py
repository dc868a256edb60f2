"""Point clouds for training: made from a mesh or a built-in shape, read, and split.

    python datasets.py create -f stanford_3d_scanning_datasets/bunny/reconstruction/bun_zipper.ply
    python datasets.py create --shape knot -o demo/knot_pcd.ply

The first writes bun_zipper_pcd.ply beside the mesh: as many points as the mesh has vertices, with
normals. The second writes the cloud and, beside it, the exact surface knot.ply to measure against.
"""

from __future__ import annotations

import argparse
from pathlib import Path
import sys
from typing import NamedTuple

import helper
from helper import UserError
from igr import files, meshes, metrics, shapes
from igr.frames import Frame, Geometry

import numpy as np

FARTHEST = 1e6  # unit frame; beyond it searches for neighbours may find none
TEST_RATE = 0.25  # of the points are held out
FEW = 5_000  # points of which none is to be missed by the training
FEWEST_HELD_OUT = 100  # points that decide on the detail; with fewer it takes some of its own
REPEATED = 0.1  # share of a cloud's points that repeat another one; with more, a warning
FLAT = 1e-3  # standard deviations across and along a cloud; below, a warning
MIN_EXTENT = 0.2  # of the inner 98 % of a cloud's points, in terms of its length; else a warning

# ------------------------------------------------------------------------------- for the training


class PointCloud(NamedTuple):
    """What a training sees of a cloud, all in the unit frame."""

    points: np.ndarray  # (N, 3) float32, the training part
    normals: np.ndarray | None  # (N, 3) float32 unit vectors, or None
    sigma: np.ndarray  # (N, 1) float32, distance to the k-th nearest neighbour
    held_out: np.ndarray  # (M, 3) float32, the test part
    frame: Frame
    test_rate: float = 0.0  # the share that is held out


def load_cloud(path, knn: int, test_rate: float | None, with_normals: bool,
               seed: int) -> PointCloud:
    """Read a cloud (or a mesh's vertices) and split it at random into training and test part.

    knn: k, the neighbour whose distance is sigma; test_rate: share of the points to hold out;
        None: TEST_RATE, or 0 of fewer than FEW points.
    Raises UserError where the file cannot serve: too few points for k neighbours, all points on a
    line, normals missing although asked for.
    """
    cloud = files.read(path)
    if with_normals and cloud.normals is None:
        raise UserError(f"{path}: has no normals (a table needs them in columns 4 to 6, with "
                        "length 1); leave out --with-normals or add them")
    pts_world = cloud.surface_points
    try:
        frame = Frame.of(pts_world)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    pts_unit = frame.to_unit(pts_world)
    _check_extent(pts_unit, path)
    if test_rate is None:
        test_rate = TEST_RATE if len(pts_unit) >= FEW else 0.0
    test, train = split(len(pts_unit), test_rate, seed)
    if len(train) <= knn:
        raise UserError(
            f"{path}: {len(train)} training points are too few for -k {knn}; "
            "take a smaller -k or -tr, or more points"
        )
    points = pts_unit[train].astype(np.float32)
    held_out = pts_unit[test].astype(np.float32)
    normals = None
    if with_normals:
        given = cloud.normals if cloud.faces is None else cloud.normals[np.unique(cloud.faces)]
        normals = unit_normals(pts_unit, given, path)[train].astype(np.float32)
    return PointCloud(points, normals, neighbour_distance(points, knn), held_out, frame, test_rate)


def split(n: int, test_rate: float, seed: int):
    """Indices of the test part and of the training part of n points, each in random order."""
    order = np.random.default_rng(seed).permutation(n)
    return np.split(order, [int(n * test_rate)])


class TrainingPoints(NamedTuple):
    """The cloud of a network, as it is for what comes after the training."""

    points: np.ndarray  # (N, 3) float64, in the network's unit frame
    held_out: np.ndarray | None  # mask (N,) of those that the training held out, where it is known
    colors: np.ndarray | None = None  # (N, 3), sRGB from 0 to 1


def training_points(path, info: dict, frame: Frame, named: bool = False) -> TrainingPoints:
    """All points of a checkpoint's cloud.

    path: the cloud; info: the checkpoint's; frame: its frame; named: another cloud may stand in
    for the training's. Raises UserError where the file is gone, or is not the one that the network
    was trained on and was not named.
    """
    path = helper.existing_file(path)
    if path.is_fifo() and not named:
        raise UserError(f"{path}: a pipe, which the training has read")
    shape = files.read(path)
    cloud = shape.surface_points
    # checkpoints from before there was the hash tell their cloud by its frame only
    trained_on = info.get("cloud_file_sha256")
    same = (helper.sha256_of_file(path) == trained_on if trained_on
            else np.allclose([*Frame.of(cloud).center, Frame.of(cloud).scale],
                             [*frame.center, frame.scale]))
    if not (same or named):
        raise UserError(f"{path}: another cloud than the network was trained on")
    points = frame.to_unit(cloud)
    if np.abs(points).max() > FARTHEST:
        raise UserError(f"{path}: a point is {np.abs(points).max():.0e} times farther away than "
                        "the cloud that the network was trained on is large")
    flags = info.get("flags", {})
    held_out = np.zeros(len(points), bool)
    if same and "seed" in flags:
        held_out[split(len(points), flags.get("test_rate", 0), flags["seed"])[0]] = True
    colors = shape.colors
    if colors is not None and shape.faces is not None:
        colors = colors[np.unique(shape.faces)]
    return TrainingPoints(points, held_out if held_out.sum() >= FEWEST_HELD_OUT else None, colors)


def _check_extent(pts_unit: np.ndarray, path) -> None:
    """Warns of points (N, 3) that repeat others, lie far from the rest, or on a plane. Raises
    UserError where all are on a line."""
    def warn(text: str) -> None:
        print(f"warning: {path}: {text}", file=sys.stderr)

    distinct = pts_unit[_first_of_equals(pts_unit)]
    repeated = 1 - len(distinct) / len(pts_unit)
    if repeated > REPEATED:
        warn(f"{100 * repeated:.3g} % of the {len(pts_unit)} points are duplicates, only "
             f"{len(distinct)} are distinct")
    low, high = np.percentile(distinct, [1, 99], axis=0)
    extent = (high - low).max() / 2
    if extent < MIN_EXTENT:
        warn(f"some points lie far from the rest, which fills {100 * extent:.2g} % of the frame's "
             "length; remove them, or detail is lost")
    spread = np.linalg.svd(distinct - distinct.mean(axis=0), compute_uv=False)
    if len(spread) < 2 or spread[1] <= 1e-6 * spread[0]:
        raise UserError(f"{path}: all points are on a line: there is no surface through them")
    for across, name, shape in ((1, "line", "tube"), (2, "plane", "sheet")):
        if spread[min(across, len(spread) - 1)] <= FLAT * spread[0]:
            warn(f"the points lie almost on a {name}, which has no inside: the mesh will be a thin "
                 f"closed {shape} around it, in pieces, or none is found")
            break


def _first_of_equals(points: np.ndarray) -> np.ndarray:
    """Indices of the points (N, 3) without those that repeat an earlier one."""
    # equal points have equal sums, others almost never; term by term, as a product's rounding may
    # depend on the row
    keys = 0.6180339887 * points[:, 0] + 0.7548776662 * points[:, 1] + 0.8191725134 * points[:, 2]
    return np.unique(keys, return_index=True)[1]


def unit_normals(points: np.ndarray, normals: np.ndarray, path) -> np.ndarray:
    """normals (N, 3) of points (N, 3) at length 1 and looking outwards; prints what it changed.

    Raises UserError for normals that are zero or not finite.
    """
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    bad = ~(np.isfinite(length) & (length > 0))
    if bad.any():
        raise UserError(f"{path}: {bad.sum()} of {len(normals)} normals are zero or not finite; "
                        "leave out --with-normals or mend them")
    if np.abs(length - 1).max() > 0.01:
        print(f"{path}: normals of length {length.min():.3g} to {length.max():.3g}, set to 1")
    normals = normals / length
    # over a closed surface the integral of <x, n> is three times the volume
    if ((points - points.mean(axis=0)) * normals).sum(axis=1).mean() < 0:
        print(f"{path}: the normals look inwards, turned round")
        return -normals
    return normals


def neighbour_distance(points: np.ndarray, k: int) -> np.ndarray:
    """Distance (N, 1) float32 of each point (N, 3) to its k-th nearest other point (k < N)."""
    return metrics.neighbour_distance(points, k)[:, None].astype(np.float32)


# ------------------------------------------------------------------------------------------ create


def create_from_mesh(path, output, n: int | None, sampling: str, seed: int) -> Path:
    """Sample a mesh file into a cloud file (default: <name>_pcd.ply beside it) and return its path.

    n: number of points (default: the mesh's vertices); sampling: "poisson" or "uniform".
    """
    path = Path(path)
    stem = helper.without_suffix(path).name
    output = Path(output) if output else path.with_name(stem + "_pcd.ply")
    files.check_writable(output, files.CLOUD_WRITERS, [path])
    mesh = files.read_mesh(path)
    n = n or len(mesh.points)
    meshes.check_points(n, "create")
    frame = Frame.of(mesh.surface_points)  # refuses a mesh without size
    mesh_unit = frame.geometry_to_unit(mesh)  # Poisson disk fails at tiny scales
    if sampling == "poisson":
        cloud = meshes.sample_poisson(mesh_unit, n, seed)
    else:
        cloud = meshes.sample_mesh(mesh_unit, n, np.random.default_rng(seed))
    files.write(output, frame.geometry_to_world(cloud))
    return output


def create_shape(name: str, output, n: int | None, seed: int):
    """Write n points (default 20000) and the exact mesh of a built-in shape; return both paths.

    Raises UserError where the mesh would replace another file.
    """
    output = Path(output or f"{name}_pcd.ply")
    files.check_writable(output, files.CLOUD_WRITERS)
    stem = output.stem[: -len("_pcd")] if output.stem.endswith("_pcd") else output.stem + "_exact"
    surface = output.with_name(stem + ".ply")
    n = n or 20000
    meshes.check_points(n, "create")
    exact = shapes.mesh(name)
    if surface.exists() and not same_points(files.read(surface), exact):
        raise UserError(f"{surface}: exists and is not the exact {name}, which would replace it; "
                        "take another -o")
    files.write(output, shapes.sample(name, n, seed))
    files.write(surface, exact)
    return output, surface


def same_points(a: Geometry, b: Geometry) -> bool:
    """Do two shapes have the same points, up to a file's rounding, in the same order?"""
    return len(a.points) == len(b.points) and np.allclose(a.points, b.points, atol=1e-5)


def parse_args(argv=None) -> argparse.Namespace:
    parser = helper.parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    create = commands.add_parser("create", help="make a point cloud",
                                 formatter_class=parser.formatter_class)
    source = create.add_mutually_exclusive_group(required=True)
    source.add_argument("-f", "--fpath", help="mesh file to sample")
    source.add_argument("--shape", choices=list(shapes.SHAPES), help="built-in shape to sample")
    create.add_argument("-o", "--output", help="cloud file to write (.ply, .xyz, .npy); default: "
                        "<name>_pcd.ply, beside the mesh or, with --shape, in this folder")
    create.add_argument("-n", "--points", type=helper.number(int, 1), help="number of points; "
                        "default: the mesh's vertices, or 20000")
    create.add_argument("--sampling", choices=["poisson", "uniform"], default="poisson",
                        help="how to sample the mesh of -f; poisson: evenly spaced (slow above "
                        "200 k points); uniform: at random by area")
    create.add_argument("--seed", type=helper.number(int, 0), default=0,
                        help="seed of the sampling")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    if args.shape:
        cloud, surface = create_shape(args.shape, args.output, args.points, args.seed)
        print(f"{cloud} (cloud), {surface} (exact surface)")
    else:
        print(create_from_mesh(args.fpath, args.output, args.points, args.sampling, args.seed))


if __name__ == "__main__":
    helper.run(main, parse_args())
