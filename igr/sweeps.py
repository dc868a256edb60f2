"""The compiled sweeps through the network's layers: value, gradient, and their double backward.

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

That is six matrix products a layer. Training keeps a point in a row (its arrays are stacked, and
numba's np.dot wants them whole); inference keeps a point in a column, see igr/inference.py. All
compiled code that calls each other stands in this file: numba's cache on the disk looks at a
function's own file only.
"""

from __future__ import annotations

from igr import threads

import numpy as np
from numpy import float32 as f4
from numpy import int32 as i4

SKIP = 4  # the layer whose input is [x, h]

_compiled = threads.compiled(fastmath={"contract"}, error_model="numpy")

# --- training: a point is a row
#
# Arguments that end in s are tuples with one array a layer. zs and vs are views of one scratch
# array, which stays in the cache: every product goes there and from there through an elementwise
# loop to its place. `shift` is 3 where the narrower array of a loop begins at column 3 of the
# wider: at the skip.


@_compiled
def _exp_of_minus(u):
    """e^-u, u >= 0, without a branch, so that a loop of it vectorises: 2^k e^r with a polynomial in
    r (Cephes' expf). Within 2e-7."""
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
    return e * i4((i4(k) + i4(127)) << i4(23)).view(np.float32)


@_compiled
def _log_of_1_plus(t):
    """log(1 + t), t in [0, 1], as 2 atanh(t / (2 + t)). Within 2e-7."""
    w = t / (f4(2) + t)
    q = w * w
    log = f4(1 / 9) + q * f4(1 / 11)
    log = f4(1 / 5) + q * (f4(1 / 7) + q * log)
    return f4(2) * w * (f4(1) + q * (f4(1 / 3) + q * log))


@_compiled
def softplus(h, shift, z, bias, p, beta, scale):
    """h <- scale phi(z + bias), p <- scale phi'(z + bias); errors are below 2e-7 in p and
    2e-7 / beta in h."""
    scale_over_beta = scale / beta
    for i in range(p.shape[0]):
        hi, zi, pi = h[i][shift:], z[i], p[i]
        for j in range(len(pi)):
            x = zi[j] + bias[j]
            t = _exp_of_minus(abs(beta * x))  # in (0, 1]
            s = scale / (f4(1) + t)
            pi[j] = s if x >= f4(0) else t * s
            hi[j] = f4(0.5) * scale * (x + abs(x)) + _log_of_1_plus(t) * scale_over_beta


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
def value(x, Ws, bs, hs, zs, ps, f, beta, scale):
    """f (n, 1) of x (n, 3); keeps h_l and p_l."""
    last = len(Ws) - 1
    hs[0][:] = x
    hs[SKIP][:, :3] = scale * x
    for l in range(last):
        shift, s = (3, scale) if l + 1 == SKIP else (0, f4(1))
        np.dot(hs[l], Ws[l], zs[l])
        softplus(hs[l + 1], shift, zs[l], bs[l], ps[l], beta, s)
    np.dot(hs[last], Ws[last], f)
    f += bs[last][0]


@_compiled
def gradient(Ws, us, vs, ps, g, scale):
    """g (m, 3) = grad f at the points of the last value(); keeps u_l."""
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
def tangents(d, Ws, ts, zs, ps, us, rs, beta, scale):
    """t_l along the directions d (m, 3), and r_l = phi'' v_l w_l, what a tangent adds to
    the adjoint of z_l."""
    ts[0][:] = d
    ts[SKIP][:, :3] = scale * d
    for l in range(len(Ws) - 1):
        shift, s = (3, scale) if l + 1 == SKIP else (0, f4(1))
        np.dot(ts[l], Ws[l], zs[l])
        _tangent(ts[l + 1], shift, rs[l], zs[l], ps[l], us[l], beta, s)


