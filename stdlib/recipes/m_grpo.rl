# M-GRPO: Multi-agent Group Relative Policy Optimization.
# "Multi-Agent Deep Research: Training Multi-Agent Systems with M-GRPO", 2025, arXiv 2511.13288;
# code in AQ-MedAI/MrlX.
#
# A main agent and the sub-agents it calls are trained by two losses; the runs of the sub-agents, of which
# every rollout has another number, are brought to one number per rollout and normalised together.
#
#     R_M = a1 + a2 correct          R_S = b1 + b2 correct + b3 expert          0 where the format is bad
#     A   = (R - mean) / std         over the main rollouts, or the aligned sub runs, of a question
#     L   = mean -min(w A, clip(w, 1 - eps, 1 + eps) A), of either role;  w = exp(sum_t (logp_t - old_logp_t))
#
# Family: agents.
# Confidence: exact from paper.
# Choices: A rollout of the table is one trajectory: a main one or one sub run; a group holds a question's.
# Repeating or dropping sub runs is a weight (`multiplicity`), which gives the same numbers without copies.
# The paper's deviation has ddof = 0; eps 1e-6. The clip is not given; GRPO's 0.2. The ratio is the paper's,
# of the whole trajectory; the released code has token ratios (`token_ratio`, clip 0.2 / 0.28), and its sub
# reward is b2 = 0.9, b3 = 0, with no alignment (no `multiplicity`). One loss is the sum of the two: each
# role's tokens are of its own model.
# To train: two models, and a sampler that runs them against each other and records for each trajectory whose
# it is, the main rollout's correctness, the judge's word and how often it counts.

extend grpo

# The paper's ratio is that of whole trajectories.
allow unnormalised_ratio

## Whose trajectory it is: 0 main agent, 1 sub-agent.
input role : int @ rollout
## Whether the main rollout that it belongs to, or is, was correct.
input correct_main : bool @ rollout
## Whether the trajectory's format is good.
input fmt : bool @ rollout
## The judge's score of the sub-task, from 0 to 1; without meaning for the main agent.
input expert : real @ rollout
## How often the trajectory counts after alignment; 0: dropped.
input multiplicity : int @ rollout = 1

## Main agent: reward of a good format. Reward; 0.1 (the paper).
param a1 = 0.1
## Main agent: reward of a correct answer. Reward; 0.9 (the paper).
param a2 = 0.9
## Sub-agent: reward of a good format. Reward; 0.1 (the paper).
param b1 = 0.1
## Sub-agent: reward of the main rollout's correct answer. Reward; 0.4 (the paper).
param b2 = 0.4
## Sub-agent: reward of the judge's full score. Reward; 0.5 (the paper).
param b3 = 0.5
## Whether every token has its own ratio, as in the released code. A switch; false (the paper).
param token_ratio = false

main   = role == 0
times  = real(multiplicity)
judged = if b3 == 0 then 0 else b3 * expert
reward = if not fmt then 0
         else if main then a1 + a2 * real(correct_main)
         else b1 + b2 * real(correct_main) + judged

key side = (group, role)
weight = max(sum(times per side), 1)
# Around the plain mean first, so that equal rewards give exactly 0.
rough  = reward - mean(reward per side)
above  = rough - sum(times * rough per side) / weight
spread = sqrt(sum(times * above ^ 2 per side) / weight)
advantage = above / (spread + 1e-6)

ratio = if token_ratio then exp(logp - old_logp) else exp(sum(logp - old_logp per rollout))
each  = mean(token_loss per rollout)
## Mean over the trajectories of one role, each as often as it counts.
fn agent_loss(mine) = sum(times * each where mine) / max(sum(times where mine), 1)
main_loss = agent_loss(main)
sub_loss  = agent_loss(not main)
loss      = main_loss + sub_loss

## The main agent's loss.
metric main_loss = main_loss
## The sub-agents' loss.
metric sub_loss  = sub_loss
