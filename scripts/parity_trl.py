"""Our recipes beside TRL's own code: loss and gradients on the same random batches.

    python -m venv peers && . peers/bin/activate
    pip install torch safetensors numpy trl==1.16.0
    python scripts/parity_trl.py --rlc target/debug/rlc [--write docs/recipes.md]

For the policy-gradient rows `GRPOTrainer._generate_and_score_completions` runs with generation, rewards and forward passes
replaced by what the batch says, then `_compute_loss` on what it returned: rewards to advantages, sampler weights,
masks, loss and gradients are TRL's. The other trainers' loss methods are called the same way. Not part of the tests.
"""

import collections
import types

import numpy as np
from parity import GROUP, Table, arguments, arrays, gradients, with_logits

import torch
from peer_trl import trainer
from trl.experimental.a2po.a2po_trainer import A2POTrainer
from trl.experimental.cpo.cpo_trainer import CPOTrainer
from trl.experimental.gkd.gkd_trainer import GKDTrainer
from trl.experimental.gmpo.gmpo_trainer import GMPOTrainer
from trl.experimental.orpo.orpo_trainer import ORPOTrainer
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.kto_trainer import KTOTrainer
from trl.trainer.rloo_trainer import RLOOTrainer

EOS = 1


class Policy:
    """What stands for the model: recorded log-probs while scoring, the leaves in the loss."""

    def __init__(self, batch):
        self.leaves = {"logp": batch.padded("token/logp").requires_grad_(), "entropy": batch.padded("token/entropy").requires_grad_()}
        self.recorded = batch.padded("token/old_logp")
        self.ref = batch.padded("token/ref_logp")
        self.live = False

    def __call__(self, model, *_, **__):
        if self.live:
            return self.leaves["logp"], self.leaves["entropy"], None
        return (self.ref if model == "ref" else self.recorded), None, None


def scored(batch, policy, rewards, made):
    """The inputs of the loss, by TRL's own scoring."""
    size, cut = batch.size, batch.arrays.get("rollout/truncated")
    ends = [EOS if cut is None or not c else 7 for c in (cut if cut is not None else [0] * len(size))]
    pack = lambda name: [row[: n].tolist() for row, n in zip(batch.padded(name), size)]
    sampler = pack("token/sampler_logp") if made.use_vllm else None
    made._generate = lambda prompts: ([[5]] * len(size), [[7] * (n - 1) + [e] for n, e in zip(size, ends)],
                                      [[int(m) for m in row] for row in pack("token/mask")], ["x"] * len(size), sampler, {}, None, None)
    made._calculate_rewards = lambda *_: rewards
    made._get_per_token_logps_and_entropies = policy
    # One accumulation step, so that the old log-probs are recorded and not the current ones.
    inputs = GRPOTrainer._generate_and_score_completions(made, [{"prompt": "x"}] * len(size))
    inputs.setdefault("old_per_token_logps", policy.recorded)
    # Without vLLM, TRL takes the old policy for the sampler; the mask of tool output is not returned by every version.
    inputs["tool_mask"] = batch.padded("token/mask").long() * inputs["completion_mask"]
    policy.live = True
    return inputs


