"""The figures in the READMEs are those of the files that the commands wrote."""

import json
import re

from conftest import ROOT
import datasets
from geometry import Frame
import losses
from networks import MLP
import sampling

import nnabla.function
import numpy as np
import pytest


@pytest.mark.parametrize("name", ["knot", "bunny"])
def test_results_table(name):
    result = json.loads((ROOT / "results" / f"{name}.json").read_text())["default"]
    row = re.search(rf"^\| {name}.*$", (ROOT / "README.md").read_text(), re.M).group()
    figures = [float(x) for x in re.findall(r"0\.\d{4}", row)]
    assert figures == pytest.approx([
        result["reference_to_surface"]["mean"], result["mesh_to_surface"]["mean"],
        result["chamfer"], result["chamfer_floor"]], abs=6e-5)


def test_speed_in_the_readme():
    text = (ROOT / "README.md").read_text()
    for file, pattern in (("step", r"takes (\d\.\d\d) times PyTorch"),
                          ("forward", r"computes (\d\.\d) times as many")):
        rows = json.loads((ROOT / "benchmarks" / f"{file}.json").read_text())["rows"]
        ratio = next(row for row in rows if row["dims"] == 512)["ratio_torch"]
        said = re.search(pattern, re.sub(r"\s+", " ", text)).group(1)
        assert float(said) == pytest.approx(ratio, abs=0.06)


@pytest.mark.parametrize("file", ["step", "forward"])
def test_benchmark_tables(file):
    """Every figure of benchmarks/*.json stands in the table, rounded to three digits."""
    text = (ROOT / "benchmarks" / "README.md").read_text()
    for row in json.loads((ROOT / "benchmarks" / f"{file}.json").read_text())["rows"]:
        for name in ("ours", "torch", "floor", "nnabla_graph", "ratio_torch", "ratio_floor"):
            assert f"{row[name]:.3g}" in text, (row["dims"], name)


def test_extraction_table():
    text = (ROOT / "benchmarks" / "README.md").read_text()
    for row in json.loads((ROOT / "benchmarks" / "extract.json").read_text())["rows"]:
        name = row["f"].split("/")[0]
        assert f"| {name} | {row['grid']} | {row['evaluations']:,} |" in text
        assert row.get("same_as_dense", True) and not row.get("missed_cells", 0)
        assert not row["boundary_edges"] and not row["nonmanifold_edges"]


def test_pictures_table():
    """The table, and the README's sentence about the same figures."""
    table = (ROOT / "benchmarks" / "README.md").read_text()
    text = re.sub(r"\s+", " ", (ROOT / "README.md").read_text())
    rows = json.loads((ROOT / "benchmarks" / "pictures.json").read_text())["rows"]
    for row in rows:
        assert f"| {row['what']} | {row['size']:,} | {row['seconds']:.3g} |" in table
    mesh, _, cloud, page = rows
    assert f"with occlusion takes {mesh['seconds']:.1f} s" in text
    assert f"1,000,000 points {cloud['seconds']:.1f} s" in text
    assert f"has {page['mebibytes']:.1f} MiB" in text


def test_functions_of_a_step():
    """Their number as the benchmarks' README has it; all compiled."""
    points = np.zeros((100, 3), np.float32)
    cloud = datasets.PointCloud(points, None, points[:, :1], points[:0], Frame())
    samples, names = sampling.GraphSamples(cloud, 8, 8, 1.5, 0, 0), []
    loss = losses.igr_loss(MLP(16), samples.x, samples.y)["loss"]
    loss.visit(lambda f: names.append(f.info.type_name))
    text = (ROOT / "benchmarks" / "README.md").read_text()
    assert f"a step's graph is {len(names)} nnabla functions" in text
    assert all(hasattr(nnabla.function, name) for name in names)
