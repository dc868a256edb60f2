"""Scans that lie beside each other: how far, and together again, patch by patch."""

from igr.geometry import shapes
from igr.geometry.frames import Frame, Geometry
from igr.pointcloud import misalignment
from igr.pointcloud.misalignment import Overlaps

import numpy as np
import pytest


@pytest.fixture(scope="module")
def cloud():
    """An asymmetric solid's points and normals in the unit frame."""
    frame = Frame.of(shapes.mesh("letter").points)
    return frame.geometry_to_unit(shapes.sample("letter", 6000))


def seen(cloud: Geometry, count: int, shift: float = 0.0) -> list[Geometry]:
    """What scanners in `count` random directions see of a cloud, each moved off by `shift`."""
    rng = np.random.default_rng(1)
    scans = []
    for _ in range(count):
        toward, off = rng.standard_normal((2, 3))
        scan = cloud.part(cloud.normals @ toward > 0.2 * np.linalg.norm(toward))
        scans.append(scan._replace(points=scan.points + shift * off / np.linalg.norm(off)))
    return scans


def test_misalignment_is_found(cloud):
    for shift, low, high in ((0.0, 0, 1e-9), (0.01, 0.003, 0.015)):
        scans = seen(cloud, 6, shift)
        found = misalignment.agreement(Overlaps.of(scans))
        assert found.overlap > 0.8 and found.of_scans.shape == (6,)
        assert low <= found.distance < high
    assert misalignment.agreement(Overlaps.of(scans[:1])).overlap == 0
    far = scans[0]._replace(points=scans[0].points + 100)
    found = misalignment.agreement(Overlaps.of([*scans, far]))
    assert np.isnan(found.of_scans[-1]) and np.isfinite(found.of_scans[:-1]).all()


def waves(rng, lift, noise: float = 0.0, n: int = 20_000) -> Geometry:
    """Random points of the square [0, 1]^2 at a height lift(x, y) and with noise; normals up."""
    points = rng.uniform(0, 1, (n, 3))
    points[:, 2] = lift(points[:, 0], points[:, 1]) + noise * rng.standard_normal(n)
    return Geometry(points, np.tile([0.0, 0.0, 1.0], (n, 1)))


@pytest.mark.parametrize("noise", [0.0, 0.004])
def test_bent_scans_meet_in_their_middle(rng, noise):
    """One sheet is bent up, another one down, both by about the noise: their middle is flat."""
    def bent(sign):
        return waves(rng, lambda x, y: sign * 0.005 * np.sin(3 * x + 2 * y), noise)

    scans = [bent(1), bent(-1)]
    before = misalignment.agreement(Overlaps.of(scans)).distance
    moved, share = misalignment.moved_together(Overlaps.of(scans))
    assert share > 0.9
    for scan, old in zip(moved, scans):
        bend = scan.points[:, 2]
        old_bend = old.points[:, 2]
        inner = (np.abs(scan.points[:, :2] - 0.5) < 0.4).all(axis=1)
        wide = [part.mean() for part in np.array_split(bend[inner][np.argsort(
            (3 * scan.points[:, 0] + 2 * scan.points[:, 1])[inner])], 10)]
        assert np.abs(wide).max() < 0.002  # of 0.005
        assert np.abs(scan.points - old.points)[:, :2].max() < 1e-3
        assert not noise or abs(bend.std() - noise) < 0.1 * noise < old_bend.std()
    if not noise:
        assert misalignment.agreement(Overlaps.of(moved)).distance < before / 4


def test_what_agrees_stays(rng):
    """Sheets that agree up to their noise keep it: no patch moves by more than its mean's error,
    and points that no other scan sees do not move at all."""
    def flat(x, y):
        return 0 * x

    scans = [waves(rng, flat, 0.002), waves(rng, flat, 0.002)]
    far = scans[0]._replace(points=scans[0].points + 5)
    moved, _ = misalignment.moved_together(Overlaps.of([*scans, far]))
    assert np.array_equal(moved[2].points, far.points)
    for scan, old in zip(moved[:2], scans):
        assert np.abs(scan.points - old.points).max() < 0.0008
    alone, share = misalignment.moved_together(Overlaps.of(scans[:1]))
    assert share == 0 and np.array_equal(alone[0].points, scans[0].points)


def test_two_sides_of_a_plate_stay_apart(rng):
    """Scans of the upper and of the lower face of a thin plate are not moved onto each other."""
    above = waves(rng, lambda x, y: 0 * x + 0.004)
    below = waves(rng, lambda x, y: 0 * x)
    below = below._replace(normals=-below.normals)
    moved, share = misalignment.moved_together(Overlaps.of([above, below]))
    assert share == 0 and np.array_equal(moved[0].points, above.points)
