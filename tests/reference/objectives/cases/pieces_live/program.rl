extend nothing
level item in rollout
keep token where mask
key piece = (turn, item, position >= 0)
# Pieces are reduced to turns in one term and to items in the other.
words = mean(logp per piece)
loss  = mean(exp(mean(words per turn))) + mean(mean(words ^ 2 per item))
        - 0.5 * mean(exp(mean(words per item)))
minimize loss
