"""Recipes of the second seed list over segments, trees and masked diffusion."""

from .common import *
from .seeds_b import Policy, flat, normed, plain, recipe, share, worked


def cut(b, level, seed, most=3, empty=False):
    """Adds a segmentation of every rollout."""
    rng, sizes, counts = np.random.default_rng(seed), [], []
    for n in b.rollout_size:
        left, count = int(n), 0
        while left:
            size = int(rng.integers(0 if empty else 1, min(left, most) + 1))
            sizes.append(size)
            left, count = left - size, count + 1
        counts.append(count)
    b.segment(level, sizes, counts if empty else None)
    return b


# ---- SPO: values along a chain, and in a tree ----


def spo_loss(t, p, run, gain, trained, kl_groups):
    """What both forms of SPO share: whitening, clip, KL and the veto. kl_groups: token sets of the KL's mean."""
    some = [gain[i] for i in t.tokens() if trained[i]]
    m, v = mean(some), variance(some)
    adv = {i: (gain[i] - m) / torch.sqrt(v + 1e-8) if trained[i] else ZERO for i in t.tokens()}
    ratio = {i: torch.exp(torch.clamp(run.lp[i] - run.old[i], -10, 10)) for i in t.tokens()}
    term, kl, ref = {}, {}, t.col("token/ref_logp")
    for i in t.tokens():
        term[i] = -clip_objective(ratio[i], adv[i], p["clip_low"], p["clip_high"])
        gap = torch.clamp(ref[i] - run.lp[i], -10, 10)
        kl[i] = p["beta"] * (torch.exp(gap) - gap - 1)
    mine = [i for i in t.tokens() if trained[i]]
    penalty = mean(kl[i] for i in mine) if p["kl_token_mean"] else mean(total(kl[i] for i in g) for g in kl_groups)
    spread = mean(ratio[i].detach() for i in mine)
    loss = mean(term[i] for i in mine) + penalty if spread <= p["max_ratio"] else 0 * total(run.lp[i] for i in t.tokens())
    clips = share(is_clipped(ratio[i], adv[i], p["clip_low"], p["clip_high"]) for i in mine)
    metrics = dict(clip_fraction=clips, approx_kl=run.approx_kl(), mean_ratio=spread,
                   trained_share=share(trained.values()))
    coupling = "batch" if p["max_ratio"] < math.inf else "token"
    return Answer(t, loss, dict(advantage=("token", adv), ratio=("token", ratio)), metrics, coupling)


@rebuildable
def probed(seed, every=2, **kw):
    """Tokens with probabilities on both sides of 0.9, and values at the cuts only."""
    b, rng = plain(seed, **{"max_len": 9, "groups": (3, 1, 2), "equal_group": 2, **kw}), np.random.default_rng(seed)
    n = sum(b.rollout_size)
    sure = rng.random(n) < 0.4
    shift = np.where(sure, rng.uniform(0.91, 0.999, n), rng.uniform(0.05, 0.89, n))
    old = np.log(shift)
    b.put("token/old_logp", old).put("token/ref_logp", old + rng.normal(0, 0.3, n))
    if "vocab/logits" not in b.columns:
        b.put("token/logp", old + rng.normal(0, 0.2, n))
    value = np.full(n, np.nan)
    t = Table(b).masked()
    for r in t.rollouts:
        for c in chain_cuts(t, r, b.columns["token/old_logp"], every):
            if c is not None:
                value[c] = rng.uniform(0, 1)
    return b.put("token/cut_value", value).put("rollout/prompt_value", rng.uniform(0, 1, len(b.rollout_size)))


def chain_cuts(t, r, old, every, prob_max=0.9):
    """Tokens after which a segment begins; None: the prompt."""
    mine = t.tokens(r)
    unsure = [k for k, i in enumerate(mine) if math.exp(old[i]) < prob_max]
    return [mine[k - 1] if k else None for k in unsure[::every]]


@recipe("spo_segment", {"": (probed(7200), dict(interval=2)), "_logits": (probed(7201, vocab=4), dict(interval=2)),
                        "_free": (probed(7202), dict(interval=2, max_ratio=math.inf, beta=0.2)),
                        "_veto": (probed(7203), dict(interval=2, max_ratio=0.5)),
                        "_mean": (probed(7204, every=3), dict(interval=3, kl_token_mean=True, beta=0.3))},
        clip_low=0.2, clip_high=0.2, beta=1e-4, prob_max=0.9, interval=5, max_ratio=10.0, kl_token_mean=False)
