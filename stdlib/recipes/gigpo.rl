# GiGPO: Group-in-Group Policy Optimization.
# Lang Feng et al., "Group-in-Group Policy Optimization for LLM Agent Training", 2025, arXiv 2505.10978;
# code in langfengQ/verl-agent.
#
# Besides its episode, a step is compared with the steps of its group that began in the same state of the
# environment.
#
#     ret_j = r_j + gamma ret_next          of both ret_j and E_j: - invalid_penalty where the step is invalid
#     A_j   = (E_j - mean_G E) / (std_G E + eps) + w (ret_j - mean_S ret) / (std_S ret + eps)
#     S: the group's steps with the same anchor          L as in bnpo, with beta k3
#
# Family: credit assignment.
# Confidence: exact from code.
# Choices: A step is a turn. The episode's mean and deviation are over steps, so that long episodes weigh
# more, as in the code; `per_trajectory` takes them over episodes, with the first step's score, as the code's
# other setting. A group of one step keeps its score (verl); a state that was met once gives 0. `mean_norm` is
# the code's mode without deviations. Clip and aggregation are verl's defaults. The code's trainer also drops
# or repeats a few steps to fill its batch; that is not done here.
# To train: an environment that records for every turn its reward (`turn/step_reward`), an id of the
# observation it began with (`turn/anchor`: equal ids, equal states; similar ones may share an id) and whether
# its action was invalid (`turn/invalid`).

extend bnpo

## Identity of the environment's state at the beginning of the turn.
input anchor : int @ turn
## Whether the environment could not take the turn's action.
input invalid : bool @ turn = false

## Discount of the reward per step. No unit; 0.95 (the code's scripts).
param gamma = 0.95 in [0, 1]
## Weight of the step's advantage beside the episode's. No unit; 1.0 (the code's scripts).
param w = 1.0 in [0, inf]
## What an invalid action costs its own step. Reward; 0.1 (the code's scripts).
param invalid_penalty = 0.1 in [0, inf]
## Whether the episode's statistics are over episodes, not over steps. A switch; false (the code).
param per_trajectory = false
## Whether deviations do not divide (the mode "mean_norm"). A switch; false ("mean_std_norm", the code).
param mean_norm = false
## Weight of the KL penalty to the reference policy. Loss per nat; 0.01 (the code's scripts).
param beta = 0.01 in [0, inf]

key state_of = (group, anchor)

fine    = invalid_penalty * real(invalid)
## Discounted return of a step, in the unit of the reward.
ret     = discounted(step_reward, gamma in rollout) - fine
## The episode's reward, as the step sees it.
episode = reward - fine

## How far x lies above the group's mean of `those`. A single one has mean 0 and deviation 1 (verl).
fn above(x, those) =
  alone = count(those per group) == 1
  usual = if alone then 0 else mean(those per group)
  width = if alone then 1 else std(those per group)
  if mean_norm then x - usual else (x - usual) / (width + 1e-6)

episode_advantage = if per_trajectory then above(episode, first(episode per rollout))
                    else above(episode, episode)
step_advantage    = if mean_norm then ret - mean(ret per state_of) else norm(ret per state_of)

advantage = episode_advantage + w * step_advantage

## Share of the steps whose state no other step of the group began in.
metric alone = mean((count(turn per state_of) == 1) @ turn)