@_compiled
def adjoints(c, Ws, hts, es, eus, vs, ps, rs, dWs, dbs):
    """dWs, dbs of sum(c f) + sum(<d, grad f>); c (n, 1), d as given to tangents()."""
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


# --- inference: a point is a column of h (features, points)


@_compiled
def _first_layer(x, W, z):
    """z <- W^T x, (out, n) of x (3, n): too thin a product for BLAS."""
    for i in range(z.shape[0]):
        a, b, c = W[0, i], W[1, i], W[2, i]
        zi = z[i]
        for j in range(len(zi)):
            zi[j] = a * x[0, j] + b * x[1, j] + c * x[2, j]


@_compiled
def _last_layer(h, w, bias, f):
    """f <- w^T h + bias, (n,) of h (in, n) and w (in, 1)"""
    f[:] = bias
    for i in range(h.shape[0]):
        wi, hi = w[i, 0], h[i]
        for j in range(len(f)):
            f[j] += wi * hi[j]


@_compiled
def _softplus_columns(z, margin, bias, beta, scale):
    """z <- scale phi(z + bias), bias one a row"""
    scale_over_beta = scale / beta
    for i in range(z.shape[0]):
        zi, b = z[i][margin : z.shape[1] - margin], bias[i]
        for j in range(len(zi)):
            x = zi[j] + b
            t = _exp_of_minus(abs(beta * x))
            zi[j] = f4(0.5) * scale * (x + abs(x)) + _log_of_1_plus(t) * scale_over_beta


@_compiled
def _leaky_relu_columns(z, margin, bias, scale):
    """z <- scale max(x, 0.1 x), x = z + bias, bias one a row"""
    for i in range(z.shape[0]):
        zi, b = z[i][margin : z.shape[1] - margin], bias[i]
        for j in range(len(zi)):
            x = zi[j] + b
            zi[j] = scale * (x if x >= f4(0) else f4(0.1) * x)


@_compiled
def _plain_product(W, h, z):
    """product() without BLAS: every column is summed in the same order, wherever it stands."""
    depth = h.shape[0]
    for i in range(W.shape[1]):
        zi = z[i]
        zi[:] = f4(0)
        for k in range(0, depth - 3, 4):
            a, b, c, d = W[k, i], W[k + 1, i], W[k + 2, i], W[k + 3, i]
            h0, h1, h2, h3 = h[k], h[k + 1], h[k + 2], h[k + 3]
            for j in range(len(zi)):
                zi[j] += a * h0[j] + b * h1[j] + c * h2[j] + d * h3[j]
        for k in range(depth - depth % 4, depth):
            a, h0 = W[k, i], h[k]
            for j in range(len(zi)):
                zi[j] += a * h0[j]


@_compiled
def product(W, h, z, with_blas):
    """z <- W^T h, (out, n), of W (in, out) and h (in, n)."""
    if with_blas:
        np.dot(W.T, h, z)
    else:
        _plain_product(W, h, z)


@_compiled
def value_of_columns(x, Ws, bs, this, other, f, beta, scale, is_softplus, margin, with_blas):
    """f (n,) of the points x (3, n); this, other: work space (dims, n), a layer's input and output
    in turn: they stay in the cache. The first and last `margin` columns of x and of both are 0 and
    stay so."""
    last = len(Ws) - 1
    for l in range(last):
        first = 3 if l + 1 == SKIP else 0  # x goes before
        s = scale if l + 1 == SKIP else f4(1)
        z = other[first : first + Ws[l].shape[1]]
        if l == 0:
            _first_layer(x, Ws[0], z)
        else:
            product(Ws[l], this[: Ws[l].shape[0]], z, with_blas)
        if is_softplus:
            _softplus_columns(z, margin, bs[l], beta, s)
        else:
            _leaky_relu_columns(z, margin, bs[l], s)
        other[:first] = scale * x[:first]
        this, other = other, this
    _last_layer(this, Ws[last], bs[last][0], f)
