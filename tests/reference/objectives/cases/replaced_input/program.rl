# A definition in the place of a column: the batch has no reward.
reward = real(correct) - 0.1 * real(truncated)
