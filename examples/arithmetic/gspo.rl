# One ratio per rollout. Its clip is a few 1e-4 wide, so it acts from the second update on.
extend gspo
