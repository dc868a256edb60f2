"""The pool of threads that the compiled functions run on, and how they are compiled."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
import functools
import os
from pathlib import Path
import stat
import sys
import tempfile

import helper

import numpy as np
import threadpoolctl

SHARED = 1 << 18  # numbers that one thread passes through by itself

_state = {"threads": helper.cores(), "pool": None}


def set_count(n: int) -> None:
    """Use n threads from now on (default: one a core)."""
    if _state["pool"] is not None:
        _state["pool"].shutdown()
    _state.update(threads=n, pool=None)


def count() -> int:
    return _state["threads"]


def count_for(numbers: int) -> int:
    """How many threads are to pass through so many numbers once: to wake another one takes as long
    as to pass through some 100,000."""
    return count() if numbers > SHARED else 1


def map(function, items: list) -> list:
    """[function(item) ...], the first in this thread, the others in the pool."""
    if _state["pool"] is None:
        limit_blas()
        _state["pool"] = ThreadPoolExecutor(max(1, _state["threads"] - 1))
    others = [_state["pool"].submit(function, item) for item in items[1:]]
    return [function(items[0]), *(other.result() for other in others)]


def map_each(function, items) -> list:
    """[function(item) ...], the items shared out to all threads."""
    items = list(items)
    n = count()
    shares = map(lambda some: [function(item) for item in some], [items[i::n] for i in range(n)])
    found = [None] * len(items)
    for i, share in enumerate(shares):
        found[i::n] = share
    return found


@functools.lru_cache(maxsize=None)
def limit_blas() -> None:
    """One thread for each product: the threads are ours."""
    import scipy.linalg  # noqa: F401  its BLAS is numba's np.dot: loaded, it can be limited

    threadpoolctl.threadpool_limits(1, user_api="blas")


def slices(n: int, parts: int) -> list:
    """Slices that cut range(n) into `parts` pieces of nearly equal size."""
    edges = np.linspace(0, n, parts + 1).astype(int)
    return [slice(a, b) for a, b in zip(edges[:-1], edges[1:])]


def compiled(**options):
    """numba.njit without the GIL, kept on disk: beside the source, else in the user's cache folder,
    else in a folder of the user's for temporary files. Compiling is announced on stderr."""
    import numba

    announce_compiling()

    def decorate(function):
        try:
            return numba.njit(cache=True, nogil=True, **options)(function)
        except RuntimeError:  # numba finds neither of the first two
            numba.config.CACHE_DIR = private_folder()
            return numba.njit(cache=bool(numba.config.CACHE_DIR), nogil=True, **options)(function)

    return decorate


def private_folder() -> str:
    """A folder for temporary files that only this user can write: what is kept there is executed.
    Empty where there is none."""
    folder = Path(tempfile.gettempdir()) / f"igr-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return ""
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    return str(folder) if ours and not found.st_mode & 0o077 else ""


@functools.lru_cache(maxsize=None)
def announce_compiling() -> None:
    """From now on, say it when numba compiles for the first time: it may take half a minute."""
    from numba.core import event

    class Announcer(event.Listener):
        said = False

        def on_start(self, _) -> None:
            if not self.said:
                print("compiling for this processor, which takes up to half a minute",
                      file=sys.stderr)
            self.said = True

        def on_end(self, _) -> None:
            pass

    event.register("numba:compile", Announcer())
