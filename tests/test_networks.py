"""The network: its first field, its gradients against float64, kernel and graph against each other.
"""

from helper import UserError
from igr.backend import threads
from igr.field import checkpoints, passes
import networks
from networks import MLP, Architecture, geometric_init, layer_shapes
import reference

import h5py
import nnabla as nn
import nnabla.functions as F
import numba
import numpy as np
import pytest

N, DIMS = 70, 32


@pytest.fixture(params=["graph", "kernel"])
def mlp(request):
    return MLP(Architecture(DIMS), seed=3, kernel=request.param == "kernel")


def arrays64(mlp):
    return [v.d.astype(np.float64) for v in mlp.parameters.values()]


def variable(array):
    v = nn.Variable(array.shape)
    v.d = array
    return v


def relative(a, b):
    return np.abs(a - b).max() / np.abs(b).max()


@pytest.fixture
def x(rng):
    return rng.uniform(-1.2, 1.2, (N, 3)).astype(np.float32)


def test_value_and_gradient_against_float64(mlp, x):
    f, g = mlp.value_and_gradient(variable(x), N)
    nn.forward_all([f, g])
    weights = arrays64(mlp)
    x64 = x.astype(np.float64)
    assert relative(f.d[:, 0], reference.f(weights, x64)) < 1e-5
    assert relative(g.d, reference.gradient(weights, x64)) < 1e-5
    value = mlp.value(variable(x))
    value.forward()
    assert relative(value.d[:, 0], reference.f(weights, x64)) < 1e-5
    assert relative(mlp.evaluate(x), reference.f(weights, x64)) < 1e-5
    f, g = mlp.evaluate_with_gradient(x, rows=32)  # two whole batches and a smaller one
    assert relative(f, reference.f(weights, x64)) < 1e-5
    assert relative(g, reference.gradient(weights, x64)) < 1e-5


@pytest.mark.parametrize("name", ["fc0/affine/W", "fc2/affine/b", "fc3/affine/W", "fc4/affine/W",
                                  "fc5/affine/W", "fc6/affine/b", "fc7/affine/W"])
def test_double_backward_against_finite_differences(mlp, x, rng, name):
    """d/dW of sum(c f + <d, grad f>), the most general loss in both outputs, along a random
    direction in W, against central differences in float64."""
    c = rng.standard_normal((N, 1))
    d = rng.standard_normal((N, 3))
    f, g = mlp.value_and_gradient(variable(x), N)
    loss = F.sum(f * variable(c)) + F.sum(g * variable(d))
    for v in mlp.parameters.values():
        v.grad.zero()
    loss.forward()
    loss.backward()
    place = list(mlp.parameters).index(name)
    weights = arrays64(mlp)
    x64 = x.astype(np.float64)
    direction = rng.standard_normal(weights[place].shape)

    def value(step):
        moved = list(weights)
        moved[place] = weights[place] + step * direction
        return (c[:, 0] * reference.f(moved, x64)).sum() + reference.along(moved, x64, d).sum()

    truth = (value(1e-6) - value(-1e-6)) / 2e-6
    assert (mlp.parameters[name].g * direction).sum() == pytest.approx(truth, rel=2e-4)


