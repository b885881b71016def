"""Reference numbers for the model crate, from Hugging Face transformers.

Run by hand, in an environment with torch, transformers, safetensors and numpy:

    python make.py make            # writes the folders and numbers beside this file
    python make.py compare DIR     # loads DIR as transformers does and prints its logits for fixed ids as JSON

`make` builds one small random model of each family (weights in float32), then computes, in float64 and without padding:
the logits of three sequences, and the gradient of every parameter of

    f = sum over rows r and entries v of logits[r, v] * cos(0.1 * (r * V + v + 1))

where r counts the rows of all sequences in order. The Rust tests load the folders and compare. Nothing here shares
code with the Rust side.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config, Qwen3Config

HERE = Path(__file__).parent
SEQUENCES = [[3, 17, 4, 9, 31, 2, 60, 8, 8, 1, 44], [5], [12, 47, 33, 6, 21, 7]]
COMMON = dict(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
    bos_token_id=None,
    eos_token_id=1,
    pad_token_id=None,
    initializer_range=0.2,
)


def configs():
    yield "llama", LlamaConfig(**COMMON, tie_word_embeddings=False, rms_norm_eps=1e-5)
    yield "llama3_rope", LlamaConfig(
        **COMMON,
        tie_word_embeddings=True,
        attention_bias=True,
        mlp_bias=True,
        rope_parameters=dict(
            rope_type="llama3",
            rope_theta=500.0,
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=64,
        ),
    )
    yield "qwen2", Qwen2Config(**COMMON, tie_word_embeddings=True)
    yield "qwen3", Qwen3Config(**COMMON, tie_word_embeddings=False, head_dim=16)


def function(logits):
    flat = logits.reshape(-1)
    index = torch.arange(1, flat.numel() + 1, dtype=flat.dtype)
    return (flat * torch.cos(0.1 * index)).sum()


def logits_of(model):
    rows = [model(torch.tensor([ids])).logits[0] for ids in SEQUENCES]
    return torch.cat(rows)


def make():
    for name, config in configs():
        torch.manual_seed(sum(map(ord, name)))
        config._attn_implementation = "eager"
        model = AutoModelForCausalLM.from_config(config).to(torch.float32).eval()
        with torch.no_grad():
            for key, p in model.named_parameters():
                # Norm scales and biases start at 1 and 0, which would hide a wrong use of them.
                if "norm" in key:
                    p.add_(0.3 * torch.randn_like(p))
                elif key.endswith("bias"):
                    p.copy_(0.3 * torch.randn_like(p))
        folder = HERE / name
        model.save_pretrained(folder)
        model = model.to(torch.float64)
        logits = logits_of(model)
        function(logits).backward()
        arrays = {"logits": logits.detach()}
        for key, p in model.named_parameters():
            assert p.grad is not None and p.grad.abs().max() > 0, key
            arrays["grad." + key] = p.grad
        arrays = {k: v.to(torch.float32).contiguous() for k, v in arrays.items()}
        save_file(arrays, str(folder / "expected.safetensors"))
        print(name, sum(p.numel() for p in model.parameters()), float(function(logits)))


def compare(folder):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    vocab = model.config.vocab_size
    with torch.no_grad():
        rows = [model(torch.tensor([[i % vocab for i in ids]])).logits[0] for ids in SEQUENCES]
    logits = torch.cat(rows).numpy().astype(np.float64)
    result = {"logits": logits.tolist()}
    if (Path(folder) / "tokenizer.json").exists():
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder)
        result["ids"] = tokenizer.encode("Once upon a time", add_special_tokens=False)
        result["eos"] = tokenizer.eos_token_id
    print(json.dumps(result))


if __name__ == "__main__":
    if sys.argv[1:2] == ["make"]:
        make()
    elif sys.argv[1:2] == ["compare"] and len(sys.argv) == 3:
        compare(sys.argv[2])
    else:
        sys.exit(__doc__)
