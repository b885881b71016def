token_loss = base.token_loss - 0.05 * entropy
