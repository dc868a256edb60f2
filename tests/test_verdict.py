"""Small meshes and clouds, good ones and ruins, by what makes them so."""

from helper import UserError
from igr.geometry import meshes, shapes
from igr.geometry.frames import Geometry
from igr.pointcloud import noise
from igr.refinement import verdict
from igr.refinement.verdict import Verdict

import numpy as np
import pytest

BALL = shapes.mesh("sphere")
N = 8_000
SPACING = np.sqrt(4 * meshes.face_areas(BALL).sum() / N / np.pi) / 2  # as neighbours.spacing_of


def judged(mesh: Geometry, points: np.ndarray) -> Verdict:
    tree = verdict.tree_of(points)
    return verdict.judge(mesh, tree, noise.scatter(tree), len(points))


def cloud(deviation=0.0, n=N) -> np.ndarray:
    """n points on the ball, moved by noise of a standard deviation in spacings."""
    rng = np.random.default_rng(0)
    points = meshes.sample_mesh(BALL, n, rng).points
    return points + deviation * SPACING * rng.normal(size=points.shape)


def stray(share: float) -> np.ndarray:
    """The ball's points and that share of them anywhere in a cube."""
    anywhere = np.random.default_rng(1).uniform(-1.5, 1.5, (int(share * N), 3))
    return np.concatenate([cloud(), anywhere])


def uneven() -> np.ndarray:
    """Points whose density falls to an eightieth from one side of the ball to the other."""
    rng = np.random.default_rng(0)
    points = meshes.sample_mesh(BALL, 10 * N, rng).points
    height = (points[:, 0] + 1) / 2
    return points[rng.uniform(size=len(points)) < 80**-height]


def together(*parts: Geometry) -> Geometry:
    """One mesh of several."""
    before = np.cumsum([0, *[len(part.points) for part in parts]])
    return Geometry(np.concatenate([part.points for part in parts]), None,
                    np.concatenate([part.faces + n for part, n in zip(parts, before)]))


def resized(scale: float, mesh: Geometry = BALL) -> Geometry:
    return mesh._replace(points=scale * mesh.points)


def kept(mask: np.ndarray) -> Geometry:
    return meshes.keep_faces(BALL, mask)


def shredded(share: float) -> Geometry:
    """The ball without a share of its faces, at random."""
    return kept(np.random.default_rng(2).uniform(size=len(BALL.faces)) > share)


def sheet(side: float) -> Geometry:
    """A square of 60 x 60 cells through the origin."""
    x, y = (side * (np.mgrid[:61, :61] / 60 - 0.5)).reshape(2, -1)
    first = (61 * np.arange(60)[:, None] + np.arange(60)).reshape(-1, 1)
    faces = np.concatenate([first + np.array(corners) for corners in ([0, 61, 1], [1, 61, 62])])
    return Geometry(np.stack([x, y, 0 * x], axis=1), None, faces)


def crumpled(deviation: float) -> Geometry:
    """The ball with its vertices moved at random, by some spacings."""
    moved = SPACING * deviation * np.random.default_rng(3).normal(size=BALL.points.shape)
    return BALL._replace(points=BALL.points + moved)


def pieces(n: int) -> Geometry:
    """n small balls around points of the ball."""
    small = shapes.mesh("letter")
    small = small._replace(points=small.points * 0.02)
    return together(*[small._replace(points=small.points + place) for place in cloud()[:n]])


