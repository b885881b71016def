extend nothing
a = exp(logp) + 2 * log(-logp) + 3 * log1p(exp(logp)) + 4 * expm1(logp) + 5 * log1mexp(logp)
b = log2(-logp) + 2 * sqrt(-logp) + 3 * abs(logp) + 4 * sign(logp) + 5 * sigmoid(logp)
c = log_sigmoid(logp) + 2 * tanh(logp) + 3 * softplus(logp) + 4 * relu(logp + 1) + 5 * min(logp, -1)
d = max(logp, -1.5) + 2 * clip(logp, -2, -0.5) + 3 * sin(logp) + 4 * cos(logp) + (-logp) ^ 1.5
e = floor(logp) + 2 * ceil(logp) + 3 * round(logp) + int(2 * logp)
f = (if isfinite(logp) then 1 else 0) + (if isnan(logp) then 1 else 0) + sin(pi / 6) + 2 ^ (-logp)
loss = mean(a) + mean(b) + mean(c) + mean(d) + mean(e * logp) + mean(f)
minimize loss
