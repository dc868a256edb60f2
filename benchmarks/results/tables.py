"""Write the READMEs' tables from results/*.json; see driver.py.

A README has each table between the lines `<!-- results: NAME -->` and `<!-- end -->`. Tables are
written from the files; only the published figures below are typed by hand.
"""

from __future__ import annotations

import json
from pathlib import Path
import re
from typing import NamedTuple

from benchmarks.results.settings import RECIPE, SCAN_METHODS, SCANS, SEEDS
import helper

NAMES = {"ours": "ours", "ours-network": "our network alone", "ours-normals": "ours, with normals",
         "ours-cleaned": "ours, cleaned before",
         "ours-seed-1": "ours, seed 1", "ours-seed-2": "ours, seed 2",
         "poisson-estimated": "Poisson, estimated normals", "poisson": "Poisson, true normals",
         "poisson-winding": "Poisson, winding-number normals",
         "poisson-meshlab": "MeshLab's Poisson, true normals",
         "poisson-same": "Poisson, the same normals as ours",
         "poisson-meshlab-scan": "MeshLab's Poisson for scans", "apss": "APSS",
         "rimls": "RIMLS", "advancing-front": "advancing front",
         "detail-over-poisson": "our detail over Poisson",
         "ball-pivoting": "ball pivoting", "truth": "the truth itself"}
# of SCANS: what is true of a scan's normals is that they are its own
SCAN_NAMES = {**NAMES, "ours-sides": "ours, sides by the scan's own normals",
              "ours-normals": "ours, the scan's own normals",
              "poisson": "Poisson, the scan's own normals"}
NONE = "–"
NORMALS = Path(__file__).with_name("normals.json")
# the exact distances of an entry's default protocol: truth to mesh, mesh to truth
BOTH_WAYS = ("reference_to_surface", "mesh_to_surface")

# Chamfer and Hausdorff of the published nnabla reproduction (its README)
PUBLISHED = {"bunny": (0.21, 0.90), "armadillo": (0.20, 0.67), "dragon": (0.12, 0.61),
             "lucy": (0.07, 0.53), "drill": (0.45, 0.96), "rgb_dragon": (0.22, 0.73)}
# one-sided Chamfer and Hausdorff distance, scan to mesh, of the benchmark's gargoyle; quoted from
# other papers, since the tables of these were not at hand
SRB = {"SIREN (Sitzmann et al. 2020)": (0.08, 0.68),
       "DiGS (Ben-Shabat et al. 2022)": (0.09, 0.92),
       "PINC (Park et al. 2023)": (0.05, 0.80)}


class Target(NamedTuple):
    """Goals for ours in a case: at most these distances (unit frame), holes and pieces."""

    forth: float  # truth to mesh, mean
    back: float | None = None  # mesh to truth, mean; None where the truth is a cloud
    pieces: int | None = None
    genus: int | None = None
    rims: int | None = None  # exactly


TARGETS = {("bunny", "clean"): Target(0.000155, 0.00073, pieces=1, genus=0),
           ("bunny", "sparse"): Target(0.0022, 0.0026),
           ("bunny", "holes"): Target(0.00025, 0.0008),
           ("lucy", "clean"): Target(0.00034, 0.00033, pieces=1, genus=1),
           ("armadillo", "clean"): Target(0.00012, pieces=1, genus=0),
           ("dragon", "clean"): Target(0.000167, 0.000163, pieces=1),
           ("rgb_dragon", "clean"): Target(0.00037, 0.00031, pieces=1),
           ("drill", "clean"): Target(0.00009, 0.000185, rims=2),
           ("gargoyle", "left-out"): Target(0.00165, pieces=1, genus=0),
           ("anchor", "scan"): Target(0.005, 0.005, pieces=1, genus=4),
           ("dc", "scan"): Target(0.0023, 0.0023, pieces=1, genus=8)}

# rows of the project's README: shape and case
SUMMARY = (("bunny", "clean"), ("bunny", "noisy"), ("bunny", "sparse"), ("bunny", "holes"),
           ("lucy", "clean"), ("armadillo", "clean"), ("rgb_dragon", "clean"), ("drill", "clean"),
           ("gargoyle", "left-out"), ("anchor", "scan"), ("dc", "scan"))
# and its columns
SUMMARY_METHODS = {"ours": "ours", "detail-over-poisson": "our detail over Poisson",
                   "apss": "APSS", "poisson-winding": "Poisson",
                   "poisson": "Poisson, given normals"}


def read(folder, order) -> dict:
    """{shape: its json} for the shapes in `order` that have one."""
    paths = {name: Path(folder) / f"{name}.json" for name in order}
    return {name: json.loads(p.read_text()) for name, p in paths.items() if p.is_file()}


