"""Weld the cells' parts to one mesh, drop and cut what no point supports, colour it, write it.

Two parts have the same vertices on a seam: those on the same edge of the scene's grid. They are
joined by the number of this edge, without a tolerance, and the place is the one of the first cell.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple, Sequence

import helper
from helper import UserError, log
from igr.backend import memory
from igr.formats import files, ply
from igr.geometry import meshes
from igr.geometry.frames import Geometry
from igr.geometry.supported_components import ENOUGH, FEWEST, SHARE
from igr.pointcloud import noise
from igr.refinement import trimming, verdict
from igr.refinement.coloring import carry_colors
from igr.refinement.trimming import FAR
from igr.scene.jobs import MESH, Order
from igr.scene.meshing import Part
from igr.scene.plan import Folder, Plan

import numpy as np

FACE = 300  # bytes that the assembly takes for a face
HOLE = 0.25  # diameter of the largest hole that is closed, in sides of a middling cell


class Ends(NamedTuple):
    """Where the mesh ends."""

    closed: bool = False  # nothing is cut off
    trim: bool = False  # everything far from the points is, holes too
    fill: float | None = None  # diameter of the largest hole that is closed, world units


class Welded(NamedTuple):
    """The mesh of all parts."""

    mesh: Geometry  # grid coordinates
    far: np.ndarray  # (V,) see meshing.Part
    distance: np.ndarray  # (V,)
    support: np.ndarray  # (V,)
    seams: int  # vertices that several parts have
    gap: float  # the greatest distance between two parts' places of such a vertex, in spacings


def weld(parts: Sequence[Part]) -> Welded:
    """One mesh of parts; a vertex on a grid edge is one. Raises UserError where they are empty."""
    places, edges, far, distance, support = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("places", "edges", "far", "distance", "support"))
    starts = np.cumsum([0, *(len(part.places) for part in parts)])
    faces = np.concatenate([part.faces + start for part, start in zip(parts, starts)])
    if not len(faces):
        raise UserError("no cell has a surface: nothing to write")
    on_edge = np.flatnonzero(edges >= 0)
    _, first, copy = np.unique(edges[on_edge], return_index=True, return_inverse=True)
    owner = np.arange(len(places))
    owner[on_edge] = on_edge[first][copy.reshape(-1)]
    twins = np.flatnonzero(owner != np.arange(len(places)))
    apart = np.linalg.norm(places[twins] - places[owner[twins]], axis=1)
    kept = np.flatnonzero(owner == np.arange(len(places)))
    number = np.empty(len(places), np.int64)
    number[kept] = np.arange(len(kept))
    number = number[owner]
    return Welded(Geometry(places[kept], None, number[faces]), far[kept], distance[kept],
                  np.bincount(number, support, len(kept)), len(np.unique(owner[twins])),
                  float(apart.max(initial=0.0)))


def supported(welded: Welded) -> np.ndarray:
    """Mask (F,) of the faces in pieces that points support, by supported_components' rule."""
    mesh = welded.mesh
    piece = meshes.components(mesh)
    areas = np.bincount(piece, meshes.face_areas(mesh))
    of_vertex = np.zeros(len(mesh.points), np.int64)
    of_vertex[mesh.faces] = piece[:, None]
    count = np.bincount(of_vertex, welded.support, len(areas))
    expected = areas / areas.sum() * welded.support.sum()
    good = count >= np.maximum(FEWEST, np.minimum(SHARE * expected, ENOUGH))
    good[count.argmax()] = True
    return good[piece]


def cut(welded: Welded, ends: Ends, plan: Plan) -> Geometry:
    """Cut off what is far from the points and closes no hole. Grid coordinates."""
    mesh, values = welded.mesh, welded.far
    if ends.closed:
        return mesh
    if not ends.trim:
        side = float(np.median([cell.side for cell in plan.cells]))
        hole = HOLE * side if ends.fill is None else ends.fill / plan.spacing
        values, holes = trimming.closing_holes(mesh, values, FAR, welded.distance, hole)
        if holes:
            log.info("closed where points are missing: up to "
                     f"{2 * plan.spacing * max(holes):.3g} across (--fill 0 cuts it off)")
    if not (values > FAR).any():
        return mesh
    # a room is a small share of a building, and no speck
    mesh, report = trimming.trim(mesh, values, FAR, smallest=0.001 / max(1, len(plan.cells)))
    log.info(f"the surface ends where the points end: {report}")
    return mesh


