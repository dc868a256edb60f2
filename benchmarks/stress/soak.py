"""Run random commands with good and bad flags and files, and check that nothing breaks.

    python -m benchmarks.stress.soak --minutes 30 --json soak.json

In a folder with good files, damaged ones and none at all, the five scripts run one after the other
with flags drawn at random: mostly good, some out of range, misspelt or of the wrong kind. Each
command must end within --limit seconds with status 0, 1 (one line says why) or 2, leave its inputs
as they were, and leave only whole files. Prints a summary and exits with status 1 where one did
not. The same --seed gives the same files and the same commands, one after the other.
"""

from __future__ import annotations

import argparse
from collections import Counter
import json
import os
from pathlib import Path
import resource
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

from benchmarks.common import ROOT
from benchmarks.stress import fuzz
import helper
from igr.field import checkpoints
from igr.formats import files
from igr.geometry import shapes

import numpy as np

MEMORY = 8 << 30  # bytes of addresses that a command may take
SHOWN = 12  # findings in the summary
MESHES = ("letter.ply", "letter.off", "letter.stl", "letter.obj")
CLOUDS = ("knot.xyz", "torus.npy", "ball.ply", "ball.npz")
GOOD = MESHES + CLOUDS
TEXTS = {"empty.ply": "", "text.ply": "ply\nhello\n", "nan.xyz": "0 0 nan\n" * 9,
         "one.xyz": "1 2 3\n", "flat.xyz": "1 2 3\n" * 50, "no_suffix": "0 0 0",
         "letter.jpeg": "no picture"}
BAD = ("missing.ply", "folder.ply", *TEXTS)
WRONG = ("-1", "0", "nan", "inf", "1e400", "x", "", "99999999999", "-0.5", "1e-300", "../none/a")

# ---------------------------------------------------------------------------------- files and flags


def make_inputs(folder: Path, rng) -> None:
    """Write good, bad and damaged files to folder/in."""
    place = folder / "in"
    (place / "folder.ply").mkdir(parents=True)
    (folder / "out").mkdir()
    made = {"letter": shapes.mesh("letter"), "torus": shapes.sample("torus", 400),
            "knot": shapes.sample("knot", 500), "ball": shapes.sample("sphere", 300)}
    for name in GOOD:
        path = place / name
        shape = made[path.stem]
        if path.suffix == ".npz":
            np.savez(path, points=shape.points, normals=shape.normals)
        else:
            files.write(path, shape)
    for name, text in TEXTS.items():
        (place / name).write_text(text)
    for i, name in enumerate(GOOD):
        (place / f"damaged{i}{Path(name).suffix}").write_bytes(
            fuzz.damaged((place / name).read_bytes(), rng))


class Draw:
    """Random words of command lines. In `flags`, s_ stands for the dash of a short flag."""

    def __init__(self, rng):
        self.rng = rng

    def one(self, *words: str) -> str:
        return str(words[self.rng.integers(len(words))])

    def input(self, *good: str) -> str:
        """A file to read: eight in ten are `good`; some were written by former commands, if at all.
        """
        kind = self.rng.random()
        if kind < 0.8:
            return "in/" + self.one(*good)
        if kind < 0.88:
            return self.output()
        return "in/" + self.one(*BAD, *(f"damaged{i}{Path(name).suffix}"
                                        for i, name in enumerate(GOOD)))

    def output(self, *suffixes: str) -> str:
        """A file to write; rarely an input, a folder or an unknown format."""
        if self.rng.random() < 0.1:
            return self.one("in/letter.ply", "out", "none/a.ply", "out/a.bin", "in/folder.ply")
        return "out/" + self.one("a", "b") + self.one(*(suffixes or (".ply", ".obj", ".xyz")))

    def number(self, *good: str) -> str:
        """A good value of a flag, or a wrong one, once in twenty times."""
        return self.one(*(WRONG if self.rng.random() < 0.05 else good))

    def flags(self, **choices: tuple) -> list[str]:
        """Some of the flags, each with one of its values."""
        words = []
        for name, values in choices.items():
            if self.rng.random() > 0.25:
                continue
            flag = f"-{name[2:]}" if name.startswith("s_") else f"--{name}"
            words += [flag.replace("_", "-"), *([self.number(*values)] if values else [])]
        return words + (["--no-such-flag"] if self.rng.random() < 0.02 else [])


def create(draw: Draw) -> list[str]:
    source = (["--shape", draw.number(*shapes.SHAPES)] if draw.rng.random() < 0.4
              else ["-f", draw.input(*MESHES)])
    return ["datasets.py", "create", *source, "-n", draw.number("50", "400", "1000"), "-o",
            draw.output(".ply", ".xyz", ".npy"),
            *draw.flags(sampling=("poisson", "uniform"), seed=("0", "7"))]


