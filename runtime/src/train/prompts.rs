//! Which prompts come next where a program says so: what its `sample` statements said of each prompt,
//! and draws by these weights. A draw follows from the seed, the step and what is known, so a resumed
//! run draws the same.

use std::collections::{BTreeMap, BTreeSet};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::data::{Problem, Source, mix};
use super::error::{Result, TrainError};
use super::learner::{State, StateValue};
use crate::objective::Samples;

/// What a message says of a number that is no `sample weight`.
pub const A_WEIGHT: &str =
    "a weight is a finite number, 0 or above; `max(0, ...)` takes away what is below";

/// Whether a number may be a `sample weight`.
pub fn is_weight(x: f64) -> bool {
    x.is_finite() && x >= 0.0
}

/// What is known of the prompts that were drawn.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Known {
    /// All that were drawn.
    seen: BTreeSet<i64>,
    /// Their last weights; a prompt whose groups the filters dropped may have none.
    weights: BTreeMap<i64, f64>,
    /// How many rollouts they get next.
    rollouts: BTreeMap<i64, usize>,
}

/// Prompts of one step.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawn {
    /// The prompts, each once.
    pub problems: Vec<Problem>,
    /// How far into the run's order new prompts have been taken.
    pub position: u64,
    /// Prompts drawn for the first time.
    pub new: usize,
    /// (sum w)^2 / (sum w^2) over all prompts: as many equal weights would spread draws as widely.
    pub effective: f64,
}

impl Known {
    /// As checkpoints keep it.
    pub fn to_state(&self) -> State {
        let mut state = State::new();
        if !self.seen.is_empty() {
            let keys = self.seen.iter().copied().collect();
            state.insert("seen".into(), StateValue { keys, values: Vec::new() });
        }
        let mut set = |name: &str, values: Vec<(i64, f64)>| {
            if !values.is_empty() {
                let (keys, values) = values.into_iter().unzip();
                state.insert(name.into(), StateValue { keys, values });
            }
        };
        set("weight", self.weights.iter().map(|(k, v)| (*k, *v)).collect());
        set("rollouts", self.rollouts.iter().map(|(k, v)| (*k, *v as f64)).collect());
        state
    }

    /// From a checkpoint.
    pub fn from_state(state: &State) -> Self {
        let get = |name: &str| state.get(name).cloned().unwrap_or_default();
        let pairs = |name: &str| {
            let StateValue { keys, values } = get(name);
            keys.into_iter().zip(values)
        };
        Known {
            seen: get("seen").keys.into_iter().collect(),
            weights: pairs("weight").collect(),
            rollouts: pairs("rollouts").map(|(k, v)| (k, v as usize)).collect(),
        }
    }

    /// Rollouts that a prompt gets, where the program said so.
    pub fn rollouts(&self, prompt: i64) -> Option<usize> {
        self.rollouts.get(&prompt).copied()
    }

    /// Takes in what a batch says of its groups' prompts. Groups of one prompt are averaged; groups
    /// that the filters dropped say nothing. At most `most` rollouts are allowed.
    pub fn learn(
        &mut self,
        source: &Source,
        prompts: &[i64],
        samples: &Samples,
        most: usize,
    ) -> Result<()> {
        self.seen.extend(prompts);
        let kept = |row: usize| samples.kept.as_ref().is_none_or(|k| k[row]);
        let said = |values: &Option<Vec<f64>>| -> Vec<(i64, f64)> {
            let rows = prompts.iter().zip(values.iter().flatten()).enumerate();
            rows.filter(|(row, _)| kept(*row)).map(|(_, (p, v))| (*p, *v)).collect()
        };
        let (weights, rollouts) = (said(&samples.weight), said(&samples.rollouts));
        for (prompt, weight) in &weights {
            if !is_weight(*weight) {
                return Err(TrainError::Objective(format!(
                    "`sample weight` is {weight} for {}: {A_WEIGHT}",
                    source.describe(*prompt)
                )));
            }
        }
        for (prompt, count) in &rollouts {
            if !count.is_finite() || *count > most as f64 {
                return Err(TrainError::Objective(format!(
                    "`sample rollouts` is {count} for {}: at most {most} are allowed; raise \
                     rollout.max_samples in the run file, or write `min({most}, ...)`",
                    source.describe(*prompt)
                )));
            }
        }
        self.weights.extend(averages(weights));
        let whole = |(p, n): (i64, f64)| (p, n.round().max(1.0) as usize);
        self.rollouts.extend(averages(rollouts).map(whole));
        Ok(())
    }

