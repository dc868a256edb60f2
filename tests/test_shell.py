"""commands.sh and downloads.sh, which downloads from a web server of our own."""

import functools
import gzip
import hashlib
import http.server
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
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
    for name in ("commands.sh", "downloads.sh", "requirements.txt", "requirements-cuda.txt",
                 "requirements-formats.txt"):
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


# --- bringing Python 3.10

TOOLS = ("bash", "sed", "cut", "dirname", "ls", "tr", "cmp", "id", "rm", "grep", "tail", "mkdir",
         "uname", "cp", "touch")
BY_HAND = "By hand: pyenv install 3.10"


@pytest.fixture
def bare(copy, tmp_path):
    """A function: runs commands.sh with a PATH of the shell's own tools and what the test adds, in
    a home without pyenv; add(name, text) adds a program."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in TOOLS:
        os.symlink(shutil.which(tool), tools / tool)

    def add(name, text):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)

    def setup(status=1, **environment):
        return bash(copy, "commands.sh setup", status, **{
            "PATH": str(tools), "HOME": str(tmp_path), "PYENV_ROOT": str(tmp_path / "none"),
            "PYTHON": "", **environment})

    setup.add, setup.tools = add, tools
    return setup


def one_line_by_hand(error):
    """The error after the line that says what is tried."""
    *_, line = error.splitlines()
    assert "no Python 3.10, 3.9 or 3.8 found" in line and "no wheel" in line and BY_HAND in line
    assert len(error.splitlines()) <= 2
    return line


def test_a_wrong_python_is_refused(bare):
    bare.add("python3.12", "#!/bin/bash\necho 3.12\n")
    error = bare(PYTHON=str(bare.tools / "python3.12")).stderr
    assert "is not Python 3.10" in error and not (bare.tools.parent / ".python").exists()


def test_without_uv_and_pip_it_says_what_to_do(bare):
    assert "sudo apt-get install python3-pip" in one_line_by_hand(bare().stderr)
    bare.add("python3", "#!/bin/bash\necho 'No module named pip' >&2\nexit 1\n")
    assert "no uv, and no pip" in one_line_by_hand(bare().stderr)


def test_no_python_is_brought_where_nnabla_has_no_wheel(bare):
    (bare.tools / "uname").unlink()
    bare.add("uname", "#!/bin/bash\necho Darwin arm64\n")
    bare.add("uv", "#!/bin/bash\nexit 0\n")
    assert "no wheel for Darwin arm64" in one_line_by_hand(bare().stderr)


FULL = "[Errno 28] No space left on device"
REFUSED = "[Errno 111] Connection refused"


@pytest.mark.parametrize("wrote, said", [
    (f"ERROR: Could not install packages due to an OSError: {FULL}", FULL),
    (f"WARNING: Retrying after connection broken by 'Error: {REFUSED}')': /simple/uv/\n"
     "ERROR: No matching distribution found for uv", REFUSED),
    ("ERROR: No matching distribution found for uv", "No matching distribution")])
def test_what_pip_says_is_passed_on(bare, wrote, said):
    """No room, no network, no such wheel."""
    bare.add("python3", f"""#!/bin/bash
case "$*" in *install*) echo "{wrote}" >&2; exit 1 ;; esac
""")
    line = one_line_by_hand(bare().stderr)
    assert f"pip could not install uv ({said}" in line.replace("ERROR: ", "")


UV = """#!/bin/bash
[ "$2" = install ] || exit 1
echo "error: Failed to install cpython-3.10.22" >&2
echo "  cause: {reason}" >&2
exit 1
"""


@pytest.mark.parametrize("reason", [
    "No space left on device (os error 28)", "Connection refused (os error 111)",
    "operation timed out", "Hash mismatch for `cpython-3.10.22`"])
def test_what_uv_says_is_passed_on(bare, reason):
    bare.add("uv", UV.format(reason=reason.replace("`", "\\`")))
    assert reason in one_line_by_hand(bare().stderr)


def test_pip_brings_uv_and_uv_python(bare, tmp_path):
    """By a pip and a uv that only make the files; uv is not kept, the Python is used again."""
    python = tmp_path / "made.sh"
    python.write_text('''#!/bin/bash
case "$*" in
    *version_info*) echo 3.10 ;;
    *--version*) echo Python 3.10.99 ;;
    "-m venv .venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
esac
''')
    uv = tmp_path / "uv.sh"
    uv.write_text(f"""#!/bin/bash