def train(draw: Draw) -> list[str]:
    run = draw.one(*["out/run", "out/other"] * 4, "in/letter.ply")
    if draw.rng.random() < 0.2:
        return ["train.py", "--resume", "-m", run, *draw.flags(quiet=(), s_ti=("20", "40"))]
    return ["train.py", "-f", draw.input(*GOOD), "-m", run, "--dims", "16", "-ti",
            draw.number("1", "12"), *([] if draw.rng.random() < 0.2 else ["--overwrite"]),
            *draw.flags(quiet=(), s_b=("8", "64"), s_k=("3", "10", "500"),
                        lam=("0.1", "0"), frequencies=("0", "3"),
                        solver=("muon", "adam"), seed=("0", "1"), s_sie=("1", "2"),
                        with_normals=(), s_lr=("0.001", "0.1"), s_tr=("0", "0.2", "0.99"),
                        preview=("1",), grid_size=("16",), s_vf=("1.5", "2"), threads=("1", "2"),
                        context=("auto", "cpu", "cpu-graph", "cuda"))]


def infer(draw: Draw) -> list[str]:
    which = ["-mlp", draw.one(*["in/net.h5", "out/run/param_00001.h5"] * 4, "in/damaged.h5",
                              "in/letter.ply")] if draw.rng.random() < 0.9 else []
    box = ["--bounds", "-1", "-1", "-1", "1", "1", draw.one("1", "-1")]
    return ["infer.py", *which, "--grid-size", draw.number("8", "16", "24", "33"),
            *(box if draw.rng.random() < 0.1 else []),
            *(["-o", draw.output(".ply", ".obj", ".stl")] if draw.rng.random() < 0.8 else []),
            *(["-f", draw.input(*GOOD)] if draw.rng.random() < 0.5 else []),
            *draw.flags(s_gd=("ascent", "descent"), level=("0.1", "-0.05", "9"), keep_all=(),
                        detail=("auto", "off", "2"), trim=("auto", "0.1"), largest=(),
                        min_component=("0.1",), dense=(), quiet=(),
                        s_vf=("0.4", "1.5"), threads=("1", "2"), s_sb=("100",))]


def evaluate(draw: Draw) -> list[str]:
    return ["evaluate.py", "-mdp", draw.input(*MESHES),
            *(["-f", draw.input(*GOOD)] if draw.rng.random() < 0.9 else []),
            "-o", draw.output(".json"),
            *draw.flags(s_mlp=("in/net.h5", "in/damaged.h5"), json=(),
                        protocol=("default", "upstream", "srb"))]


def visualize(draw: Draw) -> list[str]:
    mode = draw.one("mesh", "pcd", "pcdmesh", "html", "error", "images", "compare", "curves",
                    "slices")
    good = GOOD if mode in ("pcd", "compare") else MESHES
    source = {"compare": [draw.input(*good), draw.input(*good)], "slices": ["-mlp", "in/net.h5"],
              "curves": ["-f", draw.one("out/run", "out/other", "in/letter.ply")]}
    output = {"html": "out/a.html", "images": "out/views"}.get(mode, draw.output(".png", ".jpeg"))
    words = ["visualize.py", mode, *source.get(mode, ["-f", draw.input(*good)]), "-o", output,
             *(["-r", draw.input(*GOOD)] if mode == "error" else [])]
    if mode in ("curves", "slices"):
        return words
    words += draw.flags(azimuth=("30", "-40"), elevation=("15", "-89"), zoom=("1", "3"),
                        up=("y", "-z"), color=("normal", "clay", "#aa3300", "0.1,0.2"))
    if mode != "html":
        words += ["--size", draw.number("64"), "48", "--samples", "1",
                  *draw.flags(ground=(), background=("white", "transparent"))]
    return words + (["-n", "2"] if mode == "images" else [])


SCRIPTS = (create, train, infer, evaluate, visualize)

# ------------------------------------------------------------------------------------ run and check


class Ended(NamedTuple):
    """How a command ended."""

    status: int | None  # None: killed after the limit
    errors: str  # what it wrote to stderr
    seconds: float


def run(words: list[str], folder: Path, limit: float) -> Ended:
    """Run a script of ours in `folder`, with all its children ended after `limit` seconds."""
    def bounded():
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

    start = time.perf_counter()
    environment = {**os.environ, "DISPLAY": "", "WAYLAND_DISPLAY": ""}
    process = subprocess.Popen([sys.executable, str(ROOT / words[0]), *words[1:]], cwd=folder,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                               stdin=subprocess.DEVNULL, env=environment, preexec_fn=bounded,
                               start_new_session=True)
    try:
        errors = process.communicate(timeout=limit)[1]
        status = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        errors = process.communicate()[1]
        status = None
    return Ended(status, errors, time.perf_counter() - start)