def entries(result: dict):
    """Yield (case, method, entry) of a shape's json, in the order of NAMES."""
    for case, found in result["cases"].items():
        for method in NAMES:
            if method in found["methods"]:
                yield case, method, found["methods"][method]


def entry(result: dict, case: str, method: str) -> dict:
    """The entry of a case and method; {} where there is none or it has no figures."""
    found = result["cases"].get(case, {}).get("methods", {}).get(method, {})
    return found if "default" in found else {}


def means(found: dict):
    """Mean (truth to mesh, mesh to truth) of an entry, unit frame; None where one is missing."""
    figures = found.get("default", {})
    return tuple(figures.get(name, {}).get("mean") for name in BOTH_WAYS)


def mean_both_ways(found: dict):
    """Mean of means(); the first alone where the reference is a cloud; None without figures."""
    there = [mean for mean in means(found) if mean is not None]
    return sum(there) / len(there) if there else None


def digits(value, n=5) -> str:
    return NONE if value is None else f"{value:.{n}f}"


def minutes(found: dict) -> str:
    """Minutes of one core: the CPU time, or the wall clock where a kill has lost part of that (our
    runs have one thread)."""
    spent = found.get("cpu_seconds", found.get("seconds"))
    return NONE if spent is None else f"{spent / 60:.1f}"


def parts_text(ours: dict, alone: dict) -> str:
    """Minutes of one core for the training, the extraction of the network's mesh (`alone`: its
    entry), and the detail of ours; the minutes together where a part is not known."""
    training = ours.get("parts", {}).get("train.py")
    mesh = ours.get("parts", {}).get("infer.py")
    extraction = alone.get("parts", {}).get("infer.py")
    if None in (training, mesh, extraction):
        return minutes(ours)
    return " + ".join(f"{s / 60:.1f}" for s in (training, extraction, mesh - extraction))


def topology_text(topology) -> str:
    """Format a topology, as 'genus 1, 2 pieces', from the counts of meshes.topology();
    None stands for a cloud."""
    if topology is None:
        return "cloud"
    pieces = topology["components"]
    text = "1 piece" if pieces == 1 else f"{pieces} pieces"
    if topology.get("boundary_edges"):
        return f"open, {text}"
    if topology.get("nonmanifold_edges"):
        return f"non-manifold, {text}"
    return f"genus {pieces - topology['euler_characteristic'] // 2}, {text}"


def age(ours: dict) -> str:
    """A mark for an entry of ours by an earlier version, whose weights were others."""
    return " †" if ours.get("settings", {}).get("recipe", RECIPE) != RECIPE else ""


def summary(made: dict) -> str:
    """An entry in one line, for the terminal."""
    forth, back = means(made)
    return (f"truth to mesh {digits(forth)}, mesh to truth {digits(back)}, "
            f"{made.get('seconds', 0):.0f} s, {made.get('peak_mib', 0):.0f} MiB")


def table(head: str, rows) -> str:
    """A Markdown table; head: the columns' names with " | " between them."""
    columns = head.split(" | ")
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in lines)


# --------------------------------------------------------------------------------------- the tables


def distances_text(found: dict) -> str:
    """'truth to mesh / mesh to truth' of an entry; the first alone where the truth is a cloud."""
    there = [digits(mean) for mean in means(found) if mean is not None]
    return " / ".join(there) or NONE


def best_in_bold(found: list) -> list:
    """distances_text of a row's entries, the ones with the lowest mean both ways in bold."""
    means_both_ways = [mean_both_ways(made) for made in found]
    known = [mean for mean in means_both_ways if mean is not None]
    return [f"**{distances_text(made)}**" if known and mean == min(known) else distances_text(made)
            for made, mean in zip(found, means_both_ways)]


def summary_table(results: dict) -> str:
    """The README's rows: ours beside rivals with the same normals and one with the cloud's, the
    best in bold."""
    rows = []
    for name, case in SUMMARY:
        result = results.get(name, {"cases": {}})
        found = [summary_entry(result, case, method) for method in SUMMARY_METHODS]
        label = name if case == "clean" else f"{name}, {case}"
        rows.append([label + age(found[0]), *best_in_bold(found),
                     topology_text(found[0]["topology"]) if found[0] else NONE, minutes(found[0])])
    names = " | ".join(SUMMARY_METHODS.values())
    return table(f"shape | {names} | ours: topology | core minutes", rows)


def summary_entry(result: dict, case: str, method: str) -> dict:
    """The entry of a method of SUMMARY_METHODS; of scans, Poisson has the very normals of ours."""
    same = method == "poisson-winding" and case in SCANS
    return entry(result, case, "poisson-same" if same else method)


