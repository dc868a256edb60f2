"""Solvers of study.py that train.py does not have, on the CPU's kernel."""

from __future__ import annotations

from igr.backend import threads
from igr.training import solvers

import numpy as np


class TwoRates(solvers.KernelMuon):
    """Muon with another rate for what Adam steps: `ratio` times Muon's."""

    ratio = 1.0

    def set_learning_rate(self, rate: float) -> None:
        super().set_learning_rate(rate)
        self.adam.set_learning_rate(self.ratio * rate)


class Eigenbasis:
    """Shampoo's factors of one matrix (in, out) with gradient G, and their eigenvectors.

    left and right are running means of G G^T (in, in) and G^T G (out, out), Q_left and Q_right
    their eigenvectors, square the running mean of the squared gradient in that basis (in, out).
    """

    def __init__(self, G: np.ndarray):
        self.left = G @ G.T
        self.right = G.T @ G
        self.Q_left = np.linalg.eigh(self.left)[1]
        self.Q_right = np.linalg.eigh(self.right)[1]
        self.square = np.zeros_like(G)

    def scaled(self, m: np.ndarray, G: np.ndarray, beta2: float) -> np.ndarray:
        """Adam's m / sqrt(v) of the momentum m (in, out) in the basis; adds G to `square`."""
        Q_left = self.Q_left
        Q_right = self.Q_right
        V = self.square
        V *= np.float32(beta2)
        V += np.float32(1 - beta2) * (Q_left.T @ G @ Q_right) ** 2
        return Q_left @ ((Q_left.T @ m @ Q_right) / (np.sqrt(V) + np.float32(1e-10))) @ Q_right.T

    def add(self, G: np.ndarray, beta: np.float32) -> None:
        """Take G into both factors."""
        self.left += (1 - beta) * (G @ G.T - self.left)
        self.right += (1 - beta) * (G.T @ G - self.right)

    def turn(self) -> None:
        """Move the basis towards the factors' eigenvectors: a power iteration and a QR, with the
        columns by falling eigenvalue."""
        order = falling_order(self.Q_left, self.left)
        self.square = self.square[order]
        self.Q_left = np.linalg.qr(self.left @ self.Q_left[:, order])[0]
        order = falling_order(self.Q_right, self.right)
        self.square = self.square[:, order]
        self.Q_right = np.linalg.qr(self.right @ self.Q_right[:, order])[0]


def falling_order(Q: np.ndarray, A: np.ndarray) -> np.ndarray:
    """The order of Q's columns q (n, n) in which q^T A q falls."""
    return np.argsort(-np.einsum("ij,ij->j", Q, A @ Q))


class Soap(solvers.KernelMuon):
    """SOAP (Vyas et al. 2024): Adam in the eigenbasis of Shampoo's two factors.

    every: steps between two bases; beta: decay of momentum and factors; beta2: of the squares;
    scale: length of a step of rate 1.
    """

    def __init__(self, adam, every: int, beta: float, beta2: float, scale: float):
        super().__init__(adam)
        self.every = every
        self.beta = beta
        self.beta2 = beta2
        self.scale = scale

    def set_parameters(self, parameters: dict) -> None:
        super().set_parameters(parameters)
        self.bases = {}
        self.t = 0

    def update(self) -> None:
        self.adam.update()
        names = list(self.hidden)
        n = threads.count()
        self.t += 1
        threads.map(lambda some: [self.update_matrix(name) for name in some],
                    [names[i::n] for i in range(n)])

    def update_matrix(self, name: str) -> None:
        p = self.hidden[name]
        m = self.momentum[name]
        beta = np.float32(self.beta)
        G = p.g.copy()
        if name not in self.bases:
            self.bases[name] = Eigenbasis(G)
        basis = self.bases[name]
        m *= beta
        m += (1 - beta) * G
        correction = (1 - self.beta2**self.t) ** 0.5 / (1 - self.beta**self.t)
        p.d -= np.float32(self.rate * correction * self.scale) * basis.scaled(m, G, self.beta2)
        basis.add(G, beta)
        if self.t % self.every == 0:
            basis.turn()
