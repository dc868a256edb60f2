"""Tell when a training may end: the surface keeps its topology, and left-out points come no nearer.

At a constant rate the weights never rest: the surface moves up and down by more than it still has
to learn. So the evidence is that of the weights' running average (Polyak and Juditsky 1992; here an
exponential one), which is near to what the weights become when the rate falls.
"""

from __future__ import annotations

import contextlib
from typing import Iterator, NamedTuple

EVERY = 5  # steps between two additions to the average
HORIZON = 100  # steps that it is about
LOOK = 250  # steps between two looks at the surface
GAIN = 0.1  # by which the last third of the steps has to lower that height


class Evidence(NamedTuple):
    """What a look at the surface of the averaged weights finds."""

    step: int
    height: float  # mean distance of left-out points from their own median level, in spacings
    pieces: int  # of a coarse mesh
    euler: int

    @property
    def topology(self) -> tuple[int, int]:
        return self.pieces, self.euler

    @property
    def surface(self) -> str:
        """The topology in words."""
        pieces = "1 piece" if self.pieces == 1 else f"{self.pieces} pieces"
        return f"{pieces}, Euler number {self.euler}"


def reason_to_end(looks: list[Evidence], enough: float) -> str:
    """Why a run need not go on, by its looks so far; "" where it has to.

    enough: spacings, the mean height of left-out points below which the detail does the rest.
    """
    last = looks[-1]
    if len(looks) < 2 or looks[-2].topology != last.topology:
        return ""
    if last.height <= enough:
        return f"left-out points are {last.height:.2g} spacings off"
    before = [look for look in looks if 3 * look.step <= 2 * last.step]
    if before and last.height > (1 - GAIN) * before[-1].height:
        return f"left-out points come no nearer than {last.height:.2g} spacings"
    return ""


class RunningAverage:
    """The running average of parameters."""

    def __init__(self, parameters: dict):
        """parameters: nnabla variables by name, which change in place."""
        self.parameters = parameters
        self.values = {name: parameter.d.copy() for name, parameter in parameters.items()}

    def add(self) -> None:
        """Add the parameters as they are now."""
        for name, parameter in self.parameters.items():
            self.values[name] += (EVERY / HORIZON) * (parameter.d - self.values[name])

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the parameters be their average in this block."""
        kept = {name: parameter.d.copy() for name, parameter in self.parameters.items()}
        self._set(self.values)
        try:
            yield
        finally:
            self._set(kept)

    def _set(self, values: dict) -> None:
        for name, parameter in self.parameters.items():
            parameter.d = values[name]

    def state(self) -> dict:
        """The average as arrays by name, for the run's state file."""
        return {f"average/{name}": values for name, values in self.values.items()}

    def set_state(self, state: dict) -> None:
        """The reverse of state(). Raises KeyError where an array is missing."""
        self.values = {name: state[f"average/{name}"].reshape(values.shape).copy()
                       for name, values in self.values.items()}
