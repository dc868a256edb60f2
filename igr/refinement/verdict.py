"""Judge a mesh by the cloud that it was made of: good, doubtful or a ruin, and what to do.

A mean distance hides ruins, so shares are measured: of the points without surface near them, and
of the surface far from all points. Tatters and double skins lie close to the points; there the
mesh's pieces, handles and rims are counted against the number of points, and its area against the
area that the points cover. Nothing here has a unit: lengths are compared with the local spacing of
the points, or with their noise. docs/metrics.md has what chose the limits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from igr.geometry import meshes, neighbours
from igr.geometry.frames import Geometry
from igr.refinement import trimming
from igr.refinement.trimming import FAR, NOISY_SPACING

import numpy as np

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

SAMPLES = 10_000  # points of the cloud, and as many on the mesh
MOST = 500_000  # points of the cloud that take part, at random
NEAR = 3.0  # spacings, or deviations of the noise: a point that is farther has no surface near it
NEIGHBOUR = 10  # the distance to it tells the spacing
FEWEST = 200  # points; fewer may have a surface that is mostly far from them

LONELY = (0.005, 0.2)  # share of points without surface near them: doubtful from, a ruin from
AWAY = (0.01, 0.2, 0.5)  # share of the area far from all points: told, doubtful, a ruin from
HOPELESS = 0.9  # share of the area: of a mesh that is so far away nothing is worth keeping
TATTERS = (0.001, 0.004)  # pieces, handles and rims for each point: doubtful from, a ruin from
RIM = 0.2  # of a piece is what a rim counts: a pinhole is one
FEATURES = 20  # of them are no tatters, however few the points
AREA = (1.6, 1.8, 2.5)  # area in that of the points: doubtful, a ruin, and one of thin bodies from
THIN = 0.6  # scatter in spacings, above which the points may be on both sides of a thin body


class Trouble(NamedTuple):
    """What is not well with a mesh, and what to do about it."""

    level: int  # 0: worth knowing, 1: doubtful, 2: a ruin
    text: str


class Verdict(NamedTuple):
    """What was measured on a mesh and its cloud; lengths in the unit of both."""

    points: int  # of the cloud, without equal ones; of a sample, as many as it stands for
    spacing: float  # their median
    scatter: float  # of the points, standard deviation, see pointcloud.noise
    far_points: float  # share of the points without surface near them
    far_area: float  # share of the area that is far from all points
    area_ratio: float | None  # the other area in parts of what the points cover; None: no points
    pieces: int
    genus: int  # of all pieces, rims taken as filled
    rims: int
    watertight: bool
    area: float
    volume: float | None  # None: not watertight

    @property
    def word(self) -> str:
        """good, doubtful or ruin."""
        levels = [trouble.level for trouble in self.troubles]
        return ("good", "doubtful", "ruin")[max(levels, default=0)]

    @property
    def troubles(self) -> list[Trouble]:
        """All that is not well, the worst first."""
        found = [self._lonely(), self._away(), self._tatters(), self._area()]
        return sorted((trouble for trouble in found if trouble), key=lambda trouble: -trouble.level)

    def _lonely(self) -> Trouble | None:
        level = _level(self.far_points, LONELY)
        advice = ("datasets.py clean removes stray ones; infer.py --grid-size N and train.py "
                  "--quality fine reach thin parts", "train longer, by train.py --quality fine; -f "
                  "must name the mesh's own cloud")
        return level and Trouble(level, f"{_percent(self.far_points)} of the points have no "
                                        f"surface near them: {advice[level - 1]}")

    def _away(self) -> Trouble | None:
        level = _level(self.far_area, AWAY)
        level = min(level, 2) if self.points < FEWEST else level
        lost = self.far_points >= LONELY[1] or self.far_area > HOPELESS  # little would be left
        advice = "" if lost else ": infer.py --trim auto cuts it off"
        return level and Trouble(level - 1, f"{_percent(self.far_area)} of the surface is far from "
                                            f"all points{advice}")

    def _tatters(self) -> Trouble | None:
        count = self.pieces - 1 + self.genus + RIM * self.rims
        level = _level(count / self.points, TATTERS) if count > FEATURES else 0
        return level and Trouble(level, (
            f"the surface is in tatters, {self.shape}: the network did not find its sides; "
            "train.py --with-normals helps if the cloud's file has good ones, --quality fine if "
            "the training was short"))

    def _area(self) -> Trouble | None:
        doubtful, ruin, of_thin_bodies = AREA
        if self.scatter > THIN * self.spacing:
            doubtful, ruin = ruin, of_thin_bodies
        level = _level(self.area_ratio or 0.0, (doubtful, ruin))
        return level and Trouble(level, (
            f"the surface has {self.area_ratio:.2g} times the area that the points cover: it is "
            "double or crumpled; train.py --with-normals helps if the cloud's file has good ones, "
            "infer.py --detail off if the points are noisy"))

    @property
    def shape(self) -> str:
        """Pieces, genus and rims in words."""
        rims = f"{self.rims} rim{'s' * (self.rims != 1)}" if self.rims else (
            "watertight" if self.watertight else "not watertight")
        return f"{self.pieces} piece{'s' * (self.pieces != 1)}, genus {self.genus}, {rims}"

    def __str__(self) -> str:
        return (f"{'a ruin' if self.word == 'ruin' else self.word}: {self.shape}; "
                f"{_percent(self.far_points)} of the points without surface near them, "
                f"{_percent(self.far_area)} of the surface far from all points")

    def as_json(self) -> dict:
        """{name: value} of all that was measured, the word and the troubles."""
        return {"word": self.word, "troubles": [trouble.text for trouble in self.troubles],
                **self._asdict()}


def _level(value: float, limits: tuple) -> int:
    """How many of the limits, which grow, a value reaches."""
    return sum(value >= limit for limit in limits)


def _percent(share: float) -> str:
    return f"{100 * share:.{2 if share < 0.995 else 3}g} %"


# --------------------------------------------------------------------------------------- measuring


def tree_of(points: np.ndarray, seed: int = 0) -> cKDTree:
    """The search tree of points (N, 3) that judge() takes: without equal ones, at most MOST."""
    if len(points) > MOST:
        points = points[np.random.default_rng(seed).permutation(len(points))[:MOST]]
    return neighbours.tree_of(points[neighbours.distinct(points)[0]])


def judge(mesh: Geometry, tree: cKDTree, scatter: float, count: int,
          seed: int = 0) -> Verdict | None:
    """Measure a mesh against the tree of its cloud, see tree_of(), both in the same coordinates.

    scatter: of the points, standard deviation; count: of the points that tree_of() took. None where
    there are too few points to tell their spacing, or where the mesh has no area.
    """
    areas = meshes.face_areas(mesh)
    if tree.n <= NEIGHBOUR or not areas.sum() > 0:
        return None
    rng = np.random.default_rng(seed)
    picked = rng.permutation(tree.n)[:SAMPLES]
    reach = neighbours.kth_around(tree, picked, NEIGHBOUR)
    spacing = neighbours.spacing_of(reach, NEIGHBOUR)
    lonely = farther(tree.data[picked], mesh, NEAR * np.maximum(spacing, scatter))
    places = meshes.sample_mesh(mesh, SAMPLES, rng, areas).points
    far_area = float((trimming.ratio_to(tree, places, least=NOISY_SPACING * scatter) > FAR).mean())
    # one of N points on a surface has the area pi spacing^2 / N
    covered = np.pi * (spacing[~lonely] ** 2).mean() * tree.n if not lonely.all() else 0.0
    counts = meshes.topology(mesh)
    pieces, rims = counts["components"], counts["rims"]
    share = min(1.0, MOST / count)  # of the points that the tree has
    return Verdict(
        round(tree.n / share), float(np.median(spacing) * share**0.5), float(scatter),
        float(lonely.mean()), far_area,
        float(areas.sum() * (1 - far_area) / covered) if covered > 0 else None,
        pieces, max(0, (2 * pieces - counts["euler_characteristic"] - rims) // 2), rims,
        counts["watertight"], float(areas.sum()),
        meshes.volume(mesh) if counts["watertight"] else None)


def farther(points: np.ndarray, mesh: Geometry, limits: np.ndarray) -> np.ndarray:
    """Mask (N,) of points (N, 3) that are farther from a mesh's surface than limits (N,).

    The nearest vertex tells most of them: the surface is no farther, and nearer by less than the
    longest edge. Only where that leaves a doubt is the exact distance computed.
    """
    distance = neighbours.nearest(points, mesh.surface_points)[0]
    far = distance > limits
    if not far.any():
        return far
    corners = mesh.points[mesh.faces]
    longest = np.sqrt(((corners - np.roll(corners, 1, axis=1)) ** 2).sum(axis=2).max())
    doubt = far & (distance - longest <= limits)
    if doubt.any():
        middle = np.median(mesh.points, axis=0)  # the exact distance is float32
        moved = mesh._replace(points=mesh.points - middle)
        far[doubt] = (neighbours.point_to_surface(points[doubt] - middle, moved) > limits[doubt])
    return far
