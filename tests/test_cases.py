"""Files rebuilt from public bug reports (../shared/cases, no part of the project): each is read, or
refused with the right reason."""

from pathlib import Path
import re

from conftest import ROOT
from helper import UserError
from igr.__main__ import reconstruct
from igr.formats import files

import numpy as np
import pytest

CASES = ROOT.parent / "shared" / "cases"
SHAPE = np.array([[6.715, 17.905, 28.939], [12.711, 22.122, 31.062]])  # corners of most clouds
# file: (number of points, what belongs to them, a word of the warning), as its README expects
READ = {
    "01*/pcd_ouster_count0.pcd": (1500, "intensity", ""),
    "02*/structured.npz": (1500, "", ""),
    "02*/intensity_str.npz": (1500, "", "intensities are no numbers"),
    "02*/diamond.npz": (6, "normals faces colors", ""),
    "03*/ply_extra_column.ply": (1500, "", "1500 rows of 'vertex' have more numbers"),
    "03*/ply_one_long_row.ply": (1500, "", "1 rows of 'vertex' have more numbers"),
    "04*/pandas_index.xyz": (1500, "", ""),
    "04*/units_header.xyz": (1500, "", ""),
    "05*/pcd_ascii_nan.pcd": (1500, "colors", "900 of 2400 points are NaN"),
    "05*/pcd_organised_nan.pcd": (1500, "", "900 of 2400 points are NaN"),
    "06*/glb_points_plain.glb": (1500, "", ""),
    "07*/ply_pdal_upper.ply": (1500, "colors", ""),
    "07*/ply_upper.ply": (1500, "", ""),
    "08*/multibody.stl": (None, "faces", ""),
    "09*/xyz_comma.txt": (1500, "", ""),
    "10*/colors_rgba.npz": (1500, "colors", ""),
    "10*/obj_mixed_color.obj": (1500, "", "only 750 of 1500 points have a colour"),
    "11*/bunny_8.pts": (9, "", "promises 8 points, but has 9"),
    "11*/pts_off_by_one.pts": (1500, "colors intensity", "promises 1499 points, but has 1500"),
    "11*/pts_two_clouds.pts": (1500, "intensity", ""),
    "12*/ply_bom_in_body.ply": (1500, "", ""),
    "14*/obj_backslash.obj": (1500, "", ""),
    "14*/wallhole.obj": (None, "faces", ""),
    **{f"15*/{name}": (1500, "", "") for name in ("batch.npy", "structured.npy", "transposed.npy")},
    "15*/organised.npy": (1500, "", "900 of 2400 points are NaN"),
    "15*/coords.npz": (1500, "colors", ""),
    "15*/two_arrays.npz": (1500, "", ""),
    "16*/coff.off": (1500, "colors", ""),
    "16*/noff.off": (1500, "normals", ""),
    "16*/obj_vn.obj": (1500, "normals", ""),
    "16*/ply_diffuse.ply": (1500, "normals colors", ""),
    **{f"17*/{name}.xyz": (1500, "", "") for name in (
        "brackets", "footer", "fortran_d", "names_first", "petrel", "quoted", "utf16")},
    "19*/noise_cluster.las": (20000, "", "45 of 20045 points are flagged as withheld or noise"),
    "31*/station0.e57": (3453, "origins", "2000 of 5453 points are 0 0 0"),
    "31*/station1.e57": (3544, "origins", "2000 of 5544 points are 0 0 0"),
}
REFUSED = {
    "09*/kitti.bin": r"raw numbers without a header, as KITTI's; write them as .npy",
    "12*/pcd_ext_header.pcd": "row 1 of 'point' is not numbers: 'HEADER_EXT_START 6'",
    "12*/ply_comma_decimal.ply": r"row 1 .*'11,196363' is none; write decimal points",
}


def case(pattern: str) -> Path:
    found = sorted(CASES.glob(pattern))
    if not found:
        pytest.skip(f"the case {pattern} is not at hand (it is not part of the project)")
    return found[0]


@pytest.mark.parametrize("pattern", READ)
def test_a_case_is_read(caplog, pattern):
    number, belongings, warning = READ[pattern]
    shape = files.read(case(pattern))
    assert number is None or len(shape.points) == number
    assert {name for name, values in zip(shape._fields[1:], shape[1:])
            if values is not None} >= set(belongings.split())
    assert warning in caplog.text and bool(warning) == bool(caplog.text)
    if number == 1500:
        corners = [shape.points.min(axis=0), shape.points.max(axis=0)]
        np.testing.assert_allclose(corners, SHAPE, atol=0.002)


@pytest.mark.parametrize("pattern", REFUSED)
def test_a_case_is_refused(pattern):
    with pytest.raises(UserError, match=REFUSED[pattern]) as error:
        files.read(case(pattern))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["cad_box", "cad_ring"])
def test_a_part_is_said_to_be_a_mesh(caplog, name):
    cloud = files.read_cloud(case(f"32*/{name}.stl"))
    assert len(cloud.points) == files.SAMPLES
    assert re.search("is a mesh of [0-9]+ vertices, too few to show its surface", caplog.text)


def test_scans_far_from_the_origin_keep_their_digits(tmp_path, script):
    paths = [case(f"31*/station{i}.e57") for i in (0, 1)]
    script(f"datasets.py merge -f {paths[0]} {paths[1]} -o {tmp_path / 'a.ply'}")
    merged = files.read(tmp_path / "a.ply").points
    assert len(np.unique(merged[:, 1])) > len(merged) / 2


def test_too_few_digits_are_told_before_the_training(tmp_path):
    with pytest.raises(UserError, match=r"a\.stl: \.stl keeps seven digits"):
        reconstruct([str(case("35*/utm_pf0.las")), "-o", str(tmp_path / "a.stl")])
    assert not list(tmp_path.glob("a_run/param*"))
