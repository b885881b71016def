extend dapo
# A quadratic penalty in the place of the clip; the base calls it.
fn clipped(ratio, a, low, high) = ratio * a - high * (ratio - 1) ^ 2
