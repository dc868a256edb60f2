"""Normals by winding numbers."""

from igr.geometry import shapes
from igr.pointcloud import winding

import numpy as np
import pytest


@pytest.mark.parametrize("n", [20, 900])  # a single leaf, and many
def test_sums_by_the_tree(rng, n):
    """As over all pairs, and closer pairs are left out."""
    points = rng.standard_normal((n, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    tree, width = winding.Tree.of(points), 0.3
    assert np.array_equal(tree.points, points[tree.order].astype(np.float32))
    m = 1 + points[tree.order]
    d = tree.points[None].astype(float) - tree.points[:, None]
    r = np.linalg.norm(d, axis=2, keepdims=True)
    r[r < width] = np.inf
    along = (d * m).sum(axis=2, keepdims=True)
    with np.errstate(invalid="ignore"):
        all_pairs = {winding.VALUE: (m, along / r**3),
                     winding.ADJOINT: (m[:, :1], -d * m[:, :1] / r**3),
                     winding.GRADIENT: (m, m / r**3 - 3 * d * along / r**5)}
    for kind, (moments, terms) in all_pairs.items():
        expected = terms.sum(axis=1)
        error = tree.sums(kind, moments, width) - expected
        assert np.linalg.norm(error) < 0.02 * np.linalg.norm(expected)


@pytest.mark.parametrize(("fewest", "degrees"), [(None, 12), (300, 20), (9999, 12)])
def test_winding_normals_look_outwards(fewest, degrees):
    """Of a solid that is not symmetric, with edges; the same in any place and size."""
    cloud = shapes.sample("letter", 4000)
    found = winding.normals_of(1e3 + 20 * cloud.points, winding.widths(12, 0.005), fewest)
    cosine = (found * cloud.normals).sum(axis=1)
    assert (cosine < 0).mean() < 0.005
    assert np.degrees(np.arccos(cosine.clip(-1, 1))).mean() < degrees


def test_the_first_iterations_take_few_points(monkeypatch):
    """As many as are asked for, then more in each, all in the last."""
    counts = []
    monkeypatch.setattr(winding, "_improved",
                        lambda tree, mu, width: counts.append(len(mu)) or mu + 1)
    points = shapes.sample("sphere", 1000).points
    winding.normals_of(points, winding.widths(12, 0.05), 200)
    assert counts[:8] == [200] * 8 and counts[8] > 200 and counts[-1] == 1000
    assert np.divide(counts[1:], counts[:-1]).max() < 1.68
    counts.clear()
    winding.normals_of(points, winding.widths(3, 0.05))
    assert counts == [1000] * 3
