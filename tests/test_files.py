"""Files in, files out, and the messages about files that are broken."""

from concurrent.futures import ThreadPoolExecutor
import gzip
import os
import re
import struct

import helper
from helper import UserError
from igr.formats import files
from igr.geometry import shapes
from igr.geometry.frames import Geometry

import numpy as np
import pytest
import trimesh

TETRA = Geometry(
    np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]]),
    None,
    np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]]),
)


@pytest.mark.parametrize("suffix", files.MESH_WRITERS)
def test_a_mesh_survives_each_format(tmp_path, suffix):
    path = tmp_path / f"letter{suffix}"
    mesh = shapes.mesh("letter")
    files.write(path, mesh)
    again = files.read(path)
    corners, corners_again = (np.sort(m.points[m.faces].reshape(-1, 9), axis=0)
                              for m in (mesh, again))
    assert len(again.points) == len(mesh.points)
    np.testing.assert_allclose(corners_again, corners, atol=1e-6)


@pytest.mark.parametrize("suffix", files.CLOUD_WRITERS)
def test_a_cloud_with_normals_survives_each_format(tmp_path, suffix):
    cloud = shapes.sample("knot", 100)
    path = tmp_path / f"knot{suffix}"
    files.write(path, cloud)
    again = files.read(path)
    np.testing.assert_allclose(again.points, cloud.points, atol=1e-6)
    np.testing.assert_allclose(again.normals, cloud.normals, atol=1e-6)
    assert again.faces is None


def ply(encoding: str, polygons=((0, 1, 2, 3), (0, 1, 4)), extra=True) -> bytes:
    """A ply file with extra properties, a quad and a triangle, and an element after the faces."""
    header = [
        "ply", f"format {encoding} 1.0", "comment made by hand", "element vertex 5",
        "property float x", "property double y", "property float z", "property uchar red",
        f"element face {len(polygons)}", "property int flag",
        "property list uchar int vertex_indices", "property list uchar float weights",
        "element edge 1", "property int vertex1", "property int vertex2", "end_header", "",
    ]
    points = [(0, 0, 0, 9), (1, 0, 0, 9), (1, 1, 0, 9), (0, 1, 0, 9), (0, 0, 1, 9)]
    if encoding == "ascii":
        lines = ["{} {} {} {}".format(*p) for p in points]
        lines += [f"7 {len(p)} {' '.join(map(str, p))} 2 0.5 0.5" for p in polygons]
        return "\n".join([*header, *lines[:-1]]).encode() + ("\n" + lines[-1] + "\n1 2\n").encode()
    order = ">" if "big" in encoding else "<"
    body = b"".join(struct.pack(order + "fdfB", *p) for p in points)
    for p in polygons:
        body += struct.pack(f"{order}iB{len(p)}iB2f", 7, len(p), *p, 2, 0.5, 0.5)
    return "\n".join(header).encode() + body + struct.pack(order + "ii", 1, 2)


@pytest.mark.parametrize("encoding", ["ascii", "binary_little_endian", "binary_big_endian"])
@pytest.mark.parametrize("polygons", [((0, 1, 2, 3), (0, 1, 4)), ((0, 1, 2), (0, 2, 3), (0, 1, 4))])
def test_ply_in_all_encodings(tmp_path, encoding, polygons):
    path = tmp_path / "quad.ply"
    path.write_bytes(ply(encoding, polygons))
    mesh = files.read(path)
    assert mesh.points.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert {tuple(f) for f in mesh.faces.tolist()} == {(0, 1, 2), (0, 2, 3), (0, 1, 4)}
    zipped = tmp_path / "quad.ply.gz"
    zipped.write_bytes(gzip.compress(path.read_bytes()))
    assert np.array_equal(files.read(zipped).faces, mesh.faces)


def test_ply_with_windows_line_ends_and_bom(tmp_path):
    path = tmp_path / "quad.ply"
    path.write_bytes(b"\xef\xbb\xbf" + ply("ascii").replace(b"\n", b"\r\n"))
    assert len(files.read(path).faces) == 3


def test_ply_headers_with_blanks_and_tricky_comments(tmp_path):
    path = tmp_path / "quad.ply"
    data = ply("binary_little_endian").replace(b"end_header\n", b"end_header \n")
    path.write_bytes(data.replace(b"made by hand", b"made by end_header hand"))
    assert files.read(path).points.tolist()[2] == [1, 1, 0]


