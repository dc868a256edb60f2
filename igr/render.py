"""Pictures of meshes and clouds by ray casting on the CPU: no display, no GL, no Vulkan.

A mesh is lit by a key, a fill and a rim light and darkened where its own surroundings hide the sky
(ambient occlusion); a cloud is a small ball, or a disc lit by its normal, at each point, in correct
depth, darkened behind edges.
Colours are sRGB (taken as gamma 2.2) in [0, 1] outside and linear inside; pictures are bytes.
"""

from __future__ import annotations

import json
import math
from typing import NamedTuple

import helper
from helper import UserError
from igr import meshes, threads
from igr.frames import Geometry

import numpy as np

CLAY = (0.91, 0.84, 0.73)  # sRGB
# light: direction towards it in the camera's axes (right, up, back), and its strength
LIGHTS = [((-0.6, 0.8, 0.6), 0.85), ((0.9, 0.1, 0.4), 0.16), ((0.4, 0.7, -0.9), 0.40)]
AMBIENT = 0.20  # from all sides, less what occlusion takes away
OCCLUSION_RAYS = 8  # a sample; a pixel has samples^2 of them
REACH = 0.5  # of these rays, in half diagonals of the shape's box
GROUND_REACH = 1.0  # of those that find the ground's shadow
OFFSET = 1e-4  # of their start above the surface, likewise
BALL, DISC = 0.9, 1.3  # radius of a cloud's balls, and of its discs where it has normals, in
# spacings: few gaps even where points fell at random
BAND = 1 << 19  # samples that are worked on together: bounds the memory
UPWARDS = ("x", "y", "z", "-x", "-y", "-z")  # axes that may point upwards


def turned(vector, up: str) -> np.ndarray:
    """A vector (3,) that is meant for y upwards where another axis is: the axes in cyclic order,
    and a negative one by half a turn around the first."""
    sign = [1, -1, -1] if up.startswith("-") else [1, 1, 1]
    return np.roll(np.multiply(vector, sign), "xyz".index(up[-1]) - 1)


class Camera(NamedTuple):
    """A pinhole camera; world units."""

    eye: np.ndarray
    center: np.ndarray  # what it looks at
    up: np.ndarray
    fov: float = 30.0  # vertical, degrees

    @classmethod
    def around(cls, points, azimuth=30.0, elevation=15.0, zoom=1.0, up="y", aspect=4 / 3):
        """A camera just far enough to see all points (N, 3) in a picture of width / height
        `aspect`. Degrees; up: one of UPWARDS; azimuth 0 looks along -z where y is up (see turned()
        for others). zoom > 1 shows less, larger."""
        center = (points.min(axis=0) + points.max(axis=0)) / 2
        a, e = np.radians([azimuth, elevation])
        towards = np.array([np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)])
        upwards = np.array([-np.sin(a) * np.sin(e), np.cos(e), -np.cos(a) * np.sin(e)])
        towards, upwards = turned(towards, up), turned(upwards, up)
        half = np.tan(np.radians(cls._field_defaults["fov"] / 2))
        x, y, z = ((points - center) @ cls(towards, np.zeros(3), upwards).axes().T).T
        distance = 1.08 * (np.maximum(np.abs(x) / aspect, np.abs(y)) / half + z).max()
        fov = np.degrees(2 * np.arctan(half / zoom))
        return cls(center + towards * (distance or 1.0), center, upwards, float(fov))

    @classmethod
    def from_pinhole(cls, path):
        """Camera, width and height (pixels) of open3d's json of pinhole camera parameters.

        Raises UserError where the file is something else, or its picture's middle or pixels are
        not where a plain camera has them.
        """
        try:
            data = json.loads(helper.existing_file(path).read_text())
            width, height = (int(data["intrinsic"][name]) for name in ("width", "height"))
            K = np.array(data["intrinsic"]["intrinsic_matrix"], float).reshape(3, 3).T
            E = np.array(data["extrinsic"], float).reshape(4, 4).T  # world to camera: y down
            if not (np.isfinite(K).all() and np.isfinite(E).all() and K[1, 1] > 0):
                raise ValueError("numbers that are not finite")
            if not 0 < max(width, height) <= 16384 or min(width, height) < 1:
                raise ValueError(f"a picture of {width} x {height}")
        except (ValueError, KeyError, TypeError, UnicodeDecodeError, RecursionError) as error:
            raise UserError(f"{path}: no pinhole camera of open3d ({error})") from None
        middle = np.abs(K[:2, 2] - np.array([width, height]) / 2)
        if abs(K[0, 0] / K[1, 1] - 1) > 0.01 or (middle > 0.01 * max(width, height) + 1).any():
            raise UserError(f"{path}: a camera with oblong pixels or its axis off the middle is "
                            "not supported")
        eye = -E[:3, :3].T @ E[:3, 3]
        fov = 2 * np.degrees(np.arctan(height / 2 / K[1, 1]))
        return cls(eye, eye + E[2, :3], -E[1, :3], float(fov)), width, height

    def extrinsic(self) -> np.ndarray:
        """World to camera (4, 4) with y down and z forward, as open3d has it."""
        made = np.eye(4)
        made[:3, :3] = self.axes() * [[1], [-1], [-1]]
        made[:3, 3] = -made[:3, :3] @ self.eye
        return made

    def axes(self) -> np.ndarray:
        """Rows: unit vectors to the right, up and back."""
        back = (self.eye - self.center) / np.linalg.norm(self.eye - self.center)
        right = np.cross(self.up, back)
        right /= np.linalg.norm(right)
        return np.stack([right, np.cross(back, right), back])


