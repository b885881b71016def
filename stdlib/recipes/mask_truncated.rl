# GRPO without truncated rollouts.
# TRL, GRPOTrainer with mask_truncated_completions; after Qiying Yu et al., "DAPO: An Open-Source LLM
# Reinforcement Learning System at Scale", 2025, arXiv 2503.14476 (overlong filtering).
#
# A rollout that ran out of room is no evidence about its words: its tokens are masked, while its reward
# stays in the group's statistics.
#
#     m_t = 0 for all tokens of a truncated rollout          L as in grpo
#
# Family: advantage.
# Confidence: exact from code.
# Choices: a masked rollout still counts in the mean over rollouts, with 0, as in TRL.

extend grpo

loss_mask = base.loss_mask and not truncated
