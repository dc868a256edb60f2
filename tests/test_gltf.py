"""glTF: clouds and meshes as exporters write them, and what is refused."""

import base64
import io
import json

from helper import UserError
from igr.formats import files

import numpy as np
from PIL import Image
import pytest

POINTS = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 2]], np.float32)
ORDER = np.array([0, 1, 2, 0, 2, 3], np.uint16)
KINDS = {"i1": 5120, "u1": 5121, "i2": 5122, "u2": 5123, "u4": 5125, "f4": 5126}


def scene(arrays: dict, mode: int = 0, **node) -> tuple[dict, bytes]:
    """The tree and the buffer of one node with one primitive of arrays (n, k) by their attributes'
    names, or "indices"."""
    accessors, views, data = [], [], b""
    for array in arrays.values():
        width = 1 if array.ndim == 1 else array.shape[1]
        views.append({"buffer": 0, "byteOffset": len(data), "byteLength": array.nbytes})
        accessors.append({"componentType": KINDS[array.dtype.str[1:]], "count": len(array),
                          "type": ("SCALAR", "VEC2", "VEC3", "VEC4")[width - 1],
                          "bufferView": len(views) - 1})
        data += array.tobytes() + bytes(-array.nbytes % 4)
    attributes = {name: i for i, name in enumerate(arrays) if name != "indices"}
    primitive = {"mode": mode, "attributes": attributes}
    if "indices" in arrays:
        primitive["indices"] = list(arrays).index("indices")
    return {"asset": {"version": "2.0"}, "nodes": [{"mesh": 0, **node}],
            "meshes": [{"primitives": [primitive]}], "accessors": accessors, "bufferViews": views,
            "buffers": [{"byteLength": len(data)}]}, data


def read(folder, tree: dict, data: bytes):
    """The tree and its buffer as a glb file, read."""
    text = json.dumps(tree).encode()
    text += b" " * (-len(text) % 4)
    chunks = b"".join(len(part).to_bytes(4, "little") + kind + part
                      for kind, part in ((b"JSON", text), (b"BIN\0", data)))
    length = (12 + len(chunks)).to_bytes(4, "little")
    (folder / "a.glb").write_bytes(b"glTF" + (2).to_bytes(4, "little") + length + chunks)
    return files.read(folder / "a.glb")


def test_points_without_and_with_belongings(tmp_path):
    plain = read(tmp_path, *scene({"POSITION": POINTS}))
    assert plain.points.tolist() == POINTS.tolist() and plain[1:] == (None,) * 5
    colors = np.array([[1, 0, 0, 1]] * 4, np.float32)
    cloud = read(tmp_path, *scene({"POSITION": POINTS, "COLOR_0": colors, "NORMAL": POINTS}))
    assert cloud.colors.tolist() == [[1, 0, 0]] * 4 and cloud.normals.tolist() == POINTS.tolist()


@pytest.mark.parametrize("kind", [np.int8, np.uint16])
def test_quantised_points(tmp_path, kind):
    top = np.iinfo(kind).max
    tree, data = scene({"POSITION": (POINTS / 2 * top).astype(kind)}, scale=[2, 2, 2],
                       translation=[5, 0, 0])
    tree["accessors"][0]["normalized"] = True
    tree["extensionsRequired"] = ["KHR_mesh_quantization"]
    points = read(tmp_path, tree, data).points
    np.testing.assert_allclose(points, POINTS + np.array([5, 0, 0]), atol=2.5 / top)


def test_nodes_place_what_is_below_them(tmp_path):
    tree, data = scene({"POSITION": POINTS, "indices": ORDER}, 4, translation=[1, 0, 0])
    half = float(np.sqrt(0.5))
    tree["nodes"] += [{"children": [0], "rotation": [0, 0, half, half]},  # x to y
                      {"children": [1], "matrix": [2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 2, 0, 0, 0, 9, 1]}]
    tree["scenes"] = [{"nodes": [2]}]
    mesh = read(tmp_path, tree, data)
    x, y, z = (POINTS + np.array([1, 0, 0])).T
    np.testing.assert_allclose(mesh.points, np.stack([-2 * y, 2 * x, 2 * z + 9], axis=1), atol=1e-6)
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3]]


@pytest.mark.parametrize("mode, order, faces", [
    (4, None, [[0, 1, 2]]), (5, [0, 1, 2, 3], [[0, 1, 2], [2, 1, 3]]),
    (5, [0, 1, 2, 2, 3], [[0, 1, 2]]), (6, [0, 1, 2, 3], [[0, 1, 2], [0, 2, 3]])])
def test_modes_of_triangles(tmp_path, mode, order, faces):
    arrays = {"POSITION": POINTS}
    if order:
        arrays["indices"] = np.array(order, np.uint32)
    assert read(tmp_path, *scene(arrays, mode)).faces.tolist() == faces


