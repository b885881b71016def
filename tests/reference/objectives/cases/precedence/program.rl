extend nothing
k1 = -2 ^ 2
k2 = 2 ^ 3 ^ 2
k3 = 2 ** 3 * 2
k4 = 10 - 4 - 3
k5 = 12 / 4 * 3
k6 = 7 - 2 * 3 % 4
k7 = if not true and false or true then 1 else 0
k8 = if 1 + 1 == 2 and 3 < 2 * 2 then 1 else 0
k9 = 2 * -3 - -1
k10 = if true then 1 else 0 + 5
k11 = (if false then 1 else 2) + 5
k12 = if not 1 > 2 then 3 else 4
k13 = 2 - 3 |> abs()
k14 = if false then 1 else if true then 2 else 3
loss = mean(logp @ token ^ 2) * (k1 + 2 * k2 + 3 * k3 + k4 + k5 + k6 + k7 + k8 + k9 + k10 + k11 + k12 + k13 + k14) / 1000
minimize loss
