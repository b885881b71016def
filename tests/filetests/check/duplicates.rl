# test: check
# One meaning per name and file. Values, functions and levels are three name spaces.
extend nothing
extend grpo                                     #~ E0103 a file extends one base
advantage = center(reward)
advantage = reward                              #~ E0103 `advantage` is defined twice
param advantage = 1.0                           #~ E0103 `advantage` is defined twice
fn advantage(x) = x
fn advantage(x, y) = x                          #~ E0103 `advantage` is defined twice
level item in rollout
level item in rollout                           #~ E0103 `item` is defined twice
level turn in rollout                           #~ E0103 `turn` is a level that is always there
level part in group                             #~ E0105 lies in a rollout or a token
minimize seq_mean(-logp * advantage)
minimize seq_mean(-logp)                        #~ E0103 one goal
metric m = mean(reward)
metric m = mean(advantage)                      #~ E0103 `m` is defined twice