def state_of(folder: Path) -> dict:
    """The checksum of each file below a folder."""
    return {path: helper.sha256_of_file(path) for path in sorted(folder.rglob("*"))
            if path.is_file()}


def whole(path: Path) -> bool:
    """Whether a file that a command wrote can be read to its end."""
    try:
        if path.name.startswith(".writing-"):
            return False
        if path.suffix == ".h5":
            checkpoints.load_arrays(path)
        elif path.suffix in files.FORMATS:
            files.read(path)
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".html":
            return path.read_text().rstrip().endswith("</html>")
        elif path.suffix in (".png", ".jpeg"):
            from PIL import Image
            Image.open(path).load()
    except Exception:  # whatever a reader says: the file is not whole
        return False
    return True


def untouchable(words: list[str], made: set, folder: Path) -> set:
    """The input files among `made` that a command must not change: all but one that only its -o
    names."""
    named = {words[i + 1] for i, word in enumerate(words[:-1]) if word == "-o"}
    return made - {folder / word for word in named if words.count(word) == 1}


def findings(ended: Ended, before: dict, after: dict, inputs: set) -> list[tuple[str, str]]:
    """List (kind, text) of everything that went wrong. before, after: state_of the folder;
    inputs: paths that were not to change."""
    last = (ended.errors.strip().splitlines() or [""])[-1]
    found = []
    if ended.status is None:
        found.append(("hang", f"killed after {ended.seconds:.0f} s"))
    elif "Traceback (most recent call last)" in ended.errors:
        found.append(("traceback", last))
    elif ended.status not in (0, 1, 2):
        found.append(("status", f"{ended.status}: {last}"))
    for path, checksum in before.items():
        if path in inputs and after.get(path) != checksum:
            found.append(("input changed", str(path.name)))
    for path, checksum in after.items():
        if before.get(path) != checksum and not whole(path):
            found.append(("half written", str(path.name)))
    return found


def campaign(folder: Path, minutes: float, seed: int = 0, limit: float = 120,
             most: int | None = None) -> dict:
    """Run commands in an empty folder for some minutes, at most `most` of them.

    Returns the counts and "findings", a list of {"command", "kind", "text"}.
    """
    rng = np.random.default_rng(seed)
    make_inputs(folder, rng)
    network = fuzz.made_checkpoint(shapes.sample("sphere", 1))[0]
    (folder / "in" / "net.h5").write_bytes(network)
    (folder / "in" / "damaged.h5").write_bytes(fuzz.damaged(network, rng))
    draw = Draw(rng)
    statuses = Counter()
    found = []
    slowest = (0.0, "")
    end = time.monotonic() + 60 * minutes
    state = state_of(folder)
    made = set(state)
    while time.monotonic() < end and (most is None or sum(statuses.values()) < most):
        words = SCRIPTS[rng.integers(len(SCRIPTS))](draw)
        ended = run(words, folder, limit)
        after = state_of(folder)
        found += [{"command": shlex.join(words), "kind": kind, "text": text}
                  for kind, text in findings(ended, state, after,
                                             untouchable(words, made, folder))]
        statuses[str(ended.status)] += 1
        slowest = max(slowest, (round(ended.seconds, 1), shlex.join(words)))
        state = after
    return {"seed": seed, "commands": sum(statuses.values()), "statuses": dict(statuses),
            "slowest": slowest, "kinds": dict(Counter(each["kind"] for each in found)),
            "findings": found}


def summary(result: dict) -> str:
    """Format a campaign's result on one screen."""
    lines = [f"{result['commands']} commands, seed {result['seed']}; by status: "
             + ", ".join(f"{status}: {n}" for status, n in sorted(result["statuses"].items())),
             f"slowest: {result['slowest'][0]} s: {result['slowest'][1][:120]}"]
    lines += [f"{kind}: {n}" for kind, n in result["kinds"].items()] or ["nothing found"]
    for each in result["findings"][:SHOWN]:
        lines += [f"  {each['command'][:200]}", f"    {each['kind']}: {each['text'][:120]}"]
    return "\n".join(lines)


def parse_args() -> argparse.Namespace:
    parser = helper.parser(__doc__)
    add = parser.add_argument
    add("--minutes", type=helper.number(float, above=0), default=30, help="how long to go on")
    add("--commands", type=helper.number(int, 1), help="how many at most; default: no limit")
    add("--seed", type=helper.number(int, 0), default=0, help="of the files and the commands")
    add("--limit", type=helper.number(float, above=0), default=120,
        help="seconds that a command may take")
    add("--json", help="file to write: the counts and every finding")
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        result = campaign(Path(folder), args.minutes, args.seed, args.limit, args.commands)
    print(summary(result))
    if args.json:
        helper.write_json(args.json, result)
    sys.exit(1 if result["findings"] else 0)


if __name__ == "__main__":
    main(parse_args())
