"""Draw the samples of a training step: points on the surface and points of free space.

x (B, 3) are points of the cloud, n (B, 3) their normals, y (U + V, 3) lie in free space.

HostSamples draws with numpy for the CPU's kernel, GraphSamples within the graph for a GPU. Both
give a resumed run the samples that it would have had without the stop. All lengths are in the unit
frame.
"""

from __future__ import annotations

from typing import NamedTuple

from igr.field.reductions import constant

import nnabla as nn
import nnabla.functions as F
import numpy as np


class Sizes(NamedTuple):
    """How many samples a step draws, and where."""

    batch: int  # B, points of the cloud
    uniform: int  # U, points of free space anywhere in the cube
    near: int  # V, points of free space near the first of the batch, at most B
    volume_factor: float  # half the side of the cube


def batches(n: int, batch_size: int, seed: int, step: int = 0):
    """Index arrays (batch_size,) from the given step on, without end: each epoch is a fresh
    permutation of n points.

    An epoch gives n // batch_size batches, at least one: a cloud smaller than a batch is repeated.
    The order depends on seed and epoch only.
    """
    epoch, skipped = divmod(step, max(1, n // batch_size))
    while True:
        order = np.random.default_rng((seed, epoch)).permutation(n)
        order = np.resize(order, max(n, batch_size))
        for start in range(skipped * batch_size, len(order) - batch_size + 1, batch_size):
            yield order[start : start + batch_size]
        epoch += 1
        skipped = 0


def free_space(points: np.ndarray, sigma: np.ndarray, sizes: Sizes,
               rng: np.random.Generator) -> np.ndarray:
    """The eikonal term's points y (U + V, 3) float32, for x = points (B, 3).

    U of them are uniform in the cube [-volume_factor, volume_factor]^3; V are normal around the
    first of x, each with the deviation sigma (B, 1) of its x.
    """
    side = sizes.volume_factor
    anywhere = rng.uniform(-side, side, (sizes.uniform, 3))
    noise = rng.standard_normal((sizes.near, 3), np.float32)
    near = points[: sizes.near] + sigma[: sizes.near] * noise
    return np.concatenate([anywhere, near]).astype(np.float32)


# ------------------------------------------------------------------------------------ on the host


class HostSamples:
    """Samples drawn with numpy: each epoch passes through a fresh permutation of the cloud.
    All random numbers depend on seed and step only."""

    def __init__(self, cloud, sizes: Sizes, seed: int, step: int = 0):
        """cloud: datasets.PointCloud; step: the first one to draw for."""
        batch = sizes.batch
        self.cloud = cloud
        self.sizes = sizes
        self.seed = seed
        self.step = step
        self.order = batches(len(cloud.points), batch, seed, step)
        self.x = nn.Variable((batch, 3))
        self.y = nn.Variable((sizes.uniform + sizes.near, 3))
        self.n = None if cloud.normals is None else nn.Variable((batch, 3))

    def draw(self) -> None:
        """Put the next step's samples into x, y and n."""
        index = next(self.order)
        rng = np.random.default_rng((self.seed, 1, self.step))
        x = self.cloud.points[index]
        self.x.d = x
        self.y.d = free_space(x, self.cloud.sigma[index], self.sizes, rng)
        if self.n is not None:
            self.n.d = self.cloud.normals[index]
        self.step += 1


# ----------------------------------------------------------------------------------- in the graph


class GraphSamples:
    """Samples drawn by nnabla functions: the cloud lies on the device, and each forward pass of a
    loss of x, y and n draws new ones without the host.

    A batch has one point of each B-th part of the cloud (whose order is random), so it hardly has
    a point twice; HostSamples' permutations would be work for the host. Indices are float32, which
    tells 16.7 million points apart, and there are MOST at most. Random numbers come from nnabla's
    generators, which have a seed but no state to store: a resumed run repeats the draws of its
    earlier steps, some microseconds each.
    """

    def __init__(self, cloud, sizes: Sizes, seed: int, step: int = 0):
        """cloud: datasets.PointCloud; step: the first one to draw for."""
        n, batch = len(cloud.points), sizes.batch
        seeds = np.random.SeedSequence((seed, 0)).generate_state(3) >> 1  # nnabla's are int32
        place, anywhere, noise = _random(n, sizes, seeds)
        drawn = [place, anywhere, noise]
        for _ in range(step):
            nn.forward_all(drawn)
        # the greatest float32 below n / batch, added to the last part's start, may be n
        starts = constant(np.arange(batch) * (n / batch))
        index = F.minimum_scalar(place + starts, n - 1)
        self.x = F.gather(constant(cloud.points), index)
        x, some = self.x, index
        if sizes.near < batch:  # slices are two functions more
            x, some = x[: sizes.near], some[: sizes.near]
        sigma = F.gather(constant(np.repeat(cloud.sigma, 3, axis=1)), some)
        self.y = F.concatenate(anywhere, x + sigma * noise, axis=0)
        self.n = None
        if cloud.normals is not None:
            self.n = F.gather(constant(cloud.normals), index)

    def draw(self) -> None:
        """Nothing: the forward pass draws."""


def _random(n: int, sizes: Sizes, seeds: np.ndarray):
    """Places (B,) within a part of n / B points, points (U, 3) in the cube, noise (V, 3)."""
    of_place, of_anywhere, of_noise = (int(seed) for seed in seeds)
    batch, side = sizes.batch, sizes.volume_factor
    return (F.rand(0, n / batch, (batch,), of_place),
            F.rand(-side, side, (sizes.uniform, 3), of_anywhere),
            F.randn(0, 1, (sizes.near, 3), of_noise))
