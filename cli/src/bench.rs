//! `rlc bench`: how fast an objective runs on this machine, beside what memory allows.
//!
//! What a pass starts from is logits, log-probs ([`pass`]), or hidden states and an output projection
//! ([`hidden`]).

mod batch;
mod compile;
mod cost;
mod growth;
mod hidden;
mod hidden_on_gpu;
pub(crate) mod machine;
mod on_gpu;
mod pass;
mod progress;
mod text;
mod work;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use clap::builder::RangedU64ValueParser;
use rlc_compiler::check::Checked;
use rlc_compiler::hir::ColumnId;
use rlc_compiler::level::VOCAB;
use rlc_compiler::specialize::Settings;
use rlc_compiler::table::Table;
use rlc_runtime::device::DeviceError;
use rlc_runtime::device::cuda::gpu::Gpu;
use rlc_runtime::objective::{Backend, Objective, ObjectiveError};
use rlc_runtime::train::assets;

use crate::failure::{Failure, Outcome};
use crate::output::{Output, write_file};
use crate::{check, eval, params, program};

use batch::Wanted;
use hidden::States;
use progress::Progress;
use text::{Report, Speed};

/// Measure an objective: time, bytes and memory of a pass, against this machine's copy bandwidth
///
/// Runs the compiled kernel on a made-up ragged batch, or on yours, from columns and logits to loss and
/// gradient. A pass reuses all memory; `fresh` is a batch through the whole runtime, as training runs it, with
/// the table checked, the gradient copied out and searched for what is not finite. The floor is the time in which this machine copies the bytes that every
/// pass must move, each array counted once: batches that fit into a cache may run faster than that.
#[derive(Debug, clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "flags of a command line")]
#[command(after_help = "\
Examples:
  rlc bench grpo                                512 tokens x 32,000 logits
  rlc bench gspo --tokens 2048 --vocab 8192 --dtype bf16
  rlc bench grpo --logp --tokens 35422          log-probs given: no logits
  rlc bench grpo --hidden 896 --tokens 2048 --threads 2 --memory 0.25
  rlc bench calib.rl --batch b.safetensors --micro-batch 4
  rlc bench grpo --set beta=0.04 --json | jq .time.pass.median
  rlc bench grpo --growth -o growth.svg         time against tokens, vocabulary and pieces
  rlc bench grpo --device cuda --tokens 16384 --vocab 151936 --dtype bf16
  rlc bench grpo --device cuda --logp --tokens 1000000
  rlc bench --compile-times                     of every library objective

JSON has seconds, bytes, and bytes per second.")]
pub struct Args {
    #[arg(value_name = "OBJECTIVE", help = program::HELP, required_unless_present = "compile_times")]
    objective: Option<String>,
    /// A batch of yours, a safetensors file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tokens", "vocab", "dtype", "groups", "rollouts", "logp", "hidden"])]
    batch: Option<PathBuf>,
    /// Tokens of the batch
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = count())]
    tokens: usize,
    /// Entries of a token's logits
    #[arg(long, value_name = "V", default_value_t = 32_000, value_parser = count())]
    vocab: usize,
    /// Number type of the logits
    #[arg(long, value_enum, default_value_t = Dtype::F32)]
    dtype: Dtype,
    /// Groups [default: 1 to 8, about 64 tokens a rollout]
    #[arg(long, value_name = "G", value_parser = count())]
    groups: Option<usize>,
    /// Rollouts of a group [default: 8]
    #[arg(long, value_name = "R", value_parser = count())]
    rollouts: Option<usize>,
    /// Start from log-probs instead of logits
    #[arg(long, conflicts_with_all = ["vocab", "dtype"])]
    logp: bool,
    /// Start from hidden states of H numbers and an output projection: products are measured beside
    #[arg(long, value_name = "H", conflicts_with_all = ["logp", "dtype"], value_parser = count())]
    hidden: Option<usize>,
    /// From hidden states: extra memory, for logits and what products pack, as a share of all logits
    /// [default: a sixteenth, but at least logits of 128 tokens and 32 MiB]
    #[arg(long, value_name = "SHARE")]
    memory: Option<f64>,
    /// What runs the live stage; on a GPU its own events time it
    #[arg(long, value_enum, default_value_t = On::Cpu, conflicts_with_all = ["growth", "memory", "out", "compile_times"])]
    device: On,
    /// Threads of kernels and matrix products; the copy bandwidth is that of as many
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = count())]
    threads: usize,
    /// Run in pieces of N rollouts [default: the whole batch]
    #[arg(long, value_name = "N", value_parser = count())]
    micro_batch: Option<usize>,
    /// Set a param
    #[arg(long = "set", value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// How long to repeat; at least three passes
    #[arg(long, value_name = "S", default_value_t = 2.0)]
    seconds: f64,
    /// Leave out the passes through the whole runtime, `fresh`
    #[arg(long)]
    only_reused: bool,
    /// Measure how time grows with tokens, vocabulary and pieces instead
    #[arg(long, conflicts_with_all = ["batch", "tokens", "vocab", "groups", "rollouts", "logp", "hidden", "micro_batch"])]
    growth: bool,
    /// Where the loss and the gradients that were computed go, a safetensors file; with --growth a plot
    /// in SVG
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Measure the compiler instead, on every library objective
    #[arg(long, conflicts_with_all = ["objective", "batch"])]
    compile_times: bool,
}

