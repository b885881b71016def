extend sft
# A prelude name: the likelihood with the tail cut off.
logp = log(softmax_floor + (1 - softmax_floor) * exp(at(log_softmax(logits), action)))
softmax_floor = 0.01
