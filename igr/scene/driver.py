"""Take a scene from its clouds to its mesh: survey, sides, trainings, details, parts, assembly.

What is done stays in a folder beside the mesh, and the same command does the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import helper
from helper import CONTEXTS, UserError, flag, log, number
from igr.formats import files
from igr.scene import assembly, cluster, jobs, survey
from igr.scene.assembly import Ends
from igr.scene.cluster import Outcome, Program
from igr.scene.jobs import DETAIL, MESH, SIDES, TRAIN, Order
from igr.scene.plan import Cell, Folder, Plan
from igr.scene.sides import FEWEST
from igr.training import locks

import numpy as np


@dataclass(frozen=True)
class Options:
    """Flags of a scene."""

    quality: str = flag("normal", choices=("draft", "normal", "fine"),
                        help="of train.py, for each cell")
    train_iter: int | None = flag(None, "-ti", type=number(int, 1),
                                  help="steps of each training; default: by --quality")
    dims: int | None = flag(None, type=number(int, 8), help="width of the networks")
    cell_points: int = flag(100_000, type=number(int, 200),
                            help="points of a cell at most, those beyond what the grid shows aside")
    spacing: float | None = flag(
        None, type=number(float, above=0), metavar="D",
        help="of the mesh's grid, in the cloud's units; default: that of the points, see "
        "docs/scenes.md")
    closed: bool = flag(False, alternatives="ends", help="cut off nothing where the points end")
    trim: bool = flag(False, alternatives="ends",
                      help="cut off all that is far from the points, at small holes, too")
    fill: float | None = flag(
        None, type=number(float, 0), metavar="D", alternatives="ends",
        help="close holes up to this diameter, in the cloud's units; default: "
        f"{assembly.HOLE:g} of a cell's side")
    tiles: str | None = flag(None, choices=("ply", "glb"),
                             help="write a folder of tiles with an index.json, one for each cell")
    winding: bool = flag(False, help="tell the sides by the points alone: normals and scanners' "
                         "places in the files are left out")
    scheduler: str | None = flag(None, metavar="ADDRESS",
                                 help="of Dask, as tcp://host:8786; default: workers of this "
                                 "machine")
    workers: int | None = flag(None, type=number(int, 1), metavar="N",
                               help="of this machine; default: as many as it has cores and "
                               "--memory for")
    memory: float = flag(cluster.JOB_MEMORY, type=number(float, 0.5), metavar="GIB",
                         help="of a job: one that takes more fails; --cell-points makes them "
                         "smaller")
    context: str = flag("auto", choices=CONTEXTS, help="of train.py")

    def decisive(self, clouds: list[Path]) -> dict[str, Any]:
        """The flags that the cells and networks depend on, and which files the clouds are."""
        known = [[str(cloud), cloud.stat().st_size, cloud.stat().st_mtime_ns] for cloud in clouds]
        return {"clouds": known, **{name: getattr(self, name) for name in
                                    ("quality", "train_iter", "dims", "cell_points", "spacing",
                                     "winding", "context")}}


class Scene(NamedTuple):
    """A scene that is being made."""

    plan: Plan
    folder: Folder
    program: Program
    code: str  # digest of the program
    client: Any  # Dask's
    workers: int  # of this machine, 1 where those of another scheduler do the jobs

    def order(self, kind: str, cell: str = "", trained=(), detailed=()) -> Order:
        threads = self.workers if kind == SIDES else 1  # all wait for the sides
        return Order(str(self.folder.path), kind, cell, list(trained), list(detailed), self.code,
                     threads)

    def run(self, orders: list[Order], tell) -> list[Outcome]:
        """Do those of the jobs that are not done, largest cells first. Returns how they ended."""
        size = {cell.name: -cell.points for cell in self.plan.cells}
        left = [order for order in orders if not order.is_done(self.plan)]
        left.sort(key=lambda order: size.get(order.cell, 0))
        return cluster.run_all(self.client, left, self.program, tell)


def reconstruct(clouds: list[Path], output: Path, options: Options, root: Path) -> None:
    """Make the mesh of a scene. root: the folder of the program. Raises UserError as its parts do,
    and where no cell has a network."""
    clouds = [helper.existing_file(cloud).resolve() for cloud in clouds]
    output = output.absolute()
    if not options.tiles:
        helper.check_writable(output, files.MESH_WRITERS, clouds)
    elif output.exists() and not output.is_dir():
        raise UserError(f"{output}: is a file, and tiles need a folder")
    cluster.needed()
    folder = Folder(output.with_name(f"{output.stem}_scene"))
    folder.path.mkdir(parents=True, exist_ok=True)
    with locks.only_one(folder.path):
        plan = planned(clouds, folder, options)
        if not options.tiles:
            corners = np.array([corner for cell in plan.cells for corner in cell.reach()])
            files.check_digits(output, plan.to_world(corners))
        with cluster.connected(options.scheduler, options.workers,
                               options.memory) as (client, workers):
            scene = Scene(plan, folder, Program(root, options.memory), jobs.code_digest(root),
                          client, workers)
            names = make_parts(scene)
        ends = Ends(options.closed, options.trim, options.fill)
        mesh = assembly.assemble(plan, folder, names, ends)
        if options.tiles:
            tiles = assembly.write_tiles(output, mesh, plan, f".{options.tiles}")
            log.info(f"{len(tiles)} tiles")
        else:
            files.write(output, mesh)
        log.info(f"{len(mesh.points)} vertices, {len(mesh.faces)} faces")
        assembly.report(mesh, folder)
        log.info(output)


def planned(clouds: list[Path], folder: Folder, options: Options) -> Plan:
    """The plan of a scene: the one that is there, if it is of the same files and flags."""
    settings = options.decisive(clouds)
    plan = folder.read_plan()
    if plan is None or plan.settings != settings:
        plan = survey.make_plan(clouds, folder, settings)
    return plan


def make_parts(scene: Scene) -> list[str]:
    """Do all jobs of a scene. Returns the cells that have a part, by name.

    A cell that fails is named, and the others do without it. Raises UserError where none is left.
    """
    cells = with_points(scene)
    failed = scene.run([scene.order(SIDES)], lambda outcome: None)
    if failed and failed[0].failure:
        raise UserError(f"the sides of the scene: {failed[0].failure}")
    log.info(f"sides: {scene.order(SIDES).said().get('report')}")
    log.info(f"{len(cells)} cells to train")
    names = [cell.name for cell in cells]
    trained = surviving(scene, [scene.order(TRAIN, name) for name in names])
    around = {name: [other.name for other in scene.plan.around(scene.plan.cell(name))
                     if other.name in trained] for name in trained}
    detailed = surviving(scene, [scene.order(DETAIL, name, around[name]) for name in trained])
    with_heights = {name: [other for other in around[name] if other in detailed]
                    for name in trained}
    return surviving(scene, [scene.order(MESH, name, around[name], with_heights[name])
                             for name in trained])


def with_points(scene: Scene) -> list[Cell]:
    """The cells with enough points for a network, in the plan's order."""
    counts = [len(np.load(scene.folder.points(cell.name), mmap_mode="r"))
              for cell in scene.plan.cells]
    few = sum(count for count in counts if count < FEWEST)
    if few:
        log.warning(f"{sum(count < FEWEST for count in counts)} cells with {few} points together "
                    f"are left out: fewer than {FEWEST} points teach a network nothing")
    found = [cell for cell, count in zip(scene.plan.cells, counts) if count >= FEWEST]
    if not found:
        raise UserError("no cell has enough points: --cell-points takes larger ones")
    return found


def surviving(scene: Scene, orders: list[Order]) -> list[str]:
    """Do the jobs of cells. Returns those that are done, by name, in their order; a line for each
    training and each failure. Raises UserError where none is."""
    done = sum(order.is_done(scene.plan) for order in orders)

    def tell(outcome: Outcome) -> None:
        nonlocal done
        done += 1
        order = outcome.order
        if outcome.failure:
            log.warning(f"cell {order.cell}: {order.kind} failed {cluster.ATTEMPTS} times, and the "
                        f"mesh is made without it: {outcome.failure}")
        elif order.kind == TRAIN:
            cell = scene.plan.cell(order.cell)
            log.info(f"cell {order.cell}: {cell.points} points, trained in "
                     f"{outcome.seconds:.0f} s ({done} of {len(orders)})")

    outcomes = scene.run(orders, tell)
    if outcomes and orders[0].kind != TRAIN:
        seconds = sum(outcome.seconds for outcome in outcomes)
        log.info(f"{orders[0].kind}: {len(outcomes)} cells, {seconds:.0f} s of workers")
    found = [order.cell for order in orders if order.is_done(scene.plan)]
    if not found:
        raise UserError(f"no cell has a {orders[0].kind}: {outcomes[0].failure}")
    return found
