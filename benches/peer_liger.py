"""Liger's chunked GRPO loss from hidden states, in chunks of one rollout as it comes. (Its loss from logits is a Triton
kernel and needs a GPU.)"""

import importlib.metadata

import torch
from liger_kernel.chunked_loss import LigerFusedLinearGRPOLoss

OBJECTIVES = {"hidden": ("grpo", "gspo")}


def _step(objective, batch):
    sequence = objective == "gspo"
    loss_of = LigerFusedLinearGRPOLoss(
        beta=0.0,
        use_ref_model=False,
        epsilon_low=3e-4 if sequence else 0.2,
        epsilon_high=4e-4 if sequence else 0.2,
        loss_type="grpo",
        importance_sampling_level="sequence" if sequence else "token",
    )
    hidden = batch.padded("token/hidden").requires_grad_()
    weight = batch.arrays["head/weight"].requires_grad_()
    action, mask = batch.padded("token/action"), batch.padded("token/mask").float()
    advantage, old = batch.advantage(), batch.padded("token/old_logp")

    def step():
        loss, _ = loss_of(hidden, weight, action, mask, advantage, old_per_token_logps=old)
        gradients = torch.autograd.grad(loss, [hidden, weight])
        return loss, dict(zip(("hidden", "weight"), gradients))

    return step


def contenders(objective, batch):
    """See peer_torch."""
    yield "Liger", lambda: _step(objective, batch)


def versions():
    """What was measured."""
    return {"liger-kernel": importlib.metadata.version("liger-kernel")}
