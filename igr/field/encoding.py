"""Encode x by sines and cosines, in nnabla's functions; passes.py has the same in compiled code.

gamma(x) = [x, o_0 sin(x), o_0 cos(x), ..., o_{K-1} sin(2^{K-1} x), ...] (IDR, Yariv et al. 2020).

Departure from IDR: the amplitude o_k is 2^-k times BARF's window (Lin et al. 2021, eq. 14), so that
every wave has slope 1, as x itself has. With equal amplitudes a step of the solver changes the
slope of f by up to 2^(K-1) times as much through the fast waves, and the surface breaks up
(results/surfaces.md).
"""

from __future__ import annotations

from igr.field.reductions import constant

import nnabla as nn
import nnabla.functions as F
import numpy as np

MOST = 8  # frequencies; more were not tried, see results/surfaces.md
SPACINGS = 5.0  # of the points, that the shortest wave has at least: shorter ones are guesses


def frequencies_for(spacing: float) -> int:
    """Count the frequencies that points with this spacing (unit frame) resolve."""
    fastest = 2 * np.pi / (SPACINGS * max(spacing, 1e-12))
    return int(np.clip(np.floor(np.log2(fastest)) + 1, 0, MOST))


class Window:
    """The amplitudes o_k = 2^-k (1 - cos(pi clip(a - k, 0, 1))) / 2, and the encoding of nnabla
    variables with them. They change in place, as a goes from 0 to K."""

    def __init__(self, frequencies: int):
        self.frequencies = frequencies
        self.scales = 2.0 ** np.arange(frequencies, dtype=np.float32)
        self.weights = 1 / self.scales
        self.variable = None  # the weights on the device, where a graph uses them

    def open(self, a: float) -> None:
        """Set the weights for a in [0, K]."""
        part = np.clip(a - np.arange(self.frequencies), 0, 1)
        self.weights[:] = (1 - np.cos(np.pi * part)) / 2 / self.scales
        if self.variable is not None:
            self.variable.d = self._shaped(self.weights)

    def waves(self, x: nn.Variable):
        """o_k sin(2^k x) and o_k cos(2^k x), both (N, K, 1, 3), of x (N, 3)."""
        if self.variable is None:
            self.variable = nn.Variable((1, self.frequencies, 1, 1))
            self.variable.persistent = True
            self.variable.d = self._shaped(self.weights)
        scales = constant(self._shaped(self.scales))
        # not in place: inference gives x other data for each batch
        angles = F.reshape(x, (x.shape[0], 1, 1, 3), inplace=False) * scales
        return self.variable * F.sin(angles), self.variable * F.cos(angles)

    def encode(self, x: nn.Variable) -> nn.Variable:
        """gamma(x) (N, 3 + 6 K) of x (N, 3)."""
        if self.frequencies == 0:
            return x
        waves = F.concatenate(*self.waves(x), axis=2)
        return F.concatenate(x, F.reshape(waves, (x.shape[0], 6 * self.frequencies)), axis=1)

    def contract(self, gradient: nn.Variable, x: nn.Variable) -> nn.Variable:
        """J^T of a gradient (m, 3 + 6 K) with respect to gamma, at x (m, 3): that with respect to
        x, (m, 3)."""
        if self.frequencies == 0:
            return gradient
        m = x.shape[0]
        sines, cosines = self.waves(x)
        signed = constant(self._shaped(self.scales) * np.reshape([1, -1], (1, 1, 2, 1)))
        slopes = signed * F.concatenate(cosines, sines, axis=2)  # of each wave, by its own x_i
        slopes = F.reshape(slopes, (m, 6 * self.frequencies))
        slopes = F.concatenate(F.constant(1, (m, 3)), slopes, axis=1)
        # a product adds the entries of each x_i, and has one function to differentiate
        entries_of = constant(np.tile(np.eye(3), (1 + 2 * self.frequencies, 1)))
        return F.affine(gradient * slopes, entries_of)

    @staticmethod
    def _shaped(numbers: np.ndarray) -> np.ndarray:
        return numbers.reshape(1, -1, 1, 1)
