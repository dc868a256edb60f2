"""Compare variants of a training by the distance of their surface and their CPU time.

    python benchmarks/study.py -f bunny_pcd.ply --truth bun_zipper.ply "" "radius=0.5 rate=1e-2"

trains each variant (changes to DEFAULT, "" is none) on a cloud, extracts the surface on a grid,
measures it against the true mesh and appends a line to study.jsonl. A variant that has its line is
not run again. `--render` writes the table of results/study.md from all lines. The cost of a run is
the CPU time of its training loop, so that runs side by side and pauses do not change it. Options
that train.py does not have (other solvers, growing batches, averages, ...) are here, in DEFAULT.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
import time

from common import ROOT, helper
import datasets
from igr.backend import devices, threads
from igr.formats import files
from igr.geometry import frames, meshes, neighbours
from igr.isosurface import extraction
from igr.training import sampling, solvers
import losses
from networks import MLP, Architecture, layer_shapes
from study_solvers import Soap, TwoRates

import nnabla as nn
import numpy as np

LINES = Path(__file__).with_suffix(".jsonl")
PAGE = ROOT / "results" / "study.md"
HEADING = "## Every run"
# what train.py did before the study, at the README's width and steps of that time
DEFAULT = {
    "dims": 256,  # width of the network
    "steps": 2000,
    "seed": 0,
    "batch": 512,  # surface points a step
    "grow": 1,  # the batch doubles until it is `grow` times as large at the end
    "uniform": 1.0,  # points in the cube of free space, for each surface point
    "near": 1.0,  # points near the surface, for each surface point
    "rate": 5e-3,
    "floor": 0.01,  # share of the rate that is left at the end
    "decay": "cosine",  # or exponential, linear, late
    "warm": 100,  # steps up to the full rate
    "beta1": 0.999,  # Adam's second decay
    "lam": 0.1,  # weight of the eikonal term
    "k": 50,  # neighbour whose distance is the spread of the near points
    "test": 0.25,  # share of the points that is held out
    "normals": 0,  # 1: use the cloud's
    "radius": 1.0,  # of the sphere that the network is at first
    "optimiser": "adam",  # or muon, or soap
    "ns": 5,  # muon: Newton-Schulz iterations
    "wide": 0.2,  # muon, soap: length of a step of rate 1
    "mu": 0.95,  # muon: decay of the momentum
    "sbeta": 0.95,  # soap: decay of the squared gradients
    "every": 10,  # soap: steps between two bases
    "adam": 1.0,  # muon: the rate of what Adam steps, as a multiple of Muon's
    "wd": 0.0,  # decay of the hidden matrices in a step of rate 1
    "ema": 0.0,  # decay of an average of the weights, which is measured as well
    "init": "geometric",  # or he: no sphere at first
}


def changes_of(variant: str) -> dict:
    """{"rate": 0.01, ...} of "rate=1e-2 ...". Raises KeyError for a name that DEFAULT lacks."""
    changes = {}
    for word in variant.split():
        name, value = word.split("=")
        changes[name] = type(DEFAULT[name])(value)
    return {name: value for name, value in sorted(changes.items()) if value != DEFAULT[name]}


def he_init(dims: int, seed: int) -> dict:
    """Parameters by name, W ~ N(0, 2 / in), b = 0 (He et al. 2015)."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for layer, (fan_in, fan_out) in enumerate(layer_shapes(dims)):
        W = rng.normal(0, (2 / fan_in) ** 0.5, (fan_in, fan_out))
        arrays[f"fc{layer}/affine/W"] = W.astype(np.float32)
        arrays[f"fc{layer}/affine/b"] = np.zeros(fan_out, np.float32)
    return arrays


def rate_of(c: dict, step: int) -> float:
    """The rate of a step, as in train.py but with other decays, floors and warm-ups."""
    warm = min(1.0, (step + 1) / c["warm"])
    s = step / c["steps"]
    if c["decay"] == "exponential":
        return warm * c["rate"] * c["floor"] ** s
    down = {"cosine": 0.5 * (1 + math.cos(math.pi * s)), "linear": 1 - s,
            "late": min(1.0, 2 * (1 - s))}[c["decay"]]  # constant, then linear in the second half
    return warm * c["rate"] * (c["floor"] + (1 - c["floor"]) * down)


