"""A block of furnished rooms, known exactly: a scene for python -m igr scene, and its measure.

    python -m benchmarks.stress.rooms create -n 1000000 --rooms 2 2 1 -o rooms_pcd.npy
    python -m benchmarks.stress.rooms measure -f rooms_mesh.ply --rooms 2 2 1

Walls with doors, floors, tables, shelves, stairs and pipes are one union of solid boxes and
capsules. Outside of it the distance to its surface is the least of the distances to them. Inside it
is the greatest depth in one of them, exact up to the width by which boxes that continue each other
overlap (JOINT): the surface is never nearer than that says. Lengths are in metres.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path
from typing import NamedTuple

import helper
from igr.formats import files
from igr.geometry import meshes, neighbours
from igr.geometry.frames import Geometry

import numpy as np

ROOM = np.array([4.0, 4.0, 2.8])  # from the middle of a wall to the next, from floor to floor
WALL, JOINT = 0.2, 0.1  # thickness; how far boxes reach into each other
DOOR = (0.9, 2.1)  # width, height
TOP, LEG = 0.04, 0.06  # thickness of a board; width of a leg
STEPS, TREAD, RISE = 8, 0.26, 0.18
PIPE = 0.04  # radius
SAMPLES = 200_000  # each way
BLOCK = 1 << 18  # points whose distances are computed together


class Solids(NamedTuple):
    """Boxes and capsules."""

    boxes: np.ndarray  # (B, 2, 3): low and high corner
    pipes: np.ndarray  # (P, 2, 3): both ends of a capsule's axis

    def depth(self, points: np.ndarray, without: np.ndarray | None = None) -> np.ndarray:
        """Signed distance (N,) of points (N, 3) to the union's surface, negative inside. without:
        (N,) the number of a solid, boxes first, that does not count for a point."""
        least = np.full(len(points), np.inf)
        for number, (low, high) in enumerate(self.boxes):
            near = _within(points, low, high, least)
            away = np.abs(points[near] - (low + high) / 2) - (high - low) / 2
            outside = np.linalg.norm(np.maximum(away, 0), axis=1)
            _lower(least, near, outside + np.minimum(away.max(axis=1), 0), without, number)
        for number, (start, end) in enumerate(self.pipes, len(self.boxes)):
            near = _within(points, np.minimum(start, end) - PIPE, np.maximum(start, end) + PIPE,
                           least)
            along = end - start
            t = np.clip((points[near] - start) @ along / (along @ along), 0, 1)[:, None]
            away = np.linalg.norm(points[near] - start - t * along, axis=1) - PIPE
            _lower(least, near, away, without, number)
        return least

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Distance (N,) of points (N, 3) to the surface."""
        return np.concatenate([np.abs(self.depth(points[some]))
                               for some in neighbours.blocks(len(points), BLOCK)])

    def sample(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Points (count, 3), even on the surface."""
        found = []
        while sum(map(len, found)) < count:
            points, number = self._on_all(min(BLOCK, 2 * count), rng)
            away = self.depth(points, number)
            found.append(points[away > 0])  # boxes that continue each other have equal sides
        return np.concatenate(found)[:count]

    def _on_all(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Points (count, 3) on the surfaces of all solids, and the number (count,) of each one's.
        """
        size = self.boxes[:, 1] - self.boxes[:, 0]
        sides = np.roll(size, 1, axis=1) * np.roll(size, 2, axis=1)  # across each axis
        length = np.linalg.norm(self.pipes[:, 1] - self.pipes[:, 0], axis=1)
        area = np.concatenate([2 * sides.sum(axis=1),
                               2 * np.pi * PIPE * length + 4 * np.pi * PIPE**2])
        number = rng.choice(len(area), count, p=area / area.sum())
        of_box = np.flatnonzero(number < len(self.boxes))
        box = number[of_box]
        points = np.empty((count, 3))
        share = np.cumsum(sides[box], axis=1) / sides[box].sum(axis=1, keepdims=True)
        axis = (rng.random((len(box), 1)) > share[:, :2]).sum(axis=1)
        places = rng.random((len(box), 3))
        places[np.arange(len(box)), axis] = rng.integers(0, 2, len(box))
        points[of_box] = self.boxes[box, 0] + places * size[box]
        for pipe in range(len(self.pipes)):
            mine = np.flatnonzero(number == len(self.boxes) + pipe)
            points[mine] = _on_capsule(*self.pipes[pipe], len(mine), rng)
        return points, number


def _within(points: np.ndarray, low: np.ndarray, high: np.ndarray,
            least: np.ndarray) -> np.ndarray:
    """Which of points (N, 3) (indices) may be nearer to what is in a box than `least` (N,)."""
    away = np.maximum(np.maximum(low - points, points - high), 0)
    return np.flatnonzero((away**2).sum(axis=1) <= np.maximum(least, 0) ** 2)


def _lower(least: np.ndarray, near: np.ndarray, values: np.ndarray, without: np.ndarray | None,
           number: int) -> None:
    """Take values at the indices `near` into the minimum, but for points without this solid."""
    if without is not None:
        values = np.where(without[near] == number, np.inf, values)
        earlier = without[near] > number  # of equal sides the first solid's counts
        values = np.where(~earlier & (np.abs(values) < 1e-9), np.inf, values)
        values = np.where(earlier & (np.abs(values) < 1e-9), -1.0, values)
    least[near] = np.minimum(least[near], values)


def _on_capsule(start: np.ndarray, end: np.ndarray, count: int,
                rng: np.random.Generator) -> np.ndarray:
    """Points (count, 3), even on a capsule."""
    along = end - start
    length = np.linalg.norm(along)
    around = meshes.unit_vectors(rng.standard_normal((count, 3)))
    on_tube = rng.random(count) < length / (length + 2 * PIPE)
    axis = along / length
    flat = meshes.unit_vectors(around - (around @ axis)[:, None] * axis)
    t = np.where(on_tube, rng.random(count), (around @ axis > 0).astype(float))
    return start + t[:, None] * along + PIPE * np.where(on_tube[:, None], flat, around)


# ------------------------------------------------------------------------------------- the building


def building(rooms: tuple[int, int, int], seed: int = 0) -> Solids:
    """A block of rooms, so many along x, y and z, furnished at random."""
    rng = np.random.default_rng(seed)
    boxes, pipes = [], []
    size = ROOM * rooms
    for floor in range(rooms[2] + 1):
        z = floor * ROOM[2]
        boxes.append(([-WALL / 2, -WALL / 2, z - WALL / 2],
                      [size[0] + WALL / 2, size[1] + WALL / 2, z + WALL / 2]))
    for across in (0, 1):
        walls = product(range(rooms[across] + 1), range(rooms[1 - across]), range(rooms[2]))
        for place, room, floor in walls:
            door = rng.uniform(0.8, 2.2) if 0 < place < rooms[across] else None
            boxes += _wall(across, place * ROOM[across], room, floor, door)
    for room in product(*map(range, rooms)):
        more_boxes, more_pipes = _furniture(ROOM * room, rng)
        boxes += more_boxes
        pipes += more_pipes
    return Solids(np.array(boxes, float), np.array(pipes, float).reshape(-1, 2, 3))


def _wall(across: int, at: float, room: int, floor: int, door: float | None) -> list:
    """The boxes of a wall between two corners of a room; door: where its opening begins."""
    start, end = room * ROOM[1 - across] - WALL / 2, (room + 1) * ROOM[1 - across] + WALL / 2
    bottom, top = floor * ROOM[2], (floor + 1) * ROOM[2]
    spans = [(start, end, bottom, top)]
    if door is not None:
        low, high = start + door, start + door + DOOR[0]
        head = bottom + WALL / 2 + DOOR[1]
        spans = [(start, low, bottom, top), (high, end, bottom, top),
                 (low - JOINT, high + JOINT, head, top)]
    boxes = []
    for low, high, z_low, z_high in spans:
        corners = np.empty((2, 3))
        corners[:, across] = at - WALL / 2, at + WALL / 2
        corners[:, 1 - across] = low, high
        corners[:, 2] = z_low, z_high
        boxes.append(corners.tolist())
    return boxes


def _furniture(corner: np.ndarray, rng: np.random.Generator) -> tuple[list, list]:
    """Boxes and pipes that stand in a room with a corner (3,) in the middle of its walls."""
    x, y, z = corner + WALL / 2
    table = [x + rng.uniform(1.2, 1.8), y + rng.uniform(1.2, 1.6), z]
    boxes = [_box(table, [0, 0, 0.7], [1.2, 0.7, 0.7 + TOP])]
    boxes += [_box(table, [a, b, -JOINT], [a + LEG, b + LEG, 0.7 + TOP / 2])
              for a in (0.05, 1.2 - LEG - 0.05) for b in (0.05, 0.7 - LEG - 0.05)]
    shelf = [x + rng.uniform(0.1, 0.5), y + 3.35, z]
    boxes += [_box(shelf, [a, 0, -JOINT], [a + TOP, 0.35, 1.8]) for a in (0, 1.0)]
    boxes += [_box(shelf, [TOP / 2, 0, h], [1.0 + TOP / 2, 0.35, h + TOP])
              for h in (0.1, 0.6, 1.1, 1.8 - TOP)]
    stairs = [x + 2.6 + rng.uniform(0, 0.2), y + 0.9, z]
    boxes += [_box(stairs, [0, TREAD * i, -JOINT], [0.8, TREAD * STEPS, RISE * (i + 1)])
              for i in range(STEPS)]
    height = z + 2.35
    pipes = [([x - JOINT, y + at, height], [x + 3.8 + JOINT, y + at, height])
             for at in (0.5, 0.8)]
    pipes.append(([x + 0.3, y + 0.3, z - JOINT], [x + 0.3, y + 0.3, z + 2.6 + JOINT]))
    return boxes, pipes


def _box(base: list, low: list, high: list) -> list:
    return [np.add(base, low).tolist(), np.add(base, high).tolist()]


# ----------------------------------------------------------------------------------------- measures


def measured(solids: Solids, mesh: Geometry) -> dict:
    """Distances both ways in metres: mean, and the share of the truth without mesh within 5 cm."""
    rng = np.random.default_rng(7)
    truth = solids.sample(SAMPLES, rng)
    to_mesh = neighbours.point_to_surface(truth, mesh)
    to_truth = solids.distance(meshes.sample_mesh(mesh, SAMPLES, rng).points)
    return {"truth_to_mesh": float(to_mesh.mean()), "mesh_to_truth": float(to_truth.mean()),
            "missing": float((to_mesh > 0.05).mean()), "wrong": float((to_truth > 0.05).mean()),
            "faces": len(mesh.faces), "boundary_edges": len(meshes.boundary_edges(mesh)[0])}


def create(args: argparse.Namespace) -> None:
    rng = np.random.default_rng(args.seed)
    points = building(args.rooms).sample(args.points, rng)
    points += args.noise * rng.standard_normal(points.shape)
    files.write(args.output, Geometry(points + args.shift))
    print(args.output)


def measure(args: argparse.Namespace) -> None:
    mesh = files.read_mesh(args.file)
    mesh = mesh._replace(points=mesh.points - args.shift)
    found = measured(building(args.rooms), mesh)
    print("\n".join(f"{name:16} {value:.6g}" for name, value in found.items()))
    if args.json:
        helper.write_json(args.json, found)


def parse_args(argv: list | None = None) -> argparse.Namespace:
    parser = helper.parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--rooms", type=int, nargs=3, default=[4, 4, 2], metavar=("X", "Y", "Z"))
    shared.add_argument("--shift", type=float, default=0.0, help="of all coordinates")
    made = commands.add_parser("create", parents=[shared], help="write a cloud")
    made.add_argument("-n", "--points", type=helper.number(int, 1), default=1_000_000)
    made.add_argument("--noise", type=helper.number(float, 0), default=0.002,
                      help="standard deviation of each coordinate")
    made.add_argument("--seed", type=helper.number(int, 0), default=0)
    made.add_argument("-o", "--output", type=Path, required=True)
    against = commands.add_parser("measure", parents=[shared], help="measure a mesh")
    against.add_argument("-f", "--file", type=Path, required=True)
    against.add_argument("--json", type=Path, help="also write the figures here")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    {"create": create, "measure": measure}[args.command](args)


if __name__ == "__main__":
    helper.run(main, parse_args())
