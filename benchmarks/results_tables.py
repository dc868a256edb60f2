"""The READMEs' tables, from results/*.json; see results.py.

A table stands between the lines `<!-- results: NAME -->` and `<!-- end -->` of a README and is
written anew from the files: nothing in it is typed by hand but the published figures below.
"""

from __future__ import annotations

import json
from pathlib import Path
import re

import helper

NAMES = {"ours": "ours", "ours-normals": "ours, with normals", "ours-long": "ours, longer",
         "poisson-estimated": "Poisson, estimated normals", "poisson": "Poisson, true normals",
         "ball-pivoting": "ball pivoting", "truth": "the truth itself"}
NONE = "–"
BOTH_WAYS = ("reference_to_surface", "mesh_to_surface")  # exact distances, in an entry's default

# Chamfer and Hausdorff of the published nnabla reproduction (its README)
PUBLISHED = {"bunny": (0.21, 0.90), "armadillo": (0.20, 0.67), "dragon": (0.12, 0.61),
             "lucy": (0.07, 0.53), "drill": (0.45, 0.96), "rgb_dragon": (0.22, 0.73)}
# scan to mesh, Chamfer and Hausdorff one-sided, of the benchmark's gargoyle; at second hand: the
# papers' tables were not at hand
SRB = {"IGR, with normals (recalled, not checked)": (0.064, 0.81),
       "SIREN (Sitzmann et al. 2020)": (0.08, 0.68),
       "DiGS (Ben-Shabat et al. 2022)": (0.09, 0.92),
       "PINC (Park et al. 2023)": (0.05, 0.80)}
# what was to be reached without normals: the bunny's mean truth to mesh within an hour on 2 cores
# and in any time, the best of the published figures in each of the gargoyle's columns
BUNNY, GARGOYLE = (0.0010, 0.0006), (("chamfer", 0.05), ("hausdorff", 0.68))


def read(folder, order) -> dict:
    """{shape: its json} of those in `order` that are there."""
    paths = {name: Path(folder) / f"{name}.json" for name in order}
    return {name: json.loads(p.read_text()) for name, p in paths.items() if p.is_file()}


def entries(result: dict):
    """(case, method, entry) of a shape's json, in the order of NAMES."""
    for case, found in result["cases"].items():
        for method in NAMES:
            if method in found["methods"]:
                yield case, method, found["methods"][method]


def entry(result: dict, case: str, method: str) -> dict:
    """An entry that has figures, else {}."""
    found = result["cases"].get(case, {}).get("methods", {}).get(method, {})
    return found if "default" in found else {}


def means(found: dict):
    """(truth to mesh, mesh to truth) of an entry; None for what is not there."""
    figures = found.get("default", {})
    return tuple(figures.get(name, {}).get("mean") for name in BOTH_WAYS)


def both(found: dict):
    """Mean of the two means; of the one where the reference is a cloud; None without figures."""
    there = [mean for mean in means(found) if mean is not None]
    return sum(there) / len(there) if there else None


def digits(value, n=5) -> str:
    return NONE if value is None else f"{value:.{n}f}"


def minutes(found: dict) -> str:
    """Of one core: the CPU time, where no kill has taken part of it along; our runs have one
    thread."""
    spent = found.get("cpu_seconds", found.get("seconds"))
    return NONE if spent is None else f"{spent / 60:.1f}"


def shape_of(topology) -> str:
    """'genus 1, 2 pieces' of counts as meshes.topology gives them; None of a cloud."""
    if topology is None:
        return "cloud"
    pieces = topology["components"]
    text = "1 piece" if pieces == 1 else f"{pieces} pieces"
    if topology.get("boundary_edges"):
        return f"open, {text}"
    if topology.get("nonmanifold_edges"):
        return f"non-manifold, {text}"
    return f"genus {pieces - topology['euler_characteristic'] // 2}, {text}"


def summary(made: dict) -> str:
    """One line for the terminal."""
    forth, back = means(made)
    return (f"truth to mesh {digits(forth)}, mesh to truth {digits(back)}, "
            f"{made.get('seconds', 0):.0f} s, {made.get('peak_mib', 0):.0f} MiB")


def table(head: str, rows) -> str:
    columns = head.split(" | ")
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in lines)


