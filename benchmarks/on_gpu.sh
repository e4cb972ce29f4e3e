#!/usr/bin/env bash
# Everything that only a GPU can tell, in some seven minutes: docs/measured/performance.md has the figures.
#   benchmarks/on_gpu.sh OUTPUT       COTRACKER, TAPNET and ALLTRACKER may name clones, whose trackers are timed then
# Each part has a limit of time of its own and a file in OUTPUT; run it on a host that does nothing else.
set -u
output=${1:?where the figures go}
mkdir -p "$output"
export OMP_NUM_THREADS=4 PYTHONUNBUFFERED=1

part() { # NAME SECONDS COMMAND...
    local name=$1 limit=$2
    shift 2
    echo "== $name"
    timeout "$limit" "$@" 2>&1 | tee "$output/$name.txt" | tail -12
}

part tests 150 python3 -m pytest -q tests/whole/test_on_gpu.py
for variants in "plain ours plain+fp16 ours+fp16" "ours ours+chunk" "ours ours+model+chunk"; do
    part "amplify_${variants// /_}" 90 python3 -m benchmarks.model --device cuda --bf16 --batch-size 32 --repeats 20 --variants $variants
done
part keypoint 90 python3 -m benchmarks.model --device cuda --bf16 --batch-size 16 --repeats 8 --model keypoint --variants plain ours point
part encode 40 python3 -m benchmarks.encode --device cuda --bf16 --batch-size 64 --repeats 20
for precision in no bf16; do
    [ -z "${COTRACKER:-}" ] || part "cotracker_$precision" 40 python3 -m benchmarks.cotracker --checkout "$COTRACKER" --device cuda \
        --strides 4 --windows 16 --batch 8 --autocast "$precision"
done
cloned="python3 -m benchmarks.cloned_trackers --device cuda --windows 8 --batch 8"
[ -z "${TAPNET:-}" ] || part bootstapir 30 $cloned --checkout "$TAPNET" --tracker bootstapir
[ -z "${TAPNET:-}" ] || part tapnextpp 30 $cloned --checkout "$TAPNET" --tracker tapnextpp
[ -z "${ALLTRACKER:-}" ] || part alltracker 30 $cloned --checkout "$ALLTRACKER" --tracker alltracker
