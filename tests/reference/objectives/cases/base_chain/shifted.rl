extend dapo
advantage = base.advantage + 0.1
fn is_clipped(ratio, a, low, high) = ratio > 1 + high
