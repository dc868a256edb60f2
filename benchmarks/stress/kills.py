"""Kill training and inference at random instants and check that nothing is lost.

    python -m benchmarks.stress.kills --kills 200

A small training that saves after every epoch is killed (SIGKILL) at a random instant, checked,
resumed and killed again until it ends. Its weights must equal those of an undisturbed run bit for
bit, and its log must have every step once. Inference, with the detail of the cloud, is killed while
it replaces a mesh: the file must hold the whole old mesh or the whole new one. Prints the counts,
and on stderr how far it is.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from pathlib import Path
import subprocess
import sys
import tempfile
import time

from benchmarks.common import ROOT
import helper
from igr.field import checkpoints
from igr.formats import files
from igr.geometry import shapes
from igr.training import runs

import numpy as np

TRAIN = "-f cloud.ply --dims 64 -b 32 -k 5 -te 40 -sie 1 -tr 0 --quiet"
STEPS = 40 * 6
INFER = "-mlp truth/param_00040.h5 -f cloud.ply --detail 3 -o mesh.ply --quiet --grid-size"


def start(folder: Path, script: str, line: str) -> subprocess.Popen:
    """Start a script of ours in `folder` with the flags of `line`."""
    return subprocess.Popen([sys.executable, str(ROOT / script), *line.split()], cwd=folder,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def final_weights(folder: Path) -> np.ndarray:
    """All weights of the last checkpoint of a run, one after the other, float32."""
    arrays, info = checkpoints.load_checkpoint(folder / "param_00040.h5")
    assert info["step"] == STEPS
    return np.concatenate([array.ravel() for array in arrays.values()])


def newest_step(folder: Path) -> int:
    """Step of a run's newest checkpoint, 0 without one. Raises where a checkpoint is damaged."""
    for path in folder.glob("param_*.h5"):
        checkpoints.load_checkpoint(path)
    if not list(folder.glob("param_*.h5")):
        return 0
    return runs.RunFolder(folder).newest().info["step"]


def kill_training(folder: Path, truth: np.ndarray, seconds: float, rng,
                  most: int) -> tuple[int, float]:
    """Kill one training again and again, `most` times at most, until it ends; returns the kills,
    and `seconds` as they are now.

    truth, seconds: the weights of an undisturbed run, and how long one takes. Other work on the
    machine may have ended since: a run that was too fast to be killed tells.
    """
    run = folder / "run"
    kills = 0
    step = 0
    for old in run.glob("*") if run.is_dir() else []:
        old.unlink()
    while True:
        line = "--resume -m run --quiet" if step else f"{TRAIN} -m run --overwrite"
        process = start(folder, "train.py", line)
        begin = time.perf_counter()
        if kills < most:
            with contextlib.suppress(subprocess.TimeoutExpired):
                # from the imports to the end
                process.wait(timeout=rng.uniform(0.3, 1.0) * seconds)
            process.kill()
        status = process.wait()
        if status == 0:
            if not step:
                seconds = min(seconds, time.perf_counter() - begin)
            break
        assert status == -9, process.stderr.read().decode()
        kills += 1
        now = newest_step(run)
        assert now >= step, f"step {step} was lost, {now} is left"
        step = now
    assert np.array_equal(final_weights(run), truth), "not the weights of an undisturbed run"
    steps = [json.loads(row)["step"] for row in (run / "log.jsonl").read_text().splitlines()]
    assert steps == sorted(steps) and steps.count(STEPS) == 1 and steps.count(50) == 1
    return kills, seconds


def kill_inference(folder: Path, rng, kills: int) -> None:
    """Kill infer.py `kills` times while it replaces mesh.ply by the mesh of another grid."""
    whole = set()
    for n in (24, 32):
        begin = time.perf_counter()
        assert start(folder, "infer.py", f"{INFER} {n}").wait() == 0
        seconds = time.perf_counter() - begin
        whole.add((folder / "mesh.ply").read_bytes())
    for i in range(kills):
        process = start(folder, "infer.py", f"{INFER} {(24, 32)[i % 2]}")
        time.sleep(rng.uniform(0.4, 1.0) * seconds)  # from the imports to the writing
        process.kill()
        process.wait()
        assert (folder / "mesh.ply").read_bytes() in whole, "the mesh is damaged"


def campaign(folder: Path, kills: int, seed: int = 0) -> dict:
    """Kill `kills` times, a fifth of them inference; returns the counts.

    Raises AssertionError at the first loss.
    """
    rng = np.random.default_rng(seed)
    files.write(folder / "cloud.ply", shapes.sample("sphere", 200))
    for _ in range(2):  # the first one may compile
        begin = time.perf_counter()
        assert start(folder, "train.py", f"{TRAIN} -m truth --overwrite").wait() == 0
        seconds = time.perf_counter() - begin
    truth = final_weights(folder / "truth")
    of_inference = kills // 5
    of_training = 0
    trainings = 0
    while of_training < kills - of_inference:
        killed, seconds = kill_training(folder, truth, seconds, rng,
                                        kills - of_inference - of_training)
        of_training += killed
        trainings += 1
        print(f"{of_training} kills of {trainings} trainings", file=sys.stderr, flush=True)
    kill_inference(folder, rng, of_inference)
    return {"kills_training": of_training, "kills_inference": of_inference, "trainings": trainings,
            "lost_or_damaged": 0}


def parse_args() -> argparse.Namespace:
    parser = helper.parser(__doc__)
    parser.add_argument("--kills", type=int, default=200, help="how often to kill")
    parser.add_argument("--seed", type=int, default=0, help="of the instants")
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(campaign(Path(folder), args.kills, args.seed)))


if __name__ == "__main__":
    main(parse_args())
