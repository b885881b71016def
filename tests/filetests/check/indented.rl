  advantage = center(reward)                    #~ E0010
# test: check
