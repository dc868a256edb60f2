"""Run one method on one cloud: the commands that make its mesh, their cost, the mesh's figures."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

from benchmarks.results import settings, tables
from benchmarks.results.clouds import far_share
from benchmarks.results.process import command_line, in_own_process, run_checked, total_cost
from benchmarks.results.settings import (
    CASES_OF,
    NEED_NORMALS,
    OURS,
    PEERS,
    SCANS,
    SEEDS,
    STEPS,
    Shape,
)
import helper
from igr.field import checkpoints
from igr.training import schedule


class Job(NamedTuple):
    """One method on one cloud."""

    method: str
    case: str
    folder: Path  # of the shape's files in runs/results
    reference: Path
    info: dict  # of the case, as write_clouds() gives it
    protocols: tuple  # of evaluate.py
    field: bool  # compare f with the distance to the reference, which is a mesh
    flags: str  # more of train.py's
    infer_flags: str = ""  # more of infer.py's
    course: bool = False  # measure the surface during the training as well

    @property
    def mesh(self) -> Path:
        if self.method == "truth":
            return self.reference
        return self.folder / f"{self.case}-{self.method}.ply"

    @property
    def cloud(self) -> Path:
        """The case's cloud; for ours without normals, which would tell the sides, one that has
        none."""
        bare = self.method in OURS and self.method not in NEED_NORMALS and self.info["normals"]
        return self.folder / f"{self.case}{'-bare' * bare}.ply"

    def commands(self) -> list:
        """The command lines that make the mesh, each a list of words; [] for the truth itself."""
        if self.method == "truth":
            return []
        cloud = self.cloud
        if self.method in STEPS:
            return self.step_commands()
        if self.method in PEERS:
            return [["benchmarks.results.peers", self.method, "-f", cloud, "-o", self.mesh,
                     *self.peer_flags()]]
        flags = self.train_flags()
        epoch = max(1, self.info["points"] // schedule.BATCH)  # steps
        first = []
        if self.method == "ours-cleaned":
            cleaned = self.folder / f"{self.case}-cleaned.ply"
            first = [["datasets.py", "clean", "-f", cloud, "-o", cleaned]]
            cloud = cleaned
        # other flags or points are another run, in another folder
        key = json.dumps([settings.RECIPE, flags, self.info["cloud_sha256"]])
        key = hashlib.sha256(key.encode()).hexdigest()
        alone = settings.NETWORK_ALONE if self.method == "ours-network" else ""
        trained = "ours" if alone else self.method
        folder = self.folder / f"{self.case}-{trained}-{key[:8]}"
        return [*first, ["train.py", "-f", cloud, *flags,
                 "-sie", str(max(1, settings.SAVE_STEPS // epoch)), "--quiet", "-m", folder],
                ["infer.py", "-mlp", folder / "param_NNNNN.h5", *settings.INFER_FLAGS.split(),
                 *self.infer_flags.split(), *alone.split(), "-o", self.mesh, "--quiet"]]

    def step_commands(self) -> list:
        """The command lines of a rival that takes several steps. Their outputs but the last are
        files that other methods with the same first steps share."""
        steps = STEPS[self.method]
        cloud, mesh, commands = self.cloud, None, []
        for i, step in enumerate(steps):
            program, *flags = step.split()
            flags += settings.STEP_CASE_FLAGS.get(program, {}).get(self.case, "").split()
            key = [settings.NORMALS, self.info["cloud_sha256"], steps[: i + 1], flags]
            key = helper.fingerprint(repr(key))
            output = self.folder / f"{self.case}-{program}-{key[:8]}.ply"
            output = self.mesh if i == len(steps) - 1 else output
            module = "steps" if program in ("normals", "detail") else "peers"
            command = [f"benchmarks.results.{module}", program, "-f", cloud, "-o", output, *flags]
            if program == "detail":
                command += ["--mesh", mesh]
            cloud, mesh = (output, mesh) if program == "normals" else (cloud, output)
            commands.append(command)
        return commands

    def peer_flags(self) -> list:
        """The words of peers.py's flags for method and case."""
        flags = settings.PEER_CASE_FLAGS.get(self.case, "") if "poisson" in self.method else ""
        if self.method == "poisson-winding":
            flags += " " + settings.WINDING_CASE_FLAGS.get(self.case, "")
        return flags.split()

    def train_flags(self) -> list:
        """The words of train.py's flags for method and shape."""
        return f"{OURS[self.method]} {self.flags}".split()

    def entry_settings(self) -> dict:
        """Everything the entry depends on: where it changes, the entry is made again."""
        found = {"commands": [command_line(command) for command in self.commands()],
                 "protocols": list(self.protocols),
                 "reference_sha256": helper.sha256_of_file(self.reference),
                 "cloud_sha256": self.info["cloud_sha256"]}
        return {**found, "recipe": settings.RECIPE} if self.method in OURS else found

    def make(self, lock) -> dict:
        """Make the mesh and measure it: the entry's figures. Raises Failed."""
        costs = []
        parts = {}  # CPU seconds of each script or program of a rival
        folder = checkpoint = None
        commands = self.commands()
        for command in commands:
            if command[0] == "train.py":
                folder = command[-1]
                costs.append(train(command, folder, lock))
            elif command[0] == "infer.py":
                checkpoint = newest_checkpoint(folder)
                command = ["infer.py", "-mlp", checkpoint, *command[3:]]
                costs.append(run_checked(command, lock).cost())
            elif self.method in STEPS and command is not commands[-1]:
                costs.append(kept_step(command, lock))
            else:
                costs.append(run_checked(command, lock, settings.PEER_SECONDS).cost())
            parts[program_of(command)] = costs[-1].get("cpu_seconds")
        found = {**total_cost(costs), "parts": parts, **self.measure(lock, checkpoint)}
        if self.method in OURS:
            found["steps"] = checkpoints.load_checkpoint(checkpoint)[1]["step"]
            found["flags"] = f"{self.flags} {self.infer_flags}".strip()
        if self.course:
            found["course"] = self.measure_course(lock, folder)
        return found

    def measure(self, lock, checkpoint) -> dict:
        """Evaluate the mesh, and the field where there is a `checkpoint`, by evaluate.py; "far":
        see far_share. The benchmark's protocol takes the truth of a scan as it lies, unmoved."""
        field = ["-mlp", checkpoint] if checkpoint and self.field else []
        unmoved = self.info.get("unmoved")
        apart = [name for name in self.protocols if unmoved and name == "srb"]
        together = [name for name in self.protocols if name not in apart]
        result = self.evaluated(self.reference, together, field, lock)
        if apart:
            result.update(srb=self.evaluated(unmoved, apart, [], lock)["srb"])
        result["far"] = in_own_process(far_share, self.cloud, self.mesh)
        return {key: value for key, value in result.items() if key not in ("mesh", "reference")}

    def evaluated(self, reference: Path, protocols: list, more: list, lock) -> dict:
        """What evaluate.py says of the mesh. more: words of its command line."""
        output = self.folder / f"{self.case}-{self.method}.json"
        run_checked(["evaluate.py", "-f", reference, "-mdp", self.mesh, "-o", output, "--json",
                     "--protocol", *protocols, *more], lock)
        return json.loads(output.read_text())

    def measure_course(self, lock, folder: Path) -> list:
        """Evaluate the surfaces of at most COURSE checkpoints of the training in `folder`, the last
        among them: a list of {"step", "topology", "default"}."""
        paths = sorted(folder.glob("param_*.h5"), reverse=True)
        interval = -(-len(paths) // settings.COURSE)
        mesh = folder / "course.ply"
        output = folder / "course.json"
        rows = []
        for path in reversed(paths[::interval]):
            run_checked(["infer.py", "-mlp", path, "--grid-size", str(settings.COURSE_GRID),
                         "--threads", "1", "-o", mesh, "--quiet"], lock)
            run_checked(["evaluate.py", "-f", self.reference, "-mdp", mesh, "-o", output, "--json"],
                        lock)
            result = json.loads(output.read_text())
            rows.append({"step": checkpoints.load_checkpoint(path)[1]["step"],
                         "topology": result["topology"],
                         "default": {key: value for key, value in result["default"].items()
                                     if key in tables.BOTH_WAYS}})
        return rows


def jobs(shape: Shape, only, clouds: dict, topology, folder: Path, reference: Path):
    """Yield the jobs of a shape in order.

    only: methods to take, None for all; clouds: what write_clouds() returned; topology: the
    reference's, None for a cloud.
    """
    for case in shape.cases:
        methods = (*settings.SCAN_METHODS, *SEEDS[1:]) if case in SCANS else shape.methods
        methods = [m for m in methods if case in shape.seeded or m not in SEEDS[1:]]
        methods = [m for m in methods if case in CASES_OF.get(m, shape.cases)]
        if case == "clean" and topology and "upstream" in shape.protocols:
            methods.append("truth")
        for method in methods:
            if only and method not in only:
                continue
            if method in NEED_NORMALS and not clouds[case]["normals"]:
                continue
            protocols = shape.protocols if case in ("clean", "scan") else ("default",)
            if method in PEERS:
                protocols = tuple(p for p in protocols if p != "upstream")
            course = shape.course and (case, method) == ("clean", "ours")
            yield Job(method, case, folder, clouds[case].get("reference", reference),
                      clouds[case], protocols,
                      field=bool(topology), flags=shape.flags,
                      infer_flags=shape.infer_flags, course=course)


def program_of(command: list) -> str:
    """The script of a command, or the rival or step that it asks a module for."""
    return str(command[0] if str(command[0]).endswith(".py") else command[1])


def kept_step(command: list, lock) -> dict:
    """Run a step whose output other methods use too, unless it is there; returns the cost, which is
    kept beside it, and which each of them pays."""
    output = command[command.index("-o") + 1]
    kept = output.with_suffix(".json")
    if not (kept.is_file() and output.is_file()):
        helper.write_json(kept, run_checked(command, lock, settings.PEER_SECONDS).cost())
    return json.loads(kept.read_text())


def train(command: list, folder: Path, lock) -> dict:
    """Train into `folder`, or resume what is there; returns the cost and keeps it in cost.json.

    A training that is resumed from a checkpoint counts the seconds up to that checkpoint. It has
    no cpu_seconds: those of the stopped process are not known.
    """
    kept = folder / "cost.json"
    if kept.is_file():
        return json.loads(kept.read_text())
    before = newest_checkpoint(folder)
    command = (["train.py", "--resume", "-m", folder, "--quiet"] if before
               else [*command, "--overwrite"])
    cost = run_checked(command, lock).cost()
    if before:
        cost["seconds"] += checkpoints.load_checkpoint(before)[1]["seconds"]
        del cost["cpu_seconds"]
    helper.write_json(kept, cost)
    return cost


def newest_checkpoint(folder: Path):
    """Path of the last checkpoint of a run, or None."""
    return max(Path(folder).glob("param_*.h5"), default=None)