UPPER = BALL.points[BALL.faces].mean(axis=1)[:, 2] > 0
GOOD = {
    "ball": (BALL, cloud()),
    "few points": (BALL, cloud(n=100)),
    "noise": (BALL, cloud(1.0)),
    "uneven": (BALL, uneven()),
    "sponge": (shapes.mesh("sponge"), shapes.sample("sponge", 3_000).points),
    "base unseen": (BALL, cloud()[cloud()[:, 2] > -0.85]),
    "far from the origin": (BALL._replace(points=BALL.points + 1e6), cloud() + 1e6),
}
DOUBTFUL = {
    "1 % stray": (BALL, stray(0.01), "% of the points have no surface near them: datasets.py"),
    "a third unseen": (BALL, cloud()[cloud()[:, 2] > -0.4], "--trim auto"),
    "some tears": (shredded(0.0015), cloud(), "in tatters"),
}
RUINS = {
    "half the surface": (kept(UPPER), cloud(), "of the points have no surface near them: train"),
    "another's cloud": (BALL, shapes.sample("torus", N).points, "no surface near them"),
    "too large": (resized(1.3), cloud(), "no surface near them"),
    "shredded": (shredded(0.05), cloud(), "in tatters"),
    "confetti": (together(BALL, pieces(100)), cloud(), "in tatters"),
    "double skin": (together(BALL, resized(1 - SPACING / 2)), cloud(), "2.1 times the area"),
    "crumpled": (crumpled(2.0), cloud(), "double or crumpled"),
    "sheet across the cube": (together(BALL, sheet(6.0)), cloud(), "far from all points: infer.py"),
}


@pytest.mark.parametrize("name", GOOD)
def test_good_meshes_are_called_good(name):
    mesh, points = GOOD[name]
    found = judged(mesh, points)
    assert found.word == "good", found.troubles
    assert str(found).startswith("good: 1 piece, genus ") and "watertight" in str(found)
    assert not any(trouble.level for trouble in found.troubles)


@pytest.mark.parametrize("word, name", [*[("doubtful", name) for name in DOUBTFUL],
                                        *[("ruin", name) for name in RUINS]])
def test_others_are_called_what_they_are(word, name):
    mesh, points, words = {**DOUBTFUL, **RUINS}[name]
    found = judged(mesh, points)
    assert found.word == word, found
    assert words in found.troubles[0].text
    assert str(found).startswith({"ruin": "a ruin: "}.get(word, word))
    assert found.as_json()["troubles"] == [trouble.text for trouble in found.troubles]


def test_figures_of_a_ball():
    found = judged(resized(2.0), 2.0 * cloud())
    assert found.area == pytest.approx(16 * np.pi, rel=1e-3)
    assert found.volume == pytest.approx(32 / 3 * np.pi, rel=1e-3)
    assert found.area_ratio == pytest.approx(1, abs=0.15)
    assert found.spacing == pytest.approx(2 * SPACING, rel=0.1)
    assert (found.pieces, found.genus, found.rims) == (1, 0, 0) and found.watertight
    half = judged(kept(UPPER), cloud())
    assert half.far_points == pytest.approx(0.5, abs=0.05) and half.far_area == 0
    assert half.volume is None and half.rims == 1 and half.genus == 0


def test_distances_are_exact_where_the_faces_are_large():
    """Of a square of two faces the vertices say nothing."""
    square = Geometry(np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]), None,
                      np.array([[0, 1, 2], [0, 2, 3]]))
    points = np.array([[0.5, 0.5, 0.2], [0.3, 0.6, -0.4], [2.0, 0.5, 0], [9.0, 9, 9]])
    for shift in (0.0, 1e7):  # beyond float32
        moved = square._replace(points=square.points + shift)
        found = verdict.farther(points + shift, moved, np.array([0.21, 0.39, 1.01, 1.0]))
        assert found.tolist() == [False, True, False, True]


def test_what_tells_nothing_has_no_verdict():
    tree = verdict.tree_of(cloud(n=10))
    assert verdict.judge(BALL, tree, 0.0, 10) is None
    assert verdict.judge(resized(0.0), verdict.tree_of(cloud()), 0.0, N) is None
    with pytest.raises(UserError, match="nothing to sample"):  # the same mesh, elsewhere
        meshes.sample_mesh(resized(0.0), 1, np.random.default_rng(0))


def test_equal_points_and_large_clouds(monkeypatch):
    assert verdict.tree_of(np.tile(cloud(), (3, 1))).n == N
    monkeypatch.setattr(verdict, "MOST", 1_000)
    assert verdict.tree_of(cloud()).n == 1_000
    found = judged(BALL, cloud())
    assert found.word == "good" and found.points == N
    assert found.spacing == pytest.approx(SPACING, rel=0.1)