echo "$UV_PYTHON_INSTALL_DIR $UV_PYTHON_INSTALL_BIN $*" >>{tmp_path}/asked
bin=$UV_PYTHON_INSTALL_DIR/cpython-3.10.99-linux-x86_64-gnu/bin
mkdir -p "$bin"; cp {python} "$bin/python3.10"
""")
    for path in (python, uv):
        path.chmod(0o755)
    bare.add("python3", f"""#!/bin/bash
case "$*" in *install*) mkdir -p .python/uv/bin; cp {uv} .python/uv/bin/uv ;; esac
""")
    done = bare(status=0)
    assert f"uv brings one into {tmp_path}/.python" in done.stderr
    assert "making .venv with Python 3.10.99" in done.stdout
    assert (tmp_path / "asked").read_text() == f"{tmp_path}/.python 0 python install 3.10\n"
    assert not (tmp_path / ".python/uv").exists()
    shutil.rmtree(tmp_path / ".venv")
    assert "uv brings" not in bare(status=0).stderr
    assert (tmp_path / "asked").read_text().count("\n") == 1


def test_a_python_without_ensurepip_is_passed_over(bare):
    """It cannot make .venv: Debian has ensurepip in a package of its own."""
    bare.add("python3.10", """#!/bin/bash
case "$*" in *version_info*) echo 3.10 ;; *ensurepip*) exit 1 ;; esac
""")
    assert "no uv, and no pip" in one_line_by_hand(bare().stderr)


def archive_of_python(folder):
    """Write a tar.gz in the layout that uv expects. Its Python is a wrapper of this one; its
    venv copies the wrapper, its pip and igr do nothing."""
    program = f"""#!/bin/bash
if [ "$*" = "-m venv .venv" ]; then mkdir -p .venv/bin; cp "$0" .venv/bin/python; exit; fi
case "$*" in "-m pip"* | "-m igr"*) exit ;; esac
exec {sys.executable} "$@"
"""
    files = {"bin/python3.10": program,  # and what uv patches
             "lib/python3.10/_sysconfigdata__linux_x86_64-linux-gnu.py":
             "# system configuration generated and used by the sysconfig module\n"
             "build_time_vars = {}\n"}
    with tarfile.open(folder / "python.tar.gz", "w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"python/{name}")
            entry.size, entry.mode = len(text), 0o755
            archive.addfile(entry, io.BytesIO(text.encode()))


@pytest.fixture
def uv_s_list(server):
    """The environment of a uv that knows one Python, which it gets from our server."""
    address, folder, _ = server
    archive_of_python(folder)
    (folder / "list.json").write_text(json.dumps({"cpython-3.10.99-linux-x86_64-gnu": {
        "name": "cpython", "arch": {"family": "x86_64", "variant": None}, "os": "linux",
        "libc": "gnu", "major": 3, "minor": 10, "patch": 99, "prerelease": "", "variant": None,
        "url": f"{address}/python.tar.gz", "sha256": None, "build": "1"}}))
    return {"UV_PYTHON_DOWNLOADS_JSON_URL": f"{address}/list.json"}


@pytest.mark.skipif(not shutil.which("uv"), reason="there is no uv")
@pytest.mark.skipif(sys.version_info[:2] != (3, 10), reason="the archive needs a Python 3.10")
def test_uv_itself_brings_python(bare, server, uv_s_list):
    """From a server of ours; where the server is gone, in one line."""
    os.symlink(shutil.which("uv"), bare.tools / "uv")
    folder = server[1]
    (folder / "python.tar.gz").rename(folder / "gone")
    assert "uv could not install one (" in one_line_by_hand(bare(**uv_s_list).stderr)
    (folder / "gone").rename(folder / "python.tar.gz")
    done = bare(status=0, **uv_s_list)
    assert done.stderr.count("\n") == 1 and "making .venv with Python 3.10" in done.stdout


# --- the container


def test_the_container_s_steps_are_the_readme_s():
    """After the clone, which the Dockerfile's COPY stands for."""
    readme = (ROOT / "README.md").read_text()
    commands = re.search(r"## Quick start.*?```bash\n(.*?)```", readme, re.S)[1].splitlines()
    clone, demo, test = commands
    assert clone.startswith("git clone ") and clone.endswith(" && cd igr-nnabla")
    assert test.startswith("bash commands.sh test")
    steps = (ROOT / "Dockerfile").read_text()
    assert re.search(r"^RUN cd /igr && (.*?) &&", steps, re.M)[1] == demo
    assert "COPY . /igr\n" in steps and steps.count("\nRUN ") == 1
    for example in re.findall(r"^# +(docker .*)", steps, re.M):
        assert example in (ROOT / "docs" / "guide.md").read_text()


