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
its shard through all layers in compiled code that does not hold the GIL, with single-threaded BLAS
and in work buffers made once.
"""

from __future__ import annotations

from igr import threads

import nnabla as nn
from nnabla.function import PythonFunction
import numpy as np
from numpy import float32 as f4
from numpy import int32 as i4

SKIP = 4  # the layer whose input is [x, h]
BLOCK = 512  # rows that inference takes through all layers at once: they stay in the cache


# ------------------------------------------------------------------------------ the compiled sweeps
#
# Arguments that end in s are tuples with one array a layer. zs and vs are views of one scratch
# array, which stays in the cache: every product goes there and from there through an elementwise
# loop to its place. `shift` is 3 where the narrower array of a loop begins at column 3 of the
# wider: at the skip.


_compiled = threads.compiled(fastmath={"contract"}, error_model="numpy")


@_compiled
def _softplus(h, shift, z, bias, p, beta, scale):
    """h <- scale phi(z + bias), p <- scale phi'(z + bias), without a branch, so that it
    vectorises. exp by 2^k e^r with a polynomial in r (Cephes' expf), log(1 + t) as
    2 atanh(t / (2 + t)); errors are below 2e-7 in p and 2e-7 / beta in h."""
    scale_over_beta = scale / beta
    for i in range(p.shape[0]):
        hi, zi, pi = h[i][shift:], z[i], p[i]
        for j in range(len(pi)):
            x = zi[j] + bias[j]
            u = abs(beta * x)
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
            t = e * i4((i4(k) + i4(127)) << i4(23)).view(np.float32)  # e^-|beta x|, in (0, 1]
            s = scale / (f4(1) + t)
            w = t / (f4(2) + t)
            q = w * w
            log = f4(1 / 9) + q * f4(1 / 11)
            log = f4(1 / 5) + q * (f4(1 / 7) + q * log)
            log = f4(2) * w * (f4(1) + q * (f4(1 / 3) + q * log))
            pi[j] = s if x >= f4(0) else t * s
            hi[j] = f4(0.5) * scale * (x + abs(x)) + log * scale_over_beta


@_compiled
def _leaky_relu(h, shift, z, bias, scale):
    """h <- scale max(x, 0.1 x), x = z + bias"""
    for i in range(z.shape[0]):
        hi, zi = h[i][shift:], z[i]
        for j in range(len(zi)):
            x = zi[j] + bias[j]
            hi[j] = scale * (x if x >= f4(0) else f4(0.1) * x)


@_compiled
def _multiply(u, v, shift, p):
    """u <- v p, for the rows of u"""
    for i in range(u.shape[0]):
        ui, vi, pi = u[i], v[i][shift:], p[i]
        for j in range(len(pi)):
            ui[j] = vi[j] * pi[j]


@_compiled
def _tangent(t, shift, r, z, p, u, beta, scale):
    """t <- p z, r <- beta u (1 - phi') z   (p is scale phi')"""
    inverse = f4(1) / scale
    for i in range(p.shape[0]):
        ti, ri, zi, pi, ui = t[i][shift:], r[i], z[i], p[i], u[i]
        for j in range(len(pi)):
            ti[j] = pi[j] * zi[j]
            ri[j] = beta * ui[j] * (f4(1) - pi[j] * inverse) * zi[j]


@_compiled
def _adjoint(e, v, shift, p, r):
    """e <- v p + r"""
    for i in range(p.shape[0]):
        ei, vi, pi, ri = e[i], v[i][shift:], p[i], r[i]
        for j in range(len(pi)):
            ei[j] = vi[j] * pi[j] + ri[j]


@_compiled
def _column_sums(e, out):
    out[:] = f4(0)
    for i in range(len(e)):
        ei = e[i]
        for j in range(len(out)):
            out[j] += ei[j]


@_compiled
def _value(x, Ws, bs, hs, zs, ps, f, beta, scale, is_softplus):
    """f (n, 1) of x (n, 3); keeps h_l and p_l."""
    last = len(Ws) - 1
    hs[0][:] = x
    hs[SKIP][:, :3] = scale * x
    for l in range(last):
        shift, s = (3, scale) if l + 1 == SKIP else (0, f4(1))
        np.dot(hs[l], Ws[l], zs[l])
        if is_softplus:
            _softplus(hs[l + 1], shift, zs[l], bs[l], ps[l], beta, s)
        else:
            _leaky_relu(hs[l + 1], shift, zs[l], bs[l], s)
    np.dot(hs[last], Ws[last], f)
    f += bs[last][0]


@_compiled
def _gradient(Ws, us, vs, ps, g, scale):
    """g (m, 3) = grad f at the points of the last _value(); keeps u_l."""
    last = len(Ws) - 1
    us[last][:] = f4(1)
    for l in range(last, 0, -1):
        np.dot(us[l], Ws[l].T, vs[l])
        _multiply(us[l - 1], vs[l], 3 if l == SKIP else 0, ps[l - 1])
        if l == SKIP:
            past = scale * vs[l][:, :3]
    np.dot(us[0], Ws[0].T, g)
    g += past


@_compiled
def _tangents(d, Ws, ts, zs, ps, us, rs, beta, scale):
    """t_l along the directions d (m, 3), and r_l = phi'' v_l w_l, what a tangent adds to
    the adjoint of z_l."""
    ts[0][:] = d
    ts[SKIP][:, :3] = scale * d
    for l in range(len(Ws) - 1):
        shift, s = (3, scale) if l + 1 == SKIP else (0, f4(1))
        np.dot(ts[l], Ws[l], zs[l])
        _tangent(ts[l + 1], shift, rs[l], zs[l], ps[l], us[l], beta, s)


@_compiled
def _adjoints(c, Ws, hts, es, eus, vs, ps, rs, dWs, dbs):
    """dWs, dbs of sum(c f) + sum(<d, grad f>); c (n, 1), d as given to _tangents()."""
    last, plain = len(Ws) - 1, len(c) - len(rs[0])
    es[last][:] = c
    for l in range(last, -1, -1):
        np.dot(hts[l].T, eus[l], dWs[l])
        _column_sums(es[l], dbs[l])
        if l:
            shift = 3 if l == SKIP else 0
            np.dot(es[l], Ws[l].T, vs[l])
            _multiply(es[l - 1][:plain], vs[l], shift, ps[l - 1])
            _adjoint(es[l - 1][plain:], vs[l][plain:], shift, ps[l - 1][plain:], rs[l - 1])


class _Shard:
    """Some points with the work buffers of every sweep: n of them, the last m with gradient.

    ht_l stacks h_l (n rows) over t_l (m rows) and eu_l stacks e_l over u_l, so that dL/dW_l is
    one product.
    """

    def __init__(self, n: int, m: int, weights: list):
        self.n, self.m = n, m
        sizes = [w.shape for w in weights]
        scratch = np.empty(n * max(max(s) for s in sizes), np.float32)

        def views(rows, axis):
            return tuple(scratch[: rows * s[axis]].reshape(rows, s[axis]) for s in sizes)

        def arrays(rows, axis):
            return tuple(np.empty((rows, s[axis]), np.float32) for s in sizes)

        self.x, self.f = np.empty((n, 3), np.float32), np.empty((n, 1), np.float32)
        self.g = np.empty((m, 3), np.float32)
        self.ht, self.eu = arrays(n + m, 0), arrays(n + m, 1)
        self.p, self.r = arrays(n, 1), arrays(m, 1)
        self.h, self.t = (tuple(a[rows] for a in self.ht) for rows in (slice(n), slice(n, None)))
        self.e, self.u = (tuple(a[rows] for a in self.eu) for rows in (slice(n), slice(n, None)))
        self.sloped_p = tuple(p[n - m :] for p in self.p)
        self.z, self.v, self.sloped_z, self.sloped_v = (
            views(rows, axis) for rows in (n, m) for axis in (1, 0))
        self.d_weights = tuple(np.empty(s, np.float32) for s in sizes)
        self.d_biases = tuple(np.empty(s[1], np.float32) for s in sizes)

    def forward(self, weights: tuple, biases: tuple, beta, scale) -> None:
        """f (n, 1) and g = grad f (m, 3) at the points x (n, 3)."""
        _value(self.x, weights, biases, self.h, self.z, self.p, self.f, beta, scale, True)
        if self.m:
            _gradient(weights, self.u, self.sloped_v, self.sloped_p, self.g, scale)

    def backward(self, c, d, weights: tuple, beta, scale) -> None:
        """d_weights, d_biases of sum(c f) + sum(<d, grad f>); c (n, 1), d (m, 3)."""
        if self.m:
            _tangents(d, weights, self.t, self.sloped_z, self.sloped_p, self.u, self.r,
                            beta, scale)
        _adjoints(c, weights, self.ht, self.e, self.eu, self.v, self.p, self.r,
                        self.d_weights, self.d_biases)


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
        parts = min(threads.count(), n)
        plain = _cut(n - m, parts)  # a piece of the points without and one of those with gradient
        sloped = _cut(m, parts)
        self.work = [(_Shard(a.stop - a.start + b.stop - b.start, b.stop - b.start, inputs[1::2]),
                      (a, slice(n - m + b.start, n - m + b.stop)), b)
                     for a, b in zip(plain, sloped)]

    def forward_impl(self, inputs, outputs):
        x = inputs[0].d
        weights, biases = (tuple(v.d for v in inputs[i::2]) for i in (1, 2))
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
        weights, targets = tuple(v.d for v in inputs[1::2]), [v.g for v in inputs[1:]]
        c, d = outputs[0].g, outputs[1].g if self.m else None

        def sweep(item):
            shard, (plain, sloped), slopes = item
            shard.backward(np.concatenate([c[plain], c[sloped]]), d[slopes] if shard.m else None,
                           weights, self.beta, self.scale)

        threads.map(sweep, self.work)

        def collect(places):
            for i in places:
                parts = [(s.d_biases if i % 2 else s.d_weights)[i // 2] for s, _, _ in self.work]
                if not accum[1 + i]:
                    np.copyto(targets[i], parts.pop(0))
                for part in parts:
                    targets[i] += part

        wanted = [i for i in range(len(targets)) if propagate_down[1 + i]]
        threads.map(collect, [wanted[k :: threads.count()] for k in range(threads.count())])

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


def compile_all() -> None:
    """Compile the sweeps now (some 15 s on a new machine, from the disk after that)."""
    weights = tuple(np.zeros(s, np.float32) for s in [(3, 8), *[(8, 8)] * 2, (8, 5),
                                                      *[(8, 8)] * 3, (8, 1)])
    biases = tuple(np.zeros(w.shape[1], np.float32) for w in weights)
    shard = _Shard(2, 1, weights)
    shard.x[:] = 0
    threads.map(lambda _: (
        shard.forward(weights, biases, f4(1), f4(1)),
        shard.backward(np.ones((2, 1), f4), np.ones((1, 3), f4), weights, f4(1), f4(1)),
    ), [0])


# -------------------------------------------------------------------------------- for the inference


def evaluate(points: np.ndarray, arrays: list, activation: str, beta: float, scale: float):
    """f (N,) of points (N, 3), numpy in and out; arrays [W_0, b_0, ...] float32.

    activation: "softplus" with beta, or "leaky_relu" (slope 0.1; beta is not used). A point's
    value is the same bit for bit in whatever company it comes: every block has BLOCK rows, the
    last one's spare rows being leftovers. (Python 3.8's scipy has an older BLAS, whose rows differ
    in the last bit with their place in the block.)
    """
    beta, scale = np.float32(beta), np.float32(scale)
    weights, biases = tuple(arrays[0::2]), tuple(arrays[1::2])
    sizes, out = [w.shape for w in weights], np.empty(len(points), np.float32)

    def sweep(rows):
        x, f = np.zeros((BLOCK, 3), np.float32), np.empty((BLOCK, 1), np.float32)
        h, z, p = (tuple(np.empty((BLOCK, s[axis]), np.float32) for s in sizes)
                   for axis in (0, 1, 1))
        for start in range(rows.start, rows.stop, BLOCK):
            n = min(BLOCK, rows.stop - start)
            x[:n] = points[start : start + n]
            _value(x, weights, biases, h, z, p, f, beta, scale, activation == "softplus")
            out[start : start + n] = f[:n, 0]

    blocks = -(-len(points) // BLOCK)
    threads.map(sweep, [slice(cut.start * BLOCK, min(cut.stop * BLOCK, len(points)))
                 for cut in _cut(blocks, min(threads.count(), max(blocks, 1)))])
    return out
