"""Measure a mesh against a reference: Chamfer, Hausdorff, F-score, normals, point to surface.

Three protocols, named beside every number:

    default    the reference's unit frame (half its longest side = 1); both shapes in their own
               coordinates, so a turned or shifted mesh is seen as such
    upstream   as the published nnabla-examples table was made, with its turn by 90 degrees
    srb        the Surface Reconstruction Benchmark's, in the reference's own units

Chamfer is half the sum of the two means of unsquared nearest-neighbour distances, Hausdorff the
larger of the two maxima. Both come with their one-sided parts: "mesh_to_reference" is measured at
points of the mesh, "reference_to_mesh" at points of the reference.
"""

from __future__ import annotations

from helper import UserError
from igr.geometry import meshes
from igr.geometry.frames import Frame, Geometry
from igr.geometry.meshes import sample_mesh, sample_poisson
from igr.geometry.neighbours import kth_distance, nearest, point_to_surface, tree_of

import numpy as np

SAMPLES = 200_000  # on each mesh, by area
SRB_SAMPLES = 1_000_000
F_THRESHOLDS = (0.01, 0.02)  # unit frame
FIELD_SAMPLES = 20_000  # in the cube, and as many in the band
FIELD_BAND = 0.05  # half its width, unit frame


# -------------------------------------------------------------------------------------- distances


def distance_to(points: np.ndarray, reference: Geometry) -> np.ndarray:
    """Distance (N,) of points (N, 3) to a mesh's surface, or to the nearest point of a cloud."""
    if reference.faces is None:
        return nearest(points, reference.points)[0]
    return point_to_surface(points, reference)


def true_distance(mesh: Geometry):
    """The distance to a mesh as a function, points (N, 3) -> (N,), and whether it is signed.

    The distance to a watertight mesh is signed, negative inside; an open mesh has no inside.
    float32 arithmetic.
    """
    if not meshes.topology(mesh)["watertight"]:
        return (lambda points: point_to_surface(points, mesh)), False
    scene = meshes.ray_scene(mesh.points, mesh.faces)

    def distance(points: np.ndarray) -> np.ndarray:
        query = meshes.tensor(points)
        return scene.compute_signed_distance(query, nsamples=3).numpy()  # 3 rays vote for inside

    return distance, True


# --------------------------------------------------------------------------------------- measures


def chamfer_hausdorff(mesh: np.ndarray, reference: np.ndarray) -> dict:
    """Both distances and their one-sided parts between point sets (N, 3) and (M, 3)."""
    return _from_distances(nearest(mesh, reference)[0], nearest(reference, mesh)[0])


def _from_distances(to_reference: np.ndarray, to_mesh: np.ndarray) -> dict:
    """Of the one-sided distances (N,) from mesh to reference and (M,) from reference to mesh."""
    return {
        "chamfer": float(to_reference.mean() + to_mesh.mean()) / 2,
        "chamfer_mesh_to_reference": float(to_reference.mean()),
        "chamfer_reference_to_mesh": float(to_mesh.mean()),
        "hausdorff": float(max(to_reference.max(), to_mesh.max())),
        "hausdorff_mesh_to_reference": float(to_reference.max()),
        "hausdorff_reference_to_mesh": float(to_mesh.max()),
    }


def f_score(to_reference: np.ndarray, to_mesh: np.ndarray, threshold: float) -> float:
    """Harmonic mean of the shares of the one-sided distances (N,) and (M,) below threshold."""
    precision = (to_reference < threshold).mean()
    recall = (to_mesh < threshold).mean()
    return float(2 * precision * recall / max(precision + recall, meshes.TINY))


def _normal_consistency(mesh: np.ndarray, reference: np.ndarray, nearest_in_reference: np.ndarray,
                        nearest_in_mesh: np.ndarray) -> float:
    """Mean |cosine| between unit normals (N, 3) and (M, 3) and those of the nearest points on the
    other side, whose indices are (N,) and (M,)."""
    forwards = (mesh * reference[nearest_in_reference]).sum(axis=1)
    backwards = (reference * mesh[nearest_in_mesh]).sum(axis=1)
    return float(np.abs(forwards).mean() / 2 + np.abs(backwards).mean() / 2)


def _normals_agree(mesh: np.ndarray, reference: np.ndarray,
                   nearest_in_reference: np.ndarray) -> float:
    """The share of normals (N, 3) on a mesh that look to the same side as those of the nearest
    points of the reference, (M, 3) by indices (N,): about 0 where the mesh is inside out, and about
    a half where the reference's normals have no common side."""
    return float(((mesh * reference[nearest_in_reference]).sum(axis=1) > 0).mean())


def _summary(distances: np.ndarray) -> dict:
    """Mean, root mean square, 99th percentile and maximum of distances (N,)."""
    return {
        "mean": float(distances.mean()),
        "rms": float(np.sqrt(np.mean(distances.astype(np.float64) ** 2))),
        "p99": float(np.percentile(distances, 99)),
        "max": float(distances.max()),
    }


