"""commands.sh and downloads.sh, which downloads from a web server of our own."""

import functools
import gzip
import hashlib
import http.server
import io
import os
import shutil
import subprocess
import tarfile
import threading

from conftest import ROOT

import pytest


def bash(folder, line, status=0, **environment):
    done = subprocess.run(["bash", *line.split()], cwd=folder, capture_output=True, text=True,
                          env={**os.environ, **environment}, timeout=120)
    assert done.returncode == status, done.stdout + done.stderr
    return done


@pytest.fixture
def copy(tmp_path):
    for name in ("commands.sh", "downloads.sh", "requirements.txt", "requirements-cuda.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def test_list_names_every_training_of_the_reproduction(copy):
    lines = bash(copy, "commands.sh list").stdout.splitlines()
    train = [line for line in lines if line.startswith("python train.py")]
    assert len(train) == 14
    assert ("python train.py -d 0 -f stanford_3d_scanning_datasets/bunny/reconstruction/"
            "bun_zipper_pcd.ply -m bunny") in train
    assert all(line.startswith("python train.py -d 0 -f ") and len(line.split()) == 8
               for line in train)  # no shape has flags of its own


def test_unknown_and_missing_commands(copy):
    assert "unknown command 'cow'" in bash(copy, "commands.sh cow", status=1).stderr
    said = bash(copy, "commands.sh").stdout
    assert all(f"bash commands.sh {name}" in said for name in ("demo", "results", "bunny", "all"))


def test_a_missing_python_is_reported(copy, tmp_path):
    """With a PATH that has only the shell's own tools, and a home without pyenv."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("bash", "sed", "cut", "dirname", "ls", "tr", "cmp", "id", "rm", "grep"):
        os.symlink(shutil.which(tool), tools / tool)
    error = bash(copy, "commands.sh setup", status=1, PATH=str(tools), HOME=str(tmp_path),
                 PYENV_ROOT=str(tmp_path / "none"), PYTHON="").stderr
    assert "no Python 3.10, 3.9 or 3.8 found" in error and "no wheel" in error
    fake = tools / "python3.12"
    fake.write_text("#!/bin/bash\necho 3.12\n")
    fake.chmod(0o755)
    error = bash(copy, "commands.sh setup", status=1, PATH=str(tools), PYTHON=str(fake)).stderr
    assert "is not Python 3.10" in error


FAKE_PYTHON = """#!/bin/bash
case "$*" in
    *version_info*) echo 3.10 ;;
    *requirements-cuda*) echo "$*" >>asked; exit "${CUDA_STATUS:-0}" ;;
    *install*) echo "$*" >>asked ;;
esac
"""


def setup_with(copy, nvidia_smi, **environment):
    """What `commands.sh setup` installs, with a fake Python and a fake nvidia-smi."""
    for path, text in [(".venv/bin/python", FAKE_PYTHON), ("bin/nvidia-smi", nvidia_smi)]:
        program = copy / path
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(text)
        program.chmod(0o755)
    done = bash(copy, "commands.sh setup", PATH=f"{copy / 'bin'}:{os.environ['PATH']}",
                **environment)
    asked = copy / "asked"
    return [line.split()[-1] for line in asked.read_text().splitlines()], done.stderr


@pytest.mark.skipif(os.path.exists("/dev/nvidia0"), reason="this machine has an NVIDIA GPU")
def test_cuda_is_not_installed_without_a_gpu(copy):
    assert setup_with(copy, "#!/bin/bash\nexit 9\n")[0] == ["requirements.txt"]


def test_cuda_is_installed_with_a_gpu(copy):
    smi, both = "#!/bin/bash\necho 'GPU 0: fake'\n", ["requirements.txt", "requirements-cuda.txt"]
    for _ in range(2):
        assert setup_with(copy, smi) == (both, "")


def test_where_cuda_cannot_be_installed_the_cpu_is_used(copy):
    smi = "#!/bin/bash\necho 'GPU 0: fake'\n"
    asked, error = setup_with(copy, smi, CUDA_STATUS="1")
    assert asked[-1] == "requirements-cuda.txt" and "no CUDA" in error
    assert setup_with(copy, smi)[0].count("requirements-cuda.txt") == 2  # tried again


# --- reconstruct

SCRIPTS = r"""#!/bin/bash
# a Python whose scripts only say that they ran, and make the files that they would make
case "$*" in
    *version_info*) echo 3.10; exit ;;
    *"-m igr ready"*) exit ;;
    *.py\ *) echo "$*" >>"$CALLS" ;;
    *) exit ;;
