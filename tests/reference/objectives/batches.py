"""Random ragged batches and the corners that formulas forget."""

import numpy as np

from table import Batch


def random_batch(
    seed,
    groups=(3, 1, 4, 2, 3),
    vocab=11,
    max_len=7,
    one_token=True,
    empty_turns=False,
    equal_group=1,
    masked_rollout=True,
    mask=True,
    spread=0.35,
    wild=0.06,
    logits_dtype=np.float32,
    column_dtype=np.float32,
    inf_logits=False,
    mixed_signs=True,
):
    """One batch. vocab None: `token/logp` and `token/entropy` columns in place of logits.

    spread: std of logp - old_logp; wild: share of tokens whose log-ratio is of the order of 5.
    equal_group: index of a group whose rewards are all equal.
    """
    rng = np.random.default_rng(seed)
    rollouts = sum(groups)
    lengths = rng.integers(2, max_len + 1, rollouts)
    if one_token:
        lengths[rng.integers(0, rollouts)] = 1
        lengths[-1] = 1
    turn_size, turns_of, mask_values = [], [], []
    for n in lengths:
        left, count = int(n), 0
        while left:
            size = int(rng.integers(1, min(left, 4) + 1))
            if empty_turns and rng.random() < 0.3:
                turn_size.append(0)
                count += 1
            turn_size.append(size)
            # The model's words, then what the environment answers.
            seen = int(rng.integers(0, size)) if size > 1 else 0
            mask_values += [1] * (size - seen) + [0] * seen
            left -= size
            count += 1
        if empty_turns and rng.random() < 0.2:
            turn_size.append(0)
            count += 1
        turns_of.append(count)
    tokens = int(lengths.sum())
    b = Batch(groups, lengths, turn_size, turns_of if empty_turns else None)
    mask_values = np.asarray(mask_values)
    if masked_rollout and rollouts > 1:
        which = int(np.argmax(lengths[: rollouts - 1] > 2))
        start = int(lengths[:which].sum())
        mask_values[start : start + lengths[which]] = 0
    # One hole in the middle of a longer rollout.
    longest = int(np.argmax(lengths))
    start = int(lengths[:longest].sum())
    if lengths[longest] > 2:
        mask_values[start + 1] = 0
    if mask:
        b.put("token/mask", mask_values, np.uint8)

    if vocab is not None:
        logits = rng.normal(0, 2, (tokens, vocab)).astype(logits_dtype)
        actions = np.array([rng.choice(vocab, p=softmax(row)) for row in logits])
        if inf_logits:
            for t in range(0, tokens, 3):
                out = rng.choice(vocab, size=vocab // 3, replace=False)
                logits[t, out[out != actions[t]]] = -np.inf
        wide = logits.astype(np.float64)
        logp = wide[np.arange(tokens), actions] - lse(wide)
        b.put("vocab/logits", logits, logits_dtype)
        b.put("token/action", actions, np.int64)
        b.put("vocab/ref_logits", wide_noise(rng, logits, 0.5), np.float32)
    else:
        logp = -rng.gamma(1.2, 0.9, tokens)
        b.put("token/logp", logp, column_dtype)
        b.put("token/entropy", rng.gamma(2, 0.5, tokens), column_dtype)
    gap = rng.normal(0, spread, tokens)
    hit = rng.random(tokens) < wild
    gap[hit] = rng.choice([-1, 1], hit.sum()) * rng.uniform(3, 6, hit.sum())
    b.put("token/old_logp", logp - gap, column_dtype)
    b.put("token/ref_logp", logp + rng.normal(0, 0.5, tokens), column_dtype)
    b.put("token/sampler_logp", logp - gap + rng.normal(0, 0.05, tokens), column_dtype)
    b.put("token/value", rng.normal(0, 1, tokens), column_dtype)
    b.put("token/old_value", rng.normal(0, 1, tokens), column_dtype)
    b.put("token/token_reward", np.where(rng.random(tokens) < 0.4, rng.normal(0, 1, tokens), 0), column_dtype)

    reward = rng.choice([0.0, 0.1, 0.25, 0.6, 1.0], rollouts)
    group_of = np.repeat(np.arange(len(groups)), groups)
    for g in range(len(groups)):
        mine = np.flatnonzero(group_of == g)
        if mixed_signs and len(mine) > 1 and len(set(reward[mine])) == 1:
            reward[mine[0]] += 0.3
    if equal_group is not None:
        mine = np.flatnonzero(group_of == equal_group % len(groups))
        reward[mine] = 0.1
    b.put("rollout/reward", reward)
    b.put("rollout/truncated", rng.random(rollouts) < 0.3, np.uint8)
    b.put("rollout/correct", reward > 0.5, np.uint8)
    correct = rng.choice([0.0, 0.3, 2 / 3, 1.0], len(turn_size))
    b.put("turn/step_correct", correct)
    b.put("turn/step_reward", rng.normal(0, 1, len(turn_size)))
    b.put("group/prompt", rng.permutation(len(groups)) + 40, np.int64)
    return b


def softmax(row):
    e = np.exp(row.astype(np.float64) - row.max())
    return e / e.sum()


def lse(rows):
    top = rows.max(-1)
    return top + np.log(np.exp(rows - top[:, None]).sum(-1))


def wide_noise(rng, logits, scale):
    return np.where(np.isfinite(logits), logits, 0) + rng.normal(0, scale, logits.shape)


def items(batch, seed, level="item", empty=False):
    """Adds a second segmentation of the rollouts, unrelated to the turns, and a column on it."""
    rng = np.random.default_rng(seed)
    sizes, counts = [], []
    for n in batch.rollout_size:
        left, count = int(n), 0
        while left:
            size = int(rng.integers(0 if empty else 1, min(left, 3) + 1))
            sizes.append(size)
            left -= size
            count += 1
        counts.append(count)
    batch.segment(level, sizes, counts if empty else None)
    batch.put(f"{level}/score", rng.normal(0, 1, len(sizes)))
    return batch


def calibadv_example(logp=True):
    """The worked example of the paper's recipe: one group of four, turns with their correctness."""
    turns = [
        [(4, 0.5), (4, 0.5), (3, 0.5)],
        [(5, 2 / 3), (4, 0.0), (6, 0.0)],
        [(4, 1.0), (3, 0.0)],
        [(5, 0.0), (2, 0.0)],
    ]
    sizes = [n for rollout in turns for n, _ in rollout]
    b = Batch([4], [sum(n for n, _ in rollout) for rollout in turns], sizes)
    b.put("rollout/reward", [1.0, 0.0, 0.4, 0.0], np.float64)
    b.put("turn/step_correct", [q for rollout in turns for _, q in rollout], np.float64)
    rng = np.random.default_rng(7)
    lp = -rng.gamma(1.2, 0.9, sum(sizes))
    b.put("token/logp", lp, np.float64)
    b.put("token/old_logp", lp + rng.normal(0, 0.05, len(lp)), np.float64)
    return b