# --------------------------------------------------------------------------------------- the tables


def best(result: dict, case="clean") -> dict:
    """Our longest training's entry without normals."""
    return entry(result, case, "ours-long") or entry(result, case, "ours")


def pair(found: dict) -> str:
    """'truth to mesh / mesh to truth' of an entry; the first alone where the truth is a cloud."""
    there = [digits(mean) for mean in means(found) if mean is not None]
    return " / ".join(there) or NONE


def shapes(results: dict) -> str:
    rows = []
    for name, result in results.items():
        ours = best(result)
        rows.append([
            name, f"{result['cases']['clean']['points']:,}", minutes(ours), pair(ours),
            shape_of(ours["topology"]) if ours else NONE,
            shape_of(result["reference"]["topology"]),
            *(pair(entry(result, "clean", method))
              for method in ("ours-normals", "poisson-estimated"))])
    return table("shape | points | core minutes | ours | topology | the truth's | "
                 "ours, with normals | Poisson, estimated normals", rows)


def references(results: dict) -> str:
    rows = []
    for name, result in results.items():
        about = result["reference"]
        faces = about.get("faces")
        rows.append([name, about.get("file", NONE), f"{about['points']:,}",
                     f"{faces:,}" if faces else NONE, shape_of(about["topology"])])
    return table("shape | file | points | faces | topology", rows)


def cases(results: dict) -> str:
    methods = [m for m in NAMES if m != "truth"]
    rows = []
    for name, result in results.items():
        for case in result["cases"] if len(result["cases"]) > 1 else ():
            found = {method: entry(result, case, method) for method in methods}
            least = min((both(f) for f in found.values() if f), default=None)
            cells = []
            for one in found.values():
                text = pair(one)
                cells.append(f"**{text}**" if one and both(one) == least else text)
            rows.append([name, case, *cells])
    return table(f"shape | case | {' | '.join(NAMES[m] for m in methods)}", rows)


def srb(results: dict) -> str:
    rows = [[who, f"{c:g}", f"{h:.2f}", NONE, NONE] for who, (c, h) in SRB.items()]
    result = results.get("gargoyle", {"cases": {}})
    for _, method, found in entries(result):
        if "srb" in found:
            figures, exact = found["srb"], means(found)[0] * result["reference"]["scale"]
            rows.append([NAMES[method], *(digits(figures[key], 3) for key in (
                "chamfer_reference_to_mesh", "hausdorff_reference_to_mesh",
                "chamfer_reference_to_mesh_floor")), digits(exact, 3)])
    return table("gargoyle | d_C scan to mesh | d_H scan to mesh | floor of d_C | "
                 "exact mean distance", rows)


def upstream(results: dict) -> str:
    rows = []
    for name, published in PUBLISHED.items():
        result = results.get(name, {"cases": {}})
        ours, truth = best(result), entry(result, "clean", "truth")

        def figures(found, protocol):
            return (f"{found[protocol]['chamfer']:.3f} / {found[protocol]['hausdorff']:.3f}"
                    if found else NONE)

        rows.append([name, f"{published[0]:.2f} / {published[1]:.2f}", figures(truth, "upstream"),
                     figures(ours, "upstream"), figures(ours, "default")])
    return table("shape | published | the truth, turned | our mesh, turned | our mesh, by the "
                 "default protocol", rows)


def everything(results: dict) -> str:
    rows = []
    for name, result in results.items():
        for case, method, found in entries(result):
            if "error" in found:
                rows.append([name, case, NAMES[method], *[NONE] * 9, found["error"]])
                continue
            figures = found["default"]
            cost = (f"{found[key]:.0f}" if key in found else NONE
                    for key in ("seconds", "cpu_seconds", "peak_mib"))
            rows.append([
                name, case, NAMES[method], *cost, *map(digits, means(found)),
                digits(figures["reference_to_surface"]["p99"], 4), digits(figures["chamfer"], 4),
                digits(figures["hausdorff"], 3), digits(figures.get("normal_consistency"), 3),
                shape_of(found["topology"])])
    return table("shape | case | method | seconds | CPU seconds | MiB | truth to mesh | mesh to "
                 "truth | truth to mesh, 99 % | Chamfer | Hausdorff | normals | topology", rows)


