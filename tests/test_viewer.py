"""The html page holds the mesh, and a browser rotates it."""

import base64
import http.server
import json
import re
import shutil
import subprocess
import threading
import zlib

import fields
from igr.formats import files
from igr.geometry import shapes
from igr.geometry.frames import Geometry
from igr.isosurface import extraction
from igr.view import render, viewer
from igr.view.cameras import Camera, View
from igr.view.colors import CLAY

import numpy as np
import pytest


def parts(page: str):
    """The settings and the unpacked bytes of an html page."""
    settings = json.loads(re.search(r"const SETTINGS = (\{.*\});", page)[1])
    data = re.search(r'const DATA = "([^"]*)"', page)[1]
    return settings, zlib.decompress(base64.b64decode(data))


def column(data: bytes, start: int, count: int, size: int):
    """Numbers by viewer.py's description."""
    split = np.frombuffer(data, np.uint8, count * size, start).reshape(size, count)
    steps = sum(part.astype(np.uint64) << np.uint64(8 * i) for i, part in enumerate(split))
    return np.cumsum(steps) % np.uint64(1 << 8 * size)


def unpacked(page: str):
    """Points as on the page, faces and colours of an html page."""
    settings, data = parts(page)
    n = settings["vertices"]
    m = settings["faces"]
    points = np.stack([column(data, 2 * n * axis, n, 2) for axis in range(3)], axis=1)
    faces = column(data, 6 * n, 3 * m, 4).reshape(m, 3).astype(int)
    colors = np.frombuffer(data, np.uint8, offset=6 * n + 12 * m).reshape(-1, 3)
    return points * settings["step"] + settings["low"], faces, colors


@pytest.mark.parametrize("name", ["letter", "torus"])
def test_page_holds_the_mesh(name):
    mesh = shapes.mesh(name)
    rng = np.random.default_rng(0)
    colors = rng.uniform(size=mesh.points.shape)
    points, faces, found = unpacked(viewer.page(mesh, "a <b> & @DATA@", View(), colors))
    low = mesh.points.min(axis=0)
    high = mesh.points.max(axis=0)
    centered = mesh.points - (low + high) / 2
    true = (centered / np.linalg.norm(centered, axis=1).max())[mesh.faces]
    assert np.abs(points[faces] - true).max() < 2e-5
    assert np.abs(found[faces] / 255 - colors[mesh.faces]).max() < 0.003
    assert np.linalg.norm(points, axis=1).max() == pytest.approx(1, abs=1e-4)


def test_page_holds_a_cloud_beside_the_mesh(rng):
    """Its points near the mesh, thinned where they are many, behind the mesh's colours or none."""
    mesh = shapes.mesh("letter")
    cloud = shapes.sample("letter", 300).points
    of_points = rng.uniform(size=cloud.shape)
    far = np.array([[40.0, 0, 0]])
    dots = viewer.Dots(np.concatenate([cloud, far]), np.concatenate([of_points, far]), "a <note>")
    for colors in (CLAY, rng.uniform(size=mesh.points.shape)):
        page = viewer.page(mesh, "t", View(), colors, dots)
        settings, data = parts(page)
        assert settings["points"] == 300 and "a &lt;note&gt;" in page
        start = 6 * settings["vertices"] + 12 * settings["faces"]
        start += 3 * settings["vertices"] if settings["colored"] else 0
        steps = np.stack([column(data, start + 600 * axis, 300, 2) for axis in range(3)], axis=1)
        center = (mesh.points.min(axis=0) + mesh.points.max(axis=0)) / 2
        scale = np.linalg.norm(mesh.points - center, axis=1).max()
        found = (steps * settings["step"] + settings["low"]) * scale + center
        assert np.abs(found - cloud).max() < 1e-3
        last = np.frombuffer(data, np.uint8, offset=start + 1800).reshape(-1, 3)
        assert np.abs(last / 255 - of_points).max() < 0.003
    many = viewer.Dots(rng.uniform(-1, 1, (300_000, 3)), np.zeros((300_000, 3)), "")
    settings = parts(viewer.page(shapes.mesh("sphere"), "t", View(), dots=many))[0]
    assert settings["points"] == viewer.MOST_POINTS


def test_page_needs_no_network_and_escapes_its_title():
    page = viewer.page(shapes.mesh("letter"), "a <b> & @DATA@", View())
    assert "a &lt;b&gt; &amp; @DATA@" in page and "<b>" not in page
    assert not re.search(r"https?:|src=|import\(", page) and not re.search("@[A-Z]+@", page.replace(
        "@DATA@", ""))


