extend nothing
a = position // 3
b = position % 3
c = (position - 4) // 3
d = (position - 4) % 3
e = min(position, 2) + max(position - 3, -1) + abs(position - 2) + clip(position, 1, 2)
f = real(position) / 2 + 7 / 2 + (-7) // 2 + (-7) % 4 + 7 % -4
g = 7.5 // 2 + (-7.5) % 2 + sum(position per rollout) % 5
h = floor(2.5 * position) + int(position > 1)
k = (if position == 2 then 1 else 0) + length // 2 + (if prompt % 2 == 0 then 1 else 0)
loss = mean((a + 2 * b + 3 * c + 4 * d + 5 * e + f + g + h + k) * logp)
minimize loss
