"""Fit the network to a point cloud (Gropp et al., ICML 2020).

    python train.py -d 1 -f demo/knot_pcd.ply -m demo/knot -k 50 --lam 0.1

writes demo/knot/param_NNNNN.h5 (N: epoch), log.jsonl and nnabla's monitor series. Steps and rate
decay are fixed by -te (epochs) or -ti (steps). infer.py makes a mesh of a checkpoint.
"""

from __future__ import annotations

import argparse
import json
import math
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
import surface

import nnabla as nn
import nnabla.monitor as M
import nnabla.solvers as S
import numpy as np
from tqdm import tqdm

LOG_EVERY = 50  # steps between two lines of log.jsonl


class Trainer:
    """The static graph of one step and its solver."""

    def __init__(self, mlp, batch_size, with_normals, lam, tau, beta0, beta1):
        self.x = nn.Variable((batch_size, 3))
        self.y = nn.Variable((2 * batch_size, 3))
        self.n = nn.Variable((batch_size, 3)) if with_normals else None
        self.terms = losses.igr_loss(mlp, self.x, self.y, self.n, lam, tau)
        for term in self.terms.values():
            term.persistent = True
        make_solver = kernels.Adam if mlp.kernel else S.Adam
        self.solver = make_solver(beta1=beta0, beta2=beta1)  # the rate is set at each step
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
    """rate at the first step, 1 % of it at the last."""
    return rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / steps)))


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


class RunLog:
    """log.jsonl and nnabla's monitor series of a run folder."""

    def __init__(self, folder: Path):
        self.file = open(folder / "log.jsonl", "w", buffering=1)
        self.monitor, self.series = M.Monitor(str(folder)), {}

    def write(self, step: int, **values) -> None:
        self.file.write(json.dumps({"step": step, **values}) + "\n")
        for name, value in values.items():
            if name not in self.series:
                self.series[name] = M.MonitorSeries(name, self.monitor, interval=1, verbose=False)
            self.series[name].add(step, value)


def stop_signals() -> list:
    """Turn SIGINT and SIGTERM into entries of the returned list; the second one leaves at once."""
    caught = []

    def handler(signum, frame):
        if caught:
            raise KeyboardInterrupt
        caught.append(signum)

    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, handler)
    return caught


def parse_args(argv=None) -> argparse.Namespace:
    parser = helper.parser(__doc__)
    number, add = helper.number, parser.add_argument
    add("-f", "--fpath", required=True, help="point cloud (or mesh: its vertices) to fit")
    add("-m", "--monitor-path", default="runs/tmp", help="run folder, made when missing")
    helper.add_device_flags(parser)
    add("-b", "--batch-size", type=number(int, 1), default=512,
        help="surface points a step; twice as many in free space")
    add("-te", "--train-epoch", type=number(int, 1), default=1500, help="epochs to train")
    add("-ti", "--train-iter", type=number(int, 1), help="steps to train; replaces -te")
    add("-lr", "--learning-rate", type=number(float, above=0), default=5e-3,
        help="Adam's rate at the start; it decays to 1 %% by a cosine")
    add("--beta0", type=number(float, 0, below=1), default=0.9, help="Adam's first decay")
    add("--beta1", type=number(float, 0, below=1), default=0.999, help="Adam's second decay")
    add("--lam", type=number(float, 0), default=0.1, help="weight of the eikonal term")
    add("--tau", type=number(float, 0), default=1.0, help="weight of the normals term")
    add("--with-normals", action="store_true", help="use the cloud's normals")
    add("--dims", type=number(int, 8), default=512, help="width of the network")
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
    add("--quiet", action="store_true", help="no progress bar, no summary")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    device = helper.set_context(args.context, args.device_id)
    kernels.set_threads(args.threads)
    cloud = datasets.load(args.fpath, args.knn, args.test_rate, args.with_normals, args.seed)
    mlp = MLP(args.dims, seed=args.seed, kernel=device.kernel)
    trainer = Trainer(mlp, args.batch_size, args.with_normals, args.lam, args.tau,
                      args.beta0, args.beta1)
    per_epoch = max(1, len(cloud.points) // args.batch_size)
    steps = args.train_iter or args.train_epoch * per_epoch
    folder = Path(args.monitor_path)
    folder.mkdir(parents=True, exist_ok=True)
    log, start = RunLog(folder), time.perf_counter()
    if not args.quiet:
        print(f"{args.fpath}: {len(cloud.points)} points to train, {len(cloud.held_out)} held out\n"
              f"network 8 x {args.dims} on {device.text}\n"
              f"{steps} steps of {args.batch_size} + {2 * args.batch_size} points, "
              f"{per_epoch} an epoch, into {folder}")

    def save(step: int) -> Path:
        epoch = -(-step // per_epoch)
        path = folder / f"param_{epoch:05d}.h5"
        helper.save_checkpoint(path, mlp.parameters, {
            "architecture": mlp.architecture, "frame": cloud.frame._asdict(),
            "volume_factor": args.volume_factor, "epoch": epoch, "step": step,
            "cloud": str(Path(args.fpath).resolve()), "flags": vars(args),
        })
        return path

    caught, path = stop_signals(), None
    order = datasets.batches(len(cloud.points), args.batch_size, args.seed)
    bar = tqdm(range(steps), disable=args.quiet, unit="step", dynamic_ncols=True)
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
        # log
        if done % LOG_EVERY == 0 or done == steps or caught:
            values = trainer.losses()
            if not math.isfinite(values["loss"]):
                raise UserError(
                    f"the loss is {values['loss']} at step {done}, rate {rate:.2g}: take a smaller "
                    f"-lr; the last good checkpoint is {path or 'none'}"
                )
            log.write(done, epoch=done / per_epoch, seconds=time.perf_counter() - start,
                      rate=rate, **values)
            bar.set_postfix(loss=f"{values['loss']:.2e}", rate=f"{rate:.1e}", refresh=False)
        # save and evaluate
        if done == steps or caught or done % (args.save_interval_epoch * per_epoch) == 0:
            path = save(done)
            if caught:
                raise Interrupted(caught[0], f"interrupted at step {done}, saved as {path}")
            distances = held_out_distances(mlp, cloud.held_out, args.grid_size,
                                           args.volume_factor, args.sub_batch_size)
            log.write(done, **distances)
            if distances and not args.quiet:
                bar.write(f"{path}: held-out Chamfer {distances['chamfer']:.4f}, "
                          f"Hausdorff {distances['hausdorff']:.4f}")
    if not args.quiet:
        print(f"{path} after {(time.perf_counter() - start) / 60:.1f} minutes")


if __name__ == "__main__":
    helper.run(main, parse_args())
