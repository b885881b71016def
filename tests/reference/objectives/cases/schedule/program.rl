param warm = 20
coef = if train.step < warm then 0 else 0.1 * (1 - train.progress) + 0.01 * train.step / train.total
loss = base.loss + coef * token_mean(logp)
metric coef = coef
