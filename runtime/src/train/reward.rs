//! What a completion earns. Rules are pure functions of the completion, but for `command`, which
//! asks a process; their weighted sum is the reward.

use regex::Regex;

use super::arithmetic;
use super::config::{Config, RewardConfig};
use super::data::Problem;
use super::error::{Result, TrainError};
use super::external::Process;
use super::verify::same_answer;

/// A completion as the rules see it.
#[derive(Debug, Clone)]
pub struct Judged<'a> {
    /// What it answers.
    pub problem: &'a Problem,
    /// Its text, the end token left out.
    pub text: String,
    /// The text of each turn.
    pub turns: Vec<String>,
    /// Tokens, the end token included.
    pub tokens: usize,
    /// Cut off at the longest length.
    pub truncated: bool,
}

impl Judged<'_> {
    /// The gold answer; rules that compare with it are refused at the start where one is absent.
    fn gold(&self) -> &str {
        self.problem.answer.as_deref().unwrap_or_default()
    }
}

/// What the rules say of a completion.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Score {
    /// Weighted sum of the rules.
    pub reward: f64,
    /// Verdict of the first rule that gives one.
    pub correct: Option<bool>,
    /// For each turn, whether the step is right; of the first rule that says so.
    pub steps: Option<Vec<f64>>,
}

enum Rule {
    Exact,
    Numeric,
    Regex(Regex),
    Length { max: u64, slack: u64 },
    Arithmetic,
    Command(Box<Process>),
}

/// The run's rules.
pub struct Scorer {
    rules: Vec<(f64, Rule)>,
}

impl Scorer {
    /// Checks the run file's rewards and starts their processes.
    pub fn new(config: &Config) -> Result<Self> {
        let mut rules = Vec::new();
        for (i, reward) in config.reward.iter().enumerate() {
            let weight = reward.weight.unwrap_or(1.0);
            if !weight.is_finite() {
                return Err(TrainError::Config(format!("reward[{i}].weight is not finite")));
            }
            rules.push((weight, rule(reward, i, config)?));
        }
        Ok(Scorer { rules })
    }

    /// True without any rule.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// True when some rule says whether an answer is right.
    pub fn gives_correct(&self) -> bool {
        self.rules.iter().any(|(_, r)| match r {
            Rule::Exact | Rule::Numeric | Rule::Arithmetic => true,
            Rule::Command(p) => p.announced("correct"),
            Rule::Regex(_) | Rule::Length { .. } => false,
        })
    }

    /// True when some rule judges steps.
    pub fn gives_steps(&self) -> bool {
        self.rules.iter().any(|(_, r)| match r {
            Rule::Arithmetic => true,
            Rule::Command(p) => p.announced("step_correct"),
            Rule::Exact | Rule::Numeric | Rule::Regex(_) | Rule::Length { .. } => false,
        })
    }

    /// True when some rule compares with a gold answer.
    pub fn needs_answer(&self) -> bool {
        self.rules.iter().any(|(_, r)| matches!(r, Rule::Exact | Rule::Numeric))
    }

    /// Judges one completion.
    pub fn score(&mut self, judged: &Judged) -> Result<Score> {
        let mut total = Score::default();
        for (weight, rule) in &mut self.rules {
            let one = rule.score(judged)?;
            total.reward += *weight * one.reward;
            total.correct = total.correct.or(one.correct);
            total.steps = total.steps.take().or(one.steps);
        }
        Ok(total)
    }
}