def test_lines_are_no_points(tmp_path):
    with pytest.raises(UserError, match="holds no points"):
        read(tmp_path, *scene({"POSITION": POINTS}, 3))


def test_sparse_and_interleaved_numbers(tmp_path):
    tree, data = scene({"A": np.array([2], np.uint16), "B": 7 * POINTS[:1] + 7, "POSITION": POINTS})
    tree["accessors"][2]["sparse"] = {
        "count": 1, "indices": {"bufferView": 0, "componentType": KINDS["u2"]},
        "values": {"bufferView": 1}}
    assert read(tmp_path, tree, data).points.tolist() == [[0, 0, 0], [1, 0, 0], [7, 7, 7],
                                                         [0, 1, 2]]
    del tree["accessors"][2]["bufferView"]  # zeros but for those
    assert read(tmp_path, tree, data).points.tolist() == [[0] * 3, [0] * 3, [7] * 3, [0] * 3]
    both = np.concatenate([POINTS, POINTS + 9], axis=1)
    tree, data = scene({"POSITION": both.reshape(8, 3)})
    tree["accessors"][0]["count"] = 4
    tree["bufferViews"][0]["byteStride"] = 24
    assert read(tmp_path, tree, data).points.tolist() == POINTS.tolist()


def test_colours_of_a_picture(tmp_path, caplog):
    places = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], np.float32)
    tree, data = scene({"POSITION": POINTS, "indices": ORDER, "TEXCOORD_0": places}, 4)
    picture = io.BytesIO()
    Image.fromarray(np.diag([255, 51]).astype(np.uint8)).save(picture, "PNG")
    text = "data:image/png;base64," + base64.b64encode(picture.getvalue()).decode()
    tree["images"], tree["textures"] = [{"uri": text}], [{"source": 0}]
    tree["materials"] = [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}]
    tree["meshes"][0]["primitives"][0]["material"] = 0
    mesh = read(tmp_path, tree, data)
    np.testing.assert_allclose(mesh.colors[:, 0], [1, 0, 0, 0.2], atol=1e-6)
    tree["images"] = [{"uri": "data:image/png;base64,AAAA"}]
    assert read(tmp_path, tree, data).colors is None and "picture is not read" in caplog.text


def test_colours_of_some_parts_only_are_left_out(tmp_path, caplog):
    tree, data = scene({"POSITION": POINTS, "COLOR_0": POINTS})
    plain = {"mode": 0, "attributes": {"POSITION": 0}}
    tree["meshes"][0]["primitives"].append(plain)
    cloud = read(tmp_path, tree, data)
    assert len(cloud.points) == 8 and cloud.colors is None
    assert "only 1 of 2 parts have colors: left out" in caplog.text


def damaged(change: str) -> tuple[dict, bytes]:
    """A scene after a change to its tree."""
    tree, data = scene({"POSITION": POINTS, "indices": ORDER}, 4)
    exec(change, {"tree": tree})
    return tree, data


@pytest.mark.parametrize("change, message", [
    ("tree['extensionsRequired'] = ['KHR_draco_mesh_compression']",
     "needs the extension KHR_draco_mesh_compression, which is not read"),
    ("tree['extensionsRequired'] = ['EXT_meshopt_compression']", "EXT_meshopt_compression"),
    ("del tree['accessors'][0]['bufferView']", "packed by an extension"),
    ("tree['accessors'][0]['count'] = 10**12", "cut short: 1000000000000 numbers"),
    ("tree['accessors'][0]['sparse'] = 1; tree['accessors'][0].pop('bufferView'); "
     "tree['accessors'][0]['count'] = 10**12", "promises too much"),
    ("tree['buffers'][0]['byteLength'] = 999", "cut short: a buffer"),
    ("tree['bufferViews'][0]['byteOffset'] = 90", "cut short: a part of a buffer"),
    ("tree['nodes'][0]['children'] = [0]", "no tree|no points"),
    ("tree['nodes'] = [{'mesh': 0, 'children': [1]}, {'children': [0]}]; "
     "tree['scenes'] = [{'nodes': [0]}]", "no tree"),
    ("tree['nodes'][0]['mesh'] = 7", "not a readable gltf or glb file .IndexError"),
    ("tree['buffers'][0]['uri'] = 'a.bin'", "names a file beside it, a.bin"),
    ("tree.clear()", "holds no points")])
def test_scenes_that_cannot_be_read(tmp_path, change, message):
    with pytest.raises(UserError, match=message) as error:
        read(tmp_path, *damaged(change))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("data, message", [
    (b"glTF\1\0\0\0\x0c\0\0\0", "version 1; version 2 is read"), (b"glTF\2", "version 0"),
    (b"glTF\2\0\0\0\xff\0\0\0", "promises more bytes"), (b"what", "does not begin with glTF")])
def test_glb_files_that_are_none(tmp_path, data, message):
    (tmp_path / "a.glb").write_bytes(data)
    with pytest.raises(UserError, match=message):
        files.read(tmp_path / "a.glb")