def spo_segment(table, p):
    t = table.masked()
    run, reward = Policy(t, p), t.col("rollout/reward")
    value, prompt = t.col("token/cut_value"), t.col("rollout/prompt_value")
    low, gain = {i: math.exp(run.old[i]) < p["prob_max"] for i in t.tokens()}, {}
    for r in t.rollouts:
        mine = t.tokens(r)
        at = [-1 if c is None else mine.index(c) for c in chain_cuts(t, r, run.old, int(p["interval"]), p["prob_max"])]
        worth = [prompt[r] if k < 0 else value[mine[k]] for k in at]
        for k, i in enumerate(mine):
            gain[i] = ZERO
        ends = list(zip(at, worth)) + [(len(mine) - 1, reward[r])]
        for (a, va), (z, vz) in zip(ends, ends[1:]):
            for k in range(a + 1, z + 1):
                gain[mine[k]] = vz - va
    groups = [[i for i in t.tokens(r) if low[i]] for r in t.rollouts]
    answer = spo_loss(t, p, run, gain, low, groups)
    answer.values["gain"] = ("token", gain)
    return answer


chain = flat([1], [8], rollout__reward=[1], rollout__prompt_value=[np.nan])
chain.put("token/old_logp", np.log([0.95, 0.6, 0.99, 0.5, 0.97, 0.8, 0.99, 0.7]), np.float64)
chain.put("token/ref_logp", np.log([0.9] * 8), np.float64)
chain.put("token/cut_value", [0.5, np.nan, np.nan, np.nan, 0.25, np.nan, np.nan, np.nan], np.float64)
worked("spo_segment", "", chain, spo_segment, lambda a: [
    ([a.values["gain"][1][i] for i in (1, 3, 5, 7)], [-0.25, -0.25, 0.75, 0.75]),
    (list(a.values["advantage"][1].values()), np.array([0, -1, 0, -1, 0, 1, 0, 1]) * 0.866025)], {"interval": 2})


def grown(seed, branching, length):
    """Trees of the given shapes: each nested list is a node, a leaf a number of rollouts (1)."""
    rng, paths, group_size = np.random.default_rng(seed), [], []
    for tree in branching:
        names = iter(range(1, 1000))

        def walk(node, path, out):
            if not isinstance(node, list):
                out.append(path)
                return
            me = path[-1][1] if path else 0
            for child in node:
                step = (me, next(names), int(rng.integers(*length)))
                walk(child, path + [step], out)

        mine = []
        walk(tree, [], mine)
        paths += mine
        group_size.append(len(mine))
    return paths, group_size


@rebuildable
def tree(seed, shapes=None, level="segment", rewards=None, **kw):
    """Rollouts along the paths of trees; tokens of a shared edge are the same in each of its paths."""
    rng = np.random.default_rng(seed)
    shapes = shapes or [[[1, 1], [1, 1, 1]], [1, [[1, 1], [1, 1]]], [[1, [1]]]]
    paths, groups = grown(seed, shapes, length=(1, 3) if level == "segment" else (1, 2))
    sizes = [sum(n for _, _, n in path) for path in paths]
    if level == "segment":
        b = Batch(groups, sizes)
        b.segment("segment", [n for path in paths for _, _, n in path])
    else:
        b = Batch(groups, sizes)
    drawn, columns, group_of = {}, [], np.repeat(np.arange(len(groups)), groups)
    for g, path in zip(group_of, paths):
        for _, node, n in path:
            if (g, node) not in drawn:
                old = np.log(rng.uniform(0.2, 0.99, n))
                drawn[g, node] = np.stack([old + rng.normal(0, 0.3, n), old, old + rng.normal(0, 0.3, n),
                                           rng.random(n) < 0.9])
            columns.append(drawn[g, node])
    lp, old, ref, mask = np.concatenate(columns, 1)
    b.put("token/logp", lp).put("token/old_logp", old).put("token/ref_logp", ref)
    if level == "segment":
        b.put("token/mask", mask, np.uint8)
    steps = [step for path in paths for step in path]
    b.put(f"{level}/parent", [s[0] for s in steps], np.int64).put(f"{level}/node", [s[1] for s in steps], np.int64)
    if level == "token":
        b.put("token/depth", [k + 1 for path in paths for k in range(len(path))], np.int64)
    return b.put("rollout/reward", rng.choice([0.0, 1.0, 0.5], len(paths)) if rewards is None else rewards, np.float64)


