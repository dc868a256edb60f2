"""Several GPUs: one process (a rank) for each GPU, under Open MPI's mpirun.

    mpirun -n 4 python train.py -f cloud.ply -m run
    mpirun -n 4 python infer.py --grid-size 512

In training every rank takes its own samples, and all take the same step, by the mean of their
gradients; -b is the batch of one rank. In an extraction each rank evaluates its share of the
points. Only rank 0 writes files and prints.
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
from igr import devices

import nnabla as nn
import numpy as np

if TYPE_CHECKING:  # start() imports it where there are several ranks
    from nnabla.communicators import MultiProcessDataParallelCommunicator


class Ranks:
    """This process as one of several ranks, or alone."""

    def __init__(self, communicator: MultiProcessDataParallelCommunicator | None = None):
        """communicator: nnabla's; None: this process is alone."""
        self.communicator = communicator
        self.rank = communicator.rank if communicator else 0
        self.size = communicator.size if communicator else 1

    def mean_gradients(self, parameters: dict) -> None:
        """Replace the gradients of {name: variable} by their mean over all ranks."""
        if self.size > 1:
            self.communicator.all_reduce([v.grad for v in parameters.values()], division=True)

    def share_out(self, f: Callable[[np.ndarray], np.ndarray]):
        """f, but each rank evaluates only its share of the points.

        f maps points (N, 3) to values (N,). Every rank gets all values, the same to the bit, so
        all ranks do the same with them.
        """

        def evaluate(points):
            share = -(-len(points) // self.size)
            mine = f(points[self.rank * share : (self.rank + 1) * share])
            values = np.zeros(share, np.float32)
            values[: len(mine)] = mine
            gathered = [nn.NdArray((share,)) for _ in range(self.size)]
            self.communicator.all_gather(nn.NdArray.from_numpy_array(values), gathered)
            return np.concatenate([part.data for part in gathered])[: len(points)]

        return evaluate if self.size > 1 else f

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


def is_first() -> bool:
    """Is this process rank 0, or alone? Known before start()."""
    return os.environ.get("OMPI_COMM_WORLD_RANK", "0") == "0"


def start(context: str, device_id: str,
          precision: str = "float32") -> tuple[devices.Device, Ranks]:
    """devices.set_context; under mpirun each rank gets its own GPU and device_id is ignored.

    Raises UserError where there are several ranks, but no CUDA or no communicator of nnabla's.
    """
    size = int(os.environ.get("OMPI_COMM_WORLD_SIZE", 1))
    if size == 1:
        if int(os.environ.get("PMI_SIZE", 1)) > 1:
            raise UserError("this mpirun is not Open MPI's, but nnabla's communicator needs that")
        return devices.set_context(context, device_id, precision), Ranks()
    device = devices.set_context(context, os.environ["OMPI_COMM_WORLD_LOCAL_RANK"], precision)
    if not device.cuda:
        raise UserError(f"{size} ranks need a GPU each, but this one runs on {device.text}")
    try:
        from nnabla.communicators import MultiProcessDataParallelCommunicator

        communicator = MultiProcessDataParallelCommunicator(nn.get_current_context())
        communicator.init()
    except Exception as error:  # MPI and NCCL raise any type
        raise UserError(f"{size} ranks: nnabla's communicator does not start "
                        f"({helper.reason_of(error)}); it needs Open MPI's libmpi.so and NCCL (see "
                        "the README's CUDA section)") from None
    return device, Ranks(communicator)
