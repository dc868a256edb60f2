#!/usr/bin/env bash
# Measure on a machine with an NVIDIA GPU. Each command takes less than 10 minutes and writes into
# $RESULTS (default: gpu-results). Run them in this order:
#
#   bash benchmarks/gpu.sh check      the tests that need a GPU, and those of the graph
#   bash benchmarks/gpu.sh step       a training step in float32 and TF32, compared with PyTorch
#   bash benchmarks/gpu.sh forward    inference, compared with PyTorch
#   bash benchmarks/gpu.sh bunny      four trainings of 8 x 512, two minutes each; needs `step`
#   bash benchmarks/gpu.sh extract    grid 512 of the first of these, octree and dense; needs `bunny`
#
# PYTHON (default: python) is a Python with nnabla and its extension, TORCH (default: python3) one
# with PyTorch and CUDA, or a script that starts it. BUNNY is the path of bun_zipper.ply. Measure
# the distances where open3d is installed:
#   python evaluate.py -f bun_zipper.ply -mdp $RESULTS/.../param_NNNNN_mesh.ply
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHON=${PYTHON:-python}
TORCH=${TORCH:-python3}
RESULTS=${RESULTS:-gpu-results}
BUNNY=${BUNNY:-stanford_3d_scanning_datasets/bunny/reconstruction/bun_zipper.ply}
mkdir -p "$RESULTS"

check() {
    "$PYTHON" -c 'from igr import devices; print(devices.set_context("cuda").text)'
    "$PYTHON" -m pytest -rs tests/test_gpu.py tests/test_sampling.py tests/test_networks.py
}

step() {
    local precision
    for precision in float32 tf32; do
        "$PYTHON" benchmarks/step.py --context cuda --precision "$precision" --dims 512 256 \
            --batch 512 4096 16384 --uniform 512 512 2048 --rounds 5 --repeat 50 \
            --torch-python "$TORCH" --json "$RESULTS/step-$precision.json"
    done
}

forward() {
    "$PYTHON" benchmarks/forward.py --context cuda --points 1048576 --rounds 5 --repeat 2 \
        --torch-python "$TORCH" --json "$RESULTS/forward-cuda.json"
}

steps_in_time() { # steps_in_time BATCH PRECISION: prints how many steps of 8 x 512 take 100 s
    "$PYTHON" - "$RESULTS/step-$2.json" "$1" <<'PYTHON'
import json
import sys

rows = json.load(open(sys.argv[1]))["rows"]
row = next(r for r in rows if r["dims"] == 512 and r["batch"] == int(sys.argv[2]))
print(int(100 / row["muon"]))
PYTHON
}

newest() { # newest RUN: prints its last checkpoint
    find "$1" -name 'param_*.h5' | sort -V | tail -n 1
}

bunny() {
    local precision batch run
    "$PYTHON" datasets.py create -f "$BUNNY" --sampling uniform -o "$RESULTS/bunny_pcd.ply"
    for precision in float32 tf32; do
        for batch in 512 4096; do
            run=$RESULTS/bunny-$precision-$batch
            "$PYTHON" train.py --context cuda --precision "$precision" -f "$RESULTS/bunny_pcd.ply" \
                -m "$run" --dims 512 -b "$batch" --uniform 512 \
                -ti "$(steps_in_time "$batch" "$precision")" -sie 1000000 --overwrite --quiet
            tail -n 2 "$run/log.jsonl"
            "$PYTHON" infer.py --context cuda --grid-size 512 --largest -mlp "$(newest "$run")"
        done
    done
}

extract() {
    "$PYTHON" benchmarks/extract.py --context cuda --grids 512 --dense 512 \
        --json "$RESULTS/extract-cuda.json" "$(newest "$RESULTS/bunny-float32-512")"
}

case ${1:-} in
    check | step | forward | bunny | extract) "$1" ;;
    *)
        sed -n '2,15s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
        exit 2
        ;;
esac
