extend nothing
input anchor : int @ turn
keep token where mask
key state_of = (group, anchor)
# Elements are sets of turns: turns without tokens count, and tokens lie inside through their turn.
worth = mean(step_reward per state_of)
seen  = count(turn per state_of)
words = mean(logp per state_of)
loss  = mean(exp(words)) + 0.1 * mean((worth + real(seen)) * logp) + 0.1 * mean(mean(worth per group))
minimize loss
metric states = count(state_of)
