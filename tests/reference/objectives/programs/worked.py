"""Worked examples of the recipes."""

from .common import *

PRINTED = [1.3754, 1.3754, 1.8339, -0.2469, -0.7406, -0.7406, 0.1058, 0.1411, -0.7406, -0.7406]


def worked(answers):
    """The recipe's table of advantages per turn; `answers`: those of the two positive last turns."""

    def reference(table, p):
        answer = published("calibadv", table, p)
        found = answer.expected()["value/advantage"]
        printed = list(PRINTED)
        printed[2], printed[7] = answers
        assert np.allclose(found, printed, atol=6e-5), found
        return answer

    return reference


stdlib_case("calibadv_worked", "calibadv", calibadv_example(), worked((1.8339, 0.1411)))
stdlib_case("calibadv_worked_lam", "calibadv", calibadv_example(), worked((2.7508, 0.2116)), {"lam": 1.5})


def sapo_table():
    """Ratios 0.5, 1, 1.5 and 2 under A = +1 and -1, one token per rollout (recipes A, 9)."""
    ratios = np.array([0.5, 1, 1.5, 2, 0.5, 1, 1.5, 2])
    b = Batch([8], [1] * 8)
    old = np.full(8, -1.0)
    b.put("token/old_logp", old, np.float64).put("token/logp", old + np.log(ratios), np.float64)
    return b.put("rollout/credit", [1.0] * 4 + [-1.0] * 4, np.float64)


@program("sapo_worked", """
extend sapo
input credit : real @ rollout
advantage = credit
# Sums, so that the gradients are those of the recipe's table.
loss = sum(token_loss)
""", sapo_table())
def _(table, p):
    t = table
    lp, old, credit = t.col("token/logp"), t.col("token/old_logp"), t.col("rollout/credit")
    losses, kl, faded, ratio = [], [], [], {}
    for i in t.tokens():
        ratio[i] = torch.exp(lp[i] - old[i])
        tau = 1.0 if credit[i] > 0 else 1.05
        s = torch.sigmoid(tau * (ratio[i] - 1))
        losses.append(-credit[i] * 4 / tau * s)
        faded.append(1 - 4 * s * (1 - s))
        kl.append((old[i] - lp[i]).detach())
    # -A 4 s (1 - s) rho, as the recipe prints it.
    printed = [-0.470, -1.0, -1.41, -1.573, 0.467, 1.0, 1.401, 1.536]
    grad = torch.autograd.grad(total(losses), lp, retain_graph=True)[0]
    assert np.allclose(grad.numpy(), printed, atol=6e-4), grad
    return Answer(t, total(losses), dict(ratio=("token", ratio)),
                  {"approx_kl": mean(kl), "clip_fraction": mean(f.detach() for f in faded)})
