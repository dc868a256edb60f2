"""soak.py runs a few commands and sees what should not be; fuzz.py uses damaged clouds."""

import sys

from benchmarks.stress import fuzz, soak
from helper import UserError

import numpy as np
import pytest


@pytest.fixture
def folder(tmp_path):
    soak.make_inputs(tmp_path, np.random.default_rng(0))
    return tmp_path


def test_a_few_commands(tmp_path):
    result = soak.campaign(tmp_path, minutes=5, seed=3, most=4)
    assert result["commands"] == sum(result["statuses"].values()) == 4
    assert set(result["statuses"]) <= {"0", "1", "2"} and result["findings"] == []
    assert "4 commands, seed 3" in soak.summary(result)


def test_the_same_seed_gives_the_same_commands():
    def lines(seed):
        draw = soak.Draw(np.random.default_rng(seed))
        return [script(draw) for script in soak.SCRIPTS * 40]

    assert lines(1) == lines(1) != lines(2)
    words = {word for line in lines(1) for word in line}
    assert {"in/letter.ply", "--resume", "nan", "-mlp"} <= words
    assert len(words & {f"in/{name}" for name in soak.BAD}) > 3


# what a command does, and what is found of it
BROKEN = {
    "raise ValueError('wrong')": ("traceback", "ValueError: wrong"),
    "import time; time.sleep(60)": ("hang", "killed after"),
    "import os; os.abort()": ("status", "-6"),
    "open('in/letter.ply', 'a').write('x')": ("input changed", "letter.ply"),
    "import os; os.remove('in/letter.ply')": ("input changed", "letter.ply"),
    "open('out/a.json', 'w').write('{')": ("half written", "a.json"),
    "open('out/.writing-a-1.ply', 'w')": ("half written", ".writing-a-1.ply"),
    "import sys; sys.exit(1)": None,
}


@pytest.mark.parametrize("program", BROKEN)
def test_what_should_not_be_is_found(folder, monkeypatch, program):
    monkeypatch.setattr(soak, "ROOT", folder)  # where it looks for scripts
    (folder / "script.py").write_text(program)
    before = soak.state_of(folder)
    ended = soak.run(["script.py"], folder, 3 if "sleep" in program else 60)
    found = soak.findings(ended, before, soak.state_of(folder), set(before))
    if BROKEN[program] is None:
        assert found == []
    else:
        (kind, text), = found
        assert kind == BROKEN[program][0] and BROKEN[program][1] in text


def test_an_output_may_be_a_file_that_is_no_input(tmp_path):
    made = {tmp_path / "in" / name for name in ("a.ply", "b.ply")}
    line = "infer.py -f in/a.ply -o in/"
    assert soak.untouchable(f"{line}b.ply".split(), made, tmp_path) == {tmp_path / "in/a.ply"}
    assert soak.untouchable(f"{line}a.ply".split(), made, tmp_path) == made


def test_its_exit_status(tmp_path, monkeypatch, capsys):
    bad = {"command": "train.py -b x", "kind": "traceback", "text": "ValueError"}
    result = {"seed": 0, "commands": 1, "statuses": {"1": 1}, "slowest": (1.0, "train.py"),
              "kinds": {"traceback": 1}, "findings": [bad]}
    monkeypatch.setattr(soak, "campaign", lambda *args: result)
    monkeypatch.setattr(sys, "argv", ["soak.py", "--json", str(tmp_path / "soak.json")])
    with pytest.raises(SystemExit, match="1"):
        soak.main(soak.parse_args())
    assert "train.py -b x" in capsys.readouterr().out and (tmp_path / "soak.json").is_file()


@pytest.mark.parametrize("use", fuzz.USES)
def test_damaged_clouds_are_used_or_refused(tmp_path, use):
    """5 of the 40 of benchmarks/stress/fuzz.py."""
    found = fuzz.campaign(".npy", 5, tmp_path, seed=5, use=use)
    assert found["tracebacks"] == 0, found["failures"]
    assert found["read"] > 0 and found["read"] + found["refused"] == 5


def test_a_cloud_too_far_for_detail_is_refused(tmp_path):
    path = tmp_path / "far.xyz"
    path.write_text("1e20 0 0\n0 1 0\n0 0 1\n" * 20)
    with pytest.raises(UserError, match="times farther away"):
        fuzz.add_detail(path)
