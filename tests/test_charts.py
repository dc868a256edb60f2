"""Charts show a training's log and a field as they are."""

import json

from helper import UserError
from igr.view import charts

import numpy as np
import pytest


def test_curves_follow_the_log(tmp_path):
    rows = [{"step": s, "epoch": s / 10, "seconds": s / 5, "rate": 10.0 ** (-2 - s / 500),
             "loss": 10.0 ** (-s / 250), "points": 10.0 ** (-s / 250) / 2}
            for s in range(0, 1001, 50)]
    with open(tmp_path / "log.jsonl", "w") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 10, "lo')
    assert charts.read_log(tmp_path) == rows
    image = charts.curves(rows, "run").astype(int)
    blue = np.abs(image - [0x1F, 0x77, 0xB4]).max(axis=2) < 30
    height = len(image)
    upper = blue[: height // 3]
    middle = blue[height // 3 : 2 * height // 3]
    for panel in (upper, middle):  # both fall from the upper left to the lower right
        found, columns = np.nonzero(panel)
        first, last = found[columns < 150].mean(), found[(columns > 500) & (columns < 700)].mean()
        assert first < last - 40
    assert not blue[2 * height // 3 :].any()  # no distances were logged
    rows.append({"step": 1000, "chamfer": 0.01, "hausdorff": 0.1})
    assert np.abs(charts.curves(rows, "run") - image)[2 * height // 3 :].any()


def test_a_log_with_a_bad_line_is_refused(tmp_path):
    path = tmp_path / "log.jsonl"
    for bad in ("nonsense", '{"loss": 1}', '{"step": 2, "loss": [1]}', '{"step": 2, "loss": "x"}'):
        path.write_text('{"step": 1}\n' + bad + '\n{"step": 2}\n')
        with pytest.raises(UserError, match="line 2"):
            charts.read_log(path)
    charts.curves([{"step": 1, "loss": float("nan"), "points": -1.0}], r"$\x$")  # no error


def test_legend_tells_whether_values_lie_beyond_its_top():
    within, beyond = (charts.legend(150, 0.02, "distance", flag) for flag in (False, True))
    assert within.shape == beyond.shape and within.shape[0] == 150 and within.shape[2] == 4
    colored = [np.ptp(image[..., :3].astype(int), axis=2) > 40 for image in (within, beyond)]
    assert colored[1].any(axis=1).sum() > colored[0].any(axis=1).sum()  # an arrow at its end


def distance_to_sphere(slope):
    def value_and_gradient(points):
        length = np.linalg.norm(points, axis=1, keepdims=True)
        return slope * (length[:, 0] - 0.5), slope * points / np.maximum(length, 1e-9)

    return value_and_gradient


def test_slices_show_the_field_and_its_slope():
    image = charts.slices(distance_to_sphere(1.0), 1.0, "sphere", n=101).astype(int)
    steep = charts.slices(distance_to_sphere(1.3), 1.0, "sphere", n=101).astype(int)
    height, width = image.shape[:2]
    blue = (image[..., 2] > image[..., 0] + 60) & (image[..., 2] > image[..., 1] + 20)
    red = (image[..., 0] > image[..., 2] + 60) & (image[..., 0] > image[..., 1] + 60)
    panels = slice(0, int(0.85 * width))  # without the legends
    assert blue[: height // 2, panels].sum() > 2000 and red[: height // 2, panels].sum() > 2000
    lower = slice(height // 2 + 40, height - 60)

    def colored(picture):
        return (np.ptp(picture[lower, panels], axis=2) > 40).mean()

    assert colored(image) < 0.01 < 0.3 < colored(steep)


def test_slices_of_what_is_not_finite():
    with pytest.raises(UserError, match="not finite"):
        charts.slices(lambda p: (np.full(len(p), np.nan), p), 1.0, "f", n=8)
