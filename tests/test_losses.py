"""The terms of the loss where their values are known, and the gradient of the surface-to-point
term."""

import datasets
from igr.backend import ranks
from igr.geometry.frames import Frame
from igr.training import loop, sampling, solvers, surface_samples
from igr.training.sampling import Sizes
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


# --- the surface-to-point term


class Ball:
    """f(x) = |x| - r: the zero set is a sphere, whose radius r is the only parameter."""

    def __init__(self, radius):
        self.parameters = {"r": variable([[radius]], need_grad=True)}

    def value_and_gradient(self, x, m):
        length = losses.norm(x)
        return length - self.parameters["r"], (x / length)[x.shape[0] - m :]


def zero_samples(s, p, weight=1):
    made = sampling.HostZeroSamples(len(s), 0)
    made.s.d = s
    made.p.d = p
    made.weight.d = weight
    return made


def surface_term(field, samples, normals=False):
    """The term and its gradient by parameter, among surface points and points of free space."""
    rng = np.random.default_rng(5)
    x, y, n = (variable(rng.uniform(-1, 1, (count, 3)).astype(np.float32)) for count in (4, 5, 4))
    given = Samples(x, y, n if normals else None, samples)
    term = losses.igr_loss(field, given, Weights(mu=1.0))["surface"]
    for parameter in field.parameters.values():
        parameter.grad.zero()
    term.forward(clear_no_need_grad=True)
    term.backward(clear_buffer=True)
    gradients = {name: parameter.g.copy() for name, parameter in field.parameters.items()}
    return float(term.d), gradients


def on_sphere(rng, n):
    v = rng.standard_normal((n, 3))
    return v / np.linalg.norm(v, axis=1, keepdims=True)


@pytest.mark.parametrize("normals", [False, True])
def test_surface_term_of_a_moving_sphere(rng, normals):
    """Value and derivative are those of the mean distance between the sphere's points and the
    cloud's, also for samples that the sphere has moved away from."""
    radius = 0.6
    directions = on_sphere(rng, 200)
    s = (radius + rng.uniform(-0.03, 0.03, (200, 1))) * directions
    p = 1.3 * s + 0.2 * rng.standard_normal((200, 3))
    value, gradients = surface_term(Ball(radius), zero_samples(s, p), normals)

    def truth(r):
        return np.linalg.norm(r * directions - p, axis=1).mean()

    assert value == pytest.approx(truth(radius), rel=1e-5)
    slope = (truth(radius + 1e-5) - truth(radius - 1e-5)) / 2e-5
    assert gradients["r"].item() == pytest.approx(slope, rel=1e-4)


def on_zero_set(mlp, s):
    """s (N, 3), moved along grad f until f is 0, by Newton's steps."""
    for _ in range(5):
        f, gradient = (v.astype(np.float64) for v in mlp.evaluate_with_gradient(s))
        s = s - f[:, None] * gradient / (gradient**2).sum(axis=1, keepdims=True)
    return s


@pytest.mark.parametrize("kernel", [True, False])
def test_surface_term_of_a_network(rng, kernel):
    """The derivative along the gradient is that of the mean distance between the zero set's points,
    found anew for the changed parameters, and the cloud's."""
    mlp = MLP(Architecture(32), kernel=kernel)
    s = on_zero_set(mlp, 0.5 * on_sphere(rng, 128))
    p = s * rng.uniform(0.3, 0.9, (128, 1)) + 0.1 * rng.standard_normal((128, 3))
    _, gradients = surface_term(mlp, zero_samples(s, p))
    length = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in gradients.values()))
    before = {name: parameter.d.copy() for name, parameter in mlp.parameters.items()}

    def truth(change):
        for name, parameter in mlp.parameters.items():
            parameter.d = before[name] + np.float32(change / length) * gradients[name]
        return np.linalg.norm(on_zero_set(mlp, s) - p, axis=1).mean()

    assert (truth(2e-3) - truth(-2e-3)) / 4e-3 == pytest.approx(length, rel=0.01)


