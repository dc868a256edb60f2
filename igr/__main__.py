"""Prepare this machine once, or take a scan all the way to a mesh: what commands.sh hands over.

    python -m igr setup            compile the CPU's kernels (bash commands.sh setup runs it)
    python -m igr ready            exit status 0 where that was done, for this processor and .venv
    python -m igr reconstruct ...  a scan to a mesh (commands.sh reconstruct runs it); --help
    python -m igr scene ...        a scene larger than one network to a mesh; --help
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
import filecmp
from functools import partial
import importlib
import inspect
import io
import json
import os
from pathlib import Path
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

import helper
from helper import Interrupted, UserError
from igr.backend import blas

if TYPE_CHECKING:
    from igr.geometry.frames import Geometry

ROOT = Path(__file__).resolve().parents[1]
AGAIN = 3  # seconds, after which a browser reads the page of a training again

# ------------------------------------------------------------------------------------------- set-up


def stamp() -> Path:
    """The file in the virtual environment that set_up() leaves."""
    return Path(sys.prefix) / "compiled.json"


def place() -> dict:
    """What compiled kernels depend on: the processor, and where the virtual environment is."""
    return {**blas.processor(), "prefix": sys.prefix}


def is_ready() -> bool:
    """Whether set_up() has run on this processor for this virtual environment."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads(stamp().read_text()) == place()
    return False


def set_up() -> None:
    """Compile the CPU's kernels, so that the first training starts at once."""
    from igr.field import training_kernel
    from igr.training import solvers

    training_kernel.compile_all()
    solvers.compile_all()
    helper.write_json(stamp(), place())


# -------------------------------------------------------------------------------------- reconstruct


@dataclass(frozen=True)
class Options:
    """Flags of reconstruct; train.py and infer.py, which have more, get their part of them."""

    quality: str = helper.flag("normal", choices=("draft", "normal", "fine"),
                               help="of train.py; a draft is meshed on a grid of 256, else 512")
    closed: bool = helper.flag(False, alternatives="ends",
                               help="close the mesh also where the scan is open")
    trim: bool = helper.flag(False, alternatives="ends",
                             help="cut the mesh wherever it is far from the points, at small "
                             "holes, too")
    faces: int | None = helper.flag(None, type=helper.number(int, 4), metavar="N",
                                    help="simplify the mesh to about N faces")
    with_normals: bool = helper.flag(False, help="use the normals of the cloud's file")
    no_clean: bool = helper.flag(False, help="remove no outliers and no near duplicates; equal "
                                 "points go in any case")
    one_network: bool = helper.flag(False, help="cut no cloud into cells, whatever surface it has; "
                                    "see docs/scenes.md")

    def of_cleaning(self) -> list[str]:
        """The flags of datasets.py clean."""
        return ["--outliers", "0", "--near", "0"] if self.no_clean else []

    def of_training(self) -> list[str]:
        """train.py's flags."""
        normals = ["--with-normals"] if self.with_normals else []
        return [*normals, "--quality", self.quality]

    def of_meshing(self) -> list[str]:
        """infer.py's flags."""
        return ["--grid-size", "256" if self.quality == "draft" else "512",
                *(["--closed"] if self.closed else []),
                *(["--trim", "auto"] if self.trim else []),
                *(["--faces", str(self.faces)] if self.faces else [])]


class Job(NamedTuple):
    """Scans, the mesh to make of them, and how."""

    clouds: list[Path]
    mesh: Path
    options: Options

    @property
    def folder(self) -> Path:
        """The run folder beside the mesh, for scan_mesh.ply scan_mesh_run."""
        return self.mesh.with_name(f"{self.mesh.stem}_run")

    @property
    def page(self) -> Path:
        """The page that shows the mesh, and the surface while the network learns it."""
        return self.mesh.with_suffix(".html")

    @property
    def cloud(self) -> Path:
        """The merged and cleaned cloud that the network learns."""
        return self.folder / "cloud.ply"


def reconstruct(words: list[str]) -> None:
    """Make a mesh, a page and a report of a scan, or of several scans with their alignment.

    Files go into a folder beside the mesh, scan_mesh_run for scan_mesh.ply. The same command
    resumes a training that was stopped, as long as the cloud and the flags of the training are the
    same. The scripts have more flags: see docs/guide.md.
    """
    job = job_of(words)
    job.folder.mkdir(parents=True, exist_ok=True)
    seconds = {}

    def timed(name: str, part, *values):
        start = time.monotonic()
        result = part(*values)
        seconds[name] = int(time.monotonic() - start)
        return result

    try:
        scan = job.clouds[0]
        if len(job.clouds) > 1 or scan.suffix in (".conf", ".aln"):
            scan = timed("merging", merge, job)
        timed("cleaning", clean, job, scan)
        if in_cells(job):
            return
        checkpoint = timed("training", train, job)
        timed("meshing", mesh, job, checkpoint)
        timed("page and measuring", show, job)
    except Interrupted as stop:
        raise Interrupted(stop.signum, "stopped; the same command resumes") from None
    print("times      " + ", ".join(f"{name} {spent} s" for name, spent in seconds.items()))
    print(job.mesh, job.page, sep="\n")


