"""TRL's own `GRPOTrainer._compute_loss`, the model's forward pass replaced by given logits.

TRL always computes the entropy of each token, as a metric."""

import collections
import types

import torch
import trl
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.utils import selective_log_softmax_and_entropy

OBJECTIVES = ("grpo", "gspo")


def _trainer(objective, logits, action):
    """What `_compute_loss` reads of its trainer, for one process and no accumulation."""
    sequence = objective == "gspo"

    def logps_and_entropies(*_, **__):
        logps, entropies = selective_log_softmax_and_entropy(logits, action, entropy_requires_grad=False)
        return logps, entropies, None

    return types.SimpleNamespace(
        _get_per_token_logps_and_entropies=logps_and_entropies,
        _metrics=collections.defaultdict(lambda: collections.defaultdict(list)),
        _entropy_bonus_enabled=False,
        accelerator=types.SimpleNamespace(
            gather=lambda x: x, reduce=lambda x, reduction: x, num_processes=1, sync_gradients=True
        ),
        args=types.SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1),
        aux_loss_enabled=False,
        beta=0.0,
        current_gradient_accumulation_steps=1,
        epsilon_low=3e-4 if sequence else 0.2,
        epsilon_high=4e-4 if sequence else 0.2,
        importance_sampling_level="sequence" if sequence else "token",
        loss_type="grpo",
        model=types.SimpleNamespace(training=True),
        off_policy_mask_threshold=None,
        top_entropy_quantile=1.0,
        use_adaptive_entropy=False,
        use_vllm=False,
        vllm_importance_sampling_correction=False,
    )


def _step(objective, batch):
    logits = batch.logits.clone().requires_grad_()
    trainer = _trainer(objective, logits, batch.action)
    inputs = {
        "prompt_ids": batch.action[:, :0],
        "prompt_mask": batch.mask[:, :0].long(),
        "completion_ids": batch.action,
        "completion_mask": batch.mask.long(),
        "advantages": batch.advantage,
        "old_per_token_logps": batch.old_logp,
    }

    def step():
        loss = GRPOTrainer._compute_loss(trainer, None, inputs)
        (gradient,) = torch.autograd.grad(loss, logits)
        return loss, gradient

    return step


def contenders(objective, batch):
    """See peer_torch."""
    yield "TRL", lambda: _step(objective, batch)


def versions():
    """What was measured."""
    return {"trl": trl.__version__}
