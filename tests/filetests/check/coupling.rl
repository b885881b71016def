# test: check
# The note points at what couples, not at the first line of the file.
input is_demo : bool @ rollout
sure      = exp(-detach(mean(entropy where is_demo))) #~ coupling_raised couples each batch as a whole
demo_loss = mean(-logp where is_demo)
loss      = base.loss + sure * demo_loss
