"""Compiled passes through the network's layers: value, gradient, and their double backward.

In the paper's symbols, for one point (a row; W_l has shape in x out), s the skip's scale,
phi softplus, p = phi' and beta p (1 - p) = phi'':

    encoding    gamma = [x, o_0 sin x, o_0 cos x, o_1 sin 2x, o_1 cos 2x, o_2 sin 4x, ...], 3 + 6K
                columns,   J = d gamma / dx, of shape (3 + 6K) x 3
    value       z_l = h_l W_l + b_l,   h_0 = gamma,   h_{l+1} = phi(z_l),
                h_4 = s [gamma, phi(z_3)],   f = z_7
    gradient    u_7 = 1,   v_l = u_l W_l^T,   u_{l-1} = p_{l-1} v_l   (v_4 loses its first 3 + 6K
                columns to gamma, the rest is scaled by s),   grad f = (v_0 + s v_4[:3 + 6K]) J

The encoding is that of IDR (Yariv et al., 2020) with K frequencies, none in the paper. o_k is the
amplitude of frequency k, 2^-k where it is open (see igr/field/encoding.py). J needs no sine
or cosine beyond those of gamma: the row of o_k sin 2^k x_a has 2^k o_k cos 2^k x_a in column a and
zeros beside it, and the row of o_k cos 2^k x_a has -2^k o_k sin 2^k x_a.

A loss with adjoints c = dL/df and d = dL/d(grad f) depends on the parameters as c f + <d, grad f>,
and <d, grad f> is f's derivative along d: a tangent pass through the same layers,

    tangent     w_l = t_l W_l,   t_0 = d J^T,   t_{l+1} = p_l w_l,   t_4 = s [d J^T, p_3 w_3]

in which the adjoint of w_l is the u_l of above. One more reverse pass gives the adjoints of z_l:

    adjoint     e_7 = c,   e_{l-1} = p_{l-1} (e_l W_l^T) + beta (1 - p_{l-1}) u_{l-1} w_{l-1}
    result      dL/dW_l = h_l^T e_l + t_l^T u_l,   dL/db_l = sum over the points of e_l

That is six matrix products a layer. The points are fixed, and so are gamma and J: they need no
second derivative. Training keeps a point in a row (its arrays are stacked, and numba's np.dot wants
them whole); inference keeps a point in a column, see igr/field/inference.py. All compiled functions
that call each other stand in this file: numba's cache on the disk looks at a function's own file
only.
"""

from __future__ import annotations

from igr.backend import threads

import numpy as np
from numpy import float32 as f4
from numpy import int32 as i4

SKIP = 4  # the layer whose input is [gamma, h]
CLOSED = np.zeros(0, np.float32)  # the window of a network without encoding

_compiled = threads.compiled(fastmath={"contract"}, error_model="numpy")
# without "contract" every operation is rounded by itself: a loop gives the same bits in its
# vectors and in what is left over
_compiled_exactly = threads.compiled(error_model="numpy")


def checked_window(window, weights) -> np.ndarray:
    """The window (K,) itself, CLOSED for None. Raises ValueError where it does not fit the weights
    [W_0, ..., W_7]."""
    window = CLOSED if window is None else window
    if window.dtype != np.float32 or window.ndim != 1 or not window.flags.c_contiguous:
        raise ValueError("the window must be a vector of float32, one after the other in memory")
    encoded = 3 + 6 * len(window)
    inputs = weights[0].shape[0], weights[SKIP].shape[0] - weights[SKIP - 1].shape[1]
    if inputs != (encoded, encoded):
        raise ValueError(f"a window of {len(window)} frequencies needs {encoded} inputs at the "
                         f"first layer and at the skip, the weights have {inputs}")
    return window


# --- the encoding: gamma has a point in a column (3 + 6K, n) for inference, in a row to train