esac
words=$*
while [ $# -gt 0 ]; do
    case $1 in
        -o) output=$2 ;;
        -f) [ -n "${cloud:-}" ] || cloud=$2 ;;
        -m) folder=$2 ;;
    esac
    shift
done
[ -z "${output:-}" ] || cp "$cloud" "$output" 2>/dev/null || touch "$output"
[ -z "${folder:-}" ] || touch "$folder/param_00003.h5" "$folder/param_00012.h5"
[ -z "${FAIL:-}" ] || [[ $words != $FAIL.py* ]] || exit 1
"""


@pytest.fixture
def reconstruct(copy, tmp_path):
    """A function: runs `reconstruct` with flags from the folder scans/, returns the calls."""
    scans = tmp_path / "scans"
    scans.mkdir()
    program = copy / ".venv" / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.write_text(SCRIPTS)
    program.chmod(0o755)
    (scans / "a.ply").write_text("a cloud")
    (scans / "b.ply").write_text("another")

    def run(line, status=0, **environment):
        calls = tmp_path / "calls"
        calls.write_text("")
        done = subprocess.run(
            ["bash", str(copy / "commands.sh"), "reconstruct", *line.split()], cwd=scans,
            capture_output=True, text=True, timeout=60,
            env={**os.environ, "CALLS": str(calls), **environment})
        assert done.returncode == status, done.stdout + done.stderr
        return calls.read_text().replace(f"{scans}/", "").splitlines(), done

    return run


def test_reconstruct_takes_a_scan_through_every_script(reconstruct):
    calls, done = reconstruct("a.ply --trim --faces 2000 --with-normals --quality fine")
    assert calls[:3] == [
        "datasets.py clean -f a.ply -o a_mesh_run/cleaned.ply",
        "train.py -f a_mesh_run/cloud.ply -m a_mesh_run --with-normals --quality fine --overwrite",
        "infer.py -mlp a_mesh_run/param_00012.h5 --grid-size 512 -o a_mesh.ply --trim auto "
        "--faces 2000"]
    assert sorted(calls[3:]) == [  # side by side
        "evaluate.py -f a_mesh_run/cloud.ply -mdp a_mesh.ply -o a_mesh_run/report.json",
        "visualize.py html -f a_mesh.ply -r a_mesh_run/cloud.ply --color clay -o a_mesh.html"]
    assert "  training: 0 s\n" in done.stdout and done.stdout.endswith("a_mesh.html\n")


@pytest.mark.parametrize("script", ["evaluate", "visualize"])
def test_reconstruct_fails_where_page_or_report_does(reconstruct, script):
    assert "page and measuring" not in reconstruct("a.ply", status=1, FAIL=script)[1].stdout


def test_reconstruct_merges_scans_and_names_the_mesh(reconstruct):
    calls, _ = reconstruct("a.ply b.ply -o out.glb --quality draft")
    assert calls[0] == "datasets.py merge -f a.ply b.ply -o out_run/merged.ply"
    assert calls[1] == "datasets.py clean -f out_run/merged.ply -o out_run/cleaned.ply"
    assert "--grid-size 256 -o out.glb" in calls[3]


def test_reconstruct_names_the_mesh_of_a_packed_scan(reconstruct, tmp_path):
    (tmp_path / "scans" / "a.xyz.gz").write_text("a cloud")
    assert "-o a_mesh.ply" in reconstruct("a.xyz.gz")[0][2]


def test_reconstruct_goes_on_with_the_same_cloud_and_flags_only(reconstruct, tmp_path):
    assert "--overwrite" in reconstruct("a.ply", status=1, FAIL="infer")[0][1]
    assert reconstruct("a.ply --trim")[0][1] == "train.py --resume -m a_mesh_run"
    assert "--overwrite" in reconstruct("a.ply --quality fine")[0][1]
    assert "--resume" in reconstruct("a.ply --quality fine")[0][1]
    (tmp_path / "scans" / "a.ply").write_text("changed")
    assert "--overwrite" in reconstruct("a.ply --quality fine")[0][1]


@pytest.mark.parametrize("line, said", [
    ("", "needs a cloud"), ("a.ply -o", "-o needs a value"), ("a.ply --grid 3", "no flag --grid"),
    ("b.ply a.ply -o a.ply", "a.ply is the cloud itself")])
def test_reconstruct_refuses_in_one_line(reconstruct, line, said):
    calls, done = reconstruct(line, status=1)
    assert not calls and said in done.stderr and done.stderr.count("\n") == 1


# --- downloads.sh


class Server(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, byte ranges included; cuts the first answer to each name in `cut` short."""

    cut, asked = set(), []

    def log_message(self, *args):
        pass

    def do_GET(self):
        path = self.translate_path(self.path)
        self.asked.append((self.path, self.headers.get("Range")))
        if not os.path.isfile(path):
            self.send_error(404)
            return
        data = open(path, "rb").read()
        start = 0
        if self.headers.get("Range"):
            start = int(self.headers["Range"][len("bytes="):].split("-")[0])
            if start >= len(data):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        name = os.path.basename(path)
        if name in self.cut and start == 0:
            data = data[: len(data) // 2]
        self.wfile.write(data[start:])
        self.close_connection = True


@pytest.fixture
def server(tmp_path):
    """(address, folder, handler class) of a running server."""
    folder = tmp_path / "www"
    (folder / "pub/3Dscanrep/armadillo").mkdir(parents=True)
    handler = type("Handler", (Server,), {"cut": set(), "asked": []})
    made = functools.partial(handler, directory=str(folder))
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), made)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}", folder, handler
    httpd.shutdown()


