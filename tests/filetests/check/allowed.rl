# test: check
# The same, silenced by name.
allow advantage_gradient
allow unused_definition
allow empty_extremum
advantage = group_norm(reward) + 0.1 * entropy
bonus = 1.0
fn helper(x) = x
metric best = mean(max(reward where correct per group))
allow unused                                    #~ E0114 there is no lint `unused`
