#!/usr/bin/env bash
# Everything that needs a GPU, in one command and under 8 minutes: the reference cases on the device, our own benchmarks, a
# short run beside the CPU's, a memory and a race check, errors, and then torch and Liger on the same batches. Needs a binary
# (`cargo build --release`, stripped by the profile), Python with numpy, safetensors and torch, and NVRTC; no Rust.
#
#     scripts/gpu.sh target/release/rlc [FOLDER]      writes gpu.json, gpu.md and logs into FOLDER (target/gpu)
#     scripts/gpu.sh target/cuda/release/rlc.gz       the same with training, of scripts/build_cuda.sh; unpacked there
#     PARTS="own peers" scripts/gpu.sh …              some of: cases own training sanitizer errors peers
#     LIMIT=300 scripts/gpu.sh …                      seconds for all of it (470); what does not fit is left out
#     WHEELS=FOLDER scripts/gpu.sh …                  Python wheels to be used beside what is there (Liger's)
#
# Each step has a limit of its own, and what it found is in FOLDER when it ends: a later one that hangs or crashes takes
# nothing away. Exit codes: 0; 1 something failed on the device; 2 bad input; 3 everything that can be checked without a GPU is
# in order, but there is none.
set -euo pipefail

stop() { printf 'gpu.sh: %s\n' "$2" >&2; exit "$1"; }
step() { printf '\n== %s (%ss)\n' "$1" "$SECONDS"; }

[ $# -ge 1 ] && [ $# -le 2 ] || stop 2 "usage: scripts/gpu.sh RLC [FOLDER]"
limit=${LIMIT:-470}
case $limit in '' | *[!0-9]*) stop 2 "\`LIMIT=$limit\` is no number of seconds" ;; esac
parts=${PARTS:-cases own training sanitizer errors peers}
for part in $parts; do
    case $part in
    cases | own | training | sanitizer | errors | peers) ;;
    *) stop 2 "\`$part\` in PARTS is none of: cases own training sanitizer errors peers" ;;
    esac
done
root=$(realpath "$(dirname "$0")/..")
out=${2:-$root/target/gpu}
mkdir -p "$out"
out=$(realpath "$out")
# Batches of some gigabytes, and what is unpacked, are no results.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
given=$1
case $given in
*.gz)
    gzip -dc "$given" >"$scratch/rlc" || stop 2 "\`$given\` does not unpack"
    chmod +x "$scratch/rlc"
    given=$scratch/rlc
    ;;
