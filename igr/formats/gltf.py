"""Khronos' glTF 2.0: the meshes or points of a scene, where its nodes place them.

Both readers return a Geometry, which files.read checks, and raise UserError, without the file's
name, where the file is not of its format or needs an extension that changes its numbers.
"""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from helper import UserError, reason_of
from igr.formats import streams
from igr.formats.columns import unit_colors
from igr.geometry.frames import Geometry

import numpy as np

KINDS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
POINTS, TRIANGLES, STRIP, FAN = 0, 4, 5, 6  # modes of a primitive; the rest are lines
# of extensions that a file may require: those that change no points and no faces
HARMLESS = ("KHR_mesh_quantization", "KHR_materials", "KHR_texture", "EXT_texture", "KHR_lights",
            "KHR_xmp", "KHR_animation", "KHR_node_visibility")
JSON, BINARY = 0x4E4F534A, 0x004E4942  # kinds of a glb file's chunks


class _Scene(NamedTuple):
    """A file's parts."""

    tree: dict  # its JSON
    buffers: list  # bytes of each
    folder: Path | None  # of the files that it names


def read_glb(data: bytes) -> Geometry:
    """As read_gltf(), of a glb file's bytes."""
    if data[:4] != b"glTF":
        raise UserError("not a readable glb file: it does not begin with glTF")
    version, length = (int(v) for v in np.frombuffer(data[4:12], "<u4")) if len(data) > 11 else (0,
                                                                                                0)
    if version != 2 or length > len(data):
        raise UserError("cut short: the glb file promises more bytes" if version == 2 else
                        f"a glb file of version {version}; version 2 is read")
    chunks = {}
    start = 12
    while start + 8 <= length:
        size, kind = (int(v) for v in np.frombuffer(data[start : start + 8], "<u4"))
        chunks.setdefault(kind, data[start + 8 : start + 8 + size])
        start += 8 + size
    return _read(chunks.get(JSON, b""), chunks.get(BINARY), None)


def read_gltf(path: Path) -> Geometry:
    """All meshes of a gltf file's scene, where it places them, or its points if it has no mesh;
    with colours and normals if all have them. Buffers and pictures are files beside it."""
    return _read(path.read_bytes(), None, path.parent)


def _read(text: bytes, binary: bytes | None, folder: Path | None) -> Geometry:
    try:
        tree = json.loads(text)
        unknown = [name for name in tree.get("extensionsRequired", [])
                   if not name.startswith(HARMLESS)]
        if unknown:
            raise UserError(f"needs the extension {unknown[0]}, which is not read; export it "
                            "without that")
        buffers = [_buffer(buffer, binary, folder) for buffer in tree.get("buffers", [])]
        return _joined(list(_shapes(_Scene(tree, buffers, folder))))
    except UserError:
        raise
    except Exception as error:  # the tree may hold anything
        raise UserError(f"not a readable gltf or glb file ({type(error).__name__}: "
                        f"{reason_of(error)[:80]})") from None


def _joined(shapes: list) -> Geometry:
    """One geometry of all meshes, or of all clouds where there is no mesh."""
    chosen = [shape for shape in shapes if shape.faces is not None] or shapes
    if not chosen or not sum(len(shape.points) for shape in chosen):
        raise UserError("the gltf or glb file holds no points")
    if len(chosen) < len(shapes):
        streams.warn("it holds meshes and points: the points are left out")
    starts = np.cumsum([0] + [len(shape.points) for shape in chosen])
    if chosen[0].faces is not None:
        chosen = [shape._replace(faces=shape.faces + start)
                  for shape, start in zip(chosen, starts)]
    return streams.joined(chosen, "parts")


# ---------------------------------------------------------------------------------------- the nodes


