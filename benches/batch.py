"""The batch that everybody gets: rollouts of equal length, so that padded and packed layouts are the same memory."""

import dataclasses

import torch
from safetensors.torch import save_file

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


@dataclasses.dataclass
class Batch:
    """Tensors are [rollouts, tokens] and [rollouts, tokens, vocab]; what has no gradient is f32."""

    logits: torch.Tensor
    ref_logits: torch.Tensor
    action: torch.Tensor
    old_logp: torch.Tensor
    mask: torch.Tensor
    reward: torch.Tensor
    advantage: torch.Tensor
    group: int

    @property
    def shape(self):
        return self.logits.shape


def make(tokens, vocab, dtype, rollouts=8, reference=False, seed=0):
    """Random logits; log-probs near the policy's, so that some ratios are clipped and most are not."""
    if tokens % rollouts:
        raise SystemExit(f"--tokens {tokens} cannot be divided among {rollouts} rollouts")
    random = torch.Generator().manual_seed(seed)
    length = tokens // rollouts
    draw = lambda *shape: torch.randn(*shape, generator=random)
    logits = (2 * draw(rollouts, length, vocab)).to(DTYPES[dtype])
    ref_logits = (logits.float() + 0.1 * draw(rollouts, length, vocab)).to(DTYPES[dtype]) if reference else None
    action = torch.randint(vocab, (rollouts, length), generator=random)
    with torch.no_grad():
        picked = logits.gather(-1, action.unsqueeze(-1)).squeeze(-1).float()
        logp = picked - torch.stack([row.float().logsumexp(-1) for row in logits])
    old_logp = logp + 0.1 * draw(rollouts, length)
    # The last tokens of some rollouts do not count.
    ends = torch.randint(3 * length // 4, length + 1, (rollouts, 1), generator=random)
    mask = torch.arange(length).unsqueeze(0) < ends.clamp(min=1)
    reward = torch.rand(rollouts, generator=random)
    advantage = (reward - reward.mean()) / (reward.std() + 1e-4)
    return Batch(logits, ref_logits, action, old_logp, mask, reward, advantage, rollouts)


def write(batch, path):
    """Writes the file that `rlc bench --batch` and `rlc eval --batch` read."""
    rollouts, length, vocab = batch.shape
    arrays = {
        "group/size": torch.tensor([rollouts]),
        "rollout/size": torch.full((rollouts,), length),
        "rollout/reward": batch.reward,
        "token/action": batch.action.reshape(-1),
        "token/old_logp": batch.old_logp.reshape(-1),
        "token/mask": batch.mask.reshape(-1),
        "vocab/logits": batch.logits.reshape(-1, vocab),
    }
    if batch.ref_logits is not None:
        arrays["vocab/ref_logits"] = batch.ref_logits.reshape(-1, vocab)
    save_file({name: array.contiguous() for name, array in arrays.items()}, path)