# --- set-up

FAKE_PYTHON = """#!/bin/bash
case "$*" in
    *version_info*) echo 3.10 ;;
    *requirements-cuda*) echo "$*" >>asked; exit "${CUDA_STATUS:-0}" ;;
    *install*) echo "$*" >>asked ;;
    *reconstruct*) printf '%s\\n' "$PWD" "$@" >words; exit 7 ;;
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


def test_reconstruct_is_handed_over(copy, tmp_path):
    """With the user's folder and words as they are; readers of laser scans are installed."""
    program = copy / ".venv" / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.write_text(FAKE_PYTHON)
    program.chmod(0o755)
    scans = tmp_path / "scans"
    scans.mkdir()
    done = subprocess.run(["bash", "../commands.sh", "reconstruct", "a b.LAZ", "--trim"], cwd=scans)
    assert done.returncode == 7
    assert (copy / "words").read_text().splitlines() == [
        str(copy), "-m", "igr", "reconstruct", "-C", str(scans), "a b.LAZ", "--trim"]
    assert "-r requirements-formats.txt" in (copy / "asked").read_text()


# scripts that only say that they ran, and make the files that they would make
FAKE_SCRIPT = """
import os, pathlib, time
import helper
name = pathlib.Path(__file__).stem

def parse_args(words):
    return words

def main(words, show=None):
    with open(os.environ["CALLS"], "a") as calls:
        print(f"{name}.py", *words, file=calls)
    after = dict(zip(words, words[1:]))
    if "-o" in words:
        source = pathlib.Path(after.get("-f", ""))
        pathlib.Path(after["-o"]).write_bytes(source.read_bytes() if source.is_file() else b"mesh")
    if "-m" in words:
        from igr.geometry import shapes
        show(shapes.mesh("torus"))
        for step in ("00003", "00012"):
            pathlib.Path(after["-m"], f"param_{step}.h5").touch()
    if name == os.environ.get("WAIT"):
        with helper.stop_signals() as caught:
            print("waiting", flush=True)
            while not caught:
                time.sleep(0.01)
        print("saved", flush=True)
        raise helper.Interrupted(caught[0])
    if name == os.environ.get("FAIL"):
        raise helper.UserError("it fails")
    print(f"{name} ran")
"""


@pytest.fixture
def reconstruct(tmp_path):
    """A function: starts `reconstruct` with flags from the folder scans/, with fake scripts."""
    scans = tmp_path / "scans"
    scans.mkdir()
    (scans / "a.ply").write_text("a cloud")
    (scans / "b.ply").write_text("another")
    for name in ("datasets", "train", "infer", "evaluate", "visualize"):
        (tmp_path / f"{name}.py").write_text(FAKE_SCRIPT)
    program = (f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from igr import __main__ as m; "
               "m.in_cells = lambda job: False; sys.exit(m.main(*sys.argv[1:]))")

    def start(line, **environment):
        (tmp_path / "calls").write_text("")
        return subprocess.Popen(
            [sys.executable, "-c", program, "reconstruct", "-C", scans, *line.split()], cwd=ROOT,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "CALLS": str(tmp_path / "calls"), **environment})

    return start


@pytest.fixture
def calls_of(reconstruct, tmp_path):
    """A function: runs `reconstruct` to its end; returns the calls of scripts, stdout, stderr."""

    def run(line, status=0, **environment):
        process = reconstruct(line, **environment)
        out, error = process.communicate(timeout=60)
        assert process.returncode == status, out + error
        text = (tmp_path / "calls").read_text().replace(f"{tmp_path / 'scans'}/", "")
        return text.splitlines(), out, error

    return run


