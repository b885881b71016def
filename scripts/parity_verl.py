"""Our recipes beside verl's own functions: loss and gradients on the same random batches.

    python -m venv peers && . peers/bin/activate
    pip install torch safetensors numpy
    pip install --no-deps verl==0.9.1 && pip install tensordict omegaconf hydra-core codetiming ray orjson transformers
    python scripts/parity_verl.py --rlc target/debug/rlc [--write docs/recipes.md]

verl's registered advantage estimators turn token rewards into advantages, its registered policy losses and `agg_loss`
those into a loss, its rollout correction gives weights and masks, `kl_penalty` the KL. Not part of the tests.
"""

import numpy as np
import torch
from parity import Table, arguments, arrays, gradients

import verl
from verl.trainer.config import AlgoConfig
from verl.trainer.ppo.core_algos import agg_loss, compute_value_loss, get_adv_estimator_fn, get_policy_loss_fn, kl_penalty
from verl.trainer.ppo.rollout_corr_helper import compute_rollout_correction_and_rejection_mask
from verl.workers.config import ActorConfig

OFF = 1e9  # a second clip that is never reached
MEAN = (1e-7, "verl adds 1e-8 to a rollout's number of tokens")


def actor(low=0.2, high=0.2, c=OFF, loss=(), scale=None):
    config = ActorConfig(strategy="fsdp", rollout_n=4, use_dynamic_bsz=True, clip_ratio=low, clip_ratio_low=low,
                         clip_ratio_high=high, clip_ratio_c=c)
    # As its trainer passes it on from the config.
    config.global_batch_info["loss_scale_factor"] = scale
    for name, value in dict(loss).items():
        object.__setattr__(config.policy_loss, name, value)
    return config


class Verl:
    """A batch as verl has it, and its pieces."""

    def __init__(self, batch):
        self.batch = batch
        self.mask = batch.padded("token/mask").double()
        self.old, self.ref = batch.padded("token/old_logp"), batch.padded("token/ref_logp")
        self.sampler = batch.padded("token/sampler_logp")
        self.uid = np.repeat(np.arange(len(batch.arrays["group/size"])), batch.arrays["group/size"].numpy())
        self.leaves = {"logp": batch.padded("token/logp").requires_grad_()}

    def scores(self, reward="rollout/reward"):
        """The reward on the last token."""
        out = torch.zeros_like(self.mask)
        out[torch.arange(len(out)), torch.tensor(self.batch.size) - 1] = self.batch.arrays[reward]
        return out

    def advantage(self, name, rewards=None, **options):
        rewards = self.scores() if rewards is None else rewards
        fn = get_adv_estimator_fn(name)
        # Some estimators write into their argument.
        return fn(token_level_rewards=rewards.clone(), response_mask=self.mask, index=self.uid, **options)[0]

    def policy(self, name, advantage, mode="token-mean", config=None, mask=None, weights=None, old=None):
        given = self.mask if mask is None else mask
        return get_policy_loss_fn(name)(self.old if old is None else old, self.leaves["logp"], advantage, given,
                                        loss_agg_mode=mode, config=config or actor(), rollout_is_weights=weights)[0]


def whole(batch, advantage="grpo", loss="vanilla", mode="token-mean", config=None, options=(), **more):
    """The usual pipeline: estimator, policy loss."""

    def step():
        v = Verl(batch)
        given = options(v) if callable(options) else dict(options)
        a = v.advantage(advantage, **given)
        total = v.policy(loss, a, mode, config, **{k: f(v) for k, f in more.items()})
        return total, gradients(total, v.leaves)

    return step


