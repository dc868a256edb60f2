"""The project's results: every shape, case and method, measured and written into the READMEs.

    python benchmarks/results.py               all; what is there is not done again
    python benchmarks/results.py bunny knot    some shapes
    python benchmarks/results.py --only poisson-estimated ball-pivoting    some methods
    python benchmarks/results.py --tables      the READMEs' tables from results/*.json alone

A shape's reference is a mesh or a scan; a case makes one cloud of it, written once and given to
every method; each method makes a mesh of the cloud in processes of its own, whose wall clock and
peak memory are taken, and evaluate.py measures it. Ours is run by the command lines that users
type. An entry of results/<shape>.json is made again only when its commands, its data or RECIPE are
others. Clouds, checkpoints and meshes lie in runs/results. Killed at any instant, it goes on from
there.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
import fcntl
import hashlib
from importlib.metadata import version
import json
import multiprocessing
import os
from pathlib import Path
import platform
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

# light modules only: a child's peak memory begins with that of its parent
import helper  # noqa: E402
from helper import Interrupted, UserError  # noqa: E402
from igr import checkpoints, files, frames, meshes  # noqa: E402
import results_curves as curves  # noqa: E402
import results_tables as tables  # noqa: E402

import numpy as np  # noqa: E402

# ---------------------------------------------------------------------------------------- settings

RECIPE = 3  # raise it when train.py gives other weights by the same flags: ours is made again
# flags of train.py beside its defaults; one thread, so that two shapes may be measured at a time
OURS = {"ours": "--threads 1", "ours-normals": "--threads 1 --with-normals",
        "ours-long": "--threads 1 -ti 30000"}
# more flags: 50 neighbours of 2,000 points span a limb, and what is not the surface's is not to be
# learnt in every detail
OF_CASE = {"sparse": "-k 10 -ti 2000", "noisy": "-ti 4000"}
LONG_OF_CASE = {"holes": "-ti 45000"}  # of ours-long, in LONG_CASES
# and Poisson's, by the same reasons
PEER_OF_CASE = {"sparse": "--neighbours 10", "noisy": "--depth 6"}
EASY = "-ti 2000"  # for simple shapes
# 50 neighbours reach across a wing; a ridge of f in every fold and wing costs the eikonal term
FINE = "-k 10 --lam 0.03"
INFER = "--grid-size 512 --threads 1"
SAVE_STEPS = 1000  # between two checkpoints; what a kill costs at most

POINTS = 50_000  # of a clean cloud, evenly spaced over a mesh, random on a built-in shape; of a
# scan all are taken
NOISE = 0.01  # deviation of every coordinate, unit frame: 0.5 % of the longest side
SPARSE = 2_000
HOLES, HOLE_RADIUS = 5, 0.1  # balls around points of the cloud, unit frame
LIMIT = 900  # seconds a peer may take
COURSE, COURSE_GRID = 12, 256  # looks at a training's surface on its way

PEERS = ("poisson-estimated", "poisson", "ball-pivoting")
NEED_NORMALS = ("ours-normals", "poisson")


class Shape(NamedTuple):
    files: tuple = ()  # its reference below DATA, the first that is there; none: a built-in one
    cases: tuple = ("clean",)
    methods: tuple = ("ours", "ours-normals", "poisson-estimated", "poisson")
    protocols: tuple = ("default",)  # of the clean case
    flags: str = ""  # more for train.py
    up: str = "y"  # in pictures
    azimuth: int = 20  # of the camera there, in degrees
    hint: str = ""  # where its reference comes from, if not by downloads.sh
    course: bool = False  # is the training of "ours" looked at on its way? ours-long always is


DATA = (ROOT.parent / "shared" / "data", ROOT / "stanford_3d_scanning_datasets", ROOT)
ALL_CASES = ("clean", "noisy", "sparse", "holes")
LONG_CASES = ("clean", "holes")  # the exact ones
ALL_METHODS = ("ours", "ours-normals", *PEERS)
UPSTREAM = ("default", "upstream")
SHAPES = {
    "bunny": Shape(("bunny/bun_zipper.ply", "bunny/reconstruction/bun_zipper.ply"), ALL_CASES,
                   (*ALL_METHODS, "ours-long"), UPSTREAM),
    "knot": Shape((), ALL_CASES, ALL_METHODS),
    "lucy": Shape(("lucy/lucy_vtk.ply", "lucy.ply"),
                  methods=(*Shape().methods, "ours-long"), protocols=UPSTREAM, flags=FINE, up="z",
                  course=True),
    "armadillo": Shape(("armadillo/Armadillo_fullres_points.pcd", "Armadillo.ply"),
                       protocols=UPSTREAM, flags=FINE, azimuth=200),  # else it turns its back
    "dragon": Shape(("dragon/dragon_vrip_res2.ply.gz", "dragon_recon/dragon_vrip.ply"),
                    protocols=UPSTREAM, flags=FINE),
    "drill": Shape(("drill/drill_shaft_vrip.ply", "drill/reconstruction/drill_shaft_vrip.ply"),
                   protocols=UPSTREAM),
    "rgb_dragon": Shape(("xyzrgb_dragon/xyzrgb_dragon_100k_euclid.ply", "xyzrgb_dragon.ply"),
                        protocols=UPSTREAM, flags=FINE),
    "gargoyle": Shape(("srb/scans/gargoyle.ply", "deep_geometric_prior_data/scans/gargoyle.ply"),
                      methods=(*ALL_METHODS, "ours-long"), protocols=("default", "srb"), up="-y",
                      hint="the README says where it is", course=True),
    "sphere": Shape(flags=EASY),
    "torus": Shape(flags=EASY),
    "sponge": Shape(flags=EASY),
    "letter": Shape(flags=EASY),
}


def picture_commands(name: str, results: Path, cloud: Path, truth, mesh: Path) -> list:
    """visualize.py's command lines for a shape's pictures: the one place that knows them.

    <shape>.jpeg: cloud, mesh and, where it is a mesh (`truth`), the truth; <shape>_error.jpeg.
    """
    look = ["--azimuth", str(SHAPES[name].azimuth), "--elevation", "10", "--size", "600", "600",
            f"--up={SHAPES[name].up}"]
    commands = [["visualize.py", "compare", cloud, mesh, *([truth] if truth else []), *look,
                 "--ground", "-o", results / f"{name}.jpeg"]]
    if truth:
        commands.append(["visualize.py", "error", "-f", mesh, "-r", truth, "--max", "0.01", *look,
                         "-o", results / f"{name}_error.jpeg"])
    return commands


# ------------------------------------------------------------------------------- the clouds (in a
# process of their own, see apart(): what they need of memory is not the methods')


def cases(source: Path, folder: Path, names) -> dict:
    """Write the clouds of cases `names` of the clean cloud `source` to <folder>/<case>.ply.

    Returns {case: {"points", "cloud_sha256", "normals"}}. Normals of moved points stay those of the
    clean surface, for all who use normals.
    """
    clean = files.read(source)
    frame = frames.Frame.of(clean.points)
    unit, found = frame.to_unit(clean.points), {}
    for name in names:
        rng = np.random.default_rng(0)
        keep, moved = slice(None), unit
        if name == "noisy":
            moved = unit + NOISE * rng.standard_normal(unit.shape)
        elif name == "sparse":
            keep = rng.permutation(len(unit))[:SPARSE]
        elif name == "holes":
            centers = unit[rng.permutation(len(unit))[:HOLES]]
            away = np.linalg.norm(unit[:, None] - centers, axis=2).min(axis=1)
            keep = away > HOLE_RADIUS
        normals = None if clean.normals is None else clean.normals[keep]
        cloud = frames.Geometry(frame.to_world(moved[keep]), normals)
        files.write(folder / f"{name}.ply", cloud)
        found[name] = {"points": len(cloud.points), "normals": normals is not None,
                       "cloud_sha256": sha256(folder / f"{name}.ply")}
    return found


def look_at(path: Path) -> dict:
    """What the tables need of a reference."""

    reference = files.read(path)
    faces = None if reference.faces is None else len(reference.faces)
    return {"file": path.name, "sha256": sha256(path), "points": len(reference.points),
            "faces": faces,
            "scale": frames.Frame.of(reference.surface_points).scale,
            "topology": None if reference.faces is None else meshes.topology(reference)}


def turned(path: Path, output: Path) -> None:
    """The mesh `path`, and to its right the same turned as the published table's meshes were."""
    from igr import metrics

    mesh = files.read_mesh(path)
    unit = mesh._replace(points=frames.Frame.of(mesh.surface_points).to_unit(mesh.points))
    right = metrics.upstream_turn(unit.points) + np.array([2.3, 0, 0])
    files.write(output, frames.Geometry(
        np.concatenate([unit.points, right]), None,
        np.concatenate([unit.faces, unit.faces + len(unit.points)])))


