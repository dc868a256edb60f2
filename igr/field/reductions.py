"""Sums and means in nnabla's graph, made of functions that every GPU can run.

The CUDA kernels of nnabla 1.39 that add within a warp (nbla/cuda/utils/warp_shuffle.cuh and
shuffle_down.cuh) name 28 of its 32 lanes in the mask of their shuffles. A Hopper GPU stops at that
with "an illegal instruction was encountered". F.sum over the last axes has such kernels, and F.mean
of FEW_ENOUGH values and more; matrix products and F.mean of fewer have others.
"""

from __future__ import annotations

import nnabla as nn
import nnabla.functions as F
import numpy as np

FEW_ENOUGH = 2048  # values, below which F.mean multiplies with a vector


def constant(array) -> nn.Variable:
    """An array as a float32 variable that stays on the device."""
    variable = nn.Variable.from_numpy_array(np.asarray(array, np.float32))
    variable.persistent = True
    return variable


def row_sums(x: nn.Variable) -> nn.Variable:
    """The sums (N, 1) of the rows of x (N, M)."""
    return F.affine(x, constant(np.ones((x.shape[1], 1))))


def mean(x: nn.Variable) -> nn.Variable:
    """The mean, a scalar, of x (N, 1)."""
    n = x.shape[0]
    if n < FEW_ENOUGH:
        return F.mean(x)
    product = F.affine(F.reshape(x, (1, n)), constant(np.full((n, 1), 1 / n)))
    return F.reshape(product, ())


def matrix_norms(X: nn.Variable) -> nn.Variable:
    """The Frobenius norms (K, 1, 1) of X (K, M, M), which nothing differentiates."""
    count, size, _ = X.shape
    squares = F.mean(F.mean(X * X, axis=2), axis=1)
    return size * F.reshape(squares, (count, 1, 1)) ** 0.5
