"""Ctrl-C is one line and status 130, during the large imports as well."""

import os
import signal
import subprocess
import sys

from conftest import ROOT

import pytest

INTERRUPTS = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n"


def run(*words, cwd=None, **environment) -> subprocess.CompletedProcess:
    """Python with these words, and Ctrl-C as at a terminal: in the background it is ignored."""
    return subprocess.run([sys.executable, *words], cwd=cwd, env={**os.environ, **environment},
                          text=True, capture_output=True, timeout=60,
                          preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))


@pytest.mark.parametrize("name", ["datasets.py", "train.py", "infer.py", "evaluate.py",
                                  "visualize.py"])
def test_ctrl_c_while_modules_are_imported(tmp_path, name):
    """A stand-in for numpy interrupts the process that imports it."""
    (tmp_path / "numpy.py").write_text(INTERRUPTS)
    done = run(str(ROOT / name), "--help", PYTHONPATH=str(tmp_path))
    assert done.stderr == f"{name}: interrupted\n" and done.returncode == 128 + signal.SIGINT


@pytest.mark.parametrize("raises", ["pass", "raise helper.UserError('no')"])
def test_ctrl_c_in_the_work_closes_what_is_open(tmp_path, raises):
    """And what comes from Ctrl-C after it, while Python ends, is no traceback either."""
    script = tmp_path / "script.py"
    (tmp_path / "helper.py").write_text((ROOT / "helper.py").read_text())
    script.write_text("if True:\n    import atexit, os, signal, helper\n"
                      "    def main(args):\n"
                      "        with helper.replacing('a.txt'):\n"
                      "            os.kill(os.getpid(), signal.SIGINT)\n"
                      "    def later(args):\n"
                      "        atexit.register(os.kill, os.getpid(), signal.SIGINT)\n"
                      f"        {raises}\n"
                      "import sys\nhelper.run({'main': main, 'later': later}[sys.argv[1]], None)\n")
    for what, lines in (("main", 1), ("later", 1 if raises == "pass" else 2)):
        done = run(str(script), what, cwd=tmp_path)
        assert done.returncode == 130 and done.stderr.endswith("script.py: interrupted\n")
        assert done.stderr.count("\n") == lines and not list(tmp_path.glob(".writing-*"))


def test_a_program_that_imports_us_keeps_its_ctrl_c():
    program = "import signal, helper; assert signal.getsignal(2) is signal.default_int_handler"
    assert run("-c", program, cwd=ROOT).returncode == 0
