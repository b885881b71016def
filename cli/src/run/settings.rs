//! Flags over the run file over the defaults.

use rlc_runtime::train::config::{Config, RewardConfig};
use rlc_runtime::train::error::TrainError;

use super::Args;

/// The resolved settings of a new run.
pub fn merge(args: &Args) -> Result<Config, TrainError> {
    let mut config = match &args.config {
        Some(path) => Config::read(path)?,
        None => Config::default(),
    };
    set(&mut config.objective, args.objective.as_ref());
    set(&mut config.seed, args.seed.as_ref());
    set(&mut config.model.init, args.model.as_ref());
    set(&mut config.model.device, args.device.as_ref());
    set(&mut config.data.digits, args.digits.as_ref());
    set(&mut config.rollout.prompts, args.prompts.as_ref());
    set(&mut config.rollout.samples, args.samples.as_ref());
    set(&mut config.rollout.max_new_tokens, args.max_new_tokens.as_ref());
    set(&mut config.rollout.temperature, args.temperature.as_ref());
    config.steps = args.steps.or(config.steps);
    config.optimizer.lr = args.lr.or(config.optimizer.lr);
    config.checkpoint.dir = args.out.clone().or(config.checkpoint.dir);
    for (flag, task) in [(&args.data, "prompts"), (&args.offline, "offline")] {
        if flag.is_some() {
            task.clone_into(&mut config.data.task);
            config.data.file.clone_from(flag);
        }
    }
    for pair in &args.set {
        let (name, value) = param(pair)?;
        config.params.insert(name, value);
    }
    if !args.reward.is_empty() {
        config.reward = args.reward.iter().map(|r| reward(r)).collect::<Result<_, _>>()?;
    }
    config.resolve()
}

fn set<T: Clone>(slot: &mut T, flag: Option<&T>) {
    if let Some(value) = flag {
        *slot = value.clone();
    }
}

/// `name=value`; `true` and `false` are 1 and 0.
fn param(pair: &str) -> Result<(String, f64), TrainError> {
    let wrong = || {
        TrainError::Config(format!("--set {pair}: write --set NAME=NUMBER, as in --set beta=0.04"))
    };
    let (name, value) = pair.split_once('=').ok_or_else(wrong)?;
    let value = match value.trim() {
        "true" => 1.0,
        "false" => 0.0,
        number => number.parse::<f64>().map_err(|_| wrong())?,
    };
    Ok((name.trim().to_owned(), value))
}

/// `[WEIGHT*]KIND[=ARGUMENT]`.
fn reward(text: &str) -> Result<RewardConfig, TrainError> {
    let (weight, rest) = match text.split_once('*').map(|(w, r)| (w.trim().parse::<f64>(), r)) {
        Some((Ok(weight), rest)) => (Some(weight), rest),
        // The star belongs to a pattern or a command.
        _ => (None, text),
    };
    let (kind, argument) = match rest.split_once('=') {
        Some((kind, argument)) => (kind, Some(argument)),
        None => (rest, None),
    };
    let mut reward = RewardConfig { kind: kind.to_owned(), weight, ..RewardConfig::default() };
    match (kind, argument) {
        ("regex", Some(pattern)) => reward.pattern = Some(pattern.to_owned()),
        ("length", Some(max)) => {
            reward.max = Some(max.parse().map_err(|_| {
                TrainError::Config(format!("--reward {text}: write --reward length=512"))
            })?);
        }
        ("command", Some(command)) => {
            reward.command = Some(command.split_whitespace().map(str::to_owned).collect());
        }
        (_, Some(_)) => {
            return Err(TrainError::Config(format!(
                "--reward {text}: {kind} takes no argument; write --reward {kind}"
            )));
        }
        (_, None) => {}
    }
    Ok(reward)
}

/// A resumed run has its settings; flags that would change them are refused rather than ignored.
pub fn refuse_with_resume(args: &Args) -> Result<(), TrainError> {
    let given = [
        ("an objective", args.objective.is_some()),
        ("--config", args.config.is_some()),
        ("--steps", args.steps.is_some()),
        ("--lr", args.lr.is_some()),
        ("--seed", args.seed.is_some()),
        ("--set", !args.set.is_empty()),
        ("--model", args.model.is_some()),
        ("--data", args.data.is_some()),
        ("--offline", args.offline.is_some()),
        ("--reward", !args.reward.is_empty()),
        ("--prompts", args.prompts.is_some()),
        ("--samples", args.samples.is_some()),
        ("--max-new-tokens", args.max_new_tokens.is_some()),
        ("--temperature", args.temperature.is_some()),
        ("--out", args.out.is_some()),
        ("--force", args.force),
        ("--digits", args.digits.is_some()),
    ];
    match given.into_iter().find(|(_, set)| *set) {
        None => Ok(()),
        Some((flag, _)) => Err(TrainError::Config(format!(
            "--resume continues a run with its own settings: leave out {flag}, or start a new run \
             from its weights with --model DIR/model"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewards() {
        let r = reward("0.5*regex=^a*b$").unwrap();
        assert_eq!((r.weight, r.pattern.as_deref()), (Some(0.5), Some("^a*b$")));
        assert_eq!(reward("regex=a*=b").unwrap().pattern.as_deref(), Some("a*=b"));
        assert_eq!(reward("length=7").unwrap().max, Some(7));
        let c = reward("command=python3 judge.py").unwrap().command.unwrap();
        assert_eq!(c, ["python3", "judge.py"]);
        assert!(reward("numeric=1").is_err());
    }

    #[test]
    fn params() {
        assert_eq!(param("beta=0.04").unwrap(), ("beta".to_owned(), 0.04));
        assert_eq!(param("flag=true").unwrap().1, 1.0);
        assert!(param("beta").is_err() && param("beta=x").is_err());
    }
}
