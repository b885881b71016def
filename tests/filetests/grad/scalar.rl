# test: grad
# One program per scalar operator. Each is added to what stands here; `x` takes values around 0,
# `p` positive ones, and both follow the policy.
extend nothing
keep token where mask
x = logp - old_logp
p = 0.3 + x ^ 2
w = 0.5 + value
# --- add, sub, neg
minimize mean(x + w - -x * 3)
# --- mul
minimize mean(x * w)
# --- div
minimize mean(w / p)
# --- power of a constant
minimize mean(x ^ 3 + p ^ 2.5 + p ^ -1)
# --- power with a live exponent
minimize mean(p ^ x)
# --- mod and floor division by a constant
minimize mean(p % 100.0 + p // 100.0)
# --- exp
minimize mean(exp(x))
# --- log, log2, log1p
minimize mean(log(p) + log2(p) + log1p(p))
# --- expm1
minimize mean(expm1(x))
# --- log1mexp
minimize mean(log1mexp(-p))
# --- sqrt
minimize mean(sqrt(p))
# --- abs
minimize mean(abs(x))
# --- sign and rounding have no gradient
minimize mean(x * sign(x) + x * floor(10.0 + 0 * w))
# --- sigmoid
minimize mean(sigmoid(x))
# --- log_sigmoid, softplus
minimize mean(log_sigmoid(x) + 2 * softplus(w))
# --- tanh
minimize mean(tanh(x))
# --- relu
minimize mean(relu(x) * w)
# --- sin, cos
minimize mean(sin(x) * cos(w))
# --- min, max of two and three
minimize mean(min(x, w) + max(x, w, 0.1) * 2)
# --- clip
minimize mean(clip(x, -0.5, 0.7) * w)
# --- if
minimize mean(if x > 0.1 then x ^ 2 else w)
# --- a branch not taken gives nothing
minimize mean(if x > 0 then sqrt(x) * w else 0 * w + x)
# --- truth values as numbers
minimize mean(x * real(old_logp < -1) + w * int(mask))
# --- pipe
minimize x |> exp |> mean
# --- int arithmetic beside reals
minimize mean(x * (position // 2) + w * (position % 3))
# --- constants
minimize mean(pi * x + (if isfinite(x) then x else inf))