def shapes(results: dict) -> str:
    """Each clean shape by ours, beside Poisson without true normals."""
    rows = []
    for name, result in results.items():
        if "clean" not in result["cases"]:
            continue
        ours = entry(result, "clean", "ours")
        rows.append([
            name + age(ours), f"{result['cases']['clean']['points']:,}", *settings_cells(ours),
            parts_text(ours, entry(result, "clean", "ours-network")), distances_text(ours),
            topology_text(ours["topology"]) if ours else NONE,
            topology_text(result["reference"]["topology"]),
            *(distances_text(entry(result, "clean", method))
              for method in ("poisson-winding", "poisson-estimated"))])
    return table("shape | points | steps | flags | core minutes: training + extraction + detail | "
                 "ours | topology | the truth's | Poisson, winding-number normals | "
                 "Poisson, estimated normals", rows)


def settings_cells(ours: dict) -> list:
    """Cells: the steps of an entry's training, and its flags beside the defaults."""
    steps = f"{ours['steps']:,}" if "steps" in ours else NONE
    flags = ours.get("flags")
    return [steps, f"`{flags}`" if flags else NONE]


def references(results: dict) -> str:
    """The references: file, size, topology."""
    rows = []
    for name, result in results.items():
        about = result["reference"]
        faces = about.get("faces")
        rows.append([name, about.get("file", NONE), f"{about['points']:,}",
                     f"{faces:,}" if faces else NONE, topology_text(about["topology"])])
    return table("shape | file | points | faces | topology", rows)


def cases(results: dict) -> str:
    """All methods in each case but scans, for shapes with several; the least mean is bold."""
    methods = [m for m in NAMES if m not in ("truth", "poisson-same", *SEEDS[1:])]
    rows = []
    for name, result in results.items():
        there = [case for case in result["cases"] if case not in SCANS]
        for case in there if len(there) > 1 else ():
            found = {method: entry(result, case, method) for method in methods}
            least = min((mean_both_ways(f) for f in found.values() if f), default=None)
            cells = []
            for one in found.values():
                text = distances_text(one)
                cells.append(f"**{text}**" if one and mean_both_ways(one) == least else text)
            rows.append([name, case, *settings_cells(found["ours"]), *cells])
    return table(f"shape | case | steps | flags | {' | '.join(NAMES[m] for m in methods)}", rows)


def scans(results: dict) -> str:
    """All methods on each scan, in thousandths; the least mean of a row is bold."""
    rows = []
    for name, result in results.items():
        for case in SCANS:
            found = {method: entry(result, case, method) for method in SCAN_METHODS}
            least = min((mean_both_ways(f) for f in found.values() if f), default=None)
            if least is not None:
                rows.append([name, case, f"{result['cases'][case]['points']:,}",
                             *(scan_cell(one, least) for one in found.values())])
    return table(f"shape | scan | points | {' | '.join(SCAN_NAMES[m] for m in SCAN_METHODS)}", rows)


def scan_cell(found: dict, least: float) -> str:
    """An entry of a scan in one cell: distances in thousandths, bold where they are the least;
    pieces, Euler number, share of the points that are far; core seconds."""
    if not found:
        return NONE
    text = " / ".join(f"{1000 * mean:.2f}" for mean in means(found) if mean is not None)
    text = f"**{text}**" if mean_both_ways(found) == least else text
    topology = found["topology"]
    far = f"{100 * found['far']:.2f} %" if "far" in found else NONE
    seconds = " + ".join(NONE if spent is None else f"{spent:.0f}"
                         for spent in found.get("parts", {}).values())
    return (f"{text}; {topology['components']}, {topology['euler_characteristic']}, {far}; "
            f"{seconds or NONE} s")


def srb_scans(results: dict) -> str:
    """Scans with a truth by the Surface Reconstruction Benchmark's protocol, d_C / d_H."""
    rows = []
    for name, result in results.items():
        found = {method: entry(result, "scan", method) for method in SCAN_METHODS}
        if any("srb" in one for one in found.values()):
            rows.append([name, *(srb_text(one) for one in found.values())])
    return table(f"scan | {' | '.join(SCAN_NAMES[m] for m in SCAN_METHODS)}", rows)


def srb_text(found: dict) -> str:
    """'d_C / d_H' of an entry by the benchmark's protocol."""
    figures = found.get("srb")
    return f"{figures['chamfer']:.3f} / {figures['hausdorff']:.2f}" if figures else NONE


def seeds(results: dict) -> str:
    """The same training with other random numbers, and how far its results are apart."""
    rows = []
    for name, result in results.items():
        for case in result["cases"]:
            found = [entry(result, case, method) for method in SEEDS]
            if all(found):
                means = [mean_both_ways(one) for one in found]
                spread = (max(means) - min(means)) / (sum(means) / len(means))
                texts = [f"{distances_text(one)}, {topology_text(one['topology'])}"
                         for one in found]
                rows.append([name, case, *texts, f"{100 * spread:.1f} %"])
    return table("shape | case | seed 0 | seed 1 | seed 2 | spread", rows)


