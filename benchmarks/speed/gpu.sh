#!/usr/bin/env bash
# Measure on a machine with an NVIDIA GPU, into $RESULTS (default: gpu-results). Each command takes
# some minutes at most; run them in this order, or `all`:
#
#   bash benchmarks/speed/gpu.sh check      the tests that need a GPU
#   bash benchmarks/speed/gpu.sh step       a training step in float32 and TF32, compared with PyTorch
#   bash benchmarks/speed/gpu.sh launches   the kernels of a step, by NVIDIA's ncu
#   bash benchmarks/speed/gpu.sh cloud      from a cloud to a mesh: a draft, the defaults, 8 x 512
#   bash benchmarks/speed/gpu.sh paper      500 steps of the paper's settings, in float32 and TF32
#   bash benchmarks/speed/gpu.sh extract    the 8 x 512 of `cloud`: grids of 512 and 1025
#   bash benchmarks/speed/gpu.sh forward    inference, compared with PyTorch
#
# PYTHON (default: python) is a Python with nnabla and its extension, TORCH (default: python3) one
# with PyTorch and CUDA, or a script that starts it. CLOUD is a point cloud, such as
#   python datasets.py create -f bun_zipper.ply -n 50000
# makes. Measure the distances of a mesh where open3d is installed:
#   python evaluate.py -f bun_zipper.ply -mdp $RESULTS/normal/mesh.ply
set -euo pipefail
export LC_ALL=C # a point in $EPOCHREALTIME
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PYTHON=${PYTHON:-python}
TORCH=${TORCH:-python3}
RESULTS=${RESULTS:-gpu-results}
CLOUD=${CLOUD:-stanford_3d_scanning_datasets/bunny/reconstruction/bun_zipper_pcd.ply}
mkdir -p "$RESULTS"

check() {
    "$PYTHON" -c 'from igr.backend import devices; print(devices.set_context("cuda").text)'
    "$PYTHON" -m pytest -q -rs tests/test_gpu.py
}

step() {
    local precision
    for precision in float32 tf32; do
        "$PYTHON" -m benchmarks.speed.step --context cuda --precision "$precision" --dims 512 \
            --batch 512 16384 --uniform 512 2048 --rounds 5 --repeat 30 --torch-python "$TORCH" \
            --json "$RESULTS/step-$precision.json"
    done
}

profile() { # profile NAME FLAGS...: the kernels of one step
    local name=$1
    shift
    ncu --profile-from-start off --clock-control none --cache-control none --csv --page raw \
        --metrics gpu__time_duration.sum --log-file "$RESULTS/launches-$name.csv" \
        "$PYTHON" -m benchmarks.speed.launches "$@"
    "$PYTHON" -m benchmarks.speed.launches --table "$RESULTS/launches-$name.csv" \
        --json "$RESULTS/launches-$name.json"
}

launches() {
    profile small
    profile large --batch 16384 --uniform 2048
    profile tf32 --batch 16384 --uniform 2048 --precision tf32
}

timed() { # timed NAME COMMAND...: runs it and adds its wall-clock seconds to $RESULTS/seconds.txt
    local name=$1 start=$EPOCHREALTIME
    shift
    "$@"
    awk -v n="$name" -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "%s %.2f\n", n, b - a }' |
        tee -a "$RESULTS/seconds.txt"
}

newest() { # newest RUN: prints its last checkpoint
    find "$1" -name 'param_*.h5' | sort -V | tail -n 1
}

reconstruct() { # reconstruct NAME FLAGS...: a run and its mesh in $RESULTS/NAME
    local name=$1
    shift
    timed "train-$name" "$PYTHON" train.py --context cuda -f "$CLOUD" -m "$RESULTS/$name" "$@" \
        -sie 1000000 --overwrite --quiet
    timed "infer-$name" "$PYTHON" infer.py --context cuda --grid-size 256 --quiet \
        -mlp "$(newest "$RESULTS/$name")" -o "$RESULTS/$name/mesh.ply"
}

cloud() {
    rm -f "$RESULTS/seconds.txt"
    reconstruct draft --quality draft
    reconstruct normal
    reconstruct wide --dims 512 -b 4096 -ti 2000
}

paper() {
    local precision
    rm -f "$RESULTS/paper.txt"
    for precision in float32 tf32; do
        timed "paper-$precision" "$PYTHON" train.py --context cuda --precision "$precision" \
            -f "$CLOUD" -m "$RESULTS/paper-$precision" --overwrite --paper -ti 500 -sie 1000000 \
            --quiet
        echo "$precision $(tail -n 1 "$RESULTS/paper-$precision/log.jsonl")" |
            tee -a "$RESULTS/paper.txt"
    done
}

extract() {
    "$PYTHON" -m benchmarks.speed.extract --context cuda --grids 512 1025 --dense 0 \
        --json "$RESULTS/extract.json" "$(newest "$RESULTS/wide")"
}

forward() {
    "$PYTHON" -m benchmarks.speed.forward --context cuda --dims 512 --points 1048576 --rounds 5 \
        --repeat 2 --torch-python "$TORCH" --json "$RESULTS/forward.json"
}

case ${1:-} in
    check | step | launches | cloud | paper | extract | forward) "$1" ;;
    all) for part in check step launches cloud paper extract forward; do "$part"; done ;;
    *)
        sed -n '2,19s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
        exit 2
        ;;
esac
