extend nothing
keep token where mask
loss = exp(logp - old_logp) |> mean(per rollout) |> mean() |> clip(0, 100)
minimize loss