esac
[ -x "$given" ] && [ -f "$given" ] || stop 2 "\`$given\` is no program: \`cargo build --release\`, then target/release/rlc"
rlc=$(realpath "$given")
for wheel in ${WHEELS:+"$WHEELS"/*.whl}; do
    python3 -m zipfile -e "$wheel" "$scratch/wheels" || stop 2 "\`$wheel\` is no wheel"
    export PYTHONPATH="$scratch/wheels${PYTHONPATH:+:$PYTHONPATH}"
done
# Kernels are compiled for this run, not found from another.
export RLC_CACHE="$scratch/cache"
cd "$root"

step "what is there"
# A binary that trains on a GPU is linked with CUDA's libraries, which torch's wheels have.
if ldd "$rlc" 2>/dev/null | grep -q 'libcu.*not found'; then
    wheels=$(python3 -c 'import glob, sys
print(":".join(f for p in sys.path for f in sorted(glob.glob(p + "/nvidia/*/lib"))))')
    export LD_LIBRARY_PATH="$wheels${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
fi
"$rlc" --version || stop 2 "\`$rlc\` does not start; one of scripts/build_cuda.sh needs a driver and CUDA 13: without, take target/release/rlc"
command -v python3 >/dev/null || stop 2 "python3 is missing: it compares numbers and measures torch"
for file in tests/reference/objectives/check.py benches/gpu.py benches/batch.py benches/peer_torch.py benches/peer_liger.py benches/losses.py; do
    python3 -c 'import ast, sys; ast.parse(open(sys.argv[1]).read())' "$file" || stop 2 "$file is no Python"
done
missing=
for module in numpy safetensors torch; do
    python3 -c "import $module" 2>/dev/null || missing="$missing $module"
done
cases=$(find tests/reference/objectives/cases -name case.json | wc -l)
[ "$cases" -gt 200 ] || stop 2 "tests/reference/objectives/cases has only $cases cases"
if [ -z "${RLC_NVRTC:-}" ]; then
    # Where torch's wheels have it.
    found=$(python3 -c 'import glob, sys
print(next((f for p in sys.path for f in sorted(glob.glob(p + "/nvidia/*/lib/libnvrtc.so.1[23]"))), ""))')
    [ -z "$found" ] || export RLC_NVRTC="$found"
fi
"$rlc" doctor
report=$("$rlc" doctor --json)
ask() { printf '%s' "$report" | python3 -c "import json, sys; r = json.load(sys.stdin); print($1)"; }

nvrtc=$(ask 'r["nvrtc"].get("missing", "")')
if [ -z "$nvrtc" ]; then
    step "kernels for sm_90"
    for program in grpo gspo benches/programs/grpo_entropy.rl; do
        "$rlc" compile "$program" --emit sass-stats --logits bf16 --arch sm_90
    done
fi
devices=$(ask 'len(r["gpu"]["devices"])')
if [ "$devices" = 0 ]; then
    printf '\n'
    [ -z "$missing" ] || echo "gpu.sh: Python lacks$missing, which the steps on a GPU need" >&2
    [ -z "$nvrtc" ] || echo "gpu.sh: $nvrtc" >&2
    echo "gpu.sh: not run: $cases reference cases, memory and race checks, benchmarks" >&2
    stop 3 "there is no GPU: $(ask 'r["gpu"].get("missing", "the driver finds none")')"
fi
[ -z "$missing" ] || stop 2 "Python lacks$missing"
[ -z "$nvrtc" ] || stop 2 "$nvrtc"

failed=0
# Runs a command for at most so many seconds, and no longer than there is time. 124: it was stopped, or not begun.
within() {
    local most=$1 left=$((limit - SECONDS))
    shift
    [ "$left" -gt 5 ] || { echo "no time left for: $*" >&2; return 124; }
    timeout --kill-after=5 "$((left < most ? left : most))" "$@"
}

cases() {
    local check=(python3 tests/reference/objectives/check.py "$rlc" --backend cuda --jobs "$(nproc)")
    step "$cases reference cases on the device, whole"
    within 150 "${check[@]}" --whole 2>&1 | tee "$out/cases.txt" | tail -30 || failed=1
    step "some in every legal piece"
    within 45 "${check[@]}" --only grpo_logits 2>&1 | tee -a "$out/cases.txt" || failed=1
}

# Times from the epoch, so that a measurement knows what is left for it.
deadline() { echo $(($(date +%s) + ($1 < limit - SECONDS ? $1 : limit - SECONDS))); }

own() {
    step "benchmarks"
    (cd benches && within 240 python3 gpu.py own "$rlc" "$out" "$scratch" --until "$(deadline 230)") 2>"$out/own.txt" || failed=1
    tail -20 "$out/own.txt" >&2
}

peers() {
    step "torch and Liger"
    # They are measured beside ours; one that is missing is no failure of ours.
    (cd benches && within 480 python3 gpu.py peers "$rlc" "$out" "$scratch" --until "$(deadline 480)") 2>"$out/peers.txt" || failed=1
    tail -20 "$out/peers.txt" >&2
}

sanitizer() {
    step "memory and races"
    command -v compute-sanitizer >/dev/null || { echo "compute-sanitizer is missing: not checked"; return; }
    for tool in memcheck racecheck; do
        status=0
        within 45 compute-sanitizer --tool "$tool" --error-exitcode 9 "$rlc" eval grpo --device cuda \
            --batch tests/reference/objectives/cases/grpo_logits/batch.safetensors >"$out/$tool.txt" 2>&1 || status=$?
        tail -3 "$out/$tool.txt"
        if [ "$status" = 0 ]; then
            echo "$tool: clean"
        elif grep -q 'Device not supported' "$out/$tool.txt"; then
            echo "$tool: not on this machine: the sanitizer does not support its device"
        else
            echo "$tool: exit $status"
            failed=1
        fi
    done
}

training() {
    step "training"
    # The embedded model on both; bf16 on the GPU, so that samples part after some tokens: the curves are for eyes.
    rm -rf "$out/run-cpu" "$out/run-cuda"
    status=0
    within 60 "$rlc" run grpo --steps 5 --seed 0 --out "$out/run-cuda" --device cuda >"$out/run-cuda.txt" 2>&1 || status=$?
    if [ "$status" = 0 ]; then
        within 60 "$rlc" run grpo --steps 5 --seed 0 --out "$out/run-cpu" >"$out/run-cpu.txt" 2>&1 || failed=1
        python3 - "$out" <<'PY' || failed=1
import json, math, pathlib, sys
curves = [[json.loads(line) for line in (pathlib.Path(sys.argv[1]) / f"run-{device}/metrics.jsonl").open()] for device in ("cpu", "cuda")]
for step, (cpu, gpu) in enumerate(zip(*curves), 1):
    print(f"step {step}: loss {cpu['loss']:.6f} on the CPU, {gpu['loss']:.6f} on the GPU")
sys.exit(not all(math.isfinite(line["loss"]) for curve in curves for line in curve) or len(curves[0]) != len(curves[1]))
PY
        # Checkpoints are no results.
        rm -rf "$out"/run-*/checkpoints
    elif [ "$status" = 2 ]; then
        echo "not run: $(tail -3 "$out/run-cuda.txt") (scripts/build_cuda.sh makes a binary that trains on a GPU)"
    else
        tail -5 "$out/run-cuda.txt"
        failed=1
    fi
}

# A command has to fail with these words, and not by a signal.
refuses() { # name, words, command…
    local name=$1 words=$2 status=0
    shift 2
    within 40 "$@" >"$out/$name.txt" 2>&1 || status=$?
    if [ "$status" -gt 0 ] && [ "$status" -lt 124 ] && grep -q "$words" "$out/$name.txt"; then
        echo "$name: exit $status, $(grep -m 1 "$words" "$out/$name.txt")"
    else
        echo "$name: exit $status without \`$words\`: $(tail -3 "$out/$name.txt")"
        failed=1
    fi
}

errors() {
    step "errors"
    local case=tests/reference/objectives/cases/grpo_logits/batch.safetensors
    python3 - "$case" "$scratch/nan.safetensors" <<'PY'
import sys
from safetensors.numpy import load_file, save_file
batch = load_file(sys.argv[1])
batch["vocab/logits"][:, 3] = float("nan")
save_file(batch, sys.argv[2])
PY
    refuses nan-logit 'NaN\|not finite' "$rlc" eval grpo --device cuda --batch "$scratch/nan.safetensors"
    # Somebody else has all of the memory.
    python3 -c 'import time, torch
free, _ = torch.cuda.mem_get_info()
held = torch.empty(free - (1000 << 20), dtype=torch.uint8, device="cuda")
print("held", flush=True)
time.sleep(60)' >"$scratch/held" 2>"$out/held.txt" &
    local holder=$!
    for _ in $(seq 100); do grep -q held "$scratch/held" && break || sleep 0.2; done
    refuses out-of-memory 'OUT_OF_MEMORY' "$rlc" bench grpo --device cuda --tokens 4096 --vocab 65536 --seconds 0
    kill "$holder" 2>/dev/null || true
    wait "$holder" 2>/dev/null || true
}

for part in $parts; do
    # One that stops halfway keeps no other from running.
    "$part" || failed=1
done

step "done"
echo "logs, gpu.json and gpu.md are in $out"
[ "$failed" = 0 ] || stop 1 "something failed: see above"