def test_a_page_of_many_faces_is_small():
    """200,000 faces take less than 8 MiB, even with the vertices shuffled."""
    mesh = shapes.mesh("torus")
    order = np.random.default_rng(0).permutation(len(mesh.points))
    shuffled = Geometry(mesh.points[order], None, np.argsort(order)[mesh.faces])
    assert len(mesh.faces) > 200_000 and len(viewer.page(shuffled, "", View())) < 8 << 20


BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
PROBE = """<script>
(async () => {
  const hint = document.getElementById("hint");
  while (!document.body.dataset.ready && !hint.textContent.startsWith("cannot"))
    await new Promise(done => setTimeout(done, 5));
  const frames = () => new Promise(
    done => requestAnimationFrame(() => requestAnimationFrame(done)));
  const shot = () => canvas.toDataURL("image/png");
  const fire = (kind, x, y, more) => canvas.dispatchEvent(
    new PointerEvent(kind, { pointerId: 1, clientX: x, clientY: y, buttons: 1, ...more }));
  const out = { ready: Number(document.body.dataset.ready), hint: hint.textContent };
  out.first = shot();
  const before = performance.now();
  fire("pointerdown", 100, 100); fire("pointermove", 325, 100); fire("pointerup", 325, 100);
  await frames(); out.answer = performance.now() - before;
  out.turned = shot();
  fire("pointerdown", 100, 100);
  fire("pointermove", 160, 100, { shiftKey: true }); fire("pointerup", 160, 100);
  await frames(); out.moved = shot();
  canvas.dispatchEvent(new MouseEvent("dblclick"));
  await frames(); out.back = shot();
  canvas.dispatchEvent(new WheelEvent("wheel", { deltaY: 400 }));
  await frames(); out.smaller = shot();
  canvas.dispatchEvent(new MouseEvent("dblclick"));
  for (const button of document.querySelectorAll("button")) {
    button.click();
    await frames(); out[button.textContent] = shot();
  }
  await fetch("/done", { method: "POST", body: JSON.stringify(out) });
})();
</script></body>"""


