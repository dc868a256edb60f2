"""How near a mesh is to a reference: Chamfer, Hausdorff, F-score, normals, point to surface.

Three protocols, named beside every number:

    default    the reference's unit frame (half its longest side = 1); both shapes in their own
               coordinates, so a turned or shifted mesh is seen as such
    upstream   as the published nnabla-examples table was made, with its turn by 90 degrees
    srb        the Surface Reconstruction Benchmark's, in the reference's own units

Chamfer is half the sum of the two means of unsquared nearest-neighbour distances, Hausdorff the
larger of the two maxima.
"""

from __future__ import annotations

import helper
from helper import UserError
from igr import meshes
from igr.frames import Frame, Geometry
from igr.meshes import sample_mesh, sample_poisson

import numpy as np

SAMPLES = 200_000  # on each mesh, by area
SRB_SAMPLES = 1_000_000
F_THRESHOLDS = (0.01, 0.02)  # unit frame
FIELD_SAMPLES = 20_000  # in the cube, and as many in the band
FIELD_BAND = 0.05  # half its width, unit frame


def nearest(points: np.ndarray, others: np.ndarray):
    """Distance (N,) and index (N,) of the nearest of `others` (M, 3) for each of points (N, 3)."""
    from scipy.spatial import cKDTree

    # plain splits: in a compact tree queries far from the cloud take 30 times as long
    tree = cKDTree(others, compact_nodes=False, balanced_tree=False)
    return tree.query(points, workers=helper.cores())


def chamfer_hausdorff(mesh: np.ndarray, reference: np.ndarray) -> dict:
    """Both distances and their one-sided parts between point sets (N, 3) and (M, 3)."""
    return _from_distances(nearest(mesh, reference)[0], nearest(reference, mesh)[0])


def _from_distances(forth: np.ndarray, back: np.ndarray) -> dict:
    return {
        "chamfer": float(forth.mean() + back.mean()) / 2,
        "chamfer_mesh_to_reference": float(forth.mean()),
        "chamfer_reference_to_mesh": float(back.mean()),
        "hausdorff": float(max(forth.max(), back.max())),
        "hausdorff_mesh_to_reference": float(forth.max()),
        "hausdorff_reference_to_mesh": float(back.max()),
    }


def f_score(forth: np.ndarray, back: np.ndarray, threshold: float) -> float:
    """Harmonic mean of the shares of the two one-sided distances that lie under threshold."""
    precision, recall = (forth < threshold).mean(), (back < threshold).mean()
    return float(2 * precision * recall / max(precision + recall, 1e-12))


def point_to_surface(points: np.ndarray, mesh: Geometry) -> np.ndarray:
    """Exact distance (N,) of points (N, 3) to a triangle mesh; float32 arithmetic."""
    scene = meshes.ray_scene(mesh.points, mesh.faces)
    return scene.compute_distance(meshes.tensor(points)).numpy()


def distance_to(points: np.ndarray, reference: Geometry) -> np.ndarray:
    """Distance (N,) of points (N, 3) to a mesh's surface, or to the nearest point of a cloud."""
    if reference.faces is None:
        return nearest(points, reference.points)[0]
    return point_to_surface(points, reference)


def _summary(distances: np.ndarray) -> dict:
    return {
        "mean": float(distances.mean()),
        "rms": float(np.sqrt(np.mean(distances.astype(np.float64) ** 2))),
        "p99": float(np.percentile(distances, 99)),
        "max": float(distances.max()),
    }


def default_protocol(mesh: Geometry, reference: Geometry, seed: int = 0) -> dict:
    """Every metric in the reference's unit frame; reference: a mesh or a cloud."""
    frame = Frame.of(reference.surface_points)
    rng = np.random.default_rng(seed)
    mesh = mesh._replace(points=frame.to_unit(mesh.points))
    samples = sample_mesh(mesh, SAMPLES, rng)
    is_mesh = reference.faces is not None
    if is_mesh:
        reference = reference._replace(points=frame.to_unit(reference.points))
        truth = sample_mesh(reference, SAMPLES, rng)
        floor = chamfer_hausdorff(sample_mesh(reference, SAMPLES, rng).points, truth.points)
    else:
        truth = reference._replace(points=frame.to_unit(reference.points))
        floor = {"chamfer": float(_spacing(truth.points).mean())}
    forth, to_truth = nearest(samples.points, truth.points)
    back, to_samples = nearest(truth.points, samples.points)
    result = {
        "units": "half the longest side of the reference = 1",
        "samples_mesh": len(samples.points),
        "samples_reference": len(truth.points),
        **_from_distances(forth, back),
        "chamfer_floor": floor["chamfer"],
    }
    for threshold in F_THRESHOLDS:
        result[f"f_score_{threshold:g}"] = f_score(forth, back, threshold)
    if truth.normals is not None:
        lengths = np.linalg.norm(truth.normals, axis=1, keepdims=True)
        normals = truth.normals / np.maximum(lengths, 1e-12)
        result["normal_consistency"] = float(
            np.abs((samples.normals * normals[to_truth]).sum(axis=1)).mean() / 2
            + np.abs((normals * samples.normals[to_samples]).sum(axis=1)).mean() / 2
        )
    result["reference_to_surface"] = _summary(point_to_surface(truth.points, mesh))
    if is_mesh:
        result["mesh_to_surface"] = _summary(point_to_surface(samples.points, reference))
    return result


