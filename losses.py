"""The loss of IGR (Gropp et al. 2020, eq. 2), each term a mean.

    L = mean |f(x)|  +  lam mean (|grad f(y)| - 1)^2  [ +  tau mean max(0, |grad f(x) - n| - t) ]

x surface points, n their unit normals, y points of free space, f the network, t a tolerance: 0 in
the paper. Normals of noisy points tell the sides; their directions are the noise's. The paper takes
means too (1/|I| sum over the points, an expectation over y), and so does the authors' code
(amosgropp/IGR, code/reconstruction/run.py). nnabla-examples differs: it sums f(x)^2 and
|grad f(x) - n| over the batch, so its lam and tau depend on the batch size. Ours do not.
"""

from __future__ import annotations

from typing import NamedTuple

from igr.field import reductions

import nnabla as nn
import nnabla.functions as F

EPS = 1e-12  # under the root of a norm, whose derivative at 0 is otherwise 0 / 0


class Weights(NamedTuple):
    """Weights of the terms beside that of the points, which is 1."""

    lam: float = 0.1  # of the eikonal term
    tau: float = 1.0  # of the normals term
    tolerance: float = 0.0  # of the normals term, which differences up to it do not raise


class Samples(NamedTuple):
    """What a step sees, in the unit frame. The classes of igr/training/sampling.py have its fields.
    """

    x: nn.Variable  # (B, 3), points of the cloud
    y: nn.Variable  # (N, 3), points of free space
    n: nn.Variable | None = None  # (B, 3), unit normals at x


def norm(v: nn.Variable) -> nn.Variable:
    """Euclidean length (N, 1) of the rows of v (N, 3), with a finite derivative at 0."""
    return (reductions.row_sums(v * v) + EPS) ** 0.5


def point_loss(f_x: nn.Variable) -> nn.Variable:
    """mean |f(x)| of f_x (B, 1): the surface goes through the points."""
    return reductions.mean(F.abs(f_x))


def eikonal_loss(grad_y: nn.Variable) -> nn.Variable:
    """mean (|grad f(y)| - 1)^2 of grad_y (N, 3): f is a distance."""
    return reductions.mean((norm(grad_y) - 1) ** 2)


def normals_loss(grad_x: nn.Variable, n: nn.Variable, tolerance: float = 0.0) -> nn.Variable:
    """mean |grad f(x) - n| of grad_x and n (B, 3): the surface faces as the points' normals do;
    only what is above a tolerance counts."""
    away = norm(grad_x - n)
    return reductions.mean(F.relu(away - tolerance) if tolerance else away)


def igr_loss(mlp, samples: Samples, weights: Weights) -> dict:
    """Build the terms and their weighted sum, {"points", "eikonal", "loss"[, "normals"]}. mlp:
    networks.MLP."""
    x, y, n = samples.x, samples.y, samples.n
    batch = x.shape[0]
    everywhere = F.concatenate(x, y, axis=0)
    plain = batch if n is None else 0  # rows at which grad f is not needed
    f, grad = mlp.value_and_gradient(everywhere, everywhere.shape[0] - plain)

    points = point_loss(f[:batch])
    eikonal = eikonal_loss(grad if n is None else grad[batch:])
    if n is None:
        return {"points": points, "eikonal": eikonal, "loss": points + weights.lam * eikonal}
    normals = normals_loss(grad[:batch], n, weights.tolerance)
    loss = points + weights.lam * eikonal + weights.tau * normals
    return {"points": points, "eikonal": eikonal, "normals": normals, "loss": loss}
