"""Seconds of a training step by several ranks on the CPUs of this machine, and of what they share.

    python benchmarks/mpi_step.py 1x2x512 2x1x256 2x1x512 1x1x32 --json benchmarks/mpi_step.json

RxTxB: R ranks of T threads, B surface points a rank. Each is a run of its own, in turn, --rounds
times; figures are medians of rank 0's steps over all rounds. "averaging" is the part of a step in
which the gradients are averaged, waiting for slower ranks included; "cpu" is the CPU time of rank
0, which spins while it waits. The steps are the first of a default run, before there are points of
the zero set.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
import subprocess
import sys
import tempfile
import time

from common import ROOT, helper, last_line, report
from helper import UserError
from igr.formats import files
from igr.geometry import shapes
from igr.training import schedule
from igr.training.runs import RunFolder
import train

import numpy as np

WARM_UP = 20  # steps that do not count


def measure(cloud: str, threads: int, batch: int, steps: int) -> dict:
    """In this process, which is one of the ranks: {"step", "averaging", "cpu"}, a list of seconds
    each, of rank 0."""
    settings = train.Settings(batch_size=batch, train_iter=schedule.STEPS["normal"], test_rate=0.0)
    options = train.Options(context="cpu", threads=threads)
    job = train.build(train.Start(cloud, settings, options),
                      RunFolder(Path(cloud).parent / "run"))
    found = {"step": [], "averaging": [], "cpu": []}
    average = job.trainer.group.mean_gradients

    def timed_average(parameters: dict) -> None:
        start = time.perf_counter()
        average(parameters)
        found["averaging"].append(time.perf_counter() - start)

    job.trainer.group.mean_gradients = timed_average
    for step in range(steps + WARM_UP):
        start, cpu = time.perf_counter(), time.process_time()
        job.trainer.step(job.plan.rate_at(step))
        found["step"].append(time.perf_counter() - start)
        found["cpu"].append(time.process_time() - cpu)
    return {name: seconds[WARM_UP:] for name, seconds in found.items()}


def measure_apart(case: str, cloud: Path, steps: int) -> dict:
    """measure() of a case RxTxB under mpirun, or alone for one rank."""
    size, threads, batch = case.split("x")
    mpirun = ["mpirun", "--allow-run-as-root", "--bind-to", "none", "--oversubscribe", "-n", size]
    done = subprocess.run(
        [*(mpirun if size != "1" else []), sys.executable, __file__, "--one", threads, batch,
         "--cloud", str(cloud), "--steps", str(steps)], capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise UserError(f"{case}: {last_line(done)}")
    return json.loads(done.stdout.splitlines()[-1])


def row_of(case: str, rounds: list) -> dict:
    """The medians of what measure() found in several rounds, in milliseconds."""
    size, threads, batch = map(int, case.split("x"))
    medians = {f"{name}_ms": 1e3 * float(np.median([s for found in rounds for s in found[name]]))
               for name in rounds[0]}
    return {"ranks": size, "threads": threads, "batch": batch, "together": size * batch, **medians}


def parse_args() -> argparse.Namespace:
    parser = helper.parser(__doc__)
    add = parser.add_argument
    add("cases", nargs="*", metavar="RxTxB", help="ranks, threads and batch of each",
        default=["1x2x512", "1x1x512", "2x1x256", "2x1x512", "1x1x256", "1x1x128", "1x1x32"])
    add("--steps", type=int, default=200, help="that count, in each run")
    add("--rounds", type=int, default=3, help="runs of each case")
    add("--one", nargs=2, type=int, metavar=("T", "B"), help="print one run, done in this process")
    add("--cloud", help="for --one")
    add("--json", metavar="FILE", help="write the figures")
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    if args.one:
        found = measure(args.cloud, *args.one, args.steps)
        if helper.is_first_rank():
            print(json.dumps(found))
        return
    rounds = {case: [] for case in args.cases}
    with tempfile.TemporaryDirectory() as folder:
        cloud = Path(folder) / "knot.ply"
        files.write(cloud, shapes.sample("knot", 20_000))
        for _ in range(args.rounds):
            for case, found in rounds.items():
                found.append(measure_apart(case, cloud, args.steps))
    report([row_of(case, found) for case, found in rounds.items()], args.json)


if __name__ == "__main__":
    helper.run(main, parse_args())
