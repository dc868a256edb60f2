"""Several GPUs: one process, a rank, for each, under Open MPI's mpirun.

    mpirun -n 4 python train.py -f cloud.ply -m run
    mpirun -n 4 python infer.py --grid-size 512

Every rank takes its own samples and all step by the mean of their gradients, so -b is a rank's
share of the batch; an extraction's evaluations are shared out. Rank 0 writes and speaks.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
import sys
import traceback

import helper
from helper import Interrupted, UserError
from igr import devices

import nnabla as nn
import numpy as np


class Ranks:
    """This process among its like; without a communicator (nnabla's), alone."""

    def __init__(self, communicator=None):
        self.communicator = communicator
        self.rank = communicator.rank if communicator else 0
        self.size = communicator.size if communicator else 1

    def mean_gradients(self, parameters: dict) -> None:
        """Replace the gradients of {name: variable} by their mean over all ranks."""
        if self.size > 1:
            self.communicator.all_reduce([v.grad for v in parameters.values()], division=True)

    def share_out(self, f):
        """f, which maps points (N, 3) to values (N,), with the points shared out to all ranks. Each
        gets all values, bit for bit alike, so that all go on alike."""

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
    def failing_at_once(self):
        """Of several ranks, one that fails in this block says so and exits without MPI's good-bye,
        which would wait for the others; mpirun stops them."""
        try:
            yield
        except Exception as error:
            if self.size == 1:
                raise
            if not isinstance(error, (UserError, Interrupted, OSError)):
                traceback.print_exc()
            print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr, flush=True)
            os._exit(128 + error.signum if isinstance(error, Interrupted) else 1)


def start(context: str, device_id: str, precision: str = "float32"):
    """devices.set_context, under mpirun with the rank's own GPU. Returns (devices.Device, Ranks).

    Raises UserError where several ranks have no CUDA, or nnabla's communicator does not start.
    """
    size = int(os.environ.get("OMPI_COMM_WORLD_SIZE", 1))
    if size == 1:
        if int(os.environ.get("PMI_SIZE", 1)) > 1:
            raise UserError("this mpirun is not Open MPI's, which nnabla's communicator needs")
        return devices.set_context(context, device_id, precision), Ranks()
    device = devices.set_context(context, os.environ["OMPI_COMM_WORLD_LOCAL_RANK"], precision)
    if not device.cuda:
        raise UserError(f"{size} ranks need a GPU each, and this one runs on {device.text}")
    try:
        from nnabla.communicators import MultiProcessDataParallelCommunicator

        communicator = MultiProcessDataParallelCommunicator(nn.get_current_context())
        communicator.init()
    except Exception as error:  # whatever MPI and NCCL raise
        raise UserError(f"{size} ranks: nnabla's communicator does not start "
                        f"({helper.reason_of(error)}); it needs Open MPI's libmpi.so and NCCL (see "
                        "the README's CUDA section)") from None
    return device, Ranks(communicator)
