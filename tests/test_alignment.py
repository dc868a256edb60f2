"""Merging scans: a solid of known shape, seen from several sides, comes together in its place."""

from helper import UserError
from igr.formats import files
from igr.geometry import neighbours, shapes
from igr.geometry.frames import Frame, Geometry
from igr.pointcloud import alignment
from igr.pointcloud.alignment import Placed

import numpy as np
import pytest
from scipy.spatial.transform import Rotation


@pytest.fixture(scope="module")
def letter():
    """An asymmetric solid and a cloud of it, in the unit frame."""
    cloud = shapes.sample("letter", 6000)
    frame = Frame.of(shapes.mesh("letter").points)
    return frame.geometry_to_unit(shapes.mesh("letter")), frame.geometry_to_unit(cloud)


def scans_of(cloud: Geometry, count: int = 4, shift: float = 0.0, noise: float = 0.0):
    """Scans of a cloud in their scanners' coordinates, z towards the scanner, and their matrices
    (4, 4) to the cloud; each is moved off its place by `shift`, its points by normal noise."""
    rng = np.random.default_rng(1)
    found = []
    for _ in range(count):
        turn = Rotation.random(random_state=rng).as_matrix()
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = turn, rng.uniform(-3, 3, 3)
        seen = cloud.normals @ turn[:, 2] > 0.2
        off = rng.standard_normal(3)
        points = cloud.points[seen] + shift * off / np.linalg.norm(off)
        points = points + noise * rng.standard_normal(points.shape)
        found.append((Geometry((points - matrix[:3, 3]) @ turn, cloud.normals[seen] @ turn),
                      matrix))
    return found


def rows(matrix) -> str:
    return "\n".join(" ".join(f"{v:.12g}" for v in row) for row in matrix) + "\n"


def write_conf(folder, scans):
    lines = ["camera 0 0 0 0 0 0 1", ""]
    for i, (_, matrix) in enumerate(scans):
        x, y, z, w = Rotation.from_matrix(matrix[:3, :3]).inv().as_quat()
        lines.append(f"bmesh s{i}.ply {' '.join(map(str, matrix[:3, 3]))} {x} {y} {z} {w}")
    (folder / "all.conf").write_text("\n".join(lines))
    return [folder / "all.conf"]


def write_aln(folder, scans):
    entries = [f"s{i}.ply\n#\n{rows(matrix)}" for i, (_, matrix) in enumerate(scans)]
    (folder / "all.aln").write_text(f"{len(scans)}\n{''.join(entries)}0\n")
    return [folder / "all.aln"]


def write_beside(folder, scans):
    for i, (_, matrix) in enumerate(scans):
        (folder / f"s{i}{'.txt' if i % 2 else '.xf'}").write_text(rows(matrix))
    return [folder / f"s{i}.ply" for i in range(len(scans))]


@pytest.mark.parametrize("write", [write_conf, write_aln, write_beside])
@pytest.mark.parametrize("with_normals", [True, False])
def test_scans_come_together(tmp_path, letter, write, with_normals):
    mesh, cloud = letter
    scans = scans_of(cloud)
    for i, (scan, _) in enumerate(scans):
        files.write(tmp_path / f"s{i}.ply", scan if with_normals else Geometry(scan.points))
    loaded = [alignment.load(placed, "z") for placed in
              alignment.placements(write(tmp_path, scans))]
    assert sum(len(scan.points) for scan in loaded) == sum(len(scan.points) for scan, _ in scans)
    for scan in loaded:
        assert neighbours.point_to_surface(scan.points, mesh).max() < 1e-5
        true = cloud.normals[neighbours.nearest(scan.points, cloud.points)[1]]
        cosine = (scan.normals * true).sum(axis=1)
        assert cosine.min() > 0.9999 if with_normals else (cosine > 0.9).mean() > 0.8


def test_the_quaternion_of_a_conf_turns_backwards(tmp_path):
    """p_world = R(q)^T p + t: a quarter turn about z takes x to -y."""
    half = np.sqrt(0.5)
    files.write(tmp_path / "s.ply", Geometry(np.eye(3), np.eye(3)))
    (tmp_path / "a.conf").write_text(f"bmesh s.ply 5 0 0 0 0 {half} {half}\n")
    scan = alignment.load(alignment.placements([tmp_path / "a.conf"])[0], "z")
    np.testing.assert_allclose(scan.points, [[5, -1, 0], [6, 0, 0], [5, 0, 1]], atol=1e-6)
    np.testing.assert_allclose(scan.normals, [[0, -1, 0], [1, 0, 0], [0, 0, 1]], atol=1e-6)


