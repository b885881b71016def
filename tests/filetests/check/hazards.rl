# test: check
# Legal, but nearly always wrong.
advantage = group_norm(reward) + 0.1 * entropy  #~ advantage_gradient the advantage carries gradient
bonus = 1.0                                     #~ unused_definition `bonus` is never used
fn helper(x) = x                                #~ unused_definition `helper` is never called
metric best = mean(max(reward where correct per group))  #~ empty_extremum
