"""The terms of the loss where their values are known, and their sum."""

import losses
from losses import Samples, Weights
from networks import MLP, Architecture

import nnabla as nn
import nnabla.functions as F
import numpy as np
import pytest


def variable(array, need_grad=False):
    v = nn.Variable(np.shape(array), need_grad=need_grad)
    v.d = array
    return v


def test_a_distance_has_no_eikonal_loss(rng):
    """f(y) = |y| - 1, built and differentiated by nnabla."""
    y = variable(rng.standard_normal((50, 3)), need_grad=True)
    f = losses.norm(y) - 1
    loss = losses.eikonal_loss(nn.grad([f], [y])[0])
    loss.forward()
    assert loss.d < 1e-10


def test_twice_a_distance_has_eikonal_loss_one(rng):
    directions = rng.standard_normal((50, 3))
    gradient = 2 * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    loss = losses.eikonal_loss(variable(gradient))
    loss.forward()
    assert loss.d == pytest.approx(1, abs=1e-5)


def test_point_loss_is_a_mean_of_absolute_values():
    loss = losses.point_loss(variable([[1.0], [-3.0]]))
    loss.forward()
    assert loss.d == pytest.approx(2)


def test_normals_loss_is_the_mean_distance_of_the_vectors():
    gradient = [[0, 0, 1.0], [0, 3.0, 0]]
    normals = [[0, 0, 1.0], [4.0, 0, 0]]
    loss = losses.normals_loss(variable(gradient), variable(normals))
    loss.forward()
    assert loss.d == pytest.approx(2.5, abs=1e-5)


def test_norm_has_a_finite_derivative_at_zero():
    v = variable(np.zeros((2, 3)), need_grad=True)
    loss = F.sum(losses.norm(v))
    loss.forward()
    v.grad.zero()
    loss.backward()
    assert np.isfinite(v.g).all()


def test_weighted_sum(rng):
    """The loss is points + lam eikonal + tau normals, for a field with known terms."""

    class Slope:
        """f(x) = 3 x_0: grad f = (3, 0, 0)."""

        def value_and_gradient(self, x, m):
            return 3 * x[:, :1], F.constant(0, (m, 3)) + variable([[3.0, 0, 0]])

    x = variable([[1.0, 0, 0], [-1.0, 5, 5]])
    y = variable(rng.standard_normal((4, 3)))
    for n, truth in [(variable([[0, 4.0, 0]] * 2),
                      {"points": 3, "eikonal": 4, "normals": 5, "loss": 13.4}),
                     (None, {"points": 3, "eikonal": 4, "loss": 3.4})]:
        terms = losses.igr_loss(Slope(), Samples(x, y, n), Weights(lam=0.1, tau=2))
        nn.forward_all(list(terms.values()))
        values = {name: float(term.d) for name, term in terms.items()}
        assert values == pytest.approx(truth, rel=1e-5)


@pytest.mark.parametrize("kernel", [True, False])
@pytest.mark.parametrize("normals", [False, True])
def test_the_loss_is_the_paper_s(rng, kernel, normals):
    """Bit for bit, and function for function, what the paper's terms alone give."""
    x, y, n = (variable(rng.uniform(-1, 1, (size, 3)).astype(np.float32)) for size in (6, 12, 6))
    n = n if normals else None
    found = []
    for build in (lambda mlp: losses.igr_loss(mlp, Samples(x, y, n), Weights(0.1, 2.0))["loss"],
                  lambda mlp: papers_loss(mlp, x, y, n)):
        mlp = MLP(Architecture(16), kernel=kernel)
        loss = build(mlp)
        names = []
        loss.visit(lambda f: names.append(f.info.type_name))  # noqa: B023
        for parameter in mlp.parameters.values():
            parameter.grad.zero()
        loss.forward(clear_no_need_grad=True)
        loss.backward(clear_buffer=True)
        found.append((names, float(loss.d), [p.g.tobytes() for p in mlp.parameters.values()]))
    assert found[0] == found[1]


def papers_loss(mlp, x, y, n):
    """The terms one by one."""
    everywhere = F.concatenate(x, y, axis=0)
    m = y.shape[0] if n is None else everywhere.shape[0]
    f, grad = mlp.value_and_gradient(everywhere, m)
    grad_y = grad if n is None else grad[x.shape[0] :]
    loss = losses.point_loss(f[: x.shape[0]]) + 0.1 * losses.eikonal_loss(grad_y)
    return loss if n is None else loss + 2.0 * losses.normals_loss(grad[: x.shape[0]], n)
