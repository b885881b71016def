# test: check
param clip_low  = 0.2 in [0, 1]
param clip_high = 1.5 in [0, 1]                 #~ E0112 the default of `clip_high` is outside its range