def test_reconstruct_takes_a_scan_through_every_script(calls_of, tmp_path):
    calls, out, _ = calls_of("a.ply --trim --faces 2000 --with-normals --quality fine")
    assert calls[:3] == [
        "datasets.py clean -f a.ply -o a_mesh_run/cleaned.ply "
        "--removed a_mesh_run/removed.ply",
        "train.py -f a_mesh_run/cloud.ply -m a_mesh_run --with-normals --quality fine --overwrite",
        "infer.py -mlp a_mesh_run/param_00012.h5 -o a_mesh.ply --grid-size 512 --trim auto "
        "--faces 2000"]
    assert calls[3:] == [
        "visualize.py html -f a_mesh.ply -r a_mesh_run/cloud.ply --color clay -o a_mesh.html",
        "evaluate.py -f a_mesh_run/cloud.ply -mdp a_mesh.ply -o a_mesh_run/report.json"]
    assert re.search(r"\ntimes      cleaning \d+ s, training \d+ s, meshing \d+ s, ", out)
    assert out.endswith("a_mesh.html\n")
    assert out.index("+ python train.py") < out.index("train ran") < out.index("infer ran")
    report = (tmp_path / "scans" / "a_mesh_run" / "report.txt").read_text()
    assert report.startswith("+ python evaluate.py") and report.endswith("evaluate ran\n")
    assert report in out


def test_reconstruct_shows_the_surface_while_the_network_learns_it(calls_of, tmp_path):
    calls_of("a.ply", status=1, FAIL="train")
    page = (tmp_path / "scans" / "a_mesh.html").read_text()
    assert 'http-equiv="refresh"' in page and "still learning" in page


@pytest.mark.parametrize("script", ["train", "evaluate", "visualize"])
def test_reconstruct_fails_where_a_script_does(calls_of, script):
    _, out, error = calls_of("a.ply", status=1, FAIL=script)
    assert "page and measuring" not in out and error == "reconstruct: it fails\n"


def test_reconstruct_merges_scans_and_names_the_mesh(calls_of):
    calls = calls_of("a.ply b.ply -o out.obj --quality draft")[0]
    assert calls[0] == "datasets.py merge -f a.ply b.ply -o out_run/merged.ply"
    assert calls[1] == ("datasets.py clean -f out_run/merged.ply -o out_run/cleaned.ply "
                        "--removed out_run/removed.ply")
    assert "-o out.obj --grid-size 256" in calls[3]


def test_reconstruct_removes_no_outliers_where_it_shall_not(calls_of):
    assert calls_of("a.ply --no-clean")[0][0].endswith("removed.ply --outliers 0 --near 0")


def test_reconstruct_names_the_mesh_of_a_packed_scan(calls_of, tmp_path):
    (tmp_path / "scans" / "a.xyz.gz").write_text("a cloud")
    assert "-o a_mesh.ply" in calls_of("a.xyz.gz")[0][2]


def test_reconstruct_shows_the_colours_of_a_mesh(calls_of, tmp_path):
    script = tmp_path / "infer.py"
    script.write_text(FAKE_SCRIPT.replace('b"mesh"', 'b"property uchar red"'))
    assert "--color file" in "".join(calls_of("a.ply")[0])


def test_reconstruct_resumes_with_the_same_cloud_and_flags_only(calls_of, tmp_path):
    assert "--overwrite" in calls_of("a.ply", status=1, FAIL="infer")[0][1]
    assert calls_of("a.ply --trim")[0][1] == "train.py --resume -m a_mesh_run"
    assert "--overwrite" in calls_of("a.ply --quality fine")[0][1]
    assert "--resume" in calls_of("a.ply --quality fine")[0][1]
    (tmp_path / "scans" / "a.ply").write_text("changed")
    assert "--overwrite" in calls_of("a.ply --quality fine")[0][1]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_reconstruct_is_stopped_with_the_script_that_runs(reconstruct, signum):
    """Which is told once, saves, and is waited for."""
    process = reconstruct("a.ply", WAIT="train")
    while process.stdout.readline() != "waiting\n":
        assert process.poll() is None
    process.send_signal(signum)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 128 + signum and out == "saved\n"
    assert error == "reconstruct: stopped; the same command resumes\n"


@pytest.mark.parametrize("line, said", [
    ("", "needs a cloud"), ("a.ply -o", "-o/--output: expected one"), ("a.ply --grid 3", "--grid;"),
    ("a.ply --quality best", "invalid choice"), ("b.ply a.ply -o a.ply", "a.ply is the cloud")])
def test_reconstruct_refuses_in_one_line(calls_of, line, said):
    calls, _, error = calls_of(line, status=1)
    assert not calls and said in error and error.count("\n") == 1


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
