extend nothing
keep token where mask
# To a fixed teacher, with the row's weight above the mean only.
teacher = softmax(ref_logits)
gain    = sum(teacher * log_softmax(logits) per token)
loss    = -mean(gain where max(teacher per token) > 0.4)
minimize loss
