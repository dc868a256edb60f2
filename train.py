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

import datasets
from geometry import sample_mesh
import helper
from helper import Interrupted, UserError
import kernels
import losses
import metrics
from networks import MLP
from runs import Run
import solvers
import surface

import nnabla as nn
import numpy as np
from tqdm import tqdm

LOG_EVERY = 50  # steps between two lines of log.jsonl
STEPS = 10_000  # without -te and -ti; results/study.md has the distance by steps
WARM_UP = 100  # steps; the first ones at the full rate throw wide networks off the sphere


class Trainer:
    """The static graph of one step and its solver."""

    def __init__(self, mlp, solver, batch_size, with_normals, lam, tau):
        self.x = nn.Variable((batch_size, 3))
        self.y = nn.Variable((2 * batch_size, 3))
        self.n = nn.Variable((batch_size, 3)) if with_normals else None
        self.terms = losses.igr_loss(mlp, self.x, self.y, self.n, lam, tau)
        for term in self.terms.values():
            term.persistent = True
        self.solver = solver  # the rate is set at each step
        self.solver.set_parameters(mlp.parameters)

    def feed(self, x, y, n=None) -> None:
        self.x.d, self.y.d = x, y
        if n is not None:
            self.n.d = n

    def step(self, rate: float) -> None:
        self.solver.set_learning_rate(rate)
        self.solver.zero_grad()
        self.terms["loss"].forward(clear_no_need_grad=True)
        self.terms["loss"].backward(clear_buffer=True)
        self.solver.update()

    def losses(self) -> dict:
        return {name: float(term.d) for name, term in self.terms.items()}


