# test: laws
# seed: 1
# A kept token beside a masked rollout, an empty one, and groups of none and of one.
#: policy logp
#: group
#: group prompt=1.0
#:   rollout reward=1.0
#:     turn
#:       token logp=-0.5 mask=0.0
#:       token logp=-2.0 mask=0.0
#: group prompt=2.0
#:   rollout reward=1.0
#:     turn
#:   rollout reward=0.5
#:     turn
#:       token logp=-0.5
#:     turn
#:   rollout reward=0.5
#:     turn
#:       token mask=0.0 old_logp=-41.0
extend gspo
penalty = 0.1 * kl_k3(logp, ref_logp)
