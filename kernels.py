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
    """[function(item) ...], the first in this thread, the others in the pool; the first use makes
    BLAS single-threaded."""
    if _state["pool"] is None:
        import threadpoolctl

        threadpoolctl.threadpool_limits(1, user_api="blas")
        _state["pool"] = ThreadPoolExecutor(max(1, _state["threads"] - 1))
    others = [_state["pool"].submit(function, item) for item in items[1:]]
    return [function(items[0]), *(other.result() for other in others)]


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
    def softplus(h, shift, product, bias, p, beta, scale):
        """h <- scale phi(z), p <- scale phi'(z), z = product + bias, without a branch, so that it
        vectorises. exp by 2^k e^r with a polynomial in r (Cephes' expf), log(1 + t) as
        2 atanh(t / (2 + t)); errors are below 2e-7 in p and 2e-7 / beta in h."""
        scale_over_beta = scale / beta
        for i in range(p.shape[0]):
            row, xi, slope = h[i][shift:], product[i], p[i]
            for j in range(len(slope)):
                z = xi[j] + bias[j]
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
                slope[j] = s if z >= f4(0) else t * s
                row[j] = f4(0.5) * scale * (z + abs(z)) + log * scale_over_beta

    @compiled
    def leaky_relu(h, shift, product, bias, scale):
        """h <- scale max(z, 0.1 z), z = product + bias"""
        for i in range(h.shape[0]):
            row, xi = h[i][shift:], product[i]
            for j in range(len(bias)):
                z = xi[j] + bias[j]
                row[j] = scale * (z if z >= f4(0) else f4(0.1) * z)

    @compiled
    def multiply(u, v, shift, p):
        """u <- v p, for the rows of u"""
        for i in range(u.shape[0]):
            ui, vi, pi = u[i], v[i][shift:], p[i]
            for j in range(len(pi)):
                ui[j] = vi[j] * pi[j]

    @compiled
    def tangent(t, shift, r, w, p, u, beta, scale):
        """t <- p w, r <- beta u (1 - phi') w   (p is scale phi')"""
        inverse = f4(1) / scale
        for i in range(p.shape[0]):
            ti, ri, wi, pi, ui = t[i][shift:], r[i], w[i], p[i], u[i]
            for j in range(len(pi)):
                ti[j] = pi[j] * wi[j]
                ri[j] = beta * ui[j] * (f4(1) - pi[j] * inverse) * wi[j]

    @compiled
    def adjoint(e, v, shift, p, w):
        """e <- v p + w"""
        for i in range(p.shape[0]):
            ei, vi, pi, wi = e[i], v[i][shift:], p[i], w[i]
            for j in range(len(pi)):
                ei[j] = vi[j] * pi[j] + wi[j]

    return SimpleNamespace(
        softplus=softplus, leaky_relu=leaky_relu, multiply=multiply, tangent=tangent,
        adjoint=adjoint,
    )


# ------------------------------------------------------------------------- sweeps through one shard


class _Shard:
    """Some points with the work buffers of every sweep: n of them, the last m with gradient.

    ht[l] stacks h_l (n rows) over t_l (m rows) and eu[l] stacks e_l over u_l, so that dL/dW_l is
    one product. Every product goes into one scratch array, which stays in the cache, and from
    there through an elementwise loop to its place.
    """

    def __init__(self, n: int, m: int, weights: list):
        self.n, self.m = n, m
        sizes = [w.shape for w in weights]

        def empty(*shape):
            return np.empty(shape, np.float32)

        self.ht = [empty(n + m, i) for i, _ in sizes]
        self.eu = [empty(n + m, o) for _, o in sizes]
        self.p = [empty(n, o) for _, o in sizes]
        self.w = [empty(m, o) for _, o in sizes]
        self.f, self.g = empty(n, 1), empty(m, 3)
        self.scratch = empty(n * max(max(s) for s in sizes))
        self.d_weights = [empty(*s) for s in sizes]
        self.d_biases = [empty(o) for _, o in sizes]

    def _product(self, a, w) -> np.ndarray:
        """a @ w in the scratch array."""
        out = self.scratch[: len(a) * w.shape[1]].reshape(len(a), w.shape[1])
        return np.matmul(a, w, out=out) if w.shape[0] > 1 else np.multiply(a, w, out=out)

    def forward(self, weights, biases, beta, scale) -> None:
        """f (n, 1) and g = grad f (m, 3) at the points in ht[0][:n]."""
        loops, n, m, last = _loops(), self.n, self.m, len(weights) - 1
        h = [ht[:n] for ht in self.ht]
        np.multiply(h[0], scale, out=h[SKIP][:, :3])
        for l in range(last):
            shift, s = (3, scale) if l + 1 == SKIP else (0, np.float32(1))
            z = self._product(h[l], weights[l])
            loops.softplus(h[l + 1], shift, z, biases[l], self.p[l], beta, s)
        np.matmul(h[last], weights[last], out=self.f)
        self.f += biases[last]
        if m:
            u = [eu[n:] for eu in self.eu]
            u[last][:] = 1
            for l in range(last, 0, -1):
                v = self._product(u[l], weights[l].T)
                if l == SKIP:
                    past = scale * v[:, :3]
                loops.multiply(u[l - 1], v, 3 if l == SKIP else 0, self.p[l - 1][n - m :])
            np.matmul(u[0], weights[0].T, out=self.g)
            self.g += past

    def backward(self, c, d, weights, beta, scale) -> None:
        """d_weights, d_biases of sum(c f) + sum(<d, grad f>); c (n, 1), d (m, 3)."""
        loops, n, m, last = _loops(), self.n, self.m, len(weights) - 1
        if m:
            t, u = [ht[n:] for ht in self.ht], [eu[n:] for eu in self.eu]
            t[0][:] = d
            np.multiply(d, scale, out=t[SKIP][:, :3])
            for l in range(last):
                shift, s = (3, scale) if l + 1 == SKIP else (0, np.float32(1))
                w = self._product(t[l], weights[l])
                loops.tangent(t[l + 1], shift, self.w[l], w, self.p[l][n - m :], u[l], beta, s)
        e = [eu[:n] for eu in self.eu]
        e[last][:] = c
        for l in range(last, -1, -1):
            np.matmul(self.ht[l].T, self.eu[l], out=self.d_weights[l])
            np.sum(e[l], axis=0, out=self.d_biases[l])
            if l:
                v, shift = self._product(e[l], weights[l].T), 3 if l == SKIP else 0
                loops.multiply(e[l - 1][: n - m], v, shift, self.p[l - 1])
                loops.adjoint(e[l - 1][n - m :], v[n - m :], shift, self.p[l - 1][n - m :],
                              self.w[l - 1])