    /// Draws up to `count` different prompts, one after the other, each with a probability
    /// proportional to its weight among those that are left. Prompts without a weight have the mean of
    /// the known ones. New prompts come in the order of a run that does not weigh, of which `position`
    /// are used up. With fewer prompts of a weight above 0 than `count`, these are all.
    pub fn draw(
        &self,
        source: &Source,
        seed: u64,
        step: u64,
        position: u64,
        count: usize,
    ) -> Result<Drawn> {
        // Relative to the largest, so that no sum overflows.
        let top = self.weights.values().copied().fold(0.0, f64::max);
        let top = if top > 0.0 { top } else { 1.0 };
        let sum: f64 = self.weights.values().map(|w| w / top).sum();
        // Where all known weights are 0, any other number gives the new prompts the same chances.
        let mean = if sum > 0.0 { sum / self.weights.len() as f64 } else { 1.0 };
        let weight = |p: &i64| self.weights.get(p).map_or(mean, |w| w / top);
        let mut known: Vec<(i64, f64)> =
            self.seen.iter().map(|p| (*p, weight(p))).filter(|(_, w)| *w > 0.0).collect();
        let mut fresh = source.count().saturating_sub(self.seen.len() as u64);

        let new_mass = mean * fresh as f64;
        let first: f64 = known.iter().map(|k| k.1).sum::<f64>() + new_mass;
        let second: f64 = known.iter().map(|k| k.1 * k.1).sum::<f64>() + new_mass * mean;
        let effective = if second > 0.0 { first * first / second } else { 0.0 };

        let mut rng = ChaCha8Rng::seed_from_u64(mix(mix(seed, 0x7765_6967), step));
        let mut drawn = Drawn { problems: Vec::new(), position, new: 0, effective };
        let mut order = source.order(seed, position);
        let mut taken: BTreeSet<i64> = BTreeSet::new();
        while drawn.problems.len() < count && (!known.is_empty() || fresh > 0) {
            let old: f64 = known.iter().map(|k| k.1).sum();
            let mut at = rng.random::<f64>() * (old + mean * fresh as f64);
            let found = known.iter().position(|(_, w)| {
                at -= w;
                at < 0.0
            });
            // A sum's last bits may leave `at` just above all of them.
            let found = found.or(if fresh == 0 { known.len().checked_sub(1) } else { None });
            if let Some(index) = found {
                drawn.problems.push(source.problem(known.remove(index).0));
                continue;
            }
            let unseen = order.by_ref().find(|p| {
                drawn.position += 1;
                !self.seen.contains(&p.id) && !taken.contains(&p.id)
            });
            let Some(problem) = unseen else { break };
            taken.insert(problem.id);
            drawn.problems.push(problem);
            drawn.new += 1;
            fresh -= 1;
        }
        if drawn.problems.is_empty() {
            return Err(TrainError::Objective(format!(
                "`sample weight` is 0 for all {} prompts, so none can be drawn: give each a chance, \
                 as in `sample weight = 0.01 + ...`",
                self.seen.len()
            )));
        }
        Ok(drawn)
    }
}

