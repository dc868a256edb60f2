#!/usr/bin/env bash
# Everything by name. The first call sets the project up in .venv; later ones start at once.
#
#   bash commands.sh demo          the main job on a built-in shape: cloud, network, mesh, figures
#   bash commands.sh reconstruct CLOUD... [-o MESH] [--quality draft|normal|fine] [--trim|--closed]
#                    [--faces N] [--with-normals] [--no-clean] [--one-network]
#                                  a scan, or several with their alignment, to a mesh, a page and a
#                                  report; resumes where it was stopped
#   bash commands.sh reconstruct --scene CLOUD... [-o MESH] [...]
#                                  a scene larger than one network, by cells; see docs/scenes.md
#   bash commands.sh test          the tests
#   bash commands.sh results [shape ...]
#                                  measure every shape, case and method for the README's tables:
#                                  hours; skips what is measured already
#   bash commands.sh setup         only set up
#   bash commands.sh list          the training commands of the reproduction, as typed by hand
#   bash commands.sh bunny [...]   one of them, resumed where it was stopped; flags after the name are
#                                  passed to train.py, for a new run
#   bash commands.sh all [...]     all of them, one after the other
set -euo pipefail
HERE=$PWD  # relative paths of the user's begin here
cd "$(dirname "${BASH_SOURCE[0]}")"

die() {
    echo "commands.sh: $*" >&2
    exit 1
}

run() {
    echo "+ $*"
    "$@"
}

# ------------------------------------------------------------------------------------------ Python

BROUGHT=.python # where uv puts the Python 3.10 that it brings
UV=uv==0.13.9   # what pip installs where there is no uv

is_any_python() { # is_any_python PROGRAM: is it one that nnabla has a wheel for?
    is_python "$1" 3.10 || is_python "$1" 3.9 || is_python "$1" 3.8
}

