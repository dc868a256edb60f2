"""Compute f and its spatial gradient on the CPU as one nnabla function.

Its double backward is in closed form: the passes of passes.py over shards of the points, one shard
a thread.

Each thread runs its shard through all layers in compiled code that does not hold the GIL, with
single-threaded BLAS and in work buffers made once.
"""

from __future__ import annotations

from igr.backend import threads
from igr.field import passes

import nnabla as nn
from nnabla.function import PythonFunction
import numpy as np
from numpy import float32 as f4


class Shard:
    """Some points with the work buffers of every pass: n of them, the last m with gradient.

    ht_l stacks h_l (n rows) over t_l (m rows) and eu_l stacks e_l over u_l, so that dL/dW_l is
    one product. The encoding is h_0. window (K,) is read at each forward().
    """

    def __init__(self, n: int, m: int, weights: list, window: np.ndarray = passes.CLOSED):
        self.n, self.m, self.window = n, m, window
        sizes = [w.shape for w in weights]
        encoded = sizes[0][0]
        scratch = np.empty(n * max(max(s) for s in sizes), np.float32)

        def views(rows, axis):
            return tuple(scratch[: rows * s[axis]].reshape(rows, s[axis]) for s in sizes)

        def arrays(rows, axis):
            return tuple(np.empty((rows, s[axis]), np.float32) for s in sizes)

        self.x, self.f = np.empty((n, 3), np.float32), np.empty((n, 1), np.float32)
        self.g, self.past = np.empty((m, 3), np.float32), np.empty((m, encoded), np.float32)
        self.ht, self.eu = arrays(n + m, 0), arrays(n + m, 1)
        self.p, self.r = arrays(n, 1), arrays(m, 1)
        self.h, self.t = (tuple(a[rows] for a in self.ht) for rows in (slice(n), slice(n, None)))
        self.e, self.u = (tuple(a[rows] for a in self.eu) for rows in (slice(n), slice(n, None)))
        self.sloped_p = tuple(p[n - m :] for p in self.p)
        self.sloped_encoding = self.h[0][n - m :]
        self.columns = scratch[: encoded * n].reshape(encoded, n)
        self.z, self.v, self.sloped_z, self.sloped_v = (
            views(rows, axis) for rows in (n, m) for axis in (1, 0))
        self.d_weights = tuple(np.empty(s, np.float32) for s in sizes)
        self.d_biases = tuple(np.empty(s[1], np.float32) for s in sizes)

    def forward(self, weights: tuple, biases: tuple, beta, scale) -> None:
        """f (n, 1) and g = grad f (m, 3) at the points x (n, 3)."""
        passes.encode_rows(self.x, self.window, self.columns, self.h[0])
        passes.value(weights, biases, self.h, self.z, self.p, self.f, beta, scale)
        if self.m:
            passes.gradient(weights, self.u, self.sloped_v, self.sloped_p, self.sloped_encoding,
                            self.past, self.g, scale)

    def backward(self, c, d, weights: tuple, beta, scale) -> None:
        """d_weights, d_biases of sum(c f) + sum(<d, grad f>); c (n, 1), d (m, 3)."""
        if self.m:
            passes.tangents(d, self.sloped_encoding, weights, self.t, self.sloped_z,
                            self.sloped_p, self.u, self.r, beta, scale)
        passes.adjoints(c, weights, self.ht, self.e, self.eu, self.v, self.p, self.r,
                        self.d_weights, self.d_biases)


# ------------------------------------------------------------------------------ the nnabla function


