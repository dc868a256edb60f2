"""What brings the surface distance down per minute: variants of a training, a JSON line each.

    python benchmarks/study.py -f bunny_pcd.ply --truth bun_zipper.ply "" "radius=0.5 rate=1e-2"

trains each variant (changes against DEFAULT, "" is none) on a cloud, extracts the surface on a
grid and measures it against the true mesh. A line that study.jsonl has already is not run again.
`--render` writes the table of results/study.md from all lines. The cost of a run is the CPU time of
its training loop, so that runs side by side and pauses do not disturb it. What train.py
lacks (other solvers, growing batches, averages, ...) is here, as a hook, and only here.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
import time

from common import ROOT, helper
import datasets
from igr import devices, files, frames, meshes, metrics, ranks, sampling, solvers, surface, threads
import losses
from networks import MLP, layer_shapes
import train

import nnabla as nn
import numpy as np

LINES = Path(__file__).with_suffix(".jsonl")
PAGE, HEADING = ROOT / "results" / "study.md", "## Every run"
DEFAULT = {  # what train.py did before the study, at the width and steps of the README then
    "dims": 256, "steps": 2000, "seed": 0,
    "batch": 512, "grow": 1,  # the batch doubles until it is `grow` times as large at the end
    "uniform": 1.0, "near": 1.0,  # free points of either kind for a surface point
    "rate": 5e-3, "floor": 0.01, "decay": "cosine", "warm": 100, "beta1": 0.999,
    "lam": 0.1, "k": 50, "test": 0.25, "normals": 0, "radius": 1.0,
    "optimiser": "adam",  # or muon, of which `ns` are the iterations, `wide` the step's size and
    "ns": 5, "wide": 0.2, "mu": 0.95,  # `mu` the momentum's decay, or soap, with its decay `sbeta`
    "sbeta": 0.95, "every": 10,  # and `every` steps between two bases
    "adam": 1.0,  # rate of what Adam steps where Muon steps the rest, in terms of Muon's
    "wd": 0.0,  # decay of the hidden matrices, a step of rate 1
    "ema": 0.0,  # decay of an average of the weights, which is measured as well
    "init": "geometric",  # or he: no sphere to begin with
}


def changes_of(variant: str) -> dict:
    """{"rate": 0.01, ...} of "rate=1e-2 ..."; raises KeyError for what DEFAULT does not have."""
    changes = {}
    for word in variant.split():
        name, value = word.split("=")
        changes[name] = type(DEFAULT[name])(value)
    return {name: value for name, value in sorted(changes.items()) if value != DEFAULT[name]}


class TwoRates(solvers.KernelMuon):
    """Muon with a rate of its own for what Adam steps: `ratio` times the other."""

    ratio = 1.0

    def set_learning_rate(self, rate):
        super().set_learning_rate(rate)
        self.adam.set_learning_rate(self.ratio * rate)


class Soap(solvers.KernelMuon):
    """SOAP (Vyas et al. 2024): Adam in the eigenbasis of Shampoo's two factors."""

    every, beta = 10, 0.95

    def set_parameters(self, parameters):
        super().set_parameters(parameters)
        self.L, self.R, self.QL, self.QR, self.V, self.t = {}, {}, {}, {}, {}, 0

    def update(self):
        self.adam.update()
        names, n = list(self.hidden), threads.count()
        self.t += 1
        threads.map(lambda some: [self.one(name) for name in some],
                     [names[i::n] for i in range(n)])

    def one(self, name):
        p, m, beta = self.hidden[name], self.momentum[name], np.float32(self.beta)
        G = p.g.copy()
        if name not in self.L:
            self.L[name], self.R[name] = G @ G.T, G.T @ G
            self.QL[name] = np.linalg.eigh(self.L[name])[1]
            self.QR[name] = np.linalg.eigh(self.R[name])[1]
            self.V[name] = np.zeros_like(G)
        QL, QR = self.QL[name], self.QR[name]
        m *= beta
        m += (1 - beta) * G
        V = self.V[name]
        V *= np.float32(self.beta2)
        V += np.float32(1 - self.beta2) * (QL.T @ G @ QR) ** 2
        correct = (1 - self.beta2**self.t) ** 0.5 / (1 - self.beta**self.t)
        N = QL @ ((QL.T @ m @ QR) / (np.sqrt(V) + np.float32(1e-10))) @ QR.T
        p.d -= np.float32(self.rate * correct * self.wide) * N
        self.L[name] += (1 - beta) * (G @ G.T - self.L[name])
        self.R[name] += (1 - beta) * (G.T @ G - self.R[name])
        if self.t % self.every == 0:
            for Q, A in ((self.QL, self.L[name]), (self.QR, self.R[name])):
                order = np.argsort(-np.einsum("ij,ij->j", Q[name], A @ Q[name]))
                if Q is self.QL:
                    self.V[name] = self.V[name][order]
                else:
                    self.V[name] = self.V[name][:, order]
                Q[name] = np.linalg.qr(A @ Q[name][:, order])[0]


