extend nothing
keep token where mask
key hot = runs(detach(logp) > old_logp in rollout)
# A mean over all runs divides by their number, which depends on every rollout.
loss = mean(mean(logp per hot))
minimize loss
