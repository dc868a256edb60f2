"""A run folder: checkpoints with their solver's state, the log, and how a run goes on.

    param_NNNNN.h5      weights and everything about the run (see helper.save_checkpoint)
    state_SSSSSSSS.h5   the solver's state at step SSSSSSSS, of the newest two checkpoints
    preview_NNNNN.png   pictures of the surface, where they were asked for
    log.jsonl           one JSON object a line; nnabla's monitor series *.series.txt say the same

A checkpoint is good when its own file and the state of its step are whole. The state is written
first, each file beside its place and then moved there, so a kill at any instant leaves the former
checkpoint good. All random numbers of a step depend on the seed and the step only, so a run that
goes on from a checkpoint does bit for bit what it would have done.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
import re
from typing import NamedTuple

import helper
from helper import UserError

import nnabla.monitor as M
import numpy as np

LARGEST = 1e6  # of a weight; trained ones stay below 10
STATES_KEPT = 2  # of the newest checkpoints
# what a run writes, and nothing else; and what a kill leaves of it half written
OURS = re.compile(r"param_\d+\.h5|state_\d{8}\.h5|preview_\d+\.png|log\.jsonl|[a-z_]+\.series\.txt")
LEFTOVER = re.compile(r"\.writing-((param|state|preview)_\d+|log)-[^.]*\.(h5|jsonl|png)")


class Checkpoint(NamedTuple):
    path: Path
    parameters: dict  # name -> float32 array
    info: dict  # what helper.save_checkpoint was given
    moments: dict  # "mean/name", "var/name" -> float32 array, and "t"


class Run:
    """The files of a run; `folder` is made when missing."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.log = None  # opened by begin() or go_on()

    # --- beginning

    def begin(self, overwrite: bool) -> None:
        """Make the folder ready for a new run. Raises UserError where another run lies in it."""
        old = [p for p in self.folder.glob("*") if OURS.fullmatch(p.name)]
        if old and not overwrite:
            goes_on = "--resume goes on with it, " if self._checkpoints() else ""
            raise UserError(f"{self.folder}: holds another run; {goes_on}--overwrite begins anew, "
                            "-m names another folder")
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in old:
            path.unlink()
        self.log = _Log(self.folder, [])

    def newest(self) -> Checkpoint:
        """The newest good checkpoint; says on stdout which ones were damaged.

        Raises UserError where none is good.
        """
        if not self.folder.is_dir():
            raise UserError(f"{self.folder}: no such run to resume")
        for path in reversed(self._checkpoints()):
            try:
                return self._load(path)
            except UserError as error:
                print(f"{error}; taking the one before")
        raise UserError(f"{self.folder}: no good checkpoint to resume from; --overwrite begins "
                        "anew")

    def go_on(self, checkpoint: Checkpoint) -> None:
        """Cut the log back to the checkpoint's step and sweep up after a kill."""
        for leftover in self.folder.glob(".writing-*"):
            if LEFTOVER.fullmatch(leftover.name):
                leftover.unlink()
        self.log = _Log(self.folder, self._rows(checkpoint.info["step"]))

    def _checkpoints(self) -> list:
        """In the order of their epochs."""
        found = [p for p in self.folder.glob("param_*.h5") if re.fullmatch(r"param_\d+", p.stem)]
        return sorted(found, key=lambda p: int(p.stem[len("param_"):]))

    def _load(self, path: Path) -> Checkpoint:
        parameters, info = helper.load_checkpoint(path)
        needed = {"step", "flags", "cloud_sha256", "first_losses", "seconds"}
        if info is None or not needed <= info.keys():
            raise UserError(f"{path}: not a checkpoint that a run can go on from")
        moments, _ = helper.load_arrays(self._state(info["step"]))
        return Checkpoint(path, parameters, info, moments)

    def _state(self, step: int) -> Path:
        return self.folder / f"state_{step:08d}.h5"

    def _rows(self, step: int) -> list:
        """The whole lines of the log up to `step`."""
        rows, path = [], self.folder / "log.jsonl"
        for line in path.read_text().splitlines() if path.is_file() else []:
            try:
                row = json.loads(line)
            except ValueError:  # the last line of a killed run
                continue
            if row["step"] <= step:
                rows.append(row)
        return rows

    # --- going on

    def save(self, epoch: int, parameters: dict, moments: dict, info: dict) -> Path:
        """Write a checkpoint of nnabla variables `parameters` and the solver's moments.

        Raises UserError, and writes nothing, where they are not finite or the weights absurd.
        """
        good = all(np.isfinite(array).all() for array in moments.values())
        if not good or not all(np.abs(v.d).max() < LARGEST for v in parameters.values()):
            raise UserError(f"the weights are out of bounds at step {info['step']}: take a smaller "
                            "-lr; the former checkpoints are good")
        helper.save_arrays(self._state(info["step"]), moments)
        path = self.folder / f"param_{epoch:05d}.h5"
        helper.save_checkpoint(path, parameters, {**info, "epoch": epoch})
        needed = {self._state(info["step"])}
        for other in self._checkpoints()[-STATES_KEPT:]:
            with contextlib.suppress(UserError):
                needed.add(self._state((helper.load_checkpoint(other)[1] or {}).get("step", 0)))
        for state in self.folder.glob("state_*.h5"):
            if state not in needed:
                state.unlink()
        return path


class _Log:
    """log.jsonl and nnabla's monitor series, begun with the rows of the run so far."""

    def __init__(self, folder: Path, rows: list):
        self.monitor, self.series = M.Monitor(str(folder)), {}
        with helper.replacing(folder / "log.jsonl") as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))
        for row in rows:
            self._add(**row)
        self.file = open(folder / "log.jsonl", "a", buffering=1)

    def write(self, step: int, **values) -> None:
        self.file.write(json.dumps({"step": step, **values}) + "\n")
        self._add(step, **values)

    def _add(self, step: int, **values) -> None:
        for name, value in values.items():
            if name not in self.series:
                self.series[name] = M.MonitorSeries(name, self.monitor, interval=1, verbose=False)
            self.series[name].add(step, value)
