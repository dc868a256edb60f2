"""The loss of IGR (Gropp et al., eq. 1 and 4), each term a mean.

    L = mean |f(x)|  +  lam mean (|grad f(y)| - 1)^2  [ +  tau mean |grad f(x) - n| ]

x surface points, n their unit normals, y points of free space, f the network. Departure from the
paper and from nnabla-examples: they sum where we take the mean, so that lam and tau mean the same
for every batch size.
"""

from __future__ import annotations

import nnabla.functions as F

EPS = 1e-12  # under the root of a norm: its derivative at 0 is otherwise 0 / 0


def norm(v):
    """Euclidean length (N, 1) of the rows of v (N, 3), with a derivative at 0 too."""
    return (F.sum(v * v, axis=1, keepdims=True) + EPS) ** 0.5


def point_loss(f_x):
    """mean |f(x)|, f_x (B, 1): the surface goes through the points."""
    return F.mean(F.abs(f_x))


def eikonal_loss(grad_y):
    """mean (|grad f(y)| - 1)^2, grad_y (N, 3): f is a distance."""
    return F.mean((norm(grad_y) - 1) ** 2)


def normals_loss(grad_x, n):
    """mean |grad f(x) - n|, grad_x and n (B, 3): the surface faces as the points' normals do."""
    return F.mean(norm(grad_x - n))


def igr_loss(mlp, x, y, n=None, lam=0.1, tau=1.0):
    """The terms by name and their weighted sum, {"loss", "points", "eikonal"[, "normals"]}.

    mlp: networks.MLP; x (B, 3), y (N, 3), n (B, 3) or None: nnabla variables.
    """
    points, b = F.concatenate(x, y, axis=0), x.shape[0]
    f, grad = mlp.value_and_gradient(points, y.shape[0] if n is None else points.shape[0])
    terms = {"points": point_loss(f[:b]),
             "eikonal": eikonal_loss(grad if n is None else grad[b:])}
    terms["loss"] = terms["points"] + lam * terms["eikonal"]
    if n is not None:
        terms["normals"] = normals_loss(grad[:b], n)
        terms["loss"] = terms["loss"] + tau * terms["normals"]
    return terms
