"""What a training step sees: batches and free space on the host and in the graph, also after a
stop."""

import datasets
from igr.geometry.frames import Frame
from igr.training import sampling
from igr.training.sampling import Sizes

import nnabla as nn
import numpy as np
import pytest
from scipy.spatial import cKDTree

B, U, V = 40, 30, 20
SIZES = Sizes(B, U, V, 1.5)


def cloud(n, rng, normals=True):
    points = rng.uniform(-1, 1, (n, 3)).astype(np.float32)
    return datasets.PointCloud(points, points[::-1].copy() if normals else None,
                               np.linspace(0.01, 0.1, n, dtype=np.float32)[:, None], points[:0],
                               Frame())


def drawn(samples, times):
    """x (times, B, 3), y and n of some draws, in the same forward pass as a loss would."""
    found = []
    for _ in range(times):
        samples.draw()
        nn.forward_all([v for v in (samples.x, samples.y, samples.n) if v is not None],
                       clear_no_need_grad=False)
        found.append([v.d.copy() for v in (samples.x, samples.y, samples.n)])
    return [np.stack(arrays) for arrays in zip(*found)]


def index_of(points, x):
    """Rows of points (n, 3) at which the rows of x lie."""
    distance, index = cKDTree(points).query(x)
    assert not distance.any()
    return index


# --- on the host


def test_batches_visit_every_point_once_an_epoch():
    order = sampling.batches(10, 3, seed=0)
    epoch = np.concatenate([next(order) for _ in range(3)])
    assert len(set(epoch)) == 9
    again = sampling.batches(10, 3, seed=0)
    assert np.array_equal(epoch[:3], next(again))
    second = np.concatenate([next(order) for _ in range(3)])
    assert not np.array_equal(epoch, second)


@pytest.mark.parametrize("n", [10, 2])
def test_batches_from_a_later_step(n):
    order = sampling.batches(n, 3, seed=0)
    batches = [next(order) for _ in range(9)]
    for step in range(9):
        assert np.array_equal(next(sampling.batches(n, 3, seed=0, step=step)), batches[step])


def test_batches_repeat_a_small_cloud():
    batch = next(sampling.batches(5, 12, seed=0))
    assert len(batch) == 12 and set(batch) == set(range(5))


def test_free_space_is_uniform_and_near(rng):
    points = np.tile([[0.5, 0, 0]], (20_000, 1)).astype(np.float32)
    sigma = np.full((20_000, 1), 0.1, np.float32)
    y = sampling.free_space(points, sigma, Sizes(len(points), 15_000, 18_000, 1.5), rng)
    uniform, near = y[:15_000], y[15_000:]
    assert y.dtype == np.float32 and np.abs(uniform).max() <= 1.5 and len(near) == 18_000
    np.testing.assert_allclose(uniform.std(axis=0), 1.5 / np.sqrt(3), atol=0.02)
    np.testing.assert_allclose(near.mean(axis=0), [0.5, 0, 0], atol=0.005)
    np.testing.assert_allclose(near.std(axis=0), 0.1, atol=0.005)


# --- in the graph


def test_batches_in_the_graph(rng):
    """A batch has no point twice, all points come equally often, and the normals are theirs."""
    for size in (500, 480):
        data = cloud(size, rng)
        x, _, n = drawn(sampling.GraphSamples(data, SIZES, 0), 500)
        index = index_of(data.points, x)
        assert np.array_equal(n, data.normals[index])
        counts = np.bincount(index.ravel(), minlength=size)
        assert counts.min() > 0 and counts.std() < 1.2 * (500 * B / size) ** 0.5
    assert all(len(set(row)) == B for row in index)  # 480 is B parts of 12


def test_a_small_cloud_is_repeated_in_the_graph(rng):
    data = cloud(15, rng)
    x, _, _ = drawn(sampling.GraphSamples(data, SIZES, 0), 30)
    counts = np.bincount(index_of(data.points, x).ravel(), minlength=15)
    assert counts == pytest.approx(np.full(15, 80), abs=8)


def test_free_space_in_the_graph(rng):
    """U points uniform in the cube, V normal around the first of x, each with the deviation of its
    x."""
    data = cloud(500, rng)
    x, y, _ = drawn(sampling.GraphSamples(data, SIZES, 0), 400)
    anywhere, near = y[:, :U], y[:, U:]
    assert np.abs(anywhere).max() <= 1.5 and np.abs(anywhere).max() > 1.49
    counts = np.histogramdd(anywhere.reshape(-1, 3), bins=3, range=[(-1.5, 1.5)] * 3)[0]
    assert counts == pytest.approx(np.full((3, 3, 3), 400 * U / 27), rel=0.25)
    x = x[:, :V]
    noise = ((near - x) / data.sigma[index_of(data.points, x)]).ravel()
    assert abs(noise.mean()) < 0.02 and noise.std() == pytest.approx(1, abs=0.01)
    assert (np.abs(noise) < 1).mean() == pytest.approx(0.6827, abs=0.01)


@pytest.mark.parametrize("make", [sampling.HostSamples, sampling.GraphSamples])
def test_samples_after_a_stop_are_those_without_it(rng, make):
    data = cloud(100, rng)
    whole, again, other = (drawn(make(data, SIZES, seed, step), 7)
                           for seed, step in ((3, 0), (3, 4), (4, 0)))
    for i in range(3):
        assert np.array_equal(whole[i][4:], again[i][:3])
        assert not np.array_equal(whole[i], other[i])
        assert not np.array_equal(whole[i][0], whole[i][1])


def test_an_epoch_has_each_point_once(rng):
    data = cloud(4 * B, rng)
    x, y, _ = drawn(sampling.HostSamples(data, SIZES, 3), 4)
    assert sorted(index_of(data.points, x).ravel()) == list(range(4 * B))
    assert not (y[0] == y[1]).any()


def test_without_normals(rng):
    for make in (sampling.HostSamples, sampling.GraphSamples):
        assert make(cloud(100, rng, normals=False), SIZES, 0).n is None
