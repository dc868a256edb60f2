"""The compiled kernel with the encoding: against float64, and the same bits in any company."""

import json
import os
import subprocess
import sys

from conftest import ROOT
from igr.backend import blas
from igr.field import inference, passes, training_kernel
import reference

import nnabla as nn
import nnabla.functions as F
import numpy as np
import pytest

N, DIMS = 60, 40
BETA, SCALE = 100.0, 2**-0.5


def arrays_of(dims: int, frequencies: int, rng, small: float = 0.1) -> list:
    """[W_0, b_0, ..., W_7, b_7] float32; the weights of sines and cosines are `small` times what
    the others are."""
    encoded = 3 + 6 * frequencies
    fan_in = [encoded, dims, dims, dims, dims + 6 * frequencies, dims, dims, dims]
    fan_out = [dims, dims, dims, dims - 3, dims, dims, dims, 1]
    arrays = []
    for layer, (i, o) in enumerate(zip(fan_in, fan_out)):
        W = rng.normal(0, np.sqrt(2 / (i if o == 1 else o)), (i, o))
        if layer in (0, 4):
            W[3:encoded] *= small
        arrays += [W.astype(np.float32), rng.normal(0, 0.1, o).astype(np.float32)]
    return arrays


def plain_f(arrays: list, x: np.ndarray, window: np.ndarray) -> np.ndarray:
    """f (N,) in float64, or complex, straight from the formulas."""
    columns = [x]
    for k, opened in enumerate(window):
        columns += [opened * np.sin(2**k * x), opened * np.cos(2**k * x)]
    encoding = np.concatenate(columns, axis=1)
    h = encoding
    for layer in range(8):
        if layer == 4:
            h = SCALE * np.concatenate([encoding, h], axis=1)
        h = h @ arrays[2 * layer].astype(np.float64) + arrays[2 * layer + 1].astype(np.float64)
        if layer < 7:
            h = reference.softplus(h, BETA)
    return h[:, 0]


def variable(array: np.ndarray) -> nn.Variable:
    made = nn.Variable(array.shape, need_grad=True)
    made.d = array
    return made


def relative(a, b):
    return np.abs(a - b).max() / np.abs(b).max()


@pytest.fixture
def x(rng):
    return rng.uniform(-1.2, 1.2, (N, 3)).astype(np.float32)


@pytest.fixture(params=[1, 6, 8])
def window(request, rng):
    """Partly open: the first frequency wholly, the last one (of several) not at all."""
    made = rng.uniform(0.2, 0.9, request.param).astype(np.float32)
    made[-1] = 0
    made[0] = 1
    return made


def backward(x, m, arrays, window, c, d):
    """f, grad f and the parameters' gradients of sum(c f) + sum(<d, grad f>)"""
    parameters = [variable(array) for array in arrays]
    f, g = training_kernel.value_and_gradient(nn.Variable.from_numpy_array(x), m, parameters,
                                              BETA, SCALE, window)
    loss = F.sum(f * nn.Variable.from_numpy_array(c)) + F.sum(g * nn.Variable.from_numpy_array(d))
    for parameter in parameters:
        parameter.grad.zero()
    loss.forward()
    loss.backward()
    return f.d[:, 0].copy(), g.d.copy(), [parameter.g.copy() for parameter in parameters]


# ------------------------------------------------------------------------------------ the encoding


def test_sines_and_cosines_against_float64(rng):
    frequencies, n = 10, 200_003
    e = np.empty((3 + 6 * frequencies, n), np.float32)
    e[:3] = rng.uniform(-1.5, 1.5, (3, n))
    e[:, :4] = [[0], [-0.0], *[[0]] * 61]
    passes.encode(e, np.ones(frequencies, np.float32), 0)
    x = e[:3].astype(np.float64)
    for k in range(frequencies):
        sine, cosine = e[3 + 6 * k : 6 + 6 * k], e[6 + 6 * k : 9 + 6 * k]
        assert np.abs(sine - np.sin(2**k * x)).max() < 1.5e-7
        assert np.abs(cosine - np.cos(2**k * x)).max() < 1.5e-7


