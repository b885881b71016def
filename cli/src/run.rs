//! `rlc run`: settings from a file and flags, a progress display, and what to say at the end. The
//! loop itself is `rlc_runtime::train`.

mod progress;
mod settings;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rlc_runtime::objective::{Backend, Objective};
use rlc_runtime::train::compiled::Compiled;
use rlc_runtime::train::config::Config;
use rlc_runtime::train::error::TrainError;
use rlc_runtime::train::trainer::Summary;
use rlc_runtime::train::{Ended, Trainer, arithmetic, assets, checkpoint};

use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::{check, params, program};
use progress::Progress;

/// Stopped by Ctrl-C and saved, as shells count signals.
const STOPPED: u8 = 130;

/// Train a model with an objective
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rlc run examples/arithmetic/calib.rl              the embedded task and model, about 2 minutes
  rlc run grpo --set clip_high=0.28 --steps 40      an objective of the standard library
  rlc run my.rl --model DIR --data prompts.jsonl --reward numeric
  rlc run sft --offline demos.jsonl --model DIR     fine-tuning on recorded completions
  rlc run my.rl --config run.toml --dry-run         print every setting and stop
  rlc run --resume runs/my-1                        continue a stopped or killed run

Exit codes: 0 done; 1 failed while running; 2 bad input; 130 stopped by Ctrl-C and saved.")]
#[allow(clippy::struct_excessive_bools)] // independent flags
pub struct Args {
    /// A file, or the name of a library objective
    #[arg(value_name = "PROGRAM")]
    pub objective: Option<String>,
    /// Run file (TOML); flags override it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Rollout batches
    #[arg(long, value_name = "N")]
    pub steps: Option<u64>,
    /// Learning rate
    #[arg(long, value_name = "RATE")]
    pub lr: Option<f64>,
    /// Every random choice follows from it
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Value of a param of the program
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// embedded, random, random:DIR or a Hugging Face folder
    #[arg(long, value_name = "DIR")]
    pub model: Option<String>,
    /// Where the model computes: cpu, cuda, cuda:N, or cpu-candle (what a GPU does, on the CPU)
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Prompts with answers (JSONL)
    #[arg(long, value_name = "FILE", conflicts_with = "offline")]
    pub data: Option<String>,
    /// Rollouts from a file (JSONL) instead of the sampler
    #[arg(long, value_name = "FILE")]
    pub offline: Option<String>,
    /// A reward, replacing those of the run file: exact, numeric, arithmetic, regex=PATTERN,
    /// length=TOKENS or command=PROGRAM ARGS; 0.5*… gives it a weight
    #[arg(long, value_name = "KIND")]
    pub reward: Vec<String>,
    /// Prompts in a batch
    #[arg(long, value_name = "N")]
    pub prompts: Option<usize>,
    /// Completions of each prompt
    #[arg(long, value_name = "N")]
    pub samples: Option<usize>,
    /// Longest completion, in tokens
    #[arg(long, value_name = "TOKENS")]
    pub max_new_tokens: Option<usize>,
    /// Temperature of sampling and of the program's logp
    #[arg(long, value_name = "T")]
    pub temperature: Option<f64>,
    /// The run's folder [default: runs/OBJECTIVE-N]
    #[arg(long, value_name = "DIR")]
    pub out: Option<String>,
    /// Replace the run that --out holds
    #[arg(long)]
    pub force: bool,
    /// Continue the run in a folder, with its own settings
    #[arg(long, value_name = "DIR")]
    pub resume: Option<PathBuf>,
    /// Print the resolved settings as TOML and stop
    #[arg(long, conflicts_with = "json")]
    pub dry_run: bool,
    /// No progress display
    #[arg(long, short)]
    pub quiet: bool,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
    /// Write N demonstrations of the arithmetic task to --out FILE and stop
    #[arg(long, value_name = "N")]
    pub make_demos: Option<u64>,
    /// Share of lines that go wrong in --make-demos
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub slip: f64,
    /// Digits of the arithmetic task's numbers
    #[arg(long, value_name = "N")]
    pub digits: Option<u32>,
}

