"""Let several processes (ranks) work as one under Open MPI's mpirun.

There is one for each GPU, or any number on CPUs:

    mpirun -n 4 python train.py -f cloud.ply -m run
    mpirun -n 4 python infer.py --grid-size 512

In training every rank takes its own samples, and all take the same step, by the mean of their
gradients; -b is the batch of one rank. In an extraction each rank has its share of the evaluations
and of the detail. Only rank 0 writes files and prints. On GPUs nnabla's communicator is used; on
CPUs too, where nnabla was built with one for them, else mpi4py (requirements-mpi.txt).
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
import sys
import traceback
from typing import TYPE_CHECKING, Callable

import helper
from helper import Interrupted, UserError
from igr.backend import devices

import nnabla as nn
import numpy as np

if TYPE_CHECKING:  # start() imports it where there are several ranks
    from mpi4py import MPI
    from nnabla.communicators import MultiProcessDataParallelCommunicator


class Ranks:
    """This process as one of several ranks, or alone."""

    def __init__(self, communicator: MultiProcessDataParallelCommunicator | OverMpi | None = None):
        """communicator: nnabla's, or one like it; None: this process is alone."""
        self.communicator = communicator
        self.rank = communicator.rank if communicator else 0
        self.size = communicator.size if communicator else 1

    def mean_gradients(self, parameters: dict) -> None:
        """Replace the gradients of {name: variable} by their mean over all ranks."""
        if self.size > 1:
            self.communicator.all_reduce([v.grad for v in parameters.values()], division=True)

    def share_out(self, f: Callable[[np.ndarray], np.ndarray]):
        """Wrap f so that each rank evaluates only its share of the points.

        f maps points (N, 3) to values (N,). Every rank gets all values, the same to the bit, so
        all ranks do the same with them.
        """

        def evaluate(points):
            values = np.empty(len(points), np.float32)
            mine = self.share(len(points))
            values[mine] = f(points[mine])
            self.gather(values)
            return values

        return evaluate if self.size > 1 else f

    def share(self, n: int, block: int = 1) -> slice:
        """Which of n rows are this rank's; shares are cut between blocks of so many rows."""
        rows = self._rows(n, block)
        return slice(min(n, self.rank * rows), min(n, (self.rank + 1) * rows))

    def _rows(self, n: int, block: int) -> int:
        """The rows of a rank's share, except where there are no more."""
        return -(-n // (block * self.size)) * block

    def gather(self, *arrays: np.ndarray, block: int = 1) -> None:
        """Fill in the rows of float32 or float64 arrays (N, ...) that are other ranks' share."""
        if self.size == 1:
            return
        for array in arrays:
            mine = array[self.share(len(array), block)]
            words = np.zeros((self._rows(len(array), block), *array.shape[1:]), array.dtype)
            words[: len(mine)] = mine
            # the communicator knows float32 only, and copies bits
            sent = nn.NdArray.from_numpy_array(words.view(np.float32).ravel())
            gathered = [nn.NdArray(sent.shape) for _ in range(self.size)]
            self.communicator.all_gather(sent, gathered)
            parts = [part.data.view(array.dtype).reshape(words.shape) for part in gathered]
            array[:] = np.concatenate(parts)[: len(array)]

    @contextlib.contextmanager
    def exit_on_error(self):
        """With several ranks, make one that fails in this block print its error and exit at once.

        An ordinary exit would wait for the other ranks (MPI_Finalize). mpirun stops them.
        """
        try:
            yield
        except Exception as error:
            if self.size == 1:
                raise
            if not isinstance(error, (UserError, Interrupted, OSError)):
                traceback.print_exc()
            print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr, flush=True)
            os._exit(128 + error.signum if isinstance(error, Interrupted) else 1)


ALONE = Ranks()


class OverMpi:
    """What Ranks needs of nnabla's communicator, for arrays of the CPU, by mpi4py."""

    def __init__(self, world: MPI.Comm):
        self.world = world
        self.rank = world.Get_rank()
        self.size = world.Get_size()

    def all_reduce(self, arrays: list, division: bool = False) -> None:
        """Replace float32 NdArrays by their sums over all ranks, or their means (division).

        All go in one buffer. MPI gives each rank the same sums, to the bit: ranks with equal
        weights keep them equal.
        """
        flat = np.concatenate([array.data.ravel() for array in arrays])
        total = np.empty_like(flat)
        self.world.Allreduce(flat, total)
        if division:
            total /= self.size
        start = 0
        for array in arrays:
            array.data = total[start : start + array.size].reshape(array.shape)
            start += array.size

    def all_gather(self, array: nn.NdArray, arrays: list) -> None:
        """Put the float32 NdArray (n,) of each rank into that rank's one of `arrays`."""
        parts = np.empty((self.size, array.size), np.float32)
        self.world.Allgather(array.data, parts)
        for part, values in zip(arrays, parts):
            part.data = values


def start(context: str, device_id: str,
          precision: str = "float32") -> tuple[devices.Device, Ranks]:
    """Choose the device and join the ranks. Under mpirun each rank gets its own GPU, where there
    are any, and device_id is ignored. context, precision: see devices.set_context.

    Raises UserError where there are several ranks, but nothing by which they can communicate.
    """
    size = int(os.environ.get("OMPI_COMM_WORLD_SIZE", 1))
    if size == 1:
        if int(os.environ.get("PMI_SIZE", 1)) > 1:
            raise UserError("this mpirun is not Open MPI's, which several ranks need")
        return devices.set_context(context, device_id, precision), ALONE
    local = os.environ["OMPI_COMM_WORLD_LOCAL_RANK"]
    device = devices.set_context(context, local, precision)
    # rank 0 would wait for this one in NCCL
    if not device.cuda and context == "auto" and local != "0" and devices.set_context("auto").cuda:
        raise UserError(f"{size} ranks need a GPU each, but this one runs on {device.text}; "
                        "--context cpu takes the CPUs")
    try:
        communicator = nnablas_communicator()
    except Exception as error:  # MPI and NCCL raise any type
        if device.cuda:
            raise UserError(f"{size} ranks: nnabla's communicator does not start "
                            f"({helper.reason_of(error)}); it needs Open MPI's libmpi.so and NCCL "
                            "(see docs/cuda.md)") from None
        communicator = OverMpi(world_of(size))
    return device, Ranks(communicator)


def nnablas_communicator() -> MultiProcessDataParallelCommunicator:
    """nnabla's communicator for the current context. Raises where nnabla has none for it."""
    from nnabla.communicators import MultiProcessDataParallelCommunicator

    communicator = MultiProcessDataParallelCommunicator(nn.get_current_context())
    communicator.init()
    return communicator


def world_of(size: int) -> MPI.Comm:
    """MPI's world of `size` ranks. Raises UserError where mpi4py, or MPI itself, is missing or is
    another MPI than mpirun's."""
    try:
        from mpi4py import MPI
    except ModuleNotFoundError:
        raise UserError(f"{size} ranks on CPUs need mpi4py: "
                        "pip install -r requirements-mpi.txt") from None
    except (ImportError, RuntimeError) as error:  # it finds no libmpi
        raise UserError(f"{size} ranks: mpi4py does not start ({helper.reason_of(error)}); it "
                        "needs Open MPI (apt-get install openmpi-bin)") from None
    if MPI.COMM_WORLD.Get_size() != size:
        raise UserError(f"mpirun started {size} ranks, mpi4py sees {MPI.COMM_WORLD.Get_size()}: "
                        "they belong to two different MPIs")
    return MPI.COMM_WORLD