def advantage_rows(table, row, b):
    row("grpo_verl", "", '`adv_estimator="grpo"`, `loss_mode="vanilla"`', whole(b, config=actor(c=3.0)))
    row("grpo_verl", "", '`adv_estimator="grpo_vectorized"`, the same', whole(b, "grpo_vectorized", config=actor(c=3.0)),
        differs="verl's vectorised mean is in float32: equal rewards such as 0.6 leave rounding, which eps 1e-6 blows up")
    row("bnpo", "", '`adv_estimator="grpo"`, the same', whole(b, config=actor(c=3.0)),
        differs="eps 1e-6, a group of one keeps its reward, and c = 3 bounds negative advantages")
    row("dapo", "", "`clip_ratio_high=0.28`, `token-mean`", whole(b, config=actor(high=0.28, c=3.0)), differs="the same three")
    row("dapo", "`advantage = group_norm_verl(reward)`", "the same, `clip_ratio_c` out of reach", whole(b, config=actor(high=0.28)),
        program="extend dapo\nadvantage = group_norm_verl(reward)")
    plain = {"norm_adv_by_std_in_grpo": False}
    row("dr_grpo", "groups of one keep their reward", "`norm_adv_by_std_in_grpo=False`, `seq-mean-token-sum-norm`, `loss_scale_factor=512`",
        whole(b, mode="seq-mean-token-sum-norm", config=actor(scale=512), options=plain),
        program="extend dr_grpo\nadvantage = if count(rollout per group) == 1 then reward else center(reward)")
    row("dr_grpo", "", "the same", whole(b, mode="seq-mean-token-sum-norm", config=actor(scale=512), options=plain),
        differs="a group of one: 0 here, its reward there")
    row("grpo_passk", "no group of one", '`adv_estimator="grpo_passk"`', whole(table.even, "grpo_passk", options={"config": AlgoConfig()}),
        batch=table.even)
    for name, theirs in (("reinforce_pp_baseline", "reinforce_plus_plus_baseline"), ("rloo_verl", "rloo"), ("opo", "opo")):
        row(name, "", f'`adv_estimator="{theirs}"`', whole(b, theirs))
    row("rloo_verl", "`singleton_zero=true`", '`adv_estimator="rloo_vectorized"`', whole(b, "rloo_vectorized"), settings={"singleton_zero": True})
    row("rloo", "`beta=0`", '`adv_estimator="rloo"`', whole(b, "rloo"), settings={"beta": 0.0},
        differs="ours has one ratio per rollout (TRL), verl's policy loss one per token")
    row("reinforce_pp", "", '`adv_estimator="reinforce_plus_plus"`, gamma 1',
        whole(b, "reinforce_plus_plus", options={"config": AlgoConfig(gamma=1.0)}))
    row("reinforce_pp_gamma", "`gamma=0.9`", 'the same, gamma 0.9', whole(b, "reinforce_plus_plus", options={"config": AlgoConfig(gamma=0.9)}),
        settings={"gamma": 0.9})
    row("reinforce_pp", "", 'the same, gamma 0.9', whole(b, "reinforce_plus_plus", options={"config": AlgoConfig(gamma=0.9)}),
        differs="reinforce_pp has no discount")
    row("remax", "", '`adv_estimator="remax"`', whole(b, "remax", options={"reward_baselines": b.arrays["rollout/greedy"]}))
    row("gpg", "", '`adv_estimator="gpg"`, `loss_mode="gpg"`', whole(b, "gpg", "gpg"))
    collision = lambda v: {"old_log_probs": v.old, "sum_pi_squared": b.padded("token/sum_pi_squared")}
    row("optimal_token_baseline", "", '`adv_estimator="optimal_token_baseline"`', whole(b, "optimal_token_baseline", options=collision))
    weighed = lambda v: {**collision(v), "rollout_is_weights": correction(v, rollout_is="token", rollout_is_threshold=2.0)[0]}
    row("optimal_token_baseline", "`is_weighted=true`", "the same with `rollout_is` weights", whole(b, "optimal_token_baseline", options=weighed),
        settings={"is_weighted": True})
    row("tir_optimal_token_baseline", "", '`adv_estimator="tir_optimal_token_baseline"`',
        whole(b, "tir_optimal_token_baseline", options=collision))
    several = table.several

    def gdpo(v):
        keys = {f"r{k}": several.arrays[f"rollout/rewards.{k}"].numpy() for k in (1, 2)}
        lengths = torch.arange(v.mask.shape[1]) < torch.tensor(several.size)[:, None]
        return {"config": AlgoConfig(gdpo_reward_keys=list(keys), gdpo_reward_weights=[1.0, 0.5]), "non_tensor_batch": keys,
                "batch": {"prompts": v.mask[:, :0], "attention_mask": lengths.long()}}

    row("gdpo_rewards", "`token_whitening=true`, `weights.2=0.5`", '`adv_estimator="gdpo"`, `seq-mean-token-mean`',
        whole(several, "gdpo", mode="seq-mean-token-mean", options=gdpo), settings={"token_whitening": True, "weights.2": 0.5},
        batch=several, near=(1e-6, "verl keeps the rewards in float32"))


