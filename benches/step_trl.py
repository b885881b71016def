"""One whole training step beside TRL's `GRPOTrainer`: sampling and update apart, memory too.

    python -m venv peers && . peers/bin/activate
    pip install torch safetensors transformers datasets trl

    cargo build --release
    python benches/step_trl.py --rlc target/release/rlc --threads 2 --out step

Makes a random Llama (4.3 M parameters; `--shape qwen` for 28 M with grouped queries, biases and a large
vocabulary), a tokenizer of one word a token and prompts, or takes a trained story teller (`--model FOLDER`) and
beginnings of stories, and has both train on them: the same weights,
numbers of prompts, rollouts and tokens, GRPO with one update a batch, AdamW, a regular expression as
reward. Each turn is a fresh process of several steps; turns alternate. TRL runs in f32 without
activation checkpointing, which is its fastest way on a CPU, and with an allocator that keeps what is
freed; `--peer-allocator default` leaves the C library's alone. Nothing is downloaded.
"""

import argparse
import json
import math
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Hidden width, layers, heads, key heads, width of the MLP, vocabulary.
SHAPES = {
    "llama": ("llama", 256, 4, 4, 4, 704, 4096),
    "qwen": ("qwen2", 384, 6, 6, 2, 1024, 49152),
}
# Some completions of a random model, or of a story teller, contain one of these words, and some do not.
REWARD = r"\bw[1-4]\d\b|\b(he|play)\b"
NAMES = ("Lily", "Tom", "Ben", "Mia", "Sam", "Anna", "Max", "Sue", "Tim", "Lucy", "Jack", "Amy", "Joe", "Sara", "Bob", "Zoe")
KEPT = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_TOP_PAD_": str(64 << 20),
    "MALLOC_ARENA_MAX": "1",
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rlc", help="the rlc binary, built with --release; several, comma-separated, take turns")
    parser.add_argument("--shape", choices=SHAPES, default="llama")
    parser.add_argument("--model", help="a folder with a model that tells stories, in place of a random one")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--samples", type=int, default=8, help="rollouts of each prompt")
    parser.add_argument("--new", type=int, default=64, help="new tokens of each rollout")
    parser.add_argument("--prompt-tokens", type=int, default=32)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--steps", type=int, default=6, help="steps of a turn; the first warms up")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each")
    parser.add_argument("--peer-allocator", choices=("keeps", "default"), default="keeps")
    parser.add_argument("--no-peer", action="store_true", help="measure rlc alone")
    parser.add_argument("--folder", help="where model, data and runs are made; a temporary folder if absent")
    parser.add_argument("--out", help="where results go, without an ending; only printed if absent")
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    return parser.parse_args()


def take(folder, args):
    """A copy of a model, and prompts for it; returns the number of parameters."""
    from safetensors import safe_open

    shutil.copytree(args.model, folder / "model", dirs_exist_ok=True)
    texts = [f"Once upon a time, there was a {word} child named {name}." for word in ("little", "big") for name in NAMES]
    (folder / "prompts.jsonl").write_text("".join(json.dumps({"prompt": t}) + "\n" for t in texts))
    with safe_open(folder / "model" / "model.safetensors", "np") as weights:
        return sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())


def make(folder, args):
    """Model, tokenizer and prompts; returns the number of parameters."""
    if args.model:
        return take(folder, args)
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    kind, hidden, layers, heads, kv_heads, inner, vocab = SHAPES[args.shape]
    words = {"<pad>": 0, "<eos>": 1, "<unk>": 2} | {f"w{i}": i for i in range(3, vocab)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(["<pad>", "<eos>", "<unk>"])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    ).save_pretrained(folder / "model")
    sizes = {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": inner,
        "vocab_size": vocab,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": 1,
        "pad_token_id": 0,
    }
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**sizes)) if kind == "llama" else Qwen2ForCausalLM(Qwen2Config(**sizes))
    with torch.no_grad():
        # Nobody stops early: the end token is never likely.
        model.get_input_embeddings().weight[1].zero_()
    model.save_pretrained(folder / "model")
    draw = torch.randint(3, vocab, (args.prompts * 16, args.prompt_tokens)).tolist()
    texts = [" ".join(f"w{i}" for i in row) for row in draw]
    (folder / "prompts.jsonl").write_text("".join(json.dumps({"prompt": t}) + "\n" for t in texts))
    return sum(p.numel() for p in model.parameters())


