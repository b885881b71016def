# test: check
# Everything of the language that this release compiles, without a finding.
extend dapo
param lam = 0.5 in [0, 1]
param flags[2] = true
level item in rollout
input weight : real @ item = 1.0
policy head : real @ token
fn spread(x, floor_ = 1e-3 per L = group) =
  high = max(x per L)
  low = min(x per L)
  max(high - low, floor_)
loss_mask = base.loss_mask and not truncated
advantage = base.advantage / spread(reward per group) |> clip(-5.0, 5.0)
token_loss = base.token_loss * (weight @ token)
  - lam * head * real(flags[1] or flags[2])
metric longest = max(length)
metric late = mean(real(position // 2 % 3 == 1 and position > 4 or is_last(turn in rollout)))
metric power = mean(-2.0 ^ 2 + reward ** 2)
state rate[prompt] : real @ group = 0.5
update rate = 0.9 * rate + 0.1 * mean(reward per group)
metric drift = mean(rate @ token where uniform(token) < 0.5)
