"""Prepare this machine, once: compile the CPU's kernel and choose OpenBLAS' kernels.

    python -m igr setup    what bash commands.sh setup runs
    python -m igr ready    exit status 0 where that has been done, on this processor for this .venv
    python -m igr time     seconds of the sweeps with the OpenBLAS kernels that are chosen, as json
"""

from __future__ import annotations

import json
import sys
import time

from igr.backend import blas


def time_sweeps(width: int = 128, repeat: int = 7) -> dict:
    """CPU seconds on one thread, the least of `repeat` runs, for a network of 8 x `width`: "step",
    the sweeps of a training step of 512 + 1,024 points, and "inference", f at 8,192 points."""
    from igr.backend import threads
    from igr.field import inference, training_kernel

    import numpy as np

    threads.set_count(1)
    threads.limit_blas()
    rng = np.random.default_rng(0)
    sizes = [(3, width), (width, width), (width, width), (width, width - 3),
             (width, width), (width, width), (width, width), (width, 1)]
    weights = tuple(rng.normal(0, 0.1, size).astype(np.float32) for size in sizes)
    biases = tuple(np.zeros(size[1], np.float32) for size in sizes)
    arrays = [array for pair in zip(weights, biases) for array in pair]
    beta = np.float32(100)
    scale = np.float32(2**-0.5)
    points = rng.uniform(-1, 1, (8192, 3)).astype(np.float32)
    shard = training_kernel.Shard(1536, 1024, weights)
    shard.x[:] = points[:1536]
    c = np.ones((1536, 1), np.float32)
    d = np.ones((1024, 3), np.float32)

    def step() -> None:
        shard.forward(weights, biases, beta, scale)
        shard.backward(c, d, weights, beta, scale)

    def infer() -> None:
        inference.evaluate(points, arrays, "softplus", beta, scale)

    return {"step": least_seconds(step, repeat), "inference": least_seconds(infer, repeat)}


def least_seconds(run, repeat: int) -> float:
    """CPU seconds of the fastest of `repeat` calls of run(), after one that compiles."""
    run()
    seconds = []
    for _ in range(repeat):
        start = time.process_time()
        run()
        seconds.append(time.process_time() - start)
    return min(seconds)


def main(command: str = "") -> int:
    """Run one of this module's commands; returns the exit status."""
    if command == "ready":
        return 0 if blas.is_settled() else 1
    if command == "time":
        print(json.dumps(time_sweeps()))
        return 0
    if command != "setup":
        print(__doc__)
        return 2
    from igr.field import training_kernel
    from igr.training import solvers

    training_kernel.compile_all()
    solvers.compile_all()
    print("measuring OpenBLAS' kernels on this processor (once)")
    found = blas.measure()
    for name, seconds in found["times"].items():
        print(f"  {name}: a training step {1e3 * seconds['step']:.1f} ms, "
              f"f at 8,192 points {1e3 * seconds['inference']:.1f} ms, on one core")
    print(f"  taken: {found['chosen'] or 'what OpenBLAS takes itself'} "
          f"({blas.VARIABLE} in the environment names another)")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