class _Kernel(PythonFunction):
    """Inputs x (N, 3), W_0, b_0, ..., W_7, b_7; outputs f (N, 1) and, unless m is 0, grad f (m, 3)
    at the last m points. Gradients flow to the parameters, not to x."""

    def __init__(self, m: int, beta: float, scale: float, window: np.ndarray):
        super().__init__(nn.get_current_context())
        self.m, self.beta, self.scale = m, np.float32(beta), np.float32(scale)
        self.window = window

    @property
    def name(self):
        return "ValueAndGradient"

    def min_outputs(self):
        return 2 if self.m else 1

    def setup_impl(self, inputs, outputs):
        n, m = inputs[0].shape[0], self.m
        outputs[0].reset_shape((n, 1), True)
        if m:
            outputs[1].reset_shape((m, 3), True)
        parts = min(threads.count(), n)
        # a shard has a piece of the points without and one of those with gradient
        plain = threads.slices(n - m, parts)
        sloped = threads.slices(m, parts)
        self.work = [(Shard(a.stop - a.start + b.stop - b.start, b.stop - b.start, inputs[1::2],
                            self.window), (a, slice(n - m + b.start, n - m + b.stop)), b)
                     for a, b in zip(plain, sloped)]

    def forward_impl(self, inputs, outputs):
        x = inputs[0].d
        weights, biases = (tuple(v.d for v in inputs[i::2]) for i in (1, 2))
        self.weights = weights  # kept for backward(): each .d access costs microseconds
        f, g = outputs[0].d, outputs[1].d if self.m else None

        def sweep(item):
            shard, (plain, sloped), slopes = item
            k = shard.n - shard.m
            shard.x[:k], shard.x[k:] = x[plain], x[sloped]
            shard.forward(weights, biases, self.beta, self.scale)
            f[plain], f[sloped] = shard.f[:k], shard.f[k:]
            if shard.m:
                g[slopes] = shard.g

        threads.map(sweep, self.work)

    def backward_impl(self, inputs, outputs, propagate_down, accum):
        if propagate_down[0]:
            raise NotImplementedError("the kernel has no gradient with respect to the points")
        targets = [v.g for v in inputs[1:]]
        c, d = outputs[0].g, outputs[1].g if self.m else None

        def sweep(item):
            shard, (plain, sloped), slopes = item
            shard.backward(np.concatenate([c[plain], c[sloped]]), d[slopes] if shard.m else None,
                           self.weights, self.beta, self.scale)

        threads.map(sweep, self.work)

        def collect(places):
            for i in places:
                parts = [(s.d_biases if i % 2 else s.d_weights)[i // 2] for s, _, _ in self.work]
                if not accum[1 + i]:
                    np.copyto(targets[i], parts.pop(0))
                for part in parts:
                    targets[i] += part

        wanted = [i for i in range(len(targets)) if propagate_down[1 + i]]
        n = threads.count_for(sum(targets[i].size for i in wanted))
        threads.map(collect, [wanted[k::n] for k in range(n)])

    def grad_depends_output_data(self, i, o):
        return False

    def grad_depends_input_data(self, i, j):
        return True


def value_and_gradient(x, m: int, parameters: list, beta: float, scale: float, window=None):
    """(f (N, 1), grad f (m, 3) at the last m points; None for m = 0) as nnabla variables.

    x (N, 3); parameters [W_0, b_0, ..., W_7, b_7]; beta of softplus; scale of the skip; window
    (K,) float32 amplitudes of the encoding, read anew at each forward: a caller may change it
    in place. Without it K is 0. Raises ValueError where it does not fit the weights.
    """
    window = passes.checked_window(window, parameters[0::2])
    outputs = _Kernel(m, beta, scale, window)(x, *parameters)
    return outputs if m else (outputs, None)


def compile_all() -> None:
    """Compile the passes now (some 15 s on a new machine, from the disk after that)."""
    weights = tuple(np.zeros(s, np.float32) for s in [(3, 8), *[(8, 8)] * 2, (8, 5),
                                                      *[(8, 8)] * 3, (8, 1)])
    biases = tuple(np.zeros(w.shape[1], np.float32) for w in weights)
    shard = Shard(2, 1, weights)
    shard.x[:] = 0
    threads.map(lambda _: (
        shard.forward(weights, biases, f4(1), f4(1)),
        shard.backward(np.ones((2, 1), f4), np.ones((1, 3), f4), weights, f4(1), f4(1)),
    ), [0])