is_python() { # is_python PROGRAM VERSION: does it run, and is it that version?
    [ -n "$1" ] && [ "$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = "$2" ]
}

python_candidates() { # python_candidates VERSION: programs that may be it, one a line
    command -v "python$1" || true
    ls -d "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/python 2>/dev/null || true
    if command -v uv >/dev/null; then uv python find "$1" 2>/dev/null || true; fi
    if command -v conda >/dev/null; then
        ls -d "$(conda info --base 2>/dev/null)"/{,envs/*/}bin/python"$1" 2>/dev/null || true
    fi
    ls -d "$PWD/$BROUGHT/cpython-$1".*/bin/"python$1" 2>/dev/null || true
}

find_python() { # prints a Python that nnabla has a wheel for; brings one where there is none
    local version candidate
    if [ -n "${PYTHON:-}" ]; then
        if is_any_python "$PYTHON"; then
            echo "$PYTHON"
            return
        fi
        die "\$PYTHON ($PYTHON) is not Python 3.10, 3.9 or 3.8: nnabla has no wheel for other versions"
    fi
    for version in 3.10 3.9 3.8; do
        while read -r candidate; do
            # Debian's Python has ensurepip, which makes .venv, in a package of its own
            if is_python "$candidate" "$version" && "$candidate" -c 'import ensurepip' 2>/dev/null; then
                echo "$candidate"
                return
            fi
        done < <(python_candidates "$version")
    done
    bring_python
}

bring_python() { # uv installs Python 3.10 into .python, for this project only; prints it
    local uv said
    [ "$(uname -sm)" = "Linux x86_64" ] || die_without_python "nnabla has no wheel for $(uname -sm) either"
    mkdir -p "$BROUGHT" || die_without_python "$PWD cannot be written to"
    echo "no Python 3.10 here: uv brings one into $PWD/$BROUGHT (once, 30 MB)" >&2
    uv=$(command -v uv) || uv=$(bring_uv) || exit 1
    said=$(UV_NO_CACHE=1 UV_PYTHON_INSTALL_BIN=0 UV_PYTHON_INSTALL_DIR=$PWD/$BROUGHT \
        "$uv" python install 3.10 2>&1) || die_without_python "uv could not install one ($(reason "$said"))"
    rm -rf "$BROUGHT/uv"
    ls -d "$PWD/$BROUGHT"/cpython-3.10.*/bin/python3.10
}

bring_uv() { # pip installs uv into .python; prints it
    local said
    if ! python3 -m pip --version >/dev/null 2>&1; then
        apt_install python3-pip || die_without_python "there is no uv, and no pip to install it" \
            "(sudo apt-get install python3-pip)"
    fi
    said=$(python3 -m pip install --quiet --disable-pip-version-check --retries 2 \
        --target "$BROUGHT/uv" "$UV" 2>&1) || die_without_python "pip could not install uv ($(reason "$said"))"
    echo "$BROUGHT/uv/bin/uv"
}

reason() { # reason TEXT: what went wrong, from what pip or uv wrote, in one line
    local cause="\[Errno[^']*|verify failed[^']*|[^:']*timed out[^']*|[^:]*\(os error.*"
    { echo "$1" | grep -oE "$cause" || echo "$1" | grep -iE "error:|cause" || echo unknown; } |
        tail -n 1 | sed 's/^ *//'
}

die_without_python() { # die_without_python WHY: none was brought
    die "no Python 3.10, 3.9 or 3.8 found (nnabla has no wheel for newer ones): $*." \
        "By hand: pyenv install 3.10, uv python install 3.10, or conda create -n py310 python=3.10;" \
        "or name one: PYTHON=/path/to/python3.10 bash commands.sh ..."
}

# ------------------------------------------------------------------------------------------ set-up

apt_install() { # apt_install PACKAGE...: on Debian and Ubuntu, where no password is asked for
    local sudo=""
    [ "$(id -u)" = 0 ] || sudo="sudo -n"
    command -v apt-get >/dev/null && { [ -z "$sudo" ] || $sudo true 2>/dev/null; } || return
    echo "installing by apt-get: $*" >&2
    { $sudo apt-get update -qq && $sudo apt-get install -y -qq --no-install-recommends "$@"; } \
        >/dev/null 2>&1
}

install() { # install FILE: pip install -r FILE unless this very file is installed already
    local stamp
    stamp=.venv/$(echo "$1" | tr / -)
    if ! cmp -s "$1" "$stamp"; then
        echo "installing $1 into .venv (once)"
        .venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$1" || return
        cp "$1" "$stamp"
    fi
}

# open3d's system libraries on Debian and Ubuntu
LIBRARIES=(libegl1 libgl1 libgomp1 libusb-1.0-0 libx11-6)

check_libraries() { # open3d imports, if need be after apt has brought its libraries
    if [ -e .venv/open3d-imports ]; then return; fi
    if ! .venv/bin/python -c 'import open3d' >/dev/null 2>&1; then
        apt_install "${LIBRARIES[@]}" || true
        .venv/bin/python -c 'import open3d' >/dev/null 2>&1 ||
            die "open3d does not import; it needs system libraries: sudo apt-get install ${LIBRARIES[*]}"
    fi
    touch .venv/open3d-imports
}

has_gpu() { # is there an NVIDIA GPU whose driver works?
    [ -e /dev/nvidia0 ] || nvidia-smi -L >/dev/null 2>&1
}

install_cuda() { # nnabla's extension and CUDA's libraries, where there is a GPU and room for them
    if has_gpu && [ "$(uname -sm)" = "Linux x86_64" ]; then
        install requirements-cuda.txt ||
            echo "commands.sh: no CUDA: requirements-cuda.txt could not be installed; the CPU it is" >&2
    fi
}

setup() {
    if ! is_any_python .venv/bin/python; then
        local python
        python=$(find_python)
        echo "making .venv with $("$python" --version)"
        rm -rf .venv
        "$python" -m venv .venv
    fi
    install requirements.txt
    install_cuda
    check_libraries
    PATH=$PWD/.venv/bin:$PATH
    if ! python -m igr ready; then python -m igr setup; fi
}

# ------------------------------------------------------------------------------------ the main job

demo() {
    mkdir -p demo
    run python datasets.py create --shape knot -o demo/knot_pcd.ply
    run python train.py -f demo/knot_pcd.ply -m demo/knot --quality draft --overwrite
    run python infer.py -mlp demo/knot --grid-size 256 -o demo/knot_mesh.ply
    run python evaluate.py -f demo/knot.ply -mdp demo/knot_mesh.ply
    run python visualize.py error -f demo/knot_mesh.ply -r demo/knot.ply -o demo/knot.png
    run python visualize.py html -f demo/knot_mesh.ply -o demo/knot.html
    echo "open demo/knot.html in a browser (it turns the mesh), the picture demo/knot.png," \
        "or demo/knot_mesh.ply in any viewer"
}

# --------------------------------------------------------------------------- from scan to mesh

reconstruct() { # reconstruct FLAGS...: by igr/__main__.py, which then is this process
    local word job=reconstruct words=()
    for word in "$@"; do
        case $word in
            *.[lL][aA][sSzZ] | *.[eE]57) install requirements-formats.txt ;;
        esac
        if [ "$word" = --scene ]; then job=scene; else words+=("$word"); fi
    done
    if [ $job = scene ]; then install requirements-scene.txt; fi
    exec python -m igr $job -C "$HERE" ${words[@]+"${words[@]}"}
}

# -------------------------------------------------------------------------------- the reproduction

STANFORD=stanford_3d_scanning_datasets
SRB=deep_geometric_prior_data/ground_truth

# name, what it is sampled from (- for a cloud that is there as it is), the cloud
SHAPES="
bunny       $STANFORD/bunny/reconstruction/bun_zipper.ply           $STANFORD/bunny/reconstruction/bun_zipper_pcd.ply
armadillo   $STANFORD/Armadillo.ply                                 $STANFORD/Armadillo_pcd.ply
dragon      $STANFORD/dragon_recon/dragon_vrip.ply                  $STANFORD/dragon_recon/dragon_vrip_pcd.ply
drill       $STANFORD/drill/reconstruction/drill_shaft_vrip.ply     $STANFORD/drill/reconstruction/drill_shaft_vrip_pcd.ply
happy       $STANFORD/happy_recon/happy_vrip.ply                    $STANFORD/happy_recon/happy_vrip_pcd.ply
lucy        $STANFORD/lucy.ply                                      $STANFORD/lucy_pcd.ply
rgb_dragon  $STANFORD/xyzrgb_dragon.ply                             $STANFORD/xyzrgb_dragon_pcd.ply
manuscript  $STANFORD/xyzrgb_manuscript.ply                         $STANFORD/xyzrgb_manuscript_pcd.ply
statuette   $STANFORD/xyzrgb_statuette.ply                          $STANFORD/xyzrgb_statuette_pcd.ply
anchor      -                                                       $SRB/anchor.xyz
daratech    -                                                       $SRB/daratech.xyz
dc          -                                                       $SRB/dc.xyz
gargoyle    -                                                       $SRB/gargoyle.xyz
lord_quas   -                                                       $SRB/lord_quas.xyz
"

sampling_of() { # Poisson-disk sampling takes minutes beyond some 200 k points
    case $1 in
        bunny | drill | armadillo) echo poisson ;;
        *) echo uniform ;;
    esac
}