def test_far_points_have_an_encoding_and_nan_stays():
    e = np.zeros((9, 4), np.float32)
    e[0] = [1e9, -1e30, np.inf, np.nan]
    passes.encode(e, np.ones(1, np.float32), 0)
    assert (np.abs(e[3:, :2]) <= 1).all()
    assert np.isnan(e[[3, 6], 3]).all()


def test_an_encoding_does_not_depend_on_the_place(rng):
    """Neither on the vector nor on what is left over, in rows and in columns, bit for bit."""
    window = rng.uniform(0, 1, 8).astype(np.float32)
    points = rng.uniform(-1.5, 1.5, (3, 517)).astype(np.float32)
    whole = np.zeros((51, 517), np.float32)
    whole[:3] = points
    passes.encode(whole, window, 0)
    for n in [*range(1, 70), 304, 516]:
        for start in (0, 1, 517 - n):
            part = np.zeros((51, n), np.float32)
            part[:3] = points[:, start : start + n]
            rows = np.empty((n, 51), np.float32)
            passes.encode_rows(np.ascontiguousarray(part[:3].T), window, np.empty_like(part), rows)
            passes.encode(part, window, 0)
            assert np.array_equal(part, whole[:, start : start + n])
            assert np.array_equal(rows, part.T)
    inner = np.zeros((51, 517), np.float32)
    inner[:3] = points
    passes.encode(inner, window, 8)
    assert np.array_equal(inner[:, 8:-8], whole[:, 8:-8])
    assert not inner[3:, :8].any() and not inner[3:, -8:].any()


# ------------------------------------------------------------------- value, gradient and the double


def test_value_and_gradient_against_float64(x, window, rng):
    arrays = arrays_of(DIMS, len(window), rng)
    parameters = [variable(array) for array in arrays]
    m = N - 13
    f, g = training_kernel.value_and_gradient(nn.Variable.from_numpy_array(x), m, parameters,
                                              BETA, SCALE, window)
    nn.forward_all([f, g])
    x64, step = x.astype(np.float64), 1e-6
    assert relative(f.d[:, 0], plain_f(arrays, x64, window)) < 1e-5
    slope = [plain_f(arrays, x64 + a, window) - plain_f(arrays, x64 - a, window)
             for a in step * np.eye(3)]
    assert relative(g.d, np.stack(slope, axis=1)[N - m :] / (2 * step)) < 2e-5
    f, g = training_kernel.value_and_gradient(nn.Variable.from_numpy_array(x), 0, parameters,
                                              BETA, SCALE, window)
    f.forward()
    assert g is None and relative(f.d[:, 0], plain_f(arrays, x64, window)) < 1e-5


def test_parameter_gradients_against_finite_differences(x, window, rng):
    """The most general loss in both outputs, sum(c f) + sum(<d, grad f>), along random directions
    in all parameters, in those that the encoding added, and in one array after the other; in
    float64 <d, grad f> comes from a complex step."""
    frequencies, m = len(window), N - 13
    arrays = arrays_of(DIMS, frequencies, rng)
    c = rng.standard_normal((N, 1)).astype(np.float32)
    d = rng.standard_normal((m, 3)).astype(np.float32)
    *_, found = backward(x, m, arrays, window, c, d)
    x64 = x.astype(np.float64)

    def loss(moved):
        along = plain_f(moved, x64[N - m :] + 1e-30j * d, window).imag / 1e-30
        return (c[:, 0] * plain_f(moved, x64, window)).sum() + along.sum()

    def only(places, rows=slice(None)):
        made = [np.zeros(array.shape) for array in arrays]
        for place in places:
            made[place][rows] = rng.standard_normal(made[place][rows].shape)
        return made

    added = slice(3, 3 + 6 * frequencies)
    directions = [only(range(16)), only(range(16)), only([0], added), only([8], added),
                  *(only([place]) for place in range(16))]
    for direction in directions:
        moved = [[array + sign * 1e-6 * way for array, way in zip(arrays, direction)]
                 for sign in (1, -1)]
        truth = (loss(moved[0]) - loss(moved[1])) / 2e-6
        terms = [(a * b).sum() for a, b in zip(found, direction)]
        size = np.sqrt(sum(((a * b) ** 2).sum() for a, b in zip(found, direction)))
        assert sum(terms) == pytest.approx(truth, abs=2e-4 * size)