def cosine_rate(rate: float, step: int, steps: int) -> float:
    """Up to rate within the first WARM_UP steps, down to 1 % of it at the last."""
    warm = min(1.0, (step + 1) / min(WARM_UP, max(1, steps // 10)))
    return warm * rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def held_out_distances(mlp, held_out, grid_size, volume_factor, batch_size) -> dict:
    """Chamfer and Hausdorff (unit frame) between the current surface and the held-out points
    (M, 3); empty where there is no surface yet or nothing was held out."""
    if len(held_out) == 0:
        return {}
    grid = surface.Grid.of([-volume_factor] * 3, [volume_factor] * 3, grid_size)
    try:
        mesh, _ = surface.extract(lambda p: mlp.evaluate(p, batch_size), grid)
    except UserError:
        return {}
    samples = sample_mesh(mesh, max(len(held_out), 10_000), np.random.default_rng(0))
    return metrics.chamfer_hausdorff(samples.points, held_out)


def stop_signals() -> list:
    """Turn SIGINT and SIGTERM into entries of the returned list; the second one leaves at once."""
    caught = []

    def handler(signum, frame):
        if caught:  # every file is whole at any instant, so leaving here is safe
            os.write(2, b"train.py: stopped at once, without saving\n")
            os._exit(128 + signum)
        caught.append(signum)

    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, handler)
    return caught


# flags that may change when a run goes on: where it computes and what it says, not what it does
FREE_FLAGS = {"monitor_path", "device_id", "threads", "context", "sub_batch_size", "grid_size",
              "save_interval_epoch", "quiet", "resume", "overwrite", "fpath"}


def make_parser() -> argparse.ArgumentParser:
    parser = helper.parser(__doc__)
    number, add = helper.number, parser.add_argument
    add("-f", "--fpath", help="point cloud (or mesh: its vertices) to fit")
    add("-m", "--monitor-path", default="runs/tmp", help="run folder, made when missing")
    helper.add_device_flags(parser)
    add("-b", "--batch-size", type=number(int, 1), default=512,
        help="surface points a step; twice as many in free space")
    add("-te", "--train-epoch", type=number(int, 1), help="epochs to train")
    add("-ti", "--train-iter", type=number(int, 1),
        help=f"steps to train; replaces -te; default, without -te: {STEPS}")
    add("--solver", choices=["muon", "adam"], default="muon",
        help="muon: orthogonalised steps for the hidden layers' matrices, Adam's for the rest")
    add("-lr", "--learning-rate", type=number(float, above=0), default=5e-3,
        help="of both solvers, after a short warm-up; it decays to 1 %% by a cosine")
    add("--beta0", type=number(float, 0, below=1), default=0.9, help="Adam's first decay")
    add("--beta1", type=number(float, 0, below=1), default=0.999, help="Adam's second decay")
    add("--lam", type=number(float, 0), default=0.1, help="weight of the eikonal term")
    add("--tau", type=number(float, 0), default=1.0, help="weight of the normals term")
    add("--with-normals", action="store_true", help="use the cloud's normals")
    add("--dims", type=number(int, 8), default=128, help="width of the network; the paper's is 512")
    add("-k", "--knn", type=number(int, 1), default=50,
        help="neighbour whose distance sets the spread of the samples near the surface")
    add("-vf", "--volume-factor", type=number(float, 1), default=1.5,
        help="half the side of the cube of free space; the shape's half side is 1")
    add("-tr", "--test-rate", type=number(float, 0, below=1), default=0.25,
        help="share of the points that is held out")
    add("-sie", "--save-interval-epoch", type=number(int, 1), default=100,
        help="epochs between two checkpoints")
    add("--grid-size", type=number(int, 8), default=128,
        help="grid of the evaluation at each checkpoint")
    add("-sb", "--sub-batch-size", type=number(int, 1), default=16384,
        help="points at a time in that evaluation")
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
    saved = {**vars(args), **saved, "fpath": info["cloud"]}
    return argparse.Namespace(**{**saved, **free, "given": args.given})


def digest(cloud: datasets.PointCloud) -> str:
    """A fingerprint of what a training sees of its cloud."""
    arrays = (cloud.points, cloud.held_out, cloud.sigma, cloud.normals)
    whole = b"".join(array.tobytes() for array in arrays if array is not None)
    return hashlib.sha256(whole).hexdigest()


def check_loss(values: dict, limit: float, step: int, rate: float, path) -> None:
    """Raises UserError where the loss is not finite or above the limit."""
    if not (math.isfinite(values["loss"]) and values["loss"] <= limit):
        raise UserError(f"the loss is {values['loss']:.3g} at step {step}, rate {rate:.2g}: take a "
                        f"smaller -lr; the last good checkpoint is {path or 'none'}")


def main(args: argparse.Namespace) -> None:
    run, checkpoint = Run(args.monitor_path), None
    if args.resume:
        checkpoint = run.newest()
        args = resumed(args, checkpoint.info)
    device = helper.set_context(args.context, args.device_id)
    kernels.set_threads(args.threads)
    cloud = datasets.load(args.fpath, args.knn, args.test_rate, args.with_normals, args.seed)
    mlp = MLP(args.dims, seed=args.seed, kernel=device.kernel,
              arrays=checkpoint.parameters if checkpoint else None)
    solver = solvers.make(args.solver, device.kernel, args.beta0, args.beta1)
    trainer = Trainer(mlp, solver, args.batch_size, args.with_normals, args.lam, args.tau)
    per_epoch = max(1, len(cloud.points) // args.batch_size)
    steps = args.train_iter or (args.train_epoch or 0) * per_epoch or STEPS
    info = {"architecture": mlp.architecture, "frame": cloud.frame._asdict(),
            "volume_factor": args.volume_factor, "cloud": str(Path(args.fpath).resolve()),
            "cloud_sha256": digest(cloud),
            "flags": {name: value for name, value in vars(args).items() if name != "given"}}
    done, path, first, before = 0, None, None, 0.0
    if checkpoint:
        if checkpoint.info["cloud_sha256"] != info["cloud_sha256"]:
            raise UserError(f"{args.fpath}: other points than the run in {run.folder} has seen; "
                            "--resume needs the same cloud")
        solvers.set_state_of(solver, checkpoint.moments)
        done, path, first, before = (checkpoint.info["step"], checkpoint.path,
                                     checkpoint.info["first_losses"], checkpoint.info["seconds"])
        run.go_on(checkpoint)
    else:
        run.begin(args.overwrite)
    if not args.quiet:
        print(f"{args.fpath}: {len(cloud.points)} points to train, {len(cloud.held_out)} held out\n"
              f"network 8 x {args.dims} on {device.text}\n"
              f"{steps} steps of {args.batch_size} + {2 * args.batch_size} points, "
              f"{per_epoch} an epoch, into {run.folder}"
              + (f", from step {done} of {path}" if path else ""))

    caught, start = stop_signals(), time.perf_counter() - before
    order = datasets.batches(len(cloud.points), args.batch_size, args.seed, done)
    bar = tqdm(range(done, steps), initial=done, total=steps, disable=args.quiet, unit="step",
               dynamic_ncols=True)
    for step in bar:
        # rate
        rate = cosine_rate(args.learning_rate, step, steps)
        # batch
        index = next(order)
        x = cloud.points[index]
        rng = np.random.default_rng((args.seed, 1, step))
        y = datasets.free_space(x, cloud.sigma[index], args.volume_factor, rng)
        trainer.feed(x, y, cloud.normals[index] if args.with_normals else None)
        # forward, backward, update
        trainer.step(rate)
        done = step + 1
        # log; on a GPU every look at the loss would wait for it
        saving = done % (args.save_interval_epoch * per_epoch) == 0
        last = done == steps or bool(caught)
        if device.kernel or last or saving or done % LOG_EVERY == 0:
            values = trainer.losses()
            first = first or values
            check_loss(values, math.inf, done, rate, path)
        if last or done % LOG_EVERY == 0:
            if done > WARM_UP:  # before, a leap may still be made good
                check_loss(values, 100 * first["loss"], done, rate, path)
            run.log.write(done, epoch=done / per_epoch, seconds=time.perf_counter() - start,
                          rate=rate, **values)
            bar.set_postfix(loss=f"{values['loss']:.2e}", rate=f"{rate:.1e}", refresh=False)
        # evaluate and save; the log first, since what a resumed run finds in it beyond its
        # checkpoint is cut off, and what is missing would stay so
        if last or saving:
            distances = {} if caught else held_out_distances(
                mlp, cloud.held_out, args.grid_size, args.volume_factor, args.sub_batch_size)
            if distances:
                run.log.write(done, **distances)
            path = run.save(-(-done // per_epoch), mlp.parameters,
                            solvers.state_of(solver),
                            {**info, "step": done, "first_losses": first,
                             "seconds": time.perf_counter() - start})
            if caught:
                raise Interrupted(caught[0], f"interrupted at step {done}, saved as {path}; "
                                  f"--resume -m {run.folder} goes on")
            if distances and not args.quiet:
                bar.write(f"{path}: held-out Chamfer {distances['chamfer']:.4f}, "
                          f"Hausdorff {distances['hausdorff']:.4f}")
    if not args.quiet:
        print(f"{path} after {(time.perf_counter() - start) / 60:.1f} minutes")


if __name__ == "__main__":
    helper.run(main, parse_args())
