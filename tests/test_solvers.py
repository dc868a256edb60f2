"""The solvers against independent references."""

from igr.backend import threads
from igr.training import solvers
from networks import MLP, Architecture

import nnabla as nn
import nnabla.solvers as S
import numpy as np
import pytest
import scipy.optimize


def variable(array):
    v = nn.Variable(array.shape, need_grad=True)
    v.d = array
    return v


def test_adam_steps_as_nnablas(rng):
    start = {"a": rng.standard_normal((40, 30)), "b": rng.standard_normal(7)}
    found = []
    for make in (S.Adam, solvers.Adam):
        parameters = {name: variable(array) for name, array in start.items()}
        solver = make(beta1=0.8, beta2=0.99)
        solver.set_parameters(parameters)
        gradients = np.random.default_rng(1)
        for step in range(20):
            solver.set_learning_rate(0.01 / (1 + step))
            solver.zero_grad()
            assert not parameters["a"].g.any()
            for v in parameters.values():
                v.g = gradients.standard_normal(v.shape) * 10.0 ** -step
            solver.update()
        found.append(np.concatenate([v.d.ravel() for v in parameters.values()]))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6, atol=1e-6)


def orthogonal(matrix):
    """About U V^T (in, out) of a matrix U s V^T (in, out), by the quintics."""
    X = matrix / np.linalg.norm(matrix)
    for a, b, c in solvers.QUINTICS.tolist():
        A = X @ X.T
        X = a * X + (b * A + c * A @ A) @ X
    return X


def nearest_to_1(low, high):
    """(a, b, c) of the a x + b x^3 + c x^5 nearest to 1 for x in [low, high] in the maximum norm,
    and how near."""
    x = np.geomspace(low, high, 4000)[:, None]
    powers, ones = x ** [[1, 3, 5]], np.ones_like(x)
    rows = np.block([[powers, -ones], [-powers, -ones]])
    found = scipy.optimize.linprog([0, 0, 0, 1], rows, np.concatenate([ones, -ones]),
                                   bounds=[(None, None)] * 4)
    return found.x[:3], found.x[3]


def test_each_quintic_is_the_nearest_to_1_where_those_before_it_left_the_values():
    low, high = 0.003, 1
    for quintic in solvers.QUINTICS:
        best, away = nearest_to_1(low, high)
        np.testing.assert_allclose(quintic, best, rtol=2e-3)
        low, high = 1 - away, 1 + away
    assert away < 0.2


@pytest.mark.parametrize("layer, shape", [(1, (24, 24)), (3, (24, 21)), (4, (36, 24))])
def test_a_step_keeps_the_directions_and_levels_the_values(rng, layer, shape):
    parameters = MLP(Architecture(24, frequencies=2, opened=2)).parameters
    solver = solvers.make("muon", True)
    solver.set_parameters(parameters)
    solver.set_learning_rate(1.0)
    solver.zero_grad()
    p = parameters[f"fc{layer}/affine/W"]
    U, _, Vt = np.linalg.svd(rng.standard_normal(shape), full_matrices=False)
    p.g = (U * np.geomspace(0.1, 20, len(Vt))) @ Vt
    before = p.d.copy()
    solver.update()
    inside = U.T @ (before - p.d) @ Vt.T / (0.2 * max(shape) ** 0.5)
    values = np.diag(inside)
    assert values.min() > 0.6 and values.max() < 1.3
    np.testing.assert_allclose(inside, np.diag(values), atol=1e-4)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_graphs_muon_steps_as_the_kernels(rng, monkeypatch, n):
    """Two implementations, also across state() and set_state(); the biases step as with Adam."""
    monkeypatch.setattr(threads, "SHARED", 0)
    threads.set_count(n)
    rates = [1e-2, 2e-2, 5e-3, 1e-2]
    moved = {}
    parameters = MLP(Architecture(32)).parameters
    gradients = [{name: rng.standard_normal(p.shape) for name, p in parameters.items()}
                 for _ in rates]
    for name, kernel in (("muon", True), ("muon", False), ("adam", True)):
        parameters = MLP(Architecture(32), seed=1).parameters
        solver = solvers.make(name, kernel)
        solver.set_parameters(parameters)
        for rate, gradient in zip(rates, gradients):
            solver.set_learning_rate(rate)
            solver.zero_grad()
            assert all((p.g == 0).all() for p in parameters.values())
            for key, p in parameters.items():
                p.g = gradient[key]
            solver.update()
            if rate == rates[1]:  # two steps before, two after
                state = solvers.state_of(solver)
                solver = solvers.make(name, kernel)
                solver.set_parameters(parameters)
                solvers.set_state_of(solver, state)
        moved[name, kernel] = {key: p.d.copy() for key, p in parameters.items()}
    threads.set_count(2)
    for key, p in moved["muon", True].items():
        np.testing.assert_allclose(moved["muon", False][key], p, atol=2e-6)
        same = np.allclose(moved["adam", True][key], p, atol=1e-6)
        assert same == (key.endswith("b") or key in ("fc0/affine/W", "fc7/affine/W"))


def test_muons_momentum_and_size_of_a_step():
    """Steps of a hidden matrix by hand: Nesterov's momentum, then an orthogonal matrix of known
    size."""
    parameters = MLP(Architecture(16)).parameters
    solver = solvers.make("muon", True)
    solver.set_parameters(parameters)
    rng = np.random.default_rng(3)
    p = parameters["fc3/affine/W"]
    momentum = np.zeros((16, 13))
    for _ in range(3):
        before = p.d.copy()
        G = rng.standard_normal((16, 13)).astype(np.float32)
        solver.set_learning_rate(0.01)
        solver.zero_grad()
        p.g = G
        solver.update()
        momentum = 0.98 * momentum + 0.02 * G
        step = 0.98 * momentum + 0.02 * G
        wanted = orthogonal(step)
        np.testing.assert_allclose(before - p.d, 0.01 * 0.2 * 4 * wanted, atol=1e-6)
