extend nothing
input other : real @ token
gap  = logp - other
top  = max(logp per rollout)
low  = min(logp per rollout)
loss = mean(top) - 0.5 * mean(low) + mean(max(logp, other)) + 0.25 * mean(min(logp, other))
       + 2 * mean(clip(logp, -1, -0.5)) + mean(abs(gap)) + mean(relu(gap)) + mean(sqrt(relu(gap)))
       + mean(sign(gap)) + mean(gap ^ 2 - gap ^ 3) + mean(std(logp per rollout)) + 0.1 * mean(max(logp, other, -0.75))
minimize loss