def put_armadillo(folder, size=5_000_000):
    content = bytes(os.urandom(size))
    path = folder / "pub/3Dscanrep/armadillo/Armadillo.ply.gz"
    path.write_bytes(gzip.compress(content, 1))
    return content


def test_download_unpacks_and_is_not_repeated(copy, server):
    address, folder, handler = server
    content = put_armadillo(folder)
    bash(copy, "downloads.sh armadillo", STANFORD_URL=address)
    mesh = copy / "stanford_3d_scanning_datasets/Armadillo.ply"
    assert mesh.read_bytes() == content
    assert [p.name for p in mesh.parent.iterdir()] == ["Armadillo.ply"]
    asked = len(handler.asked)
    assert "is already there" in bash(copy, "downloads.sh armadillo", STANFORD_URL=address).stdout
    assert len(handler.asked) == asked


def test_an_interrupted_download_is_continued(copy, server):
    address, folder, handler = server
    content = put_armadillo(folder)
    archive = (folder / "pub/3Dscanrep/armadillo/Armadillo.ply.gz").read_bytes()
    part = copy / "stanford_3d_scanning_datasets/Armadillo.ply.gz.part"
    part.parent.mkdir()
    part.write_bytes(archive[:3_000_000])
    bash(copy, "downloads.sh armadillo", STANFORD_URL=address)
    assert handler.asked[0][1] == "bytes=3000000-"
    assert (copy / "stanford_3d_scanning_datasets/Armadillo.ply").read_bytes() == content


