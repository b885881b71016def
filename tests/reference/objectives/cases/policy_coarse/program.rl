extend nothing
policy q_value  : real @ turn
policy baseline : real @ rollout
input kind : int @ token
input flag : bool @ rollout
input late : bool @ turn = true
input cost : int @ group = 2
keep token where mask
to_go   = rcumsum(step_reward in rollout)
critic  = mean((q_value - to_go) ^ 2 where late) + mean((baseline - reward) ^ 2 where not flag)
weight  = if kind == 1 then 0.5 else if flag then 1 else cost
loss    = critic - 0.1 * mean(weight * (reward - detach(baseline)) * logp)
minimize loss
