"""Fit the network to a point cloud (Gropp et al., ICML 2020).

    python train.py -d 1 -f demo/knot_pcd.ply -m demo/knot

writes demo/knot/param_NNNNN.h5 (N: epoch), log.jsonl and nnabla's monitor series. -te (epochs) or
-ti (steps) sets the length of the run, over which the rate decays. infer.py makes a mesh of a
checkpoint. A run that was stopped, in whatever way, is continued by

    python train.py --resume -m demo/knot

and a finished one taken further, to 20,000 steps in all, by --resume -ti 20000.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Callable, NamedTuple

import datasets
import helper
from igr.backend import blas, ranks, threads
from igr.backend.devices import Device
from igr.pointcloud import noise
from igr.training import runs, schedule, solvers, surface_samples
from igr.training.loop import Job, Plan, Trainer, TrainingLoop, step_with_first_rank
from igr.training.monitoring import SurfaceMonitor, check_grid
from igr.training.runs import Checkpoint, RunFolder
from igr.training.sampling import GraphSamples, HostSamples
from igr.training.surface_samples import ZeroSet
from igr.view.preview import save_preview
import losses
from networks import MLP

SAVE_STEPS = 250  # at least, between two checkpoints that no flag asked for
MOST_WEIGHT = 1e3  # of a term of the loss


class Settings(NamedTuple):
    """What decides the weights. A resumed run keeps it. --help explains each entry."""

    batch_size: int | None = None
    uniform: int | None = None
    train_epoch: int | None = None
    train_iter: int | None = None
    quality: str = "normal"
    solver: str = "muon"
    learning_rate: float | None = None
    decay: str = "cosine"
    beta0: float = 0.9
    beta1: float = 0.999
    lam: float = 0.1
    mu: float = 1.0
    frequencies: int | None = None
    tau: float | None = None
    with_normals: bool = False
    winding: bool | None = None
    dims: int = 128
    knn: int = 10
    volume_factor: float = 1.5
    test_rate: float | None = None
    seed: int = 0


# those of the authors' code for one shape (amosgropp/IGR, code/reconstruction: setup.conf, run.py
# and the NormalPerPoint sampler); they use all points
PAPER = Settings(batch_size=16_384, uniform=2_048, train_iter=100_000, solver="adam",
                 learning_rate=0.005, decay="halving", lam=0.1, mu=0.0, frequencies=0,
                 winding=False, dims=512, knn=50, volume_factor=1.8, test_rate=0.0)


class Options(NamedTuple):
    """How a run computes, saves and reports. A resumed run may change it."""

    device_id: str = "0"
    threads: int = helper.cores()
    context: str = "auto"
    precision: str = "float32"
    save_interval_epoch: int | None = None
    preview: int | None = None
    grid_size: int = 128
    sub_batch_size: int | None = None
    quiet: bool = False


# by the flags' long names
DEFAULTS = {"fpath": None, "monitor_path": "runs/tmp", **Settings()._asdict(),
            **Options()._asdict(), "resume": False, "overwrite": False}


# ------------------------------------------------------------------------------------ from Python


def fit(cloud_path: str | Path, folder: str | Path, settings: Settings | None = None,
        options: Options | None = None, *, overwrite: bool = False) -> Path:
    """Train a network on a cloud file, in a new run folder. Returns the last checkpoint.

    settings, options: by default those of the command line. overwrite: replace a run that the
    folder holds. Only the main thread can call it: it handles Ctrl-C and other signals. Raises
    UserError where the input cannot serve or the loss diverges, and Interrupted, after saving,
    where a signal stopped the run.
    """
    run = RunFolder(folder)
    job = build(cloud_path, run, settings or Settings(), options or Options(), overwrite=overwrite)
    group = job.trainer.group
    with group.exit_on_error(), run.alone(writes=group.rank == 0, make=True):
        return train(job, run)


def resume(folder: str | Path, **flags: Any) -> Path:
    """Continue the run in a folder from its newest good checkpoint. Returns the last checkpoint.

    flags: entries of Options to change; fpath, where the cloud has moved; train_iter, to take a
    finished run further: the rate rises to a third and falls again; other entries of Settings only
    as the run has them. Raises as fit does.
    """
    unknown = flags.keys() - DEFAULTS.keys()
    if unknown:
        raise TypeError(f"resume() has no flag {', '.join(sorted(unknown))}")
    run = RunFolder(folder)
    with run.alone(writes=ranks.is_first()):
        checkpoint = run.newest()
        flags = runs.flags_to_resume(checkpoint.info, flags, fixed=Settings._fields)
        job = build(flags["fpath"], run, entries_of(Settings, flags), entries_of(Options, flags),
                    checkpoint, finished=flags.get("finished", 0))
        return train(job, run)


def entries_of(kind: type, flags: dict[str, Any]) -> Any:
    """Settings or Options (`kind`), with those of its entries that are among the flags."""
    return kind(**{name: flags[name] for name in kind._fields if name in flags})


def build(cloud_path: str | Path, run: RunFolder, settings: Settings, options: Options,
          checkpoint: Checkpoint | None = None, overwrite: bool = False,
          finished: int = 0) -> Job:
    """Read the cloud; make the network, the samples, the loss and the solver. Writes nothing.

    finished: the steps of the run that is taken further, 0 for another.

    Raises UserError where the checkpoint's run had another cloud or another number of ranks.
    """
    if options.preview:
        helper.open3d()  # fails here and not at the first preview
    check_grid(options.grid_size, settings.volume_factor)
    device, group = ranks.start(options.context, options.device_id, options.precision)
    with group.exit_on_error():
        return job_of(cloud_path, run, settings, options, checkpoint, overwrite, finished, device,
                      group)


def job_of(cloud_path: str | Path, run: RunFolder, settings: Settings, options: Options,
           checkpoint: Checkpoint | None, overwrite: bool, finished: int, device: Device,
           group: ranks.Ranks) -> Job:
    """build() on a device, of a rank of a group."""
    threads.set_count(options.threads)
    cloud = datasets.load_cloud(cloud_path, settings.knn, settings.test_rate,
                                settings.with_normals, settings.seed)
    found = schedule.normals_for(settings, cloud)
    # all is written down: a later default is not to change this run
    settings = settings._replace(test_rate=cloud.test_rate, winding=found is not None)
    settings = settings._replace(**schedule.choose(settings, cloud, group.size))
    flags = {**DEFAULTS, "fpath": str(cloud_path), "monitor_path": str(run.folder),
             **settings._asdict(), **options._asdict(), "resume": checkpoint is not None,
             "overwrite": overwrite, "finished": finished}
    info = info_of(cloud_path, cloud, group.size, flags)
    if checkpoint:
        runs.check_same(info, checkpoint.info, run.folder)
    cloud = cloud if found is None else cloud._replace(normals=found)
    mlp = MLP(settings.dims, frequencies=settings.frequencies, seed=settings.seed,
              kernel=device.kernel, arrays=checkpoint.parameters if checkpoint else None)
    mlp.open_frequencies(0)  # each step opens its own share
    info["architecture"] = mlp.architecture
    trainer = make_trainer(mlp, cloud, settings, group, checkpoint)
    zero_set = None
    if settings.mu:  # its batches do not depend on an option, which may change f's last bits
        zero_set = ZeroSet(lambda points: mlp.evaluate(points, device.rows), cloud.points,
                           schedule.dead_zone(cloud), settings.volume_factor, settings.seed)
    plan = plan_of(settings, options, len(cloud.points), group.size)._replace(finished=finished)
    rows = options.sub_batch_size or device.rows
    monitor = SurfaceMonitor(lambda points: mlp.evaluate(points, rows), cloud.held_out,
                             options.grid_size, settings.volume_factor)
    return Job(plan, trainer, monitor, zero_set, info, checkpoint, device, len(cloud.points))


def make_trainer(mlp: MLP, cloud: datasets.PointCloud, settings: Settings, group: ranks.Ranks,
                 checkpoint: Checkpoint | None) -> Trainer:
    """The samples, the loss and the solver of a network, as they were at the checkpoint."""
    sizes = (cloud, settings.batch_size, settings.uniform or settings.batch_size,
             settings.volume_factor, settings.seed, checkpoint.info["step"] if checkpoint else 0)
    count = surface_samples.PER_STEP if settings.mu else 0
    if mlp.kernel:
        samples = HostSamples(*sizes, group.rank, group.size, on_zero_set=count)
    else:
        samples = GraphSamples(*sizes, group.rank, on_zero_set=count)
    terms = losses.igr_loss(mlp, samples.x, samples.y, samples.n, settings.lam, settings.tau,
                            samples.zero_set, settings.mu)
    solver = solvers.make(settings.solver, mlp.kernel, settings.beta0, settings.beta1)
    trainer = Trainer(terms, mlp, solver, samples, group)
    if checkpoint:
        solvers.set_state_of(solver, checkpoint.state)
        if samples.zero_set:
            samples.zero_set.set_pool(surface_samples.pool_of(checkpoint.state))
    return trainer


def info_of(cloud_path: str | Path, cloud: datasets.PointCloud, size: int,
            flags: dict[str, Any]) -> dict[str, Any]:
    """What every checkpoint says of a run of `size` ranks."""
    digest = helper.fingerprint(cloud.points, cloud.held_out, cloud.sigma, cloud.normals,
                                cloud.whole)
    return {"cloud": str(Path(cloud_path).resolve()), "cloud_sha256": digest,
            "cloud_file_sha256": cloud.file_sha256,
            "frame": cloud.frame._asdict(), "volume_factor": flags["volume_factor"],
            "ranks": size, "flags": flags, "paper": is_papers(flags)}


def is_papers(flags: dict[str, Any]) -> bool:
    """Are solver, rate and loss those of the paper? Then infer.py adds no detail."""
    return all(flags[name] == getattr(PAPER, name)
               for name in ("solver", "decay", "mu", "frequencies"))


def plan_of(settings: Settings, options: Options, points: int, size: int) -> Plan:
    """The plan for a number of training points and `size` ranks."""
    per_epoch = max(1, points // (settings.batch_size * size))
    steps = settings.train_iter or settings.train_epoch * per_epoch
    # a long epoch does not put off a checkpoint, a short run has few
    save_every = min(100 * per_epoch, max(SAVE_STEPS, steps // 10))
    if options.save_interval_epoch:
        save_every = options.save_interval_epoch * per_epoch
    preview_every = (options.preview or 0) * per_epoch
    return Plan(steps, per_epoch, save_every, preview_every, settings.learning_rate,
                settings.decay)


def train(job: Job, run: RunFolder) -> Path:
    """Do this rank's part of the job. Returns the last checkpoint."""
    group = job.trainer.group
    flags = job.info["flags"]
    with group.exit_on_error():
        if group.rank:
            step_with_first_rank(job)
            return run.parameter_file(job.plan.epoch_at(job.plan.steps))
        if job.checkpoint:
            run.continue_from(job.checkpoint)
        else:
            run.begin(flags["overwrite"])
        if not flags["quiet"]:
            print(summary(job, run.folder))
        loop = TrainingLoop(job, run, save_preview)
        loop.train(flags["quiet"])
        if not flags["quiet"]:
            print(f"{loop.path} after {loop.seconds() / 60:.1f} minutes")
        return loop.path