/// Runs the command.
pub fn run(args: &Args, output: &Output) -> Outcome {
    if let Some(count) = args.make_demos {
        return make_demos(args, count, output);
    }
    if let Some(dir) = &args.resume {
        settings::refuse_with_resume(args).map_err(failure)?;
        let dir = &go_back_to_start(dir)?;
        let mut config = Config::read(&checkpoint::config_file(dir)).map_err(failure)?;
        // The only setting that may change: a run may move to another machine.
        if let Some(device) = &args.device {
            config.model.device.clone_from(device);
            config = config.resolve().map_err(failure)?;
        }
        assets::use_suggested_threads(&config.model.init);
        let (learner, program) = learner(&config, output)?;
        let trainer = Trainer::resume(dir, config, learner, program).map_err(failure)?;
        if !args.quiet {
            output.say(&format!("resuming {} after step {}\n", dir.display(), trainer.step()));
        }
        return train(trainer, args, output);
    }
    let mut config = settings::merge(args).map_err(failure)?;
    match config.objective.as_str() {
        "" => {
            return Err(Failure::input(
                "no objective",
                "write `rlc run FILE.rl`, or a name from `rlc recipes`, as in `rlc run grpo`",
            ));
        }
        "-" => {
            return Err(Failure::input(
                "a run is resumed from its program, which stdin cannot give twice",
                "write the program to a file and name that",
            ));
        }
        _ => {}
    }
    if config.checkpoint.dir.is_none() {
        let dir = checkpoint::default_dir(&config.objective);
        config.checkpoint.dir = Some(dir.display().to_string());
    }
    assets::use_suggested_threads(&config.model.init);
    // Before a dry run too, which is there to find mistakes.
    let (learner, program) = learner(&config, output)?;
    if args.dry_run {
        return output.print(&config.to_toml().map_err(failure)?);
    }
    let trainer = Trainer::create(config, learner, program, args.force).map_err(failure)?;
    train(trainer, args, output)
}

/// The paths in a run's settings are relative to where it was started: goes there, where that folder
/// still exists. Returns the run's folder as seen from anywhere.
fn go_back_to_start(dir: &Path) -> Outcome<PathBuf> {
    let (_, saved) = checkpoint::newest(dir).map_err(failure)?;
    let dir = std::fs::canonicalize(dir).unwrap_or_else(|_| dir.to_path_buf());
    // A run that moved with its files is resumed from where the user stands.
    let _ = std::env::set_current_dir(saved.started_in);
    Ok(dir)
}

fn failure(error: TrainError) -> Failure {
    Failure::Said { code: error.exit_code(), message: error.to_string(), help: String::new() }
}

/// Compiles the objective under the run's params; the number identifies the program.
pub fn learner(config: &Config, output: &Output) -> Outcome<(Box<Compiled>, u64)> {
    let mut program = program::open(&config.objective)?;
    let checked = check::or_stop(&mut program, output)?;
    let sets: Vec<String> = config.params.iter().map(|(n, v)| format!("{n}={v}")).collect();
    let values = params::values(&checked.graph, &sets)?;
    let names: Vec<String> = checked.graph.params.iter().map(|p| p.name.clone()).collect();
    let mut objective = Objective::new(checked, Backend::Cpu);
    for (name, value) in names.iter().zip(values) {
        objective.set_param(name, value).map_err(|e| Failure::input(e.to_string(), ""))?;
    }
    let texts: Vec<&str> = program.sources.iter().map(|(_, s)| s.text.as_str()).collect();
    Ok((Box::new(Compiled::new(objective)), rlc_runtime::fingerprint(texts.join("\0").as_bytes())))
}