class Style(NamedTuple):
    """How a picture is made."""

    width: int = 960
    height: int = 720
    samples: int = 2  # rays a pixel along each side
    background: str = "white"  # or "transparent"
    ground: bool = False  # a soft shadow on a plane below the shape
    up: str = "y"  # of UPWARDS: the ground is level to it
    shading: float = 1.0  # how much the light may change a colour; less, to read it off a legend

    @property
    def aspect(self) -> float:
        return self.width / self.height


DEFAULT = Style()


def save(path, image: np.ndarray) -> None:
    """Write a picture (height, width, 3 or 4) uint8 as .png or, with 3, .jpeg."""
    from PIL import Image

    with helper.replacing(path) as temporary:
        Image.fromarray(image).save(temporary, quality=95)


# ------------------------------------------------------------------------------------------- meshes


def mesh(geometry: Geometry, camera: Camera, style: Style = DEFAULT, colors=CLAY) -> np.ndarray:
    """Picture (height, width, 3 or 4) uint8 of a mesh; colors: (3,) or one a vertex (N, 3).

    Raises UserError where no face has an area.
    """
    view = _View(geometry.points, camera, style)
    scene = meshes.ray_scene(view.points, geometry.faces)
    split, origin = meshes.split_creases(geometry._replace(points=view.exact))
    faces, normals = split.faces, meshes.vertex_normals(split).astype(np.float32)
    if not normals.any():
        raise UserError("no face of the mesh has an area: there is nothing to see")
    albedo = _linear(colors)
    if albedo.ndim == 2:
        albedo = albedo[origin]

    def shoot(top, pixels):
        rays = view.rays(pixels)
        hit = scene.cast_rays(meshes.tensor(rays))
        depth = hit["t_hit"].numpy()
        seen = np.isfinite(depth)
        rgba = np.zeros((len(rays), 4), np.float32)
        if seen.any():
            corner = faces[hit["primitive_ids"].numpy()[seen]]
            uv = hit["primitive_uvs"].numpy()[seen]
            weights = np.column_stack([1 - uv.sum(axis=1), uv])[:, :, None]
            directions = rays[seen, 3:]
            flat = meshes.turn_against(hit["primitive_normals"].numpy()[seen], directions)
            # near an outline the smooth normal may look away from us where its face does not
            smooth = meshes.turn_against((weights * normals[corner]).sum(axis=1), -flat)
            smooth = meshes.unit_vectors(smooth)
            at = rays[seen, :3] + depth[seen, None] * directions
            open_sky = 1 - _occlusion(scene, at, flat, smooth, pixels[seen], REACH)
            color = albedo if albedo.ndim == 1 else (weights * albedo[corner]).sum(axis=1)
            rgba[seen, :3] = view.light(smooth, open_sky)[:, None] * color
            rgba[seen, 3] = 1
        view.add_ground(rgba, ~seen, scene, rays, pixels)
        return rgba

    return view.picture(shoot)




