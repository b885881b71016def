# test: check
# Inside a function: one definition per name, above what reads it.
extend grpo
fn early(x) =
  b = c + 1                                     #~ E0101 read above its definition in this block
  c = x
  b + c
metric a = mean(early(reward))
# Not the program's advantage: the block has its own.
fn own(x) =
  b = advantage                                 #~ E0101 `advantage` is read above its definition
  advantage = x
  b + advantage
metric b = mean(own(reward))
fn uncalled(x) =
  b = c                                         #~ E0101 read above
  c = b
  c
fn twice(x) =
  b = x
  b = b + 1                                     #~ E0103 `b` is defined twice in this block
  b
metric c = mean(twice(reward))
fn same(x, x) = x                               #~ E0103 `x` is defined twice in these parameters
metric d = same(1, 2)
# A block may give an argument another value, and an unrolled variable hides an argument.
fn shadowed(x, k) =
  x = clip(x, 0, 1)
  sum(k * x for k in 1..3)
metric e = mean(shadowed(reward, 10))
metric f = mean(max(reward, 0 per group))       #~ E0113 `max` takes no `per`
metric g = 9007199254740993                     #~ E0014 too large for an int
metric h = -9223372036854775808                 #~ E0014 too large for an int
metric i = 9007199254740992 - -9007199254740992
