"""What the driver measures and with which flags: shapes, cases, methods, pictures."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]

RECIPE = 15  # raise it when train.py gives other weights for the same flags: ours is made again
NORMALS = 13  # as RECIPE, of the normals that rivals share with ours
# flags of train.py in addition to its defaults; one thread, so that two shapes can run at a time
OURS = {"ours": "--threads 1", "ours-network": "--threads 1",  # the same training
        "ours-sides": "--threads 1",  # on the cloud with its normals, which tell the sides
        "ours-normals": "--threads 1 --with-normals",
        "ours-cleaned": "--threads 1",  # of what datasets.py clean leaves of the cloud
        "ours-seed-1": "--threads 1 --seed 1", "ours-seed-2": "--threads 1 --seed 2"}
SEEDS = ("ours", "ours-seed-1", "ours-seed-2")  # the same but for chance
# of Poisson: 30 neighbours of 2,000 points span a limb, and great depths learn noise
PEER_CASE_FLAGS = {"sparse": "--neighbours 10", "noisy": "--depth 6",
                   "noisy-outliers": "--depth 6", "scan": "--depth 8", "light": "--depth 8",
                   "hand": "--depth 7", "rough": "--depth 7"}
# of winding-number normals: the authors' widths for sparse points and for noise of .25 and .5 %
WINDING_CASE_FLAGS = {"sparse": "--widths 0.05 0.2", "slightly-noisy": "--widths 0.02 0.08",
                      "noisy": "--widths 0.03 0.12", "noisy-outliers": "--widths 0.03 0.12"}
# of a step of STEPS in a case: moving least squares need more neighbours where there is noise
STEP_CASE_FLAGS = {
    "poisson": PEER_CASE_FLAGS,
    "apss": {"slightly-noisy": "--filter-scale 4", "noisy": "--filter-scale 8",
             "noisy-outliers": "--filter-scale 8", "hand": "--filter-scale 8",
             "rough": "--filter-scale 8"},
    "rimls": {"slightly-noisy": "--filter-scale 4", "noisy": "--filter-scale 4",
              "noisy-outliers": "--filter-scale 4", "hand": "--filter-scale 4",
              "rough": "--filter-scale 4"}}
INFER_FLAGS = "--grid-size 512 --threads 1"
NETWORK_ALONE = "--detail off --keep-all"  # of infer.py, for ours-network
SAVE_STEPS = 1000  # between two checkpoints: a kill loses at most these

# points of a clean cloud: evenly spaced on a mesh, random on a built-in shape; a scan gives all
POINTS = 50_000
NOISE = 0.01  # standard deviation of each coordinate, unit frame: 0.5 % of the longest side
SLIGHT_NOISE = 0.003
OUTLIERS = 0.01  # share of the points that lie anywhere in the unit frame's cube instead
SPARSE = 2_000  # points of a sparse cloud
HOLES = 5  # balls cut out of a cloud, each around one of its points
HOLE_RADIUS = 0.1  # unit frame
PEER_SECONDS = 900  # a peer that takes longer is killed
COURSE = 12  # checkpoints of a training whose surface is measured, at most
COURSE_GRID = 512

# the steps of a rival that takes several: programs of steps.py and peers.py with their flags
STEPS = {"poisson-same": ("normals", "poisson"),
         "poisson-meshlab-scan": ("normals", "poisson-meshlab --samples-per-node 15"),
         "apss": ("normals", "apss"), "rimls": ("normals", "rimls"),
         "detail-over-poisson": ("normals", "poisson", "detail")}
ONE_STEP = ("poisson-estimated", "poisson", "poisson-winding", "poisson-meshlab", "ball-pivoting",
            "advancing-front")
PEERS = (*ONE_STEP, *STEPS)
NEED_NORMALS = ("ours-sides", "ours-normals", "poisson", "poisson-meshlab")


class Shape(NamedTuple):
    """A shape to measure, its cases and methods."""

    files: tuple = ()  # its reference below a folder of DATA, the first found; (): built-in
    cases: tuple = ("clean",)
    methods: tuple = ("ours", "ours-network", "poisson-estimated", "poisson", "poisson-winding",
                      "poisson-meshlab", "advancing-front", *STEPS)
    protocols: tuple = ("default",)  # of evaluate.py, for the clean case
    flags: str = ""  # more for train.py
    infer_flags: str = ""  # more for infer.py
    up: str = "y"  # in pictures
    azimuth: int = 20  # of the camera in pictures, in degrees
    hint: str = ""  # where to get the reference if downloads.sh does not have it
    course: bool = False  # measure the clean surface during the training of "ours"
    seeded: tuple = ()  # cases in which SEEDS are compared
    truth: str = ""  # the true mesh, below a folder of DATA, where the file is a scan or an
    #                  archive of scans with their .conf
    pose: str = ""  # a 4 x 4 matrix M beside it, p_truth = M p_scan; "": they have one frame


DATA = (ROOT.parent / "shared" / "data", ROOT / "stanford_3d_scanning_datasets", ROOT)
ALL_CASES = ("clean", "noisy", "sparse", "holes", "slightly-noisy", "outliers",
             "noisy-outliers")
# virtual scans of the shape (scanner.py), a real scan with its truth, a real scan without one
VIRTUAL_SCANS = ("light", "hand", "rough")
SCANS = (*VIRTUAL_SCANS, "scan", "left-out")
LEFT_OUT = 0.1  # share of a scan's points that no method is given, to measure the meshes against
ALL_METHODS = ("ours", "ours-network", *ONE_STEP, *STEPS)
# of SCANS, for every shape
SCAN_METHODS = ("ours", "ours-sides", "ours-normals", "poisson-same", "poisson",
                "poisson-meshlab-scan", "apss", "rimls", "advancing-front", "detail-over-poisson")
# the only cases of a method; others have all of a shape
CASES_OF = {"ours-cleaned": ("outliers", "noisy-outliers"), "ours-sides": ("scan",),
            "ours-normals": ("clean", "scan"), "poisson-same": SCANS,
            "poisson-meshlab-scan": (*SCANS, "noisy", "slightly-noisy", "noisy-outliers")}
UPSTREAM = ("default", "upstream")
SCANS_HINT = "results/README.md says whose scan it is"
SHAPES = {
    "bunny": Shape(("bunny/bun_zipper.ply", "bunny/reconstruction/bun_zipper.ply"),
                   (*ALL_CASES, *VIRTUAL_SCANS),
                   (*ALL_METHODS, "ours-normals", "ours-cleaned", *SEEDS[1:]), UPSTREAM,
                   course=True, seeded=("clean", "noisy", "hand")),
    "knot": Shape((), ALL_CASES[:4], ALL_METHODS),
    "lucy": Shape(("lucy/lucy_vtk.ply", "lucy.ply"), cases=("clean", *VIRTUAL_SCANS),
                  methods=(*Shape().methods, "ours-normals", *SEEDS[1:]), protocols=UPSTREAM,
                  up="z", course=True, seeded=("clean",)),
    "armadillo": Shape(("armadillo/Armadillo_fullres_points.pcd", "Armadillo.ply"),
                       cases=("clean", *VIRTUAL_SCANS), protocols=UPSTREAM,
                       azimuth=200),  # at 20 it turns its back
    "dragon": Shape(("dragon/dragon_vrip_res2.ply.gz", "dragon_recon/dragon_vrip.ply"),
                    cases=("clean", *VIRTUAL_SCANS), protocols=UPSTREAM),
    "drill": Shape(("drill/drill_shaft_vrip.ply", "drill/reconstruction/drill_shaft_vrip.ply"),
                   methods=(*Shape().methods, *SEEDS[1:]), protocols=UPSTREAM,
                   infer_flags="--trim auto", seeded=("clean",)),  # an open tube
    "rgb_dragon": Shape(("xyzrgb_dragon/xyzrgb_dragon_100k_euclid.ply", "xyzrgb_dragon.ply"),
                        methods=(*Shape().methods, *SEEDS[1:]), protocols=UPSTREAM,
                        seeded=("clean",)),
    "gargoyle": Shape(("srb/scans/gargoyle.ply", "deep_geometric_prior_data/scans/gargoyle.ply"),
                      cases=("clean", "left-out"), methods=ALL_METHODS,
                      protocols=("default", "srb"), up="-y",
                      hint="docs/guide.md says where it is", course=True),
    "sphere": Shape(),
    "torus": Shape(),
    "sponge": Shape(),
    "letter": Shape(),
    "anchor": Shape(("scans/srb_anchor.ply",), ("scan",), protocols=("default", "srb"),
                    hint=SCANS_HINT, seeded=("scan",), truth="scans/srb_anchor_truth.off",
                    pose="scans/srb_anchor_scan_to_truth.txt"),
    "dc": Shape(("scans/srb_dc.ply",), ("scan",), protocols=("default", "srb"), hint=SCANS_HINT,
                truth="scans/srb_dc_truth.off", pose="scans/srb_dc_scan_to_truth.txt"),
    "dragon_stand": Shape(("scans/dragon_stand.tar.gz",), ("scan",), hint=SCANS_HINT,
                          truth="scans/dragon_stand_truth.ply.gz"),
    **{name: Shape((f"scans/{file}",), ("left-out",), hint=SCANS_HINT, up=up, azimuth=azimuth)
       for name, file, up, azimuth in (
           ("dog", "dog.xyz", "z", 20), ("lion", "lion_takanawa_merged.laz", "z", 20),
           ("room", "cloud_bin_0.ply", "-y", 20), ("houses", "city3d_001.ply", "z", 20),
           ("tomato", "pheno4d_tomato_0305.xyz", "z", 20))},
}


def find_reference(shape: Shape):
    """Path of the file of a shape's reference, or None."""
    return find(*shape.files)


def find(*names):
    """Path of the first file that is there, names below the folders of DATA; None without one."""
    places = [folder / name for name in names for folder in DATA]
    return next((place for place in places if place.is_file()), None)