def peak(pid="self"):
    """Largest resident size of a process so far, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def resident():
    """Resident size of this process, in MB."""
    return int(re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def peer(args, folder):
    """One turn of TRL, in this process: prints a JSON line."""
    import torch

    torch.set_num_threads(args.threads)
    import transformers
    import trl
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
    from trl import GRPOConfig, GRPOTrainer

    transformers.logging.set_verbosity_error()
    lines = (folder / "prompts.jsonl").read_text().splitlines()
    pattern = re.compile(REWARD)

    def reward(completions, **_):
        return [1.0 if pattern.search(c) else 0.0 for c in completions]

    times = []

    class Timed(GRPOTrainer):
        def training_step(self, *rest, **named):
            self.began, self.sampling = time.perf_counter(), 0.0
            return super().training_step(*rest, **named)

        def _generate(self, *rest, **named):
            start = time.perf_counter()
            out = super()._generate(*rest, **named)
            self.sampling += time.perf_counter() - start
            return out

    class Ends(transformers.TrainerCallback):
        def on_step_end(self, *_, **__):
            now = time.perf_counter()
            times.append((trainer.sampling, now - trainer.began))

    config = GRPOConfig(
        output_dir=str(folder / "trl"),
        max_steps=args.steps,
        per_device_train_batch_size=args.prompts * args.samples,
        num_generations=args.samples,
        max_completion_length=args.new,
        loss_type="grpo",
        beta=0.0,
        learning_rate=1e-5,
        adam_beta2=0.95,
        max_grad_norm=1.0,
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=True,
        save_strategy="no",
        logging_steps=args.steps,
        report_to=[],
        disable_tqdm=True,
        seed=0,
    )
    # Not the class that the model would suggest: Qwen2's finds no words here.
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder / "model")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    before = resident()
    trainer = Timed(
        model=model,
        reward_funcs=reward,
        args=config,
        train_dataset=Dataset.from_list([json.loads(line) for line in lines]),
        processing_class=tokenizer,
        callbacks=[Ends()],
    )
    trainer.train()
    lengths = [m for entry in trainer.state.log_history for k, m in entry.items() if k == "completions/mean_length"]
    result = {"steps": times, "peak": peak(), "before": before, "length": lengths[-1] if lengths else None}
    result["versions"] = {"torch": torch.__version__, "trl": trl.__version__, "transformers": transformers.__version__}
    print("RESULT " + json.dumps(result))


def run_peer(args, folder):
    """A turn of TRL in a process of its own."""
    environment = dict(os.environ, OMP_NUM_THREADS=str(args.threads), TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1")
    if args.peer_allocator == "keeps":
        environment |= KEPT
    command = [sys.executable, __file__, *sys.argv[1:], "--peer", str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    found = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not found:
        raise SystemExit(f"TRL failed:\n{done.stdout}\n{done.stderr}")
    return json.loads(found[0].removeprefix("RESULT "))


def run_rlc(args, folder, binary):
    """A turn of ours: `rlc run` as a user starts it."""
    parameters = f"""
        objective = "grpo"
        steps = {args.steps}
        [model]
        init = {json.dumps(str(folder / "model"))}
        [data]
        task = "prompts"
        file = {json.dumps(str(folder / "prompts.jsonl"))}
        [[reward]]
        kind = "regex"
        pattern = '{REWARD}'
        [rollout]
        prompts = {args.prompts}
        samples = {args.samples}
        max_new_tokens = {args.new}
        [optimizer]
        lr = 1e-5
        updates_per_batch = 1
        micro_batch_tokens = {args.prompts * args.samples * (args.new + args.prompt_tokens)}
        warmup = 0
        [checkpoint]
        dir = {json.dumps(str(folder / "run"))}
        every = {args.steps}
        [eval]
        problems = 0
    """
    (folder / "run.toml").write_text("\n".join(line.strip() for line in parameters.splitlines()))
    environment = dict(os.environ, RAYON_NUM_THREADS=str(args.threads))
    command = [binary, "run", "--config", str(folder / "run.toml"), "--force", "--quiet"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    # The resource use of exactly this child, which its parent's status file no longer shows.
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"rlc run failed:\n{process.stderr.read()}")
    process.returncode = 0
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    return {
        "steps": [(s["time"]["sampling"], s["time"]["seconds"]) for s in lines],
        "peak": usage.ru_maxrss / 1024,
        "length": lines[-1]["length"],
    }


def summary(turns, tokens):
    """Medians and minima over all steps but each turn's first."""
    steps = [step for turn in turns for step in turn["steps"][1:]]
    columns = {
        "sampling": [s for s, _ in steps],
        "update": [t - s for s, t in steps],
        "step": [t for _, t in steps],
    }
    out = {k: {"median": statistics.median(v), "min": min(v)} for k, v in columns.items()}
    out["tokens_per_second"] = tokens / out["sampling"]["median"]
    out["peak"] = max(turn["peak"] for turn in turns)
    out["length"] = turns[-1]["length"]
    return out


def table(results):
    """One line for each contender, times in seconds as median (minimum)."""
    lines = ["| | sampling | tokens/s | update | step | peak MB |", "|---|---|---|---|---|---|"]
    for name, r in results.items():
        cells = [f"{r[k]['median']:.3f} ({r[k]['min']:.3f})" for k in ("sampling", "update", "step")]
        cells.insert(1, f"{r['tokens_per_second']:,.0f}")
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {r['peak']:,.0f} |")
    return "\n".join(lines)


def compare(args, folder):
    """Alternating turns of everybody."""
    count = make(folder, args)
    turns = {}
    versions = {"python": platform.python_version()}
    for _ in range(args.rounds):
        for binary in (args.rlc or "").split(","):
            if binary:
                name = "rlc" if "," not in args.rlc else binary
                turns.setdefault(name, []).append(run_rlc(args, folder, binary))
        if not args.no_peer:
            turn = run_peer(args, folder)
            versions |= turn.pop("versions")
            turns.setdefault("TRL", []).append(turn)
    tokens = args.prompts * args.samples * args.new
    results = {name: summary(t, tokens) for name, t in turns.items()}
    head = f"{Path(args.model).name if args.model else args.shape}, {count:,} parameters, {args.prompts} x {args.samples} x {args.new} tokens, {args.threads} threads"
    print(head, versions, table(results), sep="\n")
    if args.out:
        settings = {k: v for k, v in vars(args).items() if k not in ("folder", "out", "peer", "rlc")}
        report = {"settings": settings, "parameters": count, "versions": versions, "results": results, "turns": turns}
        Path(f"{args.out}.json").write_text(json.dumps(report, indent=1))
        Path(f"{args.out}.md").write_text(f"{head}; {versions}\n\n{table(results)}\n")


def main():
    args = arguments()
    if args.peer:
        peer(args, Path(args.peer))
    elif args.folder:
        folder = Path(args.folder)
        folder.mkdir(parents=True, exist_ok=True)
        compare(args, folder)
    else:
        with tempfile.TemporaryDirectory() as folder:
            compare(args, Path(folder))


if __name__ == "__main__":
    main()
