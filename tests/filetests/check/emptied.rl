# test: check
# A filter of one's own may leave `max` and `min` nothing; levels and lists that nobody names.
level item in rollout
level step in rollout                           #~ unused_definition the level `step` is never used
list criterion in rollout                       #~ unused_definition the list `criterion` is never used
list note in rollout
level candidate in token                        #~ unused_definition the level `candidate` is never used
input weight : real @ note
keep rollout where not truncated
keep item where mean(reward @ token per item) > 0
drop token where old_logp < -9
drop group where max(reward per group) == min(reward per group)
# Rollouts of a group, and what is left of a rollout, may be none.
best = max(reward per group)                    #~ empty_extremum this `max` is 0 where a filter leaves nothing
tall = max(old_logp per turn)                   #~ empty_extremum
fn peak(x) = max(x per rollout)                 #~ empty_extremum
# A group of no rollout is not dropped, a rollout that is takes its notes along.
own  = max(weight per rollout)
whole = max(reward)
said = max(reward, default = -1 per group)
key crowd = (group, truncated)
worst = min(reward per crowd)
advantage = best + said + worst + own + whole + mean(peak(sampler_logp) + peak(old_logp) + tall per rollout)
