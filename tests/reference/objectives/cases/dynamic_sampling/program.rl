extend dapo
keep group where std(reward per group) > 0
