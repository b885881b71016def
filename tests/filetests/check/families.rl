# test: check
param weights[3] = 1.0
param plain = 1.0
policy heads[2] : real @ token
metric a = weights[1] + weights[2] + weights[3]
metric b = weights                              #~ E0204 is a family, not one value
metric c = weights[4]                           #~ E0112 has members 1 to 3
metric d = plain[1]                             #~ E0204 is one value, not a family
metric e = weights[position]                    #~ E0204 a literal or an unrolled variable
metric f = sum(weights[k] for k in 1..3)
metric g = sum(weights[k] for k in 1..4)        #~ E0112 has members 1 to 3
metric h = sum(plain for k in 3..1)             #~ E0112 goes over
metric i = mean(sum(heads[k] for k in 1..2))