def _cut(n: int, parts: int) -> list:
    """Slices that cut range(n) into `parts` pieces of nearly equal size."""
    edges = np.linspace(0, n, parts + 1).astype(int)
    return [slice(a, b) for a, b in zip(edges[:-1], edges[1:])]


# ------------------------------------------------------------------------------ the nnabla function


class _Kernel(PythonFunction):
    """Inputs x (N, 3), W_0, b_0, ..., W_7, b_7; outputs f (N, 1) and, unless m is 0, grad f (m, 3)
    at the last m points. Gradients flow to the parameters, not to x."""

    def __init__(self, m: int, beta: float, scale: float):
        super().__init__(nn.get_current_context())
        self.m, self.beta, self.scale = m, np.float32(beta), np.float32(scale)

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
        parts = min(threads(), n)
        plain = _cut(n - m, parts)  # a piece of the points without and one of those with gradient
        sloped = _cut(m, parts)
        self.work = [(_Shard(a.stop - a.start + b.stop - b.start, b.stop - b.start, inputs[1::2]),
                      (a, slice(n - m + b.start, n - m + b.stop)), b)
                     for a, b in zip(plain, sloped)]

    def forward_impl(self, inputs, outputs):
        x, weights, biases = inputs[0].d, [v.d for v in inputs[1::2]], [v.d for v in inputs[2::2]]
        f, g = outputs[0].d, outputs[1].d if self.m else None

        def sweep(item):
            shard, (plain, sloped), slopes = item
            k = shard.n - shard.m
            shard.ht[0][:k], shard.ht[0][k : shard.n] = x[plain], x[sloped]
            shard.forward(weights, biases, self.beta, self.scale)
            f[plain], f[sloped] = shard.f[:k], shard.f[k:]
            if shard.m:
                g[slopes] = shard.g

        _map(sweep, self.work)

    def backward_impl(self, inputs, outputs, propagate_down, accum):
        if propagate_down[0]:
            raise NotImplementedError("the kernel has no gradient with respect to the points")
        weights, targets = [v.d for v in inputs[1::2]], [v.g for v in inputs[1:]]
        c, d = outputs[0].g, outputs[1].g if self.m else None

        def sweep(item):
            shard, (plain, sloped), slopes = item
            shard.backward(np.concatenate([c[plain], c[sloped]]), d[slopes] if shard.m else None,
                           weights, self.beta, self.scale)

        _map(sweep, self.work)

        def collect(places):
            for i in places:
                parts = [(s.d_biases if i % 2 else s.d_weights)[i // 2] for s, _, _ in self.work]
                if not accum[1 + i]:
                    np.copyto(targets[i], parts.pop(0))
                for part in parts:
                    targets[i] += part

        wanted = [i for i in range(len(targets)) if propagate_down[1 + i]]
        _map(collect, [wanted[k :: threads()] for k in range(threads())])

    def grad_depends_output_data(self, i, o):
        return False

    def grad_depends_input_data(self, i, j):
        return True


def value_and_gradient(x, m: int, parameters: list, beta: float, scale: float):
    """(f (N, 1), grad f (m, 3) at the last m points; None for m = 0) as nnabla variables.

    x (N, 3); parameters [W_0, b_0, ..., W_7, b_7]; beta of softplus; scale of the skip.
    """
    outputs = _Kernel(m, beta, scale)(x, *parameters)
    return outputs if m else (outputs, None)


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
        scratch = np.empty(BLOCK * max(sizes), np.float32)
        p = [np.empty((BLOCK, len(b)), np.float32) for b in biases]
        for start in range(rows.start, rows.stop, BLOCK):
            n = min(BLOCK, rows.stop - start)
            h[0][:n] = points[start : start + n]
            np.multiply(h[0], scale, out=h[SKIP][:, :3])
            for l in range(last):
                shift, s = (3, scale) if l + 1 == SKIP else (0, np.float32(1))
                z = scratch[: BLOCK * len(biases[l])].reshape(BLOCK, -1)
                np.matmul(h[l], weights[l], out=z)
                if activation == "softplus":
                    loops.softplus(h[l + 1], shift, z, biases[l], p[l], beta, s)
                else:
                    loops.leaky_relu(h[l + 1], shift, z, biases[l], s)
            out[start : start + n] = (h[last] @ weights[last])[:n, 0] + biases[last]

    blocks = -(-len(points) // BLOCK)
    _map(sweep, [slice(cut.start * BLOCK, min(cut.stop * BLOCK, len(points)))
                 for cut in _cut(blocks, min(threads(), max(blocks, 1)))])
    return out