def batch_of(c: dict, step: int) -> int:
    """The batch size of a step; it doubles at equal parts of the run."""
    doublings = int(math.log2(c["grow"]))
    return c["batch"] * 2 ** min(doublings, (doublings + 1) * step // c["steps"])


def free_counts(c: dict, batch: int):
    """How many points a step has (in the cube, near the surface)."""
    return round(batch * c["uniform"]), round(batch * c["near"])


def free_space(c: dict, x: np.ndarray, sigma: np.ndarray, rng) -> np.ndarray:
    """Points of free space (N, 3), unit frame, for the surface points x (B, 3) with spread sigma
    (B, 1): as sampling.free_space, with other numbers of both kinds."""
    uniform, near = free_counts(c, len(x))
    pick = np.resize(np.arange(len(x)), near)
    around = x[pick] + sigma[pick] * rng.standard_normal((near, 3), np.float32)
    return np.concatenate([rng.uniform(-1.5, 1.5, (uniform, 3)), around]).astype(np.float32)


class Average:
    """Exponential average of the weights with the given decay."""

    def __init__(self, mlp: MLP, decay: float):
        self.decay = decay
        self.arrays = {name: p.d.copy() for name, p in mlp.parameters.items()}

    def add(self, mlp: MLP, step: int) -> None:
        share = np.float32(1 - min(self.decay, (1 + step) / (10 + step)))
        for name, p in mlp.parameters.items():
            self.arrays[name] += share * (p.d - self.arrays[name])


class Step:
    """The static graph of one step; several, for different batches, can share a solver."""

    def __init__(self, mlp: MLP, batch: int, c: dict, solver):
        self.x = nn.Variable((batch, 3))
        self.y = nn.Variable((sum(free_counts(c, batch)), 3))
        self.n = nn.Variable((batch, 3)) if c["normals"] else None
        self.solver = solver
        self.terms = losses.igr_loss(mlp, losses.Samples(self.x, self.y, self.n),
                                     losses.Weights(c["lam"]))
        for term in self.terms.values():
            term.persistent = True

    def run(self, x, y, n, rate: float) -> None:
        """Step on surface points x (B, 3), free points y (N, 3), normals n (B, 3) or None."""
        self.x.d = x
        self.y.d = y
        if self.n is not None:
            self.n.d = n
        self.solver.set_learning_rate(rate)
        self.solver.zero_grad()
        self.terms["loss"].forward(clear_no_need_grad=True)
        self.terms["loss"].backward(clear_buffer=True)
        self.solver.update()

    def losses(self) -> dict:
        return {name: float(term.d) for name, term in self.terms.items()}


def make_solver(c: dict):
    """The solver of a variant, without parameters yet."""
    solvers.ITERATIONS = c["ns"]
    solvers.STEP = c["wide"]
    solvers.MU = c["mu"]
    solver = solvers.Adam(0.9, c["beta1"])
    if c["optimiser"] == "soap":
        solver = Soap(solver, c["every"], 0.95, c["sbeta"], c["wide"])
    elif c["optimiser"] == "muon":
        solver = solvers.KernelMuon(solver)
    if c["adam"] != 1:
        solver = TwoRates(solver.adam)
        solver.ratio = c["adam"]
    return solver


def train(mlp: MLP, cloud: datasets.PointCloud, c: dict, average=None) -> dict:
    """Train `mlp` on the cloud; returns the losses of the last step. average: an Average to fill.
    """
    solver = make_solver(c)
    solver.set_parameters(mlp.parameters)
    batch = 0
    for step in range(c["steps"]):
        if batch_of(c, step) != batch:
            batch = batch_of(c, step)
            order = sampling.batches(len(cloud.points), batch, c["seed"])
            graph = Step(mlp, batch, c, solver)
        index = next(order)
        x = cloud.points[index]
        y = free_space(c, x, cloud.sigma[index], np.random.default_rng((c["seed"], 1, step)))
        rate = rate_of(c, step)
        graph.run(x, y, cloud.normals[index] if c["normals"] else None, rate)
        for matrix in solver.hidden.values() if c["wd"] else ():
            matrix.d *= np.float32(1 - c["wd"] * rate)
        if average:
            average.add(mlp, step)
    return {name: float(f"{value:.4g}") for name, value in graph.losses().items()}


class Truth:
    """A true mesh to measure against: its unit frame and samples (N, 3) in that frame."""

    def __init__(self, path):
        mesh = files.read_mesh(path)
        self.frame = frames.Frame.of(mesh.surface_points)
        mesh_unit = mesh._replace(points=self.frame.to_unit(mesh.points))
        rng = np.random.default_rng(1)
        self.samples = meshes.sample_mesh(mesh_unit, 200_000, rng).points


def distances(mlp: MLP, frame: frames.Frame, truth: Truth, grid_size: int) -> dict:
    """Exact distances from the truth's samples to the network's mesh, in the truth's unit frame,
    and the mesh's topology. frame: the cloud's."""
    grid = extraction.Grid.of([-1.5] * 3, [1.5] * 3, grid_size)
    mesh, _ = extraction.extract(mlp.evaluate, grid)
    mesh = mesh._replace(points=truth.frame.to_unit(frame.to_world(mesh.points)))
    d = neighbours.point_to_surface(truth.samples, mesh)
    topology = meshes.topology(mesh)
    return {"mean": float(d.mean()), "p99": float(np.percentile(d, 99)), "max": float(d.max()),
            "components": topology["components"], "euler": topology["euler_characteristic"]}


def run(path, truth_path, changes: dict, grid_size: int) -> dict:
    """One training on the cloud file at `path`: {"cpu_seconds", the entries of distances()
    [, "averaged"], "losses" of the last step}."""
    c = {**DEFAULT, **changes}
    cloud = datasets.load_cloud(path, c["k"], c["test"], bool(c["normals"]), c["seed"])
    truth = Truth(truth_path)
    mlp = MLP(Architecture(c["dims"]), radius=c["radius"], seed=c["seed"], kernel=True,
              arrays=he_init(c["dims"], c["seed"]) if c["init"] == "he" else None)
    average = Average(mlp, c["ema"]) if c["ema"] else None
    start = time.process_time()
    last_losses = train(mlp, cloud, c, average)
    spent = time.process_time() - start
    found = distances(mlp, cloud.frame, truth, grid_size)
    if average:
        for name, p in mlp.parameters.items():
            p.d = average.arrays[name]
        found["averaged"] = distances(mlp, cloud.frame, truth, grid_size)["mean"]
    return {"cpu_seconds": round(spent, 1), **found, "losses": last_losses}


def lines() -> list:
    """The runs of study.jsonl, a dict each."""
    return [json.loads(row) for row in LINES.read_text().splitlines()] if LINES.exists() else []


def table(rows: list) -> str:
    """The runs as a Markdown table, shapes in the order in which they first appear; distances in
    thousandths of half the shape's longest side."""
    text = ["| shape | change | steps | CPU s | mean | p99 | max | parts |", "|" + "---|" * 8]
    for row in sorted(rows, key=lambda row: [r["shape"] for r in rows].index(row["shape"])):
        changes = {name: value for name, value in row["changes"].items() if name != "steps"}
        what = " ".join(f"{name}={value}" for name, value in changes.items()) or "-"
        averaged = f", averaged {1000 * row['averaged']:.2f}" if "averaged" in row else ""
        steps = row["changes"].get("steps", DEFAULT["steps"])
        mean, p99, most = (f"{1000 * row[name]:.3g}" for name in ("mean", "p99", "max"))
        text.append(f"| {row['shape']} | {what} | {steps:,} | {row['cpu_seconds']:.0f} | "
                    f"{mean}{averaged} | {p99} | {most} | {row['components']} |")
    return "\n".join(text) + "\n"


def render(text: str, rows: list) -> str:
    """The page `text` with a fresh table after its last heading, HEADING."""
    return text[: text.index(HEADING)] + f"{HEADING}\n\n{table(rows)}"


def parse_args() -> argparse.Namespace:
    parser = helper.parser(__doc__)
    add = parser.add_argument
    add("variants", nargs="*", help="changes to DEFAULT, \"rate=1e-2 ...\"")
    add("--render", action="store_true", help="write the table and run nothing")
    add("-f", "--fpath", help="cloud; its name up to _pcd names the shape")
    add("--truth", help="mesh to measure against")
    add("--grid-size", type=int, default=256, help="of the extraction whose mesh is measured")
    add("--threads", type=int, default=1, help="of the CPU's kernel; 1 takes the least CPU time")
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    if args.render:
        with helper.replacing(PAGE) as temporary:
            temporary.write_text(render(PAGE.read_text(), lines()))
        return
    threads.set_count(args.threads)
    devices.set_context("cpu")
    shape = Path(args.fpath).name.split("_pcd")[0]
    for variant in args.variants:
        changes = changes_of(variant)
        key = {"shape": shape, "changes": changes, "grid": args.grid_size}
        if any({name: row[name] for name in key} == key for row in lines()):
            continue
        found = run(args.fpath, args.truth, changes, args.grid_size)
        with open(LINES, "a") as file:
            file.write(json.dumps({**key, **found}) + "\n")
        print(variant or "default", found, flush=True)


if __name__ == "__main__":
    main(parse_args())
