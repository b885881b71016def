extend nothing
keep token where mask
gain = mean(reward @ token * exp(logp - old_logp))
maximize gain
metric gain = gain
