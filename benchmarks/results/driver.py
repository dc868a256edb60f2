"""Measure every shape, case and method, and write the tables of the READMEs.

    python -m benchmarks.results.driver             all; what is done already is not done again
    python -m benchmarks.results.driver bunny knot  some shapes
    python -m benchmarks.results.driver --only poisson-estimated ball-pivoting    some methods
    python -m benchmarks.results.driver --cases light hand rough scan left-out    the scans
    python -m benchmarks.results.driver --tables    the READMEs' tables from results/*.json alone

A shape's reference is a mesh or a scan. A case makes one cloud of it, a file that every method is
given. Each method makes a mesh of the cloud in processes of its own, whose wall clock and peak
memory are taken, and evaluate.py measures the mesh. Ours is run by the command lines that users
type. An entry of results/<shape>.json is made again only where its commands, its data or RECIPE
have changed. Clouds, checkpoints and meshes lie in runs/results. A driver that was killed, at any
instant, resumes there by the same command.

The parts: settings (what is measured), clouds, process (how a command is run and what it costs),
jobs (one method on one cloud), pictures, overview, curves and tables (what is shown of it).
"""

from __future__ import annotations

import contextlib
import fcntl
from importlib.metadata import version
import json
import os
from pathlib import Path
import platform
import signal
import subprocess

from benchmarks.results import curves, pictures, settings, tables
from benchmarks.results.clouds import (
    describe_reference,
    move_to_scan,
    unpack_scans,
    write_clouds,
)
from benchmarks.results.jobs import jobs
from benchmarks.results.process import Failed, in_own_process, run_checked
from benchmarks.results.settings import (
    ALL_CASES,
    OURS,
    PEERS,
    ROOT,
    SCANS,
    SHAPES,
    VIRTUAL_SCANS,
    find,
    find_reference,
)

# modules that need little memory: a child's peak memory begins with that of its parent
import helper
from helper import Interrupted, UserError
from igr.backend import blas


