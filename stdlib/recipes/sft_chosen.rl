# Supervised fine-tuning on the chosen.
# TRL, DPOTrainer with loss_type "sft".
#
# The likelihood of the preferred rollouts; added to another preference loss it keeps that likelihood from
# falling.
#
#     L = -mean of logp_t over the tokens of chosen rollouts
#
# Family: preferences.
# Confidence: exact from code.

extend dpo

loss = -mean(logp where is_chosen @ token)
