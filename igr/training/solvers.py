"""Step the weights by Adam (Kingma & Ba 2015) or Muon (Jordan 2024), compiled or in the graph.

Muon steps a hidden matrix W (in, out) with gradient G along its momentum, orthogonalised:

    M <- mu M + (1 - mu) G,   S = mu M + (1 - mu) G  (Nesterov),   S = U s V^T
    W <- W - rate 0.2 sqrt(max(in, out)) U V^T

so the small directions of a step count as much as the large ones. The factor gives a step
the root mean square of Adam's (Liu et al. 2025, arXiv 2502.16982, eq. 4), so one rate serves both.
U V^T comes from four polynomials X <- (a I + b A + c A^2) X, A = X X^T, three matrix products each
and no decomposition. Each is the odd quintic nearest to 1, in the maximum norm, where the one
before has left the singular values (Polar Express, Amsel et al. 2025, arXiv 2505.16932): together
they move all of them between 0.003 and 1 to between 0.8 and 1.2. All other parameters (biases, the
first and the last layer) step as Adam does.

Each solver is used as nnabla's are: set_parameters, then set_learning_rate, zero_grad and update at
each step. The arrays of state_of() go into a run's state file; their names are the file's format.
"""

from __future__ import annotations

import abc

from helper import UserError
from igr.backend import threads
from igr.field import reductions

import nnabla as nn
import nnabla.functions as F
import nnabla.solvers as S
import numpy as np
from numpy import float32 as f4

MU = 0.98  # decay of the momentum: 0.95 is Muon's usual, see results/study.md
# (a, b, c) of a x + b x^3 + c x^5, for singular values of 0.003 to 1; tests/test_solvers.py finds
# them again by linear programming
QUINTICS = np.array([[8.3837, -24.7659, 18.3571], [4.0434, -3.0114, 0.5695],
                     [3.5056, -2.6267, 0.5257], [2.4901, -1.8343, 0.4368]], f4)
STEP = 0.2  # root mean square of a step of rate 1, as Adam's


def make(name: str, kernel: bool):
    """The solver "adam" or "muon", on the CPU's kernel or with nnabla's functions."""
    adam = Adam() if kernel else S.Adam()
    if name == "adam":
        return adam
    return (KernelMuon if kernel else GraphMuon)(adam)


# ------------------------------------------------------------------------------------------ Adam


