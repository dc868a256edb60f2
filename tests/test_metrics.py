"""The metrics against brute force, against what must be true, and the published table."""

from helper import UserError
from igr.formats import files
from igr.geometry import meshes, metrics, neighbours, shapes
from igr.geometry.frames import Geometry

import numpy as np
import pytest
from scipy.spatial.distance import cdist


def test_chamfer_and_hausdorff_against_brute_force(rng):
    a = rng.standard_normal((40, 3))
    b = rng.standard_normal((60, 3))
    d = cdist(a, b)
    to_b = d.min(axis=1)
    to_a = d.min(axis=0)
    result = metrics.chamfer_hausdorff(a, b)
    assert result["chamfer"] == pytest.approx((to_b.mean() + to_a.mean()) / 2)
    assert result["hausdorff"] == pytest.approx(max(to_b.max(), to_a.max()))
    assert result["chamfer_mesh_to_reference"] == pytest.approx(to_b.mean())
    assert result["hausdorff_reference_to_mesh"] == pytest.approx(to_a.max())


def test_f_score():
    half_near = np.array([0, 0, 1, 1])
    all_near = np.zeros(4)
    assert metrics.f_score(half_near, all_near, 0.5) == pytest.approx(2 / 3)
    assert metrics.f_score(np.ones(3), np.ones(3), 0.5) == 0


def test_point_to_surface_against_the_sphere(rng):
    points = rng.uniform(-1.5, 1.5, (500, 3))
    distance = neighbours.point_to_surface(points, shapes.mesh("sphere"))
    np.testing.assert_allclose(distance, np.abs(np.linalg.norm(points, axis=1) - 1), atol=2e-4)


def test_a_mesh_against_itself():
    mesh = shapes.mesh("letter")
    result = metrics.default_protocol(mesh, mesh)
    assert result["mesh_to_surface"]["max"] < 1e-5 and result["reference_to_surface"]["max"] < 1e-5
    assert result["chamfer"] == pytest.approx(result["chamfer_floor"], rel=0.05)
    assert result["f_score_0.01"] > 0.999 and result["normal_consistency"] > 0.99


def test_a_shift_is_measured_in_the_unit_frame():
    """A flat plate shifted along its normal by d (world): every distance is d / scale."""
    plate = Geometry(np.array([[-4, -4, 0], [4, -4, 0], [4, 4, 0], [-4, 4, 0.0]]), None,
                     np.array([[0, 1, 2], [0, 2, 3]]))
    shifted = plate._replace(points=plate.points + np.array([0, 0, 0.4]))
    result = metrics.default_protocol(shifted, plate)
    assert result["mesh_to_surface"]["mean"] == pytest.approx(0.1, rel=1e-4)
    assert result["reference_to_surface"]["max"] == pytest.approx(0.1, rel=1e-4)
    assert result["hausdorff"] == pytest.approx(0.1, rel=0.02)


def test_rigid_motion_of_both_changes_nothing():
    mesh = shapes.mesh("letter")
    reference = shapes.mesh("sponge")
    before = metrics.default_protocol(mesh, reference)
    moved = [m._replace(points=3 * m.points[:, [1, 2, 0]] + [10, 20, 30])
             for m in (mesh, reference)]
    after = metrics.default_protocol(*moved)
    for name in ("chamfer", "hausdorff"):
        assert after[name] == pytest.approx(before[name], rel=0.02)
    mean = before["mesh_to_surface"]["mean"]
    assert after["mesh_to_surface"]["mean"] == pytest.approx(mean, rel=0.02)


def test_a_turned_mesh_is_seen():
    mesh = shapes.mesh("letter")
    turned = mesh._replace(points=metrics.upstream_turn(mesh.points))
    assert metrics.default_protocol(turned, mesh)["chamfer"] > 0.1


def test_a_cloud_as_reference():
    cloud = shapes.sample("torus", 5000)
    mesh = shapes.mesh("torus")
    result = metrics.default_protocol(mesh, cloud)
    assert result["samples_reference"] == 5000 and "mesh_to_surface" not in result
    assert result["reference_to_surface"]["max"] < 1e-3
    assert 0.5 < result["chamfer_mesh_to_reference"] / result["chamfer_floor"] < 2
    assert result["normal_consistency"] > 0.98


def test_an_inside_out_mesh_is_seen():
    """All but the sign is as good as before."""
    cloud = shapes.sample("torus", 5000)
    mesh = shapes.mesh("torus")
    turned = mesh._replace(faces=mesh.faces[:, ::-1])
    good, bad = (metrics.measure(m, cloud) for m in (mesh, turned))
    assert good["default"]["normals_agree"] > 0.99 and not good["topology"]["inside_out"]
    assert bad["default"]["normals_agree"] < 0.01 and bad["topology"]["inside_out"]
    assert bad["default"]["normal_consistency"] > 0.98