def test_a_gzip_bomb_is_refused(tmp_path):
    path = tmp_path / "bomb.xyz.gz"
    path.write_bytes(gzip.compress(b"0 0 0\n" * 20_000_000, 1))
    with pytest.raises(UserError, match="refused"):
        files.read(path)


def pcd(encoding: str, points: np.ndarray) -> bytes:
    header = (
        "# .PCD v0.7\nVERSION 0.7\nFIELDS x y z _\nSIZE 4 4 4 1\nTYPE F F F U\nCOUNT 1 1 1 4\n"
        f"WIDTH {len(points)}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {len(points)}\n"
        f"DATA {encoding}\n"
    ).encode()
    table = np.zeros(len(points), [("p", "<f4", 3), ("_", "u1", 4)])
    table["p"] = points
    if encoding == "ascii":
        return header + "\n".join(f"{x} {y} {z} 0 0 0 0" for x, y, z in points).encode()
    if encoding == "binary":
        return header + table.tobytes()
    raw = np.asarray(points, "<f4").T.tobytes() + bytes(4 * len(points))
    # LZF: the coordinates as literal runs, the zeros of the padding as one long back-reference
    body = raw[: 12 * len(points) + 1]
    packed = b"".join(bytes([len(run) - 1]) + run for run in
                      (body[i : i + 32] for i in range(0, len(body), 32)))
    rest = len(raw) - len(body)
    packed += bytes([7 << 5, rest - 9, 0])
    return header + struct.pack("<II", len(packed), len(raw)) + packed


@pytest.mark.parametrize("encoding", ["ascii", "binary", "binary_compressed"])
def test_pcd_in_all_encodings(tmp_path, rng, encoding):
    points = rng.standard_normal((20, 3)).astype(np.float32)
    path = tmp_path / "cloud.pcd"
    path.write_bytes(pcd(encoding, points))
    np.testing.assert_allclose(files.read(path).points, points, rtol=1e-6)


def test_text_tables(tmp_path):
    (tmp_path / "a.xyz").write_text("# x y z\n0 0 1\n\n1,2,3\n 4 5 6\n")
    assert files.read(tmp_path / "a.xyz").points.tolist() == [[0, 0, 1], [1, 2, 3], [4, 5, 6]]
    (tmp_path / "a.pts").write_text("2\n0 0 1 9 255 0 0\n1 2 3 9 255 0 0\n")
    cloud = files.read(tmp_path / "a.pts")
    assert cloud.points.tolist() == [[0, 0, 1], [1, 2, 3]] and cloud.normals is None


