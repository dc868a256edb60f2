"""The figures in the READMEs are those of the files that the commands wrote."""

import json
import re

from benchmarks.results import driver, tables
from conftest import ROOT
import datasets
from igr.geometry.frames import Frame
from igr.training import sampling
import losses
from networks import MLP, Architecture

import nnabla.function
import numpy as np
import pytest


@pytest.mark.parametrize("file, count", [("README.md", 1), ("results/README.md", 12)])
def test_results_tables(file, count):
    """Writing the tables anew from results/*.json changes nothing, and there are such tables."""
    text = (ROOT / file).read_text()
    found = tables.read(ROOT / "results", driver.SHAPES)
    assert found and text.count("<!-- results: ") == count
    assert tables.filled(text, found) == text


def test_from_python(tmp_path, monkeypatch):
    """The README's ten lines run as they stand, but for the size of the job."""
    text = (ROOT / "README.md").read_text()
    program = re.search(r"## From Python.*?```python\n(.*?)```", text, re.S)[1]
    program = program.replace("1000", "20").replace("256", "24")
    (tmp_path / "demo").mkdir()
    datasets.create_shape("knot", tmp_path / "demo" / "knot_pcd.ply", 500, 0)
    monkeypatch.chdir(tmp_path)
    exec(program, {})
    assert (tmp_path / "demo" / "run_mesh.ply").stat().st_size > 1000


