extend "lower.rl"
# Reads what the file below redefines last.
token_loss = base.token_loss * weight
weight = 2 + 0 * advantage
