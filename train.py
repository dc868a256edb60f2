"""Fit the network to a point cloud (Gropp et al., ICML 2020).

    python train.py -d 1 -f demo/knot_pcd.ply -m demo/knot

writes demo/knot/param_NNNNN.h5 (N: epoch), log.jsonl and nnabla's monitor series. The run ends when
its surface settles; -te (epochs) or -ti (steps) sets its length instead. infer.py makes a mesh of a
checkpoint. A run that was stopped, in whatever way, is continued by

    python train.py --resume -m demo/knot

and a finished one taken further, to 20,000 steps in all, by --resume -ti 20000.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Callable, NamedTuple

import datasets
import helper
from helper import flag, log, number
from igr.backend import blas, devices, threads
from igr.field import checkpoints
from igr.geometry.frames import Geometry
from igr.pointcloud import noise, thickness
from igr.training import runs, schedule, solvers
from igr.training.loop import Job, Plan, Trainer, TrainingLoop
from igr.training.monitoring import CHECKED, SurfaceMonitor, check_grid
from igr.training.runs import Checkpoint, RunFolder
from igr.training.sampling import GraphSamples, HostSamples, Sizes
from igr.training.settling import Evidence, RunningAverage
from igr.view.preview import save_preview
import losses
from networks import MLP, Architecture

SHOW_STEPS = 250  # between two looks at the surface, where it is shown
SAVE_STEPS = 250  # at least, between two checkpoints that no flag asked for
MOST_WEIGHT = 1e3  # of a term of the loss
FOLDER = "runs/tmp"  # of a run without -m
LENGTHS, SCATTERED, BLIND = (
    ", ".join(f"{name} {steps}" for name, steps in lengths.items())
    for lengths in (schedule.STEPS, schedule.SCATTERED_STEPS, schedule.BLIND_STEPS))


@dataclass(frozen=True)
class Settings:
    """Settings that determine the weights; fixed when a run is resumed."""

    batch_size: int | None = flag(
        None, "-b", type=number(int, 1),
        help=f"surface points per step; default: {schedule.BATCH}, without normals "
        f"{schedule.BLIND_BATCH}")
    uniform: int | None = flag(
        None, type=number(int, 1), metavar="N",
        help="points per step anywhere in the cube of free space; default: an eighth of -b, as "
        "many as -b without normals")
    near: int | None = flag(
        None, type=number(int, 1), metavar="N",
        help="points per step near the first N of the surface points, at most -b; default: as "
        "--uniform")
    train_epoch: int | None = flag(None, "-te", type=number(int, 1), help="epochs to train")
    train_iter: int | None = flag(
        None, "-ti", type=number(int, 1),
        help="steps to train, instead of -te; default: until the surface settles")
    max_iter: int | None = flag(
        None, type=number(int, 1), metavar="N",
        help="steps to train at most, where the surface does not settle before, instead of -te "
        "and -ti; default: by --quality")
    quality: str = flag(
        "normal", choices=list(schedule.STEPS), alternatives="preset",
        help=f"--max-iter {LENGTHS}; of scattered points {SCATTERED}; without normals always "
        f"{BLIND}")
    solver: str = flag(
        "muon", choices=["muon", "adam"],
        help="muon: orthogonalised steps for the matrices of the hidden layers, Adam for the rest")
    learning_rate: float | None = flag(
        None, "-lr", type=number(float, above=0),
        help="the largest; default: "
        f"{schedule.RATE:g} with muon, {schedule.SLOW:g} beyond {schedule.LONG} steps, without "
        f"normals {schedule.SLOW:g}, and half of that beyond {schedule.SHORT} steps; "
        f"{schedule.ADAM_RATE:g} with adam")
    decay: str = flag(
        "linear", choices=["linear", "halving"],
        help="of the rate; linear: a short warm-up, then constant, and down to 1 %% over the last "
        "30 %% of the steps; halving: by half every 2,000 steps, as the paper's authors have it")
    lam: float = flag(0.1, type=number(float, 0, MOST_WEIGHT), help="weight of the eikonal term")
    frequencies: int | None = flag(
        None, type=number(int, 0, 12), metavar="K",
        help="the network sees x beside sin and cos of 2^k x, k < K, which open one by one in the "
        f"first {schedule.OPENED} steps, at most half of the run, and in half of a run of fixed "
        "length; 0: the paper's network; default: as many as the points resolve, at most 8, and 0 "
        "for noisy points")
    tau: float | None = flag(
        None, type=number(float, 0, MOST_WEIGHT),
        help=f"weight of the normals term; default: {schedule.TAU:g}, for estimated normals "
        f"of exact points {schedule.EXACT_TAU:g}")
    tolerance: float | None = flag(
        None, type=number(float, 0, 2),
        help="of the normals term: differences |grad f - n| up to this cost nothing; default: "
        f"{schedule.TOLERANCE:g} for estimated normals of noisy points, else 0")
    with_normals: bool = flag(False, help="use the cloud's normals")
    trust_normals: bool = flag(False, help="with --with-normals: take them as they are, of length "
                               "1, even where neighbours or the inside contradict them")
    winding: bool | None = flag(
        None, action=helper.Switch,
        help="estimate normals: by winding numbers, or by neighbours where the surface is open; "
        "default: of all but few points, where neighbours agree on the sides")
    dims: int | None = flag(
        None, type=number(int, 8),
        help=f"width of the network; the paper has 512; default: {schedule.DIMS['normal']}, for "
        f"--quality fine, and without normals, {schedule.BLIND_DIMS}")
    knn: int = flag(
        10, "-k", type=number(int, 1),
        help="samples near the surface spread by the distance to the k-th nearest neighbour; the "
        "paper has 50, which blurs thin parts")
    volume_factor: float = flag(
        1.5, "-vf", type=number(float, 1, 100),
        help="half the side of the cube of free space; the shape's half side is 1")
    test_rate: float | None = flag(
        None, "-tr", type=number(float, 0, below=1),
        help=f"share of the points that is held out for evaluation; default: {datasets.HELD_OUT} "
        f"of them, but at least {datasets.TEST_RATES[0]:g} and at most {datasets.TEST_RATES[1]:g} "
        f"of all; 0 of fewer than {noise.FEW}")
    seed: int = flag(0, type=number(int, 0),
                     help="of the weights, the split, the order and the samples")


# those of the authors' code for one shape (amosgropp/IGR, code/reconstruction: setup.conf, run.py
# and the NormalPerPoint sampler); they use all points
PAPER = Settings(batch_size=16_384, uniform=2_048, near=16_384, train_iter=100_000, solver="adam",
                 learning_rate=0.005, decay="halving", lam=0.1, frequencies=0,
                 winding=False, dims=512, knn=50, volume_factor=1.8, test_rate=0.0)


@dataclass(frozen=True)
class Options(helper.DeviceOptions):
    """How a run computes, saves and reports; a resumed run may change it."""

    precision: str = flag(
        "float32", choices=["float32", "tf32"],
        help="of matrix products on a GPU; tf32: faster, with 10 bits after the point")
    save_interval_epoch: int | None = flag(
        None, "-sie", type=number(int, 1), metavar="N",
        help=f"epochs between two checkpoints; default: a tenth of the run, at least {SAVE_STEPS} "
        "steps, or 100 epochs if that is less")
    preview: int | None = flag(
        None, type=number(int, 1), metavar="N",
        help="write a picture of the surface to preview_NNNNN.png in the run folder, every N "
        "epochs and at the end")
    grid_size: int = flag(
        128, type=number(int, 8),
        help="grid for the evaluation at each checkpoint and for the previews")
    sub_batch_size: int | None = flag(
        None, "-sb", type=number(int, 1),
        help="points at a time in the evaluation; default: what suits the device")
    quiet: bool = flag(False, help="no progress bar, no summary")


# ------------------------------------------------------------------------------------ from Python


def fit(cloud_path: str | Path, folder: str | Path, settings: Settings = Settings(),
        options: Options = Options(), *, overwrite: bool = False,
        show: Callable[[Geometry], None] | None = None) -> Path:
    """Train a network on a cloud file, in a new run folder. Returns the last checkpoint.

    overwrite: replace a run that the folder holds. show: is called every SHOW_STEPS steps with a
    mesh of the surface in the unit frame; then there are no pictures by options.preview. Only the
    main thread can call it: it handles Ctrl-C and other signals. Raises UserError where the input
    cannot serve or the loss diverges, and Interrupted, after saving, where a signal stopped the
    run.
    """
    run = RunFolder(folder)
    job = build(Start(cloud_path, settings, options, overwrite=overwrite), run)
    with run.alone(make=True):
        return train(job, run, show)


def resume(folder: str | Path, *, show: Callable[[Geometry], None] | None = None,
           **flags: Any) -> Path:
    """Continue the run in a folder from its newest good checkpoint. Returns the last checkpoint.

    show: see fit. flags: entries of Options to change; fpath, where the cloud has moved;
    train_iter, to take a finished run further: the rate rises to a third and falls again; other
    entries of Settings only as the run has them. Raises as fit does.
    """
    fixed = helper.names_of(Settings)
    unknown = flags.keys() - {"fpath", *fixed, *helper.names_of(Options)}
    if unknown:
        raise TypeError(f"resume() has no flag {', '.join(sorted(unknown))}")
    run = RunFolder(folder)
    with run.alone():
        checkpoint = run.newest()
        flags = runs.flags_to_resume(checkpoint.info, flags, fixed)
        start = Start(flags["fpath"], helper.options_from(Settings, flags),
                      helper.options_from(Options, flags), checkpoint, flags["finished"])
        return train(build(start, run), run, show)


class Start(NamedTuple):
    """What a training begins with."""

    cloud_path: str | Path
    settings: Settings
    options: Options
    checkpoint: Checkpoint | None = None  # of the run to resume
    finished: int = 0  # steps of the finished run that is taken further
    overwrite: bool = False

    @property
    def step(self) -> int:
        """The first step to do."""
        return self.checkpoint.info["step"] if self.checkpoint else 0


def build(start: Start, run: RunFolder) -> Job:
    """Read the cloud; make the network, the samples, the loss and the solver. Writes nothing.

    Raises UserError where the checkpoint's run had another cloud.
    """
    options, checkpoint = start.options, start.checkpoint
    if options.preview:
        helper.open3d()  # fails here and not at the first preview
    check_grid(options.grid_size, start.settings.volume_factor)
    device = devices.set_context(options.context, options.device_id, options.precision)
    threads.set_count(options.threads)
    settings = start.settings
    cloud = datasets.load_cloud(start.cloud_path, settings.knn, settings.test_rate,
                                settings.with_normals, settings.seed, settings.trust_normals)
    normals = schedule.normals_for(start.settings, cloud)
    # store resolved values: new defaults must not change a resumed run
    settings = replace(start.settings, test_rate=cloud.test_rate, winding=normals is not None)
    settings = replace(settings, **schedule.choose(settings, cloud))
    start = start._replace(settings=settings)
    info = info_of(start, run.folder, cloud)
    if checkpoint:
        runs.check_same(info, checkpoint.info, run.folder)
    cloud = cloud if normals is None else cloud._replace(normals=normals)
    if cloud.normals is not None:
        thickness.warn(cloud.measured, cloud.normals, cloud.frame, settings.volume_factor)
    mlp = MLP(Architecture(settings.dims, frequencies=settings.frequencies), device.kernel,
              checkpoint.parameters if checkpoint else None, settings.seed)
    trainer = make_trainer(mlp, cloud, start)
    rows = options.sub_batch_size or device.rows
    checked = cloud.held_out if len(cloud.held_out) else cloud.points
    monitor = SurfaceMonitor(lambda points: mlp.evaluate(points, rows), cloud.held_out,
                             options.grid_size, settings.volume_factor, checked[:CHECKED],
                             cloud.measured.spacing)
    plan = plan_of(start, len(cloud.points))
    looks, average = evidence_of(plan, mlp, checkpoint)
    return Job(plan, trainer, monitor, info, checkpoint, device, len(cloud.points), looks, average)


def make_trainer(mlp: MLP, cloud: datasets.PointCloud, start: Start) -> Trainer:
    """Make samples, loss and solver of a network, in the state of the checkpoint if there is one.
    """
    settings, checkpoint = start.settings, start.checkpoint
    sizes = Sizes(settings.batch_size, settings.uniform, min(settings.near, settings.batch_size),
                  settings.volume_factor)
    kind = HostSamples if mlp.kernel else GraphSamples
    samples = kind(cloud, sizes, settings.seed, start.step)
    weights = losses.Weights(settings.lam, settings.tau, settings.tolerance)
    solver = solvers.make(settings.solver, mlp.kernel)
    trainer = Trainer(losses.igr_loss(mlp, samples, weights), mlp, solver, samples)
    if checkpoint:
        solvers.set_state_of(solver, checkpoint.state)
    return trainer


def evidence_of(plan: Plan, mlp: MLP, checkpoint: Checkpoint | None):
    """What tells whether a run may end, as far as the checkpoint had it: the looks so far, and the
    running average of the weights, None where the end is known."""
    looks = [Evidence(*look) for look in checkpoint.info.get("looks", [])] if checkpoint else []
    if not plan.settles:
        return looks, None
    average = RunningAverage(mlp.parameters)
    if checkpoint:
        average.set_state(checkpoint.state)
    return looks, average


def info_of(start: Start, folder: Path, cloud: datasets.PointCloud) -> dict[str, Any]:
    """Collect what every checkpoint stores about a run in a folder."""
    settings, path = start.settings, start.cloud_path
    flags = {"fpath": str(path), "monitor_path": str(folder), **asdict(settings),
             **asdict(start.options), "resume": start.checkpoint is not None,
             "overwrite": start.overwrite, "finished": start.finished}
    digest = helper.fingerprint(cloud.points, cloud.held_out, cloud.sigma, cloud.normals,
                                cloud.whole)
    return {"cloud": str(Path(path).resolve()), "cloud_sha256": digest,
            "cloud_file_sha256": cloud.file_sha256,
            "held_out": checkpoints.packed(cloud.test), "frame": cloud.frame._asdict(),
            "volume_factor": settings.volume_factor, "flags": flags,
            "paper": is_papers(settings)}


def is_papers(settings: Settings) -> bool:
    """Are solver, rate and loss those of the paper? Then infer.py adds no detail."""
    return all(getattr(settings, name) == getattr(PAPER, name)
               for name in ("solver", "decay", "frequencies"))


def plan_of(start: Start, points: int) -> Plan:
    """Plan the steps for a number of training points."""
    settings, options = start.settings, start.options
    per_epoch = max(1, points // settings.batch_size)
    fixed = settings.train_iter or (settings.train_epoch or 0) * per_epoch
    steps = fixed or settings.max_iter
    settles = not fixed and settings.decay != "halving"  # whose rate does not fall to an end
    enough = schedule.ENOUGH[settings.quality] if settles else None
    opening = schedule.opening_of(steps, settles)
    # a long epoch does not put off a checkpoint, a short run has few
    save_every = min(100 * per_epoch, max(SAVE_STEPS, steps // 10))
    if options.save_interval_epoch:
        save_every = options.save_interval_epoch * per_epoch
    preview_every = (options.preview or 0) * per_epoch
    plan = Plan(steps, per_epoch, save_every, preview_every, settings.learning_rate, opening,
                settings.decay, start.finished, enough)
    ends = start.checkpoint.info.get("ends") if start.checkpoint else None
    return plan._replace(steps=ends, enough=None) if settles and ends else plan


def train(job: Job, run: RunFolder, show: Callable[[Geometry], None] | None = None) -> Path:
    """Do the job. Returns the last checkpoint. show: see fit."""
    flags, preview = job.info["flags"], save_preview
    if show:
        job = job._replace(plan=job.plan._replace(preview_every=SHOW_STEPS))

        def preview(_, mesh):
            show(mesh)

    if job.checkpoint:
        run.continue_from(job.checkpoint)
    else:
        run.begin(flags["overwrite"])
    log.info(summary(job, run.folder))
    loop = TrainingLoop(job, run, preview)
    loop.train(flags["quiet"])
    log.info(f"{loop.path} after {loop.seconds() / 60:.1f} minutes")
    return loop.path


def summary(job: Job, folder: Path) -> str:
    """Describe what will run, in three lines."""
    flags = job.info["flags"]
    sides = ", estimated normals" if flags["winding"] else ""
    kernels = f", OpenBLAS kernels: {blas.loaded()}" if job.device.kernel else ""
    start = f", from step {job.steps_done} of {job.checkpoint.path}" if job.checkpoint else ""
    return (f"{flags['fpath']}: {job.points} points to train, {len(job.monitor.held_out)} held out"
            f"{sides}\nnetwork 8 x {flags['dims']} on {job.device.text}{kernels}"
            f"\n{'at most ' * job.plan.settles}{job.plan.steps} steps of {flags['batch_size']} + "
            f"{flags['uniform'] + flags['near']} points, {job.plan.per_epoch} an epoch, into "
            f"{folder}{start}")


# ------------------------------------------------------------------------------- the command line


def make_parser() -> argparse.ArgumentParser:
    parser = helper.parser(__doc__)
    add = parser.add_argument
    add("-f", "--fpath", help="point cloud to fit; of a mesh the vertices are taken, or points "
        "on it where these are few")
    add("-m", "--monitor-path", default=FOLDER, help="run folder; made if missing")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--resume", action="store_true",
                       help="continue the run in -m from its newest good checkpoint, with the "
                       "flags it has")
    start.add_argument("--overwrite", action="store_true", help="replace the run in -m")
    settings = parser.add_argument_group("settings, which a resumed run keeps")
    presets = helper.add_flags(settings, Settings)["preset"]
    presets.add_argument("--paper", action="store_true",
                         help="the settings of the paper's authors: 8 x 512, Adam, 100,000 steps "
                         "of 16,384 points, no encoding, normals or detail of ours; other flags "
                         "change them; days on a CPU")
    options = parser.add_argument_group("options, which may change when a run is resumed")
    helper.add_flags(options, Options)
    return parser


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the flags that the command line has. Others are left out, not set to their defaults:
    --resume takes them from the run."""
    parser = make_parser()
    names = ["fpath", "monitor_path", "resume", "overwrite", "paper", *helper.names_of(Settings),
             *helper.names_of(Options)]
    absent = object()  # argparse fills in a default only where there is nothing yet
    args = parser.parse_args(argv, argparse.Namespace(**dict.fromkeys(names, absent)))
    given = {name: value for name, value in vars(args).items() if value is not absent}
    if "resume" in given and given.keys() & {"quality", "paper"}:
        parser.error("--resume keeps the run's settings: leave out --quality and --paper")
    if not given.get("fpath") and "resume" not in given:
        parser.error("the following arguments are required: -f/--fpath (or --resume)")
    if given.pop("paper", False):
        given = {**papers_flags(given), **given}
    return argparse.Namespace(**given)


def papers_flags(given: dict[str, Any]) -> dict[str, Any]:
    """The flags that --paper stands for beside the given ones."""
    standard = asdict(Settings())
    flags = {name: value for name, value in asdict(PAPER).items() if value != standard[name]}
    if "train_epoch" in given:
        del flags["train_iter"]
    if given.get("solver", PAPER.solver) != PAPER.solver:
        del flags["learning_rate"]  # it is another solver's
    return flags


def main(args: argparse.Namespace, show: Callable[[Geometry], None] | None = None) -> None:
    """Train, or resume, by the flags. show: see fit."""
    flags = dict(vars(args))
    folder = flags.pop("monitor_path", FOLDER)
    overwrite = flags.pop("overwrite", False)
    if flags.pop("resume", False):
        resume(folder, show=show, **flags)
    else:
        fit(flags["fpath"], folder, helper.options_from(Settings, flags),
            helper.options_from(Options, flags), overwrite=overwrite, show=show)


if __name__ == "__main__":
    helper.run(main, parse_args())
