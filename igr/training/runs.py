"""The run folder: checkpoints with the solver's state, the log, and whether a run may continue.

    param_NNNNN.h5      weights at epoch NNNNN and everything about the run (see checkpoints.py)
    state_SSSSSSSS.h5   the solver's state at step SSSSSSSS, for the newest two checkpoints
    preview_NNNNN.png   pictures of the surface, if they were asked for
    log.jsonl           one JSON object a line; nnabla's monitor series *.series.txt say the same
    .lock               while a process trains there, see locks.py

A checkpoint is good when its own file and the state of its step are whole. The state is written
first, and each file is written beside its place and then moved there, so a kill at any instant
leaves the previous checkpoint good. All random numbers of a step depend on the seed and the step
only, so a resumed run is equal, bit for bit, to one that was not stopped.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
import re
from typing import Any, Iterator, NamedTuple

import helper
from helper import UserError
from igr.field import checkpoints
from igr.training import locks

import nnabla.monitor as M
import numpy as np

MAX_WEIGHT = 1e6  # trained weights stay below 10
STATES_KEPT = 2  # for the newest checkpoints
# the files that a run writes, and those that a kill leaves half written; others are never touched
RUN_FILE = re.compile(
    r"param_\d+\.h5|state_\d{8}\.h5|preview_\d+\.png|log\.jsonl|[a-z_]+\.series\.txt")
HALF_WRITTEN = re.compile(r"\.writing-((param|state|preview)_\d+|log)-[^.]*\.(h5|jsonl|png)")
NEEDED_TO_RESUME = {"step", "flags", "cloud", "cloud_sha256", "first_losses", "seconds"}


class Checkpoint(NamedTuple):
    """A checkpoint from which a run can continue."""

    path: Path
    parameters: dict  # name -> float32 array
    info: dict  # what save_checkpoint was given
    state: dict  # arrays by name: the solver's, see solvers.state_of


class RunFolder:
    """The files of a run. begin() or continue_from() opens the log; save() needs neither.

    A training reads and writes them within alone().
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.log: Log | None = None

    @contextlib.contextmanager
    def alone(self, make: bool = False) -> Iterator[None]:
        """Keep other processes from training in the folder, and close the log after the block.

        make: the folder, where it is missing. Raises UserError where another process trains there,
        or the folder is missing.
        """
        if make:
            self.folder.mkdir(parents=True, exist_ok=True)
        if not self.folder.is_dir():
            raise UserError(f"{self.folder}: no such run to resume")
        with locks.only_one(self.folder):
            try:
                yield
            finally:
                if self.log:
                    self.log.file.close()

    def begin(self, overwrite: bool) -> None:
        """Make the folder ready for a new run. Raises UserError where it holds another run."""
        old = [p for p in self.folder.glob("*") if RUN_FILE.fullmatch(p.name)]
        if old and not overwrite:
            resume = "--resume continues it, " if self._parameter_files() else ""
            raise UserError(f"{self.folder}: holds another run; {resume}--overwrite replaces it, "
                            "-m names another folder")
        for path in old:
            path.unlink()
        self.log = Log(self.folder, [])

    def newest(self) -> Checkpoint:
        """Read the newest good checkpoint; warns which ones are damaged.

        Raises UserError where none is good.
        """
        for path in reversed(self._parameter_files()):
            try:
                return self._load(path)
            except UserError as error:
                helper.log.warning(f"{error}; trying the one before")
        raise UserError(f"{self.folder}: no good checkpoint to resume from; --overwrite starts "
                        "a new run")

    def continue_from(self, checkpoint: Checkpoint) -> None:
        """Cut the log back to the checkpoint's step and remove what a kill left half written."""
        for path in self.folder.glob(".writing-*"):
            if HALF_WRITTEN.fullmatch(path.name):
                path.unlink()
        self.log = Log(self.folder, self._log_rows(checkpoint.info["step"]))

    def save(self, epoch: int, parameters: dict, state: dict, info: dict) -> Path:
        """Write a checkpoint of nnabla variables `parameters` and the state's arrays.

        Raises UserError, and writes nothing, where they are not finite or a weight is absurd.
        """
        good = all(np.isfinite(array).all() for array in state.values())
        if not good or not all(np.abs(v.d).max() < MAX_WEIGHT for v in parameters.values()):
            raise UserError(f"the weights are out of bounds at step {info['step']}: take a smaller "
                            "-lr; the earlier checkpoints are good")
        checkpoints.save_arrays(self._state_file(info["step"]), state)
        path = self.parameter_file(epoch)
        checkpoints.save_checkpoint(path, parameters, {**info, "epoch": epoch})
        needed = {self._state_file(info["step"])}
        for other in self._parameter_files()[-STATES_KEPT:]:
            with contextlib.suppress(UserError):
                _, saved = checkpoints.load_checkpoint(other)
                needed.add(self._state_file((saved or {}).get("step", 0)))
        for state in self.folder.glob("state_*.h5"):
            if state not in needed:
                state.unlink()
        return path

    def parameter_file(self, epoch: int) -> Path:
        """Where the weights of an epoch are or will be."""
        return self.folder / f"param_{epoch:05d}.h5"

    def _state_file(self, step: int) -> Path:
        return self.folder / f"state_{step:08d}.h5"

    def _parameter_files(self) -> list:
        """The files of weights in the order of their epochs."""
        found = [p for p in self.folder.glob("param_*.h5") if re.fullmatch(r"param_\d+", p.stem)]
        return sorted(found, key=lambda p: int(p.stem[len("param_"):]))

    def _load(self, path: Path) -> Checkpoint:
        parameters, info = checkpoints.load_checkpoint(path)
        if info is None or not NEEDED_TO_RESUME <= info.keys():
            raise UserError(f"{path}: a run cannot continue from this checkpoint")
        state, _ = checkpoints.load_arrays(self._state_file(info["step"]))
        return Checkpoint(path, parameters, info, state)

    def _log_rows(self, step: int) -> list:
        """Read the complete lines of the log up to `step`."""
        path = self.folder / "log.jsonl"
        rows = []
        for line in path.read_text().splitlines() if path.is_file() else []:
            try:
                row = json.loads(line)
            except ValueError:  # the last line of a killed run
                continue
            if row["step"] <= step:
                rows.append(row)
        return rows


