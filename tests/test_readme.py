"""The figures in the READMEs are those of the files that the commands wrote."""

import json
import re

from conftest import ROOT
import study

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


def test_table_of_the_study():
    """results/study.md shows the lines of benchmarks/study.jsonl."""
    rows, page = study.lines(), study.PAGE.read_text()
    assert study.render(page, rows) == page
    assert rows and all(row["changes"].keys() <= study.DEFAULT.keys() for row in rows)
    assert study.render(page, rows[1:]) != page


def test_variants_of_the_study():
    assert study.changes_of("") == study.changes_of("rate=5e-3") == {}
    assert study.changes_of("rate=1e-2 dims=128") == {"rate": 0.01, "dims": 128}
    with pytest.raises(KeyError):
        study.changes_of("speed=9")
    c = {**study.DEFAULT, "batch": 128, "grow": 16, "steps": 2500}
    sizes = [study.batch_of(c, step) for step in range(2500)]
    assert [sizes.count(128 * 2**i) for i in range(5)] == [500] * 5
