"""What memory there is, so that work that cannot fit is refused before it begins."""

from __future__ import annotations

import math
import os
from pathlib import Path

from helper import UserError

CGROUP = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def check(needed: float, what: str, instead: str) -> None:
    """Raises UserError where about `needed` bytes are more than there are. what: needs them;
    instead: what to do."""
    free = available()
    if needed > free:
        raise UserError(f"{what} would take about {size(needed)} of memory, and {size(free)} are "
                        f"free: {instead}")


def available() -> float:
    """Bytes that this process may take before it is swapped out or killed."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvail"))
    except (OSError, StopIteration):  # not Linux: all that the machine has
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([free, *(limit_of(Path(path)) for path in CGROUP)])


def limit(count: int) -> None:
    """Let this process hold at most `count` bytes of data from now on: what asks for more gets a
    MemoryError. Libraries and files that are mapped do not count."""
    import resource  # here: other systems than Unix have none

    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (count, hard))


def limit_of(path: Path) -> float:
    """The limit of a container, in bytes; infinite without one."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # no such file, or "max"
        return math.inf


def size(count: float) -> str:
    """A number of bytes for people."""
    return f"{count / 2**30:.3g} GiB"
