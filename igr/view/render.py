"""Pictures of meshes and clouds by ray casting on the CPU: no display, no GL, no Vulkan.

A mesh is lit by a key, a fill and a rim light, and darkened where its own parts hide the sky
(ambient occlusion). A cloud is a small ball at each point, or a disc lit by the point's normal, in
correct depth and darkened behind edges. Colours are sRGB (taken as gamma 2.2) in [0, 1] outside and
linear inside; pictures are bytes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from helper import UserError
from igr.backend import threads
from igr.geometry import meshes
from igr.geometry.frames import Geometry
from igr.view.cameras import SIZE, Camera, View, from_y_up
from igr.view.colors import CLAY

import numpy as np

# light: direction towards it in the camera's axes (right, up, back), and its strength
LIGHTS = [((-0.6, 0.8, 0.6), 0.85), ((0.9, 0.1, 0.4), 0.16), ((0.4, 0.7, -0.9), 0.40)]
AMBIENT = 0.20  # light from all sides, less what occlusion takes away
OCCLUSION_RAYS = 8  # per sample; a pixel has samples x samples of these
REACH = 0.5  # length of an occlusion ray, in half diagonals of the shape's box
GROUND_REACH = 1.0  # length of a ray that finds the ground's shadow, likewise
OFFSET = 1e-4  # height above the surface where rays start, likewise
BALL_RADIUS = 0.9  # of a cloud without normals, in spacings of its points
DISC_RADIUS = 1.3  # of a cloud with normals: few gaps even where points fell at random
GAMMA = 2.2  # of sRGB, nearly
TINY = 1e-6  # least slope towards the ground and least coverage of a pixel: both divide
BAND = 1 << 19  # samples that are worked on together: bounds the memory


def shape(geometry: Geometry, camera: Camera, view: View, colors=CLAY,
          shading: float = 1.0) -> np.ndarray:
    """Draw a mesh or cloud: picture (height, width, 3 or 4) uint8.

    colors: sRGB (3,) or one a point (N, 3). shading: how much the light may change a colour; less
    than 1 where it is to be read off a legend. Raises UserError where no face of a mesh has an
    area.
    """
    picture = _Picture.of(geometry.points, camera, view, shading)
    albedo = (np.asarray(colors, np.float32) ** GAMMA).astype(np.float32)
    shader = _cloud_shader if geometry.faces is None else _mesh_shader
    return picture.drawn(shader(picture, geometry, albedo))


# ------------------------------------------------------------------------------------------- meshes


def _mesh_shader(picture: _Picture, mesh: Geometry, albedo: np.ndarray):
    """shade() of _Picture.drawn for a mesh; albedo: linear colours, (3,) or one a vertex (N, 3)."""
    scene = meshes.ray_scene(picture.points, mesh.faces)
    split, origin = meshes.split_creases(mesh._replace(points=picture.exact))
    normals = meshes.vertex_normals(split).astype(np.float32)
    if not normals.any():
        raise UserError("no face of the mesh has an area: there is nothing to see")
    if albedo.ndim == 2:
        albedo = albedo[origin]

    def shade(top, pixels):
        rays = picture.rays(pixels)
        hit = scene.cast_rays(meshes.tensor(rays))
        depth = hit["t_hit"].numpy()
        seen = np.isfinite(depth)
        rgba = np.zeros((len(rays), 4), np.float32)
        if seen.any():
            corner = split.faces[hit["primitive_ids"].numpy()[seen]]
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
            rgba[seen, :3] = picture.light(smooth, open_sky)[:, None] * color
            rgba[seen, 3] = 1
        picture.add_ground(rgba, ~seen, scene, rays, pixels)
        return rgba

    return shade


def _occlusion(scene, at, flat, normals, pixels, reach: float) -> np.ndarray:
    """Share (N,) of the half space above each point (cosine-weighted) that the scene hides within
    `reach`. at, flat (the face's normals) and normals (N, 3); pixels (N, 3): x, y, sample."""
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
    """Rays (N, n, 6) from the points `at` (N, 3), cosine-weighted around the normals (N, 3) and
    never below the face, whose normal is flat (N, 3). pixels (N, 3): x, y, sample. The samples of a
    pixel share one low-discrepancy sequence (Roberts' R2), shifted from pixel to pixel."""
    rays = np.empty((len(at), n, 6), np.float32)
    for i in range(len(at)):
        x, y, sample = pixels[i]
        bits = _hash(x + (y << 16))
        shift_u = (bits & 0xFFFF) / 65536
        shift_v = (bits >> 16) / 65536
        nx, ny, nz = normals[i]
        sign = 1.0 if nz >= 0 else -1.0  # two tangents, after Duff et al. 2017
        a = -1 / (sign + nz)
        b = nx * ny * a
        for j in range(n):
            k = sample * n + j
            u = (0.7548776662 * k + shift_u) % 1.0
            v = (0.5698402910 * k + shift_v) % 1.0
            r = math.sqrt(u)
            phi = 2 * math.pi * v
            p = r * math.cos(phi)
            q = r * math.sin(phi)
            h = math.sqrt(1 - u)
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


def _cloud_shader(picture: _Picture, cloud: Geometry, albedo: np.ndarray):
    """shade() of _Picture.drawn for a cloud: a ball at each point, or a disc lit by its normal.

    albedo: linear colours, (3,) or one a point (N, 3).
    """
    s = picture.view.samples
    width, height = picture.width * s, picture.height * s
    local = (picture.points - picture.eye) @ picture.axes.T
    margin = 2 * s  # rows above and below a band that its edges look at
    radius = _spacing(picture.points) * (BALL_RADIUS if cloud.normals is None else DISC_RADIUS)
    if cloud.normals is not None:
        normals = meshes.turn_against(cloud.normals, picture.points - picture.eye)
        normals = meshes.unit_vectors(normals)
    scene = None
    if picture.view.ground:  # its shadow is that of a small triangle a point
        scene = meshes.ray_scene(*_triangles_at(picture.points, radius, picture.up))

    def shade(top, pixels):
        first = top * s - margin
        rows = (pixels[-1, 1] + 1 - top) * s + 2 * margin
        depth, index, offset = _splat(local, radius, height / 2 / picture.half, width, height,
                                      first, rows, 0.6 * s)
        edges = _behind_edges(depth, margin)
        sub_y, sub_x = np.divmod(pixels[:, 2], s)
        at = ((pixels[:, 1] - top) * s + sub_y + margin, pixels[:, 0] * s + sub_x)  # row, column
        index = index[at]
        seen = index >= 0
        index = index[seen]
        facing = offset[at][seen] @ picture.axes if cloud.normals is None else normals[index]
        color = albedo if albedo.ndim == 1 else albedo[index]
        rgba = np.zeros((len(pixels), 4), np.float32)
        rgba[seen, :3] = (picture.light(facing, 1.0) * edges[at][seen])[:, None] * color
        rgba[seen, 3] = 1
        if scene:
            picture.add_ground(rgba, ~seen, scene, picture.rays(pixels), pixels)
        return rgba

    return shade


def _spacing(points: np.ndarray) -> float:
    """Side of the square that each of the points (N, 3) has to itself on a surface, sqrt(area / N):
    from the discs around 1000 of them that hold 8 others."""
    from scipy.spatial import cKDTree

    k = min(9, len(points))
    if k == 1:
        return 0.1
    tree = cKDTree(points, compact_nodes=False, balanced_tree=False)
    distance, _ = tree.query(points[:: max(1, len(points) // 1000)], [k], workers=threads.count())
    return float(np.median(distance) * np.sqrt(np.pi / (k - 1)))


@threads.compiled()
def _splat(local, radius, focal, width, height, first, rows, smallest):
    """Draw balls at `local` (N, 3), in the camera's axes, into `rows` rows from `first` on: depth
    (rows, width), the nearest point's index (rows, width; -1: none) and the place on its ball
    (rows, width, 3; right, up, towards us; of length 1). focal is in pixels. A ball covers at least
    `smallest` pixels around its middle."""
    depth = np.full((rows, width), np.inf, np.float32)
    index = np.full((rows, width), -1, np.int64)
    offset = np.zeros((rows, width, 3), np.float32)
    for i in range(len(local)):
        z = -local[i, 2]
        if z <= radius:
            continue
        x = width / 2 + focal * local[i, 0] / z
        y = height / 2 - focal * local[i, 1] / z - first
        r = max(smallest, focal * radius / z)
        for row in range(max(0, int(y - r)), min(rows, int(y + r) + 1)):
            for column in range(max(0, int(x - r)), min(width, int(x + r) + 1)):
                u = (column + 0.5 - x) / r
                v = (y - row - 0.5) / r
                w = 1 - u * u - v * v
                if w < 0:
                    continue
                w = math.sqrt(w)
                at = z - radius * w
                if at < depth[row, column]:
                    depth[row, column] = at
                    index[row, column] = i
                    offset[row, column, 0] = u
                    offset[row, column, 1] = v
                    offset[row, column, 2] = w
    return depth, index, offset


def _behind_edges(depth: np.ndarray, radius: int) -> np.ndarray:
    """Light (height, width) left where neighbours `radius` pixels away lie nearer (eye-dome
    lighting, Boucheny 2009). depth (height, width) is in half diagonals of the shape's box."""
    height, width = depth.shape
    padded = np.pad(depth, radius, constant_values=np.inf)
    hidden = np.zeros_like(depth)
    with np.errstate(invalid="ignore"):  # inf - inf, where nothing is to be seen
        for down, right in [(0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1)]:
            top = radius * (1 + down)
            left = radius * (1 + right)
            hidden += np.clip(depth - padded[top : top + height, left : left + width], 0, 0.05)
    return np.exp(-4 * np.nan_to_num(hidden))


def _triangles_at(points: np.ndarray, radius: float, up: np.ndarray) -> tuple:
    """Vertices (3 N, 3) and faces (N, 3) of a small triangle at each point (N, 3), level to `up`
    (3,)."""
    side = np.roll(up, 1)
    corners = radius * np.stack([side, np.cross(up, side), -side - np.cross(up, side)])
    vertices = (points[:, None] + corners).reshape(-1, 3)
    return vertices, np.arange(len(vertices)).reshape(-1, 3)


# ------------------------------------------------------------------------------------------- common


class _Picture(NamedTuple):
    """A picture of points before a camera. Lengths are in half diagonals of the points' box, which
    lies around the origin: so float32 is enough wherever the shape is."""

    view: View
    width: int  # pixels
    height: int
    shading: float  # see shape()
    exact: np.ndarray  # (N, 3) float64 points of the shape
    points: np.ndarray  # (N, 3) float32, the same
    axes: np.ndarray  # (3, 3) the camera's unit vectors, one a row: right, up, back
    eye: np.ndarray  # (3,)
    half: float  # of the picture's height, at distance 1 from the eye
    up: np.ndarray  # (3,) upwards from the ground
    floor: float  # height of the ground

    @classmethod
    def of(cls, points: np.ndarray, camera: Camera, view: View, shading: float) -> _Picture:
        """The picture of points (N, 3) and a camera in world units."""
        low = points.min(axis=0)
        high = points.max(axis=0)
        center = (low + high) / 2
        scale = np.linalg.norm(high - low) / 2 or 1.0
        exact = (points - center) / scale
        rounded = exact.astype(np.float32)
        eye = ((camera.eye - center) / scale).astype(np.float32)
        half = np.tan(np.radians(camera.fov / 2))
        up = from_y_up([0.0, 1.0, 0.0], view.up).astype(np.float32)
        floor = float((rounded @ up).min()) - OFFSET
        return cls(view, *(view.size or SIZE), shading, exact, rounded, camera.axes(), eye, half,
                   up, floor)

    def drawn(self, shade) -> np.ndarray:
        """The picture (height, width, 3 or 4) uint8, made a few rows at a time.

        shade(top, pixels (N, 3): x, y, sample) -> (N, 4) linear colour, premultiplied, and
        coverage; the pixels are whole rows, in order, and top is the first of them.
        """
        samples = self.view.samples**2
        rows = max(1, BAND // (self.width * samples))
        bands = []
        for top in range(0, self.height, rows):
            y, x, sample = np.meshgrid(np.arange(top, min(top + rows, self.height)),
                                       np.arange(self.width), np.arange(samples), indexing="ij")
            pixels = np.stack([x.ravel(), y.ravel(), sample.ravel()], axis=1)
            rgba = shade(top, pixels).reshape(*x.shape, 4).mean(axis=2)
            bands.append(_encode(rgba, self.view.background))
        return np.concatenate(bands)

    def rays(self, pixels: np.ndarray) -> np.ndarray:
        """Rays (N, 6) through pixels (N, 3: x, y, sample): the eye, and a direction whose length
        along the line of sight is 1."""
        s = self.view.samples
        sub_y, sub_x = np.divmod(pixels[:, 2], s)
        right, up, back = self.axes
        unit = 2 * self.half / self.height
        x = (pixels[:, 0] + (sub_x + 0.5) / s - self.width / 2) * unit
        y = (self.height / 2 - pixels[:, 1] - (sub_y + 0.5) / s) * unit
        rays = np.empty((len(pixels), 6), np.float32)
        rays[:, :3] = self.eye
        rays[:, 3:] = x[:, None] * right + y[:, None] * up - back
        return rays

    def add_ground(self, rgba, free, scene, rays, pixels) -> None:
        """Add the shape's shadow on the ground to the samples rgba (N, 4) that are `free` (N,)."""
        if not self.view.ground or self.eye @ self.up <= self.floor:
            return  # from below, the ground would hide the shape
        slope = rays[:, 3:] @ self.up
        on = free & (slope < -TINY)
        rays = rays[on]
        at = rays[:, :3] + ((self.floor - self.eye @ self.up) / slope[on])[:, None] * rays[:, 3:]
        up = np.broadcast_to(self.up, at.shape)
        hidden = _occlusion(scene, at, up, up, pixels[on], GROUND_REACH)
        rgba[on, 3] = 0.8 * hidden  # black: the colour stays 0

    def light(self, normals: np.ndarray, open_sky) -> np.ndarray:
        """Brightness (N,) of points with normals (N, 3) towards us; open_sky: the share of the sky
        that each sees, (N,) or one number."""
        towards = meshes.unit_vectors(np.array([direction for direction, _ in LIGHTS]) @ self.axes)
        strengths = np.array([strength for _, strength in LIGHTS])
        direct = np.clip(normals @ towards.T, 0, None) @ strengths
        # what hides the sky hides part of the lamps, too
        brightness = AMBIENT * open_sky + direct * (0.4 + 0.6 * open_sky)
        return 1 - self.shading * (1 - brightness)


def _encode(rgba: np.ndarray, background: str) -> np.ndarray:
    """sRGB bytes (h, w, 3) on white, or (h, w, 4) with alpha, of premultiplied linear light and
    coverage (h, w, 4)."""
    alpha = rgba[..., 3:]
    if background == "white":
        light = rgba[..., :3] + (1 - alpha)
    else:
        light = rgba[..., :3] / np.maximum(alpha, TINY)
    rgb = np.round(255 * np.clip(light, 0, 1) ** (1 / GAMMA))
    channels = [rgb] if background == "white" else [rgb, np.round(255 * alpha)]
    return np.concatenate(channels, axis=-1).astype(np.uint8)