shapes() { # the rows of SHAPES without the empty ones
    echo "$SHAPES" | sed '/^$/d'
}

list() {
    local name mesh cloud
    while read -r name mesh cloud; do
        echo "# $name"
        if [ "$mesh" != - ]; then
            echo "python datasets.py create -f $mesh --sampling $(sampling_of "$name")"
        fi
        echo "python train.py -d 0 -f $cloud -m $name"
    done < <(shapes)
}

train_shape() { # train_shape NAME [flags of train.py]
    local wanted=$1 name mesh cloud
    shift
    read -r name mesh cloud < <(shapes | grep "^$wanted ")
    if [ $# -eq 0 ] && compgen -G "$name/param_*.h5" >/dev/null; then
        run python train.py --resume -m "$name"
        return
    fi
    if [ ! -e "$cloud" ] && [ "$mesh" != - ]; then
        [ -e "$mesh" ] || die "$mesh is not there; first: bash downloads.sh $name"
        run python datasets.py create -f "$mesh" --sampling "$(sampling_of "$name")"
    fi
    [ -e "$cloud" ] || die "$cloud is not there; docs/guide.md says where the benchmark's clouds are"
    run python train.py -d 0 -f "$cloud" -m "$name" "$@"
}

main() {
    local command=${1:-help} name
    [ $# -eq 0 ] || shift
    case $command in
        help | -h | --help) sed -n '2,19s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" ;;
        setup) setup ;;
        demo)
            setup
            demo
            ;;
        reconstruct)
            setup
            reconstruct "$@"
            ;;
        test)
            setup
            install tests/requirements.txt
            install requirements-formats.txt
            install requirements-scene.txt
            python -m pytest -n 2 "$@"
            ;;
        results)
            setup
            python -m benchmarks.results.driver "$@"
            ;;
        list) list ;;
        all)
            setup
            for name in $(shapes | cut -d' ' -f1); do train_shape "$name" "$@"; done
            ;;
        *)
            shapes | grep -q "^$command " ||
                die "unknown command '$command'; known are demo, reconstruct, test, results, setup, list, all and" \
                    "$(shapes | cut -d' ' -f1 | tr '\n' ' ')"
            setup
            train_shape "$command" "$@"
            ;;
    esac
}

main "$@"
