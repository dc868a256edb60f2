"""What is said of a cloud before a network is trained on it."""

from __future__ import annotations

import sys

from helper import UserError

import numpy as np

REPEATED = 0.02  # share of the points that repeat another one; with more, it is said
STRAY = 5.0  # a point whose neighbours are so many medians away is one
MANY_STRAYS = 0.005  # share of the points; clean scans have at most 0.1 %
SAMPLE = 1_000_000  # points that show where most lie
BLOCK = 1 << 18  # points whose sums are made at a time, to spare memory
FLAT = 1e-3  # standard deviations across and along a cloud; below, it is said
MIN_EXTENT = 0.2  # of the inner 98 % of a cloud's points, in terms of its length; below, it is said


def doubts(points: np.ndarray) -> list[str]:
    """What may spoil a surface through points (N, 3), unit frame: those that repeat others, lie far
    from the rest, or on a plane, which some SAMPLE of them show. Raises UserError where all are on
    a line."""
    found = []
    first = first_of_equals(points)
    repeated = 1 - len(first) / len(points)
    if repeated > REPEATED:
        found.append(f"{100 * repeated:.3g} % of the {len(points)} points are duplicates, only "
                     f"{len(first)} are distinct")
    distinct = points[first[:: -(-len(first) // SAMPLE)]].astype(np.float64)
    low, high = np.percentile(distinct, [1, 99], axis=0)
    extent = (high - low).max() / 2
    if extent < MIN_EXTENT:
        found.append(f"some points lie far from the rest, which fills {100 * extent:.2g} % of the "
                     "frame's length; remove them, or detail is lost")
    spread = np.linalg.svd(distinct - distinct.mean(axis=0), compute_uv=False)
    if len(spread) < 2 or spread[1] <= 1e-6 * spread[0]:
        raise UserError("all points are on a line: there is no surface through them")
    for across, name, shape in ((1, "line", "tube"), (2, "plane", "sheet")):
        if spread[min(across, len(spread) - 1)] <= FLAT * spread[0]:
            found.append(f"the points lie almost on a {name}, which has no inside: the mesh will "
                         f"be a thin closed {shape} around it, in pieces, or none is found")
            break
    return found


def report(doubts: list[str], path) -> None:
    """Say on stderr what may spoil the surface of a file's points, and what helps."""
    for doubt in doubts:
        print(f"warning: {path}: {doubt}", file=sys.stderr)
    if any("duplicates" in doubt or "far from" in doubt for doubt in doubts):
        print(f"python datasets.py clean -f {path} removes them", file=sys.stderr)


def strays(sigma: np.ndarray) -> list[str]:
    """The same of points whose k-th neighbours are sigma (N, 1) away."""
    usual = np.median(sigma)  # 0 where most are duplicates
    share = float((sigma > STRAY * usual).mean()) if usual else 0.0
    return [f"{100 * share:.2g} % of the points are far from all others"] * (share > MANY_STRAYS)


def first_of_equals(points: np.ndarray) -> np.ndarray:
    """Indices of the points (N, 3) without those that repeat an earlier one."""
    # equal points have equal sums, others almost never; term by term, as a product's rounding may
    # depend on the row
    keys = np.empty(len(points))
    for start in range(0, len(keys), BLOCK):
        x, y, z = points[start : start + BLOCK].astype(np.float64).T
        keys[start : start + BLOCK] = 0.6180339887 * x + 0.7548776662 * y + 0.8191725134 * z
    return np.unique(keys, return_index=True)[1]