def test_a_server_that_cuts_answers_short(copy, server):
    address, folder, handler = server
    content = put_armadillo(folder)
    handler.cut.add("Armadillo.ply.gz")
    error = bash(copy, "downloads.sh armadillo", status=1, STANFORD_URL=address).stderr
    part = copy / "stanford_3d_scanning_datasets/Armadillo.ply.gz.part"
    assert "the part that came is kept" in error and part.stat().st_size > 1_000_000
    bash(copy, "downloads.sh armadillo", STANFORD_URL=address)
    assert handler.asked[-1][1] and handler.asked[-1][1] != "bytes=0-"
    assert (copy / "stanford_3d_scanning_datasets/Armadillo.ply").read_bytes() == content


def test_downloads_of_wrong_files(copy, server):
    address, folder, _ = server
    bash(copy, "downloads.sh cow", status=2, STANFORD_URL=address)
    error = bash(copy, "downloads.sh bunny armadillo", status=1, STANFORD_URL=address).stderr
    assert "bunny: could not fetch" in error and "failed: bunny armadillo" in error
    assert "the part that came" not in error  # 404: nothing came
    put_armadillo(folder, 1000)  # too small
    error = bash(copy, "downloads.sh armadillo", status=1, STANFORD_URL=address).stderr
    assert "not the file that is expected" in error
    (folder / "pub/3Dscanrep/armadillo/Armadillo.ply.gz").write_text("<html>sorry</html>")
    shutil.rmtree(copy / "stanford_3d_scanning_datasets")
    error = bash(copy, "downloads.sh armadillo", status=1, STANFORD_URL=address).stderr
    assert "not a complete gzip file" in error


def test_a_bad_archive_is_set_aside_and_fetched_anew(copy, server):
    """The one that came is, and the next call fetches; one that an earlier call left is, too, and
    this call fetches."""
    address, folder, handler = server
    put_armadillo(folder, 1000)  # too small
    error = bash(copy, "downloads.sh armadillo", status=1, STANFORD_URL=address).stderr
    assert "Armadillo.ply.gz.bad, run again" in error
    archive = copy / "stanford_3d_scanning_datasets/Armadillo.ply.gz"
    bad = archive.with_name(archive.name + ".bad")
    assert bad.is_file() and not archive.exists() and len(handler.asked) == 1
    for left in (bad.read_bytes(), b"<html>sorry</html>"):
        archive.write_bytes(left)
        content = put_armadillo(folder)
        error = bash(copy, "downloads.sh armadillo", STANFORD_URL=address).stderr
        assert "fetching it anew" in error and bad.read_bytes() == left
        assert archive.with_suffix("").read_bytes() == content
        archive.with_suffix("").unlink()


def test_a_part_outlives_a_server_that_has_lost_the_file(copy, server):
    address, *_ = server
    part = copy / "stanford_3d_scanning_datasets/Armadillo.ply.gz.part"
    part.parent.mkdir()
    part.write_bytes(b"some of it")
    error = bash(copy, "downloads.sh armadillo", status=1, STANFORD_URL=address).stderr
    assert "the part that came is kept" in error and part.read_bytes() == b"some of it"


def test_bunny_is_checked_by_its_sha256(copy, server, data):
    address, folder, _ = server
    original = data("bunny/bun_zipper.ply").read_bytes()

    def serve(content):
        with tarfile.open(folder / "pub/3Dscanrep/bunny.tar.gz", "w:gz") as archive:
            entry = tarfile.TarInfo("bunny/reconstruction/bun_zipper.ply")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))

    serve(original[:-2] + b"9\n")
    error = bash(copy, "downloads.sh bunny", status=1, STANFORD_URL=address).stderr
    assert "not the file that is expected" in error
    shutil.rmtree(copy / "stanford_3d_scanning_datasets")
    serve(original)
    bash(copy, "downloads.sh bunny", STANFORD_URL=address)
    mesh = copy / "stanford_3d_scanning_datasets/bunny/reconstruction/bun_zipper.ply"
    assert hashlib.sha256(mesh.read_bytes()).hexdigest().startswith("b1acc63bece7")
