token_loss = base.token_loss - 0.01 * entropy
metric entropy = token_mean(entropy)
