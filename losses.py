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

from typing import NamedTuple, Protocol

from igr.field import reductions

import nnabla as nn
import nnabla.functions as F

EPS = 1e-12  # under the root of a norm, whose derivative at 0 is otherwise 0 / 0
STALE = 0.05  # unit frame; farther from the zero set, one of its former samples counts 0
MIN_SLOPE = 0.1  # |grad f| in a denominator; where a sheet dissolves, it goes through 0


class Weights(NamedTuple):
    """Weights of the terms beside that of the points, which is 1."""

    lam: float = 0.1  # of the eikonal term
    tau: float = 1.0  # of the normals term
    mu: float = 0.0  # of the surface-to-point term


class Samples(NamedTuple):
    """What a step sees, in the unit frame. The classes of igr/training/sampling.py have its fields.
    """

    x: nn.Variable  # (B, 3), points of the cloud
    y: nn.Variable  # (N, 3), points of free space
    n: nn.Variable | None = None  # (B, 3), unit normals at x
    zero_set: ZeroSamples | None = None  # for the surface-to-point term


class ZeroSamples(Protocol):
    """Points of the network's zero set and what they are pulled to, see surface_loss."""

    s: nn.Variable  # (S, 3)
    p: nn.Variable  # (S, 3)
    weight: nn.Variable  # ()


def norm(v: nn.Variable) -> nn.Variable:
    """Euclidean length (N, 1) of the rows of v (N, 3), with a finite derivative at 0."""
    return (reductions.row_sums(v * v) + EPS) ** 0.5


def point_loss(f_x: nn.Variable) -> nn.Variable:
    """mean |f(x)| of f_x (B, 1): the surface goes through the points."""
    return reductions.mean(F.abs(f_x))


def eikonal_loss(grad_y: nn.Variable) -> nn.Variable:
    """mean (|grad f(y)| - 1)^2 of grad_y (N, 3): f is a distance."""
    return reductions.mean((norm(grad_y) - 1) ** 2)


def normals_loss(grad_x: nn.Variable, n: nn.Variable) -> nn.Variable:
    """mean |grad f(x) - n| of grad_x and n (B, 3): the surface faces as the points' normals do."""
    return reductions.mean(norm(grad_x - n))


def surface_loss(f_s: nn.Variable, grad_s: nn.Variable, s: nn.Variable,
                 p: nn.Variable) -> nn.Variable:
    """mean |s' - p|: all of the surface is near the points. s' is s, moved onto the zero set.

    s (S, 3): constant points near the zero set; f_s (S, 1) and grad_s (S, 3): f and grad f there;
    p (S, 3): the cloud point nearest to each.

    How s' depends on the parameters theta. A point s of the zero set moves so that f(s; theta)
    stays 0, and it moves along the normal, since along itself the zero set cannot be seen to move:

        grad f . ds/dtheta + df/dtheta = 0   and   ds/dtheta || grad f
        so   ds/dtheta = -G df/dtheta   with   G = grad f / |grad f|^2

    (Atzmon et al., Controlling Neural Level Sets, NeurIPS 2019). A Newton step from s, in which G
    is held fixed, ends on the zero set to first order and has this derivative:

        s' = s - f(s; theta) G

    With t = (s' - p) / |s' - p| the gradient of the term is sum_i c_i df(s_i)/dtheta, where
    c_i = -(t_i . G_i) / S. The nearest point p adds nothing: a small step leaves it the nearest.
    The samples stay the same ones, so the term does not shrink the surface's area as such.

    A sample counts 0 where the Newton step would be longer than STALE. The surface has left it, as
    happens when a sheet dissolves.
    """
    slope = norm(grad_s)
    G = (grad_s / F.maximum_scalar(slope**2, MIN_SLOPE**2)).apply(need_grad=False)
    fresh = F.less(F.abs(f_s), STALE * slope).apply(need_grad=False)
    return reductions.mean(fresh * norm(s - f_s * G - p))


def igr_loss(mlp, samples: Samples, weights: Weights) -> dict:
    """Build the terms and their weighted sum, {"points", "eikonal", "loss"[, "normals"][,
    "surface"]}. mlp: networks.MLP."""
    x, y, n, zero_set = samples.x, samples.y, samples.n, samples.zero_set
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
    loss = points + weights.lam * eikonal
    loss = loss if normals is None else loss + weights.tau * normals
    loss = loss if surface is None else loss + weights.mu * surface
    terms = {"points": points, "eikonal": eikonal, "loss": loss, "normals": normals,
             "surface": surface}
    return {name: term for name, term in terms.items() if term is not None}
