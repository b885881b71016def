# test: check
minimize token_loss                             #~ E0601 the objective must be one number