def _spacing(points: np.ndarray) -> np.ndarray:
    """Distance of each point to its nearest other: what a perfect mesh would still be away."""
    from scipy.spatial import cKDTree

    return cKDTree(points).query(points, k=[2], workers=helper.cores())[0][:, 0]


def upstream_turn(points: np.ndarray) -> np.ndarray:
    """(x, y, z) -> (y, -x, z): what upstream's grid order and spacing (1, -1, 1) did to a mesh."""
    return np.column_stack([points[:, 1], -points[:, 0], points[:, 2]])


def upstream_protocol(mesh: Geometry, reference: Geometry, seed: int = 412) -> dict:
    """The published figures: the held-out quarter of the reference's points against as many
    Poisson-disk samples of the *turned* mesh, each set in the frame of its own bounding box."""
    points = reference.surface_points
    order = np.random.RandomState(313).permutation(len(points))
    frame = Frame.of(points)
    truth = frame.to_unit(points[order[: len(points) // 4]])
    mesh_unit = mesh._replace(points=frame.to_unit(mesh.points))
    samples = upstream_turn(sample_poisson(mesh_unit, len(truth), seed).points)
    return {
        "units": "half the longest side = 1, each set in its own frame; the mesh turned",
        "samples_mesh": len(samples),
        "samples_reference": len(truth),
        **chamfer_hausdorff(Frame.of(samples).to_unit(samples), truth),
    }


def srb_protocol(mesh: Geometry, reference: Geometry, seed: int = 0) -> dict:
    """1 M samples of the mesh against all points of the reference, in the reference's units. The
    benchmark's scan columns are the *_reference_to_mesh entries with the scan as reference; their
    floor is what a mesh through every point of the scan would still measure."""
    samples = sample_mesh(mesh, SRB_SAMPLES, np.random.default_rng(seed))
    points = reference.surface_points
    return {
        "units": "the reference's own",
        "samples_mesh": SRB_SAMPLES,
        "samples_reference": len(points),
        **chamfer_hausdorff(samples.points, points),
        # the mean distance of a point that lies on the mesh to the nearest of the random samples
        "chamfer_reference_to_mesh_floor":
            float(np.sqrt(meshes.face_areas(mesh).sum() / SRB_SAMPLES)) / 2,
    }


def true_distance(mesh: Geometry):
    """(points (N, 3) -> distance (N,) to a mesh, signed): negative inside a watertight mesh, whose
    distance is signed; of an open one nobody knows what is inside. float32 arithmetic."""
    if not meshes.topology(mesh)["watertight"]:
        return (lambda points: point_to_surface(points, mesh)), False
    scene = meshes.ray_scene(mesh.points, mesh.faces)

    def distance(points):
        query = meshes.tensor(points)
        return scene.compute_signed_distance(query, nsamples=3).numpy()  # 3 rays vote for inside

    return distance, True


def field(value_and_gradient, distance, surface: Geometry, half_side, signed: bool = True,
          seed: int = 0) -> dict:
    """What a function is worth as a distance, in the unit frame: means of | |grad f| - 1 | and of
    |f - d|, in the cube and in a narrow band around the surface.

    value_and_gradient: points (N, 3) -> f (N,) and grad f (N, 3); distance: points -> d (N,),
    negative inside as f should be; not `signed`: d is at least 0, for an open surface, and it is
    | |f| - d | that is averaged; surface: points and unit normals on it. cube: points uniform in
    [-half_side, half_side]^3. band: points of the surface moved along their normals, by a uniform
    number of [-FIELD_BAND, FIELD_BAND].
    """
    rng = np.random.default_rng(seed)
    picked = rng.integers(len(surface.points), size=FIELD_SAMPLES)
    offset = rng.uniform(-FIELD_BAND, FIELD_BAND, (FIELD_SAMPLES, 1))
    places = {"cube": rng.uniform(-half_side, half_side, (FIELD_SAMPLES, 3)),
              "band": surface.points[picked] + offset * surface.normals[picked]}
    result = {"units": "half the longest side of the reference = 1", "samples": FIELD_SAMPLES,
              "signed": signed, "cube_half_side": half_side, "band_half_width": FIELD_BAND}
    for name, points in places.items():
        f, gradient = value_and_gradient(points)
        f = f if signed else np.abs(f)
        result[name] = {
            "gradient_off_1": float(np.abs(np.linalg.norm(gradient, axis=1) - 1).mean()),
            "distance_off": float(np.abs(f - distance(points)).mean()),
        }
    return result


PROTOCOLS = {"default": default_protocol, "upstream": upstream_protocol, "srb": srb_protocol}


def measure(mesh: Geometry, reference: Geometry, protocols=("default",)) -> dict:
    """{"topology": counts, protocol: metrics, ...} of a mesh against a mesh or cloud, both in world
    coordinates."""
    if mesh.faces is None:
        raise UserError("the mesh to measure has no faces")
    measured = {name: PROTOCOLS[name](mesh, reference) for name in protocols}
    return {"topology": meshes.topology(mesh), **measured}
