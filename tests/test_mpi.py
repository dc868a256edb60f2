"""Several ranks on the CPU under Open MPI's mpirun; skipped where that or mpi4py is missing."""

import json
import os
import shutil
import subprocess
import sys

from conftest import ROOT
from igr.formats import files
from igr.geometry import shapes

import pytest

# trains as train.fit does and prints what the ranks' weights are
TRAIN = """
import hashlib, sys
import train
from igr.backend import ranks
from igr.training.runs import RunFolder
settings = train.Settings(batch_size=32, dims=32, train_iter=40, knn=5, test_rate=0.0)
options = train.Options(context="cpu", threads=1, quiet=True)
run = RunFolder("run")
job = train.build(train.Start("c.ply", settings, options), run)
group = job.trainer.group
with group.exit_on_error(), run.alone(writes=group.rank == 0, make=True):
    train.train(job, run)
weights = b"".join(v.d.tobytes() for v in job.trainer.mlp.parameters.values())
print(f"<{group.rank} {hashlib.sha256(weights).hexdigest()} {job.trainer.samples.x.d.sum():.6f}>")
"""

# infer.py in blocks so small that each rank has some
INFER = """
import helper, infer
from igr.refinement import detail, projection
detail.MOVED = projection.BLOCK = 150
helper.run(infer.main, infer.parse_args())
"""


def run(folder, *words, ranks: int = 1) -> str:
    """What Python prints that is run with these words in a folder, under mpirun with several ranks.
    """
    several = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none",
               "--mca", "mpi_yield_when_idle", "1", "-n", str(ranks)] if ranks > 1 else []
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run([*several, sys.executable, *map(str, words)], cwd=folder, text=True,
                          capture_output=True, timeout=900,
                          env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(autouse=True)
def mpi():
    if not shutil.which("mpirun"):
        pytest.skip("no Open MPI (mpirun)")
    pytest.importorskip("mpi4py", reason="no mpi4py (requirements-mpi.txt)")


def test_ranks_keep_equal_weights_and_extract_what_one_does(tmp_path):
    """Two ranks see different samples and end with the same weights, bit for bit; rank 0 logs and
    saves; the mesh of two ranks, detail included, is that of one, byte for byte."""
    files.write(tmp_path / "c.ply", shapes.sample("knot", 400))
    said = run(tmp_path, "-c", TRAIN, ranks=2)
    found = [line.split() for line in said.replace(">", "<").split("<") if line.strip()]
    assert sorted(rank for rank, _, _ in found) == ["0", "1"]
    assert found[0][1] == found[1][1] and found[0][2] != found[1][2]
    rows = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [40]
    checkpoint, = (tmp_path / "run").glob("param_*.h5")
    for ranks in (1, 2):
        run(tmp_path, "-c", INFER, "-mlp", checkpoint, "--context", "cpu", "--threads", 1,
            "--grid-size", 32, "--detail", 3, "--quiet", "-o", f"{ranks}.ply", ranks=ranks)
    run(tmp_path, "-c", INFER, "-mlp", checkpoint, "--context", "cpu", "--threads", 1,
        "--grid-size", 32, "--detail", "off", "--quiet", "-o", "0.ply")
    assert (tmp_path / "0.ply").read_bytes() != (tmp_path / "1.ply").read_bytes()
    assert (tmp_path / "1.ply").read_bytes() == (tmp_path / "2.ply").read_bytes()


def test_a_rank_that_cannot_begin_ends_the_job(tmp_path):
    """The others would wait for it."""
    files.write(tmp_path / "c.ply", shapes.sample("knot", 400))
    one = [sys.executable, str(ROOT / "train.py"), "--context", "cpu", "--threads", "1", "-f"]
    done = subprocess.run(["mpirun", "--allow-run-as-root", "--oversubscribe", "-n", "1", *one,
                           "c.ply", ":", "-n", "1", *one, "missing.ply"], cwd=tmp_path, text=True,
                          capture_output=True, timeout=300)
    assert done.returncode and "missing.ply: no such file" in done.stderr
