extend "crowd.rl"
# The extended file's condition saw cells of all tokens; this one sees those that its filters left.
keep cell where count(token per cell) > 1
advantage = reward @ token - mean(reward @ token per cell)
metric cells = count(cell)
