# test: check
# Read, and refused with a clear word.
sample weight = 1.0                             #~ E0701
