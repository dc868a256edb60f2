"""What brings the surface distance down per minute: variants of a training, a JSON line each.

    python benchmarks/study.py -f bunny_pcd.ply --truth bun_zipper.ply "" "radius=0.5 rate=1e-2"

trains each variant (changes against DEFAULT, "" is none) on a cloud, extracts the surface on a
grid and measures it against the true mesh. A line that study.jsonl has already is not run again.
`--render` writes results/study.md from all lines. The cost of a run is the CPU time of its training
loop, all threads, so that runs side by side and pauses do not disturb it.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
import time

from common import ROOT, helper, kernels
import datasets
import geometry
import losses
import metrics
from networks import MLP
import parts
import solvers
import surface
import train

import nnabla as nn
import numpy as np

LINES = Path(__file__).with_suffix(".jsonl")
PAGE, HEADING = ROOT / "results" / "study.md", "## Every run"
DEFAULT = {
    "dims": 256, "steps": 2000, "seed": 0,
    "batch": 512, "grow": 1,  # the batch doubles until it is `grow` times as large at the end
    "uniform": 1.0, "near": 1.0,  # free points of either kind for a surface point
    "rate": 5e-3, "floor": 0.01, "decay": "cosine", "warm": 100, "beta1": 0.999,
    "lam": 0.1, "lam_end": 0.0,  # lam_end: lam moves there, along the logarithm; 0: it does not
    "k": 50, "test": 0.25, "normals": 0,
    "radius": 1.0, "optimiser": "adam", "ns": 5, "wide": 0.2, "sbeta": 0.95, "every": 10,
    "ema": 0.0,
}


def changes_of(variant: str) -> dict:
    """{"rate": 0.01, ...} of "rate=1e-2 ..."; raises KeyError for what DEFAULT does not have."""
    changes = {}
    for word in variant.split():
        name, value = word.split("=")
        changes[name] = type(DEFAULT[name])(value)
    return {name: value for name, value in sorted(changes.items()) if value != DEFAULT[name]}


class Soap(solvers.KernelMuon):
    """SOAP (Vyas et al. 2024): Adam in the eigenbasis of Shampoo's two factors."""

    every, beta = 10, 0.95

    def set_parameters(self, parameters):
        super().set_parameters(parameters)
        self.L, self.R, self.QL, self.QR, self.V, self.t = {}, {}, {}, {}, {}, 0

    def update(self):
        self.adam.update()
        names, threads = list(self.hidden), kernels.threads()
        self.t += 1
        kernels._map(lambda some: [self.one(name) for name in some],
                     [names[i::threads] for i in range(threads)])

    def one(self, name):
        p, m, beta = self.hidden[name], self.momentum[name].d, np.float32(self.beta)
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


def rate_of(c: dict, step: int) -> float:
    warm = min(1.0, (step + 1) / c["warm"])
    s = step / c["steps"]
    down = {"cosine": 0.5 * (1 + math.cos(math.pi * s)), "linear": 1 - s,
            "late": min(1.0, 2 * (1 - s)),  # constant, then linear in the second half
            "quad": (1 - s) ** 2}[c["decay"]]
    return warm * c["rate"] * (c["floor"] + (1 - c["floor"]) * down)


