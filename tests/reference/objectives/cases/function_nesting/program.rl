extend nothing
fn square(x) = x ^ 2
fn hinge(x, at_least = 0) = relu(x - at_least)
fn mixed(logp, share = 0.25) =
  # The parameter hides the program's logp; square and gap are the program's.
  near = square(logp - gap)
  far  = hinge(square(logp), at_least = gap)
  share * near + (1 - share) * far
gap  = 0.5
loss = mean(mixed(old_logp + 2 * logp, share = 0.75)) + mean(mixed(logp))
minimize loss
