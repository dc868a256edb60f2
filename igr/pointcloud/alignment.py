"""Merge several scans into one cloud: where each lies, its normals, how well they agree.

Where a scan lies is in an alignment file or in a 4 x 4 matrix beside each scan:

    .conf          Stanford's: a line "bmesh FILE tx ty tz qx qy qz qw" a scan
    .aln           of VripPack and MeshLab: their number, then FILE, "#" and the matrix of each scan
    .xf or .txt    beside the scan, with its name: the matrix; an .e57 has its scans' places itself

A matrix takes columns: p_world = M p. A quaternion of a .conf is that of the way back, as Stanford
writes it: p_world = R(q)^T p + t.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from helper import UserError, existing_file
from igr.formats import files
from igr.formats.lines import parse_numbers
from igr.geometry import meshes, neighbours
from igr.geometry.frames import Geometry
from igr.pointcloud import cleaning, misalignment
from igr.pointcloud.misalignment import Overlaps
from igr.pointcloud.sheets import seen_normals

import numpy as np

SCANNERS = ("z", "origin")  # where a scan was seen from, in its own coordinates
UNITS = (10, 25.4, 100, 304.8, 1000)  # of one usual unit in another: mm, cm, inches, feet, metres
LIKE_UNITS = 1.25  # ratios of sizes within this factor of one of UNITS


class Placed(NamedTuple):
    """A scan file and where it lies."""

    path: Path
    matrix: np.ndarray  # (4, 4), from the scan's coordinates to the world


# ------------------------------------------------------------------------------------- the placing


def placements(paths: list) -> list[Placed]:
    """The scans of an alignment file, or scan files that have matrices beside them. Raises
    UserError where one of the files is missing or damaged."""
    first = Path(paths[0])
    if len(paths) == 1 and first.suffix.lower() in READERS:
        text = existing_file(first).read_text("utf-8", "replace")
        try:
            scans = READERS[first.suffix.lower()](text, first.parent)
            for scan in scans:
                existing_file(scan.path)
        except UserError as error:
            raise UserError(f"{first}: {error}") from None
        if not scans:
            raise UserError(f"{first}: names no scan")
        return scans
    return [Placed(existing_file(path), _matrix_beside(Path(path))) for path in paths]


def _matrix_beside(scan: Path) -> np.ndarray:
    stem = scan.with_suffix("") if scan.suffix.lower() == ".gz" else scan
    for path in (stem.with_suffix(".xf"), stem.with_suffix(".txt")):
        if path.is_file() and path != scan:
            try:
                return _matrix(existing_file(path).read_text("utf-8", "replace").splitlines())
            except UserError as error:
                raise UserError(f"{path}: {error}") from None
    if scan.suffix.lower() == ".e57":
        return np.eye(4)
    raise UserError(f"{scan}: has no matrix beside it ({stem.with_suffix('.xf').name} or .txt)")


def _read_conf(text: str, folder: Path) -> list[Placed]:
    from scipy.spatial.transform import Rotation

    scans = []
    for line in text.splitlines():
        words = line.split()
        if not words or words[0] not in ("bmesh", "mesh"):
            continue  # the camera, comments
        values = parse_numbers(" ".join(words[-7:]).encode())
        if len(words) < 9 or len(values) != 7 or not np.isfinite(values).all():
            raise UserError(f"'{line[:60]}' is not: bmesh FILE tx ty tz qx qy qz qw")
        if abs(np.linalg.norm(values[3:]) - 1) > 0.01:
            raise UserError(f"'{line[:60]}': the quaternion has not length 1")
        matrix = np.eye(4)
        matrix[:3, :3] = Rotation.from_quat(values[3:]).as_matrix().T
        matrix[:3, 3] = values[:3]
        scans.append(Placed(folder / " ".join(words[1:-7]), matrix))
    return scans


def _read_aln(text: str, folder: Path) -> list[Placed]:
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    count = int(lines[0]) if lines and lines[0].isdecimal() and len(lines[0]) < 10 else 0
    if not count or len(lines) - 1 < 5 * count:
        raise UserError("does not begin with the number of scans, or has not five lines for each: "
                        "its file and the rows of a matrix")
    return [Placed(folder / lines[i], _matrix(lines[i + 1 : i + 5]))
            for i in range(1, 5 * count, 5)]


READERS = {".conf": _read_conf, ".aln": _read_aln}


def _matrix(lines: list[str]) -> np.ndarray:
    """The matrix (4, 4) of lines of text. Raises UserError where they hold none that moves, turns
    and scales."""
    lines = [line for line in lines if line.strip() and not line.startswith("#")]
    rows = [parse_numbers(line.encode()) for line in lines]
    if [len(row) for row in rows] != [4] * 4 or [len(line.split()) for line in lines] != [4] * 4:
        raise UserError("a matrix of 4 rows with 4 numbers is needed")
    matrix = np.array(rows)
    if not np.isfinite(matrix).all() or not np.array_equal(matrix[3], (0, 0, 0, 1)):
        raise UserError("the matrix is not finite, or its last row is not 0 0 0 1")
    turn = matrix[:3, :3]
    scale = np.cbrt(np.linalg.det(turn))
    if not scale > 0 or np.abs(turn @ turn.T / scale**2 - np.eye(3)).max() > 0.01:
        raise UserError("the matrix does more than move, turn and scale")
    return matrix


# --------------------------------------------------------------------------------------- the scans


def load(scan: Placed, scanner: str) -> Geometry:
    """A scan as a cloud of the world with unit normals that look outwards.

    They are those of the scan's faces, if it has any, else those of its file, else they are fitted
    and turned to the scanner: where the file says that it stood, or by `scanner`, "z", far away
    along the z axis of the scan's own coordinates, or "origin", in their origin. Points whose
    normal is not known are left out.
    """
    geometry = files.read(scan.path)
    if geometry.faces is not None:
        geometry = geometry._replace(normals=meshes.vertex_normals(geometry))
    cloud = cleaning.cloud_of(geometry)
    if cloud.normals is None:
        if len(cloud.points) < 3:
            raise UserError(f"{scan.path}: {len(cloud.points)} points are too few for normals")
        cloud = cloud._replace(normals=_toward_scanner(cloud, scanner))
    normals = meshes.unit_vectors(cloud.normals @ scan.matrix[:3, :3].T)
    points, origins = (None if places is None else places @ scan.matrix[:3, :3].T
                       + scan.matrix[:3, 3] for places in (cloud.points, cloud.origins))
    known = np.linalg.norm(normals, axis=1) > 0.5
    if not known.any():
        raise UserError(f"{scan.path}: no point has a normal")
    return cloud._replace(points=points, normals=normals, origins=origins).part(known)


def _toward_scanner(cloud: Geometry, scanner: str) -> np.ndarray:
    """Normals (N, 3) of the planes through the neighbours of a cloud's points, to the scanner."""
    points = cloud.points
    if cloud.origins is not None:
        toward = cloud.origins - points
    else:
        toward = -points if scanner == "origin" else np.broadcast_to((0, 0, 1.0), points.shape)
    return seen_normals(neighbours.tree_of(points), toward)


