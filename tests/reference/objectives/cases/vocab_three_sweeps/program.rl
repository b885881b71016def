extend nothing
# The spread of the log-probabilities under the policy itself, and a distribution made from another.
surprise = -log_softmax(logits)
p        = softmax(logits)
spread   = sum(p * (surprise - entropy) ^ 2 per token)
tilted   = log_softmax(0.5 * log_softmax(logits) + ref_logits / 2)
loss     = mean(spread) - mean(at(tilted, action)) + 0.1 * mean(logsumexp(-logits per token)) + mean(at(logits, 0)) / 10
minimize loss
