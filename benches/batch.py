"""The batches that everybody gets, as files of the arrays that `rlc bench --batch` reads.

From logits and from hidden states: rollouts of equal length, so that padded and packed layouts are the same memory. From
log-probs: ragged rollouts, packed in the file; who wants them padded gets them padded before anything is timed.
"""

import torch
from safetensors.torch import load_file, save_file

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
# Log-probs given: 64 rollouts of 64 to 1,024 tokens in groups of 8, in four turns each.
RAGGED = {"rollouts": 64, "group": 8, "least": 64, "most": 1024, "turns": 4}


def _uneven(tokens, random, rollouts, least, most, **_):
    """Lengths that add up to `tokens`."""
    if not rollouts * least <= tokens <= rollouts * most:
        raise SystemExit(f"{tokens} tokens do not make {rollouts} rollouts of {least} to {most}")
    size = torch.randint(least, most + 1, (rollouts,), generator=random)
    while size.sum() != tokens:
        at = torch.randint(rollouts, (), generator=random)
        size[at] = (size[at] + (tokens - size.sum()).clamp(-64, 64)).clamp(least, most)
    return size


def _near(logp, draw):
    """Log-probs near the policy's: some ratios are clipped and most are not."""
    return logp + 0.1 * draw(*logp.shape)


def logp(path, tokens, seed=0):
    """Packed columns with log-probs."""
    random = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=random)
    size = _uneven(tokens, random, **RAGGED)
    turns, groups = RAGGED["turns"], RAGGED["rollouts"] // RAGGED["group"]
    parts = [[(i + 1) * n // turns - i * n // turns for i in range(turns)] for n in size.tolist()]
    new = -2 - draw(tokens).abs()
    arrays = {
        "group/size": torch.full((groups,), RAGGED["group"]),
        "rollout/size": size,
        "rollout/reward": torch.rand(RAGGED["rollouts"], generator=random),
        "turn/size": torch.tensor(parts).flatten(),
        "turn/step_correct": torch.rand(len(size) * turns, generator=random),
        "token/logp": new,
        "token/old_logp": _near(new, draw),
        "token/ref_logp": _near(new, draw),
        "token/mask": torch.rand(tokens, generator=random) < 0.9,
    }
    save_file(arrays, path)


def _columns(logits_of, tokens, vocab, random, rollouts):
    """What a batch has beside its logits; `logits_of` gives them for a range of tokens."""
    draw = lambda *shape: torch.randn(*shape, generator=random)
    length = tokens // rollouts
    action = torch.randint(vocab, (tokens,), generator=random)
    new = torch.empty(tokens)
    for first in range(0, tokens, 128):
        part = slice(first, min(first + 128, tokens))
        logits = logits_of(part).float()
        new[part] = logits.gather(-1, action[part, None])[:, 0] - logits.logsumexp(-1)
    # The last tokens of some rollouts do not count.
    ends = torch.randint(3 * length // 4, length + 1, (rollouts, 1), generator=random)
    return {
        "group/size": torch.tensor([rollouts]),
        "rollout/size": torch.full((rollouts,), length),
        "rollout/reward": torch.rand(rollouts, generator=random),
        "token/action": action,
        "token/old_logp": _near(new, draw),
        "token/mask": (torch.arange(length).unsqueeze(0) < ends.clamp(min=1)).flatten(),
    }


def _divided(tokens, rollouts):
    if tokens % rollouts:
        raise SystemExit(f"{tokens} tokens cannot be divided among {rollouts} rollouts")


def logits(path, tokens, vocab, dtype, reference=False, rollouts=8, seed=0):
    """Logits, and those of a reference policy where asked for."""
    _divided(tokens, rollouts)
    random = torch.Generator().manual_seed(seed)
    new = torch.empty(tokens, vocab, dtype=DTYPES[dtype])
    for row in new:
        row.copy_(2 * torch.randn(vocab, generator=random))
    arrays = _columns(lambda part: new[part], tokens, vocab, random, rollouts)
    arrays["vocab/logits"] = new
    if reference:
        arrays["vocab/ref_logits"] = torch.empty_like(new)
        for row, old in zip(arrays["vocab/ref_logits"], new):
            row.copy_(old.float() + 0.1 * torch.randn(vocab, generator=random))
    save_file(arrays, path)


def hidden(path, tokens, width, vocab, rollouts=8, seed=0):
    """Hidden states and the output projection: logits of about deviation 2."""
    _divided(tokens, rollouts)
    random = torch.Generator().manual_seed(seed)
    states = torch.randn(tokens, width, generator=random)
    weight = 2 / width**0.5 * torch.randn(vocab, width, generator=random)
    arrays = _columns(lambda part: states[part] @ weight.T, tokens, vocab, random, rollouts)
    arrays |= {"token/hidden": states, "head/weight": weight}
    save_file(arrays, path)


class Batch:
    """A file as a peer sees it: tensors, packed or as [rollouts, longest, ...]."""

    def __init__(self, path):
        self.arrays = load_file(path)
        self.size = self.arrays["rollout/size"].tolist()
        self.group = int(self.arrays["group/size"][0])
        starts = {"vocab/logits": "logits", "token/hidden": "hidden", "token/logp": "logp"}
        self.start = next(starts[name] for name in starts if name in self.arrays)
        self.longest = max(self.size)
        self.even = min(self.size) == self.longest
        self.inside = torch.arange(self.longest) < torch.tensor(self.size)[:, None]

    def padded(self, name):
        """[rollouts, longest, ...], 0 where there is no token; the file's own memory where nothing is padded."""
        packed = self.arrays[name]
        if self.even:
            return packed.view(len(self.size), self.longest, *packed.shape[1:])
        out = packed.new_zeros(len(self.size), self.longest, *packed.shape[1:])
        out[self.inside] = packed
        return out

    def packed(self, padded):
        """The other way."""
        return padded.flatten(0, 1) if self.even else padded[self.inside]

    def ids(self, level):
        """Which row of `rollout` or `turn` each token belongs to."""
        size = self.arrays[f"{level}/size"]
        return torch.repeat_interleave(torch.arange(len(size)), size)

    def last(self):
        """Whether a token is in the last turn of its rollout."""
        turns = len(self.arrays["turn/size"]) // len(self.size)
        return self.ids("turn") % turns == turns - 1

    def advantage(self, eps=1e-4):
        """Of each rollout: rewards in standard deviations of the group."""
        rewards = self.arrays["rollout/reward"].view(-1, self.group)
        return ((rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + eps)).flatten()
