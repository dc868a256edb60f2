"""What does not fit into the memory is refused before the work, with the estimate; what reading a
cloud takes."""

import gzip
import subprocess
import sys
import tracemalloc

from conftest import ROOT
import datasets
import evaluate
from fields import sphere
from helper import UserError
from igr.backend import memory
from igr.formats import files, laser, lines, obj
from igr.geometry import meshes, shapes
from igr.geometry.frames import Geometry
from igr.isosurface import extraction
from igr.isosurface.grids import FINEST, Grid, keys_of
from igr.training import monitoring
import visualize

import numpy as np
import pytest

GIB = 2**30


def cube(n: int) -> Grid:
    return Grid.of([-1.5] * 3, [1.5] * 3, n)


def test_free_memory_is_known(tmp_path):
    assert 2**26 < memory.available() < 2**50
    (tmp_path / "limit").write_text("123\n")
    (tmp_path / "none").write_text("max\n")
    limits = [memory.limit_of(tmp_path / name) for name in ("limit", "none", "missing")]
    assert limits == [123, np.inf, np.inf]


def test_a_process_takes_no_more_than_its_limit():
    code = ("import numpy as np; from igr.backend import memory; memory.limit(1 << 30)\n"
            "a = np.ones(1 << 26)\n"
            "try: b = np.ones(1 << 27)\n"
            "except MemoryError: print('refused')")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True,
                          timeout=60)
    assert done.stdout == "refused\n", done.stderr


def test_the_limit_of_a_container_counts(tmp_path, monkeypatch):
    (tmp_path / "limit").write_text("123\n")
    monkeypatch.setattr(memory, "CGROUP", (str(tmp_path / "limit"),))
    assert memory.available() == 123


def test_the_estimate_counts_the_cells_of_the_fine_grid():
    grid = cube(300)
    cells = extraction.extract(sphere, grid)[1].cells
    needed = extraction.memory_needed(sphere, grid)
    assert needed == pytest.approx(extraction.BYTES_PER_CELL * cells, rel=0.05)
    assert needed == pytest.approx(extraction.memory_of_area(4 * np.pi * 0.49, grid), rel=0.05)
    assert extraction.memory_needed(sphere, cube(64)) == 0
    assert extraction.memory_needed(lambda p: sphere(p) + 9, grid) == 0


def test_a_grid_that_cannot_be_is_refused_and_a_fine_one_goes(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 8.0 * GIB)
    extraction.check_memory(sphere, cube(2049))
    monitoring.check_grid(2049, 1.5)
    for n in (20_000, FINEST):
        with pytest.raises(UserError, match=f"a grid of {n} points a side would take about .* GiB"):
            extraction.check_memory(sphere, cube(n))
        with pytest.raises(UserError, match=f"--grid-size {n} would take about"):
            monitoring.check_grid(n, 1.5)
    with pytest.raises(UserError, match="a grid of 100000000 points a side is too fine"):
        cube(100_000_000)
    corners = keys_of(np.array([[0, 0, 0], [FINEST] * 3, [0, 0, FINEST], [0, FINEST, 0]]))
    assert (corners > 0).all() and len(set(corners.tolist())) == 4


@pytest.mark.parametrize("line, message", [
    ("mesh -f letter.ply --size 16384 16384 -o a.png", "1 x 16384 x 16384 pixels"),
    ("compare letter.ply letter.ply --size 9000 9000 -o a.png", "2 x 9000 x 9000 pixels"),
    ("images -f letter.ply -n 1000000 --movie a.gif", "1000000 x 960 x 720 pixels"),
    ("pcdmesh -f letter.ply -r 1e8 -o a.png", "a cloud of 2000000000 points")])
