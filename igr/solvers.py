"""The solvers: Adam (Kingma & Ba 2015) and Muon (Jordan 2024), on the CPU's kernel and in a graph.

Muon steps a hidden matrix W (in, out) with gradient G along its momentum, orthogonalised:

    M <- mu M + (1 - mu) G,   S = mu M + (1 - mu) G  (Nesterov),   S = U s V^T
    W <- W - rate 0.2 sqrt(max(in, out)) U V^T

so that the small directions of a step count as much as the large ones. The factor gives a step
the root mean square of Adam's (Liu et al. 2025, arXiv 2502.16982, eq. 4), so one rate serves both.
U V^T comes from five steps of the quintic Newton-Schulz iteration, which moves all singular
values to between 0.7 and 1.2: three matrix products each and no decomposition. What is no hidden
matrix (biases, the first and the last layer) steps as Adam does.
"""

from __future__ import annotations

from helper import UserError
from igr import threads

import nnabla as nn
import nnabla.functions as F
import nnabla.solvers as S
import numpy as np
from numpy import float32 as f4

MU = 0.98  # decay of the momentum: 0.95 is Muon's usual, see results/study.md
ITERATIONS = 5
QUINTIC = 3.4445, -4.7750, 2.0315  # a x + b x^3 + c x^5, Jordan's coefficients
STEP = 0.2  # root mean square of a step of rate 1, as Adam's


