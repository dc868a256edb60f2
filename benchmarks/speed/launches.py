"""Count the kernels of a training step on a GPU and their microseconds.

    ncu --profile-from-start off --clock-control none --cache-control none --csv --page raw \\
        --metrics gpu__time_duration.sum --log-file step.csv \\
        python -m benchmarks.speed.launches --batch 16384 --uniform 2048
    python -m benchmarks.speed.launches --table step.csv --json step.json

The first runs some steps under NVIDIA's ncu, which measures the last one, kernel after kernel. The
second adds up its csv file. A step takes the larger of this sum and the time that the host needs to
launch them, which benchmarks/speed/step.py measures as a whole.
"""

from __future__ import annotations

import argparse
import collections
import csv
import ctypes
from pathlib import Path
import re

from benchmarks.speed import step
import helper
from igr.backend import cuda, devices

WARM_UP = 5  # steps before the one that is measured
KINDS = [("products", "gemm|gemv|splitK|cutlass|internal::kernel"),  # by what a kernel's name has
         ("softplus and its slope", "SoftPlus|Sigmoid"), ("multiplications", "Mul2"),
         ("zeroing", "Memset"), ("slices, joins", "slice|concatenate"),
         ("solver", "adam|kernel_update"), ("other", "")]


def measure(args: argparse.Namespace) -> None:
    """Run some steps, the last of them for the profiler."""
    device = devices.set_context("cuda", precision=args.precision)
    run = step.our_step(args.dims, args.batch, args.uniform, device.kernel, args.solver)
    wait = step.waiting(device)
    for _ in range(WARM_UP):
        run()
    wait()
    runtime = ctypes.CDLL(cuda.LIBRARIES[0])  # the one that the extension has loaded
    runtime.cudaProfilerStart()
    run()
    wait()
    runtime.cudaProfilerStop()


def table(lines: list[str]) -> dict:
    """{"launches", "microseconds", "kinds": {kind: ...}, "kernels": {name: ...}} of the lines of a
    csv file of ncu's; each ... is {"launches", "microseconds"}, the longest first. Raises
    UserError where there is no such table."""
    rows = list(csv.DictReader(line for line in lines if not line.startswith("==")))
    if len(rows) < 2:
        errors = [line for line in lines if line.startswith("==ERROR==")]
        raise helper.UserError(f"ncu has measured nothing {' '.join(errors)}".strip())
    units, rows = rows[0], rows[1:]
    if units["gpu__time_duration.sum"] not in ("ns", "nsecond"):
        raise helper.UserError(f"a time in {units['gpu__time_duration.sum']}, not in ns")
    kinds, kernels = collections.defaultdict(list), collections.defaultdict(list)
    for row in rows:
        microseconds = float(row["gpu__time_duration.sum"].replace(",", "")) / 1e3
        name = re.sub(r"^void |nbla::|\(.*", "", row["Kernel Name"])
        kernels[name].append(microseconds)
        kinds[kind_of(name)].append(microseconds)

    def total(groups: dict) -> dict:
        ordered = sorted(groups.items(), key=lambda item: -sum(item[1]))
        return {name: {"launches": len(times), "microseconds": round(sum(times), 1)}
                for name, times in ordered}

    whole = [time for times in kernels.values() for time in times]
    return {"launches": len(whole), "microseconds": round(sum(whole), 1), "kinds": total(kinds),
            "kernels": total(kernels)}


def kind_of(name: str) -> str:
    """The first of KINDS that a kernel's name belongs to."""
    return next(kind for kind, pattern in KINDS if re.search(pattern, name))


def parse_args() -> argparse.Namespace:
    parser = helper.parser(__doc__)
    add = parser.add_argument
    add("--dims", type=int, default=512, help="width of the network; default: %(default)s")
    add("--batch", type=int, default=512, help="surface points; default: %(default)s")
    add("--uniform", type=int, default=512, help="points in the cube; default: %(default)s")
    add("--solver", choices=["adam", "muon"], default="adam", help="default: %(default)s")
    add("--precision", choices=["float32", "tf32"], default="float32", help="of the products")
    add("--table", metavar="CSV", help="add up a csv file of ncu's")
    add("--json", metavar="FILE", help="write the table that --table prints")
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    if not args.table:
        measure(args)
        return
    found = table(Path(args.table).read_text().splitlines())
    print(f"{found['launches']} launches, {found['microseconds']:.0f} microseconds")
    for name, row in found["kinds"].items():
        print(f"{name:>24} {row['launches']:>5} {row['microseconds']:>10.0f}")
    if args.json:
        helper.write_json(args.json, found)


if __name__ == "__main__":
    helper.run(main, parse_args())