@_compiled_exactly
def _sine_and_cosine(y):
    """(sin y, cos y) by Cephes' polynomials in what is left of y beyond the nearest multiple of
    pi / 2, without a branch, so that a loop vectorises. Errors are below 1.5e-7 for |y| up to 10^5;
    beyond, where float32 is too coarse, it is some number in [-1, 1]."""
    n = np.floor(y * f4(2 / np.pi) + f4(0.5))
    # pi / 2 in three pieces, two of which have so few digits that n times them is exact
    r = ((y - n * f4(1.5703125)) - n * f4(4.837512969970703e-4)) - n * f4(7.549789954891882e-8)
    r = f4(1) if r > f4(1) else (f4(-1) if r < f4(-1) else r)
    q = r * r
    sine = f4(8.3321608736e-3) - f4(1.9515295891e-4) * q
    sine = r + r * q * (f4(-1.6666654611e-1) + q * sine)
    cosine = f4(-1.388731625493765e-3) + f4(2.443315711809948e-5) * q
    cosine = f4(1) - f4(0.5) * q + q * q * (f4(4.166664568298827e-2) + q * cosine)
    quarter = n - f4(4) * np.floor(f4(0.25) * n)  # 0, 1, 2 or 3
    swapped = (quarter == f4(1)) | (quarter == f4(3))
    a = cosine if swapped else sine
    b = sine if swapped else cosine
    return (a if quarter < f4(2) else -a), (-b if (quarter == f4(1)) | (quarter == f4(2)) else b)


@_compiled_exactly
def encode(gamma, window, margin):
    """Rows 3 and following of gamma (3 + 6K, n), from x in the first three and the window o (K,);
    without the first and the last `margin` columns."""
    inner = slice(margin, gamma.shape[1] - margin)
    for k in range(len(window)):
        power = f4(1 << k)
        o = window[k]
        for a in range(3):
            x = gamma[a][inner]
            sine = gamma[3 + 6 * k + a][inner]
            cosine = gamma[6 + 6 * k + a][inner]
            for j in range(len(x)):
                s, c = _sine_and_cosine(power * x[j])
                sine[j] = o * s
                cosine[j] = o * c


@_compiled
def encode_rows(x, window, columns, gamma):
    """gamma (n, 3 + 6K) of x (n, 3) and the window o (K,); columns (3 + 6K, n): work space."""
    if len(window) == 0:
        gamma[:] = x
        return
    for a in range(3):
        columns[a] = x[:, a]
    encode(columns, window, 0)
    for i in range(len(gamma)):
        for j in range(gamma.shape[1]):
            gamma[i, j] = columns[j, i]


@_compiled
def _along(d, gamma, t):
    """t (m, 3 + 6K) <- d J^T, for directions d (m, 3) and the encodings gamma of their points"""
    t[:, :3] = d
    for i in range(len(gamma)):
        power = f4(1)
        for j in range(3, gamma.shape[1], 6):
            for a in range(3):
                slope = power * d[i, a]
                t[i, j + a] = slope * gamma[i, j + 3 + a]
                t[i, j + 3 + a] = -slope * gamma[i, j + a]
            power *= f4(2)


@_compiled
def _to_space(v, past, gamma, g):
    """g (m, 3) <- (v + past) J, for v and past (m, 3 + 6K) and their points' encodings gamma"""
    for i in range(len(gamma)):
        for a in range(3):
            g[i, a] = v[i, a] + past[i, a]
        power = f4(1)
        for j in range(3, gamma.shape[1], 6):
            for a in range(j, j + 3):
                of_sine = (v[i, a] + past[i, a]) * gamma[i, a + 3]
                of_cosine = (v[i, a + 3] + past[i, a + 3]) * gamma[i, a]
                g[i, a - j] += power * (of_sine - of_cosine)
            power *= f4(2)


