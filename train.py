"""Fit the network to a point cloud (Gropp et al., ICML 2020).

    python train.py -d 1 -f demo/knot_pcd.ply -m demo/knot -k 50 --lam 0.1

writes demo/knot/param_NNNNN.h5 (N: epoch), log.jsonl and nnabla's monitor series. The steps, over
which the rate decays, are fixed by -te (epochs) or -ti (steps). infer.py makes a mesh of a
checkpoint. A run that was stopped, in whatever way, goes on with

    python train.py --resume -m demo/knot
"""

from __future__ import annotations

import argparse
import hashlib
import math
import os
from pathlib import Path
import signal
import time
from typing import NamedTuple

import datasets
import helper
from helper import Interrupted, UserError
from igr import cameras, images, metrics, ranks, render, solvers, surface, threads
from igr.checkpoints import Run
from igr.meshes import sample_mesh
from igr.sampling import GraphSamples, HostSamples
import losses
from networks import MLP

import numpy as np
from tqdm import tqdm

LOG_EVERY = 50  # steps between two lines of log.jsonl
STEPS = 10_000  # without -te and -ti; results/study.md has the distance by steps
RATES = {"muon": 0.0025, "adam": 0.005}  # a study of both: results/study.md
SAVE_STEPS = 250  # a long epoch does not put off a checkpoint, a short run has few
WARM_UP = 100  # steps; the first ones at the full rate throw wide networks off the sphere
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # the last: the terminal is closed


class Trainer:
    """The static graph of one step and its solver."""

    def __init__(self, mlp, solver, samples, lam, tau, group):
        """solver: of solvers.py; samples: of sampling.py; group: ranks.Ranks, which step together.
        """
        self.samples, self.parameters, self.group = samples, mlp.parameters, group
        self.cheap_to_read = mlp.kernel  # the losses; on a GPU every look would wait for it
        self.terms = losses.igr_loss(mlp, samples.x, samples.y, samples.n, lam, tau)
        for term in self.terms.values():
            term.persistent = True
        self.solver = solver  # the rate is set at each step
        self.solver.set_parameters(mlp.parameters)

    def step(self, rate: float) -> None:
        """Draw, forward, backward, update; on a GPU it returns before the GPU is done."""
        self.samples.draw()
        self.solver.set_learning_rate(rate)
        self.solver.zero_grad()
        self.terms["loss"].forward(clear_no_need_grad=True)
        self.terms["loss"].backward(clear_buffer=True)
        self.group.mean_gradients(self.parameters)
        self.solver.update()

    def losses(self) -> dict:
        return {name: float(term.d) for name, term in self.terms.items()}


