extend nothing
input weight : real @ turn = 0.5
param scale = 2.0

fn spread(x, by = scale per L = rollout) =
  centre = mean(x per L)
  by * (x - centre) ^ 2

loss = mean(spread(logp)) + mean(spread(logp, by = 3 per turn)) + mean(weight * spread(logp, 0.5 per group))
minimize loss
metric weight_mean = mean(weight)
