extend dapo
# base.f inside the function that replaces f.
fn clipped(ratio, a, low, high) = base.clipped(ratio, a, low, 2 * high) - 0.1 * (ratio - 1) ^ 2
fn token_mean(x) = base.token_mean(x) / 2