def _occlusion(scene, at, flat, normals, pixels, reach) -> np.ndarray:
    """Share (N,) of the half space above each point (cosine-weighted) that the scene hides within
    `reach`. at, flat (the face's normals), normals (N, 3); pixels (N, 3): x, y, sample."""
    rays = _occlusion_rays(at, flat, normals, pixels, OCCLUSION_RAYS)
    return scene.test_occlusions(meshes.tensor(rays), 0.0, reach).numpy().mean(axis=1)


@threads.compiled()
def _hash(n):
    """32 bits that look random for each n (Wellons' lowbias32)."""
    n = np.uint32(n)
    n = (n ^ (n >> np.uint32(16))) * np.uint32(0x7FEB352D)
    n = (n ^ (n >> np.uint32(15))) * np.uint32(0x846CA68B)
    return n ^ (n >> np.uint32(16))


@threads.compiled(fastmath=True)
def _occlusion_rays(at, flat, normals, pixels, n):
    """Rays (N, n, 6), cosine-weighted around the normals and never below the face. A pixel's
    samples share one low-discrepancy sequence (Roberts' R2), shifted from pixel to pixel."""
    rays = np.empty((len(at), n, 6), np.float32)
    for i in range(len(at)):
        x, y, sample = pixels[i]
        bits = _hash(x + (y << 16))
        shift_u, shift_v = (bits & 0xFFFF) / 65536, (bits >> 16) / 65536
        nx, ny, nz = normals[i]
        sign = 1.0 if nz >= 0 else -1.0  # two tangents, after Duff et al. 2017
        a = -1 / (sign + nz)
        b = nx * ny * a
        for j in range(n):
            k = sample * n + j
            u, v = (0.7548776662 * k + shift_u) % 1.0, (0.5698402910 * k + shift_v) % 1.0
            r, phi = math.sqrt(u), 2 * math.pi * v
            p, q, h = r * math.cos(phi), r * math.sin(phi), math.sqrt(1 - u)
            dx = p * (1 + sign * nx * nx * a) + q * b + h * nx
            dy = p * sign * b + q * (sign + ny * ny * a) + h * ny
            dz = -p * sign * nx - q * ny + h * nz
            below = 2 * min(0.0, dx * flat[i, 0] + dy * flat[i, 1] + dz * flat[i, 2])
            for c in range(3):
                rays[i, j, c] = at[i, c] + OFFSET * flat[i, c]
            rays[i, j, 3] = dx - below * flat[i, 0]
            rays[i, j, 4] = dy - below * flat[i, 1]
            rays[i, j, 5] = dz - below * flat[i, 2]
    return rays


# ------------------------------------------------------------------------------------------- clouds


def cloud(geometry: Geometry, camera: Camera, style: Style = DEFAULT, colors=CLAY,
          size=1.0) -> np.ndarray:
    """Picture (height, width, 3 or 4) uint8 of a cloud: a ball at each point, or a disc lit by the
    point's normal where the cloud has them. colors: (3,) or one a point (N, 3); size: of balls and
    discs, in parts of the usual one."""
    view = _View(geometry.points, camera, style)
    radius = size * spacing(view.points) * (BALL if geometry.normals is None else DISC)
    s = style.samples
    width, height = style.width * s, style.height * s
    local = (view.points - view.eye) @ view.axes.T
    margin = 2 * s  # rows above and below a band that its edges look at
    albedo = _linear(colors)
    if geometry.normals is not None:
        normals = meshes.unit_vectors(meshes.turn_against(geometry.normals, view.points - view.eye))
    scene = None
    if style.ground:  # its shadow is that of a small triangle a point
        scene = meshes.ray_scene(*_triangles_at(view.points, radius, view.up))

    def shoot(top, pixels):
        first, rows = top * s - margin, (pixels[-1, 1] + 1 - top) * s + 2 * margin
        depth, index, offset = _splat(local, radius, height / 2 / view.half, width, height,
                                      first, rows, 0.6 * s)
        edges = _behind_edges(depth, margin)
        sub_y, sub_x = np.divmod(pixels[:, 2], s)
        at = (pixels[:, 1] - top) * s + sub_y + margin, pixels[:, 0] * s + sub_x
        index, seen = index[at], index[at] >= 0
        facing = offset[at][seen] @ view.axes if geometry.normals is None else normals[index[seen]]
        color = albedo if albedo.ndim == 1 else albedo[index[seen]]
        rgba = np.zeros((len(pixels), 4), np.float32)
        rgba[seen, :3] = (view.light(facing, 1.0) * edges[at][seen])[:, None] * color
        rgba[seen, 3] = 1
        if style.ground:
            view.add_ground(rgba, ~seen, scene, view.rays(pixels), pixels)
        return rgba

    return view.picture(shoot)


