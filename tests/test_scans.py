"""The benchmark of scans: the virtual scanner, the scans' clouds and truths, the rivals' steps."""

from dataclasses import replace
import json
import tarfile

from benchmarks.results import clouds, driver, jobs, process, scanner, settings, steps, tables
from igr.formats import files
from igr.geometry import frames, meshes, metrics, shapes
from igr.geometry.frames import Geometry
from test_tables import figures

import numpy as np
import pytest

EXACT = replace(scanner.LEVELS["light"], noise=0, step=0, flying=0, turn=0, shift=0)


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch):
    monkeypatch.setattr(scanner, "SIDE", 100)


def unit(name: str) -> Geometry:
    """A built-in shape's exact mesh in its unit frame."""
    mesh = shapes.mesh(name)
    return frames.Frame.of(mesh.surface_points).geometry_to_unit(mesh)


def scene_of(name: str):
    """A built-in shape's mesh for rays."""
    mesh = unit(name)
    return meshes.ray_scene(mesh.points, mesh.faces)


def without_strays(monkeypatch):
    monkeypatch.setattr(scanner, "STRAY", 0)


def test_an_exact_scanner_sees_the_surface_that_faces_it(monkeypatch):
    """Its points lie on the mesh: on the outer of two spheres, none on the inner one; a letter's
    from all sides, but not all alike, and no two seeds give the same."""
    without_strays(monkeypatch)
    sphere = unit("sphere")
    nested = Geometry(np.concatenate([sphere.points, sphere.points / 2]), None,
                      np.concatenate([sphere.faces, sphere.faces + len(sphere.points)]))
    points = scanner.scan(nested, EXACT)
    assert np.abs(np.linalg.norm(points, axis=1) - 1).max() < 1e-3
    letter = unit("letter")
    points = scanner.scan(letter, EXACT)
    assert metrics.point_to_surface(points, letter).max() < 1e-5
    assert (points.min(axis=0) < letter.points.min(axis=0) + 0.01).all()
    assert (points.max(axis=0) > letter.points.max(axis=0) - 0.01).all()
    assert np.array_equal(points, scanner.scan(letter, EXACT))
    assert not np.array_equal(points[:9], scanner.scan(letter, EXACT, seed=1)[:9])


