extend nothing
keep token where mask
# Distillation on the teacher's n most likely words only; the rest is one more word.
inside  = top(ref_logits, 4 in token)
teacher = softmax(ref_logits)
student = softmax(logits)
rest_t  = sum(teacher where not inside per token)
rest_s  = sum(student where not inside per token)
kl      = sum(teacher * (log(teacher) - log(student)) where inside per token)
loss    = mean(kl + rest_t * (log(rest_t) - log(rest_s)))
minimize loss
