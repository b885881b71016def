# test: check
# Legal, but nearly always wrong.
advantage = group_norm(reward) + 0.1 * entropy  #~ advantage_gradient the advantage carries gradient
bonus = 1.0                                     #~ unused_definition `bonus` is never used
fn helper(x) = x                                #~ unused_definition `helper` is never called
metric best = mean(max(reward where correct per group))  #~ empty_extremum
key cell = (group, position)                    #~ unused_definition the key `cell` is never used
key turns = (group, index(turn in rollout))
metric late = mean(count(turns per group))
whole = exp(sum(logp per rollout) - sum(old_logp per rollout))  #~ unnormalised_ratio
#~^ coupling_raised
token_loss = base.token_loss - whole
