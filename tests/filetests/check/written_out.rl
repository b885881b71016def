# test: check
# Calls and members are written out: what would take for ever is refused.
extend grpo
param many[1025] = 1.0                                #~ E0013 1 to 1024 are possible
param none[0] = 1.0                                   #~ E0013 this family has no members
param most[1024] = 1.0
metric a = most[1024]
metric b = sum(k for k in 0..1024)                    #~ E0112 goes over 1025 members
metric c = sum(k for k in -9007199254740992..9007199254740992)  #~ E0112 goes over
metric d = sum(k for k in -1023..0)
metric e = sum(sum(sum(i * j * k for i in 1..1024) for j in 1..1024) for k in 1..1024)  #~ E0016 over 262144 operators