@pytest.mark.parametrize("frequencies", [0, 4])
def test_kernel_agrees_with_the_graph_in_every_parameter(x, rng, frequencies):
    """Without waves and with some, of which one is open in part and one is not."""
    arrays = {name: (array + 0.02 * rng.standard_normal(array.shape)).astype(np.float32)
              for name, array in geometric_init(64, 0.5, rng, frequencies).items()}
    gradients = []
    c = rng.standard_normal((N, 1))
    d = rng.standard_normal((N, 3))
    for kernel in (False, True):
        mlp = MLP(Architecture(64, frequencies=frequencies, opened=min(2.6, frequencies)), kernel,
                  arrays)
        f, g = mlp.value_and_gradient(variable(x), N)
        f_x, grad_y = mlp.value_and_gradient(variable(x), N - 33)
        extra = F.sum(f_x) + F.sum(grad_y * grad_y)  # two calls add into the same gradients
        loss = F.sum(f * variable(c)) + F.sum(g * variable(d)) + extra
        for v in mlp.parameters.values():
            v.grad.zero()
        loss.forward()
        loss.backward()
        gradients.append({name: v.g.copy() for name, v in mlp.parameters.items()})
    for name in gradients[0]:
        assert relative(gradients[1][name], gradients[0][name]) < 1e-5, name


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("activation", ["softplus", "leaky_relu"])
def test_the_graphs_gradient_is_nn_grads(x, activation, apart, monkeypatch):
    """The chain of plain functions against nnabla's own derivative, at some of the points and in
    what flows back to every parameter; with the other points apart, too."""
    monkeypatch.setattr(networks, "APART", 1 if apart else N)
    mlp = MLP(Architecture(64, activation), seed=5)
    found = []
    for chain in (True, False):
        points = variable(x)
        if chain:
            f, g = mlp.value_and_gradient(points, 50)
        else:
            points.need_grad = True
            f = mlp.value(points)
            g = nn.grad([f], [points])[0][N - 50 :]
        loss = F.mean(F.abs(f)) + F.mean((F.sum(g * g, axis=1) - 1) ** 2)
        for v in mlp.parameters.values():
            v.grad.zero()
        loss.forward(clear_no_need_grad=True)
        loss.backward(clear_buffer=True)
        found.append({"loss": loss.d, **{name: v.g.copy() for name, v in mlp.parameters.items()}})
    for name in found[0]:
        assert relative(found[0][name], found[1][name]) < 1e-5, name


def test_inference_does_not_depend_on_the_batch(x, mlp):
    """Bit for bit: following the surface asks for a point in another batch than the dense grid."""
    whole = mlp.evaluate(np.tile(x, (30, 1)))
    assert np.array_equal(whole[:N], mlp.evaluate(x))
    assert np.array_equal(whole[N + 7 : N + 8], mlp.evaluate(x[7:8]))


def test_threads_change_nothing_but_the_rounding(x, monkeypatch):
    monkeypatch.setattr(threads, "SHARED", 0)
    before = threads.count()
    results = []
    try:
        for n in (1, 3, 3):
            threads.set_count(n)
            mlp = MLP(Architecture(DIMS), seed=1, kernel=True)
            f, g = mlp.value_and_gradient(variable(x), N)
            loss = F.mean(f * f) + F.mean(g * g)
            loss.forward()
            for v in mlp.parameters.values():
                v.grad.zero()
            loss.backward()
            results.append(np.concatenate([v.g.ravel() for v in mlp.parameters.values()]))
    finally:
        threads.set_count(before)
    assert np.array_equal(results[1], results[2])
    assert relative(results[1], results[0]) < 1e-5


def test_softplus_loop_has_the_error_it_promises():
    beta = 100.0
    z = np.concatenate([np.linspace(-2, 2, 400_001), [0, -0.0, 1e-30, -50, 50]]).astype(np.float32)
    h = z[None].copy()
    p = np.empty((1, len(z)), np.float32)
    bias = np.zeros(len(z), np.float32)
    passes.softplus(h, 0, h.copy(), bias, p, np.float32(beta), np.float32(1))
    z64 = z.astype(np.float64)
    value = np.maximum(z64, 0) + np.log1p(np.exp(-np.abs(beta * z64))) / beta
    slope = 1 / (1 + np.exp(np.clip(-beta * z64, -700, 700)))
    error = np.abs(h[0] - value)
    assert (error <= 2e-7 / beta + 1e-7 * value).all()
    assert np.abs(p[0] - slope).max() < 2e-7


def test_compiles_without_a_folder_for_the_cache(monkeypatch):
    real = numba.njit

    def njit(**options):
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return real(**options)

    monkeypatch.setattr(numba, "njit", njit)
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(threads, "private_folder", str)
    assert threads.compiled()(lambda a: a + 1)(1) == 2


def test_nan_goes_through_the_kernel():
    mlp = MLP(Architecture(DIMS), kernel=True)
    assert np.isnan(mlp.evaluate(np.array([[np.nan, 0, 0]]))).all()


def test_first_field_is_a_sphere(rng):
    """Geometric initialisation: f is about |x| - r, negative inside, positive outside."""
    points = rng.uniform(-1.5, 1.5, (4000, 3))
    for radius in (1.0, 0.5):
        error = []
        for seed in range(4):
            f = MLP(Architecture(512), radius=radius, seed=seed, kernel=True).evaluate(points)
            error.append(f - (np.linalg.norm(points, axis=1) - radius))
        assert abs(np.mean(error)) < 0.12 and np.std(error) < 0.2


