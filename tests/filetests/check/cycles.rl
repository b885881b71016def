# test: check
advantage = reward - baseline                   #~ E0104 `advantage` is defined in terms of itself
baseline  = mean(advantage per group)
fn f(x) = g(x) + 1                              #~ E0109 calls itself
fn g(x) = f(x)
metric depth = mean(f(reward))
