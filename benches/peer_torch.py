"""PyTorch, as a careful user writes these losses: eager, and the same functions through torch.compile."""

import torch
import torch.nn.functional as F

OBJECTIVES = ("grpo", "gspo", "grpo_entropy_kl")


def _seq_mean(x, mask):
    return ((x * mask).sum(-1) / mask.sum(-1).clamp(min=1)).mean()


def _clipped(ratio, advantage, low, high):
    advantage = advantage.unsqueeze(-1)
    return -torch.min(ratio * advantage, ratio.clamp(1 - low, 1 + high) * advantage)


def _logp(logits, action):
    # bf16 logits are accumulated in f32.
    return F.log_softmax(logits, -1, dtype=torch.float32).gather(-1, action.unsqueeze(-1)).squeeze(-1)


def grpo(logits, ref_logits, action, old_logp, mask, advantage):
    """Token ratios, mean per rollout."""
    ratio = torch.exp(_logp(logits, action) - old_logp)
    return _seq_mean(_clipped(ratio, advantage, 0.2, 0.2), mask)


def gspo(logits, ref_logits, action, old_logp, mask, advantage):
    """One ratio per rollout."""
    distance = (_logp(logits, action) - old_logp) * mask
    ratio = torch.exp(distance.sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp(min=1))
    return _clipped(ratio, advantage, 3e-4, 4e-4).squeeze(-1).mean()


def grpo_entropy_kl(logits, ref_logits, action, old_logp, mask, advantage):
    """With an entropy bonus and the whole KL to a reference."""
    new = F.log_softmax(logits, -1, dtype=torch.float32)
    ref = F.log_softmax(ref_logits, -1, dtype=torch.float32)
    p = new.exp()
    ratio = torch.exp(new.gather(-1, action.unsqueeze(-1)).squeeze(-1) - old_logp)
    entropy = -(p * new).sum(-1)
    full_kl = (p * (new - ref)).sum(-1)
    return _seq_mean(_clipped(ratio, advantage, 0.2, 0.2) - 0.01 * entropy + 0.05 * full_kl, mask)


def _step(loss_of, batch):
    logits = batch.logits.clone().requires_grad_()
    rest = (batch.ref_logits, batch.action, batch.old_logp, batch.mask.float(), batch.advantage)

    def step():
        loss = loss_of(logits, *rest)
        (gradient,) = torch.autograd.grad(loss, logits)
        return loss, gradient

    return step


def contenders(objective, batch):
    """Name and step of each: a step gives loss and d loss/d logits."""
    loss_of = {"grpo": grpo, "gspo": gspo, "grpo_entropy_kl": grpo_entropy_kl}[objective]
    yield "torch eager", lambda: _step(loss_of, batch)
    yield "torch.compile", lambda: _step(torch.compile(loss_of, dynamic=False, fullgraph=True), batch)


def versions():
    """What was measured."""
    return {"torch": torch.__version__}