@_compiled
def _scale(to, a, scale):
    """to <- scale a, as far as both reach"""
    for i in range(min(len(to), len(a))):
        to_i, ai = to[i], a[i]
        for j in range(min(len(to_i), len(ai))):
            to_i[j] = scale * ai[j]


# --- training: a point is a row
#
# Arguments that end in s are tuples with one array a layer. zs and vs are views of one scratch
# array, which stays in the cache: every product goes there and from there through an elementwise
# loop to its place. `shift` is 3 + 6K where the narrower array of a loop begins at that column of
# the wider: at the skip.


@_compiled
def _exp_of_minus(u):
    """e^-u, u >= 0, without a branch, so that a loop of it vectorises: 2^k e^r with a polynomial in
    r (Cephes' expf). Within 2e-7."""
    u = u if u < f4(40) else f4(40)  # smaller ones do not count, and subnormal ones are slow
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
def value(Ws, bs, hs, zs, ps, f, beta, scale):
    """f (n, 1) of the points whose encodings are h_0 (n, 3 + 6K); keeps h_l and p_l."""
    last = len(Ws) - 1
    _scale(hs[SKIP], hs[0], scale)
    for l in range(last):
        shift, s = (hs[0].shape[1], scale) if l + 1 == SKIP else (0, f4(1))
        np.dot(hs[l], Ws[l], zs[l])
        softplus(hs[l + 1], shift, zs[l], bs[l], ps[l], beta, s)
    np.dot(hs[last], Ws[last], f)
    f += bs[last][0]


@_compiled
def gradient(Ws, us, vs, ps, gamma, past, g, scale):
    """g (m, 3) = grad f at the points of the last value(), whose encodings are gamma (m, 3 + 6K);
    keeps u_l. past: work space as gamma."""
    last = len(Ws) - 1
    us[last][:] = f4(1)
    for l in range(last, 0, -1):
        np.dot(us[l], Ws[l].T, vs[l])
        _multiply(us[l - 1], vs[l], gamma.shape[1] if l == SKIP else 0, ps[l - 1])
        if l == SKIP:
            _scale(past, vs[l], scale)
    np.dot(us[0], Ws[0].T, vs[0])
    _to_space(vs[0], past, gamma, g)


@_compiled
def tangents(d, gamma, Ws, ts, zs, ps, us, rs, beta, scale):
    """t_l along the directions d (m, 3) at the points with the encodings gamma (m, 3 + 6K), and
    r_l = phi'' v_l w_l, what a tangent adds to the adjoint of z_l."""
    _along(d, gamma, ts[0])
    _scale(ts[SKIP], ts[0], scale)
    for l in range(len(Ws) - 1):
        shift, s = (gamma.shape[1], scale) if l + 1 == SKIP else (0, f4(1))
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
            shift = hts[0].shape[1] if l == SKIP else 0
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
def value_of_columns(gamma, Ws, bs, this, other, f, beta, scale, is_softplus, margin, with_blas):
    """f (n,) of the points with the encodings gamma (3 + 6K, n); this, other: work space
    (dims + 6K, n), a layer's input and output in turn: they stay in the cache. The first and last
    `margin` columns of gamma and of both are 0 and stay so."""
    last = len(Ws) - 1
    for l in range(last):
        first = len(gamma) if l + 1 == SKIP else 0  # gamma goes before
        s = scale if l + 1 == SKIP else f4(1)
        z = other[first : first + Ws[l].shape[1]]
        if l == 0 and len(gamma) == 3:
            _first_layer(gamma, Ws[0], z)
        else:
            product(Ws[l], gamma if l == 0 else this[: Ws[l].shape[0]], z, with_blas)
        if is_softplus:
            _softplus_columns(z, margin, bs[l], beta, s)
        else:
            _leaky_relu_columns(z, margin, bs[l], s)
        if first:
            _scale(other, gamma, s)
        this, other = other, this
    _last_layer(this[: Ws[last].shape[0]], Ws[last], bs[last][0], f)
