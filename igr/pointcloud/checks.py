"""Warn about clouds that train badly: duplicates, stray points, flat shapes, filled volumes."""

from __future__ import annotations

from helper import UserError, log
from igr.geometry import neighbours
from igr.pointcloud import noise

import numpy as np

REPEATED = 0.02  # share of the points that repeat another one; above it there is a warning
STRAY = 5.0  # medians of the distance to the k-th neighbour; a point beyond is one
MANY_STRAYS = 0.005  # share of the points; clean scans have at most 0.1 %
SAMPLE = 1_000_000  # points that show where most lie
LINE = 1e-6  # standard deviation across a cloud, in parts of that along it: below, it is a line
FLAT = 1e-3  # the same, below which there is a warning
SEEN_BY = 2_000  # points at most that show a surface, if there is one
LEAST_SEEN_BY = 300
FILLED = 1.1  # scatter of these in their spacings; balls: from 1.2, a tree 0.67, scans to 0.46
MIN_EXTENT = 0.2  # of the inner 98 % of the points, in terms of the cloud's length; as FLAT


def doubts(points: np.ndarray) -> list[str]:
    """A line for each thing that may spoil a surface through points (N, 3), unit frame: many repeat
    others, lie far from the rest, fill a volume, or lie on a plane (which at most SAMPLE show).

    Raises UserError where all are on a line.
    """
    lines = []
    first, _ = neighbours.distinct(points)
    repeated = 1 - len(first) / len(points)
    if repeated > REPEATED:
        lines.append(f"{100 * repeated:.3g} % of the {len(points)} points are duplicates, only "
                     f"{len(first)} are distinct")
    sample = points[first[:: -(-len(first) // SAMPLE)]].astype(np.float64)
    low, high = np.percentile(sample, [1, 99], axis=0)
    extent = (high - low).max() / 2
    if extent < MIN_EXTENT:
        lines.append(f"some points lie far from the rest, which fills {100 * extent:.2g} % of the "
                     "frame's length; remove them, or detail is lost")
    spread = np.linalg.svd(sample - sample.mean(axis=0), compute_uv=False)
    if len(spread) < 2 or spread[1] <= LINE * spread[0]:
        raise UserError("all points are on a line: there is no surface through them")
    for across, name, shape in ((1, "line", "tube"), (2, "plane", "sheet")):
        if spread[min(across, len(spread) - 1)] <= FLAT * spread[0]:
            lines.append(f"the points lie almost on a {name}, which has no inside: the mesh will "
                         f"be a thin closed {shape} around it, in pieces, or none is found")
            break
    return lines + filled(points[first])


def filled(points: np.ndarray) -> list[str]:
    """The same where distinct points (N, 3) fill a volume: even few of them, whose spacing is wide,
    scatter about a smooth surface by more than that."""
    if len(points) < LEAST_SEEN_BY:
        return []
    some = points[np.random.default_rng(0).permutation(len(points))[:SEEN_BY]]
    tree = neighbours.tree_of(some)
    k = noise.NEIGHBOURS
    spacing = neighbours.spacing_of(float(np.median(neighbours.kth_distance(tree, k))), k)
    if noise.scatter(tree) <= FILLED * spacing:
        return []
    return ["no surface is seen: the points scatter about as widely as the shape is large, as if "
            "they filled a volume"]


def strays(sigma: np.ndarray) -> list[str]:
    """The same where many points have k-th neighbours, sigma (N, 1) away, much farther than the
    others have."""
    usual = np.median(sigma)  # 0 where most are duplicates
    share = float((sigma > STRAY * usual).mean()) if usual else 0.0
    return [f"{100 * share:.2g} % of the points are far from all others"] * (share > MANY_STRAYS)


def warn(doubts: list[str], path) -> None:
    """Log what may spoil the surface of a file's points, and the command that helps."""
    for doubt in doubts:
        log.warning(f"{path}: {doubt}")
    if any("duplicates" in doubt or "far from" in doubt for doubt in doubts):
        log.warning(f"{path}: python datasets.py clean -f {path} removes them")
