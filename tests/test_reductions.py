"""Sums and means that every GPU can run: their values, and that a step has no others."""

from datasets import PointCloud
from igr.field import reductions
from igr.geometry.frames import Frame
from igr.training import sampling, solvers
import losses
from networks import MLP, Architecture

import nnabla as nn
import numpy as np
import pytest


def variable(array):
    v = nn.Variable(array.shape, need_grad=True)
    v.d = array
    return v


@pytest.mark.parametrize("n", [1, 2047, 2048, 3001])
def test_values_and_derivatives(rng, n):
    x = rng.standard_normal((n, 3)).astype(np.float32)
    v = variable(x)
    sums = reductions.row_sums(v)
    mean = reductions.mean(sums)
    mean.forward()
    v.g = 0
    mean.backward()
    assert np.allclose(sums.d, x.sum(axis=1, keepdims=True), atol=1e-6)
    assert mean.shape == () and mean.d == pytest.approx(x.sum() / n, abs=1e-6)
    assert np.allclose(v.g, 1 / n, rtol=1e-6)


def test_norms_of_matrices(rng):
    X = rng.standard_normal((3, 20, 20)).astype(np.float32)
    norms = reductions.matrix_norms(variable(X))
    norms.forward()
    assert np.allclose(norms.d[:, 0, 0], np.linalg.norm(X, axis=(1, 2)), rtol=1e-6)


def refused(function) -> bool:
    """Has an nnabla function a kernel that Hopper GPUs refuse, by nnabla's own choice?
    Only forward: in a backward pass test_standin.py would notice one, since standin.cpp lacks it.
    (F.sum over leading axes would do, but there is none.)"""
    if function.info.type_name != "Mean":
        return function.info.type_name == "Sum"
    means = function.outputs[0].size
    values_of_each = function.inputs[0].size // means
    return values_of_each // means >= reductions.FEW_ENOUGH


@pytest.mark.parametrize("batch", [64, 5000])
def test_a_step_on_a_gpu_has_no_others(rng, batch):
    """With waves, normals and Muon."""
    points = rng.standard_normal((6000, 3)).astype(np.float32)
    cloud = PointCloud(points, points, np.full((6000, 1), 0.05, np.float32), points[:0], Frame())
    samples = sampling.GraphSamples(cloud, sampling.Sizes(batch, batch, batch, 1.5), 0)
    mlp = MLP(Architecture(16, frequencies=3, opened=3))
    terms = losses.igr_loss(mlp, samples, losses.Weights())
    muon = solvers.make("muon", False)
    muon.set_parameters(mlp.parameters)
    functions = []
    for end in (terms["loss"], muon.steps):
        end.visit(functions.append)
    names = [function.info.type_name for function in functions]
    assert names.count("Mean") >= 2
    assert not any(map(refused, functions))