def test_srb_protocol_is_in_raw_units():
    mesh = shapes.mesh("torus")
    cloud = shapes.sample("torus", 2000)
    big = metrics.srb_protocol(mesh._replace(points=100 * mesh.points),
                               cloud._replace(points=100 * cloud.points))
    small = metrics.srb_protocol(mesh, cloud)
    assert big["chamfer"] == pytest.approx(100 * small["chamfer"], rel=1e-6)
    assert small["chamfer_reference_to_mesh"] < 0.005  # 1 M samples: near the surface itself


def test_upstream_protocol_gives_the_figures_of_the_turned_truth(data):
    """The ground truth itself, turned, measures what was published for the bunny (0.21 / 0.90)."""
    bunny = files.read(data("bunny/bun_zipper.ply"))
    result = metrics.upstream_protocol(bunny, bunny)
    assert result["chamfer"] == pytest.approx(0.216, rel=0.03)
    assert result["hausdorff"] == pytest.approx(0.913, rel=0.03)


@pytest.mark.parametrize("protocol", list(metrics.PROTOCOLS))
def test_vertices_that_no_face_uses_do_not_count(protocol, monkeypatch):
    monkeypatch.setattr(metrics, "SAMPLES", 2000)
    monkeypatch.setattr(metrics, "SRB_SAMPLES", 2000)
    mesh = shapes.mesh("sphere")
    stray = mesh._replace(points=np.append(mesh.points, [[50.0, 0, 0]], axis=0))
    assert metrics.measure(mesh, stray, [protocol])[protocol] == metrics.measure(
        mesh, mesh, [protocol])[protocol]


def test_a_cloud_is_no_mesh(rng):
    with pytest.raises(UserError, match="no faces"):
        metrics.measure(Geometry(rng.standard_normal((9, 3))), shapes.mesh("letter"))


# --- how far a function is from a distance


def sphere(points):
    return np.linalg.norm(points, axis=1) - 1


def test_the_distance_itself_is_a_perfect_field():
    def distance(points):
        return sphere(points), points / np.linalg.norm(points, axis=1, keepdims=True)

    result = metrics.field_error(distance, sphere, shapes.sample("sphere", 1000), 1.5)
    for place in ("cube", "band"):
        assert result[place]["gradient_off_1"] < 1e-6 and result[place]["distance_off"] == 0


def test_twice_the_distance_is_off_by_one(rng):
    """f = 2 d: | |grad f| - 1 | = 1 everywhere and |f - d| = |d|, whose mean is half the half width
    in the band, and the mean of the distance in the cube."""

    def double(points):
        return 2 * sphere(points), 2 * points / np.linalg.norm(points, axis=1, keepdims=True)

    result = metrics.field_error(double, sphere, shapes.sample("sphere", 1000), 1.5)
    assert result["cube"]["gradient_off_1"] == pytest.approx(1)
    assert result["band"]["gradient_off_1"] == pytest.approx(1)
    assert result["band"]["distance_off"] == pytest.approx(metrics.FIELD_BAND / 2, rel=0.02)
    mean = np.abs(sphere(rng.uniform(-1.5, 1.5, (100_000, 3)))).mean()
    assert result["cube"]["distance_off"] == pytest.approx(mean, rel=0.02)


def test_true_distance_to_a_mesh(rng):
    """It is signed for a closed mesh. For an open one it is not, and the sign of f does not count.
    """
    points = rng.uniform(-1.5, 1.5, (5000, 3))
    ball = shapes.mesh("sphere")
    distance, signed = metrics.true_distance(ball)
    assert signed
    np.testing.assert_allclose(distance(points), sphere(points), atol=2e-4)
    distance, signed = metrics.true_distance(ball._replace(faces=ball.faces[1:]))
    assert not signed
    np.testing.assert_allclose(distance(points), np.abs(sphere(points)), atol=2e-4)

    def inverted(points):
        return -sphere(points), points

    for signed, off in ((False, 0.0), (True, 0.05)):  # |f - d| = 2 |d|, whose mean is 0.05
        found = metrics.field_error(inverted, distance if not signed else sphere,
                              shapes.sample("sphere", 1000), 1.5, signed)
        assert found["signed"] == signed
        assert found["band"]["distance_off"] == pytest.approx(off, abs=1e-3)


def test_srb_floor_is_that_of_points_on_the_mesh(rng):
    """Points on the mesh measure the floor and nothing else."""
    mesh = shapes.mesh("letter")
    result = metrics.srb_protocol(mesh, meshes.sample_mesh(mesh, 20000, rng))
    assert result["chamfer_reference_to_mesh"] == pytest.approx(
        result["chamfer_reference_to_mesh_floor"], rel=0.02)
