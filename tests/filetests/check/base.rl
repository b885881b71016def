# test: check
extend dapo
loss_mask  = base.loss_mask and not truncated
surrogate  = base.token_loss + 1                #~ E0108 `base.token_loss` stands outside
novelty    = base.novelty + 1                   #~ E0101 the extended file has no `novelty`
token_loss = base.token_loss + 0.01 * novelty
fn spread(x) = base.spread(x)                   #~ E0102 the extended file has no function `spread`
fn center(x) = base.center(x) * base.group_norm(x)  #~ E0108 `base.group_norm` stands outside
metric c   = mean(center(reward) + spread(reward))