@contextlib.contextmanager
def locked(folder: Path, name: str):
    """Yield the folder's lock file, held; wait where another driver is at work on the shape."""
    with open(folder / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print(f"{name}: waiting for another run that is at work on it", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock


def sources(name: str, folder: Path, lock):
    """Find or make a shape's (reference, clean cloud), two paths; what is made lies in `folder`."""
    shape = SHAPES[name]
    points = str(settings.POINTS)
    if not shape.files:
        cloud = folder / f"{name}_pcd.ply"
        command = ["datasets.py", "create", "--shape", name, "-n", points, "-o", cloud]
        run_checked(command, lock)
        return folder / f"{name}.ply", cloud
    reference = find_reference(shape)
    if shape.truth:
        return real_scan(name, reference, folder, lock)
    if in_own_process(describe_reference, reference)["topology"] is None:
        return reference, reference
    cloud = folder / f"{name}-{helper.sha256_of_file(reference)[:8]}-{points}_pcd.ply"
    if not cloud.is_file():
        command = ["datasets.py", "create", "-f", reference, "-n", points, "-o", cloud]
        run_checked(command, lock)
    return reference, cloud


def real_scan(name: str, scan: Path, folder: Path, lock):
    """The (truth in the scan's frame, cloud) of a shape whose file is a scan or an archive of them.
    Raises UserError where the truth is missing."""
    shape = SHAPES[name]
    missing = [file for file in (shape.truth, shape.pose) if file and find(file) is None]
    if missing:
        raise UserError(f"the scan is here, but not {' and '.join(missing)}")
    truth = find(shape.truth)
    if shape.pose:
        moved = folder / f"{name}_truth.ply"
        in_own_process(move_to_scan, truth, find(shape.pose), moved)
        truth = moved
    if scan.suffix == ".gz":
        merged = folder / f"{name}-{helper.sha256_of_file(scan)[:8]}_merged.ply"
        if not merged.is_file():
            conf = in_own_process(unpack_scans, scan, folder / "scans")
            run_checked(["datasets.py", "merge", "-f", conf, "-o", merged], lock)
        scan = merged
    return truth, scan


def scanned_surface(reference: Path, is_mesh: bool, folder: Path, lock) -> Path:
    """The mesh that virtual scans are made of: the reference; Poisson's of a reference that is a
    cloud."""
    if is_mesh:
        return reference
    stem = f"surface-{helper.sha256_of_file(reference)[:8]}"
    oriented, surface = folder / f"{stem}-oriented.ply", folder / f"{stem}.ply"
    if not surface.is_file():
        run_checked(["benchmarks.results.steps", "normals", "-f", reference, "-o", oriented], lock)
        run_checked(["benchmarks.results.peers", "poisson", "--depth", "10", "-f", oriented,
                     "-o", surface], lock)
    return surface


def measure_shape(name: str, work: Path, results: Path, only, cases=None) -> list:
    """Measure what <results>/<name>.json does not have yet; returns the labels of what failed.

    only, cases: the methods and cases to take, None for all.
    """
    shape = SHAPES[name]
    shape = shape._replace(cases=[c for c in shape.cases if cases is None or c in cases])
    if not shape.cases:
        return []
    folder = work / name
    folder.mkdir(parents=True, exist_ok=True)
    failed = []
    with locked(folder, name) as lock:
        reference, cloud = sources(name, folder, lock)
        about = in_own_process(describe_reference, reference)
        surface = None
        if set(shape.cases) & set(VIRTUAL_SCANS):
            surface = scanned_surface(reference, bool(about["topology"]), folder, lock)
        clouds = in_own_process(write_clouds, cloud, folder, shape.cases, surface)
        if shape.pose and "scan" in clouds:
            clouds["scan"]["unmoved"] = find(shape.truth)
        path = results / f"{name}.json"
        old = json.loads(path.read_text()) if path.is_file() else {}
        result = {"shape": name, "reference": about, "cases": old.get("cases", {})}
        for job in jobs(shape, only, clouds, about["topology"], folder, reference):
            case = result["cases"].setdefault(job.case, {})
            case.update(points=job.info["points"])
            entries = case.setdefault("methods", {})
            wanted = job.entry_settings()
            there = entries.get(job.method, {})
            if there.get("settings") == wanted and "error" not in there:
                continue
            label = f"{name}, {job.case}, {job.method}"
            entries[job.method] = {"settings": wanted, "machine": machine(), "code": code(),
                                   **measure_job(job, label, lock)}
            if "error" in entries[job.method] and job.method not in PEERS:
                failed.append(label)  # a peer may fail: that is a result
            helper.write_json(path, result)
        try:
            pictures.write(name, folder, reference, bool(about["topology"]), results, lock)
        except Failed as error:
            failed.append(f"{name}, picture")
            print(f"{name}, picture: {error}", flush=True)
    return failed


def measure_job(job, label: str, lock) -> dict:
    """Run a job: its figures, or {"error": why} where it failed; prints one line."""
    print(label, end="", flush=True)
    try:
        made = job.make(lock)
        print(f": {tables.summary(made)}", flush=True)
    except (Failed, UserError) as error:
        made = {"error": str(error)}
        print(f": {error}", flush=True)
    return made


def write(results: Path) -> None:
    """Bring tables and curves up to date."""
    tables.write(results, SHAPES)
    in_own_process(curves.write, results, SHAPES)


def machine() -> dict:
    """Describe the machine: processor, cores, versions."""
    open3d = next((version(n) for n in ("open3d", "open3d-cpu") if is_installed(n)), "none")
    return {"cpu": blas.processor()["model"], "cores": os.cpu_count(),
            "python": platform.python_version(), "nnabla": version("nnabla"), "open3d": open3d}


def code() -> dict:
    """The version of the code, and its commit where it is a git checkout; "+" where files that git
    knows have changed since."""
    describe = ["git", "describe", "--always", "--exclude", "*", "--dirty=+"]
    try:
        done = subprocess.run(describe, cwd=ROOT, capture_output=True, text=True)
        commit = done.stdout.strip() or None
    except OSError:
        commit = None
    return {"version": helper.__version__, "commit": commit}


def is_installed(name: str) -> bool:
    try:
        return bool(version(name))
    except ImportError:  # PackageNotFoundError
        return False


def parse_args(argv=None):
    parser = helper.parser(__doc__)
    methods = [*OURS, *PEERS, "truth"]
    parser.add_argument("names", nargs="*", metavar="shape",
                        help=f"default: all of {', '.join(SHAPES)}")
    parser.add_argument("--only", nargs="+", choices=methods, metavar="METHOD",
                        help=f"methods to measure: {', '.join(methods)}")
    parser.add_argument("--cases", nargs="+", choices=[*ALL_CASES, *SCANS], metavar="CASE",
                        help=f"cases to measure: {', '.join([*ALL_CASES, *SCANS])}")
    parser.add_argument("--tables", action="store_true", help="write the tables, measure nothing")
    parser.add_argument("--work", default=ROOT / "runs" / "results", type=Path,
                        help="folder of clouds, checkpoints and meshes")
    parser.add_argument("--results", default=ROOT / "results", type=Path,
                        help="folder of the json; its README and the one above get the tables")
    return parser.parse_args(argv)


def stop(signum, frame):
    raise Interrupted(signum, "stopped; the same command resumes")


def main(args) -> None:
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    unknown = [name for name in args.names if name not in SHAPES]
    if unknown:
        raise UserError(f"unknown shape {', '.join(unknown)}; known are {', '.join(SHAPES)}")
    failed = []
    for name in [] if args.tables else args.names or SHAPES:
        if SHAPES[name].files and find_reference(SHAPES[name]) is None:
            hint = SHAPES[name].hint or f"bash downloads.sh {name}"
            print(f"{name}: no file of it here, skipped ({hint})")
            continue
        try:
            failed += measure_shape(name, args.work.resolve(), args.results.resolve(), args.only,
                                    args.cases)
        except (Failed, UserError) as error:
            failed.append(name)
            print(f"{name}: {error}", flush=True)
        write(args.results)
    write(args.results)
    if failed:
        raise UserError(f"failed: {'; '.join(failed)}")


if __name__ == "__main__":
    helper.run(main, parse_args())
