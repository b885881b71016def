"""TRL's own `GRPOTrainer._compute_loss`, the model's forward pass replaced by what is given.

TRL always computes the entropy of each token, as a metric. From hidden states: its chunked log-probs, in the chunk of its
trainer. From log-probs there is no distribution, so the entropies it averages are zeros that cost nothing."""

import collections
import types

import torch
import trl
from trl.kernels.chunked_logprob import ChunkedLogProbFunction
from trl.trainer import utils
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.utils import selective_log_softmax_and_entropy

OBJECTIVES = {
    "logits": ("grpo", "gspo", "grpo_entropy"),
    "logp": ("grpo_k3", "gspo"),
    "hidden": ("grpo", "gspo"),
}


def _policy(objective, batch, leaves):
    """Log-probs and entropies of the padded tokens."""
    bonus = objective == "grpo_entropy"
    if batch.start == "logp":
        zeros = torch.zeros(batch.inside.shape)
        return lambda: (leaves["logp"], zeros)
    action = batch.padded("token/action")
    if batch.start == "logits":
        return lambda: selective_log_softmax_and_entropy(leaves["logits"], action, entropy_requires_grad=bonus)

    def from_hidden():
        out = ChunkedLogProbFunction.apply(
            leaves["hidden"].flatten(0, 1),
            leaves["weight"],
            None,
            action.flatten(),
            1.0,
            utils._CHUNKED_LOGPROB_CHUNK_SIZE,
            None,
            1.0,
            ("log_probs", "entropy"),
        )
        return out[0].view(action.shape), out[1].view(action.shape)

    return from_hidden


def trainer(policy, args=(), **options):
    """What `_compute_loss` reads of its trainer, for one process and no accumulation; `policy` gives log-probs and
    entropies of the padded tokens. TRL's own methods are there too."""
    args = {"delta": None, "use_bias_correction_kl": False, "steps_per_generation": 1, **dict(args)}
    plain = dict(
        _get_per_token_logps_and_entropies=lambda *_, **__: (*policy(), None),
        _metrics=collections.defaultdict(lambda: collections.defaultdict(list)),
        _entropy_bonus_enabled=False,
        accelerator=types.SimpleNamespace(
            device=torch.device("cpu"),
            gather=lambda x: x,
            gather_for_metrics=lambda x: x,
            num_processes=1,
            pad_across_processes=lambda x, **_: x,
            reduce=lambda x, reduction: x,
            sync_gradients=True,
        ),
        args=types.SimpleNamespace(**args),
        aux_loss_enabled=False,
        beta=0.0,
        current_gradient_accumulation_steps=1,
        entropy_coef=0.01,
        epsilon_low=0.2,
        epsilon_high=0.2,
        get_gamma_weights=GRPOTrainer.get_gamma_weights,
        get_off_policy_mask=GRPOTrainer.get_off_policy_mask,
        importance_sampling_level="token",
        loss_type="grpo",
        model=types.SimpleNamespace(training=True),
        off_policy_mask_threshold=None,
        top_entropy_quantile=1.0,
        use_adaptive_entropy=False,
        use_vllm=False,
        vllm_importance_sampling_correction=False,
    )
    made = types.SimpleNamespace(**{**plain, **options})
    made.get_high_entropy_mask = types.MethodType(GRPOTrainer.get_high_entropy_mask, made)
    return made


def _trainer(objective, policy):
    if objective == "gspo":
        return trainer(policy, epsilon_low=3e-4, epsilon_high=4e-4, importance_sampling_level="sequence")
    return trainer(
        policy, _entropy_bonus_enabled=objective == "grpo_entropy", beta=0.04 if objective == "grpo_k3" else 0.0
    )


def _step(objective, batch):
    names = {"logits": ("vocab/logits",), "logp": ("token/logp",), "hidden": ("token/hidden",)}[batch.start]
    leaves = {name.split("/")[1]: batch.padded(name).requires_grad_() for name in names}
    if batch.start == "hidden":
        leaves["weight"] = batch.arrays["head/weight"].requires_grad_()
    trainer = _trainer(objective, _policy(objective, batch, leaves))
    mask = batch.padded("token/mask").long()
    inputs = {
        "prompt_ids": mask[:, :0],
        "prompt_mask": mask[:, :0],
        "completion_ids": mask,
        "completion_mask": mask,
        "advantages": batch.advantage(),
        "old_per_token_logps": batch.padded("token/old_logp"),
    }
    if "token/ref_logp" in batch.arrays:
        inputs["ref_per_token_logps"] = batch.padded("token/ref_logp")

    def step():
        if batch.start == "logp":
            inputs["advantages"] = batch.advantage()
        loss = GRPOTrainer._compute_loss(trainer, None, inputs)
        return loss, dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values()))))

    return step


def contenders(objective, batch):
    """See peer_torch."""
    yield "TRL", lambda: _step(objective, batch)


def versions():
    """What was measured."""
    return {"trl": trl.__version__}
