"""Pictures of meshes and clouds by ray casting on the CPU: no display, no GL, no Vulkan."""

from __future__ import annotations

from typing import NamedTuple

from geometry import Geometry
import helper

import numpy as np

COLOR = np.array([0.80, 0.70, 0.52])  # of a surface in white light, linear
BACKGROUND = np.ones(3)
# light: direction towards it in the camera's axes (right, up, back), and its strength
LIGHTS = [((-0.5, 0.7, 0.6), 0.75), ((0.8, 0.1, 0.5), 0.25), ((0.0, -0.6, 0.3), 0.10)]
AMBIENT = 0.12


class Camera(NamedTuple):
    """A pinhole camera; world units."""

    eye: np.ndarray
    center: np.ndarray  # what it looks at
    up: np.ndarray
    fov: float = 30.0  # vertical, degrees

    @classmethod
    def around(cls, points: np.ndarray, azimuth=30.0, elevation=15.0, fov=30.0, aspect=4 / 3):
        """A camera just far enough to see all points (N, 3) in a picture of width / height
        `aspect`; degrees; azimuth 0 looks along -z, y is up."""
        center = (points.min(axis=0) + points.max(axis=0)) / 2
        a, e = np.radians([azimuth, elevation])
        towards = np.array([np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)])
        up = np.array([0.0, 1.0, 0.0]) if abs(towards[1]) < 0.999 else np.array([0.0, 0.0, 1.0])
        x, y, z = np.abs((points - center) @ cls(center + towards, center, up).axes().T).T
        half = np.tan(np.radians(fov / 2))
        distance = max(1.08 * (np.maximum(x / aspect, y) / half + z).max(), 1e-12)
        return cls(center + towards * distance, center, up, fov)

    def axes(self) -> np.ndarray:
        """Rows: unit vectors to the right, up and back."""
        back = (self.eye - self.center) / np.linalg.norm(self.eye - self.center)
        right = np.cross(self.up, back)
        right /= np.linalg.norm(right)
        return np.stack([right, np.cross(back, right), back])


def mesh(geometry: Geometry, camera: Camera, width=960, height=720, samples=2) -> np.ndarray:
    """Picture (height, width, 3) uint8 of a mesh, samples^2 rays a pixel, smooth normals."""
    o3d = helper.open3d()
    scene = o3d.t.geometry.RaycastingScene()
    points = geometry.points - camera.center  # float32 near the origin, wherever the shape is
    scene.add_triangles(o3d.core.Tensor(points.astype(np.float32)),
                        o3d.core.Tensor(geometry.faces.astype(np.uint32)))
    origin, directions = _rays(camera, width * samples, height * samples)
    rays = np.concatenate([np.broadcast_to(origin, directions.shape), directions], axis=-1)
    hit = scene.cast_rays(o3d.core.Tensor(rays.astype(np.float32)))
    depth, triangle = hit["t_hit"].numpy(), hit["primitive_ids"].numpy()
    seen = np.isfinite(depth)
    uv = hit["primitive_uvs"].numpy()[seen]
    weights = np.column_stack([1 - uv.sum(axis=1), uv])[:, :, None]
    corner = vertex_normals(geometry)[geometry.faces[triangle[seen]]]
    image = np.broadcast_to(BACKGROUND, (*depth.shape, 3)).copy()
    image[seen] = shade((weights * corner).sum(axis=1), directions[seen], camera)
    image = image.reshape(height, samples, width, samples, 3).mean(axis=(1, 3))
    return _encode(image)


def cloud(geometry: Geometry, camera: Camera, width=960, height=720, samples=2) -> np.ndarray:
    """Picture (height, width, 3) uint8 of a cloud: a small ball at each point, nearest in front."""
    w, h = width * samples, height * samples
    axes = camera.axes()
    local = (geometry.points - camera.eye) @ axes.T
    depth = -local[:, 2]
    focal = h / 2 / np.tan(np.radians(camera.fov / 2))
    column = np.round(w / 2 + focal * local[:, 0] / depth - 0.5).astype(int)
    row = np.round(h / 2 - focal * local[:, 1] / depth - 0.5).astype(int)
    radius = int(np.clip(round(0.45 * h / np.sqrt(len(depth))), 1, h / 100))
    dx, dy = (g.ravel() for g in np.meshgrid(*[np.arange(-radius, radius + 1)] * 2))
    inside = dx**2 + dy**2 <= radius**2
    dx, dy = dx[inside], dy[inside]
    normals = np.column_stack([dx, -dy, np.sqrt(radius**2 - dx**2 - dy**2)]) / radius
    ball = shade(normals @ axes, np.broadcast_to(-axes[2], normals.shape), camera)
    image = np.broadcast_to(BACKGROUND, (h, w, 3)).copy()
    nearest = np.full((h, w), np.inf)
    back_to_front = np.argsort(-depth)
    for offset in np.argsort(normals[:, 2]):  # a ball's middle is in front of its rim
        r, c = row[back_to_front] + dy[offset], column[back_to_front] + dx[offset]
        d = depth[back_to_front] - normals[offset, 2] * radius / focal * depth[back_to_front]
        on = (r >= 0) & (r < h) & (c >= 0) & (c < w) & (d > 0)
        r, c, d = r[on], c[on], d[on]
        front = np.full((h, w), np.inf)
        front[r, c] = d  # the last one assigned is the nearest: they come back to front
        closer = front < nearest
        nearest[closer], image[closer] = front[closer], ball[offset]
    return _encode(image.reshape(height, samples, width, samples, 3).mean(axis=(1, 3)))


def vertex_normals(geometry: Geometry) -> np.ndarray:
    """Unit normals (N, 3) of a mesh's vertices: the area-weighted mean of their faces'."""
    corners = geometry.points[geometry.faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(geometry.points)
    for axis in range(3):
        for corner in range(3):
            normals[:, axis] += np.bincount(
                geometry.faces[:, corner], cross[:, axis], len(normals)
            )
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-300)


def shade(normals: np.ndarray, directions: np.ndarray, camera: Camera) -> np.ndarray:
    """Linear colours (N, 3) of surface points with these normals, seen along these directions;
    both sides of a surface are lit."""
    axes = camera.axes()
    facing = np.where((normals * directions).sum(axis=1, keepdims=True) > 0, -normals, normals)
    facing /= np.maximum(np.linalg.norm(facing, axis=1, keepdims=True), 1e-12)
    light = np.full(len(facing), AMBIENT)
    for towards, strength in LIGHTS:
        towards = np.array(towards) @ axes / np.linalg.norm(towards)
        light += strength * np.clip(facing @ towards, 0, None)
    return light[:, None] * COLOR


def _rays(camera: Camera, width: int, height: int):
    """Origin (3,) relative to the camera's center, unit directions (height, width, 3)."""
    right, up, back = camera.axes()
    half = np.tan(np.radians(camera.fov / 2))
    x = (np.arange(width) + 0.5 - width / 2) / (height / 2) * half
    y = (height / 2 - np.arange(height) - 0.5) / (height / 2) * half
    directions = x[None, :, None] * right + y[:, None, None] * up - back
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    return camera.eye - camera.center, directions


def _encode(linear: np.ndarray) -> np.ndarray:
    """Linear light to sRGB bytes (gamma 2.2)."""
    return np.round(255 * np.clip(linear, 0, 1) ** (1 / 2.2)).astype(np.uint8)