fn train(mut trainer: Trainer, args: &Args, output: &Output) -> Outcome {
    let stop = Arc::new(AtomicBool::new(false));
    let handler = Arc::clone(&stop);
    // A failure here means that a handler exists already: then Ctrl-C does what that one does.
    let _ = ctrlc::set_handler(move || {
        if handler.swap(true, Ordering::SeqCst) {
            std::process::exit(i32::from(STOPPED));
        }
        eprintln!("\nstopping after this step; press Ctrl-C again to stop without saving");
    });
    let dir = trainer.dir().to_path_buf();
    if !args.quiet {
        output.say(&format!("{}\n", headline(&trainer)));
    }
    let mut progress = Progress::new(args.quiet, output.clone());
    let ended = trainer.train(&stop, &mut progress);
    progress.clear();
    let ended = ended.map_err(|e| Failure::Said {
        code: e.exit_code(),
        message: e.to_string(),
        help: format!(
            "nothing before the last checkpoint is lost: rlc run --resume {}",
            dir.display()
        ),
    })?;
    match ended {
        Ended::Stopped { step } => {
            output.say(&format!(
                "stopped and saved after step {step}; continue with: rlc run --resume {}\n",
                dir.display()
            ));
            Err(Failure::Reported(STOPPED))
        }
        Ended::Finished(summary) => {
            let text = if args.json { json(&summary, &dir) } else { report(&summary, &dir) };
            output.print(&format!("{text}\n"))
        }
    }
}

fn headline(trainer: &Trainer) -> String {
    let c = trainer.config();
    let batch = if c.data.task == "offline" {
        format!("{} recorded completions", c.data.batch)
    } else {
        format!("{} prompts x {} samples", c.rollout.prompts, c.rollout.samples)
    };
    let mut text = format!(
        "{}: {} on model {} ({} parameters), {batch}, {} steps x {} updates, coupling {}, into {}",
        c.objective,
        c.data.task,
        c.model.init,
        trainer.parameters(),
        c.total_steps(),
        c.optimizer.updates_per_batch,
        trainer.reads().coupling,
        trainer.dir().display()
    );
    for (metric, lacks) in &trainer.reads().left_out {
        text += &format!("\nnote: metric {metric} is left out: no column {}", lacks.join(", "));
    }
    text
}

fn report(summary: &Summary, dir: &Path) -> String {
    let mut lines = Vec::new();
    if let (Some(before), Some(after)) = (&summary.before, &summary.after) {
        lines.push(format!("held out, {} problems [95% interval]", before.problems));
        let mut line = |name: &str, b: Option<usize>, a: Option<usize>| {
            if let (Some(b), Some(a)) = (b, a) {
                let (b, a) = (before.share(b), after.share(a));
                lines.push(format!("  {name}  before {b}   after {a}"));
            }
        };
        line("accuracy, sampled", before.correct, after.correct);
        line("accuracy, greedy ", before.greedy, after.greedy);
        if before.correct.is_none() {
            let (b, a) = (before.reward, after.reward);
            lines.push(format!("  reward, sampled  before {b:.3}   after {a:.3}"));
        }
    }
    lines.push(format!("model       {}", summary.model.display()));
    lines.push(format!("metrics     {}", dir.join("metrics.jsonl").display()));
    lines.push(format!("settings    {}", checkpoint::config_file(dir).display()));
    lines.join("\n")
}

fn json(summary: &Summary, dir: &Path) -> String {
    serde_json::json!({
        "dir": dir.display().to_string(),
        "model": summary.model.display().to_string(),
        "before": summary.before,
        "after": summary.after,
    })
    .to_string()
}

fn make_demos(args: &Args, count: u64, output: &Output) -> Outcome {
    let Some(out) = &args.out else {
        return Err(Failure::input(
            "--make-demos has nowhere to write",
            "write `rlc run --make-demos 1000 --out demos.jsonl`",
        ));
    };
    if !(0.0..=1.0).contains(&args.slip) {
        return Err(Failure::input(format!("--slip {} is outside [0, 1]", args.slip), ""));
    }
    let digits = args.digits.unwrap_or(Config::default().data.digits);
    if !(1..=9).contains(&digits) {
        return Err(Failure::input(format!("--digits {digits} is outside [1, 9]"), ""));
    }
    let seed = args.seed.unwrap_or(0);
    arithmetic::write_demonstrations(Path::new(out), count, digits, args.slip, seed)
        .map_err(failure)?;
    if !args.quiet {
        output.say(&format!("{count} demonstrations in {out}\n"));
    }
    Ok(())
}