@threads.compiled(fastmath={"contract"}, error_model="numpy")
def _adam(ps, gs, ms, vs, part, parts, beta1, beta2, rate, eps):
    """Step the part-th of `parts` pieces of every parameter; ps, ... are tuples of flat arrays."""
    for l in range(len(ps)):
        size = len(ps[l])
        piece = slice(size * part // parts, size * (part + 1) // parts)
        p = ps[l][piece]
        g = gs[l][piece]
        m = ms[l][piece]
        v = vs[l][piece]
        for i in range(len(p)):
            m[i] = beta1 * m[i] + (f4(1) - beta1) * g[i]
            v[i] = beta2 * v[i] + (f4(1) - beta2) * g[i] * g[i]
            p[i] -= rate * m[i] / (np.sqrt(v[i]) + eps)


class Adam:
    """Adam on all threads, step for step as nnabla's own (Kingma & Ba 2015, in the form of the end
    of section 2, where the bias correction is in the rate)."""

    def __init__(self, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8):
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps
        self.t = 0  # steps done

    def set_parameters(self, parameters: dict) -> None:
        self.parameters = parameters
        self.m = {name: np.zeros(p.size, np.float32) for name, p in parameters.items()}
        self.v = {name: np.zeros(p.size, np.float32) for name, p in parameters.items()}

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
        ps = tuple(p.d.reshape(-1) for p in self.parameters.values())
        gs = tuple(p.g.reshape(-1) for p in self.parameters.values())
        ms = tuple(self.m.values())
        vs = tuple(self.v.values())
        n = threads.count_for(sum(len(p) for p in ps))
        threads.map(lambda part: _adam(ps, gs, ms, vs, part, n, *constants), list(range(n)))


# ------------------------------------------------------------------------------------------ Muon


def is_hidden(name: str, parameter) -> bool:
    """Is it a matrix between two hidden layers? The first layer sees the input, however wide an
    encoding makes that."""
    return len(parameter.shape) == 2 and min(parameter.shape) > 3 and not name.startswith("fc0/")


class _Muon(abc.ABC):
    """What both kinds of Muon share: sort the parameters into hidden matrices and Adam's, and keep
    the state."""

    def __init__(self, adam):
        """adam: the solver of all parameters but the hidden matrices, Adam or nnabla's own."""
        self.adam = adam

    def set_parameters(self, parameters: dict) -> None:
        self.hidden = {name: p for name, p in parameters.items() if is_hidden(name, p)}
        rest = {name: p for name, p in parameters.items() if name not in self.hidden}
        self.adam.set_parameters(rest)
        self._start()

    def state(self) -> dict:
        """Momentum and Adam's moments as arrays, by name."""
        momenta = {f"momentum/{name}": m for name, m in self._copy_momenta().items()}
        return {**state_of(self.adam), **momenta}

    def set_state(self, state: dict) -> None:
        """The reverse of state(). Raises KeyError or ValueError where the arrays do not fit."""
        set_state_of(self.adam, state)
        self._set_momenta({name: state[f"momentum/{name}"].astype(np.float32).reshape(p.shape)
                           for name, p in self.hidden.items()})

    def set_learning_rate(self, rate: float) -> None:
        self.rate = rate
        self.adam.set_learning_rate(rate)

    def zero_grad(self) -> None:
        self.adam.zero_grad()
        for parameter in self.hidden.values():
            parameter.grad.zero()

    @abc.abstractmethod
    def _start(self) -> None:
        """Make what belongs to `hidden`; the momentum begins at zero."""

    @abc.abstractmethod
    def _copy_momenta(self) -> dict:
        """The momentum (in, out) of each hidden matrix, float32."""

    @abc.abstractmethod
    def _set_momenta(self, momenta: dict) -> None:
        """The reverse of _copy_momenta()."""

    @abc.abstractmethod
    def update(self) -> None:
        """One step of all parameters."""


@threads.compiled(fastmath={"contract"}, error_model="numpy")
def _muon(p, g, m, X, A, B, BX, mu, size, quintics):
    """Step p (in, out) along its momentum m, with the gradient g; size: the step's singular values;
    quintics (K, 3).

    X and BX (the lesser of in and out, the greater), A and B (lesser, lesser): work space. A matrix
    and its transpose have transposed steps, and the smaller square costs less.
    """
    tall = p.shape[0] > p.shape[1]
    squares = 0.0
    for i in range(p.shape[0]):
        for j in range(p.shape[1]):
            m[i, j] = mu * m[i, j] + (f4(1) - mu) * g[i, j]
            s = mu * m[i, j] + (f4(1) - mu) * g[i, j]
            squares += s * s
            if tall:
                X[j, i] = s
            else:
                X[i, j] = s
    X *= f4(1 / (np.sqrt(squares) + 1e-12))
    for k in range(len(quintics)):
        a, b, c = quintics[k]
        np.dot(X, X.T, A)
        np.dot(A, A, B)
        for i in range(len(A)):
            for j in range(len(A)):
                B[i, j] = b * A[i, j] + c * B[i, j]
        np.dot(B, X, BX)
        for i in range(len(X)):
            for j in range(X.shape[1]):
                X[i, j] = a * X[i, j] + BX[i, j]
    for i in range(p.shape[0]):
        for j in range(p.shape[1]):
            p[i, j] -= size * (X[j, i] if tall else X[i, j])


class KernelMuon(_Muon):
    """Muon compiled, on the kernel's threads, for the CPU."""

    def _start(self) -> None:
        self.momentum = {name: np.zeros(p.shape, np.float32) for name, p in self.hidden.items()}
        self.work = {name: _work_space(p.shape) for name, p in self.hidden.items()}

    def _copy_momenta(self) -> dict:
        return {name: m.copy() for name, m in self.momentum.items()}

    def _set_momenta(self, momenta: dict) -> None:
        self.momentum = momenta

    def update(self) -> None:
        self.adam.update()
        names = list(self.hidden)
        n = threads.count()
        threads.map(self._update_matrices, [names[i::n] for i in range(n)])

    def _update_matrices(self, names: list) -> None:
        for name in names:
            p = self.hidden[name]
            size = f4(self.rate * STEP * max(p.shape) ** 0.5)
            _muon(p.d, p.g, self.momentum[name], *self.work[name], f4(MU), size, QUINTICS)


def _work_space(shape: tuple) -> tuple:
    """X, A, B and BX of _muon for a matrix of this shape."""
    shape = tuple(sorted(shape))
    return tuple(np.empty(size, np.float32)
                 for size in (shape, 2 * shape[:1], 2 * shape[:1], shape))


class GraphMuon(_Muon):
    """Muon with nnabla's functions, all hidden matrices in one product: for a GPU, where the number
    of functions counts.

    Narrower matrices are filled with zeros to squares, which orthogonalising leaves alone. update()
    puts the steps in the place of the gradients, where Sgd takes a matrix in one function.
    """

    def _start(self) -> None:
        width = max(max(p.shape) for p in self.hidden.values())
        G = (1 - MU) * F.stack(*[_padded_gradient(p, width) for p in self.hidden.values()], axis=0)
        self.stacked = nn.Variable(G.shape)  # the momentum (matrices, width, width)
        self.stacked.d = 0
        X = MU * F.assign(self.stacked, MU * self.stacked + G) + G
        X = _orthogonal_graph(X)
        steps = []
        for i, p in enumerate(self.hidden.values()):
            step = F.slice(X, (i, 0, 0), (i + 1, *p.shape))
            step.data = p.reshape(step.shape, unlink=True).grad
            steps.append(step)
        self.steps = F.sink(*steps)
        self.descent = S.Sgd()
        self.descent.set_parameters(self.hidden)

    def _copy_momenta(self) -> dict:
        whole = self.stacked.d
        return {name: whole[i, : p.shape[0], : p.shape[1]].copy()
                for i, (name, p) in enumerate(self.hidden.items())}

    def _set_momenta(self, momenta: dict) -> None:
        whole = np.zeros(self.stacked.shape, np.float32)
        for square, m in zip(whole, momenta.values()):
            square[: m.shape[0], : m.shape[1]] = m
        self.stacked.d = whole

    def update(self) -> None:
        self.adam.update()
        self.steps.forward()
        width = self.stacked.shape[-1]
        self.descent.set_learning_rate(self.rate * STEP * width**0.5)
        self.descent.update()


def _padded_gradient(parameter: nn.Variable, width: int) -> nn.Variable:
    """The gradient (in, out) of a parameter, filled with zeros to (width, width)."""
    g = nn.Variable(parameter.shape)
    g.data = parameter.grad
    rows, columns = (width - size for size in parameter.shape)
    return F.pad(g, (0, rows, 0, columns)) if rows or columns else g


def _orthogonal_graph(X: nn.Variable) -> nn.Variable:
    """About U V^T of each matrix U s V^T of X (matrices, width, width), by nnabla's functions."""
    X = X / (reductions.matrix_norms(X) + 1e-12)
    identity = np.broadcast_to(np.eye(X.shape[-1], dtype=np.float32), X.shape)
    for a, b, c in QUINTICS.tolist():
        bI = nn.Variable.from_numpy_array(b * identity)  # one function less than b A + c A A
        A = F.batch_matmul(X, X, transpose_b=True)
        X = a * X + F.batch_matmul(F.batch_matmul(A, c * A + bI), X)
    return X


def compile_all() -> None:
    """Compile the steps of both solvers now."""
    _adam(*[tuple(np.zeros((16, 1), f4))] * 4, 0, 1, f4(0), f4(0), f4(0), f4(1))
    p, g, m = np.ones((3, 8, 8), f4)
    _muon(p, g, m, *_work_space((8, 8)), f4(0), f4(0), QUINTICS)


# ------------------------------------------------------------------------------- state of a solver


def state_of(solver) -> dict:
    """The state of a solver, of this module or nnabla's Adam, as arrays by name."""
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