def tree_of(t, rs, ids, parents, elements):
    """{node: (parent, [leaves below], [elements])} of one group"""
    out = {}
    for r in rs:
        for e in elements(r):
            node = out.setdefault(ids[e], (parents[e], [], []))
            node[1].append(r)
            node[2].append(e)
    return out


def tree_value(nodes, node, reward, leaf_mean=False):
    """Mean of the children's values, or of the leaves below; of a leaf its reward."""
    children = [n for n, (parent, _, _) in nodes.items() if parent == node]
    if leaf_mean or not children:
        return mean(reward[r] for r in nodes[node][1])
    return mean(tree_value(nodes, c, reward) for c in children)


@recipe("spo_segment_tree", {"": tree(7210), "_free": (tree(7211), dict(max_ratio=math.inf, beta=0.1)),
                             "_norm": (tree(7212), dict(normalise=True, prob_max=0.7)),
                             "_leaves": (tree(7214), dict(leaf_mean=True)),
                             "_near": (tree(7215, shapes=[[[1, 1, 1], [1, 1, 1], [1, 1, 1]], [1, [1, 1, 1]]], rewards=[
                                 0.1, 0.7, 0.4, 0.4, 0.1, 0.7, 0.7, 0.4, 0.1, 0.3, 0.1, 0.2, 0.6]), dict(normalise=True)),
                             "_equal": tree(7213, shapes=[[[1, 1], [1, 1]], [[1, 1], 1]], rewards=[0.1] * 4 + [0, 1, 0.5])},
        clip_low=0.2, clip_high=0.2, beta=1e-4, prob_max=0.9, max_ratio=10.0, kl_token_mean=False, normalise=False, leaf_mean=False)
def spo_segment_tree(table, p):
    t = table.masked()
    run, reward, ids, parents = Policy(t, p), t.col("rollout/reward"), t.ints("segment/node"), t.ints("segment/parent")
    gain, trained, groups, edges = {}, {i: False for i in t.tokens()}, [], []
    for rs in t.live_groups:
        nodes = tree_of(t, rs, ids, parents, lambda r: t.elements(r, "segment"))
        count = 0
        for node, (parent, _, places) in nodes.items():
            near = [n for n in nodes if nodes[n][0] == parent]
            siblings = [tree_value(nodes, n, reward, p["leaf_mean"]) for n in near]
            v, up = siblings[near.index(node)], mean(siblings)
            if p["leaf_mean"]:
                up = mean(reward[r] for n in near for r in nodes[n][1])
            a, spread = v - up, deviation(siblings, 0)
            if p["normalise"]:
                a = a / (spread + 1e-8) if spread > 1e-9 else ZERO
            signal = abs(a + (1 - (1 - v) ** 4) - (1 - (1 - up) ** 4)) > 1e-9
            for e in places:
                gain.update({i: a for i in t.tokens_in(e, "segment")})
            if signal:
                count += 1
                mine = [i for i in t.tokens_in(places[0], "segment") if math.exp(run.old[i]) < p["prob_max"]]
                trained.update({i: True for i in mine})
                groups.append(mine)
        edges.append(const(count))
    answer = spo_loss(t, p, run, gain, trained, groups)
    answer.values["gain"] = ("token", gain)
    answer.metrics["edges"] = float(mean(edges))
    return answer


two = tree(5, shapes=[[[1, 1], [1, 1]]], rewards=[1, 0, 0, 0]).without("token/mask")
worked("spo_segment_tree", "", two, spo_segment_tree, lambda a: [
    (list(dict.fromkeys(round(float(v), 9) for v in a.values["gain"][1].values())), [0.25, 0.5, -0.5, -0.25, 0]),
    ([a.metrics["edges"]], [4])])


# ---- BranchGRPO and TreePO ----


