# Dropping an element of a key over rollouts drops the rollouts.
key half = (group, correct)
keep half where count(rollout per half) > 1 or not any(correct per half)
metric halves = count(half)
