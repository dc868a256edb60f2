"""Readers of off, stl and glTF, by trimesh.

Each takes a file's bytes (read_gltf a path) and returns a Geometry, which files.read checks.
Each raises UserError, without the file's name, where the file is not of its format.
"""

from __future__ import annotations

import io
import warnings

from helper import UserError, reason_of
from igr.formats.tables import unit_colors
from igr.geometry.frames import Geometry

import numpy as np


def read_with_trimesh(kind: str):
    """A reader of "off" or "stl"."""

    def read(data: bytes) -> Geometry:
        import trimesh

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", DeprecationWarning)  # "not read to its end": refuse
                loaded = trimesh.load(io.BytesIO(data), file_type=kind, process=False)
            points = np.asarray(loaded.vertices)
            faces = getattr(loaded, "faces", None)
            if kind == "stl":  # a soup: its triangles share corners only by their coordinates
                points, corner = np.unique(points, axis=0, return_inverse=True)
                faces = corner.reshape(-1)[faces]
            return Geometry(points, None, faces)
        except Exception as error:  # trimesh's parsers raise whatever they stumble on
            raise UserError(f"not a readable {kind} file ({reason_of(error)[:80]})") from None

    return read


def read_glb(data: bytes) -> Geometry:
    """As read_gltf(), of a glb file's bytes."""
    return _read_gltf(io.BytesIO(data), "glb")


def read_gltf(path) -> Geometry:
    """All meshes of a gltf file's scene, where it places them, or its points if it has no mesh;
    with colours if all have them. Buffers and pictures are files beside it."""
    return _read_gltf(path, "gltf")


def _read_gltf(source, kind: str) -> Geometry:
    import trimesh

    try:
        scene = trimesh.load_scene(source, file_type=kind, process=False)
        shapes = scene.dump()
        meshes = [shape for shape in shapes if isinstance(shape, trimesh.Trimesh)]
        clouds = [shape for shape in shapes if isinstance(shape, trimesh.PointCloud)]
        shapes = meshes or clouds
        if not shapes:
            raise UserError(f"the {kind} file holds no points")
        starts = np.cumsum([0] + [len(shape.vertices) for shape in shapes])
        faces = [mesh.faces + start for mesh, start in zip(meshes, starts)]
        colors = [_trimesh_colors(shape) for shape in shapes]
        colored = all(found is not None for found in colors)
        return Geometry(np.concatenate([shape.vertices for shape in shapes]), None,
                        np.concatenate(faces) if faces else None,
                        np.concatenate(colors) if colored else None)
    except UserError:
        raise
    except Exception as error:  # trimesh's parsers raise whatever they stumble on
        raise UserError(f"not a readable {kind} file ({reason_of(error)[:80]})") from None


def _trimesh_colors(shape):
    """The colours (n, 3) of a trimesh object's vertices, also from a texture, or None."""
    visual = shape.visual
    if visual.kind == "texture" and visual.uv is not None and visual.material.to_simple().image:
        visual = visual.to_color()
    return unit_colors(visual.vertex_colors[:, :3]) if visual.kind == "vertex" else None