def test_shapes_of_the_layers():
    shapes = layer_shapes(512)
    assert shapes[0] == (3, 512) and shapes[3] == (512, 509) and shapes[4] == (512, 512)
    assert shapes[7] == (512, 1) and len(shapes) == 8


# --- checkpoints


def test_checkpoint_returns_the_same_network(tmp_path, x, mlp):
    path = tmp_path / "param_00001.h5"
    frame = {"center": [1, 2, 3], "scale": 4}
    checkpoints.save_checkpoint(path, mlp.parameters, {
        "architecture": vars(mlp.architecture), "frame": frame, "volume_factor": 1.25})
    again, frame_again, volume_factor, _ = networks.load_network(path, mlp.kernel)
    assert np.array_equal(again.evaluate(x), mlp.evaluate(x))
    assert frame_again == ((1, 2, 3), 4) and volume_factor == 1.25
    nn.clear_parameters()
    nn.load_parameters(str(path))  # nnabla reads it, the attribute does not disturb
    assert np.array_equal(nn.get_parameters()["fc3/affine/W"].d, mlp.parameters["fc3/affine/W"].d)
    nn.clear_parameters()


@pytest.mark.parametrize("kernel", [False, True])
def test_models_of_nnabla_examples_load(tmp_path, rng, x, kernel):
    """A file without our attribute is a model of nnabla-examples: leaky ReLU, and a skip that is
    not scaled."""
    path = tmp_path / "bunny_param_01500.h5"
    arrays = []
    with h5py.File(path, "w") as file:
        for layer, (i, o) in enumerate(layer_shapes(16)):
            for index, (name, shape) in enumerate([("W", (i, o)), ("b", (o,))]):
                array = rng.standard_normal(shape).astype(np.float32)
                dataset = file.create_dataset(f"fc{layer}/affine/{name}", data=array)
                dataset.attrs["need_grad"] = True
                dataset.attrs["index"] = 2 * layer + index
                arrays.append(array.astype(np.float64))
    mlp, frame, volume_factor, _ = networks.load_network(path, kernel)

    def leaky(x):
        h = x
        for layer in range(8):
            h = np.concatenate([x, h], axis=1) if layer == 4 else h
            h = h @ arrays[2 * layer] + arrays[2 * layer + 1]
            h = np.where(h > 0, h, 0.1 * h) if layer < 7 else h
        return h[:, 0]

    x64 = x.astype(np.float64)
    assert relative(mlp.evaluate(x), leaky(x64)) < 1e-5
    f, gradient = mlp.evaluate_with_gradient(x)
    assert relative(f, leaky(x64)) < 1e-5
    slope = np.stack([leaky(x64 + step) - leaky(x64 - step) for step in 1e-9 * np.eye(3)]) / 2e-9
    assert np.median(np.abs(gradient - slope.T)) < 1e-4 * np.abs(slope).max()
    assert frame == ((0, 0, 0), 1) and volume_factor == 1.5


@pytest.mark.parametrize("damage, message", [
    (lambda file: file["fc3/affine/W"].__setitem__((0, 0), np.nan), "sha256"),
    (lambda file: file.__delitem__("fc5/affine/b"), "damaged"),
    (lambda file: file.attrs.__setitem__("igr", "{"), "damaged"),
    (lambda file: file.attrs.__setitem__("igr", "{}"), "damaged"),
])
def test_damaged_checkpoints_are_refused(tmp_path, damage, message):
    mlp = MLP(Architecture(16))
    path = tmp_path / "param_00001.h5"
    checkpoints.save_checkpoint(path, mlp.parameters, {
        "architecture": vars(mlp.architecture), "frame": {"center": [0, 0, 0], "scale": 1},
        "volume_factor": 1.5})
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(UserError, match=message):
        networks.load_network(path, False)


def test_files_that_are_no_checkpoints(tmp_path):
    path = tmp_path / "param_00001.h5"
    path.write_bytes(b"not hdf5")
    with pytest.raises(UserError, match="not a checkpoint"):
        checkpoints.load_checkpoint(path)
    with pytest.raises(UserError, match="no param_"):
        checkpoints.newest_checkpoint(tmp_path / "nowhere")
