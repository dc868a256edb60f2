"""Make the clouds that the results are measured on, and describe references and meshes.

The driver calls these in a process of their own (process.in_own_process): a child's peak
memory begins with that of its parent, so memory used there would be counted for the methods.
"""

from __future__ import annotations

from pathlib import Path
import tarfile

from benchmarks.results import scanner, settings
import helper
from igr.formats import files
from igr.geometry import frames, meshes, neighbours

import numpy as np

KNN = 10  # neighbours that tell the spacing, as train.py's -k
FAR = 3  # spacings


def write_clouds(source: Path, folder: Path, names, surface: Path | None = None) -> dict:
    """Write the cloud of each case in `names` to <folder>/<case>.ply, made of the clean `source`,
    and without its normals to <case>-bare.ply; a virtual scan is one of the mesh `surface`.

    Returns {case: {"points", "normals", "cloud_sha256"}}: their number, whether there are normals,
    the file's hash; and "reference", where that is another than the shape's. The normals of moved
    points are still those of the clean surface, for every method that uses normals.
    """
    clean = files.read(source)
    frame = frames.Frame.of(clean.points)
    clean_unit = frame.to_unit(clean.points)
    found = {}
    for name in names:
        reference = None
        if name in settings.VIRTUAL_SCANS:
            cloud, reference = virtual_scan(files.read_mesh(surface), name), surface
        elif name == "left-out":
            reference = folder / "left-out-reference.ply"
            cloud, rest = parted(frames.Geometry(clean.points, clean.normals))
            files.write(reference, rest)
        else:
            keep, moved_unit = change_cloud(name, clean_unit)
            normals = None if clean.normals is None else clean.normals[keep]
            cloud = frames.Geometry(frame.to_world(moved_unit[keep]), normals)
        files.write(folder / f"{name}.ply", cloud)
        if cloud.normals is not None:
            files.write(folder / f"{name}-bare.ply", cloud._replace(normals=None))
        found[name] = {"points": len(cloud.points), "normals": cloud.normals is not None,
                       "cloud_sha256": helper.sha256_of_file(folder / f"{name}.ply")}
        if reference:
            found[name]["reference"] = reference
    return found


def virtual_scan(mesh: frames.Geometry, level: str) -> frames.Geometry:
    """Scan a mesh by a scanner of a level of scanner.LEVELS."""
    frame = frames.Frame.of(mesh.surface_points)
    return frames.Geometry(frame.to_world(scanner.scan(frame.geometry_to_unit(mesh),
                                                       scanner.LEVELS[level])))


def parted(cloud: frames.Geometry):
    """Leave out settings.LEFT_OUT of a cloud's points at random: (the others, those)."""
    left_out = np.zeros(len(cloud.points), bool)
    order = np.random.default_rng(0).permutation(len(cloud.points))
    left_out[order[: int(settings.LEFT_OUT * len(order))]] = True
    return cloud.part(~left_out), cloud.part(left_out)


def change_cloud(case: str, points_unit: np.ndarray):
    """Apply a case to points (N, 3), unit frame; returns (index of the points that it keeps, all
    points as it moves them)."""
    rng = np.random.default_rng(0)
    n = len(points_unit)
    if "noisy" in case:
        noise = settings.SLIGHT_NOISE if "slightly" in case else settings.NOISE
        points_unit = points_unit + noise * rng.standard_normal(points_unit.shape)
    if "outliers" in case:
        anywhere = rng.permutation(n)[: int(settings.OUTLIERS * n)]
        points_unit = points_unit.copy()
        points_unit[anywhere] = rng.uniform(-1, 1, (len(anywhere), 3))
    if case == "sparse":
        return rng.permutation(n)[:settings.SPARSE], points_unit
    if case == "holes":
        centers = points_unit[rng.permutation(n)[:settings.HOLES]]
        distance = np.linalg.norm(points_unit[:, None] - centers, axis=2).min(axis=1)
        return distance > settings.HOLE_RADIUS, points_unit
    return slice(None), points_unit


def describe_reference(path: Path) -> dict:
    """Describe a reference: file, hash, counts, scale (world units) and topology; "faces" and
    "topology" are None for a cloud."""
    reference = files.read(path)
    is_cloud = reference.faces is None
    return {"file": path.name, "sha256": helper.sha256_of_file(path),
            "points": len(reference.points),
            "faces": None if is_cloud else len(reference.faces),
            "scale": frames.Frame.of(reference.surface_points).scale,
            "topology": None if is_cloud else meshes.topology(reference)}


def far_share(cloud: Path, mesh: Path) -> float:
    """The share of a cloud's points that are more than FAR spacings from a mesh."""
    points_world = files.read(cloud).points
    frame = frames.Frame.of(points_world)
    points = frame.to_unit(points_world)
    gaps = neighbours.kth_distance(neighbours.tree_of(points), KNN)
    spacing = neighbours.spacing_of(float(np.median(gaps)), KNN)
    distance = neighbours.point_to_surface(points, frame.geometry_to_unit(files.read_mesh(mesh)))
    return float((distance > FAR * spacing).mean())


def move_to_scan(truth: Path, pose: Path, output: Path) -> None:
    """Write a true mesh in the frame of its scan. pose: file of the matrix M, p_truth = M p_scan,
    which is rigid."""
    mesh = files.read_mesh(truth)
    matrix = np.loadtxt(pose)
    files.write(output, mesh._replace(points=(mesh.points - matrix[:3, 3]) @ matrix[:3, :3]))


def unpack_scans(archive: Path, folder: Path) -> Path:
    """Unpack an archive of scans into a folder; returns its .conf, of which the lines stay whose
    scans are in the archive."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as packed:
        for member in packed:
            if member.isfile():
                (folder / Path(member.name).name).write_bytes(packed.extractfile(member).read())
    conf = next(folder.glob("*.conf"))
    lines = [line for line in conf.read_text().splitlines()
             if len(line.split()) > 1 and (folder / line.split()[1]).is_file()]
    conf.write_text("\n".join([*lines, ""]))
    return conf


def write_turned_pair(path: Path, output: Path) -> None:
    """Write the mesh `path` and, to its right, itself turned like the published table's meshes."""
    from igr.geometry import metrics

    mesh = files.read_mesh(path)
    unit = mesh._replace(points=frames.Frame.of(mesh.surface_points).to_unit(mesh.points))
    right = metrics.upstream_turn(unit.points) + np.array([2.3, 0, 0])
    files.write(output, frames.Geometry(
        np.concatenate([unit.points, right]), None,
        np.concatenate([unit.faces, unit.faces + len(unit.points)])))