def job_of(words: list[str]) -> Job:
    """The job that the command line asks for. Raises UserError where it makes no sense."""
    parser = helper.parser(inspect.cleandoc(reconstruct.__doc__))
    parser.error = refuse
    parser.add_argument("clouds", nargs="*", metavar="CLOUD",
                        help="a scan, several scans, or an alignment of scans (.aln, .conf)")
    parser.add_argument("-o", "--output", metavar="MESH", help="default: CLOUD_mesh.ply")
    parser.add_argument("-C", dest="folder", default=".", metavar="FOLDER",
                        help="relative paths begin here")
    helper.add_flags(parser, Options)
    args, unknown = parser.parse_known_args(words)
    if unknown:
        refuse(f"there is no flag {unknown[0]}; there are -o, --quality, --closed, --trim, "
               "--faces, --with-normals, --no-clean and --one-network. The scripts have more: see "
               "docs/guide.md")
    if not args.clouds:
        refuse("it needs a cloud, or several scans")
    here = Path(args.folder).absolute()
    clouds = [here / cloud for cloud in args.clouds]
    stem = helper.without_suffix(clouds[0])
    output = here / args.output if args.output else stem.with_name(f"{stem.name}_mesh.ply")
    for cloud in clouds:
        if output.exists() and cloud.exists() and output.samefile(cloud):
            refuse(f"{output} is the cloud itself, and would be replaced")
    return Job(clouds, output, helper.options_from(Options, vars(args)))


def refuse(text: str) -> None:
    """Raise UserError."""
    raise UserError(text)


def merge(job: Job) -> Path:
    """Merge the scans; returns the path of the cloud."""
    output = job.folder / "merged.ply"
    run("datasets", "merge", "-f", *job.clouds, "-o", output)
    return output


def clean(job: Job, scan: Path) -> None:
    """Clean a scan, into cleaned.ply, and what is removed into removed.ply. Raises UserError where
    the mesh's format has too few digits."""
    from igr.formats import files

    cleaned = job.folder / "cleaned.ply"
    removed = job.folder / "removed.ply"
    removed.unlink(missing_ok=True)  # of a cleaning before, where nothing is removed now
    run("datasets", "clean", "-f", scan, "-o", cleaned, "--removed", removed,
        *job.options.of_cleaning())
    if job.mesh.suffix.lower() in files.SEVEN_DIGITS:
        files.check_digits(job.mesh, files.read(cleaned).points)


def in_cells(job: Job) -> bool:
    """Make the mesh by cells where the cleaned cloud is too much for one network. Whether it did;
    else a warning says why not."""
    from igr.scene import cluster, driver, survey

    cleaned, options = job.folder / "cleaned.ply", job.options
    reason = "" if options.one_network else survey.reason_for_cells([cleaned])
    if not reason:
        return False
    try:
        cluster.needed()
        if options.faces:
            refuse("--faces simplifies the mesh of one network only")
    except UserError as error:
        helper.log.warning(f"{reason}; it is not cut into cells, though: {error}")
        return False
    helper.log.info(f"{reason}: cut into cells (--one-network does not)")
    driver.reconstruct([cleaned], job.mesh, driver.Options(
        quality=options.quality, closed=options.closed, trim=options.trim), ROOT)
    return True


def train(job: Job) -> Path:
    """Train on cleaned.ply, or resume the training where it and the flags are those of before; the
    page shows how far it is. Returns the path of the last checkpoint."""
    cleaned = job.folder / "cleaned.ply"
    flags = job.folder / "flags"
    wanted = job.options.of_training()
    looks = {"show": partial(show_surface, job.page)}
    if (job.cloud.exists() and filecmp.cmp(cleaned, job.cloud, shallow=False)
            and any(job.folder.glob("param_*.h5"))
            and flags.exists() and flags.read_text().split() == wanted):
        cleaned.unlink()
        run("train", "--resume", "-m", job.folder, **looks)
    else:
        for old in job.folder.glob("param_*.h5"):  # first: they are of another cloud or other flags
            old.unlink()
        os.replace(cleaned, job.cloud)
        flags.write_text(" ".join(wanted) + "\n")
        run("train", "-f", job.cloud, "-m", job.folder, *wanted, "--overwrite", **looks)
    return max(job.folder.glob("param_*.h5"), key=lambda path: int(path.stem[len("param_"):]))