class Log:
    """Write log.jsonl and nnabla's monitor series; both start with the rows of the run so far."""

    def __init__(self, folder: Path, rows: list):
        self.monitor = M.Monitor(str(folder))
        self.series = {}
        with helper.replacing(folder / "log.jsonl") as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))
        for row in rows:
            self._add_to_series(**row)
        self.file = open(folder / "log.jsonl", "a", buffering=1)

    def write(self, step: int, **values: float) -> None:
        with helper.naming(self.file.name):
            self.file.write(json.dumps({"step": step, **values}) + "\n")
            self._add_to_series(step, **values)

    def _add_to_series(self, step: int, **values: float) -> None:
        for name, value in values.items():
            if name not in self.series:
                self.series[name] = M.MonitorSeries(name, self.monitor, interval=1, verbose=False)
            self.series[name].add(step, value)


# ------------------------------------------------------------------------------ may a run continue?


def flags_to_resume(info: dict, given: dict[str, Any], fixed: list[str]) -> dict[str, Any]:
    """Replace flags of a checkpoint's run by the given ones, if the run may change them.

    info: the checkpoint's; given: the new flags; fixed: the names of those that a run keeps. A
    finished run may get more steps: then "finished" is the number that it had.
    Raises UserError naming each given flag that is fixed and contradicts the run.
    """
    saved = info["flags"]
    done = info["step"]
    if done == info.get("ends", saved["train_iter"]) and (given.get("train_iter") or 0) > done:
        saved = {**saved, "train_iter": given["train_iter"], "finished": done}
    contradicting = [f"--{name.replace('_', '-')} {given[name]} (the run has {saved.get(name)})"
                     for name in sorted(given)
                     if name in fixed and given[name] != saved.get(name)]
    if contradicting:
        raise UserError(f"--resume cannot change {', '.join(contradicting)}; leave it out, or "
                        "start a new run in another folder")
    flags = {**saved, "fpath": info["cloud"], "quiet": False, **given}
    if flags["threads"] > helper.cores() and "threads" not in given:
        helper.log.warning(f"the run had {flags['threads']} threads, this machine has "
                           f"{helper.cores()} cores: rounding will differ")
        flags["threads"] = helper.cores()
    return flags


def check_same(info: dict, saved: dict, folder: str | Path) -> None:
    """Check that a run continues with its own cloud, in one process. Raises UserError.

    info: of the run as it would continue; saved: the checkpoint's.
    """
    if info["cloud_sha256"] != saved["cloud_sha256"]:
        raise UserError(f"{info['flags']['fpath']}: other points than the run in {folder} was "
                        "trained on; --resume needs the same cloud")
    if saved.get("ranks", 1) != 1:  # of versions that trained with MPI
        raise UserError(f"{folder}: the run was trained by {saved['ranks']} processes together, "
                        "which is no longer possible; infer.py still makes its mesh")
