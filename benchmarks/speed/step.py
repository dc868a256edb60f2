"""Time one training step: ours, nnabla's graph on the CPU, PyTorch, the matrix products.

    python -m benchmarks.speed.step --json benchmarks/speed/step.json
    python -m benchmarks.speed.step --context cuda --torch-python python3 --batch 512 16384 \\
        --uniform 512 2048 --json step-cuda.json

All contestants run in turn in one process tree, with Adam; "muon" is ours with the solver that is
train.py's default. On the CPU the floor is the step's matrix products alone, cut into shards and
threads as the kernel does. On a GPU one large matrix product of nnabla's tells what rate there is
to reach. PyTorch runs eagerly: its compiler has no double backward.
"""

from __future__ import annotations

from typing import NamedTuple

from benchmarks.common import report
from benchmarks.speed.contestants import (
    Contest,
    alternate,
    begin,
    parser,
    ratios,
    run,
    timed,
    waiting,
)
import datasets
from helper import UserError
from igr.backend import blas, threads
from igr.geometry.frames import Frame
from igr.training import loop, sampling, solvers
import losses
import networks

import nnabla as nn
import nnabla.functions as F
import numpy as np

SIDE = 8192  # of the matrices whose product tells the GPU's rate


class Size(NamedTuple):
    """Sizes that determine the cost of a step."""

    dims: int  # width of the network
    batch: int  # points of the surface, and as many near it
    uniform: int  # points in the cube


def our_step(dims: int, batch: int, uniform: int, kernel: bool, solver: str = "adam"):
    """One step of train.py's loop, batch and samples included; with Adam, as the others."""
    rng = np.random.default_rng(0)
    points = rng.uniform(-1, 1, (100_000, 3)).astype(np.float32)
    sigma = np.full((100_000, 1), 0.05, np.float32)
    cloud = datasets.PointCloud(points, None, sigma, points[:0], Frame())
    make = sampling.HostSamples if kernel else sampling.GraphSamples
    samples = make(cloud, sampling.Sizes(batch, uniform, batch, 1.5), 0)
    mlp = networks.MLP(networks.Architecture(dims), kernel=kernel)
    terms = losses.igr_loss(mlp, samples, losses.Weights())
    trainer = loop.Trainer(terms, mlp, solvers.make(solver, kernel),
                               samples)
    return lambda: trainer.step(1e-4)


def flop(dims: int, batch: int, uniform: int) -> int:
    """Count the floating-point operations of a step's matrix products: three a
    layer for the surface points and six for the others."""
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
            for layer, arrays in enumerate(made):
                run_layer(rows, stacked, layer, arrays)

    def run_layer(rows, stacked, layer, arrays):
        h, e, w, z, v, dw = arrays
        for _ in range(stacked):
            np.matmul(h[:rows], w, out=z)
            if layer:
                np.matmul(e[:rows], w.T, out=v)
        np.matmul(h.T, e, out=dw)

    return lambda: threads.map(run_shard, shards)


def cpu_row(contest: Contest, size: Size) -> dict:
    """Time a step by the CPU's kernel, PyTorch, nnabla's graph, the products alone."""
    contestants = {"ours": timed(our_step(*size, True)),
                   "muon": timed(our_step(*size, True, "muon"))}
    if size.uniform == size.batch:
        contestants["floor"] = timed(products(size.dims, size.batch))
    if contest.twin:
        contestants["torch"] = contest.twin.timer(**contest.order(task="step", **size._asdict()))
    row = contest.alternate(contestants)
    if not contest.args.no_graph:
        row["nnabla_graph"] = alternate({"graph": timed(our_step(*size, False))}, 2, 1)["graph"]
    return row


def graph_row(contest: Contest, size: Size) -> dict:
    """Time a step in nnabla's graph, with TFLOP/s of it and of one large product, ours and
    PyTorch's."""
    wait, side = waiting(contest.device), SIDE if contest.device.cuda else 512
    contestants = {"ours": timed(our_step(*size, False), wait),
                   "muon": timed(our_step(*size, False, "muon"), wait),
                   "product": timed(product(side), wait)}
    if contest.twin:
        timer = contest.twin.timer
        contestants["torch"] = timer(**contest.order(task="step", **size._asdict()))
        contestants["torch_product"] = timer(**contest.order(task="product", side=side))
    row = contest.alternate(contestants)
    row["tflops"] = flop(*size) / row["ours"] / 1e12
    for name in ("product", "torch_product"):
        if name in row:
            row[f"{name}_tflops"] = 2 * side**3 / row.pop(name) / 1e12
    row["share_of_product"] = row["tflops"] / row["product_tflops"]
    return row


def main(args) -> None:
    uniform, rows = args.uniform or args.batch, []
    if len(uniform) != len(args.batch):
        raise UserError("--uniform takes as many numbers as --batch")
    contest = begin(args)
    measure = cpu_row if contest.device.kernel else graph_row
    for dims in args.dims:
        for batch, in_cube in zip(args.batch, uniform):
            size = Size(dims, batch, in_cube)
            row = {"dims": dims, "core_type": blas.loaded(), "batch": batch, "uniform": in_cube,
                   "precision": args.precision, **measure(contest, size)}
            rows.append(ratios(row))
    report(rows, args.json)


if __name__ == "__main__":
    made = parser(__doc__)
    made.add_argument("--batch", type=int, nargs="+", default=[512],
                      help="surface points, and as many near them")
    made.add_argument("--uniform", type=int, nargs="+",
                      help="points in the cube, for each --batch; default: as many")
    run(main, made.parse_args())