def test_the_readme_is_short_and_its_links_lead_somewhere():
    assert len((ROOT / "README.md").read_text().split()) <= 1300
    pages = [ROOT / place / "README.md" for place in (".", "results", "benchmarks")]
    for page in [*pages, *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            assert "://" in link or (page.parent / link).exists(), f"{page}: {link}"


def test_the_claim_counts_the_rows_of_the_table():
    found = tables.read(ROOT / "results", driver.SHAPES)
    text = " ".join((ROOT / "README.md").read_text().split())
    for peer, name in (("detail-over-poisson", "our own detail over Poisson's surface"),
                       ("apss", "APSS"), ("poisson-winding", "Poisson with the same normals"),
                       ("poisson", "Poisson with given ones")):
        pairs = [[tables.mean_both_ways(tables.summary_entry(found[shape], case, method))
                  for method in ("ours", peer)] for shape, case in tables.SUMMARY]
        known = [ours < theirs for ours, theirs in pairs if theirs is not None]
        assert f"{name} in {sum(known)} of {len(known)}" in text


def test_the_best_of_each_row_is_bold():
    """Read off the printed figures: the lowest mean of a row's cells, and no other."""
    text = (ROOT / "README.md").read_text().split("<!-- results: summary -->")[1]
    rows = [line.split(" | ")[1:6] for line in text.split("<!-- end -->")[0].splitlines()[3:]]
    assert len(rows) == len(tables.SUMMARY)
    for cells in rows:
        figures = [[float(figure) for figure in re.findall(r"0\.\d+", cell)] for cell in cells]
        means = [sum(row) / len(row) if row else np.inf for row in figures]
        assert [cell.startswith("**") for cell in cells] == [m == min(means) for m in means]


def test_every_table_stands_in_a_readme():
    text = (ROOT / "README.md").read_text() + (ROOT / "results" / "README.md").read_text()
    assert sorted(re.findall(r"<!-- results: (\w+) -->", text)) == sorted(tables.TABLES)


def test_the_demo_s_figure():
    """The quick start names the figure of results/demo.json."""
    result = json.loads((ROOT / "results" / "demo.json").read_text())["default"]
    said = re.search(r"reference to surface mean +(0\.\d+)", (ROOT / "README.md").read_text())
    assert float(said.group(1)) == pytest.approx(result["reference_to_surface"]["mean"], abs=1e-6)


def test_speed_in_the_readme():
    text = (ROOT / "README.md").read_text()
    for file, pattern in (("step", r"takes (\d\.\d\d) times PyTorch"),
                          ("forward", r"computes (\d\.\d) times as many")):
        rows = json.loads((ROOT / "benchmarks/speed" / f"{file}.json").read_text())["rows"]
        ratio = next(row for row in rows if row["dims"] == 512)["ratio_torch"]
        said = re.search(pattern, re.sub(r"\s+", " ", text)).group(1)
        assert float(said) == pytest.approx(ratio, abs=0.06)


@pytest.mark.parametrize("file", ["step", "forward"])
def test_benchmark_tables(file):
    """The rows of benchmarks/speed/*.json stand in the table, rounded to three digits."""
    columns = ["ours", *(["muon"] if file == "step" else []), "torch", "nnabla_graph", "floor",
               "ratio_torch", "ratio_floor"]
    text = (ROOT / "benchmarks" / "README.md").read_text()
    for row in json.loads((ROOT / "benchmarks/speed" / f"{file}.json").read_text())["rows"]:
        cells = " | ".join(f"{row[name]:.3g}" for name in columns)
        assert f"| 8 x {row['dims']} | {cells} |" in text


def test_core_type_table():
    text = (ROOT / "benchmarks" / "README.md").read_text()
    speed = ROOT / "benchmarks/speed"
    steps, forwards = (json.loads((speed / f"{name}-core-types.json").read_text())["rows"]
                       for name in ("step", "forward"))
    assert len(steps) == len(forwards) == 10
    for step, forward in zip(steps, forwards):
        assert (f"| 8 x {step['dims']} | {step['ours']:.3g} | {step['muon']:.3g} | "
                f"{step['torch']:.3g} | {step['ratio_torch']:.3g} | {forward['ours']:.3g} | "
                f"{forward['torch']:.3g} | {forward['ratio_torch']:.3g} |") in text


def test_extraction_table():
    text = (ROOT / "benchmarks" / "README.md").read_text()
    for row in json.loads((ROOT / "benchmarks/speed/extract.json").read_text())["rows"]:
        name = row["f"].split("/")[0]
        assert f"| {name} | {row['grid']} | {row['evaluations']:,} |" in text
        assert row.get("same_as_dense", True) and not row.get("missed_cells", 0)
        assert not row["boundary_edges"] and not row["nonmanifold_edges"]


def test_pictures_table():
    """The table, and the sentence of docs/pictures.md about the same figures."""
    table = re.sub(r"\s+", " ", (ROOT / "benchmarks" / "README.md").read_text())
    text = re.sub(r"\s+", " ", (ROOT / "docs" / "pictures.md").read_text())
    rows = json.loads((ROOT / "benchmarks/speed/pictures.json").read_text())["rows"]
    for row in rows:
        assert f"| {row['what']} | {row['size']:,} | {row['seconds']:.3g} |" in table
    ball, _, gyroid, cloud, page = rows
    for part in (f"has {page['mebibytes']:.2f} MiB", f"it {page['ready_seconds']:.2f} s after",
                 f"turn {page['turned_seconds']:.2f} s after"):
        assert part in table
    for part in (f"takes {ball['seconds']:.0f} to {gyroid['seconds']:.0f} s",
                 f"1,000,000 points {cloud['seconds']:.0f} s",
                 f"has {page['mebibytes']:.1f} MiB"):
        assert part in text


def test_functions_of_a_step():
    """Their number as the benchmarks' README has it; all compiled."""
    points = np.zeros((100, 3), np.float32)
    cloud = datasets.PointCloud(points, None, points[:, :1], points[:0], Frame())
    samples, names = sampling.GraphSamples(cloud, sampling.Sizes(8, 8, 8, 1.5), 0), []
    loss = losses.igr_loss(MLP(Architecture(16)), samples, losses.Weights())["loss"]
    loss.visit(lambda f: names.append(f.info.type_name))
    text = (ROOT / "benchmarks" / "README.md").read_text()
    assert f"a step's graph is {len(names)} nnabla functions" in text
    assert all(hasattr(nnabla.function, name) for name in names)