def correction(v, **options):
    """(weights or None, mask)"""
    found, mask, _ = compute_rollout_correction_and_rejection_mask(
        old_log_prob=v.old, rollout_log_prob=v.sampler, response_mask=v.mask, **options)
    return (found.batch["rollout_is_weights"] if found is not None else None), mask


def loss_rows(table, row, b):
    raw = "\nadvantage = group_norm_verl(reward)"
    both = lambda name, extra="": f"extend {name}{raw}{extra}"
    gspo = dict(loss="gspo", config=actor(3e-4, 4e-4))
    for name in ("gspo", "gspo_token"):
        row(name, "verl's advantage", '`loss_mode="gspo"`, clip 3e-4 / 4e-4, `seq-mean-token-mean`', whole(b, mode="seq-mean-token-mean", **gspo),
            program=both(name), near=MEAN)
    row("gspo", "verl's advantage", '`loss_mode="gspo"`, clip 3e-4 / 4e-4, `token-mean`', whole(b, **gspo), program=both("gspo"),
        differs="verl aggregates as configured, and token-mean is its default: long rollouts weigh more")
    row("sapo", "verl's advantage", '`loss_mode="sapo"`, `seq-mean-token-mean`', whole(b, loss="sapo", mode="seq-mean-token-mean"), program=both("sapo"), near=MEAN)
    row("cispo_verl", "verl's advantage", '`loss_mode="cispo"`', whole(b, loss="cispo"), program=both("cispo_verl"))
    row("cispo", "verl's advantage", '`loss_mode="cispo"`', whole(b, loss="cispo"), program=both("cispo"),
        differs="bounds on both sides there; one absolute upper bound here (TRL)")
    row("gmpo", "verl's advantage", '`loss_mode="geo_mean"`, clip 0.4', whole(b, loss="geo_mean", config=actor(0.4, 0.4)), program=both("gmpo"),
        near=MEAN)
    row("dppo_tv", "verl's advantage", '`loss_mode="dppo_tv"`, `clip_ratio_c=20`', whole(b, loss="dppo_tv", config=actor(c=20.0)), program=both("dppo_tv"))
    row("dppo_tv", "verl's advantage", '`loss_mode="dppo_tv"` as configured', whole(b, loss="dppo_tv", config=actor(c=3.0)), program=both("dppo_tv"),
        differs="verl's config sets c to 3 for every loss; 20 is its fallback for this one")
    row("dppo_kl", "verl's advantage", '`loss_mode="dppo_kl"`, `clip_ratio_c=20`', whole(b, loss="dppo_kl", config=actor(c=20.0)), program=both("dppo_kl"))
    row("dro", "verl's advantage", '`loss_mode="dro"`, `dro_beta=0.05`', whole(b, loss="dro", config=actor(loss={"dro_beta": 0.05})), program=both("dro"))
    cov = {"clip_cov_ratio": 1.0, "clip_cov_lb": 0.2}
    row("clip_cov", "verl's advantage, `clip_cov_ratio=1`, `clip_cov_lb=0.2`", '`loss_mode="clip_cov"`, all candidates drawn',
        whole(b, loss="clip_cov", config=actor(loss=cov)), program=both("clip_cov"), settings=cov)
    row("kl_cov", "verl's advantage, `kl_cov_ratio=0.1`", '`loss_mode="kl_cov"`', whole(b, loss="kl_cov", config=actor(loss={"kl_cov_ratio": 0.1})),
        program=both("kl_cov"), settings={"kl_cov_ratio": 0.1})
    row("grpo", "verl's advantage", "`seq-mean-token-mean`, second clip out of reach", whole(b, mode="seq-mean-token-mean"), program=both("grpo"),
        near=MEAN)
    row("grpo", "verl's advantage, a rollout without kept tokens", "the same", whole(table.silent, mode="seq-mean-token-mean"), program=both("grpo"),
        batch=table.silent, differs="verl leaves such a rollout out of the number of rollouts, here (and in TRL) it counts with 0")
    row("grpo", "verl's advantage, `loss = seq_sum(token_loss)`", "`seq-mean-token-sum`", whole(b, mode="seq-mean-token-sum"),
        program=both("grpo", "\nloss = seq_sum(token_loss)"))
    row("grpo", "verl's advantage, `loss = sum(token_loss)`", "`token-sum`", whole(b, mode="token-sum"),
        program=both("grpo", "\nloss = sum(token_loss @ token)"))
    row("tis", "verl's advantage", '`rollout_is="token"`, threshold 2', whole(
        b, weights=lambda v: correction(v, rollout_is="token", rollout_is_threshold=2.0)[0]), program=both("tis"))
    row("tis", "verl's advantage, `sequence=true`", '`rollout_is="sequence"`, threshold 2', whole(
        b, weights=lambda v: correction(v, rollout_is="sequence", rollout_is_threshold=2.0)[0]), program=both("tis"), settings={"sequence": True})
    for kind, bound in ((1, "0.9_1.2"), (2, 0.02), (3, 0.02)):
        given = {"estimator": kind, **({"lower": 0.9, "upper": 1.2} if kind == 1 else {"upper": bound})}
        row("rollout_rejection", ", ".join(f"`{k}={x}`" for k, x in given.items()), f'`rollout_rs="seq_mean_k{kind}"`, threshold {bound}', whole(
            b, config=actor(c=3.0), mask=lambda v: correction(v, rollout_rs=f"seq_mean_k{kind}", rollout_rs_threshold=bound)[1]), settings=given)
    for kind, name in ((0, "token"), (2, "seq_sum"), (3, "seq_max")):
        row("rollout_rejection", f"`aggregation={kind}`, `estimator=2`, `upper=0.1`", f'`rollout_rs="{name}_k2"`, threshold 0.1', whole(
            b, config=actor(c=3.0), mask=lambda v: correction(v, rollout_rs=f"{name}_k2", rollout_rs_threshold=0.1)[1]),
            settings={"aggregation": kind, "estimator": 2, "upper": 0.1})
    for sequence, level in ((False, "token"), (True, "sequence")):
        row("tis", f"verl's advantage, `sequence={str(sequence).lower()}`, `normalize=true`", f'`rollout_is="{level}"`, `rollout_is_batch_normalize=True`', whole(
            b, weights=lambda v: correction(v, rollout_is=level, rollout_is_batch_normalize=True)[0]), program=both("tis"),
            settings={"sequence": sequence, "normalize": True}, near=MEAN if sequence else None)
    for sequence, level in ((False, "token"), (True, "sequence")):
        rollout = {"loss_type": "reinforce", "rollout_is": level, "rollout_is_threshold": 2.0}
        row("bypass_reinforce", f"verl's advantage, `sequence={str(sequence).lower()}`", f'`loss_mode="bypass_mode"`, `reinforce`, `rollout_is="{level}"`', whole(
            b, loss="bypass_mode", config=actor(loss={"rollout_correction": rollout}), old=lambda v: v.sampler),
            program=both("bypass_reinforce"), settings={"sequence": sequence})
    row("grpo_verl", "`old_logp = sampler_logp`", '`loss_mode="bypass_mode"`, `ppo_clip`', whole(
        b, loss="bypass_mode", config=actor(c=3.0, loss={"rollout_correction": {"loss_type": "ppo_clip"}}), old=lambda v: v.sampler),
        program="extend grpo_verl\nold_logp = sampler_logp")