def he_init(dims: int, seed: int) -> dict:
    """W ~ N(0, 2 / in), b = 0 (He et al. 2015)."""
    rng, arrays = np.random.default_rng(seed), {}
    for layer, (fan_in, fan_out) in enumerate(layer_shapes(dims)):
        W = rng.normal(0, (2 / fan_in) ** 0.5, (fan_in, fan_out))
        arrays[f"fc{layer}/affine/W"] = W.astype(np.float32)
        arrays[f"fc{layer}/affine/b"] = np.zeros(fan_out, np.float32)
    return arrays


def rate_of(c: dict, step: int) -> float:
    """As train.cosine_rate, with other decays, floors and warm-ups."""
    warm = min(1.0, (step + 1) / c["warm"])
    s = step / c["steps"]
    if c["decay"] == "exponential":
        return warm * c["rate"] * c["floor"] ** s
    down = {"cosine": 0.5 * (1 + math.cos(math.pi * s)), "linear": 1 - s,
            "late": min(1.0, 2 * (1 - s))}[c["decay"]]  # constant, then linear in the second half
    return warm * c["rate"] * (c["floor"] + (1 - c["floor"]) * down)


def batch_of(c: dict, step: int) -> int:
    """The batch doubles at equal parts of the run."""
    doublings = int(math.log2(c["grow"]))
    return c["batch"] * 2 ** min(doublings, (doublings + 1) * step // c["steps"])


def free_space(c: dict, x: np.ndarray, sigma: np.ndarray, rng) -> np.ndarray:
    """As sampling.free_space, with `uniform` and `near` points of either kind for each of x."""
    u, v = (round(len(x) * c[name]) for name in ("uniform", "near"))
    pick = np.resize(np.arange(len(x)), v)
    near = x[pick] + sigma[pick] * rng.standard_normal((v, 3), np.float32)
    return np.concatenate([rng.uniform(-1.5, 1.5, (u, 3)), near]).astype(np.float32)


class Average:
    """Exponential average of the weights with the given decay."""

    def __init__(self, mlp, decay):
        self.decay, self.arrays = decay, {n: p.d.copy() for n, p in mlp.parameters.items()}

    def add(self, mlp, step):
        a = np.float32(1 - min(self.decay, (1 + step) / (10 + step)))
        for name, p in mlp.parameters.items():
            self.arrays[name] += a * (p.d - self.arrays[name])


class Samples:
    """The static graph's inputs, filled by draw() with what was put into `now`: x, y, n."""

    def __init__(self, batch, c):
        self.x = nn.Variable((batch, 3))
        self.y = nn.Variable((round(batch * c["uniform"]) + round(batch * c["near"]), 3))
        self.n = nn.Variable((batch, 3)) if c["normals"] else None

    def draw(self):
        self.x.d, self.y.d, n = self.now
        if self.n is not None:
            self.n.d = n


class Step(train.Trainer):
    """train.Trainer with its own number of free points and a solver that is shared."""

    def __init__(self, mlp, batch, c, solver):
        self.samples, self.parameters, self.group = Samples(batch, c), mlp.parameters, ranks.Ranks()
        s = self.samples
        self.terms = losses.igr_loss(mlp, s.x, s.y, s.n, c["lam"], 1.0)
        for term in self.terms.values():
            term.persistent = True
        self.solver = solver


def distances(mlp, frame, truth, samples, grid_size) -> dict:
    """Exact distances of `samples` (N, 3) of the truth to the mesh, both in the truth's unit frame
    (truth and frame: the Frames of truth and cloud), and the mesh's topology."""
    grid = surface.Grid.of([-1.5] * 3, [1.5] * 3, grid_size)
    mesh, _ = surface.extract(mlp.evaluate, grid)
    mesh = mesh._replace(points=truth.to_unit(frame.to_world(mesh.points)))
    d = metrics.point_to_surface(samples, mesh)
    topology = meshes.topology(mesh)
    return {"mean": float(d.mean()), "p99": float(np.percentile(d, 99)), "max": float(d.max()),
            "components": topology["components"], "euler": topology["euler_characteristic"]}


def run(path, truth_path, changes: dict, grid_size: int) -> dict:
    """One training on the cloud file at `path`: {"cpu_seconds", the entries of distances()
    [, "averaged"], "losses" of the last step}."""
    c = {**DEFAULT, **changes}
    cloud = datasets.load_cloud(path, c["k"], c["test"], bool(c["normals"]), c["seed"])
    truth = files.read_mesh(truth_path)
    unit = frames.Frame.of(truth.surface_points)
    samples = meshes.sample_mesh(truth._replace(points=unit.to_unit(truth.points)), 200_000,
                                   np.random.default_rng(1)).points
    mlp = MLP(c["dims"], radius=c["radius"], seed=c["seed"], kernel=True,
              arrays=he_init(c["dims"], c["seed"]) if c["init"] == "he" else None)
    solvers.ITERATIONS, solvers.STEP, solvers.MU = c["ns"], c["wide"], c["mu"]
    if c["optimiser"] == "soap":
        solver = Soap(solvers.Adam(0.9, c["beta1"]))
        solver.beta2, solver.every, solver.wide = c["sbeta"], c["every"], c["wide"]
    else:
        solver = solvers.make(c["optimiser"], True, 0.9, c["beta1"])
    if c["adam"] != 1:
        solver = TwoRates(solver.adam)
        solver.ratio = c["adam"]
    solver.set_parameters(mlp.parameters)
    average = Average(mlp, c["ema"]) if c["ema"] else None
    made, batch, start = {}, 0, time.process_time()
    for step in range(c["steps"]):
        if batch_of(c, step) != batch:
            batch = batch_of(c, step)
            order = sampling.batches(len(cloud.points), batch, c["seed"])
            made[batch] = Step(mlp, batch, c, solver)
        trainer = made[batch]
        index = next(order)
        x = cloud.points[index]
        y = free_space(c, x, cloud.sigma[index], np.random.default_rng((c["seed"], 1, step)))
        trainer.samples.now = x, y, cloud.normals[index] if c["normals"] else None
        trainer.step(rate_of(c, step))
        for matrix in solver.hidden.values() if c["wd"] else ():
            matrix.d *= np.float32(1 - c["wd"] * rate_of(c, step))
        if average:
            average.add(mlp, step)
    spent = time.process_time() - start
    terms = {name: float(f"{value:.4g}") for name, value in trainer.losses().items()}
    found = distances(mlp, cloud.frame, unit, samples, grid_size)
    if average:
        for name, p in mlp.parameters.items():
            p.d = average.arrays[name]
        found["averaged"] = distances(mlp, cloud.frame, unit, samples, grid_size)["mean"]
    return {"cpu_seconds": round(spent, 1), **found, "losses": terms}


def lines() -> list:
    return [json.loads(row) for row in LINES.read_text().splitlines()] if LINES.exists() else []


def table(rows: list) -> str:
    """The runs as Markdown, one a line, the shapes in the order in which they came; distances in
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
    """The page `text` with a fresh table behind its last heading, HEADING."""
    return text[: text.index(HEADING)] + f"{HEADING}\n\n{table(rows)}"


def parse_args() -> argparse.Namespace:
    parser = helper.parser(__doc__)
    add = parser.add_argument
    add("variants", nargs="*", help="changes against DEFAULT, \"rate=1e-2 ...\"")
    add("--render", action="store_true", help="write the table and do nothing else")
    add("-f", "--fpath", help="cloud; its name up to _pcd is the shape's")
    add("--truth", help="mesh to measure against")
    add("--grid-size", type=int, default=256, help="of the mesh that is measured")
    add("--threads", type=int, default=1, help="of the CPU's kernel; 1 costs the least CPU time")
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
