extend nothing
keep token where mask
# A mean over a set that the policy chooses: its count is live.
loss = -mean(logp where logp > old_logp) - sum(logp where logp > old_logp) / 10
minimize loss
