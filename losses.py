"""The loss of IGR (Gropp et al. 2020, eq. 2) and the surface-to-point term, each term a mean.

    L = mean |f(x)|  +  lam mean (|grad f(y)| - 1)^2  [ +  tau mean |grad f(x) - n| ]
                                                      [ +  mu mean |s - p| ]

x surface points, n their unit normals, y points of free space, f the network; s points of the
network's zero set, p the cloud point nearest to s. The paper takes means too (1/|I| sum over the
points, an expectation over y), and so does the authors' code (amosgropp/IGR,
code/reconstruction/run.py). nnabla-examples differs: it sums f(x)^2 and |grad f(x) - n| over the
batch, so its lam and tau depend on the batch size. Ours do not.

The paper does not have the surface-to-point term; mu = 0 is the paper's loss. The term is that of
DiffCD (Haerenstam-Nielsen et al., ECCV 2024), which takes the Chamfer distance in both directions.
No other term sees a part of the zero set that is far from all points.
"""

from __future__ import annotations

from igr.sampling import GraphZeroSamples, HostZeroSamples

import nnabla as nn
import nnabla.functions as F

EPS = 1e-12  # under the root of a norm, whose derivative at 0 is otherwise 0 / 0
STALE = 0.05  # unit frame; a sample of the zero set that is farther from it counts no more
MIN_SLOPE = 0.1  # of f at the zero set; where it is less, the zero set would move without bounds


def norm(v: nn.Variable) -> nn.Variable:
    """Euclidean length (N, 1) of the rows of v (N, 3), with a finite derivative at 0."""
    return (F.sum(v * v, axis=1, keepdims=True) + EPS) ** 0.5


def point_loss(f_x: nn.Variable) -> nn.Variable:
    """mean |f(x)| of f_x (B, 1): the surface goes through the points."""
    return F.mean(F.abs(f_x))


def eikonal_loss(grad_y: nn.Variable) -> nn.Variable:
    """mean (|grad f(y)| - 1)^2 of grad_y (N, 3): f is a distance."""
    return F.mean((norm(grad_y) - 1) ** 2)


def normals_loss(grad_x: nn.Variable, n: nn.Variable) -> nn.Variable:
    """mean |grad f(x) - n| of grad_x and n (B, 3): the surface faces as the points' normals do."""
    return F.mean(norm(grad_x - n))


def surface_loss(f_s: nn.Variable, grad_s: nn.Variable, s: nn.Variable,
                 p: nn.Variable) -> nn.Variable:
    """mean |s' - p|: the surface goes nowhere but to the points. s' is s, moved onto the zero set.

    f_s (S, 1) and grad_s (S, 3): f and grad f at s (S, 3), which are points near the zero set;
    p (S, 3): the cloud point nearest to each. Both s and p are constants.

    The derivative. A point s of the zero set moves with the parameters theta so that f(s; theta)
    stays 0. Along the normal, the only way in which the zero set as a whole can move,

        grad f . ds/dtheta + df/dtheta = 0,   so   ds/dtheta = -G df/dtheta,   G = grad f / |grad f|^2

    (Atzmon et al., Controlling Neural Level Sets, NeurIPS 2019). One Newton step towards the zero
    set, with G held fixed, is a point of it and has that derivative:

        s' = s - f(s; theta) G

    With t = (s' - p) / |s' - p| the gradient of the term is the sum over s of c df(s)/dtheta,
    c = -(t . G) / S. A change of p does not count, since p is nearest to s, nor does the change of
    the surface's area, since the samples stay the same.

    A sample counts 0 where the Newton step is longer than STALE: the zero set has left it, as when
    a sheet has gone. Of samples that were made some hundred steps ago there are such.
    """
    slope_squared = F.sum(grad_s * grad_s, axis=1, keepdims=True)
    G = grad_s / F.maximum_scalar(slope_squared, MIN_SLOPE**2)
    G = F.identity(G).apply(need_grad=False)
    f_fixed = F.identity(f_s).apply(need_grad=False)
    fresh = F.less_scalar(norm(f_fixed * G), STALE)
    return F.mean(fresh * norm(s - f_s * G - p))


def igr_loss(mlp, x: nn.Variable, y: nn.Variable, n: nn.Variable | None = None, lam: float = 0.1,
             tau: float = 1.0, zero_set: HostZeroSamples | GraphZeroSamples | None = None,
             mu: float = 0.0) -> dict:
    """The terms by name and their weighted sum, {"points", "eikonal", "loss"[, "normals"][,
    "surface"]}.

    mlp: networks.MLP; x (B, 3), y (N, 3), n (B, 3) or None, all in the unit frame; zero_set: the
    samples s and p (S, 3) of the surface-to-point term, or None.
    """
    batch = x.shape[0]
    groups = [x, y] if zero_set is None else [x, zero_set.s, y]
    everywhere = F.concatenate(*groups, axis=0)
    y_start = everywhere.shape[0] - y.shape[0]
    plain = batch if n is None else 0  # rows at which grad f is not needed
    f, grad = mlp.value_and_gradient(everywhere, everywhere.shape[0] - plain)

    points = point_loss(f[:batch])
    eikonal = eikonal_loss(grad if y_start == plain else grad[y_start - plain :])
    normals = None if n is None else normals_loss(grad[:batch], n)
    surface = None if zero_set is None else zero_set.weight * surface_loss(
        f[batch:y_start], grad[batch - plain : y_start - plain], zero_set.s, zero_set.p)
    loss = points + lam * eikonal
    loss = loss if normals is None else loss + tau * normals
    loss = loss if surface is None else loss + mu * surface
    terms = {"points": points, "eikonal": eikonal, "loss": loss, "normals": normals,
             "surface": surface}
    return {name: term for name, term in terms.items() if term is not None}
