"""The pictures of the results: their command lines, run where a picture is out of date."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.results import overview
from benchmarks.results.clouds import write_turned_pair
from benchmarks.results.jobs import newest_checkpoint
from benchmarks.results.process import in_own_process, run_checked
from benchmarks.results.settings import SHAPES

PICTURED = ("clean", "hand", "scan", "left-out")  # cases


def shape_commands(name: str, case: str, results: Path, folder: Path, truth) -> list:
    """visualize.py's command lines, lists of words, for the pictures of a case of the shape `name`.

    results/<shape>.jpeg, or <shape>_<case>.jpeg of another case than clean, shows cloud, mesh and
    truth, results/<shape>_error.jpeg the distance of the clean cloud's mesh to the truth. folder:
    the shape's, with the meshes; truth: path of the true mesh; None where the reference is a cloud:
    then there is no second picture.
    """
    look = ["--azimuth", str(SHAPES[name].azimuth), "--elevation", "10", "--size", "600", "600",
            f"--up={SHAPES[name].up}"]
    mesh, stem = folder / f"{case}-ours.ply", name if case == "clean" else f"{name}_{case}"
    commands = [["visualize.py", "compare", folder / f"{case}.ply", mesh,
                 *([truth] if truth else []), *look, "--ground", "-o", results / f"{stem}.jpeg"]]
    if truth and case == "clean":
        commands.append(["visualize.py", "error", "-f", mesh, "-r", truth, "--max", "0.01", *look,
                         "-o", results / f"{name}_error.jpeg"])
    return commands


def turned_command(pair: Path, results: Path) -> list:
    """visualize.py's command line for a mesh beside itself turned."""
    return ["visualize.py", "mesh", "-f", pair, "--azimuth", "0", "--elevation", "5",
            "-o", results / "turned.jpeg"]


def training_commands(checkpoint: Path, results: Path) -> list:
    """visualize.py's command lines for slices and curves of the bunny's training."""
    return [["visualize.py", "slices", "-mlp", checkpoint, "-o", results / "bunny_slices.png"],
            ["visualize.py", "curves", "-f", checkpoint.parent, "-o",
             results / "bunny_curves.png"]]


def commands_for(name: str, folder: Path, reference: Path, is_mesh: bool, results: Path) -> list:
    """(source file, command line) of each picture of the shape `name`.

    They show our mesh of each case of PICTURED, where there is one. The bunny has more: the turned
    pair, slices and curves. folder: the shape's, with the meshes; is_mesh: the reference is one.
    """
    wanted = []
    for case in PICTURED:
        mesh = folder / f"{case}-ours.ply"
        if mesh.is_file():
            commands = shape_commands(name, case, results, folder, reference if is_mesh else None)
            wanted += [(mesh, command) for command in commands]
    if name == "bunny":
        mesh = folder / "clean-ours.ply"
        pair = folder / "turned.ply"
        if not pair.is_file():
            in_own_process(write_turned_pair, reference, pair)
        wanted.append((pair, turned_command(pair, results)))
        trainings = folder.glob("clean-ours-" + "[0-9a-f]" * 8)
        for training in sorted(trainings, key=os.path.getmtime)[-1:]:
            commands = training_commands(newest_checkpoint(training), results)
            wanted += [(mesh, command) for command in commands]
    return wanted


def write(name: str, folder: Path, reference: Path, is_mesh: bool, results: Path, lock) -> None:
    """Make each picture that is missing or older than what it shows. Raises Failed."""

    def is_old(output: Path, source: Path) -> bool:
        return not output.is_file() or os.path.getmtime(output) < os.path.getmtime(source)

    for source, command in commands_for(name, folder, reference, is_mesh, results):
        output = command[-1]
        if is_old(output, source):
            run_checked(command, lock)
    output = results / "overview.jpeg"
    if name == overview.SHAPE and overview.is_there(folder) and is_old(output,
                                                                       overview.newest(folder)):
        in_own_process(overview.write, folder, reference, output)