/// The mean for each prompt.
fn averages(said: Vec<(i64, f64)>) -> impl Iterator<Item = (i64, f64)> {
    let mut sums: BTreeMap<i64, (f64, f64)> = BTreeMap::new();
    for (prompt, value) in said {
        let (sum, n) = sums.entry(prompt).or_default();
        (*sum, *n) = (*sum + value, *n + 1.0);
    }
    sums.into_iter().map(|(prompt, (sum, n))| (prompt, sum / n))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(count: usize) -> Source {
        let problem = |i: usize| Problem {
            id: i as i64,
            prompt: format!("p{i}"),
            answer: None,
            line: Some(i + 1),
        };
        Source::Prompts {
            file: "p.jsonl".into(),
            train: (0..count).map(problem).collect(),
            held_out: Vec::new(),
            fingerprint: 0,
        }
    }

    fn weigh(prompts: &[i64], weights: &[f64]) -> Samples {
        assert_eq!(prompts.len(), weights.len());
        Samples { weight: Some(weights.to_vec()), ..Samples::default() }
    }

    fn learned(source: &Source, prompts: &[i64], weights: &[f64]) -> Known {
        let mut known = Known::default();
        known.learn(source, prompts, &weigh(prompts, weights), 64).unwrap();
        known
    }

    fn ids(drawn: &Drawn) -> Vec<i64> {
        drawn.problems.iter().map(|p| p.id).collect()
    }

    #[test]
    fn without_weights_the_order_is_the_usual_one() {
        let source = file(10);
        let drawn = Known::default().draw(&source, 3, 0, 0, 4).unwrap();
        assert_eq!(drawn.problems, source.training(3, 0, 4));
        assert_eq!((drawn.position, drawn.new, drawn.effective), (4, 4, 10.0));
    }

    #[test]
    fn frequencies_follow_the_weights() {
        let source = file(4);
        let known = learned(&source, &[0, 1, 2], &[1.0, 0.0, 3.0]);
        // Prompt 3 is new: its weight is the mean, 4 / 3.
        let mut counts = [0u32; 4];
        for step in 0..6000 {
            let drawn = known.draw(&source, 1, step, 0, 1).unwrap();
            counts[ids(&drawn)[0] as usize] += 1;
        }
        let total = 1.0 + 3.0 + 4.0 / 3.0;
        for (count, weight) in counts.iter().zip([1.0, 0.0, 3.0, 4.0 / 3.0]) {
            let expected = 6000.0 * weight / total;
            // Five standard deviations of a count.
            assert!((f64::from(*count) - expected).abs() < 5.0 * 37.0, "{counts:?}");
        }
        assert_eq!(counts[1], 0);
    }

    #[test]
    fn a_step_draws_no_prompt_twice_and_is_a_function_of_the_seed() {
        let source = file(6);
        let known = learned(&source, &[0, 1, 2, 3], &[1e300, 1.0, 2.0, 1e308]);
        for step in 0..200 {
            let drawn = known.draw(&source, 9, step, 2, 5).unwrap();
            assert_eq!(drawn, known.draw(&source, 9, step, 2, 5).unwrap());
            let mut unique = ids(&drawn);
            unique.sort_unstable();
            unique.dedup();
            assert_eq!(unique.len(), 5);
        }
    }

    #[test]
    fn few_weights_give_a_small_step_and_none_an_error() {
        let source = file(3);
        let known = learned(&source, &[0, 1, 2], &[0.0, 2.0, 0.5]);
        let mut all = ids(&known.draw(&source, 0, 0, 3, 3).unwrap());
        all.sort_unstable();
        assert_eq!(all, [1, 2]);
        let none = learned(&source, &[0, 1, 2], &[0.0; 3]);
        let e = none.draw(&source, 0, 0, 3, 2).unwrap_err().to_string();
        assert!(e.contains("0 for all 3 prompts"), "{e}");
        // While there are new ones, these are drawn.
        let some = learned(&source, &[0, 1], &[0.0; 2]);
        assert_eq!(ids(&some.draw(&source, 0, 0, 0, 2).unwrap()), [2]);
    }

    #[test]
    fn what_a_batch_says_is_checked_and_averaged() {
        let source = file(3);
        let mut known = Known::default();
        for (weight, word) in [(-0.5, "-0.5"), (f64::NAN, "NaN"), (f64::INFINITY, "inf")] {
            let e = known.learn(&source, &[1], &weigh(&[1], &[weight]), 64).unwrap_err();
            let e = e.to_string();
            assert!(e.contains(word) && e.contains("p1") && e.contains("line 2"), "{e}");
        }
        let mut known = Known::default();
        let samples = Samples {
            weight: Some(vec![1.0, 2.0, -9.0]),
            rollouts: Some(vec![3.0, 4.0, 1e9]),
            kept: Some(vec![true, true, false]),
        };
        known.learn(&source, &[1, 1, 2], &samples, 64).unwrap();
        assert_eq!(known.weights, BTreeMap::from([(1, 1.5)]));
        assert_eq!((known.rollouts(1), known.rollouts(2)), (Some(4), None));
        assert_eq!(known, Known::from_state(&known.to_state()));
        let samples = Samples { rollouts: Some(vec![-3.0]), ..Samples::default() };
        known.learn(&source, &[0], &samples, 64).unwrap();
        assert_eq!(known.rollouts(0), Some(1));
        let samples = Samples { rollouts: Some(vec![65.0]), ..Samples::default() };
        let e = known.learn(&source, &[0], &samples, 64).unwrap_err().to_string();
        assert!(e.contains("rollout.max_samples") && e.contains("65"), "{e}");
    }

    #[test]
    fn arithmetic_prompts_are_counted_and_found() {
        let source = Source::Arithmetic { digits: 1 };
        let all = source.count();
        assert!((60..=100).contains(&all), "{all}");
        let drawn = Known::default().draw(&source, 4, 0, 0, all as usize + 5).unwrap();
        assert_eq!((drawn.problems.len() as u64, drawn.new as u64), (all, all));
        for problem in &drawn.problems {
            assert_eq!(source.problem(problem.id), *problem);
        }
        assert!(Source::Arithmetic { digits: 9 }.count() > 1 << 58);
    }
}