fn rule(reward: &RewardConfig, index: usize, config: &Config) -> Result<Rule> {
    let name = format!("reward[{index}]");
    let needs = |what: &str, example: &str| {
        TrainError::Config(format!(
            "{name}: kind \"{}\" needs {what}: write {example}",
            reward.kind
        ))
    };
    Ok(match reward.kind.as_str() {
        "exact" => Rule::Exact,
        "numeric" => Rule::Numeric,
        "regex" => {
            let text = reward
                .pattern
                .as_ref()
                .ok_or_else(|| needs("a pattern", "pattern = '(?s)<think>.*</think>'"))?;
            Rule::Regex(
                Regex::new(text).map_err(|e| TrainError::Config(format!("{name}.pattern: {e}")))?,
            )
        }
        "length" => Rule::Length {
            max: reward.max.ok_or_else(|| needs("a bound in tokens", "max = 512"))?,
            slack: reward.slack.unwrap_or(0),
        },
        "arithmetic" if config.data.task != "prompts" => Rule::Arithmetic,
        "arithmetic" => {
            return Err(TrainError::Config(format!(
                "{name}: kind \"arithmetic\" judges the built-in task only; \
                 write kind = \"numeric\""
            )));
        }
        "command" => {
            let command = reward
                .command
                .clone()
                .filter(|c| !c.is_empty())
                .ok_or_else(|| needs("a command", "command = [\"python3\", \"judge.py\"]"))?;
            let seconds = reward.timeout.unwrap_or(10.0);
            if !(seconds > 0.0 && seconds < 1e6) {
                return Err(TrainError::Config(format!(
                    "{name}.timeout = {seconds} is not a time"
                )));
            }
            Rule::Command(Box::new(Process::start(&command, seconds)?))
        }
        other => {
            let known = ["exact", "numeric", "regex", "length", "command", "arithmetic"];
            let near = rlc_compiler::diagnostic::nearest(other, known);
            let hint = near.map_or_else(
                || format!("write one of {}", known.join(", ")),
                |n| format!("did you mean \"{n}\"?"),
            );
            return Err(TrainError::Config(format!(
                "{name}.kind = \"{other}\" is not known: {hint}"
            )));
        }
    })
}

impl Rule {
    fn score(&mut self, judged: &Judged) -> Result<Score> {
        let verdict =
            |right: bool| Score { reward: f64::from(right), correct: Some(right), steps: None };
        let value = |reward: f64| Score { reward, ..Score::default() };
        Ok(match self {
            Rule::Exact => verdict(judged.text.trim() == judged.gold().trim()),
            Rule::Numeric => verdict(same_answer(&judged.text, judged.gold())),
            Rule::Regex(pattern) => value(f64::from(pattern.is_match(&judged.text))),
            Rule::Length { max, slack } => {
                let over = (judged.tokens as u64).saturating_sub(*max);
                value((1.0 - over as f64 / (*slack as f64 + 1.0)).max(0.0))
            }
            Rule::Arithmetic => {
                let (right, steps) = arithmetic::verify(&judged.problem.prompt, &judged.turns);
                let right = right && !judged.truncated;
                let steps = steps.into_iter().map(f64::from).collect();
                Score { reward: f64::from(right), correct: Some(right), steps: Some(steps) }
            }
            Rule::Command(process) => process.score(judged)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scorer(text: &str) -> Result<Scorer> {
        let config = Config::parse(text, "run.toml")?;
        Scorer::new(&config)
    }

    fn score(scorer: &mut Scorer, text: &str, answer: &str, tokens: usize) -> Score {
        let problem =
            Problem { id: 0, prompt: "p".into(), answer: Some(answer.into()), line: None };
        let judged = Judged {
            problem: &problem,
            text: text.into(),
            turns: vec![text.into()],
            tokens,
            truncated: false,
        };
        scorer.score(&judged).unwrap()
    }

    #[test]
    fn weighted_sum() {
        let mut s = scorer(
            "[data]\ntask='prompts'\n[[reward]]\nkind='numeric'\n[[reward]]\nkind='regex'\n\
             pattern='^so'\nweight=0.5\n[[reward]]\nkind='length'\nmax=4\nslack=3\nweight=0.25\n",
        )
        .unwrap();
        assert!(s.gives_correct() && !s.gives_steps());
        let got = score(&mut s, "so it is 1,000", "1000", 6);
        assert_eq!(got.reward, 1.0 + 0.5 + 0.25 * 0.5);
        assert_eq!(got.correct, Some(true));
        assert_eq!(score(&mut s, "it is 7", "8", 4).reward, 0.25);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, wanted) in [
            ("[[reward]]\nkind='exakt'\n", "did you mean \"exact\""),
            ("[[reward]]\nkind='regex'\n", "needs a pattern"),
            ("[[reward]]\nkind='regex'\npattern='('\n", "reward[0].pattern"),
            ("[[reward]]\nkind='length'\n", "max = 512"),
            ("[[reward]]\nkind='command'\n", "needs a command"),
            ("[[reward]]\nkind='command'\ncommand=['/nonexistent-judge']\n", "nonexistent-judge"),
            ("[data]\ntask='prompts'\n[[reward]]\nkind='arithmetic'\n", "numeric"),
        ] {
            let e = scorer(text).err().unwrap().to_string();
            assert!(e.contains(wanted), "{e}");
        }
    }
}
