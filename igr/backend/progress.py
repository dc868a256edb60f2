"""How far a work has come. Of a training: a bar on a terminal, elsewhere a line every tenth of the
run; of other work that takes long: a line now and then."""

from __future__ import annotations

import sys
import threading
import time
from typing import Callable, Iterator

from tqdm import tqdm

LINES = 10  # of a whole run, where there is no terminal
EVERY = 20.0  # seconds between two lines on other work

Say = Callable[[str], None]  # is called with a line


class Progress:
    """Counts the steps of a run and shows it on stderr."""

    def __init__(self, first: int, steps: int, quiet: bool):
        """first: step to begin with, of 0 to steps; quiet: show nothing."""
        self.steps = steps
        self.quiet = quiet
        self.in_lines = not quiet and not sys.stderr.isatty()
        self.start = time.perf_counter()
        self.text = ""
        self.bar = tqdm(range(first, steps), initial=first, total=steps, unit="step",
                        disable=quiet or self.in_lines, dynamic_ncols=True)

    def __iter__(self) -> Iterator[int]:
        for step in self.bar:
            yield step
            if self.in_lines and LINES * (step + 1) // self.steps > LINES * step // self.steps:
                print(f"step {step + 1} of {self.steps}, "
                      f"{time.perf_counter() - self.start:.0f} s{self.text}", file=sys.stderr,
                      flush=True)

    def show(self, loss: float, rate: float) -> None:
        """Show these from now on."""
        self.text = f", loss {loss:.2e}, rate {rate:.1e}"
        self.bar.set_postfix(loss=f"{loss:.2e}", rate=f"{rate:.1e}", refresh=False)

    def write(self, line: str) -> None:
        """Print a line on stdout, without spoiling the bar."""
        self.bar.write(line)


class Watch:
    """Says how far a work is that several threads may share; nothing in the first EVERY seconds."""

    def __init__(self, what: str, total: int, say: Say):
        """what: is done; total: its parts; say: is called with each line."""
        self.what = what
        self.total = total
        self.say = say
        self.lock = threading.Lock()
        self.finished = 0
        self.start = self.said = time.perf_counter()

    def done(self, parts: int) -> None:
        """So many more parts are done."""
        with self.lock:
            self.finished += parts
            now = time.perf_counter()
            if now - self.said < EVERY or self.finished >= self.total:
                return
            self.said = now
            left = (now - self.start) * (self.total / self.finished - 1)
            self.say(f"{self.what}: {100 * self.finished // self.total} %, about {left:.0f} s left")
