# test: check
# Derived levels, lists and rows below a token, each used wrongly.
extend grpo
level item in rollout
level candidate in token
list criterion in rollout
list inside in token                        #~ E0105
level part in turn                          #~ E0105
input weight : real @ item
input score : real @ criterion
input prob : real @ candidate
key real_part = (group, reward)             #~ E0204
key apart = (turn, item, correct)           #~ E0201
key entries = (group, logits > 0)           #~ E0206
key run_of_numbers = runs(logp in rollout)  #~ E0204
key run_in_token = runs(mask in token)      #~ E0203
key run_of_candidates = runs(prob > 0.5 in rollout)   #~ E0202
key tree_of_reals = prefix(reward in group) #~ E0204
key tree_of_rollouts = prefix(length in group)        #~ E0202
key no_pairs = pairs(group in rollout)      #~ E0203
key duel = pairs(rollout in group)
key cell = (group, position)
key loop = (group, floor(crowd))            #~ E0104
crowd = mean(reward @ token per loop)
input stored : real @ cell                  #~ E0105
keep duel where left(correct in duel)       #~ E0205
unpaired = mean(reward per duel.left)       #~ E0203
third = mean(left(reward in duel) per duel.middle)    #~ E0105
no_sides = mean(reward @ token per cell.left)         #~ E0105
no_scope = left(reward)                     #~ E0110
not_pairs = left(reward in cell)            #~ E0203
too_fine = left(logp in duel)               #~ E0202
apart_again = reward + left(reward in duel) #~ E0201
beside = score * logp                       #~ E0201
upwards = mean(reward per cell)             #~ E0203
below = at(logits, floor(prob)) + score      #~ E0201
across = top(logits, 2 in rollout)          #~ E0206
order = cumsum(logits in token)             #~ E0206
fine_gamma = discounted(reward, logp in rollout)      #~ E0202
whole_place = pick(reward, 0.5, 0 in group) #~ E0204
fine_place = pick(reward, action, 0 in group)         #~ E0202
kind = pick(correct, 0, 0.5 in group)       #~ E0204
unknown = mean(logp per cel)                #~ E0105