def coloured(mesh: Geometry, plan: Plan, folder: Folder) -> Geometry:
    """Give a mesh (grid coordinates) the colours of the points, cell by cell."""
    colors = np.full(mesh.points.shape, 0.5, np.float32)
    left = np.ones(len(mesh.points), bool)
    for beyond in (False, True):  # what lies in no core is within a margin
        for cell in plan.cells:
            mine = np.flatnonzero(left & cell.has(mesh.points, cell.margin if beyond else 0))
            if not len(mine):
                continue
            cloud = Geometry(plan.to_grid(np.load(folder.points(cell.name))),
                             colors=np.load(folder.colors(cell.name)))
            places = Geometry(mesh.points[mine], None, np.empty((0, 3), np.int64))
            colors[mine] = carry_colors(cloud, places).colors
            left[mine] = False
    return mesh._replace(colors=colors)


def assemble(plan: Plan, folder: Folder, names: list[str], ends: Ends) -> Geometry:
    """The mesh of the cells with these names, in the world. Raises UserError where the memory is
    too small for it."""
    faces = sum(Order(str(folder.path), MESH, name, [], [], "").said()["faces"] for name in names)
    memory.check(FACE * faces, f"a mesh of {faces} faces", "a larger --spacing makes a smaller "
                 "one; the parts that are done have to be made again for it")
    welded = weld([Part.read(folder.cell(name) / "part.npz") for name in names])
    log.info(f"seams: {welded.seams} vertices, whose places differ by at most "
             f"{welded.gap:.1g} of the grid's spacing between cells")
    good = supported(welded)
    if not good.all():
        log.info(f"pieces without points: dropped {(~good).sum()} of {len(good)} faces")
        kept = meshes.keep_faces(welded.mesh, good)
        used = np.unique(welded.mesh.faces[good])
        welded = welded._replace(mesh=kept, far=welded.far[used], distance=welded.distance[used])
    mesh = cut(welded, ends, plan)
    if plan.colored:
        mesh = coloured(mesh, plan, folder)
    return mesh._replace(points=plan.to_world(mesh.points))


def report(mesh: Geometry, folder: Folder) -> None:
    """Log how good a mesh is by a sample of the scene's points."""
    points = np.load(folder.sample)[:, :3]
    tree = verdict.tree_of(points)
    found = verdict.judge(mesh, tree, noise.scatter(tree), len(points))
    if found:
        log.info(f"verdict: {found}")
        for trouble in found.troubles:
            log.log(logging.WARNING if trouble.level else logging.INFO, trouble.text)


# ------------------------------------------------------------------------------------------- tiles


def write_tiles(output: Path, mesh: Geometry, plan: Plan, suffix: str) -> list[dict]:
    """Write a mesh (world) as tiles into a folder: the faces whose middle lies in a cell's core, or
    else nearest to it, as tile_NAME.ply or .glb, and index.json, last.

    Coordinates are float32, less the index's "origin" where float32 has too few digits for the
    world's: so a vertex on the side of two tiles is the same number in both.
    """
    output.mkdir(exist_ok=True)
    origin = np.zeros(3)
    if not ply.fits_float32(mesh.points, ply.MOST):
        origin = np.floor(mesh.points.mean(axis=0))
    middles = plan.to_grid(mesh.points[mesh.faces].mean(axis=1))
    low = np.array([cell.low for cell in plan.cells])
    side = np.array([cell.side for cell in plan.cells])
    home = np.zeros(len(middles), np.int64)
    nearest = np.full(len(middles), np.inf)
    for number in range(len(plan.cells)):
        away = np.maximum(low[number] - middles, middles - low[number] - side[number])
        away = np.maximum(away, 0).max(axis=1)
        home[away < nearest] = number
        nearest = np.minimum(nearest, away)
    points = (mesh.points - origin).astype(np.float32).astype(np.float64)
    tiles = []
    for number, cell in enumerate(plan.cells):
        mine = home == number
        if not mine.any():
            continue
        tile = meshes.keep_faces(mesh._replace(points=points), mine)
        name = f"tile_{cell.name}{suffix}"
        files.write(output / name, tile)
        box = [tile.points.min(axis=0) + origin, tile.points.max(axis=0) + origin]
        tiles.append({"file": name, "vertices": len(tile.points), "faces": len(tile.faces),
                      "low": box[0].tolist(), "high": box[1].tolist()})
    helper.write_json(output / "index.json", {"origin": origin.tolist(), "tiles": tiles})
    for old in output.glob(f"tile_*{suffix}"):
        if old.name not in {tile["file"] for tile in tiles}:
            old.unlink()
    return tiles