def test_normals_of_faces_and_of_a_scanner_in_the_origin(tmp_path):
    ball = shapes.mesh("sphere")
    files.write(tmp_path / "mesh.ply", ball)
    inside = alignment.load(Placed(tmp_path / "mesh.ply", np.eye(4)), "origin")
    assert (inside.normals * inside.points).sum(axis=1).min() > 0.9  # the faces', outwards
    files.write(tmp_path / "cloud.ply", Geometry(ball.points))
    inside = alignment.load(Placed(tmp_path / "cloud.ply", np.diag([2.0, 2, 2, 1])), "origin")
    assert (inside.normals * inside.points).sum(axis=1).max() < -0.9 * 2  # a room, seen from inside


@pytest.mark.parametrize("factor, said", [(25.4, "about 25.4"), (1000, "about 1000"), (3, None)])
def test_scans_in_different_units_are_named(tmp_path, letter, factor, said):
    for i, ((scan, matrix), unit) in enumerate(zip(scans_of(letter[1], 2), (1, factor))):
        files.write(tmp_path / f"s{i}.ply", scan._replace(points=scan.points * unit))
        matrix[:3, 3] += 5000 * i
        (tmp_path / f"s{i}.xf").write_text(rows(matrix))
    lines = alignment.merge([tmp_path / "s0.ply", tmp_path / "s1.ply"], "z")[1]
    found = [line for line in lines if "different units" in line]
    assert len(found) == bool(said) and (not said or said in found[0])


def test_overlaps_are_averaged_and_the_rest_stays(rng):
    """Two noisy scans of a plane that share its middle third, and its other side."""
    def sheet(low, up):
        points = np.column_stack([rng.uniform(low, low + 2, 4000), rng.uniform(0, 1, 4000),
                                  0.01 * rng.standard_normal(4000)])
        return Geometry(points, np.tile([0, 0, up], (4000, 1)))

    left, right, below = sheet(0, 1.0), sheet(1, 1.0), sheet(0, -1.0)
    cloud = alignment.merged([left, right, below], 0.2)
    kept = {tuple(p) for p in cloud.points}
    alone = [p for p in left.points if p[0] < 0.8]
    assert all(tuple(p) in kept for p in [*alone, *below.points])
    middle = cloud.points[(cloud.points[:, 0] > 1.2) & (cloud.points[:, 0] < 1.8)
                          & (cloud.normals[:, 2] > 0)]
    assert 10 <= len(middle) <= 40 and np.abs(middle[:, 2]).max() < 0.005
    assert len(alignment.merged([left, right], 0).points) == 8000


@pytest.mark.parametrize("name, text, message", [
    ("a.conf", "bmesh s.ply 0 0 0 0 0 0\n", "is not: bmesh FILE"),
    ("a.conf", "bmesh s.ply 0 0 0 0 0 1 1\n", "not length 1"),
    ("a.conf", "bmesh none.ply 0 0 0 0 0 0 1\n", r"a\.conf: .*none\.ply: no such file"),
    ("a.conf", "camera 0 0 0 0 0 0 1\n", "names no scan"),
    ("a.aln", "2\ns.ply\n#\n" + rows(np.eye(4)) + "0\n", "five lines"),
    ("a.aln", "1\ns.ply\n#\n" + rows(np.eye(3)) + "0\n0\n", "4 rows with 4"),
    ("s.xf", rows(np.eye(3)), r"s\.xf: a matrix of 4 rows"),
    ("s.xf", rows(np.diag([1, 1, -1, 1])), "more than move"),
    ("s.xf", rows(np.diag([1, 2, 1, 1])), "more than move"),
    ("s.xf", rows(np.ones((4, 4))), "last row"),
    ("s.txt.bak", rows(np.eye(4)), "has no matrix beside it"),
])
def test_damaged_alignments_are_refused(tmp_path, name, text, message):
    files.write(tmp_path / "s.ply", Geometry(np.eye(3), np.eye(3)))
    (tmp_path / name).write_text(text)
    start = tmp_path / (name if name.startswith("a.") else "s.ply")
    with pytest.raises(UserError, match=message):
        alignment.placements([start])


def test_merge_by_the_command_line(script, tmp_path, letter):
    mesh, cloud = letter
    scans = scans_of(cloud, 5, shift=0.005)
    for i, (scan, _) in enumerate(scans):
        files.write(tmp_path / f"s{i}.ply", scan)
    write_conf(tmp_path, scans)
    said = script("datasets.py merge -f all.conf --voxel 0.05").stdout
    assert "5 scans" in said and "misalignment 0.00" in said and "all_merged.ply" in said
    whole = files.read(tmp_path / "all_merged.ply")
    assert len(whole.points) < sum(len(scan.points) for scan, _ in scans) / 2
    assert neighbours.point_to_surface(whole.points, mesh).mean() < 0.005
    (tmp_path / "s3.ply").unlink()
    before = (tmp_path / "all_merged.ply").read_bytes()
    error = script("datasets.py merge -f all.conf", status=1).stderr
    assert "s3.ply: no such file" in error and error.count("\n") == 1
    assert (tmp_path / "all_merged.ply").read_bytes() == before
