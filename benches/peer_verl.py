"""verl's own functions, from logits: `logprobs_from_logits`, then the registered policy loss."""

import torch
import verl
from verl.trainer.ppo.core_algos import compute_policy_loss_gspo, compute_policy_loss_vanilla
from verl.utils.torch_functional import logprobs_from_logits
from verl.workers.config import ActorConfig

OBJECTIVES = ("grpo", "gspo")


def _step(objective, batch):
    logits = batch.logits.clone().requires_grad_()
    low, high, loss_of = {
        "grpo": (0.2, 0.2, compute_policy_loss_vanilla),
        "gspo": (3e-4, 4e-4, compute_policy_loss_gspo),
    }[objective]
    config = ActorConfig(
        strategy="fsdp",
        rollout_n=batch.group,
        use_dynamic_bsz=True,
        clip_ratio=low,
        clip_ratio_low=low,
        clip_ratio_high=high,
    )
    mask = batch.mask.float()
    advantages = batch.advantage.unsqueeze(-1).expand_as(mask)

    def step():
        logp = logprobs_from_logits(logits, batch.action)
        loss, _ = loss_of(
            batch.old_logp, logp, advantages, mask, loss_agg_mode="seq-mean-token-mean", config=config
        )
        (gradient,) = torch.autograd.grad(loss, logits)
        return loss, gradient

    return step


def contenders(objective, batch):
    """See peer_torch."""
    yield "verl", lambda: _step(objective, batch)


def versions():
    """What was measured."""
    return {"verl": verl.__version__}
