extend nothing
# Turns leave with their tokens; what is left is renumbered, and means over turns are over those left.
drop turn where step_correct < 0.1
keep token where mask
score = step_reward - mean(step_reward per rollout)
loss  = mean(score * logp) + 0.1 * mean(mean(logp per turn)) + 0.01 * mean(real(index(turn in rollout)) * logp)
        + mean(logp where is_last(turn in rollout)) + 0.1 * mean(logp * real(count(turn per rollout)))
minimize loss
metric turns = count(turn)