def test_nothing_is_seen_from_below():
    """A plate has points above; below, where only flat rays come, few."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-0.05, 0.05) for z in (-1, 1)], float)
    faces = np.array([[0, 1, 3], [0, 3, 2], [4, 7, 5], [4, 6, 7], [0, 4, 5], [0, 5, 1], [2, 3, 7],
                      [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]])
    points = scanner.scan(Geometry(corners, None, faces), EXACT)
    above, below = (points[:, 1] > 0.049).sum(), (points[:, 1] < -0.049).sum()
    assert scanner.places(12)[:, 1].min() == pytest.approx(scanner.LOWEST * scanner.DISTANCE)
    assert 0 < below < 0.8 * above


@pytest.mark.parametrize("name", settings.VIRTUAL_SCANS)
def test_a_level_has_its_noise(name, monkeypatch):
    """Upright on a sphere: noise along the ray, and the range's steps; each view is displaced by
    its pose error."""
    without_strays(monkeypatch)
    level = replace(scanner.LEVELS[name], flying=0, step=0)
    monkeypatch.setattr(scanner, "FLATTEST", 0.9)  # cosine: nearly upright rays
    still = scanner.scan(unit("sphere"), replace(level, turn=0, shift=0))
    assert (np.linalg.norm(still, axis=1) - 1).std() == pytest.approx(level.noise, rel=0.1)
    rng = np.random.default_rng(0)
    moved = np.concatenate([scanner.displaced(np.eye(3), level, rng) - np.eye(3)
                            for _ in range(400)])
    expected = np.sqrt(level.shift**2 + level.turn**2 * 2 / 3)  # of a coordinate
    assert moved.std() == pytest.approx(expected, rel=0.1)


def test_grazing_rays_are_noisier_and_rarer():
    """On a sphere of radius 1, where range and cosine of a ray are known."""
    place = scanner.places(1)[0]
    level = replace(EXACT, noise=0.01)
    scene = scene_of("sphere")
    points = np.concatenate([scanner.seen_from(place, scene, level, np.random.default_rng(seed))
                             for seed in range(9)])
    ranges = np.linalg.norm(points - place, axis=1)
    middle = -((points - place) @ place) / ranges  # where the ray passes the sphere's middle
    cosine = np.sqrt(1 - np.minimum(place @ place - middle**2, 1))
    error = ranges - (middle - cosine)
    flat, upright = cosine < 0.3, cosine > 0.9
    assert cosine.min() > 0.9 * scanner.FLATTEST
    assert error[flat].std() == pytest.approx(0.01 / 0.3**0.5, rel=0.15)
    assert error[upright].std() == pytest.approx(0.01, rel=0.1)
    # a cosine c stands for a ring of rays 2 pi b db, b^2 = 1 - c^2: as many as c dc
    share = flat.sum() / upright.sum() / ((0.3**2 - 0.2**2) / (1 - 0.9**2))
    assert share == pytest.approx(scanner.SURE * 0.25, rel=0.25)  # of flat rays that come back


def test_flying_pixels_lie_between_front_and_back(monkeypatch):
    """Only at an edge with something behind it, as many as the level says."""
    without_strays(monkeypatch)
    ranges = np.full((3, 4), np.inf)
    ranges[1] = 1, 1, 1.5, np.inf
    assert scanner.range_behind(ranges)[1].tolist() == [np.inf, 1.5, np.inf, np.inf]
    torus = unit("torus")
    off = metrics.point_to_surface(scanner.scan(torus, replace(EXACT, flying=1)), torus)
    assert 0.005 < (off > 0.01).mean() < 0.2 and off.max() > 0.1
    half = metrics.point_to_surface(scanner.scan(torus, replace(EXACT, flying=0.5)), torus)
    assert (half > 0.01).sum() == pytest.approx((off > 0.01).sum() / 2, rel=0.15)
    sphere = scanner.scan(unit("sphere"), replace(EXACT, flying=1))
    assert np.abs(np.linalg.norm(sphere, axis=1) - 1).max() < 0.05  # nothing far behind its edge


def test_strays_and_steps():
    place = np.array([0.0, 0, 3.4])
    points = scanner.seen_from(place, scene_of("sphere"), replace(EXACT, step=0.01),
                               np.random.default_rng(0))
    ranges = np.linalg.norm(points - place, axis=1)
    assert np.abs(ranges / 0.01 - np.round(ranges / 0.01)).max() < 1e-6
    points = scanner.scan(unit("sphere"), replace(EXACT, points=5000))
    assert len(points) == 5000
    assert (np.abs(np.linalg.norm(points, axis=1) - 1) > 1e-3).sum() in (9, 10)


def test_clouds_of_scans(tmp_path):
    """A virtual scan lies on the mesh that was scanned; the left-out points are in no cloud."""
    cloud = shapes.sample("letter", 1000)
    files.write(tmp_path / "source.ply", cloud)
    files.write(tmp_path / "surface.ply", shapes.mesh("letter"))
    found = clouds.write_clouds(tmp_path / "source.ply", tmp_path, ["light", "left-out"],
                                tmp_path / "surface.ply")
    assert found["light"]["reference"] == tmp_path / "surface.ply"
    assert not found["light"]["normals"] and found["left-out"]["normals"]
    distance = metrics.point_to_surface(files.read(tmp_path / "light.ply").points,
                                        shapes.mesh("letter")) / 2.5
    assert np.median(distance) < 0.003
    kept = files.read(tmp_path / "left-out.ply").points
    gone = files.read(found["left-out"]["reference"]).points
    assert (len(kept), len(gone)) == (900, 100) and found["left-out"]["points"] == 900
    assert {*map(tuple, kept), *map(tuple, gone)} == set(map(tuple, files.read(
        tmp_path / "source.ply").points))


def test_share_of_far_points(tmp_path):
    cloud = shapes.sample("sphere", 4000)
    cloud.points[:40] *= 1.2
    files.write(tmp_path / "c.ply", Geometry(cloud.points))
    files.write(tmp_path / "m.ply", shapes.mesh("sphere"))
    assert clouds.far_share(tmp_path / "c.ply", tmp_path / "m.ply") == 0.01


def test_a_truth_in_the_frame_of_its_scan(tmp_path, monkeypatch):
    """p_truth = M p_scan, by an asymmetric solid."""
    turn = np.array([[0.0, -1, 0, 3], [1, 0, 0, 4], [0, 0, 1, 5], [0, 0, 0, 1]])
    mesh = shapes.mesh("letter")
    moved = mesh._replace(points=mesh.points @ turn[:3, :3].T + turn[:3, 3])
    files.write(tmp_path / "truth.off", moved)
    files.write(tmp_path / "scan.ply", shapes.sample("letter", 100))
    monkeypatch.setattr(settings, "DATA", (tmp_path,))
    monkeypatch.setitem(settings.SHAPES, "it", settings.Shape(
        ("scan.ply",), ("scan",), truth="truth.off", pose="pose.txt"))
    with pytest.raises(driver.UserError, match=r"but not pose\.txt$"):
        driver.sources("it", tmp_path, None)
    np.savetxt(tmp_path / "pose.txt", turn)
    truth, cloud = driver.sources("it", tmp_path, None)
    assert cloud == tmp_path / "scan.ply"
    assert files.read(truth).points == pytest.approx(mesh.points, abs=1e-5)


def test_an_archive_of_scans(tmp_path):
    """Its .conf loses the lines of scans that are not in it."""
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "a.ply").write_text("ply")
    (tmp_path / "s" / "a.conf").write_text("camera 0 0 0 0 0 0 1\nmesh gone 0 0 0 0 0 0 1\n\n"
                                           "bmesh a.ply 0 0 0 0 0 0 1\n")
    with tarfile.open(tmp_path / "s.tar.gz", "w:gz") as packed:
        packed.add(tmp_path / "s", "s")
    conf = clouds.unpack_scans(tmp_path / "s.tar.gz", tmp_path / "out")
    assert conf.read_text() == "bmesh a.ply 0 0 0 0 0 0 1\n"
    assert (conf.parent / "a.ply").read_text() == "ply"


def run_steps(line: str) -> None:
    steps.main(steps.parse_args(line.split()))


def test_steps(tmp_path):
    """Normals that look outwards; detail that moves a coarse mesh onto the points."""
    files.write(tmp_path / "c.ply", Geometry(shapes.sample("sphere", 3000).points))
    run_steps(f"normals -f {tmp_path}/c.ply -o {tmp_path}/n.ply")
    oriented = files.read(tmp_path / "n.ply")
    assert (oriented.points * oriented.normals).sum(axis=1).min() > 0.99
    sphere = shapes.mesh("sphere")
    waves = 1 + 0.01 * np.sin(5 * sphere.points[:, :1])
    files.write(tmp_path / "m.ply", sphere._replace(points=waves * sphere.points))
    run_steps(f"detail -f {tmp_path}/c.ply --mesh {tmp_path}/m.ply -o {tmp_path}/d.ply")
    moved = files.read(tmp_path / "d.ply").points
    off = np.abs(np.linalg.norm(moved, axis=1) - 1)
    assert np.abs(waves - 1).mean() > 0.005 and off.mean() < 5e-4
    with pytest.raises(driver.UserError, match="needs --mesh"):
        run_steps(f"detail -f {tmp_path}/c.ply -o {tmp_path}/e.ply")


def test_steps_share_what_they_have_in_common(tmp_path, monkeypatch):
    info = {"hand": {"points": 9, "cloud_sha256": "a", "normals": False, "reference": tmp_path}}
    shape = settings.Shape(cases=("hand",), methods=("truth",))
    found = {job.method: job.commands()
             for job in jobs.jobs(shape, None, info, True, tmp_path, None)}
    # without normals, without the truth
    assert list(found) == ["ours", "poisson-same", "poisson-meshlab-scan", "apss", "rimls",
                           "advancing-front", "detail-over-poisson"]
    same, detail = found["poisson-same"], found["detail-over-poisson"]
    assert same[0] == detail[0] == found["apss"][0] and same[0][1] == "normals"
    normals, poisson = same[0][5], detail[1][5]
    assert same[1][2:] == ["-f", normals, "-o", tmp_path / "hand-poisson-same.ply", "--depth", "7"]
    assert detail[2][1:] == ["detail", "-f", normals, "-o",
                             tmp_path / "hand-detail-over-poisson.ply", "--mesh", poisson]
    assert found["poisson-meshlab-scan"][1][-2:] == ["--samples-per-node", "15"]
    monkeypatch.setattr(settings, "NORMALS", settings.NORMALS + 1)  # other normals
    job = next(iter(jobs.jobs(shape, ["apss"], info, True, tmp_path, None)))
    assert job.commands()[0][5] != normals


def test_a_kept_step_is_not_made_again(tmp_path, monkeypatch):
    made = []

    def run(command, *_):
        made.append(command)
        command[-1].write_text("ply")
        return process.Done(0, 5.0, 4.0, 100.0, "")

    monkeypatch.setattr(jobs, "run_checked", run)
    command = ["a", "normals", "-o", tmp_path / "n.ply"]
    for _ in range(2):
        assert jobs.kept_step(command, None) == {
            "seconds": 5.0, "cpu_seconds": 4.0, "peak_mib": 100.0}
    assert len(made) == 1


def test_the_benchmarks_protocol_takes_the_unmoved_truth(tmp_path, monkeypatch):
    asked = []

    def evaluated(self, reference, protocols, more, lock):
        asked.append((reference, protocols))
        return {"mesh": "", **{name: {"chamfer": 1} for name in protocols}}

    monkeypatch.setattr(jobs.Job, "evaluated", evaluated)
    monkeypatch.setattr(jobs, "in_own_process", lambda *_: 0.25)
    job = jobs.Job("apss", "scan", tmp_path, "moved", {"unmoved": "truth"}, ("default", "srb"),
                   True, "")
    assert job.measure(None, None) == {"default": {"chamfer": 1}, "srb": {"chamfer": 1},
                                       "far": 0.25}
    assert asked == [("moved", ["default"]), ("truth", ["srb"])]


def test_some_cases_alone(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(jobs.Job, "make", lambda job, lock: made.append(
        (job.case, job.method)) or figures(1, 2))
    monkeypatch.setattr(settings, "POINTS", 300)
    monkeypatch.setitem(settings.SHAPES, "sphere", settings.Shape(cases=("clean", "light")))
    (tmp_path / "results").mkdir()
    for cases in (["light"], ["scan"]):
        assert driver.measure_shape("sphere", tmp_path, tmp_path / "results", ["ours", "apss"],
                                    cases) == []
    assert made == [("light", "ours"), ("light", "apss")]
    result = json.loads((tmp_path / "results" / "sphere.json").read_text())
    assert list(result["cases"]) == ["light"]
    assert "| sphere |" not in tables.shapes({"sphere": result})


def test_the_table_of_scans():
    """The least mean is bold; missing figures are dashes; scans stand in no other table of cases.
    """
    best = figures(0.001, 0.002, far=0.0123, parts={"normals": 30.2, "poisson": 8.0},
                   srb={"chamfer": 0.25, "hausdorff": 4.0})
    result = {"reference": {"topology": None, "scale": 1.0}, "cases": {
        "clean": {"points": 9, "methods": {"ours": figures(1, 1)}},
        "scan": {"points": 5000, "methods": {
            "ours": figures(0.002, 0.003), "apss": {"error": "too slow"}, "poisson-same": best}},
        "rough": {"points": 7, "methods": {"apss": {"error": "too slow"}}}}}
    *_, row = tables.scans({"knot": result}).splitlines()
    assert row.startswith("| knot | scan | 5,000 | 2.00 / 3.00; 1, 0, –; – s | – | – | "
                          "**1.00 / 2.00**; 1, 0, 1.23 %; 30 + 8 s | –")
    assert len(tables.scans({"knot": result}).splitlines()) == 3  # no row without a figure
    assert tables.cases({"knot": result}).count("\n") == 1
    assert "| knot | – | – | – | 0.250 / 4.00 |" in tables.srb_scans({"knot": result})
