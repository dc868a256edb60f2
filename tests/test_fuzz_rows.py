"""fuzz_rows.py reads text files as a straight reader does, and notices a reader that does not."""

from benchmarks.stress import fuzz_rows
from igr.formats import files
from igr.geometry.frames import Geometry

import numpy as np
import pytest


@pytest.mark.parametrize("suffix", fuzz_rows.FORMATS)
def test_rows_are_read_as_a_straight_reader_does(tmp_path, suffix):
    """300 of the 8000 of benchmarks/stress/fuzz_rows.py."""
    found = fuzz_rows.campaign(suffix, 300, tmp_path, seed=1)
    assert found["different"] == found["tracebacks"] == 0, found["failures"]
    assert found["read"] > 50 and found["refused"] > 50


@pytest.mark.parametrize("change", [lambda points: points[::-1] + 1, lambda points: points[:, ::-1],
                                    lambda points: points[1:]])
def test_another_cloud_is_noticed(tmp_path, monkeypatch, change):
    read = files.read
    monkeypatch.setattr(files, "read", lambda path: Geometry(change(read(path).points)))
    assert fuzz_rows.campaign(".off", 40, tmp_path)["different"] > 10


@pytest.mark.parametrize("suffix, text, points", [
    (".xyz", "y x z\n1 2 3\n", [[2, 1, 3]]),
    (".csv", "1,2,3\n4,5,6\nEOF\n", [[1, 2, 3], [4, 5, 6]]),
    (".xyz", "a b c\n1 2 3\n", None), (".xyz", "1 2 3\n4 5\n", None),
    (".xyz", "x y z\n1 2 w\n", None),
    (".off", "OFF\n1 0 0\n1 2 nan 4\n", np.empty((0, 3)))])
def test_the_straight_reader(suffix, text, points):
    found = fuzz_rows.expected(suffix, text)
    assert (found is None) == (points is None)
    assert points is None or np.array_equal(found, points)
