# BNPO: GRPO normalised over the tokens of the batch.
# TRL, GRPOTrainer with loss_type "bnpo", 2025.
#
# Every token weighs the same, whatever the length of its rollout.
#
#     L = sum_t l_t / (number of tokens in the batch)          l_t as in grpo
#
# Family: baseline.
# Confidence: exact from code.
# Choices: TRL divides by the tokens of the micro-batch; here the count is that of the whole batch, so
# that cutting it changes nothing.

extend grpo

loss = token_mean(token_loss)
