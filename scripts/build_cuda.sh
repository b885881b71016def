#!/usr/bin/env bash
# Builds `rlc` with the model, sampling and training on an NVIDIA GPU (`--features cuda`). Needs no GPU, no driver and no
# CUDA installation: nvcc and its parts come as Python wheels (105 MB), and what only a driver has is linked against
# stubs. The binary needs libcuda.so.1, libcublas.so.13, libcublasLt.so.13, libcurand.so.10 and libcudart.so.13 where it
# runs: a driver, and CUDA 13 or PyTorch's wheels (`LD_LIBRARY_PATH=…/site-packages/nvidia/cu13/lib`).
#
#   scripts/build_cuda.sh             target/cuda/release/rlc (68 MB) and rlc.gz (19 MB), for sm_90
#   CUDA_COMPUTE_CAP=80 scripts/build_cuda.sh
#
# About 11 minutes of both cores the first time; most of it is candle's own kernels.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$PWD/target/cuda
mkdir -p "$work"

if [ ! -x "$work/venv/bin/pip" ]; then
    python3 -m venv "$work/venv"
fi
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps \
    nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 \
    nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85
CUDA_HOME=$(echo "$work"/venv/lib/python3*/site-packages/nvidia/cu13)
export CUDA_HOME CUDA_PATH=$CUDA_HOME CUDA_ROOT=$CUDA_HOME CUDA_TOOLKIT_ROOT_DIR=$CUDA_HOME
export PATH=$CUDA_HOME/bin:$PATH
export CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-90}
export CARGO_TARGET_DIR=$work

# Empty functions under the libraries' names, from the declarations that link against them: enough for a linker.
cargo fetch --locked --quiet
sources=$(cargo metadata --locked --format-version 1 --features cuda |
    python3 -c 'import json, os, sys
for p in json.load(sys.stdin)["packages"]:
    if p["name"] == "cudarc": print(os.path.dirname(p["manifest_path"]))')
stubs=$CUDA_HOME/lib64/stubs
mkdir -p "$stubs"
stub() { # library, its name where it runs, folder of declarations, prefix of the functions
    grep -ohE "fn ($4[A-Za-z0-9_]+)\(" "$sources/src/$3/sys/mod.rs" |
        sed -E 's/fn (.*)\(/void \1(void){}/' | sort -u >"$work/stub.c"
    gcc -shared -fPIC -w -Wl,-soname,"$2" -o "$stubs/lib$1.so" "$work/stub.c"
}
stub cuda libcuda.so.1 driver cu
stub cublas libcublas.so.13 cublas cublas
stub cublasLt libcublasLt.so.13 cublaslt cublas
stub curand libcurand.so.10 curand curand
stub nvrtc libnvrtc.so.13 nvrtc nvrtc
ln -sf "$CUDA_HOME/lib/libcudart.so.13" "$stubs/libcudart.so"
ln -sf "$CUDA_HOME/lib/libcudart_static.a" "$CUDA_HOME/lib/libcudadevrt.a" "$stubs/"

export LIBRARY_PATH=$stubs${LIBRARY_PATH:+:$LIBRARY_PATH}
export RUSTFLAGS="${RUSTFLAGS:-} -L native=$stubs"
cargo build --release --features cuda -p rlc "$@"
# Most of it is kernels that pack well: to be carried to another machine.
gzip --keep --force "$work/release/rlc"
ls -l "$work/release/rlc" "$work/release/rlc.gz"
