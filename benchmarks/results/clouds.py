"""Make the clouds that the results are measured on, and describe a reference.

The driver calls these in a process of their own (process.in_own_process): a child's peak
memory begins with that of its parent, so memory used there would be counted for the methods.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.results import settings
import helper
from igr.formats import files
from igr.geometry import frames, meshes

import numpy as np


def write_clouds(source: Path, folder: Path, names) -> dict:
    """Write the cloud of each case in `names` to <folder>/<case>.ply, made of the clean `source`.

    Returns {case: {"points", "normals", "cloud_sha256"}}: their number, whether there are normals,
    the file's hash. The normals of moved points are still those of the clean surface, for every
    method that uses normals.
    """
    clean = files.read(source)
    frame = frames.Frame.of(clean.points)
    clean_unit = frame.to_unit(clean.points)
    found = {}
    for name in names:
        keep, moved_unit = change_cloud(name, clean_unit)
        normals = None if clean.normals is None else clean.normals[keep]
        cloud = frames.Geometry(frame.to_world(moved_unit[keep]), normals)
        files.write(folder / f"{name}.ply", cloud)
        found[name] = {"points": len(cloud.points), "normals": normals is not None,
                       "cloud_sha256": helper.sha256_of_file(folder / f"{name}.ply")}
    return found


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


def write_turned_pair(path: Path, output: Path) -> None:
    """Write the mesh `path` and, to its right, itself turned like the published table's meshes."""
    from igr.geometry import metrics

    mesh = files.read_mesh(path)
    unit = mesh._replace(points=frames.Frame.of(mesh.surface_points).to_unit(mesh.points))
    right = metrics.upstream_turn(unit.points) + np.array([2.3, 0, 0])
    files.write(output, frames.Geometry(
        np.concatenate([unit.points, right]), None,
        np.concatenate([unit.faces, unit.faces + len(unit.points)])))
