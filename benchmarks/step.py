"""Seconds of one training step: ours, nnabla's graph on the CPU, PyTorch, the matrix products.

    python benchmarks/step.py --json benchmarks/step.json

All contestants run in turn in one process tree; the floor is the step's matrix products alone, cut
into shards and threads as the kernel does.
"""

from __future__ import annotations

import time

from common import alternate, begin, helper, kernels, parser, report
import datasets
import networks
import solvers
import train

import numpy as np


def timed(function):
    """repeat -> seconds of each run of function()."""

    def run(repeat):
        seconds = []
        for _ in range(repeat):
            start = time.perf_counter()
            function()
            seconds.append(time.perf_counter() - start)
        return seconds

    return run


def our_step(dims: int, batch: int, kernel: bool):
    """One step of train.py's loop, batch and samples included."""
    rng = np.random.default_rng(0)
    points = rng.uniform(-1, 1, (100_000, 3)).astype(np.float32)
    sigma = np.full((100_000, 1), 0.05, np.float32)
    mlp = networks.MLP(dims, kernel=kernel)
    solver = solvers.make("adam", kernel, 0.9, 0.999)  # as the others
    trainer = train.Trainer(mlp, solver, batch, False, 0.1, 1.0)
    order = datasets.batches(len(points), batch, 0)

    def step():
        index = next(order)
        x = points[index]
        trainer.feed(x, datasets.free_space(x, sigma[index], 1.5, rng))
        trainer.step(1e-4)

    return step


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

    n = kernels.threads()
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

    return lambda: kernels._map(run_shard, shards)


def main(args) -> None:
    twin, rows = begin(args), []
    for dims in args.dims:
        contestants = {"ours": timed(our_step(dims, args.batch, True)),
                       "floor": timed(products(dims, args.batch))}
        if twin:
            contestants["torch"] = twin.timer(task="step", dims=dims, batch=args.batch,
                                              device="cpu")
        row = {"dims": dims, "batch": args.batch,
               **alternate(contestants, args.rounds, args.repeat)}
        if not args.no_graph:
            row["nnabla_graph"] = alternate(
                {"graph": timed(our_step(dims, args.batch, False))}, 2, 1)["graph"]
        row["ratio_floor"] = row["ours"] / row["floor"]
        if twin:
            row["ratio_torch"] = row["ours"] / row["torch"]
        rows.append(row)
    report(rows, ["dims", "batch", "ours", "nnabla_graph", "torch", "floor", "ratio_torch",
                  "ratio_floor"], args.json)


if __name__ == "__main__":
    made = parser(__doc__)
    made.add_argument("--batch", type=int, default=512, help="surface points; twice as many free")
    helper.run(main, made.parse_args())
