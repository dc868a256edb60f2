"""What a job of a scene does: files in, files out.

A job is a process of its own, `python -m igr job ORDER`, so its memory ends with it, and a crash of
a library ends it alone. It writes its results whole or not at all, and last a mark with a
fingerprint of what it was made from: a job whose mark is there is not done again, and one that was
killed is. A training goes on from its newest checkpoint.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, NamedTuple

import helper
from helper import UserError, fingerprint
from igr.backend import devices, memory, threads
from igr.field import checkpoints
from igr.scene import meshing, sides
from igr.scene.blend import Blend, Member
from igr.scene.meshing import CellDetail
from igr.scene.plan import Cell, Folder, Plan
from igr.training import schedule

import numpy as np

RECIPE = 3  # grows with a change of what the jobs compute
DRAFT = 1_000  # steps of a draft at most: in a building 700 lose three times as much of the surface
SIDES, TRAIN, DETAIL, MESH = KINDS = ("sides", "train", "detail", "mesh")


class Tools(NamedTuple):
    """What the scripts lend to the jobs."""

    fit: Callable[[Path, Path, dict[str, Any]], Path]  # cloud, run folder, flags: the checkpoint
    resume: Callable[[Path], Path]  # run folder: the checkpoint
    load: Callable[[Path], Any]  # checkpoint: networks.Network


class Order(NamedTuple):
    """What a job is told."""

    folder: str  # of the scene
    kind: str  # one of KINDS
    cell: str  # its name; "" for the sides
    trained: list[str]  # cells around it that have a network
    detailed: list[str]  # cells around it that have heights
    code: str  # digest of the program, so that a worker of another version refuses
    threads: int = 1  # more where no other job runs beside it; its result is the same

    def place(self) -> Path:
        """The folder of the job's files."""
        folder = Folder(Path(self.folder))
        return folder.cell(self.cell) if self.cell else folder.path

    def mark(self) -> Path:
        """The file that says that the job is done."""
        return self.place() / f"{self.kind}.json"

    def fingerprint(self, plan: Plan) -> str:
        """Of all that the job's result depends on."""
        return fingerprint(plan.digest, f"recipe {RECIPE}", self.kind, self.cell,
                           repr((self.trained, self.detailed)))

    def is_done(self, plan: Plan) -> bool:
        """Whether the job's results are there, made from the same."""
        return self.said().get("fingerprint") == self.fingerprint(plan)

    def said(self) -> dict[str, Any]:
        """What the mark says; {} without a good one."""
        try:
            said = json.loads(self.mark().read_text())
        except (OSError, ValueError):
            return {}
        return said if isinstance(said, dict) else {}


def code_digest(root: Path) -> str:
    """A digest of the program's files."""
    files = sorted([*root.glob("*.py"), *root.glob("igr/**/*.py")])
    return fingerprint(*(text for path in files
                         for text in (str(path.relative_to(root)), path.read_text())))


def do(order: Order, tools: Tools, most: int) -> None:
    """Do a job, unless it is done. most: bytes that it may hold, but for a training on CUDA, whose
    own memory counts there. Raises UserError where its input cannot serve or takes more."""
    folder = Folder(Path(order.folder))
    plan = folder.read_plan()
    if plan is None:
        raise UserError(f"{folder.path}: has no plan")
    if order.is_done(plan):
        return
    threads.set_count(order.threads)
    if order.kind != TRAIN or not devices.may_use_cuda(plan.settings["context"]):
        memory.limit(most)
    work = {SIDES: _tell_sides, TRAIN: _train, DETAIL: _fit_detail, MESH: _make_part}[order.kind]
    try:
        said = work(order, plan, tools)
    except MemoryError:
        raise UserError(f"{memory.size(most)} are too little for its {order.kind}: --memory gives "
                        "more, --cell-points makes smaller cells") from None
    helper.write_json(order.mark(), {"fingerprint": order.fingerprint(plan), **said})


def _tell_sides(order: Order, plan: Plan, tools: Tools) -> dict[str, Any]:
    return {"report": sides.tell_sides(Folder(Path(order.folder)), plan)}


def _train(order: Order, plan: Plan, tools: Tools) -> dict[str, Any]:
    folder = Folder(Path(order.folder))
    cloud = sides.oriented(folder, plan, plan.cell(order.cell))
    place = order.place()
    path, run, begun = place / "cloud.npy", place / "run", place / "begun.json"
    with helper.replacing(path) as temporary:
        np.save(temporary, np.concatenate([cloud.points, cloud.normals], axis=1))
    flags = {"with_normals": True, "trust_normals": True, "threads": 1, "quiet": True,
             "tau": schedule.TAU if cloud.scattered else schedule.EXACT_TAU,
             "tolerance": schedule.TOLERANCE if cloud.noisy else 0.0,
             **{name: plan.settings[name] for name in ("quality", "train_iter", "dims", "context")}}
    if flags["quality"] == "draft" and not flags["train_iter"]:
        flags["max_iter"] = DRAFT
    wanted = {"fingerprint": order.fingerprint(plan), **flags}
    same = begun.exists() and json.loads(begun.read_text()) == wanted
    if same and any(run.glob("param_*.h5")):
        checkpoint = tools.resume(run)
    else:
        begun.unlink(missing_ok=True)
        for old in run.glob("param_*.h5"):
            old.unlink()
        helper.write_json(begun, wanted)
        checkpoint = tools.fit(path, run, flags)
    return {"checkpoint": checkpoint.name, "points": len(cloud.points)}


def _checkpoint(folder: Folder, name: str) -> Path:
    """The checkpoint of a cell that was trained."""
    said = Order(str(folder.path), TRAIN, name, [], [], "").said()
    return folder.cell(name) / "run" / str(said.get("checkpoint"))


def _blend(order: Order, plan: Plan, tools: Tools) -> tuple[Blend, dict[str, Any]]:
    """The blended function around the order's cell, and what its own checkpoint says."""
    folder = Folder(Path(order.folder))
    members, info = [], {}
    for name in order.trained:
        network = tools.load(_checkpoint(folder, name))
        members.append(Member(plan.cell(name), network.frame, network.mlp.evaluate,
                              network.mlp.evaluate_with_gradient))
        if name == order.cell:
            info = network.info
    own = next(member for member in members if member.cell.name == order.cell)
    return Blend(plan, members, own), info


def _fit_detail(order: Order, plan: Plan, tools: Tools) -> dict[str, Any]:
    blend, info = _blend(order, plan, tools)
    points = np.load(order.place() / "cloud.npy")[:, :3]
    held_out = checkpoints.unpacked(info["held_out"], len(points))
    found = meshing.fit_detail(blend, points, held_out if held_out.any() else None)
    found.write(order.place() / "detail.npz")
    return {"noise": found.noise}


def _make_part(order: Order, plan: Plan, tools: Tools) -> dict[str, Any]:
    folder = Folder(Path(order.folder))
    blend, _ = _blend(order, plan, tools)
    cell: Cell = blend.own.cell
    details = {name: CellDetail.read(folder.cell(name) / "detail.npz", plan, cell)
               for name in order.detailed}
    points = np.load(order.place() / "cloud.npy")[:, :3]
    part = meshing.make_part(blend, details, points)
    part.write(order.place() / "part.npz")
    return {"faces": len(part.faces)}