def summary(job: Job, folder: Path) -> str:
    """What will run, in three lines."""
    flags = job.info["flags"]
    sides = ", normals by winding numbers" if flags["winding"] else ""
    batch = flags["batch_size"]
    several = f", {job.info['ranks']} ranks" if job.info["ranks"] > 1 else ""
    kernels = f", OpenBLAS kernels: {blas.loaded()}" if job.device.kernel else ""
    start = f", from step {job.steps_done} of {job.checkpoint.path}" if job.checkpoint else ""
    return (f"{flags['fpath']}: {job.points} points to train, {len(job.monitor.held_out)} held out"
            f"{sides}\nnetwork 8 x {flags['dims']} on {job.device.text}{several}{kernels}"
            f"\n{job.plan.steps} steps of {batch} + {(flags['uniform'] or batch) + batch} points, "
            f"{job.plan.per_epoch} an epoch, into {folder}{start}")


# ------------------------------------------------------------------------------- the command line


def make_parser() -> argparse.ArgumentParser:
    parser = helper.parser(__doc__)
    add = parser.add_argument
    add("-f", "--fpath", help="point cloud to fit, or a mesh, of which the vertices are taken")
    add("-m", "--monitor-path", help="run folder; made if missing")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--resume", action="store_true",
                       help="continue the run in -m from its newest good checkpoint, with the "
                       "flags it has")
    start.add_argument("--overwrite", action="store_true", help="replace the run in -m")
    settings = parser.add_argument_group("settings, which a resumed run keeps")
    add_settings(settings.add_argument)
    options = parser.add_argument_group("options, which may change when a run is resumed")
    helper.add_device_flags(options)
    add_options(options.add_argument)
    lengths = ", ".join(f"{name} {steps} of {schedule.BATCH[name]} points"
                        for name, steps in schedule.STEPS.items())
    preset = parser.add_mutually_exclusive_group()
    preset.add_argument("--quality", choices=list(schedule.STEPS),
                        help=f"length of the run in steps: {lengths}; normal with winding numbers "
                        f"{schedule.STEPS_WITH_WINDING['normal']}; of noisy points at most "
                        f"{schedule.NOISY_STEPS}")
    preset.add_argument("--paper", action="store_true",
                        help="the settings of the paper's authors: 8 x 512, Adam, 100,000 steps of "
                        "16,384 points, no term, encoding or detail of ours; other flags change "
                        "them; days on a CPU")
    parser.set_defaults(**DEFAULTS)
    return parser


