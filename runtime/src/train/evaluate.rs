//! Held-out accuracy: one sampled completion per problem, as in training, and one greedy one.

use rlc_model::Model;

use super::config::Config;
use super::data::{Problem, mix};
use super::error::Result;
use super::report::Evaluation;
use super::reward::Scorer;
use super::rollouts::{Codec, draw, judge};

/// Measures the model on `problems`. The draws follow from the seed alone, so that two measurements
/// of a run differ by the weights only.
pub fn evaluate(
    model: &Model,
    codec: &Codec,
    scorer: &mut Scorer,
    problems: &[Problem],
    config: &Config,
) -> Result<Evaluation> {
    let seed = mix(config.seed, 0x6576_616c);
    let mut pass = |settings, seed| -> Result<(usize, f64)> {
        let drawn = draw(model, codec, problems, &vec![1; problems.len()], settings, seed)?;
        let (mut right, mut reward) = (0, 0.0);
        for (problem, (_, completion)) in problems.iter().zip(&drawn) {
            let turns = codec.turns(&completion.ids, config.data.line_turns);
            let score =
                judge(codec, scorer, problem, &completion.ids, &turns, completion.truncated)?;
            right += usize::from(score.correct == Some(true));
            reward += score.reward;
        }
        Ok((right, reward / problems.len().max(1) as f64))
    };
    let (right, reward) = pass(&config.rollout, seed)?;
    let greedy = if config.eval.greedy {
        let settings = super::config::RolloutConfig { temperature: 0.0, ..config.rollout.clone() };
        Some(pass(&settings, seed)?.0)
    } else {
        None
    };
    let judged = scorer.gives_correct();
    Ok(Evaluation {
        problems: problems.len(),
        correct: judged.then_some(right),
        reward,
        greedy: greedy.filter(|_| judged),
    })
}
