#!/bin/sh
# Makes the embedded model, runtime/assets/arithmetic/model.safetensors: a small Llama fine-tuned with
# the `sft` objective on generated demonstrations of the arithmetic task. One line in ten of these is
# wrong on purpose and training ends early, so that there is something left for RL to learn: sampled
# accuracy on held-out problems is about 0.3. Takes a minute. The shape is
# runtime/assets/arithmetic/config.json; the result is the same on every run on one machine.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cargo build --release --package rlc
rlc=${CARGO_TARGET_DIR:-target}/release/rlc
"$rlc" run --make-demos 20000 --slip 0.1 --digits 3 --seed 1 --out "$work/demos.jsonl"
"$rlc" run sft --config scripts/make_embedded_model.toml --offline "$work/demos.jsonl" \
    --model random --out "$work/run"
cp "$work/run/model/model.safetensors" runtime/assets/arithmetic/model.safetensors
ls -l runtime/assets/arithmetic/model.safetensors