def test_numpy_files(tmp_path, rng):
    points, normals = rng.standard_normal((2, 9, 3))
    np.savez(tmp_path / "a.npz", points=points, normals=normals)
    assert np.array_equal(files.read(tmp_path / "a.npz").normals, normals)
    np.save(tmp_path / "evil.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="not an array"):
        files.read(tmp_path / "evil.npy")


@pytest.mark.parametrize("name, content, message", [
    ("empty.ply", b"", "empty"),
    ("half.ply", ply("binary_little_endian")[:-30], "cut short"),
    ("half.ply", ply("ascii")[:-40], "cut short"),
    ("header.ply", b"ply\nformat ascii 1.0\nelement vertex 3\n", "no end_header"),
    ("huge.ply", b"ply\nformat ascii 1.0\nelement vertex 99999999999\nproperty float x\n"
                 b"end_header\n0\n", "promises"),
    ("list.ply", b"ply\nformat binary_little_endian 1.0\nelement vertex 1\nproperty float x\n"
                 b"property float y\nproperty float z\nelement face 1\n"
                 b"property list uint int vertex_indices\nend_header\n" + bytes(12)
                 + struct.pack("<I", 2**31) + bytes(12), "cut short"),
    ("word.ply", b"solid\n", "does not begin"),
    ("a.xyz", b"1 2 3\n4 five 6\n", "row 2"),
    ("a.xyz", b"# nothing\n", "no points"),
    ("nan.xyz", b"nan 0 0\nnan 1 2\n", "all 2 points are NaN"),
    ("signalling.ply", b"ply\nformat binary_little_endian 1.0\nelement vertex 1\nproperty float x\n"
                       b"property float y\nproperty float z\nend_header\n"
                       + struct.pack("<I", 0x7FA00000) + bytes(8), "all 1 points are NaN"),
    ("two.xyz", b"1 2\n3 4\n", "rows of x y z"),
    ("a.step", b"what", "unknown format"),
    ("a.ply.gz", b"\x1f\x8bno", "gzip"),
    ("a.stl", b"no", "stl"),
    ("a.npy", b"\x93NUMPY", "not an array"),
    ("a.pcd", b"no", "DATA"),
    ("a.vtk", b"# vtk DataFile Version 3.0\nt\nASCII\nDATASET POLYDATA\nPOINTS 9 float\n0 0 0\n",
     "cut short"),
    ("a.vtk", b"# vtk DataFile Version 3.0\nt\nASCII\nDATASET STRUCTURED_POINTS\n", "no POINTS"),
    ("a.glb", b"no", "not a readable glb"),
    ("index.ply", ply("ascii", ((0, 1, 2, 3), (0, 1, 9))), "outside 0..4"),
])
@pytest.mark.filterwarnings("error")
def test_broken_files_are_named(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        files.read(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        files.read(tmp_path / "nowhere.ply")
    with pytest.raises(UserError, match="does not exist"):
        files.write(tmp_path / "no" / "where.ply", TETRA)
    with pytest.raises(UserError, match="cannot write"):
        files.write(tmp_path / "a.docx", TETRA)


def test_far_coordinates_are_not_rounded(tmp_path, rng):
    points = 1e6 + rng.uniform(0, 1, (50, 3))
    files.write(tmp_path / "far.ply", Geometry(points))
    np.testing.assert_allclose(files.read(tmp_path / "far.ply").points, points, atol=1e-9)


def test_stl_is_refused_where_it_would_ruin_the_mesh(tmp_path):
    mesh = shapes.mesh("letter")
    far = mesh._replace(points=mesh.points + np.array([4.5e6, 5.2e6, 0]))
    with pytest.raises(UserError, match="seven digits"):
        files.write(tmp_path / "far.stl", far)
    assert not list(tmp_path.iterdir())
    files.write(tmp_path / "far.obj", far)
    np.testing.assert_allclose(files.read(tmp_path / "far.obj").points, far.points, atol=1e-4)


@pytest.mark.parametrize("suffix", [".ply", ".obj", ".off"])
def test_far_meshes_keep_their_detail(tmp_path, suffix):
    mesh = shapes.mesh("letter")
    far = mesh._replace(points=mesh.points + 4.5e12)  # float64's steps are 0.001 there
    assert len(np.unique(far.points[:, 0])) > 1
    files.write(tmp_path / f"far{suffix}", far)
    assert np.array_equal(files.read(tmp_path / f"far{suffix}").points, far.points)


def test_far_clouds_keep_their_detail(tmp_path, rng):
    points = 4.5e12 + rng.uniform(0, 1, (50, 3))
    files.write(tmp_path / "far.xyz", Geometry(points))
    assert np.array_equal(files.read(tmp_path / "far.xyz").points, points)


@pytest.mark.parametrize("suffix", ["", ".ply", ".xyz.gz"])
def test_pipes_are_read(tmp_path, suffix):
    cloud = shapes.sample("knot", 100)
    files.write(tmp_path / "knot.ply", cloud)
    files.write(tmp_path / "knot.xyz", cloud)
    ply_bytes = (tmp_path / "knot.ply").read_bytes()
    data = gzip.compress((tmp_path / "knot.xyz").read_bytes()) if "gz" in suffix else ply_bytes
    pipe = tmp_path / f"pipe{suffix}"
    os.mkfifo(pipe)
    with ThreadPoolExecutor() as pool:
        pool.submit(pipe.write_bytes, data)
        np.testing.assert_allclose(files.read(pipe).points, cloud.points, atol=1e-6)
    assert helper.sha256_of_file(pipe) == ""  # and does not wait for a second writer
    with ThreadPoolExecutor() as pool:
        pool.submit(pipe.write_bytes, b"")
        with pytest.raises(UserError, match="no data"):
            files.read(pipe)


@pytest.mark.parametrize("suffix", [".ply", ".off", ".stl", ".obj", ".npy", ".xyz"])
def test_a_file_without_suffix_is_told_by_its_first_bytes(tmp_path, suffix):
    shape = shapes.sample("letter", 40) if suffix in (".npy", ".xyz") else shapes.mesh("letter")
    files.write(tmp_path / f"letter{suffix}", shape)
    (tmp_path / f"letter{suffix}").rename(tmp_path / "letter")
    if suffix == ".stl":  # binary, without a mark of its own
        with pytest.raises(UserError):
            files.read(tmp_path / "letter")
    else:
        assert len(files.read(tmp_path / "letter").points) == len(shape.points)


def textured(shape: Geometry) -> Geometry:
    """A shape with colours that depend on the place, in steps of 8 bits."""
    colors = np.round(255 * (0.5 + 0.5 * np.sin(3 * shape.points[:, [1, 2, 0]]))) / 255
    return shape._replace(colors=colors.astype(np.float32))


@pytest.mark.parametrize("suffix", [".ply", ".glb", ".obj"])
def test_colours_of_a_mesh_survive(tmp_path, suffix):
    mesh = textured(shapes.mesh("letter"))
    files.write(tmp_path / f"a{suffix}", mesh)
    again = files.read(tmp_path / f"a{suffix}")
    np.testing.assert_allclose(again.points, mesh.points, atol=1e-6)
    np.testing.assert_allclose(again.colors, mesh.colors, atol=1e-4)
    assert np.array_equal(again.faces, mesh.faces)


@pytest.mark.parametrize("suffix", files.CLOUD_WRITERS)
@pytest.mark.parametrize("normals", [True, False])
def test_colours_of_a_cloud_survive(tmp_path, suffix, normals):
    cloud = textured(shapes.sample("knot", 200))
    cloud = cloud if normals else cloud._replace(normals=None)
    files.write(tmp_path / f"a{suffix}", cloud)
    again = files.read(tmp_path / f"a{suffix}")
    np.testing.assert_allclose(again.colors, cloud.colors, atol=1e-6)
    assert (again.normals is not None) == normals


def test_an_intensity_survives(tmp_path):
    cloud = Geometry(np.eye(3), intensity=np.array([1, 20, 3000], np.float32))
    files.write(tmp_path / "a.ply", cloud)
    assert files.read(tmp_path / "a.ply").intensity.tolist() == [1, 20, 3000]


@pytest.mark.parametrize("encoding, kind, red", [
    ("ascii", "uchar", "255"), ("ascii", "ushort", "65535"), ("ascii", "float", "1.0")])
def test_colours_of_ply_by_their_type(tmp_path, encoding, kind, red):
    (tmp_path / "a.ply").write_text(
        f"ply\nformat {encoding} 1.0\nelement vertex 2\nproperty float x\nproperty float y\n"
        f"property float z\nproperty {kind} red\nproperty {kind} green\nproperty {kind} blue\n"
        f"end_header\n0 0 0 {red} 0 0\n1 1 1 0 {red} 0\n")
    assert files.read(tmp_path / "a.ply").colors.tolist() == [[1, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize("kind", ["F", "U"])
@pytest.mark.parametrize("encoding", ["ascii", "binary"])
def test_colours_of_pcd(tmp_path, kind, encoding):
    bits = np.array([0xFF0000, 0x00FF00, 0x3366CC], np.uint32)
    numbers = bits.view(np.float32) if kind == "F" else bits
    table = np.zeros(3, [("p", "<f4", 3), ("rgb", numbers.dtype), ("intensity", "<f4")])
    table["p"], table["rgb"], table["intensity"] = np.eye(3), numbers, [1, 2, 3]
    rows = "\n".join(f"{x:g} {y:g} {z:g} {n!r} {i}" for (x, y, z), n, i in
                     zip(np.eye(3), numbers.tolist(), (1, 2, 3)))
    header = (f"# .PCD v0.7\nFIELDS x y z rgb intensity\nSIZE 4 4 4 4 4\nTYPE F F F {kind} F\n"
              f"WIDTH 3\nHEIGHT 1\nPOINTS 3\nDATA {encoding}\n").encode()
    body = rows.encode() if encoding == "ascii" else table.tobytes()
    (tmp_path / "a.pcd").write_bytes(header + body)
    cloud = files.read(tmp_path / "a.pcd")
    wanted = np.array([[255, 0, 0], [0, 255, 0], [0x33, 0x66, 0xCC]]) / 255
    np.testing.assert_allclose(cloud.colors, wanted, atol=1e-6)
    assert cloud.intensity.tolist() == [1, 2, 3]


@pytest.mark.parametrize("belonging, message", [
    ({"colors": np.eye(3)[:2]}, r"3 points but colours of shape \(2, 3\): left out"),
    ({"colors": np.full((3, 3), 1e9)}, "colours up to 1e.09, more than 16 bits hold: left out"),
    ({"colors": np.array([["a"] * 3] * 3)}, "colours are no numbers"),
    ({"normals": np.eye(4)}, r"3 points but normals of shape \(4, 4\)"),
    ({"intensity": np.array(["a", "b", "c"])}, "intensities are no numbers")])
def test_what_does_not_fit_the_points_is_left_out(tmp_path, caplog, belonging, message):
    np.savez(tmp_path / "a.npz", points=np.eye(3), **belonging)
    cloud = files.read(tmp_path / "a.npz")
    assert cloud.points.tolist() == np.eye(3).tolist()
    assert [values is None for values in cloud[1:]] == [True] * 5
    assert re.search(f"a.npz: .*{message}", caplog.text)


def test_scenes_are_joined_where_they_stand(tmp_path):
    """Two boxes, one moved and textured by colours; embedded in a glb, and as gltf with buffers."""
    scene = trimesh.Scene()
    box = trimesh.creation.box()
    scene.add_geometry(box, transform=trimesh.transformations.translation_matrix([5, 0, 0]))
    scene.add_geometry(box)
    (tmp_path / "a.glb").write_bytes(scene.export(file_type="glb"))
    for name, content in scene.export(file_type="gltf").items():
        (tmp_path / name).write_bytes(content)
    for name in ("a.glb", "model.gltf"):
        mesh = files.read(tmp_path / name)
        assert mesh.points.min(axis=0).tolist() == [-0.5] * 3
        assert mesh.points.max(axis=0).tolist() == [5.5, 0.5, 0.5]
        assert len(mesh.faces) == 24 and mesh.faces.max() == 15 and mesh.colors is None
    (tmp_path / "gltf_buffer_0.bin").unlink()
    with pytest.raises(UserError, match=r"names a file that is not there: gltf_buffer_0.bin"):
        files.read(tmp_path / "model.gltf")


@pytest.mark.parametrize("kind", ["float", "double", "int"])
@pytest.mark.parametrize("binary", [True, False])
def test_points_of_vtk(tmp_path, kind, binary):
    points = np.array([[0, 1, 2], [10, -5, 7]])
    types = {"float": ">f4", "double": ">f8", "int": ">i4"}
    body = points.astype(types[kind]).tobytes() if binary else b"0 1 2 10\n-5 7"
    (tmp_path / "a.vtk").write_bytes(
        b"# vtk DataFile Version 3.0\nPOINTS of a title\n" + (b"BINARY" if binary else b"ASCII")
        + f"\nDATASET POLYDATA\nPOINTS 2 {kind}\n".encode() + body + b"\nVERTICES 1 3\n2 0 1\n")
    assert files.read(tmp_path / "a.vtk").points.tolist() == points.tolist()


def test_devices_have_no_data():
    with pytest.raises(UserError, match="/dev/null: no data"):
        files.read("/dev/null")


def test_the_real_shapes_are_read(data):
    bunny = files.read(data("bunny/bun_zipper.ply"))
    assert len(bunny.points) == 35947 and len(bunny.faces) == 69451
    assert len(bunny.surface_points) == 35947 - 1113
    assert files.read(data("srb/scans/gargoyle.ply")).normals.shape == (95435, 3)
    assert files.read(data("armadillo/Armadillo_fullres_points.pcd")).points.shape == (172974, 3)
    assert len(files.read(data("dragon/dragon_vrip_res2.ply.gz")).faces) == 202520


def test_a_note_in_a_ply_file(tmp_path):
    mesh = shapes.mesh("letter")
    files.write(tmp_path / "a.ply", mesh, "detail: 3 rounds")
    assert files.note_of(tmp_path / "a.ply") == "detail: 3 rounds"
    again = files.read(tmp_path / "a.ply")
    assert np.allclose(again.points, mesh.points) and np.array_equal(again.faces, mesh.faces)
    files.write(tmp_path / "b.ply", mesh)
    files.write(tmp_path / "c.obj", mesh, "it has no place for it")
    assert files.note_of(tmp_path / "b.ply") == files.note_of(tmp_path / "c.obj") == ""


def test_numbers_that_are_no_coordinates_are_refused(tmp_path):
    points = np.random.default_rng(0).random((9, 3))
    for name, array, why in (("complex", points + 1j, "its numbers are complex"),
                             ("far", 1e300 * points, "coordinates beyond 1e.100")):
        np.save(tmp_path / f"{name}.npy", array)
        with pytest.raises(helper.UserError, match=why):
            files.read(tmp_path / f"{name}.npy")
