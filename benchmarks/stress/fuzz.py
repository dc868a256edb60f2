"""Damage files of every format and check that each is read or refused, fast and in little memory.

    python -m benchmarks.stress.fuzz --files 2000

For each format a few good files are cut, flipped, spliced and given absurd numbers. A reader may
return a geometry (finite points, faces within them) or raise UserError with one line of text.
Anything else counts as a traceback. "detail" and "training" then use damaged clouds, a fiftieth as
many: infer.py's detail of a cloud, and a short training. Prints a line a
format: how many files were read and refused, tracebacks, the slowest file in seconds, and how far
the process's memory grew in MiB.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
from pathlib import Path
import resource
import tempfile
import time
from typing import Callable

import helper
from helper import UserError
from igr.field import checkpoints
from igr.formats import files
from igr.geometry import shapes
from igr.geometry.frames import Geometry
import infer
import networks
from networks import MLP, Architecture
import train

import laspy
import numpy as np
import pye57
import trimesh

# hostile pieces of text and bytes
PIECES = [b"nan", b"1e300", b"-1", b"99999999999", b"4294967295", b"2147483648", b"\xff" * 4,
          b"\x00\x00\x00\x80", b"\r\n", b"\n", b"\xef\xbb\xbf", b"#", b"end_header\n",
          b"element face ",
          b"property list uint int vertex_indices\n", b"POINTS 999999999\n", b"", b" ", b"\x00"]


# --------------------------------------------------------------------------------------- good files


def good_files(suffix: str, folder: Path) -> list:
    """Bytes of a few small good files of a format: what we write of it, and those of MADE."""
    found = []
    for shape, writers in ((shapes.mesh("letter"), files.MESH_WRITERS),
                           (shapes.sample("letter", 40), files.CLOUD_WRITERS)):
        if suffix in writers:
            path = folder / f"good{suffix}"
            files.write(path, shape)
            found.append(path.read_bytes())
    return found + (MADE[suffix](shapes.sample("letter", 40)) if suffix in MADE else [])


def table_of(cloud: Geometry) -> str:
    return "\n".join(" ".join(f"{v:.4f}" for v in row) for row in cloud.points)


def made_ply(cloud: Geometry) -> list:
    """ASCII, with a triangle and a quad, plain and compressed."""
    text = ("ply\nformat ascii 1.0\nelement vertex 4\nproperty float x\nproperty float y\n"
            "property float z\nelement face 2\nproperty list uchar int vertex_indices\n"
            "end_header\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n3 0 1 2\n4 0 1 2 3\n")
    return [text.encode(), gzip.compress(text.encode())]


def made_table(cloud: Geometry) -> list:
    """Without and with a first line that has the number of points."""
    table = table_of(cloud).encode()
    return [table, b"40\n" + table]


def made_off(cloud: Geometry) -> list:
    """With colours, with normals, and a mesh with both."""
    rows = table_of(cloud).split("\n")
    colored = "\n".join(f"{row} 255 128 0" for row in rows)
    directed = "\n".join(f"{row} 0 0 1" for row in rows)
    return [f"COFF\n40 0 0\n{colored}\n".encode(), f"NOFF\n40 0 0\n{directed}\n".encode(),
            b"CNOFF 4 2 0\n" + b"0 0 0 0 0 1 9 9 9\n1 0 0 0 0 1 9 9 9\n0 1 0 0 0 1 9 9 9\n"
            b"0 0 1 0 0 1 9 9 9\n3 0 1 2\n4 0 1 2 3\n"]


def made_stl(cloud: Geometry) -> list:
    """ASCII, two solids."""
    solid = ("solid a\nfacet normal 0 0 1\nouter loop\nvertex 0 0 0\nvertex 1 0 0\nvertex 0 1 0\n"
             "endloop\nendfacet\nendsolid a\n")
    return [(solid + solid.replace("1", "2")).encode()]


def made_ptx(cloud: Geometry) -> list:
    """Two scans of which the second is moved."""
    pose = "0 0 0\n1 0 0\n0 1 0\n0 0 1\n1 0 0 0\n0 1 0 0\n0 0 1 0\n{} 0 0 1\n"
    rows = "\n".join(f"{row} 0.5" for row in table_of(cloud).split("\n"))
    return ["".join(f"8\n5\n{pose.format(x)}{rows}\n" for x in (0, 7)).encode()]


def made_columns(cloud: Geometry) -> list:
    """Tables with normals or colours, and with a header."""
    rows = table_of(cloud).split("\n")
    return ["\n".join(f"{row} 0 0 1" for row in rows).encode(),
            "\n".join(f"{row} 255 0 9" for row in rows).encode(),
            ("id,X [m],Y [m],Z [m],name\n" + "\n".join(
                f"{i},{row.replace(' ', ',')},p{i}" for i, row in enumerate(rows))).encode()]


def made_pcd(cloud: Geometry) -> list:
    """ASCII, binary, and compressed without a match."""
    header = ("# .PCD v0.7\nVERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\n"
              "WIDTH 40\nHEIGHT 1\nPOINTS 40\nDATA ")
    raw = cloud.points.astype("<f4")
    packed = b"".join(bytes([11]) + raw.T.tobytes()[i : i + 12] for i in range(0, 480, 12))
    sizes = np.array([len(packed), 480], "<u4").tobytes()
    return [(header + "ascii\n" + table_of(cloud)).encode(),
            (header + "binary\n").encode() + raw.tobytes(),
            (header + "binary_compressed\n").encode() + sizes + packed]


def made_npz(cloud: Geometry) -> list:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, points=cloud.points, normals=cloud.normals)
    return [buffer.getvalue()]


def made_vtk(cloud: Geometry) -> list:
    head = "# vtk DataFile Version 3.0\nt\n{}\nDATASET POLYDATA\nPOINTS 40 float\n"
    return [(head.format("ASCII") + table_of(cloud)).encode(),
            head.format("BINARY").encode() + cloud.points.astype(">f4").tobytes()]


def made_gltf(cloud: Geometry) -> list:
    """A scene in one file, its buffers as base64."""
    scene = trimesh.Scene(trimesh.creation.box())
    return [trimesh.exchange.gltf.export_gltf(scene, embed_buffers=True)["model.gltf"]]


def made_las(suffix: str):
    """A maker of "las" or "laz" files, of the versions 1.2 and 1.4, with colours."""

    def made(cloud: Geometry) -> list:
        found = []
        for version, point_format in (("1.2", 3), ("1.4", 7)):
            header = laspy.LasHeader(version=version, point_format=point_format)
            header.scales = np.full(3, 0.001)
            las = laspy.LasData(header)
            las.x, las.y, las.z = cloud.points.T
            las.red = np.arange(40)
            buffer = io.BytesIO()
            las.write(buffer, do_compress=suffix == "laz")
            found.append(buffer.getvalue())
        return found

    return made


def made_e57(cloud: Geometry) -> list:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "good.e57"
        with pye57.E57(str(path), mode="w") as file:
            file.write_scan_raw({f"cartesian{axis}": cloud.points[:, i].copy()
                                 for i, axis in enumerate("XYZ")})
        return [path.read_bytes()]


def made_checkpoint(cloud: Geometry) -> list:
    """A small network without training; the cloud is not needed."""
    mlp = MLP(Architecture(8))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "good.h5"
        checkpoints.save_checkpoint(path, mlp.parameters, {
            "architecture": vars(mlp.architecture), "frame": {"center": [0, 0, 0], "scale": 1},
            "volume_factor": 1.5})
        return [path.read_bytes()]


# good files of formats, or of their variants, that files.write does not write; a reader whose
# format is not written by us needs a line here
MADE = {".ply": made_ply, ".xyz": made_table, ".pts": made_table, ".pcd": made_pcd,
        ".off": made_off, ".stl": made_stl, ".ptx": made_ptx, ".txt": made_columns,
        ".csv": made_columns, ".asc": made_columns, ".xyzn": made_columns,
        ".xyzrgb": made_columns,
        ".npz": made_npz, ".vtk": made_vtk, ".gltf": made_gltf, ".las": made_las("las"),
        ".laz": made_las("laz"), ".e57": made_e57, ".h5": made_checkpoint}
FORMATS = [*files.FORMATS, ".h5"]


# ---------------------------------------------------------------------------------- damage and look


def damaged(data: bytes, rng) -> bytes:
    """`data` after one to four random changes."""
    out = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        place = int(rng.integers(0, len(out) + 1))
        if rng.random() < 0.5:  # damage to a header does more harm
            place = min(place, int(rng.integers(0, 200)))
        kind = rng.integers(0, 5)
        if kind == 0:
            del out[place:]
        elif kind == 1 and place < len(out):
            out[place] = int(rng.integers(0, 256))
        elif kind == 2:
            piece = PIECES[rng.integers(len(PIECES))]
            out[place : place + len(piece)] = piece
        elif kind == 3:
            out[place:place] = PIECES[rng.integers(len(PIECES))]
        else:
            del out[place : place + int(rng.integers(1, 30))]
    return bytes(out)


def wild(data: bytes, rng) -> bytes:
    """A .npy file after up to 30 random changes of its numbers' bytes: most can be read, and have
    points that are equal, far away or no numbers."""
    out = bytearray(data)
    start = out.index(b"\n") + 1
    for _ in range(rng.integers(1, 31)):
        place = int(rng.integers(start, len(out)))
        if rng.random() < 0.5:
            out[place] = int(rng.integers(0, 256))
        else:  # some numbers of a row into another one
            piece = out[place : place + 24]
            place = int(rng.integers(start, len(out) - 24))
            out[place : place + len(piece)] = piece
    return bytes(out)


def is_read(path: Path) -> bool:
    """True where the file is read, False where it is refused. Anything else raises."""
    try:
        if path.suffix == ".h5":
            networks.load_network(path, False)
            return True
        found: Geometry = files.read(path)
    except UserError as error:
        if "\n" in str(error):
            raise RuntimeError("a refusal of several lines") from error
        return False
    if not np.isfinite(found.points).all() or found.points.shape[1] != 3:
        raise RuntimeError("points that are not finite were let through")
    faces = found.faces
    if faces is not None and not 0 <= faces.min() <= faces.max() < len(found.points):
        raise RuntimeError("faces beyond the points were let through")
    return True


def is_used(path: Path, use: Callable[[Path], object]) -> bool:
    """True where a use of a cloud goes well, False where it is refused. Anything else raises."""
    try:
        use(path)
    except UserError as error:
        if "\n" in str(error):
            raise RuntimeError("a refusal of several lines") from error
        return False
    return True


def add_detail(path: Path) -> None:
    """Mesh an untrained network with the detail of a cloud."""
    checkpoint = path.with_name("net.h5")
    if not checkpoint.exists():
        checkpoint.write_bytes(made_checkpoint(Geometry(np.zeros((1, 3))))[0])
    mesh = infer.mesh_of(checkpoint, infer.Extraction(grid_size=16, fpath=path, detail=2)).mesh
    if not np.isfinite(mesh.points).all():
        raise RuntimeError("a mesh that is not finite was made")


def train_shortly(path: Path) -> None:
    """Train ten steps."""
    settings = train.Settings(train_iter=10, dims=8, batch_size=8, knn=3)
    train.fit(path, path.with_name("run"), settings, train.Options(quiet=True), overwrite=True)


USES = {"detail": add_detail, "training": train_shortly}


def campaign(suffix: str, count: int, folder: Path, seed: int = 0, use: str | None = None) -> dict:
    """Read `count` damaged files of a format and count the outcomes.

    "failures" has (bytes, error) of the first that were neither read nor refused. use: of USES:
    what is done with wild .npy files instead.
    """
    look = is_read if use is None else lambda path: is_used(path, USES[use])
    rng = np.random.default_rng(seed)
    good = good_files(suffix, folder)
    row = {"format": use or suffix, "files": count, "read": 0, "refused": 0, "tracebacks": 0,
           "slowest": 0.0}
    failures = []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for i in range(count):
        data = (wild if use else damaged)(good[i % len(good)], rng)
        zipped = good[i % len(good)].startswith(b"\x1f\x8b")
        path = folder / f"bad{suffix}{'.gz' if zipped else ''}"
        path.write_bytes(data)
        start = time.perf_counter()
        try:
            row["read" if look(path) else "refused"] += 1
        except Exception as error:  # what the campaign looks for
            row["tracebacks"] += 1
            failures.append((data, repr(error)))
        row["slowest"] = max(row["slowest"], time.perf_counter() - start)
    row["grown_MiB"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {**row, "failures": failures[:5]}


def parse_args() -> argparse.Namespace:
    parser = helper.parser(__doc__)
    parser.add_argument("--files", type=int, default=2000, help="damaged files of each format")
    parser.add_argument("--formats", nargs="+", default=FORMATS, help="suffixes")
    parser.add_argument("--uses", nargs="*", default=list(USES), choices=list(USES),
                        help="what else to do with damaged clouds")
    parser.add_argument("--seed", type=int, default=0, help="of the damage")
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        work = [(suffix, args.files, None) for suffix in args.formats]
        work += [(".npy", max(1, args.files // 50), use) for use in args.uses]
        for suffix, count, use in work:
            found = campaign(suffix, count, Path(folder), args.seed, use)
            failures = found.pop("failures")
            print(json.dumps(found), flush=True)
            for data, error in failures:
                print("   ", error[:150], data[:60])


if __name__ == "__main__":
    main(parse_args())
