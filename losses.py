"""The loss of IGR (Gropp et al. 2020, eq. 2), each term a mean.

    L = mean |f(x)|  +  lam mean (|grad f(y)| - 1)^2  [ +  tau mean |grad f(x) - n| ]

x surface points, n their unit normals, y points of free space, f the network. The paper takes means
too (1/|I| sum over the points, an expectation over y), and so does the authors' code
(amosgropp/IGR, code/reconstruction/run.py). nnabla-examples differs: it sums f(x)^2 and
|grad f(x) - n| over the batch, so its lam and tau depend on the batch size. Ours do not.
"""

from __future__ import annotations

import nnabla as nn
import nnabla.functions as F

EPS = 1e-12  # under the root of a norm, whose derivative at 0 is otherwise 0 / 0


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


def igr_loss(mlp, x: nn.Variable, y: nn.Variable, n: nn.Variable | None = None, lam: float = 0.1,
             tau: float = 1.0) -> dict:
    """The terms by name and their weighted sum, {"points", "eikonal", "loss"[, "normals"]}.

    mlp: networks.MLP; x (B, 3), y (N, 3), n (B, 3) or None, all in the unit frame.
    """
    batch = x.shape[0]
    everywhere = F.concatenate(x, y, axis=0)
    if n is None:
        f, grad_y = mlp.value_and_gradient(everywhere, y.shape[0])
    else:
        f, grad = mlp.value_and_gradient(everywhere, everywhere.shape[0])
        grad_y = grad[batch:]
    points = point_loss(f[:batch])
    eikonal = eikonal_loss(grad_y)
    normals = None if n is None else normals_loss(grad[:batch], n)
    loss = points + lam * eikonal if n is None else points + lam * eikonal + tau * normals
    terms = {"points": points, "eikonal": eikonal, "loss": loss}
    if n is not None:
        terms["normals"] = normals
    return terms