def test_a_closed_window_is_the_network_without_encoding(x, rng):
    frequencies = 6
    arrays = arrays_of(DIMS, frequencies, rng)
    added = np.s_[3 : 3 + 6 * frequencies]
    bare = [np.delete(a, added, axis=0) if i in (0, 8) else a for i, a in enumerate(arrays)]
    c = rng.standard_normal((N, 1)).astype(np.float32)
    d = rng.standard_normal((N, 3)).astype(np.float32)
    f, g, found = backward(x, N, arrays, np.zeros(frequencies, np.float32), c, d)
    expected_f, expected_g, expected = backward(x, N, bare, None, c, d)
    assert relative(f, expected_f) < 1e-6 and relative(g, expected_g) < 1e-5
    assert not found[0][added].any() and not found[8][added].any()
    for i, (a, b) in enumerate(zip(found, expected)):
        assert relative(np.delete(a, added, axis=0) if i in (0, 8) else a, b) < 1e-5
    some = [inference.evaluate(x, given, "softplus", BETA, SCALE, window)
            for given, window in ((arrays, np.zeros(frequencies, np.float32)), (bare, None))]
    assert relative(some[0], some[1]) < 1e-6


def test_a_changed_window_is_seen_at_the_next_forward(x, rng):
    """In place, as train.py opens it; backward() stays with the window of its forward()."""
    arrays, window = arrays_of(DIMS, 6, rng), np.zeros(6, np.float32)
    parameters = [variable(array) for array in arrays]
    f, g = training_kernel.value_and_gradient(nn.Variable.from_numpy_array(x), N, parameters,
                                              BETA, SCALE, window)
    loss = F.sum(f) + F.sum(g * g)
    for opened in ([0] * 6, [1, 0.5, 0, 0, 0, 0], [1] * 6):
        window[:] = opened
        for parameter in parameters:
            parameter.grad.zero()
        loss.forward()
        assert relative(f.d[:, 0], plain_f(arrays, x.astype(np.float64), window)) < 1e-5
        window[:] = 0.3
        loss.backward()
        closed = np.repeat(np.array(opened) == 0, 6)
        assert np.array_equal((parameters[0].g[3:] == 0).all(axis=1), closed)


@pytest.mark.parametrize("window, message", [
    (np.ones(5, np.float32), "a window of 5 frequencies needs 33 inputs"),
    (None, "a window of 0 frequencies needs 3 inputs"),
    (np.ones(6), "float32"), (np.ones((6, 1), np.float32), "float32"),
    (np.ones(12, np.float32)[::2], "float32"),
])
def test_a_window_that_does_not_fit_is_refused(x, rng, window, message):
    arrays = arrays_of(DIMS, 6, rng)
    with pytest.raises(ValueError, match=message):
        training_kernel.value_and_gradient(nn.Variable.from_numpy_array(x), N,
                                   [variable(array) for array in arrays], BETA, SCALE, window)
    with pytest.raises(ValueError, match=message):
        inference.evaluate(x, arrays, "softplus", BETA, SCALE, window)


# --------------------------------------------------------------------------------------- inference


@pytest.mark.parametrize("width", [8, 13, 64])
@pytest.mark.parametrize("block", inference.BLOCKS)
def test_every_block_gives_the_same_f(width, block, window, monkeypatch, rng):
    """The margin is left out, the leftovers of the last block too; without BLAS it is the same."""
    points = rng.uniform(-1.5, 1.5, (1201, 3)).astype(np.float32)
    arrays = arrays_of(width, len(window), rng)
    monkeypatch.setattr(inference, "block_of", lambda *sizes: block)
    f = inference.evaluate(points, arrays, "softplus", BETA, SCALE, window)
    assert relative(f, plain_f(arrays, points.astype(np.float64), window)) < 1e-5
    empty = inference.evaluate(points[:0], arrays, "softplus", BETA, SCALE, window)
    assert empty.shape == (0,)


