extend nothing
fn shrink(x, by, floor_at = -10) = max(x * by, floor_at)
keep token where mask
loss = mean(logp - old_logp |> clip(-0.5, 0.5) |> shrink(2, floor_at = -0.3))
minimize loss
