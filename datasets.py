"""Point clouds for training: made from a mesh or a built-in shape, read, and split.

    python datasets.py create -f stanford_3d_scanning_datasets/bunny/reconstruction/bun_zipper.ply
    python datasets.py create --shape knot -o demo/knot_pcd.ply
    python datasets.py clean -f scan.ply
    python datasets.py merge -f scans/bun.conf

The first writes bun_zipper_pcd.ply beside the mesh: as many points as the mesh has vertices, with
normals. The second writes the cloud and, beside it, the exact surface knot.ply to measure against.
The third writes scan_clean.ply, without duplicates and outliers. The last writes
scans/bun_merged.ply, one cloud of all scans that the alignment file names.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import helper
from helper import UserError, log
from igr.field import checkpoints
from igr.formats import files
from igr.geometry import meshes, neighbours, shapes
from igr.geometry.frames import Frame, Geometry
from igr.pointcloud import alignment, checks, cleaning, noise
from igr.pointcloud.normals import trusted, unit_normals
from igr.pointcloud.sheets import seen_normals

import numpy as np

FARTHEST = 1e6  # unit frame; beyond it searches for neighbours may find none
MOST = 1_000_000  # points of a cloud that a training sees: the shape that a network of some 65,000
# weights can learn is known from fewer
HELD_OUT = 2_500  # points to hold out, but
TEST_RATES = 0.05, 0.25  # of all at least and at most
FEWEST_HELD_OUT = 100  # points that decide on the detail; with fewer it takes some of its own

# ------------------------------------------------------------------------------- for the training


class PointCloud(NamedTuple):
    """What a training sees of a cloud, all in the unit frame, and what is measured on that. Of a
    large cloud it is a sample, see some_of: sigma is the distance within it."""

    points: np.ndarray  # (N, 3) float32, the training part
    normals: np.ndarray | None  # (N, 3) float32 unit vectors, or None
    sigma: np.ndarray  # (N, 1) float32, distance to the k-th nearest neighbour
    held_out: np.ndarray  # (M, 3) float32, the test part
    frame: Frame
    test_rate: float = 0.0  # the share that is held out
    whole: str = ""  # fingerprint of all points, where these are a sample
    test: np.ndarray | None = None  # mask over all points of those that are not trained on
    file_sha256: str = ""  # of the file; "" for a pipe
    measured: noise.Measurements | None = None  # on the points


def load_cloud(path, knn: int, test_rate: float | None, with_normals: bool, seed: int,
               trust_normals: bool = False) -> PointCloud:
    """Read a cloud (or a mesh's vertices), split it, or a sample of a large one, at random into
    training and test part, and measure the first.

    knn: k, the neighbour whose distance is sigma; test_rate: share of the points to hold out;
        None: default_test_rate(); trust_normals: take the file's normals, of length 1, unchecked.
    Raises UserError where the file cannot serve: too few points for k neighbours, all points on a
    line, normals missing although asked for.
    """
    cloud = files.read_cloud(path)
    if with_normals and cloud.normals is None:
        raise UserError(f"{path}: has no normals (a table needs them in columns 4 to 6, with "
                        "length 1); leave out --with-normals or add them")
    try:
        frame = Frame.of(cloud.points)
        pts_unit = frame.to_unit(cloud.points, np.float32)
        doubts = checks.doubts(pts_unit)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if test_rate is None:
        test_rate = default_test_rate(len(pts_unit))
    test, train = split(len(pts_unit), test_rate, seed)
    unseen = np.zeros(len(pts_unit), bool)
    unseen[test] = True
    whole = helper.fingerprint(pts_unit) if len(pts_unit) > MOST else ""
    if whole:
        test, train = some_of(test, train)
        doubts.append(f"of {len(pts_unit)} points, a random sample of {MOST} is trained "
                      "on; the detail takes all")
    if len(train) <= knn:
        raise UserError(f"{path}: {len(train)} training points are too few for -k {knn}; take a "
                        "smaller -k or -tr, or more points")
    points = pts_unit[train]
    normals, given = None, given_normals(cloud, train)
    if with_normals:
        seen = np.concatenate([train, test])
        normals = cloud.normals[seen]
        if not trust_normals:
            normals = unit_normals(pts_unit[seen], normals, path)
        normals = normals[: len(train)].astype(np.float32)
    tree = neighbours.tree_of(points)
    sigma = neighbours.kth_distance(tree, knn)[:, None].astype(np.float32)
    measured = noise.Measurements.of(tree, sigma, knn, given)
    if with_normals and not trust_normals:
        normals = trusted(measured, normals, path)
    checks.warn([*doubts, *checks.strays(sigma)], path)
    return PointCloud(points, normals, sigma, pts_unit[test], frame, test_rate, whole, unseen,
                      helper.sha256_of_file(path), measured)


def default_test_rate(n: int) -> float:
    """The share of n points that is held out: enough to judge a surface by, and of few points none,
    as each of them tells something of its own."""
    least, most = TEST_RATES
    return min(most, max(least, HELD_OUT / n)) if n >= noise.FEW else 0.0


def given_normals(cloud: Geometry, index: np.ndarray) -> np.ndarray | None:
    """Normals (N, 3) of some points of a cloud, as the file has them, or towards the scanner; None
    where it tells neither."""
    if cloud.normals is not None:
        return cloud.normals[index]
    if cloud.origins is None:
        return None
    points = cloud.points[index]
    return seen_normals(neighbours.tree_of(points), cloud.origins[index] - points)


def some_of(test: np.ndarray, train: np.ndarray):
    """The first of the test part and of the training part of a cloud, indices in random order,
    together MOST in the proportion of the parts.

    That is a random sample, so it is as dense here and there as the cloud is, in proportion. The
    training takes it as its cloud: the k-th neighbours are those within the sample. They are
    1 / sqrt(q) times as wide in a sample of a share q, as the number of points within a radius r of
    a surface's point grows with r^2.
    """
    held_out = MOST * len(test) // (len(test) + len(train))
    return test[:held_out], train[: MOST - held_out]


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
    shape = files.read_cloud(path)
    cloud = shape.points
    trained_on = info.get("cloud_file_sha256")  # "" for a pipe
    same = bool(trained_on) and helper.sha256_of_file(path) == trained_on
    if not (same or named):
        raise UserError(f"{path}: another cloud than the network was trained on")
    points = frame.to_unit(cloud)
    if np.abs(points).max() > FARTHEST:
        raise UserError(f"{path}: a point is {np.abs(points).max():.0e} times farther away than "
                        "the cloud that the network was trained on is large")
    held_out = checkpoints.unpacked(info.get("held_out", "") if same else "", len(points))
    return TrainingPoints(points, held_out if held_out.sum() >= FEWEST_HELD_OUT else None,
                          shape.colors)


# ------------------------------------------------------------------------------------------ create


def create_from_mesh(path, output, n: int | None, sampling: str, seed: int) -> Path:
    """Sample a mesh file into a cloud file (default: <name>_pcd.ply beside it) and return its path.

    n: number of points (default: the mesh's vertices); sampling: "poisson" or "uniform".
    """
    output = output_beside(path, output, "_pcd")
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
    helper.check_writable(output, files.CLOUD_WRITERS)
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


# ------------------------------------------------------------------------------------------- clean


def clean(path, output, removed, limits: cleaning.Limits, seed: int) -> Path:
    """Write a cloud file without what the limits say (default: <name>_clean.ply beside it), and
    what was removed to the file `removed`, where it is named; log what went; return the path."""
    output = output_beside(path, output, "_clean")
    if removed:
        helper.check_writable(removed, files.CLOUD_WRITERS, [path, output])
    cloud = files.read_cloud(path)
    try:
        kept, gone, lines = cleaning.clean(cloud, limits, seed)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    for line in lines:
        log.info(line)
    kept = kept._replace(normals=given_normals(kept, slice(None)))
    files.write(output, kept, f"cleaned: {len(gone.points)} of {len(cloud.points)} points removed")
    if removed and len(gone.points):
        files.write(removed, gone)
    log.info(f"{len(kept.points)} of {len(cloud.points)} points are left, "
             f"{100 * len(gone.points) / len(cloud.points):.2g} % were removed")
    return output


def output_beside(path, output, ending: str, others=()) -> Path:
    """Name the cloud file to write: `output`, or <name><ending>.ply beside the file `path`. Raises
    UserError where it is one of the inputs, `path` and the others."""
    stem = helper.without_suffix(path)
    return helper.check_writable(output or stem.with_name(f"{stem.name}{ending}.ply"),
                                files.CLOUD_WRITERS, [path, *others])


# ------------------------------------------------------------------------------------------- merge


def merge(paths: list, output, scanner: str, side: float | None, keep_poses: bool) -> Path:
    """Write one cloud file of several scans (default: <first name>_merged.ply beside the first of
    the paths); log how well they agree; return the path. For the rest see alignment.merge."""
    scans = [scan.path for scan in alignment.placements(paths)]
    output = output_beside(paths[0], output, "_merged", scans)
    cloud, lines = alignment.merge(paths, scanner, side, keep_poses)
    files.write(output, cloud)
    for line in lines:
        log.info(line)
    return output


# ------------------------------------------------------------------------------- the command line


def parse_args(argv=None) -> argparse.Namespace:
    parser = helper.parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for add, name, purpose in ((add_create, "create", "make a point cloud"),
                               (add_clean, "clean", "remove duplicates, outliers, surplus points"),
                               (add_merge, "merge", "make one cloud of several aligned scans")):
        add(commands.add_parser(name, help=purpose, formatter_class=parser.formatter_class))
    return parser.parse_args(argv)


def add_create(create: argparse.ArgumentParser) -> None:
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


def add_clean(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-f", "--fpath", required=True, help="cloud to clean, or a mesh, of which the vertices are "
        "taken, or points on it where these are few")
    add("-o", "--output", help="cloud file to write; default: <name>_clean.ply beside it")
    add("--removed", metavar="FILE", help="cloud file to write, of the points that were removed")
    helper.add_flags(parser, cleaning.Limits)
    add("--seed", type=helper.number(int, 0), default=0,
        help="seed of the order of --disk and of the sample that outliers are compared with")


def add_merge(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-f", "--fpath", required=True, nargs="+", metavar="FILE", help="alignment file (.conf as "
        "Stanford's scans have it, .aln); or scans, each with its 4 x 4 matrix beside it (scan.xf "
        "or scan.txt; an .e57 needs none)")
    add("-o", "--output", help="cloud file to write; default: <name>_merged.ply beside the first "
        "FILE")
    add("--scanner", choices=alignment.SCANNERS, default="z", help="where a scan without faces and "
        "normals was seen from, if its file does not say it; z: far along the z axis of its own "
        "coordinates, as Stanford's; origin: their origin")
    add("--keep-poses", action="store_true", help="leave scans as they are placed; without it, "
        "patches of scans that lie beside each other are moved together, where that brings "
        "points that were left out nearer")
    add("--voxel", type=helper.number(float, 0), metavar="D", help="thin overlaps: points of "
        "several scans in one cube of side D become their mean; 0: keep all; default: the spacing "
        "of the scans' points")


def main(args: argparse.Namespace) -> None:
    if args.command == "merge":
        print(merge(args.fpath, args.output, args.scanner, args.voxel, args.keep_poses))
    elif args.command == "clean":
        limits = helper.options_from(cleaning.Limits, vars(args))
        print(clean(args.fpath, args.output, args.removed, limits, args.seed))
    elif args.shape:
        cloud, surface = create_shape(args.shape, args.output, args.points, args.seed)
        print(f"{cloud} (cloud), {surface} (exact surface)")
    else:
        print(create_from_mesh(args.fpath, args.output, args.points, args.sampling, args.seed))


if __name__ == "__main__":
    helper.run(main, parse_args())
