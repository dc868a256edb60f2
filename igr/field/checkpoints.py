"""Read and write checkpoints: a network's parameters, and all that inference needs to know.

A checkpoint is nnabla's own parameter file (`nn.load_parameters` reads it) with one HDF5 attribute
`igr` at its root: a JSON object with the architecture, the shape's frame, the volume factor, the
cloud, the training's flags and a sha256 of the parameters. A file without it is taken for one of
the published nnabla-examples models.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from pathlib import Path
import re

import helper
from helper import UserError

import numpy as np


def save_checkpoint(path: str | Path, parameters: dict, info: dict) -> None:
    """Write nnabla variables `parameters` and the JSON object `info` to the .h5 file `path`.

    The layout is that of nnabla's save_parameters.
    """
    arrays = {name: variable.d for name, variable in parameters.items()}
    save_arrays(path, arrays, {**info, "version": helper.__version__})


def load_checkpoint(path: str | Path) -> tuple[dict, dict | None]:
    """Read a .h5 checkpoint.

    Returns (arrays, info): `arrays` maps "fc0/affine/W" (in, out), "fc0/affine/b" (out,), ... to
    float32 arrays; `info` is the object that save_checkpoint wrote, or None for a file of the
    published nnabla-examples models.
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
        info = _checked_info(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{path}: the checkpoint's igr attribute is damaged") from None
    beside = Path(path).parent / Path(info.get("cloud", "")).name
    if beside.is_file() and not Path(info["cloud"]).is_file():  # both were moved
        info["cloud"] = str(beside)
    return arrays, info


def _checked_info(info: dict) -> dict:
    """Check the entries that are read later; returns info. Raises ValueError (or KeyError,
    TypeError) where one is missing or has another type."""
    network, frame = info["architecture"], info["frame"]
    numbers = [*frame["center"], frame["scale"], info["volume_factor"], network["beta"],
               network["skip_scale"], network["dims"]]
    good = len(numbers) == 8 and all(type(v) in (int, float) for v in numbers)
    good = good and np.isfinite(numbers).all() and min(numbers[3:]) > 0
    good = good and set(network) == {"dims", "activation", "beta", "skip_scale", "frequencies",
                                     "opened"}
    good = good and type(network["dims"]) is type(network["frequencies"]) is int
    good = good and 0 <= network["opened"] <= network["frequencies"] <= 16
    good = good and network["activation"] in ("softplus", "leaky_relu")
    for name, kind in (("step", int), ("flags", dict), ("cloud", str), ("cloud_sha256", str),
                       ("cloud_file_sha256", str), ("held_out", str), ("paper", bool),
                       ("ranks", int), ("first_losses", dict), ("seconds", float)):
        good = good and isinstance(info.get(name, kind()), kind)
    looks = info.get("looks", [])
    good = good and isinstance(looks, list) and all(len(look) == 4 for look in looks)
    good = good and type(info.get("ends")) in (int, type(None))
    base64.b64decode(info.get("held_out", ""), validate=True)
    if not good:
        raise ValueError
    return info


def packed(mask: np.ndarray) -> str:
    """Encode a mask (N,) as text, eight entries a byte."""
    return base64.b64encode(np.packbits(mask)).decode()


def unpacked(text: str, n: int) -> np.ndarray:
    """Decode the mask of n entries that packed() encoded; without text all are False."""
    if not text:  # numpy leaves the bits of no bytes at all uninitialised
        return np.zeros(n, bool)
    return np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8), count=n).astype(bool)


def save_arrays(path: str | Path, arrays: dict, info: dict | None = None) -> None:
    """Write {name: array} to the .h5 file `path`, and the JSON object `info` with the arrays'
    sha256 as its attribute igr."""
    import h5py

    image = io.BytesIO()  # HDF5 crashes the process when it writes to a full disk
    with h5py.File(image, "w") as file:
        for index, (name, array) in enumerate(arrays.items()):
            dataset = file.create_dataset(name, data=array)
            dataset.attrs["need_grad"] = True
            dataset.attrs["index"] = index
        file.attrs["igr"] = json.dumps({**(info or {}), "sha256": _sha256(arrays)})
    with helper.replacing(path) as temporary:
        temporary.write_bytes(image.getbuffer())


def _sha256(arrays: dict) -> str:
    """Hash {name: array} by sha256, whatever the order."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        found.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
    return found.hexdigest()


def load_arrays(path: str | Path) -> tuple[dict, str | None]:
    """Read a .h5 file of plain numbers: ({name: array}, the text of its attribute igr or None).

    Raises UserError where the file is missing, damaged, or holds anything else. Links to other
    files are not followed and nothing is executed.
    """
    import h5py

    path = helper.existing_file(path)
    arrays = {}

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
    except Exception as error:  # damaged files make h5py raise almost any type
        raise UserError(f"{path}: not a checkpoint ({helper.reason_of(error)[:120]})") from None
    if text is None:
        return arrays, None
    try:
        written = json.loads(text).get("sha256")
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{path}: the checkpoint's igr attribute is damaged") from None
    if written is not None and written != _sha256(arrays):
        raise UserError(f"{path}: the checkpoint is damaged (its sha256 does not match)")
    return arrays, text


def checkpoint_of(path: str | Path | None) -> Path:
    """The checkpoint that -mlp names: a file, or the newest one in a folder, without it in this
    one. Raises UserError where the folder has none."""
    if path and not Path(path).is_dir():
        return Path(path)
    found = newest_checkpoint(path or ".")
    helper.log.info(f"taking {found}, the newest checkpoint in {path or 'this folder'} or below")
    return found


def newest_checkpoint(folder: str | Path = ".") -> Path:
    """Find the newest param_NNNNN.h5 in `folder` or below. Raises UserError if there is none."""
    found = [p for p in Path(folder).rglob("param_*.h5") if re.fullmatch(r"param_\d+", p.stem)]
    if not found:
        raise UserError(f"{Path(folder).resolve()}: no param_*.h5 here or below; name it with -mlp")
    return max(found, key=lambda p: (p.stat().st_mtime_ns, p.name))


def trained_cloud(mesh_path: Path) -> Path:
    """Find the cloud that the checkpoint beside a mesh <checkpoint>_mesh.* was trained on.

    Raises UserError where there is no such checkpoint, or its cloud is gone.
    """
    stem = helper.without_suffix(mesh_path).name
    stem = stem[: -len("_mesh")] if stem.endswith("_mesh") else stem
    checkpoint = mesh_path.with_name(stem + ".h5")
    if not checkpoint.is_file():
        raise UserError(f"{checkpoint}: no checkpoint beside the mesh; name the reference yourself")
    cloud = cloud_of(checkpoint)
    if cloud is None:
        raise UserError(f"{checkpoint}: its cloud is unknown or gone; name the reference yourself")
    return cloud


def cloud_of(checkpoint: Path) -> Path | None:
    """Find the cloud that a checkpoint was trained on; None where it is unknown or gone."""
    _, info = load_checkpoint(checkpoint)
    cloud = Path((info or {}).get("cloud", ""))
    return cloud if cloud.is_file() else None