@rebuildable
def branches(seed, step=0, **kw):
    b = tree(seed, **{"level": "token", "shapes": [[[[1], [1]], [[1], [1]]], [[[[1], [1], [1]]]], [[1]]], **kw})
    n = sum(b.rollout_size)
    if step:
        b.put("token/is_sde", np.array(b.columns["token/depth"]) != 3, np.uint8)
        b.put("batch/train.step", [step], np.int64).put("batch/train.total", [100], np.int64)
    return b


# Splits in two, three times; one that splits late, one without a split, one that splits once.
WIDE = [[[[[[1], [1]], [[1], [1]]]], [[[[1], [1]], [[1], [1]]]]], [[[1]], [[1, [1], [[1]]]]], [[1]], [1, [1], 1]]


@recipe("branch_grpo", {"": branches(7220), "_softmax": (branches(7221), dict(fusion=1, clip_low=0.2)),
                        "_children": (branches(7225, shapes=[[1, [[1], [1], [1]]], [[[1, 1], 1], [1]]]), dict(fusion=2)),
                        "_group": (branches(7222), dict(use_group=True)),
                        "_pruned": (branches(7223, step=70), dict(prune_width=1, prune_from=4, prune_stop=1)),
                        "_over": (branches(7224, step=70), dict(prune_width=1, prune_from=2, prune_stop=1, prune_until=0.5)),
                        "_best": (branches(7226, shapes=WIDE, step=9), dict(width_mode=1)),
                        "_most": (branches(7227, shapes=WIDE, step=9), dict(width_mode=1, width_ratio=0.7, use_group=True)),
                        "_ends": (branches(7228, shapes=WIDE, step=9), dict(width_mode=2, prune_width=1, prune_from=1)),
                        "_late": (branches(7229, shapes=WIDE, step=70), dict(width_mode=2, prune_until=0.5))},
        clip_low=1e-3, clip_high=1e-3, max_advantage=5.0, fusion=0, use_group=False, prune_width=0,
        prune_from=0, prune_interval=30, prune_stop=9, prune_until=1.0, width_mode=0, width_ratio=0.5)