def cosine_rate(rate: float, step: int, steps: int) -> float:
    """Up to rate within the first WARM_UP steps, down to 1 % of it at the last."""
    warm = min(1.0, (step + 1) / min(WARM_UP, max(1, steps // 10)))
    return warm * rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def current_surface(mlp, grid_size, volume_factor, rows):
    """The mesh of the network as it is, unit frame; None where there is no surface yet."""
    grid = surface.Grid.of([-volume_factor] * 3, [volume_factor] * 3, grid_size)
    try:
        return surface.extract(lambda p: mlp.evaluate(p, rows), grid)[0]
    except UserError:
        return None


def held_out_distances(mesh, held_out) -> dict:
    """Chamfer and Hausdorff (unit frame) between a mesh and the held-out points (M, 3)."""
    samples = sample_mesh(mesh, max(len(held_out), 10_000), np.random.default_rng(0))
    return metrics.chamfer_hausdorff(samples.points, held_out)


def stop_signals() -> list:
    """Turn what asks to stop into entries of the returned list; the second one leaves at once."""
    caught = []

    def handler(signum, frame):
        if caught:  # every file is whole at any instant, so leaving here is safe
            os.write(2, b"train.py: stopped at once, without saving\n")
            os._exit(128 + signum)
        caught.append(signum)

    for signum in STOP_SIGNALS:
        if signal.getsignal(signum) != signal.SIG_IGN:  # nohup's wish
            signal.signal(signum, handler)
    return caught


# flags that may change when a run goes on: where it computes and what it says, not what it does
FREE_FLAGS = {"monitor_path", "device_id", "threads", "context", "sub_batch_size", "grid_size",
              "save_interval_epoch", "preview", "quiet", "resume", "overwrite", "fpath",
              "precision"}


def make_parser() -> argparse.ArgumentParser:
    parser = helper.parser(__doc__)
    number, add = helper.number, parser.add_argument
    add("-f", "--fpath", help="point cloud (or mesh: its vertices) to fit")
    add("-m", "--monitor-path", default="runs/tmp", help="run folder, made when missing")
    helper.add_device_flags(parser)
    add("-b", "--batch-size", type=number(int, 1), default=512,
        help="surface points a step, and as many in free space near them")
    add("--uniform", type=number(int, 1), metavar="N",
        help="points a step anywhere in the cube of free space; default: as many as -b")
    add("--precision", choices=["float32", "tf32"], default="float32",
        help="of the matrix products on a GPU; tf32: faster, with 10 bits behind the point")
    add("-te", "--train-epoch", type=number(int, 1), help="epochs to train")
    add("-ti", "--train-iter", type=number(int, 1),
        help=f"steps to train; replaces -te; default, without -te: {STEPS}")
    add("--solver", choices=["muon", "adam"], default="muon",
        help="muon: orthogonalised steps for the hidden layers' matrices, Adam's for the rest")
    add("-lr", "--learning-rate", type=number(float, above=0),
        help="after a short warm-up; it decays to 1 %% by a cosine; default: "
        + ", ".join(f"{rate:g} with {solver}" for solver, rate in RATES.items()))
    add("--beta0", type=number(float, 0, below=1), default=0.9, help="Adam's first decay")
    add("--beta1", type=number(float, 0, below=1), default=0.999, help="Adam's second decay")
    add("--lam", type=number(float, 0), default=0.1, help="weight of the eikonal term; "
        "0.03 keeps narrow folds open")
    add("--tau", type=number(float, 0), default=1.0, help="weight of the normals term")
    add("--with-normals", action="store_true", help="use the cloud's normals")
    add("--dims", type=number(int, 8), default=128, help="width of the network; the paper's is 512")
    add("-k", "--knn", type=number(int, 1), default=50,
        help="neighbour whose distance sets the spread of the samples near the surface; 10 for "
        "thin parts")
    add("-vf", "--volume-factor", type=number(float, 1), default=1.5,
        help="half the side of the cube of free space; the shape's half side is 1")
    add("-tr", "--test-rate", type=number(float, 0, below=1), default=0.25,
        help="share of the points that is held out")
    add("-sie", "--save-interval-epoch", type=number(int, 1), metavar="N",
        help="epochs between two checkpoints; default: 100, or a tenth of the run where that is "
        f"less, but not less than {SAVE_STEPS} steps")
    add("--preview", type=number(int, 1), metavar="N",
        help="every N epochs, and at the end, a picture of the surface, where there is one: "
        "preview_NNNNN.png in the run folder")
    add("--grid-size", type=number(int, 8), default=128,
        help="grid of the evaluation at each checkpoint, and of the previews")
    add("-sb", "--sub-batch-size", type=number(int, 1),
        help="points at a time in that evaluation; default: what suits the device")
    add("--seed", type=number(int, 0), default=0, help="of weights, split, order and samples")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--resume", action="store_true",
                       help="go on with the run in -m from its newest good checkpoint; other "
                       "flags are taken from there")
    start.add_argument("--overwrite", action="store_true", help="begin anew in -m")
    add("--quiet", action="store_true", help="no progress bar, no summary")
    return parser


def parse_args(argv=None) -> argparse.Namespace:
    """The flags; `given` names those that stand on the command line."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if not args.fpath and not args.resume:
        parser.error("the following arguments are required: -f/--fpath (or --resume)")
    args.learning_rate = args.learning_rate or RATES[args.solver]
    bare = make_parser()
    for action in bare._actions:
        action.default = argparse.SUPPRESS
    args.given = set(vars(bare.parse_args(argv)))
    return args


def resumed(args: argparse.Namespace, info: dict) -> argparse.Namespace:
    """The flags of a checkpoint's run with those of `args` that may change.

    Raises UserError naming every flag on the command line that contradicts the run.
    """
    saved = {"solver": "adam", **info["flags"]}  # the only one before --solver
    other = [f"--{name.replace('_', '-')} {vars(args)[name]} (the run has {saved.get(name)})"
             for name in sorted(args.given - FREE_FLAGS) if vars(args)[name] != saved.get(name)]
    if other:
        raise UserError(f"--resume cannot change {', '.join(other)}; leave it out, or begin anew "
                        "in another folder")
    free = {name: value for name, value in vars(args).items()
            if name in args.given or name in ("resume", "overwrite", "quiet", "monitor_path")}
    if saved.get("threads", 1) > helper.cores() and "threads" not in free:
        print(f"{saved['threads']} threads before, {helper.cores()} here: another rounding")
        free["threads"] = helper.cores()
    saved = {**vars(args), **saved, "fpath": info["cloud"]}
    return argparse.Namespace(**{**saved, **free, "given": args.given})


def digest(cloud: datasets.PointCloud) -> str:
    """A fingerprint of what a training sees of its cloud."""
    arrays = (cloud.points, cloud.held_out, cloud.sigma, cloud.normals)
    whole = b"".join(array.tobytes() for array in arrays if array is not None)
    return hashlib.sha256(whole).hexdigest()


def check_same(info: dict, saved: dict, folder) -> None:
    """Raises UserError where a run would go on with another cloud or other ranks."""
    if info["cloud_sha256"] != saved["cloud_sha256"]:
        raise UserError(f"{info['flags']['fpath']}: other points than the run in {folder} has seen;"
                        " --resume needs the same cloud")
    if info["ranks"] != saved.get("ranks", 1):
        raise UserError(f"{folder}: a run of {saved.get('ranks', 1)} ranks, and these are "
                        f"{info['ranks']}: mpirun -n {saved.get('ranks', 1)} goes on with it")


def check_loss(values: dict, limit: float, step: int, rate: float, path) -> None:
    """Raises UserError where the loss is not finite or above the limit."""
    if not (math.isfinite(values["loss"]) and values["loss"] <= limit):
        raise UserError(f"the loss is {values['loss']:.3g} at step {step}, rate {rate:.2g}: take a "
                        f"smaller -lr; the last good checkpoint is {path or 'none'}")


class Plan(NamedTuple):
    """What a run is to do."""

    steps: int
    per_epoch: int  # steps
    save_every: int  # steps
    preview_every: int  # steps; 0: never
    rate: float

    def rate_at(self, step: int) -> float:
        return cosine_rate(self.rate, step, self.steps)


class Fit:
    """A run on its way: the loop, the log, the checkpoints."""

    def __init__(self, plan, run, trainer, info, current_mesh, held_out, checkpoint=None):
        """info: what every checkpoint is to say; current_mesh: gives the surface as it is;
        held_out (M, 3): points to measure it by; checkpoint: of runs.py, to go on from."""
        self.plan, self.run, self.trainer, self.info = plan, run, trainer, info
        self.current_mesh, self.held_out = current_mesh, held_out
        self.done, self.path, self.first, before = 0, None, None, 0.0
        if checkpoint:
            self.done, self.path = checkpoint.info["step"], checkpoint.path
            self.first, before = checkpoint.info["first_losses"], checkpoint.info["seconds"]
        self.start = time.perf_counter() - before

    def seconds(self) -> float:
        return time.perf_counter() - self.start

    def train(self, quiet: bool) -> None:
        """Raises UserError where the loss leaps, Interrupted after a signal."""
        caught, plan = stop_signals(), self.plan
        bar = tqdm(range(self.done, plan.steps), initial=self.done, total=plan.steps,
                   disable=quiet, unit="step", dynamic_ncols=True)
        for step in bar:
            # rate; batch, forward, backward, update
            rate = plan.rate_at(step)
            self.trainer.step(rate)
            self.done = step + 1
            # log
            saving = self.done % plan.save_every == 0
            last = self.done == plan.steps or bool(caught)
            logging = last or self.done % LOG_EVERY == 0
            if logging or saving or self.trainer.cheap_to_read:
                values = self.check(rate)
            if logging:
                self.log(values, rate)
                bar.set_postfix(loss=f"{values['loss']:.2e}", rate=f"{rate:.1e}", refresh=False)
            # look at the surface and save
            previewing = plan.preview_every and (last or self.done % plan.preview_every == 0)
            mesh = None
            if not caught and (previewing or ((saving or last) and len(self.held_out))):
                mesh = self.current_mesh()
            if last or saving:
                distances = self.save(mesh)
                if caught:
                    raise Interrupted(caught[0], f"interrupted at step {self.done}, saved as "
                                      f"{self.path}; --resume -m {self.run.folder} goes on")
                if distances and not quiet:
                    bar.write(f"{self.path}: held-out Chamfer {distances['chamfer']:.4f}, "
                              f"Hausdorff {distances['hausdorff']:.4f}")
            if previewing and mesh:
                self.save_preview(mesh, bar)

    def save_preview(self, mesh, bar) -> None:
        """Write a picture of a mesh in the unit frame, always by the same camera. Where it fails,
        that is said and the training goes on."""
        path = self.run.folder / f"preview_{self.epoch:05d}.png"
        cube = np.stack(np.meshgrid([-1, 1], [-1, 1], [-1, 1]), axis=-1).reshape(-1, 3)
        style = render.Style(640, 480)
        camera = cameras.Camera.around(cube, aspect=style.aspect)
        try:
            images.save(path, render.mesh(mesh, camera, style))
        except (UserError, OSError, MemoryError) as error:
            bar.write(f"no {path}: {error}")

    @property
    def epoch(self) -> int:
        return -(-self.done // self.plan.per_epoch)

    def check(self, rate: float) -> dict:
        """The last step's losses. Raises UserError where they are not finite."""
        values = self.trainer.losses()
        self.first = self.first or values
        check_loss(values, math.inf, self.done, rate, self.path)
        return values

    def log(self, values: dict, rate: float) -> None:
        """Raises UserError where the loss has grown a hundredfold."""
        if self.done > WARM_UP:  # before, a leap may still be made good
            check_loss(values, 100 * self.first["loss"], self.done, rate, self.path)
        self.run.log.write(self.done, epoch=self.done / self.plan.per_epoch,
                           seconds=self.seconds(), rate=rate, **values)

    def save(self, mesh) -> dict:
        """Write a checkpoint; returns the mesh's distances to the held-out points, if any."""
        distances = {}
        if mesh and len(self.held_out):
            distances = held_out_distances(mesh, self.held_out)
            # first: what a resumed run finds in the log beyond its checkpoint is cut off, but what
            # is missing there would stay so
            self.run.log.write(self.done, **distances)
        info = {**self.info, "step": self.done, "first_losses": self.first,
                "seconds": self.seconds()}
        self.path = self.run.save(self.epoch, self.trainer.parameters,
                                  solvers.state_of(self.trainer.solver), info)
        return distances


def follow(plan: Plan, trainer: Trainer, done: int) -> None:
    """The loop of a rank that is not the first, which alone writes and decides to stop."""
    for signum in STOP_SIGNALS:
        signal.signal(signum, signal.SIG_IGN)
    for step in range(done, plan.steps):
        trainer.step(plan.rate_at(step))


def main(args: argparse.Namespace) -> None:
    run, checkpoint = Run(args.monitor_path), None
    if args.resume:
        checkpoint = run.newest()
        args = resumed(args, checkpoint.info)
    if args.preview:
        helper.open3d()  # says at once where it does not import
    device, group = ranks.start(args.context, args.device_id, args.precision)
    threads.set_count(args.threads)
    cloud = datasets.load_cloud(args.fpath, args.knn, args.test_rate, args.with_normals, args.seed)
    info = {"cloud": str(Path(args.fpath).resolve()), "cloud_sha256": digest(cloud),
            "frame": cloud.frame._asdict(), "volume_factor": args.volume_factor,
            "ranks": group.size,
            "flags": {name: value for name, value in vars(args).items() if name != "given"}}
    if checkpoint:
        check_same(info, checkpoint.info, run.folder)
    mlp = MLP(args.dims, seed=args.seed, kernel=device.kernel,
              arrays=checkpoint.parameters if checkpoint else None)
    info["architecture"] = mlp.architecture
    uniform, done = args.uniform or args.batch_size, checkpoint.info["step"] if checkpoint else 0
    sizes = (cloud, args.batch_size, uniform, args.volume_factor, args.seed, done)
    samples = HostSamples(*sizes) if device.kernel else GraphSamples(*sizes, group.rank)
    solver = solvers.make(args.solver, device.kernel, args.beta0, args.beta1)
    trainer = Trainer(mlp, solver, samples, args.lam, args.tau, group)
    if checkpoint:
        solvers.set_state_of(solver, checkpoint.moments)
    per_epoch = max(1, len(cloud.points) // (args.batch_size * group.size))
    steps = args.train_iter or (args.train_epoch or 0) * per_epoch or STEPS
    save_every = (args.save_interval_epoch * per_epoch if args.save_interval_epoch
                  else min(100 * per_epoch, max(SAVE_STEPS, steps // 10)))
    plan = Plan(steps, per_epoch, save_every, (args.preview or 0) * per_epoch, args.learning_rate)
    with group.failing_at_once():
        if group.rank:
            follow(plan, trainer, done)
            return
        if checkpoint:
            run.go_on(checkpoint)
        else:
            run.begin(args.overwrite)
        if not args.quiet:
            several = f", {group.size} ranks" if group.size > 1 else ""
            print(f"{args.fpath}: {len(cloud.points)} points to train, {len(cloud.held_out)} held "
                  f"out\nnetwork 8 x {args.dims} on {device.text}{several}\n"
                  f"{plan.steps} steps of {args.batch_size} + {uniform + args.batch_size} points, "
                  f"{per_epoch} an epoch, into {run.folder}"
                  + (f", from step {done} of {checkpoint.path}" if checkpoint else ""))

        def current_mesh():
            return current_surface(mlp, args.grid_size, args.volume_factor,
                                   args.sub_batch_size or device.rows)

        fit = Fit(plan, run, trainer, info, current_mesh, cloud.held_out, checkpoint)
        fit.train(args.quiet)
        if not args.quiet:
            print(f"{fit.path} after {fit.seconds() / 60:.1f} minutes")


if __name__ == "__main__":
    helper.run(main, parse_args())