def field_error(value_and_gradient, distance, surface: Geometry, half_side: float,
                signed: bool = True, seed: int = 0) -> dict:
    """How far a function is from a distance, in the unit frame: means of | |grad f| - 1 | and of
    |f - d|, in the cube and in a narrow band around the surface.

    value_and_gradient: points (N, 3) -> f (N,) and grad f (N, 3). distance: points -> d (N,),
    negative inside as f should be; with signed=False, for an open surface, d is at least 0 and
    | |f| - d | is averaged. surface: points and unit normals on it. The cube has points uniform in
    [-half_side, half_side]^3; the band has points of the surface moved along their normals by a
    uniform number of [-FIELD_BAND, FIELD_BAND].
    """
    rng = np.random.default_rng(seed)
    picked = rng.integers(len(surface.points), size=FIELD_SAMPLES)
    offset = rng.uniform(-FIELD_BAND, FIELD_BAND, (FIELD_SAMPLES, 1))
    cube = rng.uniform(-half_side, half_side, (FIELD_SAMPLES, 3))
    band = surface.points[picked] + offset * surface.normals[picked]
    result = {"units": "half the longest side of the reference = 1", "samples": FIELD_SAMPLES,
              "signed": signed, "cube_half_side": half_side, "band_half_width": FIELD_BAND}
    for name, points in (("cube", cube), ("band", band)):
        f, gradient = value_and_gradient(points)
        f = f if signed else np.abs(f)
        result[name] = {
            "gradient_off_1": float(np.abs(np.linalg.norm(gradient, axis=1) - 1).mean()),
            "distance_off": float(np.abs(f - distance(points)).mean()),
        }
    return result


# -------------------------------------------------------------------------------------- protocols


def default_protocol(mesh: Geometry, reference: Geometry, seed: int = 0) -> dict:
    """Every metric in the reference's unit frame; reference: a mesh or a cloud."""
    rng = np.random.default_rng(seed)
    frame = Frame.of(reference.surface_points)
    mesh = frame.geometry_to_unit(mesh)
    reference = frame.geometry_to_unit(reference)
    is_mesh = reference.faces is not None
    samples = sample_mesh(mesh, SAMPLES, rng)
    truth = sample_mesh(reference, SAMPLES, rng) if is_mesh else reference
    if is_mesh:  # two samplings of one surface are not at distance 0
        floor = chamfer_hausdorff(sample_mesh(reference, SAMPLES, rng).points,
                                  truth.points)["chamfer"]
    else:  # a perfect mesh would still be this far from points between those of the cloud
        floor = float(kth_distance(tree_of(truth.points), 1).mean())
    to_reference, nearest_in_reference = nearest(samples.points, truth.points)
    to_mesh, nearest_in_mesh = nearest(truth.points, samples.points)
    result = {
        "units": "half the longest side of the reference = 1",
        "samples_mesh": len(samples.points),
        "samples_reference": len(truth.points),
        **_from_distances(to_reference, to_mesh),
        "chamfer_floor": floor,
    }
    for threshold in F_THRESHOLDS:
        result[f"f_score_{threshold:g}"] = f_score(to_reference, to_mesh, threshold)
    if truth.normals is not None:
        normals = meshes.unit_vectors(truth.normals)
        result["normal_consistency"] = _normal_consistency(samples.normals, normals,
                                                           nearest_in_reference, nearest_in_mesh)
        result["normals_agree"] = _normals_agree(samples.normals, normals, nearest_in_reference)
    result["reference_to_surface"] = _summary(point_to_surface(truth.points, mesh))
    if is_mesh:
        result["mesh_to_surface"] = _summary(point_to_surface(samples.points, reference))
    return result


def upstream_turn(points: np.ndarray) -> np.ndarray:
    """(x, y, z) -> (y, -x, z), points (N, 3): what upstream's grid order and spacing (1, -1, 1) did
    to a mesh."""
    return np.column_stack([points[:, 1], -points[:, 0], points[:, 2]])


def upstream_protocol(mesh: Geometry, reference: Geometry, seed: int = 412) -> dict:
    """The published figures: a quarter of the reference's points, as upstream held out, against as
    many Poisson-disk samples of the *turned* mesh, each set in the frame of its own bounding box.
    """
    points = reference.surface_points
    order = np.random.RandomState(313).permutation(len(points))
    frame = Frame.of(points)
    truth = frame.to_unit(points[order[: len(points) // 4]])
    samples = sample_poisson(frame.geometry_to_unit(mesh), len(truth), seed)
    turned = upstream_turn(samples.points)
    return {
        "units": "half the longest side = 1, each set in its own frame; the mesh turned",
        "samples_mesh": len(turned),
        "samples_reference": len(truth),
        **chamfer_hausdorff(Frame.of(turned).to_unit(turned), truth),
    }


def srb_protocol(mesh: Geometry, reference: Geometry, seed: int = 0) -> dict:
    """1 M samples of the mesh against all points of the reference, in the reference's units.

    The benchmark's scan columns are the *_reference_to_mesh entries with the scan as reference. A
    mesh through every point of the scan would still measure their floor.
    """
    samples = sample_mesh(mesh, SRB_SAMPLES, np.random.default_rng(seed))
    points = reference.surface_points
    # the mean distance of a point on the mesh to the nearest of the random samples
    floor = float(np.sqrt(meshes.face_areas(mesh).sum() / SRB_SAMPLES)) / 2
    return {
        "units": "the reference's own",
        "samples_mesh": SRB_SAMPLES,
        "samples_reference": len(points),
        **chamfer_hausdorff(samples.points, points),
        "chamfer_reference_to_mesh_floor": floor,
    }


PROTOCOLS = {"default": default_protocol, "upstream": upstream_protocol, "srb": srb_protocol}


def measure(mesh: Geometry, reference: Geometry, protocols=("default",)) -> dict:
    """{"topology": counts, protocol: metrics, ...} of a mesh against a mesh or cloud, both in world
    coordinates. protocols: names in PROTOCOLS. Raises UserError where the mesh has no faces."""
    if mesh.faces is None:
        raise UserError("the mesh to measure has no faces")
    measured = {name: PROTOCOLS[name](mesh, reference) for name in protocols}
    return {"topology": meshes.topology(mesh), **measured}