def in_chromium(page: str, folder) -> dict:
    """What PROBE finds when headless Chromium shows the page."""
    found = {}
    arrived = threading.Event()

    class Server(http.server.BaseHTTPRequestHandler):
        def answer(self, body=b""):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            self.answer(page.replace("</body>", PROBE).encode() if self.path == "/" else b"")

        def do_POST(self):
            found.update(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.answer()
            arrived.set()

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    process = subprocess.Popen(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--window-size=500,540", f"--user-data-dir={folder}",
         f"http://127.0.0.1:{server.server_port}/"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert arrived.wait(60), "the page never answered"
    finally:
        process.kill()
        process.wait()
        server.shutdown()
    return found


def picture(url: str) -> np.ndarray:
    import io

    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGB"))


@pytest.mark.skipif(not BROWSER, reason="no Chromium on this machine")
def test_a_browser_rotates_the_mesh(tmp_path):
    mesh = shapes.mesh("letter")
    found = in_chromium(viewer.page(mesh, "letter", View(30, 15)), tmp_path)
    assert not found["hint"].startswith("cannot") and found["ready"] < 3000  # milliseconds
    shots = {name: picture(url).astype(int) for name, url in found.items()
             if name not in ("ready", "answer", "hint")}
    dark = {name: (image < 250).any(axis=2) for name, image in shots.items()}
    height, width = dark["first"].shape
    # the same outline as the renderer's: at the distance where a ball of radius 1 fills 1 / 1.08
    low = mesh.points.min(axis=0)
    high = mesh.points.max(axis=0)
    center = (low + high) / 2
    radius = np.linalg.norm(mesh.points - center, axis=1).max()

    def true(azimuth):
        e, a = np.radians([15, azimuth])
        towards = np.array([np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)])
        far = 1.08 / np.tan(np.radians(15)) / min(1, width / height) * radius
        camera = Camera(center + far * towards, center, np.array([0, 1.0, 0]))
        view = View(size=(width, height), background="transparent")
        return render.shape(mesh, camera, view)[..., 3] > 127

    assert (dark["first"] ^ true(30)).sum() < 0.05 * dark["first"].sum()
    assert (dark["turned"] ^ true(30 - 90)).sum() < 0.05 * dark["turned"].sum()  # 225 px, 0.4 each
    columns = [np.nonzero(dark[name])[1].mean() for name in ("turned", "moved")]
    assert columns[1] - columns[0] == pytest.approx(60, abs=6)
    assert (shots["back"] == shots["first"]).all()
    assert dark["smaller"].sum() == pytest.approx(np.exp(-1.2) * dark["first"].sum(), rel=0.1)


@pytest.mark.skipif(not BROWSER, reason="no Chromium on this machine")
def test_a_browser_shows_mesh_points_or_both(tmp_path):
    """Red points of half a sphere, the blue mesh of a whole one, a little smaller."""
    cloud = shapes.sample("sphere", 20_000).points
    dots = viewer.Dots(cloud[cloud[:, 0] > 0], np.tile([1.0, 0, 0], ((cloud[:, 0] > 0).sum(), 1)),
                       "")
    mesh = shapes.mesh("sphere")
    page = viewer.page(mesh._replace(points=0.99 * mesh.points), "", View(0),
                       np.array([0, 0, 1.0]), dots)
    found = in_chromium(page, tmp_path)
    red, blue = {}, {}
    for name in ("mesh", "points", "both"):
        image = picture(found[name]).astype(int)
        red[name] = (image[..., 0] > image[..., 2] + 100).sum()
        blue[name] = (image[..., 2] > image[..., 0] + 100).sum()
    assert red["mesh"] == 0 and blue["mesh"] > 10_000
    assert blue["points"] == 0 and red["points"] > 0.2 * blue["mesh"]
    assert red["both"] > 0.07 * blue["mesh"] and blue["both"] > 0.4 * blue["mesh"]


@pytest.mark.skipif(not BROWSER, reason="no Chromium on this machine")
def test_a_browser_lights_every_pixel_as_its_normal_says(tmp_path):
    """A sphere of marching cubes has faces that are thinner than a pixel's steps: no specks, and no
    terraces between its vertices."""
    grid = extraction.Grid.of([-1.5] * 3, [1.5] * 3, 200)
    mesh, _ = extraction.extract(fields.sphere, grid, outward=1)
    page = viewer.page(mesh, "sphere", View())
    found = picture(in_chromium(page, tmp_path)["first"]).astype(float)
    height, width = found.shape[:2]
    i, j = np.mgrid[:height, :width] + 0.5
    slope = np.tan(np.radians(15))
    rays = np.stack([(2 * j - width) / height * slope, (1 - 2 * i / height) * slope,
                     -np.ones_like(i)], axis=-1)
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    far = 1.08 / slope / min(1, width / height)
    along = -far * rays[..., 2]  # to the place on the ray that is nearest to the sphere's middle
    square = 1 - (far**2 - along**2)
    inside = square > 0.04  # a little away from the outline
    normals = rays * (along - np.sqrt(square.clip(0)))[..., None] + [0, 0, far]
    light = render.AMBIENT
    for direction, strength in render.LIGHTS:
        towards = np.array(direction) / np.linalg.norm(direction)
        light = light + strength * (normals @ towards).clip(0)
    true = 255 * (np.array(CLAY)**2.2 * light[..., None]).clip(0, 1) ** (1 / 2.2)
    off = np.abs(found - true).max(axis=-1)[inside]
    assert inside.mean() > 0.3 and np.median(off) < 2
    assert (off > 8).mean() < 1e-4  # specks: hundreds of pixels; terraces: a fifth of them


def test_a_page_of_a_file(tmp_path, monkeypatch):
    import visualize

    monkeypatch.chdir(tmp_path)
    files.write("letter.ply", shapes.mesh("letter"))
    visualize.main(visualize.parse_args("html -f letter.ply --color normal --up z".split()))
    page = (tmp_path / "letter.html").read_text()
    points, faces, colors = unpacked(page)
    assert len(faces) == len(shapes.mesh("letter").faces) and len(colors) == len(points)
    assert '"up": "z"' in page


def test_a_page_thins_a_large_mesh_and_says_so(tmp_path, monkeypatch, caplog):
    import visualize

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(viewer, "MOST_FACES", 5000)
    files.write("sphere.ply", shapes.mesh("sphere"))
    with caplog.at_level("INFO", "igr"):
        visualize.main(visualize.parse_args("html -f sphere.ply -r sphere.ply".split()))
    page = (tmp_path / "sphere.html").read_text()
    faces = unpacked(page)[1]
    assert 2000 < len(faces) <= 5000 and "0 (dark) to 1e-06" in page  # of the full mesh
    assert f"81,920 faces thinned to {len(faces):,} for the browser" in caplog.text
