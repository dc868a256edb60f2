"""Every mode of visualize.py writes what it says, without a display."""

import gzip
import json

from helper import UserError
from igr.field import checkpoints
from igr.formats import files
from igr.geometry import shapes
from igr.geometry.frames import Geometry
from igr.view import charts, colors
from networks import MLP, Architecture
import visualize

import numpy as np
from PIL import Image
import pytest


@pytest.fixture
def run(tmp_path, monkeypatch):
    """run("mode ...") in tmp_path, where letter.ply is, without a display."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    files.write("letter.ply", shapes.mesh("letter"))

    def run(line: str):
        visualize.main(visualize.parse_args(line.split()))

    return run


def pixels(path):
    return np.asarray(Image.open(path))


SMALL = "--size 96 72"
PLACE = {"output", "azimuth", "elevation", "zoom", "up", "color"}
SHOWN = PLACE | {"size", "background", "ground", "samples"}


@pytest.mark.parametrize("mode, flags", [
    ("mesh -f a", SHOWN | {"fpath", "cpath"}),
    ("pcd -f a", SHOWN | {"fpath", "cpath"}),
    ("pcdmesh -f a", SHOWN | {"fpath", "cpath", "rate"}),
    ("images -f a", SHOWN | {"fpath", "number", "seed", "turntable", "movie"}),
    ("error -f a", SHOWN | {"fpath", "cpath", "reference", "top"}),
    ("compare a b", SHOWN | {"files", "cpath"}),
    ("html -f a", PLACE | {"fpath", "reference"}),
    ("curves -f a", {"fpath", "output"}),
    ("slices", {"model_load_path", "output", "device_id", "threads", "context"})])
def test_each_mode_has_its_own_flags(mode, flags):
    args = vars(visualize.parse_args(mode.split()))
    assert set(args) - {"command"} == flags


def test_default_outputs_and_sizes(run):
    for line, output, size in (
        (f"mesh -f letter.ply {SMALL}", "letter.png", (72, 96, 3)),
        (f"pcd -f letter.ply {SMALL} --background transparent", "letter_points.png", (72, 96, 4)),
        (f"pcdmesh -f letter.ply -r 50 {SMALL}", "letter_pcdmesh.png", (72, 192, 3)),
        ("mesh -f letter.ply", "letter.png", (720, 960, 3)),
        (f"mesh -f letter.ply -o a.jpeg {SMALL}", "a.jpeg", (72, 96, 3)),
        (f"compare letter.ply letter.ply letter.ply {SMALL}", "compare.png", (96, 288, 3)),
    ):
        run(line)
        assert pixels(output).shape == size, line


def test_mesh_and_its_cloud_stand_side_by_side(run):
    run("pcdmesh -f letter.ply -r 500 --size 120 90 -o a.png")
    dark = (pixels("a.png") < 250).any(axis=2)
    left = dark[:, :120]
    right = dark[:, 120:]
    assert (left & right).sum() > 0.8 * (left | right).sum()


def test_compare_shows_all_by_one_camera(run):
    mesh = shapes.mesh("letter")
    files.write("half.ply", mesh._replace(points=0.5 * mesh.points))
    run(f"compare letter.ply half.ply {SMALL} -o a.png")
    dark = (pixels("a.png")[:72] < 250).any(axis=2)
    assert dark[:, :96].sum() > 3 * dark[:, 96:].sum() > 0
    assert (pixels("a.png")[72:] < 150).any()  # the names


def test_images_are_views_from_random_directions(run, caplog):
    run(f"images -f letter.ply -n 3 {SMALL}")
    views = [pixels(f"letter/{i:05d}.jpeg").astype(int) for i in range(3)]
    assert np.abs(views[0] - views[1]).mean() > 1 and np.abs(views[1] - views[2]).mean() > 1
    run(f"images -f letter.ply -n 1 {SMALL} -o again --seed 412")
    assert (pixels("again/00000.jpeg") == views[0]).all()
    assert "earlier" not in caplog.text
    run(f"images -f letter.ply -n 1 {SMALL}")
    assert "letter: 2 pictures of an earlier series stay, from letter/00001.jpeg" in caplog.text


def test_a_packed_mesh_names_its_pictures_as_the_mesh_does(run, tmp_path):
    packed = gzip.compress((tmp_path / "letter.ply").read_bytes())
    (tmp_path / "packed.v2.ply.gz").write_bytes(packed)
    run(f"images -f packed.v2.ply.gz -n 1 {SMALL}")
    run("html -f packed.v2.ply.gz")
    assert (tmp_path / "packed.v2/00000.jpeg").is_file() and (tmp_path / "packed.v2.html").is_file()


def test_turntable_goes_once_around(run):
    run(f"images -f letter.ply -n 4 --turntable --movie a.gif -o turn {SMALL} "
        "--background transparent --elevation 25")
    run(f"mesh -f letter.ply --azimuth 120 --elevation 25 -o a.png {SMALL} "
        "--background transparent")
    assert np.abs(pixels("turn/00001.png").astype(int) - pixels("a.png")).max() <= 1
    assert Image.open("a.gif").n_frames == 4 and Image.open("a.gif").size == (96, 72)


def test_camera_of_a_window_serves_a_picture(run):
    from test_cameras import pinhole

    middle = shapes.mesh("letter").points.mean(axis=0)
    camera = pinhole(middle + np.array([0, 0, 9.0]), middle, 80, 50)
    with open("c.json", "w") as file:
        json.dump(camera, file)
    run("mesh -f letter.ply -c c.json -o a.png")
    assert pixels("a.png").shape == (50, 80, 3)
    run("mesh -f letter.ply -c c.json -o a.png --size 160 100")
    assert pixels("a.png").shape == (100, 160, 3)


@pytest.mark.parametrize("color, seen", [
    ("red", (1, 0, 0)), ("#00ff00", (0, 1, 0)), ("normal", (0.5, 0.5, 1))])
def test_colours(run, color, seen):
    """A plate that faces the camera (normal +z: x, y, z as red, green, blue)."""
    plate = Geometry(np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0.0]]), None,
                     np.array([[0, 1, 2], [0, 2, 3]]))
    files.write("plate.ply", plate)
    run(f"mesh -f plate.ply --azimuth 0 --elevation 0 --color {color} -o a.png {SMALL}")
    light = (pixels("a.png")[36, 48] / 255.0) ** 2.2
    assert light / light.max() == pytest.approx(np.array(seen) ** 2.2, abs=0.02)


@pytest.mark.parametrize("line, message", [
    ("mesh -f letter.ply --color bluish -o a.png", "bluish"),
    ("pcd -f letter.ply --color normal -o a.png", "no normals"),
    ("mesh -f letter.ply -o a.jpeg --background transparent", "jpeg has no transparency"),
    ("mesh -f letter.ply -o a.bmp", "cannot write"),
    ("images -f letter.ply --movie a.avi", "cannot write"),
    ("images -f letter.ply -o a.png", "folder is needed"),
    ("mesh -f letter.ply -o a.png -c missing.json", "missing.json"),
    ("error -f letter.ply -o a.png", "no checkpoint beside"),
    ("curves -f . -o a.png", "log.jsonl"),
    ("slices -mlp missing.h5 -o a.png", "missing.h5"),
    ("html -f letter.ply -o a.png", "cannot write")])
def test_what_cannot_be_shown_is_refused(run, line, message):
    with pytest.raises(UserError, match=message):
        run(line)


# --- error


def test_error_picture_can_be_read_off_its_legend(run):
    """A ball that is 0.05 too large has the colour of 0.05 all over, and the legend has it, too."""
    ball = shapes.mesh("sphere")
    files.write("ball.ply", ball)
    files.write("larger.ply", ball._replace(points=1.05 * ball.points))
    run("error -f larger.ply -r ball.ply --max 0.1 --size 200 150")
    image = pixels("larger_error.png").astype(int)
    assert image.shape[0] == 150 and image.shape[1] > 420
    scale = 255 * colors.color_map(np.linspace(0, 0.1, 200), 0.1)
    ball = image[45:105, 70:130].reshape(-1, 1, 3)
    read = np.abs(ball - scale).sum(axis=2).argmin(axis=1) / 199 * 0.1
    assert np.abs(np.percentile(read, [5, 50, 95]) - 0.05).max() < 0.005
    for share in (0.1, 0.5, 0.9):
        wanted = 255 * colors.color_map(np.array([share]), 1)[0]
        assert (np.abs(image[:, 400:] - wanted).max(axis=2) < 12).any(), share
    for top, beyond in (("0.1", False), ("0.02", True)):
        run(f"error -f larger.ply -r ball.ply --max {top} --size 200 150 -o a.png "
            "--background transparent")
        label = "distance to the reference, unit frame"
        assert (pixels("a.png")[:, 400:] == charts.legend(150, float(top), label, beyond)).all()


def test_vertices_that_no_face_uses_do_not_matter(run):
    mesh = shapes.mesh("letter")
    stray = Geometry(np.concatenate([mesh.points, [[1e3, -1e3, 0]]]), None, mesh.faces)
    files.write("stray.ply", stray)
    for mode in ("mesh", "pcd"):
        run(f"{mode} -f letter.ply --ground -o a.png {SMALL}")
        run(f"{mode} -f stray.ply --ground -o b.png {SMALL}")
        assert (pixels("a.png") == pixels("b.png")).all()
    run("error -f stray.ply -r letter.ply -o a.png --max 0.01 --size 96 72")
    run("error -f letter.ply -r letter.ply -o b.png --max 0.01 --size 96 72")
    assert (pixels("a.png") == pixels("b.png")).all()


# --- slices


def test_slices_of_a_checkpoint(run):
    """The first field is nearly |x| - r: the picture has inside and outside."""
    mlp = MLP(Architecture(64), kernel=True)
    info = {"architecture": vars(mlp.architecture), "volume_factor": 1.5,
            "frame": {"center": [0, 0, 0], "scale": 1.0}}
    checkpoints.save_checkpoint("param_00001.h5", mlp.parameters, info)
    run("slices")
    image = pixels("param_00001_slices.png").astype(int)[:, :1000]
    assert (image[..., 2] > image[..., 0] + 40).sum() > 2000
    assert (image[..., 0] > image[..., 2] + 40).sum() > 2000
