"""Run jobs on Dask: on workers of this machine, or on those of any scheduler.

A worker starts a process for a job and waits for it. The worker imports nothing of ours: run_child
travels to it as it is, and only the process that it starts needs the program's folder, which has to
have the same path on all machines, as the scene's folder has.

What can be killed: a job's process (it is started again, three times in all), a worker (Dask gives
its job to another one), the scheduler or this process (the same command does the rest). A job's
process ends when its worker does, which it sees by the end of its input.
"""

from __future__ import annotations

import contextlib
import json
import logging
from pathlib import Path
import sys
import time
from typing import Any, Callable, Iterator, NamedTuple

import helper
from helper import Interrupted, UserError, reason_of
from igr.backend import memory
from igr.scene.jobs import Order

ATTEMPTS = 3
GIB = 1 << 30
JOB_MEMORY = 3.0  # GiB that a job may take
TIMEOUT = 10.0  # seconds that a scheduler has to answer
STOP = 75  # a job's exit status where no job can work: a full disk, another version
POLL = 0.2  # seconds


class Program(NamedTuple):
    """How a worker starts a job."""

    root: Path  # the folder of the program
    memory: float  # GiB that a job may take


class Outcome(NamedTuple):
    """How a job ended."""

    order: Order
    failure: str  # empty: it is done
    seconds: float


def needed() -> None:
    """Raises UserError where Dask is not installed."""
    try:
        import distributed  # noqa: F401
    except ImportError:
        raise UserError("scenes need Dask: pip install -r requirements-scene.txt") from None


@contextlib.contextmanager
def connected(scheduler: str | None, workers: int | None, memory: float) -> Iterator[Any]:
    """Yield Dask's client of a scheduler, or of a cluster of our own with `workers` of one thread.

    memory: GiB of a job, by which workers are counted where their number is None. Raises UserError
    where the scheduler does not answer, or has workers of another version.
    """
    needed()
    import dask
    from distributed import Client, LocalCluster

    for name in list(logging.root.manager.loggerDict):  # what they tell we tell in one line
        if name.startswith(("distributed", "tornado", "asyncio")):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    dask.config.set({"distributed.scheduler.allowed-failures": ATTEMPTS,
                     "distributed.comm.timeouts.connect": f"{TIMEOUT:g}s"})
    count = 1
    with contextlib.ExitStack() as stack:
        if scheduler is None:
            count = workers or local_workers(memory)
            cluster = stack.enter_context(LocalCluster(
                n_workers=count, threads_per_worker=1, memory_limit=0, dashboard_address=":0",
                silence_logs=logging.CRITICAL))
            scheduler = cluster.scheduler_address
            helper.log.info(f"{count} workers of one thread; progress: {cluster.dashboard_link}")
        try:
            client = stack.enter_context(Client(scheduler, timeout=TIMEOUT, set_as_default=False))
        except (OSError, ValueError, TimeoutError) as error:
            raise UserError(f"the scheduler {scheduler} does not answer ({reason_of(error)[:80]}); "
                            "is its address right, and does it run?") from None
        check_versions(client)
        yield client, count


def local_workers(gib: float) -> int:
    """As many workers as there are cores, and memory for, with so many GiB each."""
    return max(1, min(helper.cores(), int(memory.available() // (gib * GIB))))


def check_versions(client: Any) -> None:
    """Raises UserError where a worker has another version of Python or Dask than this process."""
    try:
        client.get_versions(check=True, packages=[])
    except (ValueError, ImportError) as error:
        said = " ".join(str(error).split())[:200]
        raise UserError(f"the scheduler's workers have other versions than this process ({said}); "
                        "start them from the same .venv") from None


def run_child(words: list, folder: str, log: str, attempts: int) -> dict:
    """Run `python WORDS` in a folder until it succeeds, at most so often. It writes its output to a
    file `log`. Returns its status, the last line that it wrote, and the seconds that it took.

    It runs in a worker, which has nothing of this module: all that it needs is in it.
    """
    import os
    import subprocess
    import sys
    import time

    start = time.monotonic()
    for attempt in range(attempts):
        time.sleep(attempt)  # an earlier process of the same job may just be ending
        with open(log, "ab") as file:
            child = subprocess.Popen(
                [sys.executable, *words], cwd=folder, stdin=subprocess.PIPE, stdout=file,
                stderr=subprocess.STDOUT, start_new_session=True,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"})
            status = child.wait()
        if status in (0, 75):
            break
    with open(log, "rb") as file:
        file.seek(max(0, os.path.getsize(log) - 2000))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return {"status": status, "said": lines[-1] if lines else "",
            "seconds": time.monotonic() - start}


def run_all(client: Any, orders: list[Order], program: Program,
            tell: Callable[[Outcome], None]) -> list[Outcome]:
    """Run jobs that do not wait for each other, and tell of each when it ends.

    Raises UserError where the scheduler is gone, or a job says that no other can work; Interrupted
    after a signal.
    """
    outcomes = []
    with helper.stop_signals() as caught:
        running = {_submit(client, order, program): order for order in orders}
        while running and not caught:
            ended = [future for future in running if future.status != "pending"]
            if client.status != "running" or any(f.status == "cancelled" for f in ended):
                raise UserError("the connection to the scheduler is lost; the same command does "
                                "the rest")
            for future in ended:
                outcomes.append(_outcome(future, running.pop(future)))
                tell(outcomes[-1])
            time.sleep(0 if ended else POLL)
    if caught:
        raise Interrupted(caught[0], "stopped; the same command does the rest")
    return outcomes


class ByValue:
    """A function of this module that travels as it is. Dask would send its name alone, and workers
    and schedulers that have nothing of ours could not find it."""

    def __init__(self, function: Callable):
        import cloudpickle

        module = sys.modules[__name__]
        cloudpickle.register_pickle_by_value(module)
        try:
            self.data = cloudpickle.dumps(function)
        finally:
            cloudpickle.unregister_pickle_by_value(module)

    def __call__(self, *values):
        """Call the function, as the worker does."""
        load, data = self.__reduce__()
        return load(*data)(*values)

    def __reduce__(self):
        import cloudpickle

        return cloudpickle.loads, (self.data,)


def _submit(client: Any, order: Order, program: Program) -> Any:
    words = ["-m", "igr", "job", json.dumps(order._asdict()), str(int(program.memory * GIB))]
    log = order.place() / f"{order.kind}.log"
    log.unlink(missing_ok=True)
    return client.submit(ByValue(run_child), words, str(program.root), str(log), ATTEMPTS,
                         pure=False, key=f"{order.kind}-{order.cell}-{time.time_ns()}")


def _outcome(future: Any, order: Order) -> Outcome:
    """How a job ended. Raises UserError where no other can work either."""
    try:
        result = future.result()
    except Exception as error:  # the worker was killed again and again, or Dask's own: any
        return Outcome(order, reason_of(error)[:200], 0.0)
    if result["status"] == STOP:
        raise UserError(f"{result['said']}; the same command does the rest")
    status, failure = result["status"], ""
    if status < 0:  # a library that gets no memory may crash
        failure = f"ended by signal {-status}, perhaps since it took more than --memory"
    elif status:
        failure = result["said"] or f"status {status}"
    return Outcome(order, failure, result["seconds"])
