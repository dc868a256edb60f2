"""Seconds of one training step: ours, nnabla's graph on the CPU, PyTorch, the matrix products.

    python benchmarks/step.py --json benchmarks/step.json
    python benchmarks/step.py --context cuda --torch-python python3 --batch 512 16384 \\
        --uniform 512 2048 --json benchmarks/step-cuda.json

All contestants run in turn in one process tree, with Adam; "muon" is ours with the solver that is
train.py's default. On the CPU the floor is the step's matrix products alone, cut into shards and
threads as the kernel does. On a GPU one large matrix product of nnabla's tells what rate there is
to reach. PyTorch runs eagerly: its compiler has no double backward.
"""

from __future__ import annotations

from common import alternate, begin, parser, ratios, report, run, timed, waiting
import datasets
from helper import UserError
from igr.backend import blas, ranks, threads
from igr.geometry.frames import Frame
from igr.training import loop, sampling, solvers
import losses
import networks

import nnabla as nn
import nnabla.functions as F
import numpy as np

SIDE = 8192  # of the matrices whose product tells the GPU's rate


def our_step(dims: int, batch: int, uniform: int, kernel: bool, solver: str = "adam"):
    """One step of train.py's loop, batch and samples included; with Adam, as the others."""
    rng = np.random.default_rng(0)
    points = rng.uniform(-1, 1, (100_000, 3)).astype(np.float32)
    sigma = np.full((100_000, 1), 0.05, np.float32)
    cloud = datasets.PointCloud(points, None, sigma, points[:0], Frame())
    make = sampling.HostSamples if kernel else sampling.GraphSamples
    samples = make(cloud, sampling.Sizes(batch, uniform, 1.5), 0)
    mlp = networks.MLP(networks.Architecture(dims), kernel=kernel)
    terms = losses.igr_loss(mlp, samples, losses.Weights())
    trainer = loop.Trainer(terms, mlp, solvers.make(solver, kernel),
                               samples, ranks.Ranks())
    return lambda: trainer.step(1e-4)


def flop(dims: int, batch: int, uniform: int) -> int:
    """Of a step's matrix products: three a layer for the surface points and six for the others."""
    rows = 3 * batch + 6 * (uniform + batch)
    return sum(2 * i * o * rows for i, o in networks.layer_shapes(dims))


def product(side: int):
    """One matrix product by nnabla's affine function."""
    a, b = (nn.Variable((side, side)) for _ in range(2))
    a.data.fill(1)
    b.data.fill(1)
    a.persistent = b.persistent = True
    y = F.affine(a, b)
    return y.forward


def products(dims: int, batch: int):
    """The step's matrix products: six a layer for the 2 batch points of the eikonal term (two of
    them as one over stacked rows), three a layer for the surface points."""
    rng = np.random.default_rng(0)
    shapes = networks.layer_shapes(dims)[:-1]

    def shard(rows, stacked):
        made = []
        for i, o in shapes:
            h, e = (rng.standard_normal((stacked * rows, size)) for size in (i, o))
            made.append([a.astype(np.float32) for a in
                         (h, e, rng.standard_normal((i, o)), h[:rows] @ np.ones((i, o)),
                          e[:rows] @ np.ones((o, i)), np.empty((i, o)))])
        return rows, stacked, made

    n = threads.count()
    shards = [[shard(rows // n, stacked) for rows, stacked in ((batch, 1), (2 * batch, 2))]
              for _ in range(n)]

    def run_shard(parts):
        for rows, stacked, made in parts:
            for layer, (h, e, w, z, v, dw) in enumerate(made):
                for _ in range(stacked):
                    np.matmul(h[:rows], w, out=z)
                    if layer:
                        np.matmul(e[:rows], w.T, out=v)
                np.matmul(h.T, e, out=dw)

    return lambda: threads.map(run_shard, shards)


def cpu_row(args, twin, order, dims: int, batch: int, uniform: int) -> dict:
    contestants = {"ours": timed(our_step(dims, batch, uniform, True)),
                   "muon": timed(our_step(dims, batch, uniform, True, "muon"))}
    if uniform == batch:
        contestants["floor"] = timed(products(dims, batch))
    if twin:
        contestants["torch"] = twin.timer(**order)
    row = alternate(contestants, args.rounds, args.repeat)
    if not args.no_graph:
        row["nnabla_graph"] = alternate(
            {"graph": timed(our_step(dims, batch, uniform, False))}, 2, 1)["graph"]
    return row


def graph_row(args, device, twin, order, dims: int, batch: int, uniform: int) -> dict:
    """Seconds, and TFLOP/s of our step and of one large product, ours and PyTorch's."""
    wait, side = waiting(device), SIDE if device.cuda else 512
    contestants = {"ours": timed(our_step(dims, batch, uniform, False), wait),
                   "muon": timed(our_step(dims, batch, uniform, False, "muon"), wait),
                   "product": timed(product(side), wait)}
    if twin:
        contestants["torch"] = twin.timer(**order)
        contestants["torch_product"] = twin.timer(**{**order, "task": "product", "side": side})
    row = alternate(contestants, args.rounds, args.repeat)
    row["tflops"] = flop(dims, batch, uniform) / row["ours"] / 1e12
    for name in ("product", "torch_product"):
        if name in row:
            row[f"{name}_tflops"] = 2 * side**3 / row.pop(name) / 1e12
    row["share_of_product"] = row["tflops"] / row["product_tflops"]
    return row


def main(args) -> None:
    device, twin, shared = begin(args)
    uniform, rows = args.uniform or args.batch, []
    if len(uniform) != len(args.batch):
        raise UserError("--uniform takes as many numbers as --batch")
    for dims in args.dims:
        for size in zip(args.batch, uniform):
            order = {**shared, "task": "step", "dims": dims, "batch": size[0], "uniform": size[1]}
            row = {"dims": dims, "core_type": blas.loaded(), "batch": size[0], "uniform": size[1],
                   "precision": args.precision}
            row.update(cpu_row(args, twin, order, dims, *size) if device.kernel else
                       graph_row(args, device, twin, order, dims, *size))
            rows.append(ratios(row))
    report(rows, args.json)


if __name__ == "__main__":
    made = parser(__doc__)
    made.add_argument("--batch", type=int, nargs="+", default=[512],
                      help="surface points, and as many near them")
    made.add_argument("--uniform", type=int, nargs="+",
                      help="points in the cube, for each --batch; default: as many")
    run(main, made.parse_args())