# ------------------------------------------------------------------------------------- one cloud


def merge(paths: list, scanner: str, side: float | None = None,
          keep_poses: bool = False) -> tuple[Geometry, list[str]]:
    """One cloud with normals of several scans, and lines that say how well they agree.

    paths, scanner: see placements and load; side: of the cubes that overlaps are thinned to, world
    units; default: the median over the scans of the gap between nearest points; keep_poses: leave
    patches that disagree where they are.
    """
    placed = placements(paths)
    scans = [load(scan, scanner) for scan in placed]
    overlaps = Overlaps.of(scans)
    agreed = misalignment.agreement(overlaps)
    side = overlaps.spacing if side is None else side
    lines = [f"{len(scans)} scans, {sum(len(scan.points) for scan in scans)} points; "
             f"{100 * agreed.overlap:.2g} % lie on several scans"]
    if agreed.overlap:
        worst = int(np.nanargmax(agreed.of_scans))
        lines.append(f"misalignment {agreed.distance:.3g}, the median distance between scans where "
                     f"they overlap; {agreed.of_scans[worst]:.3g} for {placed[worst].path.name}")
    if agreed.overlap and not keep_poses:
        scans, share = misalignment.moved_together(overlaps)
        rest = misalignment.agreement(Overlaps.of(scans)).distance
        lines.append(f"{rest:.3g} after patches were moved together, {100 * share:.3g} % of the "
                     "points (--keep-poses leaves them)")
    alone = [scan.path.name for scan, d in zip(placed, agreed.of_scans) if np.isnan(d)]
    if alone and len(scans) > 1:
        lines.append(f"warning: overlap no other scan: {', '.join(alone)}")
        lines += other_units([scan.path.name for scan in placed], scans)
    cloud = merged(scans, side)
    return cloud, [*lines, f"{len(cloud.points)} points, overlaps thinned to cubes of side "
                   f"{side:.3g}"]


def other_units(names: list, scans: list[Geometry]) -> list[str]:
    """A line where the largest of scans that do not overlap is so many times larger than the
    smallest as one unit is than another; names: of the scans."""
    sizes = [float(np.ptp(scan.points, axis=0).max()) for scan in scans]
    small, large = int(np.argmin(sizes)), int(np.argmax(sizes))
    ratio = sizes[large] / max(sizes[small], meshes.TINY)
    unit = min(UNITS, key=lambda unit: abs(np.log(ratio / unit)))
    if not 1 / LIKE_UNITS < ratio / unit < LIKE_UNITS:
        return []
    return [f"warning: {names[large]} is {ratio:.3g} times larger than {names[small]}, about "
            f"{unit:g}: are they in different units?"]


def merged(scans: list[Geometry], side: float) -> Geometry:
    """All points of clouds with normals; where points of several scans lie in one cube of that
    side (0: nowhere) and look the same way, their mean stands for them."""
    columns = [None if any(a is None for a in arrays) else np.concatenate(arrays)
               for arrays in zip(*scans)]
    cloud = Geometry(*columns)
    if not side:
        return cloud
    scan = np.repeat(np.arange(len(scans)), [len(s.points) for s in scans])
    group = neighbours.cubes(cloud.points, side, cloud.normals)
    scans_of_group = np.bincount(np.unique(group * len(scans) + scan) // len(scans))
    shared = scans_of_group[group] > 1
    points = neighbours.group_means(cloud.points, group)[group]
    normals = meshes.unit_vectors(neighbours.group_means(cloud.normals, group))[group]
    cloud = cloud._replace(points=np.where(shared[:, None], points, cloud.points),
                           normals=np.where(shared[:, None], normals, cloud.normals))
    first = np.zeros(len(group), bool)
    first[np.unique(group, return_index=True)[1]] = True
    return cloud.part(first | ~shared)
