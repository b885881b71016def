# test: check
state v[reward] : real @ group = 0.5      #~ E0503
state w = 1.0                             #~ E0502 never updated
update x = 3                              #~ E0501
state z : real @ group = 1.0              #~ E0503
update z = reward
update v = 1
state c = 1.0
update c = reward                         #~ E0504
state d : int = 1                         #~ E0204
update d = 1
