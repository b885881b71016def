"""verl's own functions: `logprobs_from_logits`, or `FusedLinearForPPO` from hidden states, then the registered policy
loss. From log-probs its group advantage is timed too."""

import numpy as np
import torch
import verl
from verl.trainer.ppo.core_algos import (
    agg_loss,
    compute_grpo_outcome_advantage,
    compute_policy_loss_gspo,
    compute_policy_loss_vanilla,
    kl_penalty,
)
from verl.utils.experimental.torch_functional import FusedLinearForPPO
from verl.utils.torch_functional import entropy_from_logits, logprobs_from_logits
from verl.workers.config import ActorConfig

OBJECTIVES = {
    "logits": ("grpo", "gspo", "grpo_entropy"),
    "logp": ("grpo_k3", "gspo"),
    "hidden": ("grpo", "gspo"),
}


def _policy(batch, leaves):
    """Log-probs of the padded tokens."""
    if batch.start == "logp":
        return lambda: leaves["logp"]
    action = batch.padded("token/action")
    if batch.start == "logits":
        return lambda: logprobs_from_logits(leaves["logits"], action)
    fused = FusedLinearForPPO()
    return lambda: fused(leaves["hidden"], leaves["weight"], action)[0]


def _step(objective, batch):
    names = {"logits": ("vocab/logits",), "logp": ("token/logp",), "hidden": ("token/hidden",)}[batch.start]
    leaves = {name.split("/")[1]: batch.padded(name).requires_grad_() for name in names}
    if batch.start == "hidden":
        leaves["weight"] = batch.arrays["head/weight"].requires_grad_()
    policy = _policy(batch, leaves)
    sequence = objective == "gspo"
    low, high = (3e-4, 4e-4) if sequence else (0.2, 0.2)
    loss_of = compute_policy_loss_gspo if sequence else compute_policy_loss_vanilla
    config = ActorConfig(
        strategy="fsdp",
        rollout_n=batch.group,
        use_dynamic_bsz=True,
        clip_ratio=low,
        clip_ratio_low=low,
        clip_ratio_high=high,
    )
    mask, old = batch.padded("token/mask").float(), batch.padded("token/old_logp")
    ref = batch.padded("token/ref_logp") if "token/ref_logp" in batch.arrays else None
    given = batch.advantage().unsqueeze(-1).expand_as(mask)
    rewards = torch.zeros_like(mask)
    rewards[:, 0] = batch.arrays["rollout/reward"]
    index = np.arange(len(batch.size)) // batch.group

    def step():
        logp, a = policy(), given
        if batch.start == "logp":
            a, _ = compute_grpo_outcome_advantage(rewards, mask, index, epsilon=1e-4)
        loss, _ = loss_of(old, logp, a, mask, loss_agg_mode="seq-mean-token-mean", config=config)
        if objective == "grpo_k3":
            loss = loss + 0.04 * agg_loss(kl_penalty(logp, ref, "k3"), mask, "seq-mean-token-mean")
        if objective == "grpo_entropy":
            loss = loss - 0.01 * agg_loss(entropy_from_logits(leaves["logits"]), mask, "token-mean")
        return loss, dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values()))))

    return step


def contenders(objective, batch):
    """See peer_torch."""
    yield "verl", lambda: _step(objective, batch)


def versions():
    """What was measured."""
    return {"verl": verl.__version__}
