"""Kill training and inference at random instants and see that nothing is lost.

    python benchmarks/kills.py --kills 200

A small training that saves after every epoch is killed (SIGKILL) at a random instant, looked at,
resumed, killed again, until it ends; its weights must equal, bit for bit, those of a run that
nothing disturbed, and its log must have every step once. Inference is killed while it writes over
a mesh: the mesh must be the old one or the new one, whole. Prints the counts.
"""

from __future__ import annotations

import json
from pathlib import Path
import subprocess
import sys
import tempfile
import time

from common import ROOT, helper
from igr import checkpoints, files, runs, shapes

import numpy as np

TRAIN = "-f cloud.ply --dims 64 -b 32 -k 5 -te 40 -sie 1 -tr 0 --quiet"
STEPS = 40 * 6


def start(folder: Path, script: str, line: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, str(ROOT / script), *line.split()], cwd=folder,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def final_weights(folder: Path) -> np.ndarray:
    arrays, info = checkpoints.load_checkpoint(folder / "param_00040.h5")
    assert info["step"] == STEPS
    return np.concatenate([array.ravel() for array in arrays.values()])


def newest_step(folder: Path) -> int:
    """Step of the newest checkpoint, 0 without one; every checkpoint must be whole."""
    for path in folder.glob("param_*.h5"):
        checkpoints.load_checkpoint(path)
    if not list(folder.glob("param_*.h5")):
        return 0
    return runs.RunFolder(folder).newest().info["step"]


def training(folder: Path, truth: np.ndarray, rng, most: int) -> int:
    """One training that is killed until it ends, `most` times at most; returns the kills."""
    run, kills, step = folder / "run", 0, 0
    for old in run.glob("*") if run.is_dir() else []:
        old.unlink()
    while True:
        go_on = "--resume -m run --quiet" if step else f"{TRAIN} -m run --overwrite"
        process = start(folder, "train.py", go_on)
        if kills < most:
            time.sleep(rng.uniform(0.7, 2.0))
            process.kill()
        status = process.wait()
        if status == 0:
            break
        assert status == -9, process.stderr.read().decode()
        kills += 1
        now = newest_step(run)
        assert now >= step, f"step {step} was lost, {now} is left"
        step = now
    assert np.array_equal(final_weights(run), truth), "other weights than undisturbed"
    steps = [json.loads(row)["step"] for row in (run / "log.jsonl").read_text().splitlines()]
    assert steps == sorted(steps) and steps.count(STEPS) == 1 and steps.count(50) == 1
    return kills


def inference(folder: Path, rng, kills: int) -> None:
    """Kill infer.py `kills` times while it replaces mesh.ply by one of another grid."""
    line = "-mlp truth/param_00040.h5 -o mesh.ply --quiet --grid-size"
    whole = set()
    for n in (24, 32):
        assert start(folder, "infer.py", f"{line} {n}").wait() == 0
        whole.add((folder / "mesh.ply").read_bytes())
    for i in range(kills):
        process = start(folder, "infer.py", f"{line} {(24, 32)[i % 2]}")
        time.sleep(rng.uniform(0.7, 1.6))
        process.kill()
        process.wait()
        assert (folder / "mesh.ply").read_bytes() in whole, "a damaged mesh"


def campaign(folder: Path, kills: int, seed: int = 0) -> dict:
    """`kills` kills, a fifth of them of inference. Raises AssertionError at the first loss."""
    rng = np.random.default_rng(seed)
    files.write(folder / "cloud.ply", shapes.sample("sphere", 200))
    assert start(folder, "train.py", f"{TRAIN} -m truth").wait() == 0
    truth = final_weights(folder / "truth")
    of_training, trainings = 0, 0
    while of_training < kills - kills // 5:
        of_training += training(folder, truth, rng, kills - kills // 5 - of_training)
        trainings += 1
    inference(folder, rng, kills // 5)
    return {"kills_training": of_training, "kills_inference": kills // 5, "trainings": trainings,
            "lost_or_damaged": 0}


if __name__ == "__main__":
    made = helper.parser(__doc__)
    made.add_argument("--kills", type=int, default=200)
    made.add_argument("--seed", type=int, default=0)
    args = made.parse_args()
    with tempfile.TemporaryDirectory() as name:
        print(json.dumps(campaign(Path(name), args.kills, args.seed)))
