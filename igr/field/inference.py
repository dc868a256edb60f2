"""Evaluate f at many points on the CPU; a point's value does not depend on the others, bit for bit.

Who follows the surface asks for a point beside other points than the dense grid does, and both
meshes must be equal. BLAS does not promise that. Its kernels walk over a product in tiles and may
sum a tile at an edge in another order than one in the middle: OpenBLAS' Haswell kernels (which
serve every processor with AVX2 that it does not know, and AMD's Zen) do so for each second group of
six columns and for the first and the last eight rows of a panel of 320 rows.

So the points are cut into blocks of one size, whose last one is filled up with leftovers. In a
block a point is a column of every array, which makes it a row for BLAS, and all features of a point
are summed as those of the point beside it. Which block does is tried out once for each width and
encoding: a product of equal columns must have equal columns. The results in a block's margin are
thrown away. Sine and cosine need no trial: see passes.encode.
"""

from __future__ import annotations

import functools

from igr.backend import threads
from igr.field import passes

import numpy as np


class Block:
    """How points are cut: `points` of them in the middle of `columns`, with BLAS or without."""

    def __init__(self, columns: int, margin: int, with_blas: bool):
        self.columns, self.margin, self.with_blas = columns, margin, with_blas
        self.points = columns - 2 * margin


# the fastest first; the last one needs no proof, and is half to a quarter as fast
BLOCKS = (Block(512, 0, True), Block(320, 8, True), Block(512, 0, False))


@functools.lru_cache(maxsize=None)
def block_of(width: int, frequencies: int = 0) -> Block:
    """The first of BLOCKS in which a column's place does not matter, for hidden layers of `width`
    and an encoding of so many frequencies.

    Takes a product of each shape for a block: 1 ms at a width of 128, 10 ms at 512.
    """
    return next(block for block in BLOCKS
                if not block.with_blas or _is_even(block, width, frequencies))


def _is_even(block: Block, width: int, frequencies: int) -> bool:
    """Does a product of equal columns have equal columns, except in the margin?"""
    rng = np.random.default_rng(0)
    shapes = [(width, width), (width, width - 3)]  # the layer before the skip is narrower
    if frequencies:
        shapes += [(3 + 6 * frequencies, width), (width + 6 * frequencies, width)]
    for fan_in, fan_out in shapes:
        h = np.repeat(rng.standard_normal((fan_in, 1), np.float32), block.columns, axis=1)
        W = rng.standard_normal((fan_in, fan_out), np.float32)
        z = np.empty((fan_out, block.columns), np.float32)
        passes.product(W, h, z, block.with_blas)
        inner = z[:, block.margin : block.columns - block.margin]
        if not (inner == inner[:, :1]).all():
            return False
    return True


def evaluate(points: np.ndarray, arrays: list, activation: str, beta: float, scale: float,
             window=None):
    """f (N,) float32 of points (N, 3) float32; arrays [W_0, b_0, ..., W_7, b_7] float32.

    activation: "softplus" with beta, or "leaky_relu" (slope 0.1; beta is not used); scale: of the
    skip; window (K,) float32: of the encoding, without it K is 0. Raises ValueError where the
    window does not fit the weights.
    """
    beta = np.float32(beta)
    scale = np.float32(scale)
    weights = tuple(arrays[0::2])
    biases = tuple(arrays[1::2])
    window = passes.checked_window(window, weights)
    encoded, width = weights[0].shape
    threads.limit_blas()  # before the trial: it is to run as the product itself
    block = block_of(width, len(window))
    values = np.empty(len(points), np.float32)

    def sweep(blocks: slice) -> None:
        encoding = np.zeros((encoded, block.columns), np.float32)
        this, other = np.zeros((2, width - 3 + encoded, block.columns), np.float32)
        f = np.empty(block.columns, np.float32)
        for start in range(blocks.start * block.points, blocks.stop * block.points, block.points):
            some = points[start : start + block.points]
            inner = slice(block.margin, block.margin + len(some))
            encoding[:3, inner] = some.T
            passes.encode(encoding, window, block.margin)
            passes.value_of_columns(encoding, weights, biases, this, other, f, beta, scale,
                                    activation == "softplus", block.margin, block.with_blas)
            values[start : start + len(some)] = f[inner]

    count = -(-len(points) // block.points)
    if count:
        threads.map(sweep, threads.slices(count, min(threads.count(), count)))
    return values
