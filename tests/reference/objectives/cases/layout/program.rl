extend nothing      # a comment after a statement

## Documentation of the mask,
## on two lines.
loss_mask = mask

keep token where
  loss_mask

# Closing brackets may stand in column one.
loss = seq_mean(
  0.5 * (
    logp
      - old_logp   # continued
  ) ^ 2
)

minimize
  loss
metric two = 1 +
  1