def field(results: dict) -> str:
    rows = []
    for name, result in results.items():
        for case, method, found in entries(result):
            if "field" in found:
                signed = "yes" if found["field"].get("signed", True) else "no"
                rows.append([name, case, NAMES[method], signed, *(
                    digits(found["field"][place][key], 4)
                    for key in ("gradient_off_1", "distance_off") for place in ("cube", "band"))])
    return table("shape | case | method | sign known | gradient off 1, cube | band | "
                 "distance off, cube | band", rows)


def verdict(value, limit) -> list:
    """Cells: what was measured, and whether it is at most `limit`."""
    if value is None or limit is None:
        return [digits(value), "not measured"]
    return [digits(value), "yes" if value <= limit else "no"]


def same_topology(asked: str, found: str) -> str:
    """Cell: is what shape_of() says of a mesh what was asked for? Its genus was; pieces are more.
    """
    if found == NONE:
        return "not measured"
    if found == asked:
        return "yes"
    return "the genus, not the pieces" if found.split(",")[0] == asked.split(",")[0] else "no"


def limits(name: str, case: str, result: dict) -> dict:
    """What was to be reached by a shape's case, unit frame: "mean" of truth to mesh, of "both"
    ways, and the "farthest" point of the truth; those that were asked for."""
    found = {}
    if (name, case) == ("bunny", "clean"):
        found["mean"] = BUNNY[1]
    if (name, case) == ("gargoyle", "clean"):
        found["farthest"] = dict(GARGOYLE)["hausdorff"] / result["reference"]["scale"]
    if case != "clean":
        found["both"] = both(entry(result, case, "poisson-estimated"))
    return {key: limit for key, limit in found.items() if limit is not None}


def targets(results: dict) -> str:
    none, rows = {"cases": {}}, []
    bunny, gargoyle = results.get("bunny", none), results.get("gargoyle", none)
    for limit, found in zip(BUNNY, (entry(bunny, "clean", "ours"), best(bunny))):
        rows.append([f"bunny, truth to mesh ({minutes(found)} core minutes)", f"{limit:.4f}",
                     *verdict(means(found)[0], limit)])
    for key, limit in GARGOYLE:
        found = best(gargoyle).get("srb", {})
        floor = found.get(f"{key}_reference_to_mesh_floor")
        rows.append([f"gargoyle, scan to mesh, {key}" + (f" (its floor: {floor:.3f})" if floor
                                                         else ""), f"{limit:.2f}",
                     *verdict(found.get(f"{key}_reference_to_mesh"), limit)])
    for name, result in results.items():
        for case in result["cases"]:
            if case != "clean":
                peer = limits(name, case, result).get("both")
                rows.append([f"{name}, {case}: mean of both ways, below Poisson's with estimated "
                             "normals", digits(peer),
                             *verdict(both(best(result, case)), peer)])
        truth = result["reference"]["topology"]
        if truth and truth["watertight"]:
            for what, ours in (("", best(result)),
                               (", with normals", entry(result, "clean", "ours-normals"))):
                found = shape_of(ours["topology"]) if ours else NONE
                rows.append([f"{name}{what}: topology", shape_of(truth), found,
                             same_topology(shape_of(truth), found)])
    return table("what | to reach | measured | reached", rows)


TABLES = {"shapes": shapes, "cases": cases, "srb": srb, "upstream": upstream,
          "everything": everything, "field": field, "targets": targets, "references": references}


# -------------------------------------------------------------------------------------- the READMEs


def filled(text: str, results: dict) -> str:
    """`text` with every table between its marks brought up to date."""
    def again(match):
        return f"{match[1]}\n{TABLES[match[2]](results)}\n{match[3]}"

    return re.sub(r"(<!-- results: (\w+) -->)\n.*?(<!-- end -->)", again, text, flags=re.S)


def write(folder, order) -> None:
    """Bring the tables of `folder`/README.md and of the README above it up to date."""
    results = read(folder, order)
    for path in (Path(folder) / "README.md", Path(folder).parent / "README.md"):
        if path.is_file():
            with helper.replacing(path) as temporary:
                temporary.write_text(filled(path.read_text(), results))