def normals(_: dict) -> str:
    """Errors of normals that were found without any, by normals.py."""
    rows = json.loads(NORMALS.read_text())["rows"] if NORMALS.is_file() else []
    return table("shape | points | method | core s | mean angle | on the wrong side", [
        [row["shape"], f"{row['points']:,}", row["method"], f"{row['cpu_seconds']:.1f}",
         f"{row['mean_angle']:.2f}°", f"{row['wrong_percent']:.3f} %"] for row in rows])


def srb(results: dict) -> str:
    """The gargoyle by the Surface Reconstruction Benchmark's protocol, in the scan's units."""
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
    """The published reproduction's figures and ours by its protocol."""
    rows = []
    for name, published in PUBLISHED.items():
        result = results.get(name, {"cases": {}})
        ours, truth = (entry(result, "clean", method) for method in ("ours", "truth"))

        def figures(found, protocol):
            return (f"{found[protocol]['chamfer']:.3f} / {found[protocol]['hausdorff']:.3f}"
                    if found else NONE)

        rows.append([name, f"{published[0]:.2f} / {published[1]:.2f}", figures(truth, "upstream"),
                     figures(ours, "upstream"), figures(ours, "default")])
    return table("shape | published | the truth, turned | our mesh, turned | our mesh, by the "
                 "default protocol", rows)


def everything(results: dict) -> str:
    """Every entry with its costs and figures."""
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
                topology_text(found["topology"])])
    return table("shape | case | method | seconds | CPU seconds | MiB | truth to mesh | mesh to "
                 "truth | truth to mesh, 99 % | Chamfer | Hausdorff | normals | topology", rows)


def field(results: dict) -> str:
    """How far each network's f is from a distance."""
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


def shortfall(target: Target, found: dict) -> list:
    """Name the goals that an entry misses."""
    forth, back = means(found)
    topology = found["topology"]
    genus = topology["components"] - topology["euler_characteristic"] // 2
    checks = {"truth to mesh": forth <= target.forth,
              "mesh to truth": target.back is None or back <= target.back,
              "pieces": target.pieces is None or topology["components"] <= target.pieces,
              "genus": target.genus is None or (topology["watertight"] and genus <= target.genus),
              "rims": target.rims is None or topology["rims"] == target.rims}
    return [name for name, reached in checks.items() if not reached]


def target_text(target: Target) -> str:
    """Format a goal, as '0.00042 / 0.00038, at most 1 piece, genus 1'."""
    text = " / ".join(digits(mean) for mean in (target.forth, target.back) if mean is not None)
    counts = [f"{target.pieces} piece" if target.pieces else "",
              f"genus {target.genus}" if target.genus is not None else ""]
    counts = ", ".join(count for count in counts if count)
    return (text + (f", at most {counts}" if counts else "")
            + (f", {target.rims} rims" if target.rims else ""))


def targets(results: dict) -> str:
    """Goals and whether they were reached."""
    rows = []
    for (name, case), target in TARGETS.items():
        ours = entry(results.get(name, {"cases": {}}), case, "ours")
        label = name if case == "clean" else f"{name}, {case}"
        measured, verdict = NONE, "not measured"
        if ours:
            short = shortfall(target, ours)
            measured = f"{distances_text(ours)}, {topology_text(ours['topology'])}"
            verdict = f"no: {', '.join(short)}" if short else "yes"
        rows.append([label, target_text(target), measured, verdict])
    return table("case | to reach | measured | reached", rows)


TABLES = {"summary": summary_table, "shapes": shapes, "cases": cases, "srb": srb,
          "upstream": upstream, "everything": everything, "field": field, "targets": targets,
          "references": references, "seeds": seeds, "normals": normals, "scans": scans,
          "srb_scans": srb_scans}


# -------------------------------------------------------------------------------------- the READMEs


def filled(text: str, results: dict) -> str:
    """`text` with a fresh table between each pair of marks."""
    def rewrite(match):
        return f"{match[1]}\n{TABLES[match[2]](results)}\n{match[3]}"

    return re.sub(r"(<!-- results: (\w+) -->)\n.*?(<!-- end -->)", rewrite, text, flags=re.S)


def write(folder, order) -> None:
    """Bring the tables of `folder`/README.md and of the README above it up to date."""
    results = read(folder, order)
    for path in (Path(folder) / "README.md", Path(folder).parent / "README.md"):
        if path.is_file():
            with helper.replacing(path) as temporary:
                temporary.write_text(filled(path.read_text(), results))