def sha256(path) -> str:
    found = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            found.update(block)
    return found.hexdigest()


def apart(function, *values):
    """function(*values), in a process of its own. Raises Failed where that is killed."""
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(1, context, initializer=leave_signals) as pool:
        try:
            return pool.submit(function, *values).result()
        except BrokenProcessPool:
            raise Failed(f"{function.__name__} was killed, perhaps for want of memory") from None


def leave_signals() -> None:
    """Our handlers are the driver's: its children end when it tells them to."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


# ------------------------------------------------------------------------------------- one process


class Done(NamedTuple):
    status: int  # exit status; below 0 the signal that ended it
    seconds: float  # wall clock, its start included
    cpu_seconds: float  # of all its threads: what other work on the machine does not change
    peak_mib: float  # of resident memory
    error: str  # last line of its stderr


def run(command: list, lock, limit=None) -> Done:
    """Run one of our scripts from the project's folder; killed after `limit` seconds.

    It holds the lock as well: where the driver is killed and the script lives on, the next driver
    waits for it. Where the driver is stopped, the script is told to, once, and waited for.
    """
    words = [sys.executable, *map(str, command)]
    with tempfile.TemporaryFile() as stderr:
        start = time.perf_counter()
        process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=stderr,
                                   pass_fds=[lock.fileno()], start_new_session=True)
        timer = threading.Timer(limit or 1e6, os.kill, (process.pid, signal.SIGKILL))
        timer.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -(status & 127)
        except BaseException:
            process.terminate()
            process.wait()
            raise
        finally:
            timer.cancel()
        seconds = time.perf_counter() - start
        stderr.seek(0)
        lines = stderr.read().decode(errors="replace").strip().splitlines()
    unit = 1 if sys.platform == "darwin" else 1024
    return Done(process.returncode, seconds, usage.ru_utime + usage.ru_stime,
                usage.ru_maxrss * unit / 2**20, lines[-1] if lines else "")


class Failed(Exception):
    """A method gave no mesh; the text says why."""


def check(done: Done, script: str) -> Done:
    if done.status < 0:
        raise Failed(f"{script} died of {signal.Signals(-done.status).name} "
                     f"after {done.seconds:.0f} s")
    if done.status:
        raise Failed(done.error)
    return done


# -------------------------------------------------------------------------------- one of the meshes


class Job(NamedTuple):
    """One method on one cloud."""

    method: str
    case: str
    folder: Path  # of the shape's files in runs/results
    reference: Path
    info: dict  # of the case, see cases()
    protocols: tuple
    field: bool  # is the reference a mesh, to which f can be compared?
    flags: str  # more of train.py's
    course: bool = False  # is the training looked at on its way?

    @property
    def mesh(self) -> Path:
        if self.method == "truth":
            return self.reference
        return self.folder / f"{self.case}-{self.method}.ply"

    def commands(self) -> list:
        """The command lines that make the mesh, [] for the truth itself."""
        cloud = self.folder / f"{self.case}.ply"
        if self.method in PEERS:
            flags = PEER_OF_CASE.get(self.case, "") if "poisson" in self.method else ""
            return [["benchmarks/peers.py", self.method, "-f", cloud, "-o", self.mesh,
                     *flags.split()]]
        if self.method == "truth":
            return []
        of_case = LONG_OF_CASE if self.method == "ours-long" else OF_CASE
        flags = f"{OURS[self.method]} {self.flags} {of_case.get(self.case, '')}".split()
        epoch = max(1, self.info["points"] // 512)
        train = ["train.py", "-f", cloud, "-tr", "0", *flags,
                 "-sie", str(max(1, SAVE_STEPS // epoch)), "--quiet"]
        # other flags or points: another run
        key = json.dumps([RECIPE, flags, self.info["cloud_sha256"]])
        key = hashlib.sha256(key.encode()).hexdigest()
        folder = self.folder / f"{self.case}-{self.method}-{key[:8]}"
        return [[*train, "-m", folder],
                ["infer.py", "-mlp", folder / "param_NNNNN.h5", *INFER.split(), "-o", self.mesh,
                 "--quiet"]]

    def settings(self) -> dict:
        """What the entry depends on."""
        found = {"commands": [line(command) for command in self.commands()],
                 "protocols": list(self.protocols), "reference_sha256": sha256(self.reference),
                 "cloud_sha256": self.info["cloud_sha256"]}
        return {**found, "recipe": RECIPE} if self.method in OURS else found

    def make(self, lock) -> dict:
        """Make the mesh and measure it. Raises Failed."""
        costs, checkpoint = [], None
        for command in self.commands():
            if command[0] == "train.py":
                folder = command[-1]
                costs.append(train(command, folder, lock))
                continue
            limit = LIMIT
            if command[0] == "infer.py":
                checkpoint, limit = newest(folder), None
                command = ["infer.py", "-mlp", checkpoint, *command[3:]]
            costs.append(cost(check(run(command, lock, limit), command[0])))
        found = {**total(costs), **self.measure(lock, checkpoint)}
        if self.course:
            found["course"] = self.on_the_way(lock, folder)
        return found

    def on_the_way(self, lock, folder: Path) -> list:
        """What the surfaces of some checkpoints of the training in `folder` are worth, the last
        one's too: a list of {"step", "topology", "default"}."""
        paths, rows = sorted(folder.glob("param_*.h5"), reverse=True), []
        for path in reversed(paths[:: -(-len(paths) // COURSE)]):
            mesh, output = folder / "course.ply", folder / "course.json"
            check(run(["infer.py", "-mlp", path, "--grid-size", str(COURSE_GRID), "--threads", "1",
                       "-o", mesh, "--quiet"], lock), "infer.py")
            check(run(["evaluate.py", "-f", self.reference, "-mdp", mesh, "-o", output, "--json"],
                      lock), "evaluate.py")
            result = json.loads(output.read_text())
            rows.append({"step": checkpoints.load_checkpoint(path)[1]["step"],
                         "topology": result["topology"],
                         "default": {key: value for key, value in result["default"].items()
                                     if key in tables.BOTH_WAYS}})
        return rows

    def measure(self, lock, checkpoint) -> dict:
        output = self.folder / f"{self.case}-{self.method}.json"
        command = ["evaluate.py", "-f", self.reference, "-mdp", self.mesh, "-o", output, "--json",
                   "--protocol", *self.protocols]
        if checkpoint and self.field:
            command += ["-mlp", checkpoint]
        check(run(command, lock), "evaluate.py")
        result = json.loads(output.read_text())
        return {key: value for key, value in result.items() if key not in ("mesh", "reference")}


def train(command: list, folder: Path, lock) -> dict:
    """Train into `folder`, or go on with what is there; the cost(), once known, is kept there.

    A training that goes on from a checkpoint counts the seconds up to that checkpoint, and has no
    cpu_seconds: the stopped process took them along.
    """
    kept = folder / "cost.json"
    if kept.is_file():
        return json.loads(kept.read_text())
    before = newest(folder)
    command = (["train.py", "--resume", "-m", folder, "--quiet"] if before
               else [*command, "--overwrite"])
    done = cost(check(run(command, lock), "train.py"))
    if before:
        done["seconds"] += checkpoints.load_checkpoint(before)[1]["seconds"]
        del done["cpu_seconds"]
    helper.write_json(kept, done)
    return done


def cost(done: Done) -> dict:
    return {"seconds": done.seconds, "cpu_seconds": done.cpu_seconds, "peak_mib": done.peak_mib}


def total(costs: list) -> dict:
    """Of processes one after the other; {} of none. cpu_seconds are those of all or are not known.
    """
    if not costs:
        return {}
    sums = [key for key in ("seconds", "cpu_seconds") if all(key in one for one in costs)]
    return {**{key: sum(one[key] for one in costs) for key in sums},
            "peak_mib": max(one["peak_mib"] for one in costs)}


def newest(folder: Path):
    """The last checkpoint of a run, or None."""
    return max(Path(folder).glob("param_*.h5"), default=None)


def line(command: list) -> str:
    """A command as one types it in the project's folder."""
    words = [os.path.relpath(word, ROOT) if isinstance(word, Path) else word for word in command]
    return shlex.join(words)


# --------------------------------------------------------------------------------------- the shapes


def find(shape: Shape):
    """The file of a shape's reference, or None."""
    places = [folder / file for file in shape.files for folder in DATA]
    return next((place for place in places if place.is_file()), None)


def sources(name: str, folder: Path, lock):
    """(reference, clean cloud) of a shape, made in `folder` where they are not there as files."""
    shape = SHAPES[name]
    if not shape.files:
        cloud, reference = folder / f"{name}_pcd.ply", folder / f"{name}.ply"
        command = ["datasets.py", "create", "--shape", name, "-n", str(POINTS), "-o", cloud]
        check(run(command, lock), "datasets.py")
        return reference, cloud
    reference = find(shape)
    if apart(look_at, reference)["topology"] is None:
        return reference, reference
    cloud = folder / f"{name}-{sha256(reference)[:8]}-{POINTS}_pcd.ply"
    if not cloud.is_file():
        command = ["datasets.py", "create", "-f", reference, "-n", str(POINTS), "-o", cloud]
        check(run(command, lock), "datasets.py")
    return reference, cloud


def jobs(shape: Shape, only, **given):
    """The jobs of a shape in order, those of the methods `only` (None: all)."""
    clouds, topology = given.pop("clouds"), given.pop("topology")
    for case in shape.cases:
        methods = [m for m in shape.methods if case in LONG_CASES or m != "ours-long"]
        if case == "clean" and topology and "upstream" in shape.protocols:
            methods.append("truth")
        for method in methods:
            if only and method not in only:
                continue
            if method in NEED_NORMALS and not clouds[case]["normals"]:
                continue
            protocols = shape.protocols if case == "clean" else ("default",)
            if method in PEERS:
                protocols = tuple(p for p in protocols if p != "upstream")
            looked_at = method == "ours-long" or (shape.course and method == "ours")
            yield Job(method, case, info=clouds[case], protocols=protocols, flags=shape.flags,
                      course=looked_at, field=bool(topology), **given)


def do_shape(name: str, work: Path, results: Path, only) -> list:
    """Measure what is not there yet; returns what failed."""
    shape, folder = SHAPES[name], work / name
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print(f"{name}: waiting for another run that is at work on it", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        reference, cloud = sources(name, folder, lock)
        about = apart(look_at, reference)
        clouds = apart(cases, cloud, folder, shape.cases)
        path, failed = results / f"{name}.json", []
        old = json.loads(path.read_text()) if path.is_file() else {}
        result = {"shape": name, "reference": about, "cases": old.get("cases", {})}
        for job in jobs(shape, only, clouds=clouds, topology=about["topology"], folder=folder,
                        reference=reference):
            case = result["cases"].setdefault(job.case, {})
            case.update(points=job.info["points"])
            entries, settings = case.setdefault("methods", {}), job.settings()
            there = entries.get(job.method, {})
            if there.get("settings") == settings and "error" not in there:
                continue
            print(f"{name}, {job.case}, {job.method}", end="", flush=True)
            try:
                made = job.make(lock)
                print(f": {tables.summary(made)}", flush=True)
            except (Failed, UserError) as error:
                made = {"error": str(error)}
                if job.method not in PEERS:  # they may fail: that is a result
                    failed.append(f"{name}, {job.case}, {job.method}")
                print(f": {error}", flush=True)
            entries[job.method] = {"settings": settings, "machine": machine(), **made}
            helper.write_json(path, result)
        try:
            pictures(name, folder, reference, about, results, lock)
        except Failed as error:
            failed.append(f"{name}, picture")
            print(f"{name}, picture: {error}", flush=True)
    return failed


def pictures(name: str, folder: Path, reference: Path, about: dict, results: Path, lock) -> None:
    """The pictures of our mesh of the clean cloud and, for the bunny, turned.jpeg and those of its
    training, where they are older or not there."""
    method = next((m for m in ("ours-long", "ours") if (folder / f"clean-{m}.ply").is_file()), None)
    mesh, wanted = folder / f"clean-{method}.ply", []
    if method:
        truth = reference if about["topology"] else None
        cloud = folder / "clean.ply"
        wanted += [(mesh, c) for c in picture_commands(name, results, cloud, truth, mesh)]
    if name == "bunny":
        both = folder / "turned.ply"
        if not both.is_file():
            apart(turned, reference, both)
        wanted.append((both, ["visualize.py", "mesh", "-f", both, "--azimuth", "0",
                              "--elevation", "5", "-o", results / "turned.jpeg"]))
        trainings = folder.glob(f"clean-{method}-" + "[0-9a-f]" * 8)
        for checkpoint in map(newest, sorted(trainings, key=os.path.getmtime)[-1:]):
            wanted += [(mesh, ["visualize.py", "slices", "-mlp", checkpoint, "-o",
                               results / "bunny_slices.png"]),
                       (mesh, ["visualize.py", "curves", "-f", checkpoint.parent, "-o",
                               results / "bunny_curves.png"])]
    for source, command in wanted:
        output = command[-1]
        if not output.is_file() or output.stat().st_mtime < source.stat().st_mtime:
            check(run(command, lock), "visualize.py")


def write(results: Path) -> None:
    """Bring tables and curves up to date."""
    tables.write(results, SHAPES)
    apart(curves.write, results, SHAPES)


def machine() -> dict:
    model, info = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if info.is_file():
        names = [row.split(":")[1].strip() for row in info.read_text().splitlines()
                 if row.startswith("model name")]
        model = names[0] if names else model
    open3d = next((version(n) for n in ("open3d", "open3d-cpu") if is_installed(n)), "none")
    return {"cpu": model, "cores": os.cpu_count(), "python": platform.python_version(),
            "nnabla": version("nnabla"), "open3d": open3d}


def is_installed(name: str) -> bool:
    try:
        return bool(version(name))
    except ImportError:  # PackageNotFoundError
        return False


def parse_args(argv=None):
    parser = helper.parser(__doc__)
    parser.add_argument("names", nargs="*", metavar="shape",
                        help=f"default: all of {', '.join(SHAPES)}")
    parser.add_argument("--only", nargs="+", choices=[*OURS, *PEERS, "truth"], metavar="METHOD",
                        help=f"some of {', '.join([*OURS, *PEERS, 'truth'])}")
    parser.add_argument("--tables", action="store_true", help="write the tables, measure nothing")
    parser.add_argument("--work", default=ROOT / "runs" / "results", type=Path,
                        help="folder of clouds, checkpoints and meshes")
    parser.add_argument("--results", default=ROOT / "results", type=Path,
                        help="folder of the json; its README and the one above get the tables")
    return parser.parse_args(argv)


def stop(signum, frame):
    raise Interrupted(signum, "stopped; the same command goes on")


def main(args) -> None:
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    unknown = [name for name in args.names if name not in SHAPES]
    if unknown:
        raise UserError(f"unknown shape {', '.join(unknown)}; known are {', '.join(SHAPES)}")
    failed = []
    for name in [] if args.tables else args.names or SHAPES:
        if SHAPES[name].files and find(SHAPES[name]) is None:
            hint = SHAPES[name].hint or f"bash downloads.sh {name}"
            print(f"{name}: not at hand, skipped ({hint})")
            continue
        try:
            failed += do_shape(name, args.work.resolve(), args.results.resolve(), args.only)
        except (Failed, UserError) as error:
            failed.append(name)
            print(f"{name}: {error}", flush=True)
        write(args.results)
    write(args.results)
    if failed:
        raise UserError(f"failed: {'; '.join(failed)}")


if __name__ == "__main__":
    helper.run(main, parse_args())
