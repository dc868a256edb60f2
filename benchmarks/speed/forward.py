"""Measure points a second of f(x): ours, nnabla's graph on the CPU, PyTorch, the matrix products.

    python -m benchmarks.speed.forward --json benchmarks/speed/forward.json
    python -m benchmarks.speed.forward --context cuda --torch-python python3 --points 1048576 \\
        --json forward-cuda.json

From numpy arrays to numpy arrays, the way to a GPU and back included, in the batches of infer.py.
"""

from __future__ import annotations

from benchmarks.common import report
from benchmarks.speed.contestants import alternate, begin, parser, ratios, run, timed
from igr.backend import blas, threads
from igr.field import inference
import networks

import numpy as np


def products(dims: int, points: int):
    """The matrix products of the forward pass alone, in the kernel's blocks and threads."""
    rng = np.random.default_rng(0)
    shapes = networks.layer_shapes(dims)[:-1]
    weights = [rng.standard_normal(s).astype(np.float32) for s in shapes]

    block = inference.block_of(dims)

    def run_shard(blocks):
        h = [np.ones((i, block.columns), np.float32) for i, _ in shapes]
        z = [np.empty((o, block.columns), np.float32) for _, o in shapes]
        for _ in range(blocks.stop - blocks.start):
            for a, w, out in zip(h, weights, z):
                np.matmul(w.T, a, out=out)

    shards = threads.slices(-(-points // block.points), threads.count())
    return lambda: threads.map(run_shard, shards)


def main(args) -> None:
    contest = begin(args)
    device = contest.device
    rows = []
    x = np.random.default_rng(0).uniform(-1.5, 1.5, (args.points, 3)).astype(np.float32)
    for dims in args.dims:
        mlp, graph = (networks.MLP(networks.Architecture(dims), kernel)
                      for kernel in (device.kernel, False))
        contestants = {"ours": timed(lambda mlp=mlp: mlp.evaluate(x, device.rows))}
        if device.kernel:
            contestants["floor"] = timed(products(dims, args.points))
        if contest.twin:
            order = contest.order(task="forward", dims=dims, points=args.points,
                                  rows=device.rows if device.cuda else 16384)
            contestants["torch"] = contest.twin.timer(**order)
            if not device.kernel:
                contestants["torch_compile"] = contest.twin.timer(**order, compile=True)
        found = contest.alternate(contestants)
        row = {"dims": dims, "core_type": blas.loaded(), "precision": args.precision,
               **{name: args.points / s for name, s in found.items()}}
        if device.kernel and not args.no_graph:
            seconds = alternate({"graph": timed(lambda g=graph: g.evaluate(x[:2048]))}, 2, 1)
            row["nnabla_graph"] = 2048 / seconds["graph"]
        if not device.kernel:
            shapes = networks.layer_shapes(dims)
            row["tflops"] = row["ours"] * sum(2 * i * o for i, o in shapes) / 1e12
        rows.append(ratios(row))
    report(rows, args.json)


if __name__ == "__main__":
    made = parser(__doc__)
    made.add_argument("--points", type=int, default=65536, help="points a run")
    run(main, made.parse_args())