def add_settings(add: Callable[..., argparse.Action]) -> None:
    """Add the flags of Settings by a parser's or a group's add_argument."""
    number = helper.number
    add("-b", "--batch-size", type=number(int, 1),
        help="surface points per step, and as many points of free space near them; default: "
        f"{schedule.BATCH['normal']}, for a draft {schedule.BATCH['draft']}")
    add("--uniform", type=number(int, 1), metavar="N",
        help="points per step anywhere in the cube of free space; default: as many as -b")
    add("-te", "--train-epoch", type=number(int, 1), help="epochs to train")
    add("-ti", "--train-iter", type=number(int, 1),
        help="steps to train, instead of -te; default, without -te: by --quality")
    add("--solver", choices=["muon", "adam"],
        help="muon: orthogonalised steps for the matrices of the hidden layers, Adam for the rest")
    add("-lr", "--learning-rate", type=number(float, above=0),
        help="the largest; a short warm-up goes before a cosine; default: "
        f"{schedule.RATE:g} with muon, twice that up to {schedule.SHORT} steps "
        f"or with normals by winding numbers; {schedule.ADAM_RATE:g} with adam")
    add("--decay", choices=["cosine", "halving"],
        help="of the rate; cosine: to 1 %% at the end; halving: by half every 2,000 steps, as the "
        "paper's authors have it")
    add("--beta0", type=number(float, 0, below=1), help="Adam's decay of the first moment")
    add("--beta1", type=number(float, 0, below=1), help="Adam's decay of the second moment")
    add("--lam", type=number(float, 0, MOST_WEIGHT), help="weight of the eikonal term")
    add("--mu", type=number(float, 0, MOST_WEIGHT),
        help="weight of the surface-to-point term, which pulls sheets, bubbles and webs without "
        "points to the nearest points; 0: the paper's loss")
    add("--frequencies", type=number(int, 0, 12), metavar="K",
        help="the network sees x beside sin and cos of 2^k x, k < K, which open one by one in the "
        "first half of the run; 0: the paper's network; default: as many as the points resolve, at "
        "most 8, and 0 for noisy points")
    add("--tau", type=number(float, 0, MOST_WEIGHT), help="weight of the normals term; default: "
        f"{schedule.TAU:g}, for normals by winding numbers {schedule.WINDING_TAU:g}")
    add("--with-normals", action="store_true", help="use the cloud's normals")
    add("--winding", action=argparse.BooleanOptionalAction,
        help="estimate normals by winding numbers; default: of many exact points, if not given")
    add("--dims", type=number(int, 8), help="width of the network; the paper has 512")
    add("-k", "--knn", type=number(int, 1),
        help="samples near the surface spread by the distance to the k-th nearest neighbour; the "
        "paper has 50, which blurs thin parts")
    add("-vf", "--volume-factor", type=number(float, 1, 100),
        help="half the side of the cube of free space; the shape's half side is 1")
    add("-tr", "--test-rate", type=number(float, 0, below=1),
        help="share of the points that is held out for evaluation; default: "
        f"{datasets.TEST_RATE:g}, of fewer than {noise.FEW} points 0")
    add("--seed", type=number(int, 0), help="of the weights, the split, the order and the samples")