@threads.compiled(fastmath={"contract"}, error_model="numpy")
def _adam(ps, gs, ms, vs, part, parts, beta1, beta2, rate, eps):
    """Step the part-th of `parts` pieces of every parameter; ps, ... are tuples of flat arrays."""
    for l in range(len(ps)):
        size = len(ps[l])
        piece = slice(size * part // parts, size * (part + 1) // parts)
        p, g, m, v = ps[l][piece], gs[l][piece], ms[l][piece], vs[l][piece]
        for i in range(len(p)):
            m[i] = beta1 * m[i] + (f4(1) - beta1) * g[i]
            v[i] = beta2 * v[i] + (f4(1) - beta2) * g[i] * g[i]
            p[i] -= rate * m[i] / (np.sqrt(v[i]) + eps)


class Adam:
    """Adam (Kingma & Ba 2015, the form before section 2.1's end) on all threads.

    Steps as nnabla's Adam does, and is used like it.
    """

    def __init__(self, beta1=0.9, beta2=0.999, eps=1e-8):
        self.beta1, self.beta2, self.eps, self.t = beta1, beta2, eps, 0

    def set_parameters(self, parameters: dict) -> None:
        self.parameters = parameters
        self.m, self.v = ({name: np.zeros(p.size, np.float32) for name, p in parameters.items()}
                          for _ in range(2))

    def state(self) -> dict:
        """Both moments and the step as arrays, by name."""
        return {"t": np.array(self.t), **{f"mean/{name}": m for name, m in self.m.items()},
                **{f"var/{name}": v for name, v in self.v.items()}}

    def set_state(self, state: dict) -> None:
        """The reverse of state(). Raises KeyError or ValueError where the arrays do not fit."""
        self.t = int(state["t"])
        for kind, moments in (("mean", self.m), ("var", self.v)):
            for name, moment in moments.items():
                moment[:] = state[f"{kind}/{name}"].reshape(-1)

    def set_learning_rate(self, rate: float) -> None:
        self.rate = rate

    def zero_grad(self) -> None:
        for parameter in self.parameters.values():
            parameter.grad.zero()

    def update(self) -> None:
        self.t += 1
        rate = self.rate * (1 - self.beta2**self.t) ** 0.5 / (1 - self.beta1**self.t)
        constants = f4(self.beta1), f4(self.beta2), f4(rate), f4(self.eps)
        all_ = self.parameters.values()
        ps, gs = tuple(p.d.reshape(-1) for p in all_), tuple(p.g.reshape(-1) for p in all_)
        ms, vs = tuple(self.m.values()), tuple(self.v.values())
        threads.map(lambda part: _adam(ps, gs, ms, vs, part, threads.count(), *constants),
             list(range(threads.count())))

def compile_all() -> None:
    """Compile Adam's step now."""
    _adam(*[tuple(np.zeros((16, 1), f4))] * 4, 0, 1, f4(0), f4(0), f4(0), f4(1))


def make(name: str, kernel: bool, beta0: float, beta1: float):
    """"adam" or "muon", on the CPU's kernel or with nnabla's functions."""
    adam = (Adam if kernel else S.Adam)(beta1=beta0, beta2=beta1)
    if name == "adam":
        return adam
    return (KernelMuon if kernel else GraphMuon)(adam)


def is_hidden(parameter) -> bool:
    """Is it a matrix between two hidden layers?"""
    return len(parameter.shape) == 2 and min(parameter.shape) > 3


class KernelMuon:
    """Muon in numpy on the kernel's threads. Used as nnabla's solvers are."""

    def __init__(self, adam):
        self.adam = adam

    def set_parameters(self, parameters: dict) -> None:
        self.hidden = {name: p for name, p in parameters.items() if is_hidden(p)}
        self.adam.set_parameters({n: p for n, p in parameters.items() if n not in self.hidden})
        self.prepare()

    def prepare(self) -> None:
        """Make what belongs to `hidden`; the momentum begins at zero."""
        self.momentum = {name: np.zeros(p.shape, np.float32) for name, p in self.hidden.items()}

    def state(self) -> dict:
        """Momentum and Adam's moments as arrays, by name."""
        return {**state_of(self.adam),
                **{f"momentum/{name}": m.copy() for name, m in self.momentum.items()}}

    def set_state(self, state: dict) -> None:
        """The reverse of state(). Raises KeyError, ValueError where the arrays do not fit."""
        set_state_of(self.adam, state)
        self.momentum = {name: state[f"momentum/{name}"].astype(np.float32).reshape(p.shape)
                         for name, p in self.hidden.items()}

    def set_learning_rate(self, rate: float) -> None:
        self.rate = rate
        self.adam.set_learning_rate(rate)

    def zero_grad(self) -> None:
        self.adam.zero_grad()
        for parameter in self.hidden.values():
            parameter.grad.zero()

    def update(self) -> None:
        self.adam.update()
        names, n = list(self.hidden), threads.count()

        def some(names):
            for name in names:
                m, p = self.momentum[name], self.hidden[name]
                m *= np.float32(MU)
                m += np.float32(1 - MU) * p.g
                step = orthogonal(np.float32(MU) * m + np.float32(1 - MU) * p.g)
                step *= np.float32(self.rate * STEP * max(m.shape) ** 0.5)
                p.d -= step

        threads.map(some, [names[i::n] for i in range(n)])


def orthogonal(matrix: np.ndarray) -> np.ndarray:
    """About U V^T of the matrix U s V^T (float32)."""
    a, b, c = (np.float32(x) for x in QUINTIC)
    X = matrix / (np.linalg.norm(matrix) + np.float32(1e-12))
    for _ in range(ITERATIONS):
        A = X @ X.T  # numpy takes half the products for these two: what they give is symmetric
        B = A @ A.T
        B *= c
        B += b * A
        X = a * X + B @ X
    return X


class GraphMuon(KernelMuon):
    """Muon with nnabla's functions, all hidden matrices in one product: for a GPU, where the number
    of functions counts.

    Narrower matrices are filled with zeros to squares, which orthogonalising leaves alone. update()
    puts the steps in the place of the gradients, where Sgd takes a matrix in one function.
    """

    def prepare(self) -> None:
        self.width = width = max(max(p.shape) for p in self.hidden.values())
        gradients = []
        for p in self.hidden.values():
            g = nn.Variable(p.shape)
            g.data = p.grad
            rows, columns = (width - size for size in p.shape)
            gradients.append(F.pad(g, (0, rows, 0, columns)) if rows or columns else g)
        G = (1 - MU) * F.stack(*gradients, axis=0)
        self.stacked = nn.Variable(G.shape)  # the momentum
        self.stacked.d = 0
        X = MU * F.assign(self.stacked, MU * self.stacked + G) + G
        X = X / (F.sum(X * X, axis=(1, 2), keepdims=True) ** 0.5 + 1e-12)
        a, b, c = QUINTIC
        identity = np.broadcast_to(np.eye(width, dtype=np.float32), G.shape)
        bI = nn.Variable.from_numpy_array(b * identity)  # one function less than b A + c A A
        for _ in range(ITERATIONS):
            A = F.batch_matmul(X, X, transpose_b=True)
            X = a * X + F.batch_matmul(F.batch_matmul(A, c * A + bI), X)
        steps = []
        for i, p in enumerate(self.hidden.values()):
            steps.append(F.slice(X, (i, 0, 0), (i + 1, *p.shape)))
            steps[-1].data = p.reshape(steps[-1].shape, unlink=True).grad
        self.steps = F.sink(*steps)
        self.descent = S.Sgd()
        self.descent.set_parameters(self.hidden)

    @property
    def momentum(self) -> dict:
        """Copies, by name."""
        whole = self.stacked.d
        return {name: whole[i, : p.shape[0], : p.shape[1]].copy()
                for i, (name, p) in enumerate(self.hidden.items())}

    @momentum.setter
    def momentum(self, arrays: dict) -> None:
        whole = np.zeros((len(arrays), self.width, self.width), np.float32)
        for part, m in zip(whole, arrays.values()):
            part[: m.shape[0], : m.shape[1]] = m
        self.stacked.d = whole

    def update(self) -> None:
        self.adam.update()
        self.steps.forward()
        self.descent.set_learning_rate(self.rate * STEP * self.width**0.5)
        self.descent.update()


def state_of(solver) -> dict:
    """The state of Adam or of nnabla's as arrays, alike."""
    if hasattr(solver, "state"):
        return solver.state()
    found = {}
    for name, state in solver.get_states().items():
        found["t"] = np.array(state.t)
        found.update({f"{kind}/{name}": np.array(m.d) for kind, m in state.pstate.items()})
    return found


def set_state_of(solver, arrays: dict) -> None:
    """The reverse of state_of. Raises UserError where the arrays do not fit."""
    try:
        if hasattr(solver, "set_state"):
            solver.set_state(arrays)
            return
        states = solver.get_states()
        for name, state in states.items():
            state.t = int(arrays["t"])
            for kind, moment in state.pstate.items():
                moment.d = arrays[f"{kind}/{name}"].reshape(moment.shape)
        solver.set_states(states)
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"the solver's state does not fit the network ({error})") from None