def _shapes(scene: _Scene):
    """Yield the geometry of each primitive of the scene's nodes, in the scene's coordinates."""
    tree = scene.tree
    nodes = tree.get("nodes", [])
    children = {child for node in nodes for child in node.get("children", [])}
    roots = [i for i in range(len(nodes)) if i not in children]
    if tree.get("scenes"):
        roots = tree["scenes"][tree.get("scene", 0)].get("nodes", [])
    waiting = [(i, np.eye(4)) for i in reversed(roots)]
    seen = set()
    while waiting:
        i, parent = waiting.pop()
        if i in seen:
            raise UserError("the gltf file's nodes are no tree")
        seen.add(i)
        matrix = parent @ _matrix(nodes[i])
        waiting += [(child, matrix) for child in reversed(nodes[i].get("children", []))]
        if "mesh" in nodes[i]:
            yield from _placed(scene, tree["meshes"][nodes[i]["mesh"]], matrix)


def _matrix(node: dict) -> np.ndarray:
    """The matrix (4, 4) of a node: p_parent = M p."""
    if "matrix" in node:
        return np.array(node["matrix"], np.float64).reshape(4, 4).T
    x, y, z, w = np.array(node.get("rotation", (0, 0, 0, 1)), np.float64)
    turn = np.array([[1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                     [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                     [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]])
    matrix = np.eye(4)
    matrix[:3, :3] = turn * np.array(node.get("scale", (1, 1, 1)), np.float64)
    matrix[:3, 3] = node.get("translation", (0, 0, 0))
    return matrix


def _placed(scene: _Scene, mesh: dict, matrix: np.ndarray):
    """Yield the geometry of each primitive of a mesh that has points or triangles."""
    for primitive in mesh["primitives"]:
        mode = primitive.get("mode", TRIANGLES)
        attributes = primitive["attributes"]
        if mode not in (POINTS, TRIANGLES, STRIP, FAN) or "POSITION" not in attributes:
            continue
        points = _accessor(scene, attributes["POSITION"]).astype(np.float64)
        normals = None
        if "NORMAL" in attributes:
            normals = _accessor(scene, attributes["NORMAL"]) @ np.linalg.pinv(matrix[:3, :3])
        order = np.arange(len(points))
        if "indices" in primitive:
            order = _accessor(scene, primitive["indices"]).reshape(-1).astype(np.int64)
        yield Geometry(points @ matrix[:3, :3].T + matrix[:3, 3], normals,
                       None if mode == POINTS else _triangles(order, mode),
                       _colors(scene, primitive))


def _triangles(order: np.ndarray, mode: int) -> np.ndarray:
    """The faces (n, 3) of the vertices in the order in which a primitive draws them."""
    if mode == TRIANGLES:
        return order[: len(order) // 3 * 3].reshape(-1, 3)
    number = max(len(order) - 2, 0)
    faces = np.stack([order[:number], order[1 : 1 + number], order[2:]], axis=1)
    if mode == FAN:
        faces[:, 0] = order[0] if number else 0
    else:
        faces[1::2] = faces[1::2, [1, 0, 2]]
    same = (faces == np.roll(faces, 1, axis=1)).any(axis=1)  # where a strip goes on elsewhere
    return faces[~same]


def _colors(scene: _Scene, primitive: dict) -> np.ndarray | None:
    """The colours (n, 3) of a primitive's points, their own or those of its picture, or None."""
    attributes = primitive["attributes"]
    if "COLOR_0" in attributes:
        return unit_colors(np.asarray(_accessor(scene, attributes["COLOR_0"])[:, :3]), 1)
    if "material" not in primitive:
        return None
    material = scene.tree["materials"][primitive["material"]]
    texture = material.get("pbrMetallicRoughness", {}).get("baseColorTexture")
    if texture is None or f"TEXCOORD_{texture.get('texCoord', 0)}" not in attributes:
        return None
    try:
        picture = _picture(scene, scene.tree["textures"][texture["index"]]["source"])
    except Exception as error:  # an ornament: of a format that Pillow does not read, missing, ...
        streams.warn(f"its picture is not read ({reason_of(error)[:60]}): colours are left out")
        return None
    place = _accessor(scene, attributes[f"TEXCOORD_{texture.get('texCoord', 0)}"])
    height, width = picture.shape[:2]
    with np.errstate(invalid="ignore"):
        column, row = (np.nan_to_num(place) * (width - 1, height - 1)).round().astype(np.int64).T
    return unit_colors(picture[row % height, column % width])


def _picture(scene: _Scene, number: int) -> np.ndarray:
    """A picture (height, width, 3) of the file."""
    from PIL import Image

    image = scene.tree["images"][number]
    if "bufferView" in image:
        data = _view(scene, image["bufferView"])
    else:
        data = _of_uri(image["uri"], scene.folder)
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


# -------------------------------------------------------------------------------------- the numbers


def _buffer(buffer: dict, binary: bytes | None, folder: Path | None) -> bytes:
    data = _of_uri(buffer["uri"], folder) if "uri" in buffer else binary
    if data is None or len(data) < buffer["byteLength"]:
        raise UserError("cut short: a buffer of the gltf file is shorter than promised, or has no "
                        "data")
    return data


def _of_uri(uri: str, folder: Path | None) -> bytes:
    """The bytes that a URI holds, or those of the file beside the gltf file that it names."""
    if uri.startswith("data:"):
        return base64.b64decode(uri.partition(",")[2])
    if folder is None:
        raise UserError(f"names a file beside it, {uri[:40]}; a glb file has to be whole")
    path = folder / unquote(uri)
    if not path.is_file():
        raise UserError(f"names a file that is not there: {uri[:80]}")
    return path.read_bytes()


def _view(scene: _Scene, number: int) -> bytes:
    view = scene.tree["bufferViews"][number]
    start = view.get("byteOffset", 0)
    data = scene.buffers[view["buffer"]][start : start + view["byteLength"]]
    if start < 0 or len(data) < view["byteLength"]:
        raise UserError("cut short: a part of a buffer lies behind its end")
    return data


def _accessor(scene: _Scene, number: int) -> np.ndarray:
    """The numbers (count, width) that an accessor names; normalized ones from 0 or -1 to 1."""
    accessor = scene.tree["accessors"][number]
    kind = np.dtype(KINDS[accessor["componentType"]])
    shape = (accessor["count"], WIDTHS[accessor["type"]])
    if "bufferView" in accessor:
        values = _strided(scene, accessor, kind, shape)
    elif "sparse" in accessor:
        held = sum(len(buffer) for buffer in scene.buffers)
        if shape[0] * shape[1] * kind.itemsize > streams.unpacked_limit(held):
            raise UserError("the gltf file promises too much for its size: refused")
        values = np.zeros(shape, kind)
    else:
        raise UserError("its numbers are packed by an extension that is not read; export it "
                        "without compression")
    if "sparse" in accessor:
        sparse, count = accessor["sparse"], accessor["sparse"]["count"]
        which = _strided(scene, sparse["indices"],
                         np.dtype(KINDS[sparse["indices"]["componentType"]]), (count, 1))
        values = values.copy()
        values[which[:, 0]] = _strided(scene, sparse["values"], kind, (count, shape[1]))
    if accessor.get("normalized") and kind.kind in "iu":
        return np.maximum(values / np.float64(np.iinfo(kind).max), -1)
    return values


def _strided(scene: _Scene, accessor: dict, kind: np.dtype, shape: tuple) -> np.ndarray:
    """Numbers of a shape (count, width) in a part of a buffer. Raises UserError where that ends
    before them."""
    count, width = shape
    data = _view(scene, accessor["bufferView"])
    step = scene.tree["bufferViews"][accessor["bufferView"]].get("byteStride", 0)
    step = max(step, width * kind.itemsize)
    start = accessor.get("byteOffset", 0)
    if not (start >= 0 and count > 0 and start + (count - 1) * step + width * kind.itemsize
            <= len(data)):
        raise UserError(f"cut short: {count} numbers were promised, the buffer ends earlier")
    return np.ndarray(shape, kind, data, start, (step, kind.itemsize))
