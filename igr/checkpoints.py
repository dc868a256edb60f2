"""A run folder: checkpoints with their solver's state, the log, and how a run goes on.

    param_NNNNN.h5      weights and everything about the run (see save_checkpoint)
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
import hashlib
import io
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
    info: dict  # what save_checkpoint was given
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
        parameters, info = load_checkpoint(path)
        needed = {"step", "flags", "cloud_sha256", "first_losses", "seconds"}
        if info is None or not needed <= info.keys():
            raise UserError(f"{path}: not a checkpoint that a run can go on from")
        moments, _ = load_arrays(self._state(info["step"]))
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
        save_arrays(self._state(info["step"]), moments)
        path = self.folder / f"param_{epoch:05d}.h5"
        save_checkpoint(path, parameters, {**info, "epoch": epoch})
        needed = {self._state(info["step"])}
        for other in self._checkpoints()[-STATES_KEPT:]:
            with contextlib.suppress(UserError):
                needed.add(self._state((load_checkpoint(other)[1] or {}).get("step", 0)))
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


# ------------------------------------------------------------------------------ parameter files


def save_checkpoint(path, parameters: dict, info: dict) -> None:
    """Write nnabla variables `parameters` and the JSON object `info` to the .h5 file `path`, laid
    out as nnabla's save_parameters does."""
    arrays = {name: variable.d for name, variable in parameters.items()}
    save_arrays(path, arrays, {**info, "version": helper.__version__})


def load_checkpoint(path):
    """Read a .h5 checkpoint.

    Returns (arrays, info): `arrays` maps "fc0/affine/W", ... to float32 arrays; `info` is the
    object that save_checkpoint wrote, or None for a file of the published nnabla-examples models.
    Raises UserError where the file is missing, is no HDF5, or does not hold an MLP.
    """
    arrays, text = load_arrays(path)
    layers = range(len(arrays) // 2)
    names = [f"fc{layer}/affine/{name}" for layer in layers for name in "Wb"]
    if not arrays or set(names) != set(arrays):
        raise UserError(f"{path}: not a checkpoint of this network (it holds {sorted(arrays)[:3]})")
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise UserError(f"{path}: the checkpoint's parameters are not finite")
    arrays = {name: arrays[name].astype(np.float32) for name in names}
    if text is None:
        return arrays, None
    try:
        return arrays, _checked_info(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{path}: the checkpoint's igr attribute is damaged") from None


def _checked_info(info: dict) -> dict:
    """info, where all that is read from it later has the type it should; else ValueError."""
    network, frame = info["architecture"], info["frame"]
    numbers = [*frame["center"], frame["scale"], info["volume_factor"], network["beta"],
               network["skip_scale"], network["dims"]]
    good = len(numbers) == 8 and all(type(v) in (int, float) for v in numbers)
    good = good and np.isfinite(numbers).all() and min(numbers[3:]) > 0
    good = good and set(network) == {"dims", "activation", "beta", "skip_scale"}
    good = good and type(network["dims"]) is int
    good = good and network["activation"] in ("softplus", "leaky_relu")
    for name, kind in (("step", int), ("flags", dict), ("cloud", str), ("cloud_sha256", str),
                       ("first_losses", dict), ("seconds", float)):
        good = good and isinstance(info.get(name, kind()), kind)
    if not good:
        raise ValueError
    return info


def save_arrays(path, arrays: dict, info=None) -> None:
    """Write {name: array}, and a JSON object as the attribute igr, to the .h5 file `path`."""
    import h5py

    image = io.BytesIO()  # HDF5 itself crashes the process when a disk is full
    with h5py.File(image, "w") as file:
        for index, (name, array) in enumerate(arrays.items()):
            dataset = file.create_dataset(name, data=array)
            dataset.attrs["need_grad"], dataset.attrs["index"] = True, index
        file.attrs["igr"] = json.dumps({**(info or {}), "sha256": _sha256(arrays)})
    with helper.replacing(path) as temporary:
        temporary.write_bytes(image.getbuffer())


def _sha256(arrays: dict) -> str:
    """A fingerprint of {name: array}."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        found.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
    return found.hexdigest()


def load_arrays(path):
    """({name: array}, text of the attribute igr or None) of a .h5 file with plain numbers.

    Raises UserError where the file is missing, damaged, or holds anything else: links to other
    files are not followed and nothing is executed.
    """
    import h5py

    path, arrays = helper.existing_file(path), {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            if item.dtype.kind not in "fiu" or item.external or item.is_virtual:
                raise ValueError(f"{name} is no plain array of numbers")
            if item.size + sum(a.size for a in arrays.values()) > 64 * path.stat().st_size:
                raise ValueError(f"{name} promises more than the file holds")
            arrays[name] = item[...]

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)
            text = file.attrs.get("igr")
    except Exception as error:  # h5py raises every type there is for damaged files
        raise UserError(f"{path}: not a checkpoint ({helper.reason_of(error)[:120]})") from None
    if text is None:
        return arrays, None
    try:
        written = json.loads(text).get("sha256")
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{path}: the checkpoint's igr attribute is damaged") from None
    if written is not None and written != _sha256(arrays):
        raise UserError(f"{path}: the checkpoint is damaged (its sha256 is another)")
    return arrays, text


def newest_checkpoint(folder=".") -> Path:
    """The most recently written param_NNNNN.h5 in `folder` or below. Raises UserError if none."""
    found = [p for p in Path(folder).rglob("param_*.h5") if re.fullmatch(r"param_\d+", p.stem)]
    if not found:
        raise UserError(f"{Path(folder).resolve()}: no param_*.h5 here or below; name it with -mlp")
    return max(found, key=lambda p: (p.stat().st_mtime_ns, p.name))


def trained_cloud(mesh_path: Path) -> Path:
    """The cloud that the checkpoint beside a mesh <checkpoint>_mesh.* was trained on."""
    stem = helper.without_suffix(mesh_path).name
    stem = stem[: -len("_mesh")] if stem.endswith("_mesh") else stem
    checkpoint = mesh_path.with_name(stem + ".h5")
    if not checkpoint.is_file():
        raise UserError(f"{checkpoint}: no checkpoint beside the mesh; name the reference yourself")
    _, info = load_checkpoint(checkpoint)
    if not info or not Path(info.get("cloud", "")).is_file():
        raise UserError(f"{checkpoint}: its cloud is unknown or gone; name the reference yourself")
    return Path(info["cloud"])