/// What `--device` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum On {
    /// Compiled CPU kernels
    Cpu,
    /// CUDA kernels on the first GPU (not yet run on one)
    Cuda,
}

/// Number types of logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Dtype {
    /// 32 bits
    F32,
    /// bfloat16
    Bf16,
    /// 16 bits
    F16,
    /// 64 bits
    F64,
}

impl Dtype {
    fn bytes(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::Bf16 | Dtype::F16 => 2,
            Dtype::F64 => 8,
        }
    }
}

fn count() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..u64::from(u32::MAX))
}

/// Runs the command.
pub fn run(args: &Args, output: &Output) -> Outcome {
    if !(args.seconds >= 0.0 && args.seconds <= 3600.0) {
        return Err(Failure::input(
            format!("`--seconds {}` is no time to measure for", args.seconds),
            "0 to 3600; 0 is three passes and a rough look at memory",
        ));
    }
    let Some(name) = args.objective.as_deref().filter(|_| !args.compile_times) else {
        return compile::library(args.json, output);
    };
    if args.memory.is_some_and(|share| !(share > 0.0 && share <= 1.0)) {
        return Err(Failure::input("`--memory` is a share of the logits' memory", "0.25, say"));
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if args.threads > 4 * cores {
        return Err(Failure::input(
            format!("`--threads {}` is more than this machine's {cores} cores run", args.threads),
            format!("at most four times as many, {}", 4 * cores),
        ));
    }
    if !assets::use_threads(args.threads) {
        return Err(Failure::running("the number of threads is settled already", "a fault of rlc"));
    }
    let load = machine::load();
    let mut opened = program::open(name)?;
    let checked = check::or_stop(&mut opened, output)?;
    let values = params::values(&checked.graph, &args.set)?;
    let settings = Settings { params: values.clone(), ..Settings::default() };
    if args.growth {
        return growth::run(args, &mut with_params(checked, &values)?, &values, output);
    }
    if args.device == On::Cuda {
        // Before a batch of some gigabytes is made for nothing.
        Gpu::new(0).map_err(device)?;
    }
    let source = opened.sources.get(opened.root);
    let progress = Progress::new();
    progress.say("compiling");
    let compiling = compile::measure(source, &opened.files, &settings)?;

    progress.say("making the batch");
    let mut objective = with_params(checked, &values)?;
    let mut table = match &args.batch {
        Some(path) => eval::read(path)?,
        None => given(args, &mut objective)?,
    };
    if args.device == On::Cuda && table.arrays.contains_key(hidden::STATES) {
        let time = Duration::from_secs_f64(args.seconds);
        let measured = hidden_on_gpu::measure(objective, table, "cuda", time, &progress)?;
        progress.end();
        return if args.json {
            output.print(&format!("{}\n", measured.json(name)))
        } else {
            output.print(&measured.text(name))
        };
    }
    if args.device == On::Cuda {
        let time = Duration::from_secs_f64(args.seconds);
        let micro_batch = args.micro_batch.unwrap_or(usize::MAX);
        let wanted = (micro_batch, time);
        let measured = on_gpu::measure(&mut objective, &table, &values, wanted, &progress, output)?;
        progress.end();
        return if args.json {
            output.print(&format!("{}\n", measured.json(name)))
        } else {
            output.print(&measured.text(name))
        };
    }
    let states = States::take(&mut table)?;
    let time = Duration::from_secs_f64(args.seconds);
    let micro_batch = args.micro_batch.unwrap_or(usize::MAX);
    let keep = args.out.is_some();
    let (measured, gradients) = match (&states, args.memory) {
        (Some(states), share) => {
            let wanted = hidden::Wanted { micro_batch, share, time, keep };
            hidden::measure(&mut objective, &table, states, &wanted, &progress)?
        }
        (None, None) => {
            let wanted = pass::Wanted { micro_batch, time, keep, fresh: !args.only_reused };
            pass::measure(&mut objective, &table, &values, &wanted, &progress)?
        }
        (None, Some(_)) => {
            return Err(Failure::input(
                "`--memory` is for hidden states: logits that are given lie in memory already",
                "`--hidden H`",
            ));
        }
    };
    let peak = machine::peak();
    drop((table, states));
    if let Some(path) = &args.out {
        let bytes = rlc_runtime::batch::to_bytes(&gradients)
            .map_err(|why| Failure::running(format!("cannot write the gradients: {why}"), ""))?;
        write_file(path, &bytes)?;
    }
    let speed = speed(args, &progress);
    progress.end();
    let report =
        Report { objective: name, threads: args.threads, measured, speed, compiling, load, peak };
    if args.json {
        return output.print(&format!("{}\n", report.json()));
    }
    output.print(&report.text(output))
}

/// What this machine does in the time that is left for it.
fn speed(args: &Args, progress: &Progress) -> Speed {
    let time = Duration::from_secs_f64(args.seconds.min(2.0) / 8.0);
    progress.say("copying memory");
    let copying = machine::copying(args.threads, 2 * time);
    progress.say("multiplying matrices");
    let size = if time.is_zero() { 128 } else { 1024 };
    Speed { copying, size, multiplying: machine::multiplying(size, time) }
}

fn with_params(checked: Checked, values: &[f64]) -> Outcome<Objective> {
    let names: Vec<String> = checked.graph.params.iter().map(|p| p.name.clone()).collect();
    let mut objective = Objective::new(checked, Backend::Cpu);
    for (name, value) in names.iter().zip(values) {
        objective.set_param(name, *value).map_err(objective_failure)?;
    }
    Ok(objective)
}

/// Every column of a program, `level/name`.
fn columns(objective: &Objective) -> impl Iterator<Item = String> {
    let graph = &objective.checked().graph;
    (0..graph.columns.len()).map(|i| graph.column_path(ColumnId(i as u16)))
}

/// The made-up batch, with logits or with log-probs.
fn given(args: &Args, objective: &mut Objective) -> Outcome<Table> {
    let mut offered: BTreeSet<String> = columns(objective).collect();
    if args.logp {
        offered.remove("vocab/logits");
    } else {
        offered.insert("vocab/logits".to_owned());
    }
    let specialized = objective.specialized(Some(offered)).map_err(objective_failure)?;
    let reads = crate::synthetic::reads(&specialized.program);
    let vocab_level: Vec<_> = reads.iter().filter(|r| r.level == VOCAB).collect();
    if let (true, Some(read)) = (args.logp, vocab_level.first()) {
        return Err(Failure::input(
            format!("the program reads `{}`, so log-probs are not enough for it", read.path),
            "leave out `--logp`",
        ));
    }
    let entries = args.tokens as f64 * args.vocab as f64 * vocab_level.len() as f64;
    let states = args.hidden.unwrap_or(0) as f64 * (args.tokens + args.vocab) as f64;
    let bytes = (entries * (args.dtype.bytes() + 4) as f64 + 16.0 * states) * 1.5;
    if let Some(free) = machine::available().filter(|free| bytes > *free as f64) {
        return Err(Failure::input(
            format!(
                "{} tokens of {} logits need {:.1} GB, and {} are free",
                args.tokens,
                args.vocab,
                bytes / 1e9,
                text::size(free)
            ),
            "a smaller `--tokens` or `--vocab`",
        ));
    }
    let temperature = objective.param("temperature").unwrap_or(1.0);
    let wanted = Wanted {
        tokens: args.tokens,
        vocab: args.vocab,
        dtype: args.dtype,
        hidden: args.hidden,
        groups: args.groups,
        rollouts: args.rollouts,
        temperature,
    };
    batch::build(&specialized.program, &wanted)
}

fn objective_failure(error: ObjectiveError) -> Failure {
    match error {
        ObjectiveError::NotFinite(text) => {
            Failure::running(text, "measure with a batch of yours: `--batch FILE`")
        }
        ObjectiveError::Device(error) => device(error),
        other => Failure::input(other.to_string(), ""),
    }
}

fn device(error: DeviceError) -> Failure {
    match error {
        DeviceError::Unsupported(why) => {
            Failure::input(why.to_string(), "only compiled programs can be measured")
        }
        DeviceError::Cuda(why) => Failure::input(
            why,
            "`rlc doctor` says what this machine has; without `--device cuda` the CPU is measured",
        ),
        other => Failure::running(other.to_string(), ""),
    }
}