def kl_rows(row, b):
    raw = "extend grpo_kl\nadvantage = group_norm_verl(reward)"
    kinds = {"abs": (0, False), "k1": (1, False), "k2": (2, False), "low_var_kl": (3, False), "k1+": (1, True), "k3+": (3, True)}
    for name, (estimator, straight) in kinds.items():

        def step(name=name):
            v = Verl(b)
            loss = v.policy("vanilla", v.advantage("grpo"), "seq-mean-token-mean")
            loss = loss + 0.1 * agg_loss(kl_penalty(v.leaves["logp"], v.ref, name), v.mask, "seq-mean-token-mean")
            return loss, gradients(loss, v.leaves)

        given = {"estimator": estimator, "straight_through": straight, "beta": 0.1}
        row("grpo_kl", "verl's advantage, " + ", ".join(f"`{k}={str(x).lower()}`" for k, x in given.items() if x), f'`kl_loss_type="{name}"`', step,
            program=raw, settings=given, near=MEAN)


def critic_rows(row, b):
    for given in ({}, {"gamma": 0.95, "lam": 0.9, "kl_coef": 0.05, "vf_coef": 0.1, "cliprange_value": 0.2}):
        p = {"gamma": 1.0, "lam": 1.0, "kl_coef": 0.0, "vf_coef": 1.0, "cliprange_value": 0.5, **given}

        def step(p=p):
            v = Verl(b)
            v.leaves["value"] = b.padded("token/value").requires_grad_()
            values = b.padded("token/old_value")
            rewards = v.scores() - p["kl_coef"] * kl_penalty(v.old, v.ref, "kl") * v.mask
            a, ret = get_adv_estimator_fn("gae")(rewards, values, v.mask, p["gamma"], p["lam"])
            loss = v.policy("vanilla", a, config=actor(c=3.0))
            loss = loss + p["vf_coef"] * compute_value_loss(v.leaves["value"], ret, values, v.mask, p["cliprange_value"])[0]
            return loss, gradients(loss, v.leaves)

        row("ppo", ", ".join(f"`{k}={x}`" for k, x in given.items()), '`adv_estimator="gae"`, `vanilla`, value loss', step, settings=given)


def main():
    args = arguments(__doc__)
    torch.set_default_dtype(torch.float64)
    table = Table(args.rlc, f"verl {verl.__version__}")
    columns = arrays(11, spread=0.9)
    # Groups of unequal size, one of them alone.
    columns["group/size"] = np.asarray([4, 1, 5, 6, 3, 5], np.int64)
    columns["rollout/reward"][5:10] = 0.6
    b = table.batch(columns)
    table.even = table.batch(arrays(12))
    table.several = table.batch({**columns, "rollout/rewards.1": columns["rollout/reward"], "rollout/rewards.2": columns["rollout/greedy"]})
    quiet = columns["token/mask"].copy()
    quiet[: columns["rollout/size"][0]] = False
    table.silent = table.batch({**columns, "token/mask": quiet})

    def row(name, options, theirs, step, program=None, batch=b, **more):
        table.row(name, options, theirs, program or name, batch, step, **more)

    advantage_rows(table, row, b)
    loss_rows(table, row, b)
    kl_rows(row, b)
    critic_rows(row, b)
    table.report(args.write)


if __name__ == "__main__":
    main()