def branch_grpo(table, p):
    t = table.masked()
    run, reward, ids, parents = Policy(t, p), t.col("rollout/reward"), t.ints("token/node"), t.ints("token/parent")
    depth, sde = t.ints("token/depth"), t.ints("token/is_sde") if t.has("token/is_sde") else None
    step, end = ((t.ints(f"batch/train.{k}")[0] for k in ("step", "total")) if t.has("batch/train.step") else (0, 1))
    start = max(p["prune_from"] - step // p["prune_interval"], min(p["prune_stop"], p["prune_from"]))
    active = step <= p["prune_until"] * end
    leaf = normed(t, reward, 1e-8)
    adv, losses, trained, trees = {}, run.losses({r: ZERO for r in t.rollouts}), [], []

    def value(nodes, node):
        children = [n for n, (parent, _, _) in nodes.items() if parent == node]
        if not children or p["fusion"] == 0:
            return mean(reward[r] for r in nodes[node][1])
        odds = torch.softmax(torch.stack([(p["fusion"] == 1) * run.old[nodes[c][2][0]] for c in children]), 0)
        return total(o * value(nodes, c) for o, c in zip(odds, children))

    def narrow(rs, nodes, final):
        """The paths that width pruning keeps; of equal ones the earlier is the worse, but the better of its split."""
        if p["width_mode"] == 2:
            order, half = sorted(rs, key=lambda r: final[r]), max(1, int(p["width_ratio"] * len(rs) / 2))
            return order[:half] + order[-half:]
        forks, kept = {}, []
        for r in rs:
            shared = [ids[i] for i in t.tokens(r) if len(nodes[ids[i]][1]) > 1]
            forks.setdefault(shared[-1] if shared else None, []).append(r)
        for paths in forks.values():
            kept += sorted(paths, key=lambda r: -final[r])[: max(1, int(p["width_ratio"] * len(paths)))]
        return kept

    for rs in t.live_groups:
        nodes = tree_of(t, rs, ids, parents, t.tokens)
        v = {n: value(nodes, n) for n in nodes}
        mine, edges, final = [], [], {}
        for node, (_, _, places) in nodes.items():
            d = depth[places[0]]
            peers = [v[n] for n in nodes if depth[nodes[n][2][0]] == d]
            spread = deviation(peers)
            a = (v[node] - mean(peers)) / (spread + 1e-8) if spread >= 1e-6 else ZERO
            for i in places:
                r = t.rollout_of[i]
                if p["use_group"]:
                    a = leaf[r] if i == t.tokens(r)[-1] else ZERO
                if i == t.tokens(r)[-1]:
                    final[r] = float(a)
                adv[i] = torch.clamp(const(a), -p["max_advantage"], p["max_advantage"])
            edges.append((d, places))
        kept = narrow(rs, nodes, final) if p["width_mode"] and active else rs
        for d, places in edges:
            paths = [t.rollout_of[i] for i in places]
            if len(paths) == 1 and paths[0] not in kept:
                continue
            if (sde is None or sde[places[0]]) and not (active and start <= d < start + p["prune_width"]):
                mine.append(places[0])
        trained += mine
        trees.append([-clip_objective(run.ratio[i], adv[i], p["clip_low"], p["clip_high"]) for i in mine])
    cut_ = run.clipped(adv, "token")
    metrics = dict(clip_fraction=share(cut_[i] for i in trained), edges=mean(const(len(x)) for x in trees))
    return run.answer(adv, mean(mean(x) for x in trees), metrics, level="token")


four = tree(6, shapes=[[[1, 1], [1, 1]]], level="token", rewards=[1, 0, 0, 0])
worked("branch_grpo", "", four, branch_grpo, lambda a: [
    ([a.values["advantage"][1][i] for i in (0, 4, 1, 3, 5, 7)], [0.7071, -0.7071, 1.5, -0.5, -0.5, -0.5])])


@rebuildable
def subgroups(seed, **kw):
    """Segments named by small numbers, so that rollouts share beginnings; a rollout may repeat another."""
    b = cut(plain(seed, **{"groups": (5, 1, 4), "equal_group": 2, "max_len": 5, **kw}), "segment", seed)
    rng = np.random.default_rng(seed)
    return b.put("segment/node", rng.integers(0, 2, len(b.segmentations["segment"][0])), np.int64)


@rebuildable
def unmasked(seed):
    """Leaves of a tree of segments, none of which goes on where another ends; children named by position."""
    rng, paths = np.random.default_rng(seed), []
    for shape in ([[1, 1, 1], [1, [1, 1]]], [1], [[[1, 1], 1], 1]):
        walks = [([k], node) for k, node in enumerate(shape)]
        first = len(paths)
        while walks:
            path, node = walks.pop(0)
            if isinstance(node, list):
                walks = [(path + [k], child) for k, child in enumerate(node)] + walks
            else:
                paths.append((path, rng.integers(1, 3, len(path)).tolist()))
        paths[first:] = [paths[first + k] for k in rng.permutation(len(paths) - first)]
    groups = [6, 1, 4]
    b = flat(groups, [sum(n) for _, n in paths], seed, rollout__reward=rng.choice([0.0, 1.0, 0.3], len(paths)))
    b.segment("segment", [n for _, sizes in paths for n in sizes])
    return b.put("segment/node", [k for path, _ in paths for k in path], np.int64)


def worth_of(rs, path, node, leaf):
    """Mean of the children's worth; of a leaf its own."""
    below = [r for r in rs if path[r][: len(node)] == node]
    ends = [r for r in below if path[r] == node]
    if ends:
        return mean(leaf[r] for r in ends)
    children = sorted({tuple(path[r][: len(node) + 1]) for r in below})
    return mean(worth_of(rs, path, list(c), leaf) for c in children)


@recipe("treepo", {"": subgroups(7230), "_logits": subgroups(7231, vocab=4), "_size": (subgroups(7232), dict(by_size=True)),
                   "_nodes": (unmasked(7235), dict(by_segment=True)),
                   "_nodes_eta": (unmasked(7236), dict(by_segment=True, eta=0.8)),
                   "_filter": (subgroups(7234, groups=(5, 1, 4, 2), equal_group=3), dict(filter_equal=True)),
                   "_skip": (subgroups(7233, wild=0.3), dict(skip_equal=True, clip_ratio_c=1.5))},
        clip_low=0.2, clip_high=0.28, clip_ratio_c=10.0, by_size=False, skip_equal=False, filter_equal=False,
        by_segment=False, eta=1.0)
def treepo(table, p):
    t = table.masked()
    if p["filter_equal"]:
        reward = t.col("rollout/reward")
        t = t.keep_groups(lambda g: len({reward[r].item() for r in t.groups[g]}) > 1)
    run, reward, node = Policy(t, p), t.col("rollout/reward"), t.ints("segment/node")
    path = {r: [node[e] for e in t.elements(r, "segment")] for r in t.rollouts}
    compared, depths = {}, []
    for rs in t.live_groups:
        for r in rs:
            gaps, sizes = [reward[r] - (mean(reward[q] for q in rs) if len(rs) > 1 else 0)], [len(rs)]
            for d in range(1, len(path[r]) + 1):
                same = [q for q in rs if path[q][:d] == path[r][:d] and len(path[q]) >= d]
                if len(same) > 1 and not (p["skip_equal"] and len({reward[q].item() for q in same}) == 1):
                    gaps.append(reward[r] - mean(reward[q] for q in same))
                    sizes.append(len(same))
            depths.append(const(len(gaps) - 1))
            weight = sizes if p["by_size"] or p["by_segment"] else [1] * len(gaps)
            compared[r] = total(g * w for g, w in zip(gaps, weight)) / sum(weight)
    credit = {i: compared[t.rollout_of[i]] for i in t.tokens()}
    for rs in t.live_groups if p["by_segment"] else []:
        for r in rs:
            for d, e in enumerate(t.elements(r, "segment")):
                up = p["eta"] ** d * worth_of(rs, path, path[r][:d], compared) if d else 0
                credit.update({i: worth_of(rs, path, path[r][: d + 1], compared) - up for i in t.tokens_in(e, "segment")})
    tokens = [credit[i] for i in t.tokens()]
    adv = {i: v / torch.sqrt(variance(tokens) + 1e-8) for i, v in zip(t.tokens(), minus_mean(tokens))}
    loss = token_mean(t, run.losses(adv, "token", dual=p["clip_ratio_c"]))
    return run.answer(adv, loss, {"depths": mean(depths)}, {"compared": ("rollout", compared)}, level="token")


sharing = flat([4], [2] * 4, rollout__reward=[1, 0, 0, 0])
sharing.segment("segment", [1] * 8)
sharing.put("segment/node", [0, 0, 0, 1, 1, 0, 1, 1], np.int64)
worked("treepo", "", sharing, treepo, lambda a: [
    (a.values["compared"][1].values(), [0.625, -0.375, -0.125, -0.125])])
even = flat([4], [1] * 4, rollout__reward=[1, 0, 0, 0])
even.segment("segment", [1] * 4)
even.put("segment/node", [0, 0, 1, 1], np.int64)
worked("treepo", "_even", even, treepo, lambda a: [
    (np.array([float(v) for v in a.values["advantage"][1].values()]), np.array([1.4434, -0.8660, -0.2887, -0.2887]))])
worked("treepo", "_size", even, treepo, lambda a: [
    (a.values["compared"][1].values(), [0.66667, -0.33333, -0.16667, -0.16667])], dict(by_size=True))


# ---- GDPO, MDPO: masked diffusion ----


@rebuildable
def quadrature(seed, nodes=2, **kw):
    """Each rollout holds its completion once per node."""
    b = plain(seed, **{"max_len": 4, "groups": (3, 1, 2), "equal_group": 2, "one_token": False, "masked_rollout": False, **kw})
    sizes = [max(1, n // nodes) for n in b.rollout_size]
    rng = np.random.default_rng(seed)
    out = Batch(b.group_size, [n * nodes for n in sizes])
    out.segment("node", [n for n in sizes for _ in range(nodes)])
    total_, steps = sum(sizes) * nodes, len(sizes)
    old = -rng.gamma(1.2, 0.9, total_)
    out.put("token/logp", old + rng.normal(0, 0.2, total_)).put("token/old_logp", old)
    out.put("token/ref_logp", old + rng.normal(0, 0.3, total_)).put("token/masked", rng.random(total_) < 0.6, np.uint8)
    out.put("token/mask", rng.random(total_) < 0.9, np.uint8)
    where, weight = {2: ([0.2113, 0.7887], [0.5, 0.5]), 3: ([0.1127, 0.5, 0.8873], [0.2778, 0.4444, 0.2778])}[nodes]
    out.put("node/t_n", where * steps).put("node/w_n", weight * steps)
    return out.put("rollout/reward", b.columns["rollout/reward"])


@recipe("gdpo_diffusion", {"": quadrature(7240), "_three": (quadrature(7241, nodes=3, max_len=6), dict(beta=0.1)),
                           "_paper": (quadrature(7242), dict(paper_form=True)),
                           "_std": (quadrature(7243), dict(scale_by_std=True, clip_low=0.01))},
        clip_low=0.2, clip_high=0.2, beta=0.0, paper_form=False, scale_by_std=False)
def gdpo_diffusion(table, p):
    t = table.masked()
    lp, old, reward = t.logp(), t.col("token/old_logp"), t.col("rollout/reward")
    when, weight, masked = t.col("node/t_n"), t.col("node/w_n"), t.ints("token/masked")
    longest = max(len(t.all_tokens[r]) / len(t.elements(r, "node")) for r in t.rollouts)

    def elbo(column, r):
        return total(weight[e] / when[e] * total(column[i] for i in t.tokens_in(e, "node") if masked[i])
                     for e in t.elements(r, "node"))

    ratio, adv, losses, gains, clipped = {}, {}, [], [], []
    for rs in t.live_groups:
        for r, a in zip(rs, minus_mean([reward[q] for q in rs])):
            adv[r] = a / (deviation([reward[q] for q in rs]) + 1e-4) if p["scale_by_std"] else a
            gain, size = elbo(lp, r) - elbo(old, r), len(t.tokens(r)) / len(t.elements(r, "node"))
            ratio[r] = torch.exp(gain if p["paper_form"] else gain / longest)
            loss = -clip_objective(ratio[r], adv[r], p["clip_low"], p["clip_high"])
            loss = loss / max(size, 1) if p["paper_form"] else loss
            if p["beta"]:
                loss = loss + p["beta"] * k3(elbo(lp, r), elbo(t.col("token/ref_logp"), r))
            losses.append(loss)
            gains.append(gain.detach())
            clipped.append(is_clipped(ratio[r], adv[r], p["clip_low"], p["clip_high"]))
    metrics = dict(clip_fraction=share(clipped), mean_gain=mean(gains),
                   approx_kl=mean((old[i] - lp[i]).detach() for i in t.tokens()))
    return Answer(t, mean(losses), dict(advantage=("rollout", adv), ratio=("rollout", ratio)), metrics, "rollout")


nodes_ = Batch([1], [192])
nodes_.segment("node", [64] * 3)
picked = np.zeros(192)
picked[[0, 64, 128]] = 1
sums = np.zeros((2, 192))
sums[0, [0, 64, 128]], sums[1, [0, 64, 128]] = [-1.9, -8.8, -29.6], [-2, -9, -30]
nodes_.put("token/logp", sums[0], np.float32).put("token/old_logp", sums[1], np.float32).put("token/masked", picked, np.uint8)
nodes_.put("node/t_n", [0.1127, 0.5, 0.8873], np.float64).put("node/w_n", [0.2778, 0.4444, 0.2778], np.float64)
nodes_.put("rollout/reward", [1], np.float64)
worked("gdpo_diffusion", "", nodes_, gdpo_diffusion, lambda a: [([a.values["ratio"][1][0]], [1.0086])])
worked("gdpo_diffusion", "_paper", nodes_, gdpo_diffusion, lambda a: [
    ([a.metrics["mean_gain"]], [0.5495]), ([a.values["ratio"][1][0]], [1.7323])], dict(paper_form=True))


@rebuildable
def denoised(seed, steps=(4, 3, 4, 4, 2, 4), **kw):
    rng, groups = np.random.default_rng(seed), (3, 1, 2)
    length = rng.integers(1, 4, len(steps))
    b = Batch(groups, [int(n * s) for n, s in zip(length, steps)])
    b.segment("dstep", [int(n) for n, s in zip(length, steps) for _ in range(s)])
    n = sum(b.rollout_size)
    old = -rng.gamma(1.2, 0.9, n)
    b.put("token/logp", old + rng.normal(0, 0.2, n)).put("token/old_logp", old)
    b.put("token/ref_logp", old + rng.normal(0, 0.3, n)).put("token/masked", rng.random(n) < 0.6, np.uint8)
    b.put("token/confidence", rng.random(n)).put("token/mask", rng.random(n) < 0.9, np.uint8)
    return b.put("dstep/r_s", rng.choice([0, 0.5, 1], sum(steps)))


@recipe("mdpo", {"": (denoised(7250), dict(steps=2)), "_all": (denoised(7251), dict(beta=0.1, max_tokens=32)),
                 "_own": (denoised(7252), dict(steps=2, per_rollout=True, beta=0.2))},
        clip_low=0.2, clip_high=0.2, beta=0.0, steps=16, max_tokens=512, per_rollout=False)
def mdpo(table, p):
    masked = table.ints("token/masked")
    t = table.masked().keep_tokens(lambda i: masked[i])
    run, r_s, raw, place = Policy(t, p), t.col("dstep/r_s"), {}, {}
    for r in t.rollouts:
        mine = t.elements(r, "dstep")
        for k, e in enumerate(mine):
            rest = mine[k + 1:]
            raw[e] = r_s[e] - (r_s[mine[k - 1]] if k else 0) + 1 + (mean(r_s[f] for f in rest) if rest else r_s[e])
            place[e] = k
    adv, contrast = {}, {}
    for g, rs in zip(t.group_ids, t.live_groups):
        for k in range(max(len(t.elements(r, "dstep")) for r in rs)):
            cell = [e for r in rs for e in t.elements(r, "dstep") if place[e] == k]
            for e, above in zip(cell, minus_mean([raw[f] for f in cell])):
                adv[e] = above / (deviation([raw[f] for f in cell]) + 1e-4)
            contrast[g, k] = (total(abs(adv[e]) for e in cell), cell)
    conf, step_of, loss_of = t.col("token/confidence"), t.element_of("dstep"), {}
    for i in t.tokens():
        e = step_of[i]
        lam = p["max_tokens"] / (len(t.tokens_in(e, "dstep")) + 1e-4)
        loss_of[i] = -lam * clip_objective(run.ratio[i], adv[e], p["clip_low"], p["clip_high"])
        if p["beta"]:
            loss_of[i] = loss_of[i] + p["beta"] * 0.5 * (t.col("token/ref_logp")[i] - run.lp[i]) ** 2

    def step_loss(cell):
        mine = [i for e in cell for i in t.tokens_in(e, "dstep")]
        return total(loss_of[i] * conf[i] for i in mine) / (len(mine) + 1e-4)

    chosen = []
    if p["per_rollout"]:
        for r in t.rollouts:
            chosen += [[e] for e in sorted(t.elements(r, "dstep"), key=lambda e: -abs(adv[e]))[: int(p["steps"])]]
    else:
        for g in t.group_ids:
            cells = [contrast[h, k] for h, k in contrast if h == g]
            chosen += [cell for _, cell in sorted(cells, key=lambda c: -c[0])[: int(p["steps"])]]
    clipped = share(is_clipped(run.ratio[i], adv[step_of[i]], p["clip_low"], p["clip_high"]) for i in t.tokens())
    gain = mean(r_s[e] - (r_s[e - 1] if place[e] else 0) for e in place)
    answer = Answer(t, mean(step_loss(c) for c in chosen), dict(advantage=("dstep", adv), raw=("dstep", raw)),
                    dict(clip_fraction=clipped, approx_kl=run.approx_kl(), step_gain=gain))
    answer.contrast = [v for v, _ in contrast.values()]
    return answer


steps_ = flat([2], [4, 4])
steps_.segment("dstep", [1] * 8)
steps_.put("dstep/r_s", [0, 1, 1, 1, 0, 0, 1, 0], np.float64).put("token/masked", [1] * 8, np.uint8)
steps_.put("token/confidence", [0.5] * 8, np.float64)
worked("mdpo", "", steps_, mdpo, lambda a: [
    (a.values["raw"][1].values(), [2, 3, 2, 2, 1.33333, 1.5, 2, 0]),
    ([float(v) * (1 + 1e-4 / w) for (_, v), w in zip(sorted(a.values["advantage"][1].items()), [0.4714, 1.06066, 1, 1.41421] * 2)],
     [0.70711, 0.70711, 0, 0.70711, -0.70711, -0.70711, 0, -0.70711]),
    ([float(v) * (1 + 1e-4 / w) for v, w in zip(a.contrast, [0.4714, 1.06066, 1, 1.41421])],
     [1.41421, 1.41421, 0, 1.41421])], {"steps": 3})
