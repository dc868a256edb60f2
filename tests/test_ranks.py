"""Several ranks, simulated: a stand-in for nnabla's communicator between threads of a process."""

from concurrent.futures import ThreadPoolExecutor
import sys
import threading
from types import SimpleNamespace

from helper import Interrupted, UserError
from igr.backend import devices, ranks
from igr.training import runs
import losses
from networks import MLP, Architecture

import nnabla as nn
import numpy as np
import pytest


class World:
    """What the communicators of one run share."""

    def __init__(self, size):
        self.size, self.barrier, self.slots = size, threading.Barrier(size), [None] * size

    def exchange(self, rank, value):
        """All ranks' values."""
        self.slots[rank] = value
        self.barrier.wait(timeout=30)
        found = list(self.slots)
        self.barrier.wait(timeout=30)
        return found


class StandIn:
    """The part of nnabla's MultiProcessDataParallelCommunicator that is used, with its meaning."""

    def __init__(self, world, rank):
        self.world, self.rank, self.size = world, rank, world.size

    def all_reduce(self, arrays, division=False, inplace=False, group="world"):
        everyone = self.world.exchange(self.rank, [a.data.copy() for a in arrays])
        for array, *parts in zip(arrays, *everyone):
            array.data = np.sum(parts, axis=0) / (self.size if division else 1)

    def all_gather(self, array, arrays, group="world"):
        for target, part in zip(arrays, self.world.exchange(self.rank, array.data.copy())):
            assert target.shape == part.shape
            target.data = part


def on_all(size, work):
    """[work(Ranks of rank 0), work(Ranks of rank 1), ...], all at once."""
    world = World(size)
    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(lambda rank: work(ranks.Ranks(StandIn(world, rank))), range(size)))


def gradients(x, y):
    mlp, (vx, vy) = MLP(Architecture(32), seed=2), (nn.Variable(a.shape) for a in (x, y))
    vx.d, vy.d = x, y
    loss = losses.igr_loss(mlp, losses.Samples(vx, vy), losses.Weights())["loss"]
    for v in mlp.parameters.values():
        v.grad.zero()
    loss.forward(clear_no_need_grad=True)
    loss.backward(clear_buffer=True)
    return mlp.parameters


def test_ranks_step_as_one_with_the_whole_batch(rng):
    """The mean of three ranks' gradients is the gradient of their three batches together."""
    x, y = (rng.uniform(-1, 1, (3, n, 3)).astype(np.float32) for n in (20, 30))
    whole = gradients(x.reshape(-1, 3), y.reshape(-1, 3))
    parts = [gradients(x[rank], y[rank]) for rank in range(3)]
    on_all(3, lambda group: group.mean_gradients(parts[group.rank]))
    for name, v in whole.items():
        for part in parts:
            assert np.abs(part[name].g - v.g).max() < 1e-5 * np.abs(v.g).max(), name
            assert np.array_equal(part[name].g, parts[0][name].g)


@pytest.mark.parametrize("n", [1, 2, 3, 1000])
def test_evaluations_are_shared_out(rng, n):
    """Each rank looks at its share only, and has all the values."""
    points, asked = rng.uniform(-1, 1, (n, 3)), []

    def f(p):
        asked.append(len(p))
        return p.sum(axis=1)

    for values in on_all(3, lambda group: group.share_out(f)(points)):
        assert np.array_equal(values, points.sum(axis=1).astype(np.float32))
    assert sum(asked) == n and max(asked) == -(-n // 3)


@pytest.mark.parametrize("n", [1, 4, 7])
@pytest.mark.parametrize("shape", [(), (3,)])
@pytest.mark.parametrize("block", [1, 2])
def test_shares_come_together(rng, n, shape, block):
    """Each of three ranks knows its rows, and then all rows, of float64 with all their bits."""
    whole = rng.normal(size=(n, *shape))
    whole[0] = np.nan

    def fill(group):
        array = np.empty_like(whole)
        mine = group.share(n, block)
        array[mine] = whole[mine]
        assert mine.start % block == 0 or mine.start == n
        group.gather(array, block=block)
        return array

    for array in on_all(3, fill):
        np.testing.assert_array_equal(array, whole)


def test_one_alone_needs_no_communicator(rng):
    group, parameters = ranks.Ranks(), gradients(*rng.uniform(-1, 1, (2, 5, 3)))
    before = parameters["fc1/affine/W"].g.copy()
    group.mean_gradients(parameters)
    assert np.array_equal(parameters["fc1/affine/W"].g, before)
    assert group.share_out(np.sum) is np.sum and (group.rank, group.size) == (0, 1)


@pytest.mark.parametrize("error, status", [
    (UserError("no"), 1), (Interrupted(15, "no"), 143), (OSError("no"), 1), (KeyError("no"), 1)])
def test_a_rank_that_fails_does_not_wait_for_the_others(monkeypatch, capsys, error, status):
    left = []
    monkeypatch.setattr(ranks.os, "_exit", left.append)
    with ranks.Ranks(StandIn(World(2), 0)).exit_on_error():
        raise error
    said = capsys.readouterr().err
    assert left == [status] and "no" in said.splitlines()[-1]
    assert ("Traceback" in said) == isinstance(error, KeyError)  # ours to mend
    with pytest.raises(type(error)), ranks.Ranks().exit_on_error():
        raise error
    assert left == [status]


@pytest.fixture
def two_ranks(monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_RANK", "1")


def test_a_start_that_cannot_be(monkeypatch, two_ranks):
    gpu = devices.Device("cuda, device 1, float32", kernel=False, cuda=True, rows=8)
    asked = []
    monkeypatch.setattr(devices, "set_context", lambda *args: asked.append(args) or gpu)
    with pytest.raises(UserError, match="communicator does not start"):
        ranks.start("auto", "0", "tf32")
    assert asked == [("auto", "1", "tf32")]
    cpu = gpu._replace(text="cpu (no CUDA: no device 1)", cuda=False)
    monkeypatch.setattr(devices, "set_context", lambda context, device="0", *_: (gpu, cpu)[
        int(device)])
    with pytest.raises(UserError, match="2 ranks need a GPU each, but this one runs on cpu"):
        ranks.start("auto", "0")
    monkeypatch.delenv("OMPI_COMM_WORLD_SIZE")
    monkeypatch.setenv("PMI_SIZE", "2")
    with pytest.raises(UserError, match="not Open MPI's"):
        ranks.start("cpu", "0")
    monkeypatch.delenv("PMI_SIZE")
    assert ranks.start("auto", "1")[0] is cpu


@pytest.mark.parametrize("module, message", [
    (None, "2 ranks on CPUs need mpi4py: pip install -r requirements-mpi.txt"),
    (SimpleNamespace(), "mpi4py does not start"),
    (SimpleNamespace(MPI=SimpleNamespace(COMM_WORLD=SimpleNamespace(Get_size=lambda: 1))),
     "mpirun started 2 ranks, mpi4py sees 1")])
def test_ranks_on_cpus_that_cannot_start(monkeypatch, two_ranks, module, message):
    monkeypatch.setitem(sys.modules, "mpi4py", module)
    with pytest.raises(UserError, match=message):
        ranks.start("cpu", "0")


def test_a_run_goes_on_with_as_many_ranks():
    info = {"cloud_sha256": "a", "ranks": 2, "flags": {"fpath": "c.ply"}}
    runs.check_same(info, dict(info), "run")
    with pytest.raises(UserError, match="the run has 4 ranks, not 2"):
        runs.check_same(info, {**info, "ranks": 4}, "run")