def spacing(points: np.ndarray) -> float:
    """Side of the square that a point has to itself on a surface: sqrt(area / N), from the discs
    around 1000 of them that hold 8 others."""
    from scipy.spatial import cKDTree

    k = min(9, len(points))
    if k == 1:
        return 0.1
    some = points[:: max(1, len(points) // 1000)]
    tree = cKDTree(points, compact_nodes=False, balanced_tree=False)
    return float(np.median(tree.query(some, k)[0][:, -1]) * np.sqrt(np.pi / (k - 1)))


@threads.compiled()
def _splat(local, radius, focal, width, height, first, rows, smallest):
    """Depth, index of the point (-1: none) and place on its ball (right, up, towards us; of length
    1) at each pixel of `rows` rows from `first` on, for balls at local (N, 3) in the camera's axes.
    A ball covers at least `smallest` pixels around its middle."""
    depth = np.full((rows, width), np.inf, np.float32)
    index = np.full((rows, width), -1, np.int64)
    offset = np.zeros((rows, width, 3), np.float32)
    for i in range(len(local)):
        z = -local[i, 2]
        if z <= radius:
            continue
        x, y = width / 2 + focal * local[i, 0] / z, height / 2 - focal * local[i, 1] / z - first
        r = max(smallest, focal * radius / z)
        for row in range(max(0, int(y - r)), min(rows, int(y + r) + 1)):
            for column in range(max(0, int(x - r)), min(width, int(x + r) + 1)):
                u, v = (column + 0.5 - x) / r, (y - row - 0.5) / r
                w = 1 - u * u - v * v
                if w < 0:
                    continue
                w = math.sqrt(w)
                at = z - radius * w
                if at < depth[row, column]:
                    depth[row, column], index[row, column] = at, i
                    offset[row, column, 0] = u
                    offset[row, column, 1] = v
                    offset[row, column, 2] = w
    return depth, index, offset


def _behind_edges(depth: np.ndarray, radius: int) -> np.ndarray:
    """Light (height, width) left where neighbours `radius` pixels away lie nearer (eye-dome
    lighting, Boucheny 2009); depths in half diagonals of the shape."""
    height, width = depth.shape
    padded = np.pad(depth, radius, constant_values=np.inf)
    hidden = np.zeros_like(depth)
    with np.errstate(invalid="ignore"):  # inf - inf, where nothing is to be seen
        for down, right in [(0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1)]:
            top, left = radius * (1 + down), radius * (1 + right)
            hidden += np.clip(depth - padded[top : top + height, left : left + width], 0, 0.05)
    return np.exp(-4 * np.nan_to_num(hidden))


def _triangles_at(points, radius, up):
    """A small triangle, level to `up`, at each point: vertices (3 N, 3) and faces (N, 3)."""
    side = np.roll(up, 1)
    corners = radius * np.stack([side, np.cross(up, side), -side - np.cross(up, side)])
    return ((points[:, None] + corners).reshape(-1, 3),
            np.arange(3 * len(points)).reshape(-1, 3))


# ------------------------------------------------------------------------------------------- common


class _View:
    """A shape before a camera, in units in which the shape's box has half a diagonal of 1 and lies
    around the origin: float32 does for it, wherever the shape is."""

    def __init__(self, points: np.ndarray, camera: Camera, style: Style):
        low, high = points.min(axis=0), points.max(axis=0)
        center, scale = (low + high) / 2, np.linalg.norm(high - low) / 2 or 1.0
        self.style, self.axes = style, camera.axes()
        self.exact = (points - center) / scale
        self.points = self.exact.astype(np.float32)
        self.eye = ((camera.eye - center) / scale).astype(np.float32)
        self.half = np.tan(np.radians(camera.fov / 2))
        self.up = turned([0.0, 1.0, 0.0], style.up).astype(np.float32)
        self.floor = float((self.points @ self.up).min()) - OFFSET

    def picture(self, shoot) -> np.ndarray:
        """The picture whose samples are shoot(top, pixels (N, 3): x, y, sample) -> (N, 4) linear
        colour, premultiplied, and coverage; top: the first of some whole rows, in order."""
        style, s = self.style, self.style.samples
        channels = 3 if style.background == "white" else 4
        image = np.empty((style.height, style.width, channels), np.uint8)
        rows = max(1, BAND // (style.width * s * s))
        for top in range(0, style.height, rows):
            y, x, sample = np.meshgrid(np.arange(top, min(top + rows, style.height)),
                                       np.arange(style.width), np.arange(s * s), indexing="ij")
            pixels = np.stack([x.ravel(), y.ravel(), sample.ravel()], axis=1)
            rgba = shoot(top, pixels).reshape(*x.shape, 4).mean(axis=2)
            image[top : top + rows] = _encode(rgba, style.background)
        return image

    def rays(self, pixels) -> np.ndarray:
        """(N, 6): the eye, and a direction whose length along the view is 1."""
        s = self.style.samples
        sub_y, sub_x = np.divmod(pixels[:, 2], s)
        right, up, back = self.axes
        unit = 2 * self.half / self.style.height
        x = (pixels[:, 0] + (sub_x + 0.5) / s - self.style.width / 2) * unit
        y = (self.style.height / 2 - pixels[:, 1] - (sub_y + 0.5) / s) * unit
        rays = np.empty((len(pixels), 6), np.float32)
        rays[:, :3] = self.eye
        rays[:, 3:] = x[:, None] * right + y[:, None] * up - back
        return rays

    def add_ground(self, rgba, free, scene, rays, pixels) -> None:
        """Lay the shape's shadow into the samples (N, 4) that are `free` (N,)."""
        if not self.style.ground or self.eye @ self.up <= self.floor:
            return  # from below, the ground would hide the shape
        slope = rays[:, 3:] @ self.up
        on = free & (slope < -1e-6)
        rays = rays[on]
        at = rays[:, :3] + ((self.floor - self.eye @ self.up) / slope[on])[:, None] * rays[:, 3:]
        up = np.broadcast_to(self.up, at.shape)
        hidden = _occlusion(scene, at, up, up, pixels[on], GROUND_REACH)
        rgba[on, 3] = 0.8 * hidden  # black: the colour stays 0

    def light(self, normals, open_sky) -> np.ndarray:
        """Brightness (N,) of points that face the camera with normals (N, 3)."""
        towards = np.array([direction for direction, _ in LIGHTS]) @ self.axes
        towards /= np.linalg.norm(towards, axis=1, keepdims=True)
        strengths = np.array([strength for _, strength in LIGHTS])
        direct = np.clip(normals @ towards.T, 0, None) @ strengths
        # what hides the sky hides part of the lamps, too
        found = AMBIENT * open_sky + direct * (0.4 + 0.6 * open_sky)
        return 1 - self.style.shading * (1 - found)



def _linear(colors) -> np.ndarray:
    return (np.asarray(colors, np.float32) ** 2.2).astype(np.float32)


def _encode(rgba: np.ndarray, background: str) -> np.ndarray:
    """Premultiplied linear light (h, w, 4) to bytes, on white or with alpha."""
    rgb, alpha = rgba[..., :3], rgba[..., 3:]
    if background == "white":
        rgb, rest = rgb + (1 - alpha), ()
    else:
        rgb, rest = rgb / np.maximum(alpha, 1e-6), (np.round(255 * alpha),)
    rgb = np.round(255 * np.clip(rgb, 0, 1) ** (1 / 2.2))
    return np.concatenate([rgb, *rest], axis=-1).astype(np.uint8)
