"""Points a second of f(x): ours, nnabla's graph on the CPU, PyTorch, the matrix products.

    python benchmarks/forward.py --json benchmarks/forward.json
"""

from __future__ import annotations

from common import alternate, begin, helper, kernels, parser, report
import networks
from step import timed

import numpy as np


def products(dims: int, points: int):
    """The matrix products of the forward pass alone, in the kernel's blocks and threads."""
    rng = np.random.default_rng(0)
    shapes = networks.layer_shapes(dims)[:-1]
    weights = [rng.standard_normal(s).astype(np.float32) for s in shapes]

    def run_shard(blocks):
        h = [np.ones((kernels.BLOCK, i), np.float32) for i, _ in shapes]
        z = [np.empty((kernels.BLOCK, o), np.float32) for _, o in shapes]
        for _ in range(blocks.stop - blocks.start):
            for a, w, out in zip(h, weights, z):
                np.matmul(a, w, out=out)

    shards = kernels._cut(points // kernels.BLOCK, kernels.threads())
    return lambda: kernels._map(run_shard, shards)


def main(args) -> None:
    twin, rows = begin(args), []
    x = np.random.default_rng(0).uniform(-1.5, 1.5, (args.points, 3)).astype(np.float32)
    for dims in args.dims:
        mlp, graph = networks.MLP(dims, kernel=True), networks.MLP(dims)
        contestants = {"ours": timed(lambda mlp=mlp: mlp.evaluate(x)),
                       "floor": timed(products(dims, args.points))}
        if twin:
            contestants["torch"] = twin.timer(task="forward", dims=dims, points=args.points,
                                              device="cpu")
        found = alternate(contestants, args.rounds, args.repeat)
        row = {"dims": dims, **{name: args.points / s for name, s in found.items()}}
        if not args.no_graph:
            seconds = alternate({"graph": timed(lambda g=graph: g.evaluate(x[:2048]))}, 2, 1)
            row["nnabla_graph"] = 2048 / seconds["graph"]
        row["ratio_floor"] = row["ours"] / row["floor"]
        if twin:
            row["ratio_torch"] = row["ours"] / row["torch"]
        rows.append(row)
    report(rows, ["dims", "ours", "nnabla_graph", "torch", "floor", "ratio_torch", "ratio_floor"],
           args.json)


if __name__ == "__main__":
    made = parser(__doc__)
    made.add_argument("--points", type=int, default=65536, help="points a run")
    helper.run(main, made.parse_args())
