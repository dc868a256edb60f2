"""Points of the network's zero set: where they lie, and when they are made anew."""

import fields
from helper import UserError
from igr.training import surface_samples
from igr.training.loop import Plan
from igr.training.surface_samples import Pool, ZeroSet

import numpy as np
import pytest
from scipy.spatial.distance import cdist


def zero_set(points, seed=0, f=fields.sphere, dead_zone=0.0):
    """Of a field, for points (N, 3) with the same dead zone around each."""
    return ZeroSet(f, points.astype(np.float32), np.full((len(points), 1), dead_zone), 1.5,
                   seed)


def test_a_pool_lies_on_the_zero_set_by_area(rng):
    points = rng.uniform(-1, 1, (50, 3)).astype(np.float32)
    pool = zero_set(points).pool(step=7)
    assert pool.weight == 1
    assert pool.s.shape == pool.p.shape == (surface_samples.SIZE, 3)
    assert pool.s.dtype == pool.p.dtype == np.float32
    assert np.abs(fields.sphere(pool.s)).max() < 1e-3  # a chord of the coarse mesh
    # by area, each coordinate of a sphere's points is uniform (Archimedes)
    counts = [np.histogram(pool.s[:, a] / 0.7, bins=4, range=(-1, 1))[0] for a in range(3)]
    assert counts == pytest.approx(np.full((3, 4), surface_samples.SIZE / 4), rel=0.1)
    assert np.array_equal(pool.p, points[cdist(pool.s, points).argmin(axis=1)])


def test_a_pool_depends_on_seed_and_step_only():
    points = np.zeros((1, 3), np.float32)
    first, again, later, other = (zero_set(points, seed).pool(step).s
                                  for seed, step in ((0, 5), (0, 5), (0, 6), (1, 5)))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, later) and not np.array_equal(first, other)


def test_a_pool_is_of_what_is_far_from_the_points(rng):
    """Points on the half of a sphere with z > 0, dense; their dead zone reaches a bit below."""
    points = rng.standard_normal((20_000, 3))
    points *= 0.7 / np.linalg.norm(points, axis=1, keepdims=True)
    half = points[points[:, 2] > 0]
    pool = zero_set(half, dead_zone=0.1).pool(0)
    assert pool.s[:, 2].max() < -0.07 and np.linalg.norm(pool.s - pool.p, axis=1).min() > 0.1
    assert pool.weight == pytest.approx(0.43, abs=0.02)  # by Archimedes: (1 - 0.1 / 0.7) / 2
    assert zero_set(points, dead_zone=0.1).pool(0) is None


def test_what_is_nearest_to_a_rim_is_left_out(rng):
    """The same half of a sphere: all of the other half is nearest to its rim."""
    points = rng.standard_normal((20_000, 3))
    points *= 0.7 / np.linalg.norm(points, axis=1, keepdims=True)
    half = points[points[:, 2] > 0]
    zone = np.where(half[:, 2:] < 0.05, np.inf, 0.0)
    pool = ZeroSet(fields.sphere, half.astype(np.float32), zone, 1.5, 0).pool(0)
    assert pool.p[:, 2].min() >= 0.05
    assert pool.weight == pytest.approx(0.46, abs=0.02)  # by Archimedes: (1 - 0.05 / 0.7) / 2


def test_a_bubble_is_left_to_itself(rng):
    """Pulled to the sphere's points it would grow."""
    points = rng.standard_normal((2000, 3))
    points *= 0.7 / np.linalg.norm(points, axis=1, keepdims=True)

    def with_bubble(x):
        return np.maximum(fields.sphere(x), 0.2 - np.linalg.norm(x, axis=1))

    pool = zero_set(points, f=with_bubble).pool(0)
    assert np.linalg.norm(pool.s, axis=1).min() > 0.6 and pool.weight == 1


def test_without_a_zero_set_there_is_no_pool():
    assert zero_set(np.zeros((1, 3)), f=lambda x: np.ones(len(x))).pool(0) is None
    assert surface_samples.arrays_of(None) == {}
    assert surface_samples.pool_of({"t": np.array(3)}) is None


def test_a_pool_in_a_state_file(rng):
    pool = Pool(*rng.standard_normal((2, surface_samples.SIZE, 3), np.float32), weight=0.1)
    arrays = surface_samples.arrays_of(pool)
    again = surface_samples.pool_of({"t": np.array(3), **arrays})
    assert np.array_equal(again.s, pool.s) and np.array_equal(again.p, pool.p)
    assert again.weight == 0.1
    for damaged in ({"pool/s": pool.s}, {**arrays, "pool/p": pool.p[1:]}):
        with pytest.raises(UserError, match="shapes"):
            surface_samples.pool_of(damaged)


@pytest.mark.parametrize("steps, pools", [
    (10_000, range(2000, 10_000, 500)), (2000, range(400, 2000, 200)), (40, range(8, 40, 4)),
    (1, [0])])
def test_when_pools_are_made(steps, pools):
    """From a fifth of the run on, each 500 steps or each tenth of the run, none at its end."""
    plan = Plan(steps, 1, 1, 0, 1e-3)
    assert [step for step in range(steps + 1) if plan.needs_pool(step)] == list(pools)
