extend nothing
input score : real @ token
keep token where mask
x     = logp + 1
safe  = if x > 0 then log(x) + sqrt(x) else 0.5 * x
known = if isnan(score) then 0 else score * logp
steep = if x < 0 then exp(x) else exp(-900 * x) * 0 + x
loss  = mean(safe) + mean(known) + mean(steep) + mean(if isfinite(score) then score else 1)
minimize loss
