"""Where compiled functions are kept, and that compiling is said."""

import os
import stat
import subprocess
import sys

from conftest import ROOT

import pytest

MODULE = """
from igr.backend import threads
@threads.compiled()
def twice(x):
    return 2 * x
"""


@pytest.fixture
def twice(tmp_path):
    """twice(HOME=...) calls a compiled function in a new process and returns its stderr."""
    (tmp_path / "module.py").write_text(MODULE)

    def run(**environment) -> str:
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}", **environment}
        environment.pop("XDG_CACHE_HOME", None)
        done = subprocess.run([sys.executable, "-c", "import module; assert module.twice(3) == 6"],
                              env=environment, text=True, capture_output=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stderr

    return run


def test_compiling_is_said_once_and_kept_beside_the_source(twice, tmp_path):
    assert twice() == "compiling for this processor, which takes up to half a minute\n"
    assert twice() == ""
    assert list((tmp_path / "__pycache__").glob("module.twice*.nbi"))


def test_of_a_project_that_cannot_be_written_it_is_kept_in_the_users_cache(twice, tmp_path):
    (tmp_path / "__pycache__").touch()  # stands in for a read-only folder
    assert "compiling" in twice(HOME=str(tmp_path)) and not twice(HOME=str(tmp_path))
    assert list((tmp_path / ".cache").rglob("module.twice*.nbi"))


def test_without_a_users_cache_it_is_kept_where_only_the_user_can_write(twice, tmp_path):
    (tmp_path / "__pycache__").touch()
    (tmp_path / "tmp").mkdir()
    places = {"HOME": os.devnull, "TMPDIR": str(tmp_path / "tmp")}
    assert "compiling" in twice(**places) and not twice(**places)
    folder, = (tmp_path / "tmp").glob("igr-*")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700 and list(folder.rglob("*.nbi"))
    folder.chmod(0o777)  # anybody may have put something there: it is not executed
    assert "compiling" in twice(**places) and "compiling" in twice(**places)