def show_surface(page: Path, surface: Geometry) -> None:
    """Write a page with the surface of a network in training, which the browser reads again."""
    from igr.view import viewer
    from igr.view.cameras import View

    if not page.exists():
        print(f"a first look: {page}", flush=True)
    with helper.replacing(page) as temporary:
        temporary.write_text(viewer.page(surface, "still learning", View(), again=AGAIN),
                             encoding="utf-8")


def mesh(job: Job, checkpoint: Path) -> None:
    """Write the mesh of a checkpoint."""
    run("infer", "-mlp", checkpoint, "-o", job.mesh, *job.options.of_meshing())


def show(job: Job) -> None:
    """Make the page and, beside it, the report, and print that."""
    with open(job.mesh, "rb") as file:
        color = "file" if b"uchar red" in file.read(1000) else "clay"
    run("visualize", "html", "-f", job.mesh, "-r", job.cloud, "--color", color, "-o", job.page)
    report = io.StringIO()
    with contextlib.redirect_stdout(report):
        run("evaluate", "-f", job.cloud, "-mdp", job.mesh, "-o", job.folder / "report.json")
    (job.folder / "report.txt").write_text(report.getvalue())
    print()
    print(report.getvalue(), end="")


def run(script: str, *words, **more) -> None:
    """Run a script of ours by its command line, which is printed; more: arguments of its main()."""
    print("+ python", f"{script}.py", *words, flush=True)
    module = importlib.import_module(script)
    module.main(module.parse_args([str(word) for word in words]), **more)


# -------------------------------------------------------------------------------------------- scene


def scene(words: list[str]) -> None:
    """Make a mesh of a scene that is larger than one network, or than the memory.

    The scene is cut into cells, each with a network of its own, which workers of Dask train: those
    of this machine, or of any scheduler. What is done stays in a folder beside the mesh,
    scene_mesh_scene for scene_mesh.ply, and the same command does the rest. See docs/scenes.md.
    """
    from igr.scene import driver

    parser = helper.parser(inspect.cleandoc(scene.__doc__))
    parser.error = refuse
    parser.add_argument("clouds", nargs="+", metavar="CLOUD", help="one or several, in one frame")
    parser.add_argument("-o", "--output", metavar="MESH",
                        help="default: CLOUD_mesh.ply; with --tiles a folder, CLOUD_tiles")
    parser.add_argument("-C", dest="folder", default=".", metavar="FOLDER",
                        help="relative paths begin here")
    helper.add_flags(parser, driver.Options)
    args = parser.parse_args(words)
    options = helper.options_from(driver.Options, vars(args))
    here = Path(args.folder).absolute()
    clouds = [here / cloud for cloud in args.clouds]
    stem = helper.without_suffix(clouds[0])
    ending = "_tiles" if options.tiles else "_mesh.ply"
    output = here / args.output if args.output else stem.with_name(f"{stem.name}{ending}")
    driver.reconstruct(clouds, output, options, ROOT)


def do_job(text: str, most: str) -> int:
    """Do a job of a scene, of a text that a worker hands over; returns the exit status. most: bytes
    that it may hold."""
    from igr.backend import devices
    from igr.scene import cluster, jobs
    import networks
    import train as training

    order = jobs.Order(**json.loads(text))
    stop_with_worker()

    def fit(cloud: Path, folder: Path, flags: dict) -> Path:
        return training.fit(cloud, folder, helper.options_from(training.Settings, flags),
                            helper.options_from(training.Options, flags), overwrite=True)

    def load(checkpoint: Path) -> networks.Network:
        return networks.load_network(checkpoint, devices.set_context("cpu").kernel)

    try:
        if order.code != jobs.code_digest(ROOT):
            print(f"{ROOT} is another version of the program on a worker than where the scene runs")
            return cluster.STOP
        with helper.reporting(quiet=False):
            jobs.do(order, jobs.Tools(fit, training.resume, load), int(most))
    except Interrupted as stop:
        return 128 + stop.signum
    except UserError as error:
        print(error)
        return 1
    except OSError as error:
        print(f"{error.filename or 'input/output'}: {error.strerror or error}")
        return cluster.STOP
    return 0


def stop_with_worker() -> None:
    """Stop this process, as a signal would, when the one that holds the other end of its input
    ends. A training saves first."""

    def watch() -> None:
        while os.read(0, 1 << 10):  # not by sys.stdin, whose lock would be held at the exit
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def main(command: str = "", *words: str) -> int:
    """Run one of this module's commands; returns the exit status."""
    if command == "ready":
        return 0 if is_ready() else 1
    if command == "setup":
        set_up()
        return 0
    if command == "reconstruct":
        sys.argv[0] = command  # the name in messages
        helper.run(reconstruct, words)
        return 0
    if command == "scene":
        sys.argv[0] = command
        helper.run(scene, words)
        return 0
    if command == "job":
        return do_job(*words)
    print(__doc__)
    return 2


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
