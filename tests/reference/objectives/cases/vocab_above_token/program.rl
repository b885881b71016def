extend nothing
keep token where mask
# Statistics of the row that couple tokens: by rollout, and through ordered operators.
calm  = exp(-mean(entropy per rollout))
drift = entropy - prev(entropy, 0 in rollout)
loss  = -mean(calm) + 0.1 * mean(drift ^ 2) + 0.05 * mean(cumsum(sum(softmax(logits) ^ 2 per token) in rollout) * token_reward)
minimize loss