def add_options(add: Callable[..., argparse.Action]) -> None:
    """Add the flags of Options, but for the device's, by a parser's or a group's add_argument."""
    number = helper.number
    add("--precision", choices=["float32", "tf32"],
        help="of matrix products on a GPU; tf32: faster, with 10 bits after the point")
    add("-sie", "--save-interval-epoch", type=number(int, 1), metavar="N",
        help="epochs between two checkpoints; default: 100, or a tenth of the run if that is less, "
        f"but at least {SAVE_STEPS} steps")
    add("--preview", type=number(int, 1), metavar="N",
        help="write a picture of the surface to preview_NNNNN.png in the run folder, every N "
        "epochs and at the end")
    add("--grid-size", type=number(int, 8),
        help="grid for the evaluation at each checkpoint and for the previews")
    add("-sb", "--sub-batch-size", type=number(int, 1),
        help="points at a time in the evaluation; default: what suits the device")
    add("--quiet", action="store_true", help="no progress bar, no summary")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags on the command line. Those that are not there are left out, not filled in:
    --resume takes them from the run."""
    parser = make_parser()
    absent = object()  # argparse fills in a default only where there is nothing yet
    everything = argparse.Namespace(**dict.fromkeys([*DEFAULTS, "paper"], absent))
    args = vars(parser.parse_args(argv, everything))
    given = {name: value for name, value in args.items() if value is not absent}
    if "resume" in given and given.keys() & {"quality", "paper"}:
        parser.error("--resume keeps the run's settings: leave out --quality and --paper")
    preset = PAPER if given.pop("paper", False) else Settings()
    own = {"train_iter"} if "train_epoch" in given else set()
    if given.get("solver", preset.solver) != preset.solver:
        own.add("learning_rate")  # the preset's is another solver's
    for name, value in preset._asdict().items():
        if value != DEFAULTS[name] and name not in own:
            given.setdefault(name, value)
    if not given.get("fpath") and "resume" not in given:
        parser.error("the following arguments are required: -f/--fpath (or --resume)")
    return argparse.Namespace(**given)


def main(args: argparse.Namespace) -> None:
    flags = dict(vars(args))
    folder = flags.get("monitor_path", DEFAULTS["monitor_path"])
    if flags.get("resume"):
        resume(folder, **flags)
    else:
        fit(flags["fpath"], folder, entries_of(Settings, flags), entries_of(Options, flags),
            overwrite=flags.get("overwrite", False))


if __name__ == "__main__":
    helper.run(main, parse_args())