def test_leaky_relu_goes_with_the_encoding(x, window, rng):
    arrays = arrays_of(DIMS, len(window), rng)
    encoding = np.concatenate([x, *(o * wave(2.0**k * x) for k, o in enumerate(window)
                                    for wave in (np.sin, np.cos))], axis=1).astype(np.float64)
    h = encoding
    for layer in range(8):
        h = SCALE * np.concatenate([encoding, h], axis=1) if layer == 4 else h
        h = h @ arrays[2 * layer] + arrays[2 * layer + 1]
        h = np.maximum(h, 0.1 * h) if layer < 7 else h
    f = inference.evaluate(x, arrays, "leaky_relu", BETA, SCALE, window)
    assert relative(f, h[:, 0]) < 1e-5


def test_nan_and_far_points(rng):
    arrays, window = arrays_of(DIMS, 8, rng), np.ones(8, np.float32)
    points = np.array([[np.nan, 0, 0], [1e9, 0, 0], [0, 0, 0]], np.float32)
    f = inference.evaluate(points, arrays, "softplus", BETA, SCALE, window)
    assert np.isnan(f[0]) and np.isfinite(f[1:]).all()


@pytest.mark.parametrize("shape", [(15, 24), (36, 24)])  # the first layer's, layer 4's
def test_the_trial_covers_the_shapes_of_the_encoding(shape, monkeypatch):
    real = passes.product

    def uneven(W, h, z, with_blas):
        real(W, h, z, with_blas)
        if with_blas and W.shape == shape:
            z[:, 100] *= np.float32(1 + 1e-6)

    monkeypatch.setattr(passes, "product", uneven)
    inference.block_of.cache_clear()
    assert inference.block_of(24, 2) is inference.BLOCKS[2]
    assert inference.block_of(24) is not inference.BLOCKS[2]
    inference.block_of.cache_clear()


# 1,500 points in some permutations for each width and number of frequencies, some of them alone or
# in threes; prints how many values differ, and whether BLAS was taken
COUNT = """
import json
from igr.backend import blas
from igr.field import inference
from test_kernels import arrays_of
import numpy as np

rng = np.random.default_rng(0)
points = rng.uniform(-1.5, 1.5, (1500, 3)).astype(np.float32)
found = {"core type": blas.loaded()}
for width in (8, 100, 128, 256):
    for frequencies in (1, 6, 8):
        arrays = arrays_of(width, frequencies, rng)
        window = rng.uniform(0, 1, frequencies).astype(np.float32)

        def f(some):
            return inference.evaluate(some, arrays, "softplus", 100, 0.7, window)

        values = f(points)
        differ = 0
        for _ in range(6):
            order = rng.permutation(len(points))
            differ += int((f(points[order]) != values[order]).sum())
        for start in range(0, 60, 3):
            differ += int((f(points[start : start + 3]) != values[start : start + 3]).sum())
        with_blas = inference.block_of(width, frequencies).with_blas
        found[f"{width}, {frequencies}"] = [differ, with_blas]
print(json.dumps(found))
"""


@pytest.mark.parametrize("core_type", blas.core_types(blas.processor()["flags"]))
def test_a_value_does_not_depend_on_the_company(core_type):
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    done = subprocess.run([sys.executable, "-c", COUNT], cwd=ROOT, text=True, capture_output=True,
                          env={**os.environ, blas.VARIABLE: core_type, "PYTHONPATH": paths})
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("core type") in (core_type, {"Zen": "Haswell", "Prescott": "Katmai"}.get(
        core_type)), "scipy's OpenBLAS has fewer core types"
    assert {name: row[0] for name, row in found.items()} == dict.fromkeys(found, 0)
    assert all(with_blas for _, with_blas in found.values())  # none is so uneven
