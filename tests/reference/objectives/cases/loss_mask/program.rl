# The base's filter reads the new mask; its condition sees all tokens, masked ones too.
loss_mask = mask and not is_first(token in rollout) and position < length - 1
