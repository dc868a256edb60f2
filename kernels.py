"""The network's value and spatial gradient on the CPU, one nnabla function with a closed double
backward.

In the paper's symbols, for one point (a row; W_l has shape in x out), s the skip's scale,
phi softplus, p = phi' and beta p (1 - p) = phi'':

    value       z_l = h_l W_l + b_l,   h_0 = x,   h_{l+1} = phi(z_l),   h_4 = s [x, phi(z_3)],
                f = z_7
    gradient    u_7 = 1,   v_l = u_l W_l^T,   u_{l-1} = p_{l-1} v_l   (v_4 loses its first three
                columns to x, the rest is scaled by s),   grad f = u_0 W_0^T + s v_4[:3]

A loss with adjoints c = dL/df and d = dL/d(grad f) depends on the parameters as c f + <d, grad f>,
and <d, grad f> is f's derivative along d: a tangent sweep through the same layers,

    tangent     w_l = t_l W_l,   t_0 = d,   t_{l+1} = p_l w_l,   t_4 = s [d, p_3 w_3]

in which the adjoint of w_l is the u_l of above. One more reverse sweep gives the adjoints of z_l:

    adjoint     e_7 = c,   e_{l-1} = p_{l-1} (e_l W_l^T) + beta (1 - p_{l-1}) u_{l-1} w_{l-1}
    result      dL/dW_l = h_l^T e_l + t_l^T u_l,   dL/db_l = sum over the points of e_l

That is six matrix products a layer. The points are cut into one shard a thread; each thread runs
its shard through all layers with single-threaded BLAS and compiled elementwise loops that do not
hold the GIL, in work buffers made once.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from types import SimpleNamespace

import nnabla as nn
import numpy as np
from nnabla.function import PythonFunction

SKIP = 4  # the layer whose input is [x, h]
BLOCK = 512  # rows that inference takes through all layers at once: they stay in the cache


# -------------------------------------------------------------------------------------- the threads

_state = {"threads": os.cpu_count() or 1, "pool": None}


def set_threads(n: int) -> None:
    """Use n threads from now on (default: one a core)."""
    if _state["pool"] is not None:
        _state["pool"].shutdown()
    _state.update(threads=n, pool=None)


def threads() -> int:
    return _state["threads"]


def _map(function, items: list) -> list:
    """[function(item) ...] on the thread pool; the first use makes BLAS single-threaded."""
    if _state["pool"] is None:
        import threadpoolctl

        threadpoolctl.threadpool_limits(1, user_api="blas")
        _state["pool"] = ThreadPoolExecutor(_state["threads"])
    if len(items) == 1:
        return [function(items[0])]
    return list(_state["pool"].map(function, items))


# ---------------------------------------------------------------------------- the elementwise loops


@lru_cache(None)
def _loops() -> SimpleNamespace:
    """The compiled loops; compiled once a machine where numba finds a folder for its cache.

    `shift` is the column of the wider array at which the narrower one begins: 3 at the skip.
    """
    import numba
    from numpy import float32 as f4
    from numpy import int32 as i4

    options = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}

    def compiled(function):
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:  # no folder to keep the cache in: compile for this process
            return numba.njit(**options)(function)

    @compiled
    def softplus(h, shift, bias, p, beta, scale):
        """h <- scale phi(h + bias), p <- scale phi'(h + bias), without a branch, so that it
        vectorises. exp by 2^k e^r with a polynomial in r (Cephes' expf), log(1 + t) as
        2 atanh(t / (2 + t)); errors are below 2e-7 in p and 2e-7 / beta in h."""
        scale_over_beta = scale / beta
        for i in range(p.shape[0]):
            for j in range(p.shape[1]):
                z = h[i, j + shift] + bias[j]
                u = abs(beta * z)
                u = u if u < f4(87) else f4(87)
                k = np.floor(f4(0.5) - u * f4(1.44269504))
                r = -u - k * f4(0.693359375)
                r = r + k * f4(2.12194440e-4)
                e = f4(1.9875691500e-4)
                e = e * r + f4(1.3981999507e-3)
                e = e * r + f4(8.3334519073e-3)
                e = e * r + f4(4.1665795894e-2)
                e = e * r + f4(1.6666665459e-1)
                e = e * r + f4(5.0000001201e-1)
                e = e * r * r + r + f4(1)
                t = e * i4((i4(k) + i4(127)) << i4(23)).view(np.float32)  # e^-|beta z|, in (0, 1]
                s = scale / (f4(1) + t)
                w = t / (f4(2) + t)
                q = w * w
                log = f4(1 / 9) + q * f4(1 / 11)
                log = f4(1 / 5) + q * (f4(1 / 7) + q * log)
                log = f4(2) * w * (f4(1) + q * (f4(1 / 3) + q * log))
                p[i, j] = s if z >= f4(0) else t * s
                h[i, j + shift] = f4(0.5) * scale * (z + abs(z)) + log * scale_over_beta

    @compiled
    def leaky_relu(h, shift, bias, scale):
        for i in range(h.shape[0]):
            for j in range(len(bias)):
                z = h[i, j + shift] + bias[j]
                h[i, j + shift] = scale * (z if z >= f4(0) else f4(0.1) * z)

    @compiled
    def multiply(u, v, shift, p):
        """u <- v p"""
        for i in range(p.shape[0]):
            for j in range(p.shape[1]):
                u[i, j] = v[i, j + shift] * p[i, j]

    @compiled
    def tangent(t, shift, w, p, u, beta, scale):
        """t <- p w, w <- beta u (1 - phi') w   (p is scale phi')"""
        for i in range(p.shape[0]):
            for j in range(p.shape[1]):
                wij = w[i, j]
                t[i, j + shift] = p[i, j] * wij
                w[i, j] = beta * u[i, j] * (f4(1) - p[i, j] / scale) * wij

    @compiled
    def adjoint(e, v, shift, p, w):
        """e <- v p + w"""
        for i in range(p.shape[0]):
            for j in range(p.shape[1]):
                e[i, j] = v[i, j + shift] * p[i, j] + w[i, j]

    return SimpleNamespace(
        softplus=softplus, leaky_relu=leaky_relu, multiply=multiply, tangent=tangent,
        adjoint=adjoint,
    )


# ------------------------------------------------------------------------- sweeps through one shard


class _Shard:
    """Some rows of the batch with the work buffers of every sweep.

    ht[l] stacks h_l over t_l and eu[l] stacks e_l over u_l, so that dW_l is one product. Without
    the gradient (`value_only`) the halves of t and u do not exist.
    """

    def __init__(self, rows: slice, weights: list, value_only: bool):
        n = rows.stop - rows.start
        self.rows, self.n, self.value_only = rows, n, value_only
        m = n if value_only else 2 * n
        sizes = [w.shape for w in weights]

        def empty(*shape):
            return np.empty(shape, np.float32)

        self.ht = [empty(m, i) for i, _ in sizes]
        self.eu = [empty(m, o) for _, o in sizes]
        self.p = [empty(n, o) for _, o in sizes[:-1]]
        self.w = [] if value_only else [empty(n, o) for _, o in sizes[:-1]]
        self.f = empty(n, 1)
        self.wide = empty(n, sizes[SKIP][0])  # the product at the skip, before it is split
        self.d_weights = [empty(*s) for s in sizes]
        self.d_biases = [empty(o) for _, o in sizes]

    def value(self, x, weights, biases, beta, scale) -> np.ndarray:
        """f (n, 1) of x (n, 3)."""
        loops, n, last = _loops(), self.n, len(weights) - 1
        h = [ht[:n] for ht in self.ht]
        h[0][:] = x
        np.multiply(x, scale, out=h[SKIP][:, :3])
        for l in range(last):
            shift, s = (3, scale) if l + 1 == SKIP else (0, np.float32(1))
            np.matmul(h[l], weights[l], out=h[l + 1][:, shift:])
            loops.softplus(h[l + 1], shift, biases[l], self.p[l], beta, s)
        np.matmul(h[last], weights[last], out=self.f)
        self.f += biases[last]
        return self.f

    def _down(self, l, top, bottom, weights):
        """The product top[l] W_l^T on its way to layer l - 1: (array, first column)."""
        out = self.wide if l == SKIP else bottom
        if l == len(weights) - 1:  # one column: an outer product
            np.multiply(top, weights[l][:, 0], out=out)
        else:
            np.matmul(top, weights[l].T, out=out)
        return out, 3 if l == SKIP else 0

    def gradient(self, weights, scale) -> np.ndarray:
        """grad f (n, 3) at the points of the last value()."""
        loops, n, last = _loops(), self.n, len(weights) - 1
        u = [eu[n:] for eu in self.eu]
        u[last][:] = 1
        for l in range(last, 0, -1):
            v, shift = self._down(l, u[l], u[l - 1], weights)
            if l == SKIP:
                past = scale * v[:, :3]
            loops.multiply(u[l - 1], v, shift, self.p[l - 1])
        return u[0] @ weights[0].T + past

    def backward(self, c, d, weights, beta, scale) -> None:
        """d_weights, d_biases of sum(c f + <d, grad f>); d is None where value_only."""
        loops, n, last = _loops(), self.n, len(weights) - 1
        if not self.value_only:
            t, u = [ht[n:] for ht in self.ht], [eu[n:] for eu in self.eu]
            t[0][:] = d
            np.multiply(d, scale, out=t[SKIP][:, :3])
            for l in range(last):
                shift, s = (3, scale) if l + 1 == SKIP else (0, np.float32(1))
                np.matmul(t[l], weights[l], out=self.w[l])
                loops.tangent(t[l + 1], shift, self.w[l], self.p[l], u[l], beta, s)
        e = [eu[:n] for eu in self.eu]
        e[last][:] = c
        for l in range(last, -1, -1):
            np.matmul(self.ht[l].T, self.eu[l], out=self.d_weights[l])
            np.sum(e[l], axis=0, out=self.d_biases[l])
            if l > 0:
                v, shift = self._down(l, e[l], e[l - 1], weights)
                if self.value_only:
                    loops.multiply(e[l - 1], v, shift, self.p[l - 1])
                else:
                    loops.adjoint(e[l - 1], v, shift, self.p[l - 1], self.w[l - 1])


def _cut(n: int, parts: int) -> list:
    """Slices that cut range(n) into at most `parts` equal pieces."""
    edges = np.linspace(0, n, min(parts, n) + 1).astype(int)
    return [slice(a, b) for a, b in zip(edges[:-1], edges[1:])]


# ----------------------------------------------------------------------------- the nnabla functions


class _Kernel(PythonFunction):
    """Inputs x (N, 3), W_0, b_0, ..., W_7, b_7; outputs f (N, 1) and, unless value_only,
    grad f (N, 3). Gradients flow to the parameters, not to x."""

    def __init__(self, beta: float, scale: float, value_only: bool):
        super().__init__(nn.get_current_context())
        self.beta, self.scale = np.float32(beta), np.float32(scale)
        self.value_only, self.shards = value_only, []

    @property
    def name(self):
        return "Value" if self.value_only else "ValueAndGradient"

    def min_outputs(self):
        return 1 if self.value_only else 2

    def setup_impl(self, inputs, outputs):
        n = inputs[0].shape[0]
        outputs[0].reset_shape((n, 1), True)
        if not self.value_only:
            outputs[1].reset_shape((n, 3), True)
        weights = [v for v in inputs[1::2]]
        self.shards = [_Shard(rows, weights, self.value_only) for rows in _cut(n, threads())]

    def forward_impl(self, inputs, outputs):
        x, weights, biases = inputs[0].d, [v.d for v in inputs[1::2]], [v.d for v in inputs[2::2]]
        f = outputs[0].d
        g = None if self.value_only else outputs[1].d

        def sweep(shard):
            f[shard.rows] = shard.value(x[shard.rows], weights, biases, self.beta, self.scale)
            if g is not None:
                g[shard.rows] = shard.gradient(weights, self.scale)

        _map(sweep, self.shards)

    def backward_impl(self, inputs, outputs, propagate_down, accum):
        if propagate_down[0]:
            raise NotImplementedError("the kernel has no gradient with respect to the points")
        weights = [v.d for v in inputs[1::2]]
        c = outputs[0].g
        d = None if self.value_only else outputs[1].g

        def sweep(shard):
            rows = shard.rows
            shard.backward(c[rows], None if d is None else d[rows], weights, self.beta, self.scale)

        _map(sweep, self.shards)

        def collect(i):
            parts = [(s.d_biases if i % 2 else s.d_weights)[i // 2] for s in self.shards]
            target = inputs[1 + i].g
            if not accum[1 + i]:
                np.copyto(target, parts.pop(0))
            for part in parts:
                target += part

        _map(collect, [i for i in range(len(inputs) - 1) if propagate_down[1 + i]])

    def grad_depends_output_data(self, i, o):
        return False

    def grad_depends_input_data(self, i, j):
        return True


def value(x, parameters: list, beta: float, scale: float):
    """f(x) (N, 1) as an nnabla variable; parameters [W_0, b_0, ..., W_7, b_7]."""
    return _Kernel(beta, scale, True)(x, *parameters)


def value_and_gradient(x, parameters: list, beta: float, scale: float):
    """(f(x) (N, 1), grad f(x) (N, 3)) as nnabla variables."""
    return _Kernel(beta, scale, False)(x, *parameters)


# -------------------------------------------------------------------------------- for the inference


def evaluate(points: np.ndarray, arrays: list, activation: str, beta: float, scale: float):
    """f (N,) of points (N, 3), numpy in and out; arrays [W_0, b_0, ...] float32.

    activation: "softplus" with beta, or "leaky_relu" (slope 0.1; beta is not used). A point's
    value is the same bit for bit in whatever company it comes: every block has BLOCK rows, the
    last one's spare rows being leftovers.
    """
    loops, beta, scale = _loops(), np.float32(beta), np.float32(scale)
    weights, biases = arrays[0::2], arrays[1::2]
    out, last = np.empty(len(points), np.float32), len(weights) - 1

    def sweep(rows):
        sizes = [w.shape[0] for w in weights]
        h = [np.zeros((BLOCK, size), np.float32) for size in sizes]
        p = [np.empty((BLOCK, len(b)), np.float32) for b in biases]
        for start in range(rows.start, rows.stop, BLOCK):
            n = min(BLOCK, rows.stop - start)
            h[0][:n] = points[start : start + n]
            np.multiply(h[0], scale, out=h[SKIP][:, :3])
            for l in range(last):
                shift, s = (3, scale) if l + 1 == SKIP else (0, np.float32(1))
                np.matmul(h[l], weights[l], out=h[l + 1][:, shift:])
                if activation == "softplus":
                    loops.softplus(h[l + 1], shift, biases[l], p[l], beta, s)
                else:
                    loops.leaky_relu(h[l + 1], shift, biases[l], s)
            out[start : start + n] = (h[last] @ weights[last])[:n, 0] + biases[last]

    blocks = -(-len(points) // BLOCK)
    _map(sweep, [slice(cut.start * BLOCK, min(cut.stop * BLOCK, len(points)))
                 for cut in _cut(blocks, threads())])
    return out