def test_samples_that_the_surface_has_left_count_nothing(rng):
    directions = on_sphere(rng, 10)
    far = np.arange(10) < 4  # 0.06 from the sphere, the others 0.04
    s = np.where(far[:, None], 0.66, 0.64) * directions
    value, gradients = surface_term(Ball(0.6), zero_samples(s, 2 * directions))
    assert value == pytest.approx(0.6 * 1.4, rel=1e-5)
    assert gradients["r"].item() == pytest.approx(-0.6, rel=1e-4)


def test_a_level_field_has_a_bounded_gradient():
    """Where a sheet dissolves, grad f goes through zero; c = |G| is bounded there."""

    class Level:
        """f = 0.001 x_0 + b."""

        def __init__(self):
            self.parameters = {"b": variable([[0.0]], need_grad=True)}

        def value_and_gradient(self, x, m):
            return 1e-3 * x[:, :1] + self.parameters["b"], 1e-3 * variable([[1.0, 0, 0]] * m)

    p = np.array([[1.0, 0, 0]] * 2)
    value, gradients = surface_term(Level(), zero_samples(0 * p, p))
    assert value == pytest.approx(1)
    assert gradients["b"].item() == pytest.approx(1e-3 / losses.MIN_SLOPE**2)


def test_without_a_pool_the_surface_term_is_nothing(rng):
    samples = zero_samples(np.zeros((8, 3)), np.zeros((8, 3)), weight=0)
    value, gradients = surface_term(MLP(Architecture(16), kernel=True), samples)
    assert value == 0 and not any(g.any() for g in gradients.values())


@pytest.mark.parametrize("kernel", [True, False])
@pytest.mark.parametrize("normals", [False, True])
def test_without_mu_the_loss_is_the_paper_s(rng, kernel, normals):
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
    """The loss before there was the surface-to-point term."""
    everywhere = F.concatenate(x, y, axis=0)
    m = y.shape[0] if n is None else everywhere.shape[0]
    f, grad = mlp.value_and_gradient(everywhere, m)
    grad_y = grad if n is None else grad[x.shape[0] :]
    loss = losses.point_loss(f[: x.shape[0]]) + 0.1 * losses.eikonal_loss(grad_y)
    return loss if n is None else loss + 2.0 * losses.normals_loss(grad[: x.shape[0]], n)


def zero_set(mlp, points):
    return surface_samples.ZeroSet(mlp.evaluate, points, np.full((len(points), 1), 0.05), 1.5, 0)


def ghost_share(mlp, points):
    """The share of the zero set's area that is farther than 0.2 from all points."""
    pool = zero_set(mlp, points).pool(0)
    return pool.weight * (np.linalg.norm(pool.s - pool.p, axis=1) > 0.2).mean()


def train(mlp, points, mu, steps):
    """Train a network on a cloud, with one pool."""
    cloud = datasets.PointCloud(points, None, np.full((len(points), 1), 0.1, np.float32),
                                points[:0], Frame())
    samples = sampling.HostSamples(cloud, Sizes(64, 64, 1.5, 128 if mu else 0), 0)
    if mu:
        samples.zero_set.set_pool(zero_set(mlp, points).pool(0))
    terms = losses.igr_loss(mlp, samples, Weights(mu=mu))
    trainer = loop.Trainer(terms, mlp, solvers.make("muon", True), samples, ranks.Ranks())
    for _ in range(steps):
        trainer.step(2e-3)


def test_the_surface_term_removes_a_ghost(rng):
    """A network that has learnt two balls is trained on with the points of one."""
    ball = (0.5 * on_sphere(rng, 400) - [0.4, 0, 0]).astype(np.float32)
    ghost = (0.25 * on_sphere(rng, 200) + [0.75, 0, 0]).astype(np.float32)
    mlp = MLP(Architecture(32), kernel=True)
    train(mlp, np.concatenate([ball, ghost]), 0, 300)
    assert ghost_share(mlp, ball) == pytest.approx(0.2, abs=0.05)
    learnt = {name: parameter.d.copy() for name, parameter in mlp.parameters.items()}
    shares = {}
    for mu in (0, 1):
        mlp = MLP(Architecture(32), kernel=True, arrays=learnt)
        train(mlp, ball, mu, 60)
        shares[mu] = ghost_share(mlp, ball)
    assert shares[0] > 0.05 and shares[1] < 0.005
