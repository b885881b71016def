#!/usr/bin/env bash
# Everything that needs a GPU, in one command and under 8 minutes: the reference cases on the device, a memory and a race
# check, a short run beside the CPU's, the benchmarks beside torch and Liger. Needs a binary (`cargo build --release`, stripped by the profile), Python
# with numpy, safetensors and torch, and NVRTC; no Rust.
#
#     scripts/gpu.sh target/release/rlc [FOLDER]      writes gpu.json, gpu.md and logs into FOLDER (target/gpu)
#     scripts/gpu.sh target/cuda/release/rlc.gz       the same with training, of scripts/build_cuda.sh; unpacked there
#
# Exit codes: 0; 1 something failed on the device; 2 bad input; 3 everything that can be checked without a GPU is in order,
# but there is none.
set -euo pipefail

stop() { printf 'gpu.sh: %s\n' "$2" >&2; exit "$1"; }
step() { printf '\n== %s (%ss)\n' "$1" "$SECONDS"; }

[ $# -ge 1 ] && [ $# -le 2 ] || stop 2 "usage: scripts/gpu.sh RLC [FOLDER]"
root=$(realpath "$(dirname "$0")/..")
out=${2:-$root/target/gpu}
mkdir -p "$out"
out=$(realpath "$out")
given=$1
case $given in
*.gz)
    gzip -dc "$given" >"$out/rlc" || stop 2 "\`$given\` does not unpack"
    chmod +x "$out/rlc"
    given=$out/rlc
    ;;
esac
[ -x "$given" ] && [ -f "$given" ] || stop 2 "\`$given\` is no program: \`cargo build --release\`, then target/release/rlc"
rlc=$(realpath "$given")
# Kernels are compiled for this run, not found from another.
export RLC_CACHE="$out/cache"
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
for file in tests/reference/objectives/check.py benches/gpu.py benches/batch.py benches/peer_torch.py benches/losses.py; do
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
step "$cases reference cases on the device, whole"
timeout 180 python3 tests/reference/objectives/check.py "$rlc" --backend cuda --whole --jobs "$(nproc)" \
    2>&1 | tee "$out/cases.txt" || failed=1
step "some in every legal piece"
timeout 60 python3 tests/reference/objectives/check.py "$rlc" --backend cuda --only grpo_logits --jobs "$(nproc)" \
    2>&1 | tee -a "$out/cases.txt" || failed=1

step "memory and races"
if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck; do
        status=0
        timeout 60 compute-sanitizer --tool "$tool" --error-exitcode 9 "$rlc" eval grpo --device cuda \
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
else
    echo "compute-sanitizer is missing: not checked"
fi

step "training"
# The embedded model on both; bf16 on the GPU, so that samples part after some tokens: the curves are for eyes.
rm -rf "$out/run-cpu" "$out/run-cuda"
status=0
timeout 60 "$rlc" run grpo --steps 5 --seed 0 --out "$out/run-cuda" --device cuda >"$out/run-cuda.txt" 2>&1 || status=$?
if [ "$status" = 0 ]; then
    timeout 60 "$rlc" run grpo --steps 5 --seed 0 --out "$out/run-cpu" >"$out/run-cpu.txt" 2>&1 || failed=1
    python3 - "$out" <<'PY' || failed=1
import json, math, pathlib, sys
curves = [[json.loads(line) for line in (pathlib.Path(sys.argv[1]) / f"run-{device}/metrics.jsonl").open()] for device in ("cpu", "cuda")]
for step, (cpu, gpu) in enumerate(zip(*curves), 1):
    print(f"step {step}: loss {cpu['loss']:.6f} on the CPU, {gpu['loss']:.6f} on the GPU")
sys.exit(not all(math.isfinite(line["loss"]) for curve in curves for line in curve) or len(curves[0]) != len(curves[1]))
PY
elif [ "$status" = 2 ]; then
    echo "not run: $(tail -3 "$out/run-cuda.txt") (scripts/build_cuda.sh makes a binary that trains on a GPU)"
else
    tail -5 "$out/run-cuda.txt"
    failed=1
fi

step "benchmarks"
# What is left of ten minutes.
left=$((590 - SECONDS))
(cd benches && timeout "$((left > 60 ? left : 60))" python3 gpu.py "$rlc" "$out") 2>"$out/benchmarks.txt" || failed=1
tail -20 "$out/benchmarks.txt" >&2

step "done"
echo "logs, gpu.json and gpu.md are in $out"
[ "$failed" = 0 ] || stop 1 "something failed: see above"
