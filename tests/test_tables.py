"""The results' tables and curves, of made-up results."""

import json

from benchmarks.results import curves, tables

import pytest


def figures(forth, back, **more):
    default = {"reference_to_surface": {"mean": forth, "p99": forth}, "chamfer": forth,
               "hausdorff": forth, "mesh_to_surface": {"mean": back, "p99": back}}
    topology = {"components": 1, "watertight": True, "euler_characteristic": 0,
                "boundary_edges": 0, "nonmanifold_edges": 0, "rims": 0}
    return {"default": default, "topology": topology, "seconds": 60.0, "peak_mib": 100.0, **more}


def test_tables_mark_the_best():
    result = {"reference": {"topology": figures(0, 0)["topology"], "scale": 1.0}, "cases": {
        "clean": {"points": 9, "methods": {
            "ours": figures(0.001, 0.003, steps=2000, flags="--trim auto")}},
        "noisy": {"points": 9, "methods": {
            "ours": figures(0.004, 0.006), "poisson-estimated": figures(0.007, 0.001),
            "ball-pivoting": {"error": "died of SIGSEGV"}}}}}
    found = {"knot": result}
    assert ("| knot | 9 | 2,000 | `--trim auto` | 1.0 | 0.00100 / 0.00300 | genus 1, 1 piece |"
            in tables.shapes(found))
    result["cases"]["clean"]["methods"]["ours"]["settings"] = {"recipe": 1}
    assert "| knot † | 9 | 2,000 |" in tables.shapes(found)
    assert "0.00400 / 0.00600 |" in tables.cases(found)
    assert "**0.00700 / 0.00100**" in tables.cases(found)
    assert "died of SIGSEGV" in tables.everything(found)
    assert "| knot | noisy | – | – | 0.00400" in tables.cases(found)


def test_costs_by_part():
    alone = figures(0.001, 0.003, parts={"train.py": 300.0, "infer.py": 6.0})
    ours = figures(0.001, 0.003, parts={"train.py": 300.0, "infer.py": 18.0})
    assert tables.parts_text(ours, alone) == "5.0 + 0.1 + 0.2"
    assert tables.parts_text(ours, {}) == "1.0"
    ours["parts"]["train.py"] = None  # a kill lost it
    assert tables.parts_text(ours, alone) == "1.0"


def test_seeds_and_normals(tmp_path, monkeypatch):
    methods = {"ours": figures(0.001, 0.003), "ours-seed-1": figures(0.002, 0.004),
               "ours-seed-2": figures(0.003, 0.003)}
    found = {"knot": {"cases": {"clean": {"methods": methods},
                                "noisy": {"methods": {"ours": figures(1, 1)}}}}}
    *_, row = tables.seeds(found).splitlines()
    assert row.startswith("| knot | clean | 0.00100 / 0.00300, genus 1, 1 piece |")
    assert row.endswith("| 37.5 % |")
    assert "seed 1" not in tables.cases(found)
    monkeypatch.setattr(tables, "NORMALS", tmp_path / "normals.json")
    assert len(tables.normals({}).splitlines()) == 2
    tables.NORMALS.write_text(json.dumps({"rows": [{
        "shape": "a", "points": 5000, "method": "ours", "cpu_seconds": 2.13, "mean_angle": 3.764,
        "wrong_percent": 0}]}))
    assert tables.normals({}).splitlines()[-1] == "| a | 5,000 | ours | 2.1 | 3.76° | 0.000 % |"


@pytest.mark.parametrize("change, short", [
    ({}, []), ({"forth": 0.0005}, ["truth to mesh"]), ({"back": 0.002}, ["mesh to truth"]),
    ({"genus": 0}, ["genus"]), ({"rims": 2}, ["rims"]), ({"pieces": 0}, ["pieces"])])
def test_what_falls_short_of_a_target(change, short):
    target = tables.Target(0.001, 0.003, pieces=1, genus=1)._replace(**change)
    assert tables.shortfall(target, figures(0.001, 0.003)) == short


def test_targets_beside_what_was_measured(monkeypatch):
    monkeypatch.setattr(tables, "TARGETS", {
        ("knot", "clean"): tables.Target(0.002, 0.003, pieces=1, genus=0),
        ("knot", "noisy"): tables.Target(0.002), ("lucy", "clean"): tables.Target(0.1, rims=2)})
    methods = {"ours": figures(0.001, 0.004)}
    found = {"knot": {"cases": {"clean": {"methods": methods}, "noisy": {"methods": methods}}}}
    assert tables.targets(found).splitlines()[2:] == [
        "| knot | 0.00200 / 0.00300, at most 1 piece, genus 0 | 0.00100 / 0.00400, genus 1, "
        "1 piece | no: mesh to truth, genus |",
        "| knot, noisy | 0.00200 | 0.00100 / 0.00400, genus 1, 1 piece | yes |",
        "| lucy | 0.10000, 2 rims | – | not measured |"]


def test_course_with_its_targets(monkeypatch):
    monkeypatch.setitem(tables.TARGETS, ("gargoyle", "clean"), tables.Target(0.0012))
    course = [{"step": 100 * k, **figures(0.1 / k, 0.3 / k)} for k in (1, 2, 4)]
    for row in course:
        row["default"]["reference_to_surface"]["max"] = 1 / row["step"]
    ours = figures(0.02, 0.06, course=course)
    reference = {"topology": None, "scale": 10.0}
    case = {"points": 9, "methods": {"ours": ours,
                                "poisson-estimated": figures(0.001, 0.003)}}
    figure = curves.chart(list(curves.lines({
        "gargoyle": {"reference": reference, "cases": {"clean": case}},
        "knot": {"reference": reference, "cases": {"holes": case}},
        "torus": {"reference": reference, "cases": {"clean": {"points": 9, "methods": {}}}}})))
    mean, both, farthest = ([(list(line.get_xdata()), list(line.get_ydata()), line.get_linestyle())
                             for line in axes.lines] for axes in figure.axes)
    steps = [100, 200, 400]
    assert mean == [(steps, [0.1, 0.05, 0.025], "-"), ([0, 1], [0.0012, 0.0012], "--"),
                    (steps, [0.1, 0.05, 0.025], "-")]  # the gargoyle has a target
    assert both == [(steps, [0.2, 0.1, 0.05], "-")] * 2
    assert farthest == [(steps, [1 / step for step in steps], "-")] * 2


def test_costs_of_a_course_beside_the_rivals():
    course = [{"step": 100 * k, **figures(0.1 / k, 0.3 / k)} for k in (1, 2, 4)]
    case = {"points": 9, "methods": {
        "ours": {**figures(0.02, 0.06, course=course), "cpu_seconds": 60.0},
        "poisson": {**figures(0.001, 0.003), "cpu_seconds": 2.0}}}
    other = {"points": 9, "methods": {"ours": figures(0.02, 0.06)}}
    found = list(curves.costs({"lucy": {"cases": {"clean": case, "noisy": case}},
                               "bunny": {"cases": {"clean": other}}}))
    assert found == [("lucy", [15.0, 30.0, 60.0], [0.1, 0.05, 0.025],
                      [("Poisson, true normals", 2.0, 0.001)])]
    lines = curves.chart_of_costs(found).axes[0].lines
    assert [list(line.get_xdata()) for line in lines] == [[15.0, 30.0, 60.0], [2.0]]
