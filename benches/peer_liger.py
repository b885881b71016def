"""Liger's GRPO loss from logits. It is a Triton kernel: without a GPU it says so and is left out.

Liger's `chunked_loss` starts from hidden states and a projection; it joins when `rlc bench` does."""

import importlib.metadata

import torch
from liger_kernel.transformers.grpo_loss import triton_grpo_loss

OBJECTIVES = ("grpo", "gspo")


def _step(objective, batch):
    if not batch.logits.is_cuda:
        raise RuntimeError("its kernel from logits is Triton code for GPUs")
    sequence = objective == "gspo"
    rollouts, length, vocab = batch.shape
    # The kernel wants the logits of one position more, which it ignores.
    logits = torch.cat([batch.logits, batch.logits[:, :1]], 1).requires_grad_()

    def step():
        loss, _ = triton_grpo_loss(
            logits,
            batch.old_logp,
            None,
            batch.action,
            batch.advantage,
            completion_mask=batch.mask.long(),
            temperature=1.0,
            beta=0.0,
            eps_low=3e-4 if sequence else 0.2,
            eps_high=4e-4 if sequence else 0.2,
            inplace=False,
            loss_type="grpo",
            importance_sampling_level="sequence" if sequence else "token",
            reduce=True,
        )
        (gradient,) = torch.autograd.grad(loss, logits)
        return loss, gradient[:, :length]

    return step


def contenders(objective, batch):
    """See peer_torch."""
    yield "Liger", lambda: _step(objective, batch)


def versions():
    """What was measured."""
    return {"liger-kernel": importlib.metadata.version("liger-kernel")}