def test_pictures_that_cannot_be_are_refused(tmp_path, monkeypatch, line, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(memory, "available", lambda: 4.0 * GIB)
    files.write("letter.ply", shapes.mesh("letter"))
    with pytest.raises(UserError, match=f"{message} would take about .* 4 GiB are free"):
        visualize.main(visualize.parse_args(line.split()))
    assert [path.name for path in tmp_path.iterdir()] == ["letter.ply"]


@pytest.mark.parametrize("script, line", [
    (visualize, "mesh -f letter.ply -o a.png"), (visualize, "html -f letter.ply"),
    (evaluate, "-f letter.ply -mdp letter.ply")])
def test_meshes_that_are_too_large_to_draw_or_measure_are_refused(tmp_path, monkeypatch, script,
                                                                  line):
    monkeypatch.chdir(tmp_path)
    files.write("letter.ply", shapes.mesh("letter"))
    monkeypatch.setattr(meshes, "BYTES_PER_FACE", GIB)
    with pytest.raises(UserError, match=r"letter.ply: 36 faces would take .*infer.py --faces"):
        script.main(script.parse_args(line.split()))
    assert [path.name for path in tmp_path.iterdir()] == ["letter.ply"]


@pytest.mark.parametrize("source", ["--shape knot -o a.ply", "-f letter.ply", "-f letter.ply "
                                    "--sampling uniform"])
def test_clouds_that_cannot_be_are_refused(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(memory, "available", lambda: 4.0 * GIB)
    files.write("letter.ply", shapes.mesh("letter"))
    with pytest.raises(UserError, match=r"would take about 23\.3 GiB"):
        datasets.main(datasets.parse_args(f"create {source} -n 100000000".split()))
    assert [path.name for path in tmp_path.iterdir()] == ["letter.ply"]


def write_npz(path, points):
    np.savez(path, points=points)


def write_vtk(path, points):
    head = f"# vtk DataFile Version 3.0\nx\nBINARY\nDATASET POLYDATA\nPOINTS {len(points)} double\n"
    path.write_bytes(head.encode() + points.astype(">f8").tobytes())


def write_las(path, points):
    laspy = pytest.importorskip("laspy")
    header = laspy.LasHeader(point_format=0)
    header.scales = np.full(3, 1e-6)
    las = laspy.LasData(header)
    las.x, las.y, las.z = points.T
    las.write(path)


def write_obj(path, points):
    files.write(path, Geometry(points, faces=np.array([[0, 1, 2]])))


@pytest.mark.parametrize("name, write", [("a.npz", write_npz), ("a.vtk", write_vtk),
                                         ("a.las", write_las), ("a.obj", write_obj)])
def test_maps_are_not_copied(tmp_path, monkeypatch, rng, name, write):
    monkeypatch.setattr(laser, "BLOCK", 1 << 10)
    monkeypatch.setattr(obj, "BLOCK", 1 << 14)
    points = np.round(rng.uniform(-1, 1, (50_000, 3)), 6)
    write(tmp_path / name, points)
    np.testing.assert_allclose(files.read(tmp_path / name).points, points, atol=1e-9)
    tracemalloc.start()
    files.read(tmp_path / name)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < (2.5 if name == "a.obj" else 1.7) * points.nbytes


@pytest.mark.parametrize("name", ["a.ply", "a.ply.gz", "a.npy", "a.xyz", "a.xyz.gz", "a.pts"])
def test_large_clouds_take_little_more_than_their_points(tmp_path, monkeypatch, rng, name):
    """In memory of the process, which a map of a file is not."""
    monkeypatch.setattr(lines, "BLOCK", 1 << 14)
    points = rng.standard_normal((50_000, 3)).astype(np.float32).astype(np.float64)
    plain = tmp_path / name.replace(".gz", "").replace(".pts", ".xyz")
    files.write(plain, Geometry(points))
    content = plain.read_bytes()
    if name.endswith(".pts"):
        content = b"50000\r\n" + content.replace(b"\n", b"\r\n")
    (tmp_path / name).write_bytes(gzip.compress(content, 1) if name.endswith(".gz") else content)
    files.read(tmp_path / name)  # what is imported and kept is no part of it
    tracemalloc.start()
    cloud = files.read(tmp_path / name)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(cloud.points, points)
    assert peak < 2.5 * points.nbytes
