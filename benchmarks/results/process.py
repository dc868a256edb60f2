"""Run one of the project's scripts for the driver and measure what the run costs."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
import multiprocessing
import os
from pathlib import Path
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import NamedTuple

from benchmarks.results.settings import ROOT


class Failed(Exception):
    """A method made no mesh; the text says why."""


class Done(NamedTuple):
    """A process that ended."""

    status: int  # exit status; below 0: minus the signal that ended it
    seconds: float  # wall clock, from before its start
    cpu_seconds: float  # of all its threads; other work on the machine does not change it
    peak_mib: float  # of resident memory
    error: str  # last line of its stderr

    def cost(self) -> dict:
        return {"seconds": self.seconds, "cpu_seconds": self.cpu_seconds, "peak_mib": self.peak_mib}


def run(command: list, lock, limit=None) -> Done:
    """Run one of our scripts from the project's folder and kill it after `limit` seconds.

    command: a list of words; the first is the path of a script or the name of a module.

    The script holds the open file `lock` too: where the driver is killed and the script lives on,
    the next driver waits for it. Where the driver is stopped, the script is told to stop, once,
    and the driver waits for its end.
    """
    words = [sys.executable, *([] if str(command[0]).endswith(".py") else ["-m"]),
             *map(str, command)]
    with tempfile.TemporaryFile() as stderr:
        start = time.perf_counter()
        process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=stderr,
                                   pass_fds=[lock.fileno()], start_new_session=True)
        timer = threading.Timer(limit or 1e6, os.kill, (process.pid, signal.SIGKILL))
        timer.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -(status & 127)
        except BaseException:
            process.terminate()
            process.wait()
            raise
        finally:
            timer.cancel()
        seconds = time.perf_counter() - start
        stderr.seek(0)
        lines = stderr.read().decode(errors="replace").strip().splitlines()
    unit = 1 if sys.platform == "darwin" else 1024
    return Done(process.returncode, seconds, usage.ru_utime + usage.ru_stime,
                usage.ru_maxrss * unit / 2**20, lines[-1] if lines else "")


def check(done: Done, script: str) -> Done:
    """Return `done`. Raises Failed where the process was killed or gave an error."""
    if done.status < 0:
        raise Failed(f"{script} died of {signal.Signals(-done.status).name} "
                     f"after {done.seconds:.0f} s")
    if done.status:
        raise Failed(done.error)
    return done


def run_checked(command: list, lock, limit=None) -> Done:
    """run(); raises Failed where the script was killed or gave an error."""
    return check(run(command, lock, limit), str(command[0]))


def in_own_process(function, *values):
    """Call function(*values) in a new process. Raises Failed where that process is killed."""
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(1, context, initializer=restore_signals) as pool:
        try:
            return pool.submit(function, *values).result()
        except BrokenProcessPool:
            raise Failed(f"{function.__name__} was killed; perhaps memory ran out") from None


def restore_signals() -> None:
    """Drop the driver's handlers: it tells its children when to end."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def total_cost(costs: list) -> dict:
    """Add up the cost of processes that ran one after the other; {} for none.

    Seconds and CPU seconds are left out where one of the processes does not have them.
    """
    if not costs:
        return {}
    known = [key for key in ("seconds", "cpu_seconds") if all(key in cost for cost in costs)]
    return {**{key: sum(cost[key] for cost in costs) for key in known},
            "peak_mib": max(cost["peak_mib"] for cost in costs)}


def command_line(command: list) -> str:
    """Format a command as it is typed in the project's folder, after python or python -m."""
    words = [os.path.relpath(word, ROOT) if isinstance(word, Path) else word for word in command]
    return shlex.join(words)
