"""Each script runs once, tiny, by its real command line, and refuses bad input in one line."""

import json

import helper
from igr.field import checkpoints
from igr.formats import files
from igr.geometry import frames, shapes
from igr.geometry.frames import Geometry
import infer
from networks import MLP, Architecture

import numpy as np
from PIL import Image
import pytest
import trimesh


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a letter far from the origin, its cloud and a network trained on it."""
    folder = tmp_path_factory.mktemp("trained")
    mesh = shapes.mesh("letter")
    mesh = mesh._replace(points=2 * mesh.points + [30, -20, 10])
    files.write(folder / "letter.ply", mesh)
    return folder


def test_whole_pipeline_in_one_frame(script, trained, tmp_path):
    """The asymmetric letter through cloud, network, grid, mesh and metric: a frame that is turned,
    mirrored or moved on the way fails here."""
    truth = trained / "letter.ply"
    script(f"datasets.py create -f {truth} -n 3000 -o cloud.ply")
    script("train.py -d 1 -f cloud.ply -m run -k 20 -ti 400 --dims 64 -b 256 --with-normals "
           "--quiet")
    checkpoint = max((tmp_path / "run").glob("param_*.h5"))
    said = script("infer.py --grid-size 64").stdout
    assert f"taking run/{checkpoint.name}" in said
    mesh = checkpoint.with_name(checkpoint.stem + "_mesh.ply")
    script(f"evaluate.py -d 1 -f {truth} -mdp {mesh}")
    result = json.loads(mesh.with_suffix(".json").read_text())["default"]
    assert result["mesh_to_surface"]["mean"] < 0.02
    assert result["reference_to_surface"]["mean"] < 0.02
    assert result["normal_consistency"] > 0.9
    solid = trimesh.load(mesh, process=False)
    assert solid.volume > 0  # outwards
    bounds = files.read(truth).points
    np.testing.assert_allclose(solid.bounds, [bounds.min(axis=0), bounds.max(axis=0)], atol=0.3)
    script(f"infer.py --grid-size 64 -mlp {checkpoint} -o again.ply --normals oriented.ply")
    cloud, oriented = (files.read(tmp_path / f"{name}.ply") for name in ("cloud", "oriented"))
    assert np.array_equal(oriented.points, cloud.points)
    assert (oriented.normals * cloud.normals).sum(axis=1).mean() > 0.9
    said = script(f"evaluate.py -mdp {mesh} --protocol default srb -o out.json --json").stdout
    assert json.loads(said) == json.loads((tmp_path / "out.json").read_text())
    assert json.loads(said)["reference"].endswith("cloud.ply")
    assert json.loads(said)["note"].startswith("detail: ")
    assert json.loads(said)["verdict"]["far_points"] < 0.2
    said = script(f"evaluate.py -mdp {mesh} -o out.json").stdout
    parts = [said.index(f"\n{name}") for name in ("verdict", "cloud", "protocol", "area", "volume")]
    assert parts == sorted(parts) and said.count("\n") <= 35  # a screen, with reconstruct's times
    script(f"infer.py --grid-size 16 -mlp {checkpoint} --detail off -o plain.ply")
    assert "  detail: off, this" in script("evaluate.py -mdp plain.ply -f cloud.ply").stdout


def test_training_writes_what_it_promises(script, tmp_path):
    script("datasets.py create --shape torus -n 800 -o torus_pcd.ply")
    assert (tmp_path / "torus.ply").is_file()
    line = "train.py -f torus_pcd.ply --dims 32 -b 64 -k 10 -te 3 -sie 2 -tr 0.25 --grid-size 32 -m"
    script(f"{line} a/b")
    run = tmp_path / "a" / "b"
    assert {p.name for p in run.glob("param_*.h5")} == {"param_00002.h5", "param_00003.h5"}
    log = [json.loads(row) for row in (run / "log.jsonl").read_text().splitlines()]
    assert {"step", "loss", "points", "eikonal", "rate", "seconds"} <= set(log[-2])
    assert log[-1]["step"] == 27 and 0 < log[-1]["chamfer"] < 1
    assert (run / "loss.series.txt").is_file() and (run / "chamfer.series.txt").is_file()
    script(f"{line} again")
    one, two = ((f / "param_00003.h5") for f in (run, tmp_path / "again"))
    h5 = pytest.importorskip("h5py")
    with h5.File(one) as a, h5.File(two) as b:
        assert np.array_equal(a["fc3/affine/W"][...], b["fc3/affine/W"][...])  # seeded


@pytest.mark.parametrize("context", ["cpu", "cpu-graph"])
def test_contexts_of_the_cpu(script, tmp_path, context):
    files.write(tmp_path / "c.ply", shapes.sample("sphere", 500))
    script(f"train.py -f c.ply -m r --context {context} --dims 16 -b 32 -k 5 -ti 20 --quiet")
    script(f"infer.py --context {context} --grid-size 24 -o a.obj --dense")
    assert len(files.read(tmp_path / "a.obj").faces) > 50


def test_cuda_by_name_says_why_not(script, tmp_path):
    files.write(tmp_path / "c.ply", shapes.sample("sphere", 500))
    error = script("train.py -f c.ply -m r --context cudnn", status=1).stderr
    assert "--context cudnn does not work here" in error and "Traceback" not in error
    assert not (tmp_path / "r").exists()


def test_a_picture_without_a_display(script, trained):
    mesh = trained / "letter.ply"
    script(f"visualize.py mesh -f {mesh}")
    image = np.asarray(Image.open(mesh.with_suffix(".png")))
    assert image.shape == (720, 960, 3) and image.std() > 5


@pytest.mark.parametrize("name", ["datasets.py", "datasets.py create", "datasets.py clean",
                                  "datasets.py merge", "train.py", "infer.py",
                                  "evaluate.py", "visualize.py", "visualize.py images"])
def test_help(script, name):
    assert "usage:" in script(f"{name} --help").stdout


# --- bad input: one clear line, exit status 1, nothing overwritten


def bad_files(folder):
    rng = np.random.default_rng(0)
    files.write(folder / "cloud.ply", Geometry(rng.uniform(size=(200, 3))))
    np.save(folder / "few.npy", rng.uniform(size=(20, 3)))
    np.save(folder / "equal.npy", np.ones((200, 3)))
    np.save(folder / "line.npy", np.arange(200)[:, None] * np.ones((1, 3)))
    np.save(folder / "nan.npy", np.full((200, 3), np.nan))
    np.save(folder / "far.npy", 1e300 * rng.uniform(size=(200, 3)))
    (folder / "empty.ply").touch()
    (folder / "short.ply").write_bytes((folder / "cloud.ply").read_bytes()[:300])
    (folder / "what.doc").write_text("x")
    (folder / "flat.off").write_text("OFF\n3 1 0\n0 0 0\n1 0 0\n2 0 0\n3 0 1 2\n")
    (folder / "huge.off").write_text("OFF\n3 1 0\n0 0 0\n1e300 0 0\n0 1e300 0\n3 0 1 2\n")


@pytest.mark.parametrize("line, message", [
    ("train.py -f nowhere.ply -m r", "no such file"),
    ("train.py -f empty.ply -m r", "empty"),
    ("train.py -f short.ply -m r", "promises 200"),
    ("train.py -f what.doc -m r", "unknown format"),
    ("train.py -f nan.npy -m r", "all 200 points are NaN"),
    ("train.py -f equal.npy -m r", "equal"),
    ("train.py -f line.npy -m r", "on a line"),
    ("train.py -f far.npy -m r", "far.npy: coordinates beyond 1e+100"),
    ("train.py -f few.npy -m r -k 50", "too few for -k 50"),
    ("train.py -f cloud.ply -m r --with-normals", "no normals"),
    ("datasets.py create -f cloud.ply -o old.ply", "a mesh with faces is needed"),
    ("datasets.py create -f empty.ply -o old.ply", "empty"),
    ("datasets.py create --shape knot -o none/old.ply", "does not exist"),
    ("datasets.py clean -f nan.npy -o old.ply", "all 200 points are NaN"),
    ("datasets.py clean -f cloud.ply -o old.ply --radius 1e-9", "nothing would be left"),
    ("datasets.py clean -f cloud.ply -o old.ply --voxel 1e-20", "too small for a cloud"),
    ("datasets.py clean -f cloud.ply -o old.ply --removed gone.doc", "cannot write"),
    ("infer.py -mlp what.doc -o old.ply", "not a checkpoint"),
    ("infer.py", "no param_"),
    ("evaluate.py -mdp cloud.ply", "mesh with faces"),
    ("evaluate.py -mdp nowhere.ply", "no such file"),
    ("visualize.py mesh -f cloud.ply -o old.png", "mesh with faces"),
    ("visualize.py mesh -f what.doc -o old.png", "unknown format"),
    ("datasets.py create -f flat.off -o old.ply", "no area"),
    ("evaluate.py -mdp huge.off -f cloud.ply", "huge.off: coordinates beyond 1e+100"),
])
def test_bad_input_gets_one_line(script, tmp_path, line, message):
    bad_files(tmp_path)
    for old in ("old.ply", "old.png"):
        (tmp_path / old).write_text("keep me")
    before = sorted(p.name for p in tmp_path.iterdir())
    error = script(line, status=1).stderr
    assert message in error and error.count("\n") == 1
    assert (tmp_path / "old.ply").read_text() == (tmp_path / "old.png").read_text() == "keep me"
    assert sorted(p.name for p in tmp_path.iterdir()) == before


@pytest.mark.parametrize("line", [
    "train.py", "train.py -f a -b 0", "train.py -f a -lr nan", "train.py -f a -vf inf",
    "datasets.py clean -f a --voxel 1 --disk 1",
    "infer.py --grid-size 3", "datasets.py create", "datasets.py create --shape cow",
    "visualize.py"])
def test_wrong_usage_is_status_2(script, line):
    script(line, status=2)


@pytest.fixture
def ball(tmp_path):
    """A checkpoint whose surface is about a sphere of radius 0.6 around (10, 20, 30), scale 2."""
    mlp = MLP(Architecture(64), radius=0.6, seed=1)
    points = 1.2 * shapes.sample("sphere", 400).points + [10, 20, 30]
    files.write(tmp_path / "cloud.ply", Geometry(points[points[:, 2] > 30]))
    checkpoints.save_checkpoint(tmp_path / "param_00001.h5", mlp.parameters, {
        "architecture": vars(mlp.architecture), "frame": {"center": [10, 20, 30], "scale": 2.0},
        "volume_factor": 1.5, "cloud": str(tmp_path / "cloud.ply"),
        "cloud_file_sha256": helper.sha256_of_file(tmp_path / "cloud.ply")})
    return tmp_path


def radius_of(path):
    return np.linalg.norm(files.read(path).points - [10, 20, 30], axis=1)


def test_infer_level_bounds_and_volume(script, ball):
    script("infer.py --grid-size 64 -o a.ply --quiet")
    script("infer.py --grid-size 64 -o b.ply --quiet --level 0.1")
    assert radius_of(ball / "b.ply").mean() > radius_of(ball / "a.ply").mean() + 0.1
    done = script("infer.py --grid-size 64 -o c.ply --bounds 8 18 30 12 22 33")
    assert "open there" in done.stderr and "grid 64 x 64 x 49" in done.stdout
    points = files.read(ball / "c.ply").points
    assert points[:, 2].min() == pytest.approx(30, abs=1e-4) and points[:, 2].max() > 30.5
    assert "open there" in script("infer.py --grid-size 32 -o d.ply -vf 0.5").stderr
    error = script("infer.py --bounds 8 18 30 12 22 3", status=1).stderr
    assert "inside out" in error and error.count("\n") == 1


def test_an_inside_out_mesh_is_said(script, ball):
    assert "inside out" not in script("infer.py --grid-size 48 -gd ascent --closed -o a.ply").stderr
    done = script("infer.py --grid-size 48 -gd descent --closed -o b.ply")
    assert done.stderr.count("the mesh is inside out") == 1
    done = script("evaluate.py -mdp b.ply -f cloud.ply -o b.json")
    assert "b.ply: the mesh is inside out" in done.stderr


def test_the_field_as_a_distance(script, ball):
    """The field of the ball's network, |x - c| - 1.2 in world units, against a sphere's surface."""
    mesh = shapes.mesh("sphere")
    files.write(ball / "truth.ply", mesh._replace(points=1.2 * mesh.points + [10, 20, 30]))
    said = script("evaluate.py -f truth.ply -mdp truth.ply -mlp param_00001.h5 -o a.json").stdout
    field = json.loads((ball / "a.json").read_text())["field"]
    assert "band distance off" in said and field["cube_half_side"] == 1.5
    # in the sphere's frame f is 2 / 1.2 times the network's, which is rough at this width
    assert field["cube"]["distance_off"] < 0.4 and field["cube"]["gradient_off_1"] < 0.4
    files.write(ball / "open.ply", files.read_mesh(ball / "truth.ply")._replace(
        faces=mesh.faces[1:]))
    script("evaluate.py -f open.ply -mdp truth.ply -mlp param_00001.h5 -o b.json")
    unsigned = json.loads((ball / "b.json").read_text())["field"]
    assert field["signed"] and not unsigned["signed"]
    assert 0 < unsigned["cube"]["distance_off"] < 0.4
    error = script("evaluate.py -f cloud.ply -mdp truth.ply -mlp param_00001.h5", status=1).stderr
    assert "-mlp needs a mesh" in error


def test_the_description_counts_several_components():
    one = shapes.mesh("letter")
    small = one._replace(points=0.1 * one.points + 9)
    both = frames.Geometry(np.concatenate([one.points, small.points]), None,
                           np.concatenate([one.faces, small.faces + len(one.points)]))
    assert infer.description(one) == "20 vertices, 36 faces"
    assert infer.description(both) == (
        "40 vertices, 72 faces, 2 components, the largest with 99 % of the area (--largest keeps "
        "only that)")


def test_infer_trims_and_drops(script, ball):
    done = script("infer.py --grid-size 64 -o a.ply --trim 0.8")
    assert "--trim 0.8: cut off" in done.stdout
    points = files.read(ball / "a.ply").points
    assert points[:, 2].min() > 28.5 and points[:, 2].max() > 30.8
    for flag in ("--largest", "--min-component 0.1"):
        done = script(f"infer.py --grid-size 48 -o b.ply {flag}")
        assert f"{flag}: dropped 0 of" in done.stdout
    assert "nothing would be left" in script("infer.py --grid-size 48 -o c.ply --trim 1e-9",
                                             status=1).stderr
    doubts = script("infer.py --grid-size 48 --closed -o d.ply").stderr
    assert "of the surface is far from all points" in doubts
    cloud = files.read(ball / "cloud.ply")
    size = np.ptp(cloud.points, axis=0).max()
    files.write(ball / "beside.ply", cloud._replace(points=cloud.points + 2 * size))
    said = script("infer.py --grid-size 48 --keep-all -f beside.ply -o g.ply").stderr
    assert "nothing of it is cut off" in said and "surface near them" in said
    line = "infer.py --grid-size 48 --trim auto --smooth-rims --faces"
    said = script(f"{line} 900 -o d.ply").stdout
    assert "rims now: 1" in said and "--smooth-rims: 1 rims" in said and "mean distance 0.0" in said
    assert 850 <= len(files.read(ball / "d.ply").faces) <= 900
    assert "not more than 99999" in script(f"{line} 99999 -o f.ply", status=1).stderr
    (ball / "cloud.ply").unlink()
    error = script("infer.py --grid-size 48 --trim 1", status=1).stderr
    assert "cloud.ply: no such file; -f names the cloud" in error
    done = script("infer.py --grid-size 48 -o e.ply")
    assert "warning: no detail, and nothing dropped, cut or judged: " in done.stderr
    assert "no such file; -f names the cloud" in done.stderr


def test_normals_of_another_surface_are_refused(script, ball):
    """The ball's network is too rough: its surface is not that of the cloud."""
    for detail, message in (("auto", "does not lie on the network's surface"),
                            ("off", "--normals needs a cloud and its detail")):
        line = f"infer.py --grid-size 48 -o a.ply --normals b.ply --detail {detail}"
        error = script(line, status=1).stderr
        assert message in error and error.count("\n") == 1
        assert not (ball / "a.ply").exists() and not (ball / "b.ply").exists()


def test_level_set_that_does_not_cross_zero(script, tmp_path):
    files.write(tmp_path / "c.ply", shapes.sample("sphere", 500))
    script("train.py -f c.ply -m r --dims 16 -b 32 -k 5 -ti 1 --quiet")
    error = script("infer.py -vf 0.05 --grid-size 16 -o old.ply", status=1).stderr
    assert "there is no surface" in error and not (tmp_path / "old.ply").exists()


def test_loss_that_is_not_finite_stops_the_run(script, tmp_path):
    files.write(tmp_path / "c.ply", shapes.sample("sphere", 500))
    line = "train.py -f c.ply -m r --dims 16 -b 32 -k 5 -ti 200 -lr 1e30 --quiet"
    error = script(line, status=1).stderr
    assert "the loss is" in error and "smaller -lr" in error and "Traceback" not in error
    assert not list((tmp_path / "r").glob("*.h5"))