def grpo(batch, args=(), rewards=None, parts=1, only=None, **options):
    """Their loss and gradients: scoring, then the loss, in `parts` accumulated micro-batches. `only`: the first so many
    rollouts make this optimiser step, the rest of the generation batch another."""

    def step():
        policy = Policy(batch)
        scores = batch.arrays["rollout/reward"][:, None] if rewards is None else rewards
        defaults = dict(
            tools=None, environments=None, environment_factories=None, _tokenizer=types.SimpleNamespace(pad_token_id=0),
            pad_to_multiple_of=None, mask_truncated_completions=False, eos_token_ids=[EOS], ref_model="ref",
            num_generations=GROUP, scale_rewards="group", multi_objective_aggregation="sum_then_normalize",
            reward_weights=torch.ones(scores.shape[1]), reward_funcs=[None] * scores.shape[1],
            reward_func_names=[f"r{k}" for k in range(scores.shape[1])], num_iterations=1, log_multimodal=False,
            vllm_importance_sampling_mode="sequence_mask", vllm_importance_sampling_clip_max=3.0,
            vllm_importance_sampling_clip_min=None, _pending_extra_logs={}, _pending_metrics={}, max_completion_length=512,
            _logs=collections.defaultdict(lambda: collections.defaultdict(list)),
        )
        asked = {"gradient_accumulation_steps": 1, "per_device_train_batch_size": 1, "gradient_checkpointing_kwargs": None,
                 **dict(args)}
        made = trainer(None, asked, **{**defaults, **options})
        made.model = types.SimpleNamespace(training=True, is_gradient_checkpointing=False)
        made.accelerator.process_index = 0
        for name in ("prompt", "completion", "advantages"):
            made._logs[name] = []
        inputs = scored(batch, policy, scores, made)
        method = options.get("method", GRPOTrainer)._compute_loss
        made.current_gradient_accumulation_steps = parts
        loss, rollouts = 0.0, only or len(batch.size)
        for k in range(parts):
            mine = slice(k * rollouts // parts, (k + 1) * rollouts // parts)
            made._get_per_token_logps_and_entropies = lambda *_, **__: (
                policy.leaves["logp"][mine], policy.leaves["entropy"][mine], None)
            piece = {n: x[mine] if x.dim() else x for n, x in inputs.items()}
            loss = loss + method(made, None, piece)
        return loss, gradients(loss, policy.leaves)

    return step


def policy_rows(table):
    columns = arrays(1)
    b = table.batch(columns)
    row = lambda name, options, theirs, step, program=None, settings=None, batch=b, **kw: table.row(
        name, options, theirs, program or name, batch, step, settings, **kw)

    row("grpo", "", '`loss_type="grpo"`', grpo(b))
    row("grpo", "`beta=0.04`", '`loss_type="grpo"`, `beta=0.04`, `use_bias_correction_kl=False`', grpo(b, beta=0.04), settings={"beta": 0.04})
    row("grpo", "`beta=0.04`", '`loss_type="grpo"`, `beta=0.04`', grpo(b, {"use_bias_correction_kl": True}, beta=0.04), settings={"beta": 0.04},
        differs="TRL weighs the KL by the ratio, by default")
    row("bnpo", "", '`loss_type="bnpo"`', grpo(b, loss_type="bnpo"))
    row("dapo", "", '`loss_type="dapo"`, `epsilon_high=0.28`', grpo(b, loss_type="dapo", epsilon_high=0.28))
    two = {"steps_per_generation": 2}
    row("grpo", "", '`loss_type="grpo"`, two micro-batches accumulated', grpo(b, parts=2))
    row("bnpo", "", '`loss_type="bnpo"`, two micro-batches accumulated', grpo(b, parts=2, loss_type="bnpo"),
        differs="TRL divides by the tokens of each micro-batch, so their sizes weigh; here the count is the batch's")
    row("dapo", "", '`loss_type="dapo"`, two micro-batches accumulated',
        grpo(b, two, parts=2, loss_type="dapo", epsilon_high=0.28))
    row("dapo", "the first half of the rollouts", '`loss_type="dapo"`, `steps_per_generation=2`, its first step',
        grpo(b, two, only=len(b.size) // 2, loss_type="dapo", epsilon_high=0.28),
        program="extend dapo\ninput first_half : bool @ rollout\nkeep rollout where first_half", batch=table.batch({**columns, "rollout/first_half": np.arange(len(b.size)) < len(b.size) // 2}),
        differs="TRL divides by half of the generation batch's tokens, here by those of the step's own rollouts")
    row("dr_grpo", "", '`loss_type="dr_grpo"`, `scale_rewards="none"`', grpo(b, loss_type="dr_grpo", scale_rewards="none"))
    row("grpo_batch_std", "", '`scale_rewards="batch"`', grpo(b, scale_rewards="batch"))
    row("cispo", "", '`loss_type="cispo"`, `epsilon_high=5`', grpo(b, loss_type="cispo", epsilon_high=5.0))
    taus = {"sapo_temperature_pos": 1.0, "sapo_temperature_neg": 1.05}
    row("sapo", "", '`loss_type="sapo"`', grpo(b, taus, loss_type="sapo"))
    gspo = dict(importance_sampling_level="sequence", epsilon_low=3e-4, epsilon_high=4e-4)
    row("gspo", "", '`importance_sampling_level="sequence"`, `epsilon=3e-4`, `epsilon_high=4e-4`', grpo(b, **gspo))
    row("gspo", "`beta=0.04`", "the same, `beta=0.04`, `use_bias_correction_kl=False`", grpo(b, beta=0.04, **gspo), settings={"beta": 0.04})
    row("gspo", "", 'the same, `loss_type="dapo"`', grpo(b, loss_type="dapo", **gspo),
        differs="TRL spreads one ratio per rollout over its tokens, so long rollouts weigh more")
    row("luspo", "", '`loss_type="luspo"`, `importance_sampling_level="sequence"`, clip as gspo', grpo(b, loss_type="luspo", **gspo))
    row("luspo", "", '`loss_type="luspo"` alone', grpo(b, loss_type="luspo"), differs="TRL's default ratio is the token's")
    veto = {"vespo_k_pos": 2.0, "vespo_lambda_pos": 3.0, "vespo_k_neg": 3.0, "vespo_lambda_neg": 2.0}
    row("vespo", "", '`loss_type="vespo"`', grpo(b, veto, loss_type="vespo"))
    row("vespo", "`sampler_correction=true`", "the same with vLLM, `token_truncate`, no cap",
        grpo(b, veto, loss_type="vespo", use_vllm=True, vllm_importance_sampling_correction=True,
             vllm_importance_sampling_mode="token_truncate", vllm_importance_sampling_clip_max=1e9), settings={"sampler_correction": True})
    row("grpo_delta", "", "`delta=4`", grpo(b, {"delta": 4.0}))
    row("grpo_delta", "`delta=1.3`", "`delta=1.3`", grpo(b, {"delta": 1.3}), settings={"delta": 1.3})
    masked = dict(off_policy_mask_threshold=0.1)
    row("off_policy_mask", "`off_policy_threshold=0.1`", "`off_policy_mask_threshold=0.1` with vLLM, its correction and `use_bias_correction_kl` off",
        grpo(b, use_vllm=True, beta=0.04, **masked), settings={"off_policy_threshold": 0.1, "beta": 0.04})
    row("off_policy_mask", "`off_policy_threshold=0`", "`off_policy_mask_threshold=0` without vLLM",
        grpo(b, off_policy_mask_threshold=0.0), settings={"off_policy_threshold": 0.0}, differs="without sampler log-probs TRL measures against the old policy")
    high = dict(loss_type="dapo", epsilon_high=0.28, top_entropy_quantile=0.2)
    row("high_entropy", "", '`top_entropy_quantile=0.2`, `loss_type="dapo"`, `epsilon_high=0.28`', grpo(b, **high))
    bonus = dict(_entropy_bonus_enabled=True)
    row("entropy_bonus", "", "`entropy_coef=0.01`", grpo(b, **bonus))
    aim = {"entropy_target": 0.2, "entropy_coef_delta": 0.005, "entropy_coef_min": 0.0, "entropy_coef_max": 1.0}
    row("adaptive_entropy", "first step", "`use_adaptive_entropy=True`",
        grpo(b, aim, use_adaptive_entropy=True, entropy_coef=0.0, _last_world_entropy=float("inf"), _entropy_window_stats=None, **bonus))
    later = table.batch({**columns, "state/entropy_coef": np.asarray([0.03]), "state/last_entropy": np.asarray([0.1])})
    row("adaptive_entropy", "after a step of low entropy", "the same", grpo(
        later, aim, use_adaptive_entropy=True, entropy_coef=0.03, _last_world_entropy=0.1, _entropy_window_stats=None, **bonus), batch=later)
    row("grpo_kl", "`weighted=true`, `beta=0.04`", "`beta=0.04`, `use_bias_correction_kl=True` (the default)",
        grpo(b, {"use_bias_correction_kl": True}, beta=0.04), settings={"weighted": True, "beta": 0.04})
    # The KL, unweighed, to see that the sampler's weights leave it alone.
    sampler = dict(use_vllm=True, vllm_importance_sampling_correction=True, beta=0.04)
    row("mis", "`beta=0.04`", '`vllm_importance_sampling_mode="sequence_mask"` (the default), `use_bias_correction_kl=False`', grpo(b, **sampler), settings={"beta": 0.04})
    row("tis", "`is_cap=3`, `beta=0.04`", '`"token_truncate"`, `loss_type="bnpo"`, `use_bias_correction_kl=False`',
        grpo(b, loss_type="bnpo", vllm_importance_sampling_mode="token_truncate", **sampler), settings={"is_cap": 3.0, "beta": 0.04})
    row("tis", "`sequence=true`, `is_cap=3`, `beta=0.04`", '`"sequence_truncate"`, `loss_type="bnpo"`, `use_bias_correction_kl=False`',
        grpo(b, loss_type="bnpo", vllm_importance_sampling_mode="sequence_truncate", **sampler),
        settings={"is_cap": 3.0, "beta": 0.04, "sequence": True})
    row("icepop", "`is_cap=1.2`, `is_floor=0.8`", '`"token_mask"`, clip 0.8 to 1.2, `loss_type="bnpo"`',
        grpo(b, loss_type="bnpo", vllm_importance_sampling_mode="token_mask", vllm_importance_sampling_clip_max=1.2,
             vllm_importance_sampling_clip_min=0.8, **{**sampler, "beta": 0.0}), settings={"is_cap": 1.2, "is_floor": 0.8})
    cut = table.batch({**columns, "rollout/truncated": columns["rollout/reward"] > 0.5})
    row("mask_truncated", "", "`mask_truncated_completions=True`", grpo(cut, mask_truncated_completions=True), batch=cut)
    many = {**columns, "rollout/rewards.1": columns["rollout/reward"], "rollout/rewards.2": columns["rollout/greedy"] + 0.1 * columns["rollout/reward"]}
    several = table.batch(many)
    both = torch.stack([several.arrays["rollout/rewards.1"], several.arrays["rollout/rewards.2"]], 1)
    row("gdpo_rewards", "", '`multi_objective_aggregation="normalize_then_sum"`',
        grpo(several, rewards=both, multi_objective_aggregation="normalize_then_sum"), batch=several)
    row("gmpo", "", "`GMPOTrainer`, `epsilon=0.4`, `epsilon_high=0.4`", grpo(b, method=GMPOTrainer, epsilon_low=0.4, epsilon_high=0.4))
    row("gmpo", "`beta=0.04`", "the same, `beta=0.04`", grpo(b, method=GMPOTrainer, epsilon_low=0.4, epsilon_high=0.4, beta=0.04),
        settings={"beta": 0.04})
    row("rloo", "", "`RLOOTrainer`, `beta=0.05`", rloo(b, table))


def rloo(b, table):
    """Its loss; its advantages are made inside its generation, so the loss gets ours."""

    def step():
        policy = Policy(b)
        policy.live = True
        _, _, values = table.ours("rloo", b, emit=["advantage"])
        mask = b.padded("token/mask").double()
        inputs = {"prompt_ids": mask[:, :0], "prompt_mask": mask[:, :0], "completion_ids": mask, "completion_mask": mask,
                  "old_logps": (policy.recorded * mask).sum(1), "advantages": values["advantage"]}
        made = trainer(None)
        made._get_per_token_logps_and_entropies = policy
        loss = RLOOTrainer._compute_loss(made, None, inputs)
        return loss, gradients(loss, policy.leaves)

    return step


def model_outputs(logp, mask, sum_sq=None):
    """What TRL's fused head returns, with a first column for the prompt."""
    zeros = torch.zeros_like(logp)
    return types.SimpleNamespace(log_probs=logp * mask, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool(),
                                 log_sum_sq_probs=sum_sq)


def pairs(batch, loss_type, weights=None, **options):
    """DPOTrainer's loss: chosen rollouts first."""

    def step():
        chosen = batch.arrays["rollout/is_chosen"].bool()
        order = torch.cat([chosen.nonzero()[:, 0], (~chosen).nonzero()[:, 0]])
        mask = batch.padded("token/mask").double()
        sum_sq = None
        if "vocab/logits" in batch.arrays:
            leaves = {"logits": batch.padded("vocab/logits").requires_grad_()}
            rows = torch.log_softmax(leaves["logits"], -1)
            logp = rows.gather(-1, batch.padded("token/action")[..., None])[..., 0]
            sum_sq = torch.logsumexp(2 * rows, -1)[order]
        else:
            leaves = {"logp": batch.padded("token/logp").requires_grad_()}
            logp = leaves["logp"]
        first = torch.zeros(len(order), 1)
        inputs = {"input_ids": torch.cat([first, mask[order]], 1).long(), "completion_mask": torch.cat([first, mask[order]], 1).long(),
                  "attention_mask": torch.cat([first, mask[order]], 1).long()}
        made = trainer(None, {"discopop_tau": 0.05, "gradient_checkpointing_kwargs": None})
        made.__dict__.update(dict(
            loss_types=[loss_type], loss_weights=[1.0], ld_alpha=None, precompute_ref_logps=False, f_divergence_type="reverse_kl",
            f_alpha_divergence_coef=0.5, beta=0.1, label_smoothing=0.0, use_weighting=False, _total_train_tokens=0, _tp_size=1,
            ref_model=lambda **_: model_outputs(batch.padded("token/ref_logp")[order], mask[order])))
        made.__dict__.update(options)

        class Model:
            training = is_gradient_checkpointing = False

            def __call__(self, **_):
                return model_outputs(logp[order], mask[order], sum_sq)

        made.model = Model()
        loss = DPOTrainer._compute_loss(made, made.model, inputs, False)
        return loss, gradients(loss, leaves)

    return step


def wanted(batch, loss_type):
    """KTOTrainer's loss."""

    def step():
        leaves = {"logp": batch.padded("token/logp").requires_grad_()}
        mask = batch.padded("token/mask").double()
        first = torch.zeros(len(mask), 1)
        wide = torch.cat([first, mask], 1).long()
        made = trainer(None, {"gradient_checkpointing_kwargs": None})
        mismatched = batch.arrays["rollout/mismatched_log_ratio"]
        made.__dict__.update(dict(
            loss_type=loss_type, calculate_KL=loss_type == "kto", precompute_ref_logps=False, beta=0.1, desirable_weight=1.0,
            undesirable_weight=1.0, _total_train_tokens=0, _tp_size=1, _compute_kl_logps=lambda model, _: mismatched * (model is not made.ref_model),
            ref_model=lambda **_: model_outputs(batch.padded("token/ref_logp"), mask)))

        class Model:
            training = is_gradient_checkpointing = False

            def __call__(self, **_):
                return model_outputs(leaves["logp"], mask)

        made.model = Model()
        inputs = {"input_ids": wide, "attention_mask": wide, "completion_mask": wide, "label": batch.arrays["rollout/is_chosen"].bool()}
        loss = KTOTrainer._compute_loss(made, made.model, inputs, False)
        return loss, gradients(loss, leaves)

    return step


def sides(batch, losses_of, per_token, extra=False):
    """A loss method of the two sides' log-probs, as CPOTrainer and ORPOTrainer have it."""

    def step():
        leaves = {"logp": batch.padded("token/logp").requires_grad_()}
        mask = batch.padded("token/mask").double()
        chosen = batch.arrays["rollout/is_chosen"].bool()
        x = (leaves["logp"] * mask).sum(1)
        x = x / mask.sum(1) if per_token else x
        nll = -(leaves["logp"] * mask)[chosen].sum() / mask[chosen].sum()
        loss = losses_of(x[chosen], x[~chosen]) + (nll if extra else 0.0)
        return loss, gradients(loss, leaves)

    return step


def cpo(loss_type, alpha=0.0):
    made = trainer(None, beta=0.1, label_smoothing=0.0, alpha=alpha, loss_type=loss_type, simpo_gamma=0.5)
    return lambda c, r: CPOTrainer.cpo_loss(made, c, r)[0].mean()


def orpo(c, r):
    made = trainer(None, beta=0.1)
    return -ORPOTrainer.odds_ratio_loss(made, c, r)[0].mean()


def a2po(batch):
    def step():
        leaves = {"logp": batch.padded("token/logp").requires_grad_()}
        mask = batch.padded("token/mask").double()
        made = trainer(None, {"beta2": 1e-3})
        made._get_sequence_logps = lambda *_: (leaves["logp"] * mask).sum(1)
        inputs = {"input_ids": None, "attention_mask": None, "logits_to_keep": None, "rewards": batch.arrays["rollout/reward"],
                  "ref_logps": (batch.padded("token/ref_logp") * mask).sum(1),
                  "v_star": batch.arrays["group/v_star"].repeat_interleave(GROUP)}
        loss = A2POTrainer.compute_loss(made, None, inputs)
        return loss, gradients(loss, leaves)

    return step


def gkd(batch, beta):
    def step():
        leaves = {"logits": batch.padded("vocab/logits").requires_grad_()}
        labels = batch.padded("token/action").masked_fill(batch.padded("token/mask") == 0, -100)
        loss = GKDTrainer.generalized_jsd_loss(leaves["logits"], batch.padded("vocab/ref_logits"), labels, beta)
        return loss, gradients(loss, leaves)

    return step


def preference_rows(table):
    columns = arrays(2)
    b = table.batch(columns)
    logits = table.batch(with_logits(arrays(3), 4))
    row = lambda name, options, theirs, step, settings=None, batch=b, **kw: table.row(name, options, theirs, name, batch, step, settings, **kw)
    row("dpo", "", '`DPOTrainer`, `loss_type="sigmoid"`', pairs(b, "sigmoid"))
    for name, theirs in (("ipo", "ipo"), ("dpo_hinge", "hinge"), ("dpo_norm", "sigmoid_norm"), ("nca_pair", "nca_pair"),
                         ("bco_pair", "bco_pair"), ("sppo_hard", "sppo_hard"), ("aot", "aot"), ("aot_unpaired", "aot_unpaired"),
                         ("apo_zero", "apo_zero"), ("apo_down", "apo_down"), ("discopop", "discopop"), ("sft_chosen", "sft")):
        row(name, "", f'`loss_type="{theirs}"`', pairs(b, theirs))
    row("robust_dpo", "", '`loss_type="robust"`, `label_smoothing=0.1`', pairs(b, "robust", label_smoothing=0.1))
    row("exo_pair", "", '`loss_type="exo_pair"`, `label_smoothing=1e-3`', pairs(b, "exo_pair", label_smoothing=1e-3))
    for n, kind in enumerate(("reverse_kl", "forward_kl", "js_divergence")):
        row("f_dpo", f"`divergence={n}`", f'`f_divergence_type="{kind}"`', pairs(b, "sigmoid", f_divergence_type=kind), {"divergence": n})
    row("wpo", "", "`use_weighting=True`", pairs(logits, "sigmoid", use_weighting=True), batch=logits)
    row("ld_dpo", "", "`ld_alpha=0.5`", pairs(b, "sigmoid", ld_alpha=0.5))
    row("kto", "", "`KTOTrainer`", wanted(b, "kto"))
    row("apo_zero_unpaired", "", '`KTOTrainer`, `loss_type="apo_zero_unpaired"`', wanted(b, "apo_zero_unpaired"))
    row("simpo", "", '`CPOTrainer`, `loss_type="simpo"`, `cpo_alpha=0`', sides(b, cpo("simpo"), True))
    row("cpo", "", '`CPOTrainer`, `loss_type="sigmoid"`', sides(b, cpo("sigmoid"), False, extra=True))
    row("alphapo", "", "`CPOTrainer`, `simpo` with `alpha=0.25`", sides(b, cpo("simpo", 0.25), True))
    row("a2po", "", "`A2POTrainer`", a2po(b))
    for beta in (0.5, 0.0, 1.0):
        row("gkd", f"`beta={beta}`", f"`GKDTrainer`, `beta={beta}`", gkd(logits, beta), {"beta": beta}, batch=logits)
    row("orpo", "", "`ORPOTrainer`", sides(b, orpo, True, extra=True), near=(1e-6, "TRL computes it in float32"))


def main():
    args = arguments(__doc__)
    torch.set_default_dtype(torch.float64)
    import trl

    table = Table(args.rlc, f"TRL {trl.__version__}")
    policy_rows(table)
    preference_rows(table)
    table.report(args.write)


if __name__ == "__main__":
    main()
