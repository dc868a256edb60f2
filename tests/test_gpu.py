"""The graph on a GPU against the CPU's kernel; skipped, with the reason, where there is none."""

import json

from igr.backend import devices
from igr.formats import files
from igr.geometry import shapes
from igr.training import sampling, solvers
import losses
from networks import MLP, Architecture
from test_sampling import cloud, drawn

import nnabla as nn
import numpy as np
import pytest


@pytest.fixture
def gpu():
    """Makes CUDA the default for a test."""
    device = devices.set_context("auto")
    if not device.cuda:
        pytest.skip(device.text)
    yield device
    devices.set_context("cpu")


def test_loss_and_gradients(gpu, rng):
    # 2,500: nnabla's means of more than 2,048 values are other kernels
    x, y, n = (rng.uniform(-1, 1, (rows, 3)).astype(np.float32) for rows in (300, 2500, 300))
    found = []
    for kernel in (False, True):
        devices.set_context("cpu" if kernel else "cuda")
        mlp, variables = MLP(Architecture(512), seed=1, kernel=kernel), []
        for array in (x, y, n):
            variables.append(nn.Variable(array.shape))
            variables[-1].d = array
        loss = losses.igr_loss(mlp, losses.Samples(*variables), losses.Weights())["loss"]
        for v in mlp.parameters.values():
            v.grad.zero()
        loss.forward(clear_no_need_grad=True)
        loss.backward(clear_buffer=True)
        found.append({"loss": loss.d, **{name: v.g.copy() for name, v in mlp.parameters.items()}})
    for name, array in found[1].items():
        assert np.abs(found[0][name] - array).max() < 1e-4 * np.abs(array).max(), name


def test_inference(gpu, rng):
    points = rng.uniform(-1.5, 1.5, (gpu.rows + 100, 3))
    graph, kernel = (MLP(Architecture(256), kernel) for kernel in (False, True))
    values = graph.evaluate(points, gpu.rows)
    assert np.abs(values - kernel.evaluate(points)).max() < 1e-5
    assert np.array_equal(values[-100:], graph.evaluate(points[-100:], gpu.rows))


def test_samples(gpu, rng):
    """As test_sampling.py has it, where nnabla's generators are cuRAND's."""
    data = cloud(480, rng)
    whole = drawn(sampling.GraphSamples(data, sampling.Sizes(41, 31, 41, 1.5), 3, 0), 200)
    again = drawn(sampling.GraphSamples(data, sampling.Sizes(41, 31, 41, 1.5), 3, 150), 50)
    for a, b in zip(whole, again):
        assert np.array_equal(a[150:], b)
    x, y, _ = whole
    assert np.isin(x.view("V12"), data.points.view("V12")).all()
    assert np.abs(y[:, :31]).max() <= 1.5 and abs(y[:, :31].mean()) < 0.05
    assert np.abs(y[:, 31:] - x).mean() == pytest.approx(0.055 * 0.798, rel=0.05)


def step_along(solver, parameters, gradients):
    """A step for each of the gradients, {name: array}."""
    for gradient in gradients:
        solver.zero_grad()
        for key, p in parameters.items():
            p.g = gradient[key]
        solver.update()


@pytest.mark.parametrize("name", ["adam", "muon"])
def test_solvers(gpu, rng, name):
    """Three steps of one object, also across set_state()."""
    gradients = [{key: rng.standard_normal(p.shape).astype(np.float32)
                  for key, p in MLP(Architecture(64)).parameters.items()} for _ in range(3)]
    moved = []
    for kernel in (False, True):
        devices.set_context("cpu" if kernel else "cuda")
        parameters, state = MLP(Architecture(64), seed=1).parameters, None
        for part in (gradients[:2], gradients[2:]):
            solver = solvers.make(name, kernel)
            solver.set_parameters(parameters)
            if state:
                solvers.set_state_of(solver, state)
            solver.set_learning_rate(1e-2)
            step_along(solver, parameters, part)
            state = solvers.state_of(solver)
        moved.append({key: p.d.copy() for key, p in parameters.items()})
    for key, array in moved[1].items():
        assert np.abs(moved[0][key] - array).max() < 1e-5, key


# with waves, train.py's default, and as the paper has it
RUNS = [pytest.param("", id="default"), pytest.param("--frequencies 0", id="paper")]


@pytest.mark.parametrize("precision", ["float32", "tf32"])
@pytest.mark.parametrize("flags", RUNS)
def test_a_run_and_its_second_half(gpu, script, tmp_path, precision, flags):
    """Products on a GPU may round otherwise the second time; the losses stay close."""
    files.write(tmp_path / "c.ply", shapes.sample("knot", 2000))

    def losses_of_run():
        rows = map(json.loads, (tmp_path / "run/log.jsonl").read_text().splitlines())
        return [row["loss"] for row in rows if "loss" in row]

    script("train.py -f c.ply -m run --dims 64 -b 256 -ti 300 -sie 25 -sb 4096 --grid-size 32 "
           f"--quiet --context cuda --precision {precision} {flags}")
    whole = losses_of_run()
    assert len(whole) == 6 and whole[-1] < 0.6 * whole[0]
    sorted((tmp_path / "run").glob("param_*.h5"))[-1].unlink()
    script("train.py --resume -m run --quiet")
    again = losses_of_run()
    assert len(again) == 6 and again[-1] == pytest.approx(whole[-1], rel=0.2)
    script("infer.py --grid-size 64 --sub-batch-size 4096 -o mesh.ply --quiet")
    assert len(files.read(tmp_path / "mesh.ply").faces) > 1000
