"""Show how far a training or another long work is.

A training has a bar, or ten lines where there is no terminal; other work a line every 20 seconds.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import Iterator

from helper import log

from tqdm import tqdm

LINES = 10  # of a whole run, where there is no terminal
EVERY = 20.0  # seconds between two lines on other work


class Progress:
    """Iterate over the steps of a run and show them on stderr."""

    def __init__(self, first: int, steps: int, quiet: bool):
        """first: step to begin with, of 0 to steps; quiet: show nothing."""
        self.first = first
        self.steps = steps
        self.in_lines = not quiet and not sys.stderr.isatty()
        self.start = time.perf_counter()
        self.text = ""
        self.bar = tqdm(initial=first, total=steps, unit="step", disable=quiet or self.in_lines,
                        dynamic_ncols=True)

    def __iter__(self) -> Iterator[int]:
        step = self.first
        while step < self.steps:
            yield step
            self.bar.update()
            if self.in_lines and LINES * (step + 1) // self.steps > LINES * step // self.steps:
                print(f"step {step + 1} of {self.steps}, "
                      f"{time.perf_counter() - self.start:.0f} s{self.text}", file=sys.stderr,
                      flush=True)
            step += 1
        self.bar.close()

    def end_at(self, steps: int) -> None:
        """Let the run end after so many steps."""
        self.steps = self.bar.total = steps

    def show(self, loss: float, rate: float) -> None:
        """Show these from now on."""
        self.text = f", loss {loss:.2e}, rate {rate:.1e}"
        self.bar.set_postfix(loss=f"{loss:.2e}", rate=f"{rate:.1e}", refresh=False)

    def log(self, level: int, line: str) -> None:
        """Log a line without spoiling the bar."""
        with tqdm.external_write_mode():
            log.log(level, line)


class Watch:
    """Log every EVERY seconds how much of some work is done, which several threads may share."""

    def __init__(self, what: str, total: int):
        """what: the work; total: the number of its parts."""
        self.what = what
        self.total = total
        self.lock = threading.Lock()
        self.finished = 0
        self.start = self.said = time.perf_counter()

    def done(self, parts: int) -> None:
        """Count so many more parts as done."""
        with self.lock:
            self.finished += parts
            now = time.perf_counter()
            if now - self.said < EVERY or self.finished >= self.total:
                return
            self.said = now
            left = (now - self.start) * (self.total / self.finished - 1)
            log.info(f"{self.what}: {100 * self.finished // self.total} %, about {left:.0f} s left")