def batch_of(c: dict, step: int) -> int:
    """The batch doubles at equal parts of the run."""
    doublings = int(math.log2(c["grow"]))
    return c["batch"] * 2 ** min(doublings, (doublings + 1) * step // c["steps"])


def free_space(c, x, sigma, rng):
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


class Step(train.Trainer):
    """train.Trainer with its own number of free points and a solver that is shared."""

    def __init__(self, mlp, batch, c, solver, lam):
        self.x = nn.Variable((batch, 3))
        self.y = nn.Variable((round(batch * c["uniform"]) + round(batch * c["near"]), 3))
        self.n = nn.Variable((batch, 3)) if c["normals"] else None
        self.lam = nn.Variable(())
        self.lam.d = lam
        lam = self.lam if c["lam_end"] else lam
        self.terms = losses.igr_loss(mlp, self.x, self.y, self.n, lam, 1.0)
        for term in self.terms.values():
            term.persistent = True
        self.solver = solver


def distances(mlp, frame, truth, samples, grid_size) -> dict:
    """Truth to mesh in the unit frame of the truth, and the mesh's topology."""
    grid = surface.Grid.of([-1.5] * 3, [1.5] * 3, grid_size)
    mesh, _ = surface.extract(mlp.evaluate, grid)
    mesh = mesh._replace(points=truth.to_unit(frame.to_world(mesh.points)))
    d = metrics.point_to_surface(samples, mesh)
    topology = parts.topology(mesh)
    return {"mean": float(d.mean()), "p99": float(np.percentile(d, 99)), "max": float(d.max()),
            "components": topology["components"], "euler": topology["euler_characteristic"]}


def run(path, truth_path, changes: dict, grid_size: int, progress=None) -> dict:
    c = {**DEFAULT, **changes}
    cloud = datasets.load(path, c["k"], c["test"], bool(c["normals"]), c["seed"])
    truth = geometry.read_mesh(truth_path)
    unit = geometry.Frame.of(truth.surface_points)
    samples = geometry.sample_mesh(truth._replace(points=unit.to_unit(truth.points)), 200_000,
                                   np.random.default_rng(1)).points
    mlp = MLP(c["dims"], radius=c["radius"], seed=c["seed"], kernel=True)
    solvers.ITERATIONS, solvers.STEP = c["ns"], c["wide"]
    if c["optimiser"] == "soap":
        solver = Soap(kernels.Adam(0.9, c["beta1"]))
        solver.beta2, solver.every, solver.wide = c["sbeta"], c["every"], c["wide"]
    else:
        solver = solvers.make(c["optimiser"], True, 0.9, c["beta1"])
    solver.set_parameters(mlp.parameters)
    average = Average(mlp, c["ema"]) if c["ema"] else None
    made = {}
    seconds, batch, curve = time.process_time(), 0, []
    spent = 0.0
    for step in range(c["steps"]):
        if batch_of(c, step) != batch:
            batch = batch_of(c, step)
            order = datasets.batches(len(cloud.points), batch, c["seed"])
            made[batch] = Step(mlp, batch, c, solver, c["lam"])
        trainer = made[batch]
        if c["lam_end"]:
            trainer.lam.d = c["lam"] * (c["lam_end"] / c["lam"]) ** (step / c["steps"])
        index = next(order)
        x = cloud.points[index]
        y = free_space(c, x, cloud.sigma[index], np.random.default_rng((c["seed"], 1, step)))
        trainer.feed(x, y, cloud.normals[index] if c["normals"] else None)
        trainer.step(rate_of(c, step))
        if average:
            average.add(mlp, step)
        if progress and (step + 1) % progress == 0:
            spent += time.process_time() - seconds
            found = distances(mlp, cloud.frame, unit, samples, grid_size)
            curve.append([step + 1, round(spent), found["mean"], found["components"]])
            print(curve[-1], {n: float(t.d) for n, t in trainer.terms.items()}, flush=True)
            helper.save_arrays(Path(f"long/{c['steps']}_{step + 1}.h5"), {n: p.d for n, p in mlp.parameters.items()})
            seconds = time.process_time()
    spent += time.process_time() - seconds
    losses = {n: float(f"{float(t.d):.4g}") for n, t in trainer.terms.items()}
    found = distances(mlp, cloud.frame, unit, samples, grid_size)
    if average:
        for name, p in mlp.parameters.items():
            p.d = average.arrays[name]
        found["averaged"] = distances(mlp, cloud.frame, unit, samples, grid_size)["mean"]
    return {"cpu_seconds": round(spent, 1), **found, "losses": losses, **({"curve": curve} if curve else {})}


def lines() -> list:
    return [json.loads(row) for row in LINES.read_text().splitlines()] if LINES.exists() else []


def table(rows: list) -> str:
    """The runs as Markdown, one a line, the shapes in the order in which they came."""
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


def main(args) -> None:
    if args.render:
        with helper.replacing(PAGE) as temporary:
            temporary.write_text(render(PAGE.read_text(), lines()))
        return
    kernels.set_threads(args.threads)
    helper.set_context("cpu")
    shape = Path(args.fpath).name.split("_pcd")[0]
    for variant in args.variants:
        changes = changes_of(variant)
        key = {"shape": shape, "changes": changes, "grid": args.grid_size}
        if any({name: row[name] for name in key} == key for row in lines()):
            continue
        try:
            found = run(args.fpath, args.truth, changes, args.grid_size, args.progress)
        except helper.UserError as error:
            found = {"error": str(error)}
        with open(LINES, "a") as file:
            file.write(json.dumps({**key, **found}) + "\n")
        print(variant or "default", found, flush=True)


if __name__ == "__main__":
    parser = helper.parser(__doc__)
    parser.add_argument("variants", nargs="*", help="changes against DEFAULT, \"rate=1e-2 ...\"")
    parser.add_argument("--render", action="store_true", help="write the table and do nothing else")
    parser.add_argument("-f", "--fpath")
    parser.add_argument("--truth")
    parser.add_argument("--grid-size", type=int, default=256)
    parser.add_argument("--progress", type=int)
    parser.add_argument("--threads", type=int, default=1)
    main(parser.parse_args())
