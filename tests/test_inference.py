"""f at a point is the same, bit for bit, in whatever company, with every OpenBLAS kernel."""

import json
import os
import subprocess
import sys

from conftest import ROOT
from igr.backend import blas
from igr.field import inference, passes
import networks

import numpy as np
import pytest

# 2,500 points in 20 permutations for each width, some of them alone or in threes; prints how many
# values differ, and which block was taken
COUNT = """
import json, sys
from igr.backend import blas
from igr.field import inference
from networks import MLP, Architecture
import numpy as np

rng = np.random.default_rng(0)
points = rng.uniform(-1.5, 1.5, (int(sys.argv[1]), 3)).astype(np.float32)
found = {"core type": blas.loaded()}
for width in (8, 64, 100, 128, 256, 512):
    mlp = MLP(Architecture(width), seed=1, kernel=True)
    values = mlp.evaluate(points)
    differ = 0
    for _ in range(20):
        order = rng.permutation(len(points))
        differ += int((mlp.evaluate(points[order]) != values[order]).sum())
    for start in range(0, 60, 3):
        differ += int((mlp.evaluate(points[start : start + 3]) != values[start : start + 3]).sum())
    block = inference.block_of(width)
    found[str(width)] = [differ, block.columns, block.margin, block.with_blas]
print(json.dumps(found))
"""


def count_differences(core_type: str, points: int) -> dict:
    done = subprocess.run([sys.executable, "-c", COUNT, str(points)], cwd=ROOT, text=True,
                          capture_output=True, env={**os.environ, blas.VARIABLE: core_type})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("core_type", blas.core_types(blas.processor()["flags"]))
def test_a_value_does_not_depend_on_the_company(core_type):
    found = count_differences(core_type, 2500)
    assert found.pop("core type") in (core_type, {"Zen": "Haswell", "Prescott": "Katmai"}.get(
        core_type)), "scipy's OpenBLAS has fewer core types"
    assert {width: row[0] for width, row in found.items()} == dict.fromkeys(found, 0)
    assert all(with_blas for _, _, _, with_blas in found.values())  # none is so uneven


@pytest.mark.slow
@pytest.mark.parametrize("core_type", blas.core_types(blas.processor()["flags"]))
def test_a_million_values_do_not_depend_on_the_company(core_type):
    found = count_differences(core_type, 50_000)
    assert all(row[0] == 0 for width, row in found.items() if width != "core type")


@pytest.mark.parametrize("width", [8, 13, 64, 100])
@pytest.mark.parametrize("block", inference.BLOCKS)
def test_every_block_gives_the_same_f(width, block, monkeypatch, rng):
    """The margin is left out, the leftovers of the last block too; without BLAS it is the same."""
    points = rng.uniform(-1.5, 1.5, (1201, 3)).astype(np.float32)
    mlp = networks.MLP(networks.Architecture(width), seed=3, kernel=True)
    x = networks.nn.Variable.from_numpy_array(points)
    f = networks.MLP(networks.Architecture(width), seed=3).value(x)
    f.forward()
    monkeypatch.setattr(inference, "block_of", lambda *sizes: block)
    np.testing.assert_allclose(mlp.evaluate(points), f.d[:, 0], atol=3e-6)
    assert mlp.evaluate(points[:0]).shape == (0,)


def test_an_uneven_product_is_seen(monkeypatch):
    """A BLAS that rounds otherwise in the first eight columns needs the margin; one that does so in
    the middle is not taken at all."""
    real = passes.product

    def uneven(*columns):
        def product(W, h, z, with_blas):
            real(W, h, z, with_blas)
            if with_blas:
                z[:, list(columns)] *= np.float32(1 + 1e-6)
        return product

    for columns, taken in (((0, 7, -1), inference.BLOCKS[1]), ((100,), inference.BLOCKS[2])):
        monkeypatch.setattr(passes, "product", uneven(*columns))
        inference.block_of.cache_clear()
        assert inference.block_of(16) is taken
    inference.block_of.cache_clear()
