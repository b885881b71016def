//! `rlc eval`: loss, gradients and metrics of one batch file.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use rlc_compiler::table::{Array, Data, Table};
use rlc_runtime::batch::{self, BatchError};
use rlc_runtime::device::DeviceError;
use rlc_runtime::objective::{self, Logits, Objective, ObjectiveError};
use rlc_runtime::train::prompts;
use serde_json::json;

use crate::failure::{Failure, Outcome};
use crate::output::{Output, plain, write_file};
use crate::{check, gpu, params, program};

/// Evaluate a program on a batch: loss, gradients, metrics
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rlc eval grpo --batch b.safetensors
  rlc eval calib.rl --batch b.safetensors --set beta=0.04 --json
  rlc eval calib.rl --batch b.safetensors --emit advantage,ratio --out r.safetensors
  rlc eval gspo --batch b.safetensors --micro-batch 4 --backend interp

r.safetensors holds `loss`, `grad/<input>` for every differentiable input, `value/<name>` for every \
definition of --emit, `state/<name>` after the batch and `sample/weight`, `sample/rollouts`. \
They are f64 with the interpreter, else f32.")]
pub struct Args {
    #[arg(value_name = "PROGRAM", help = program::HELP)]
    program: String,
    /// The batch, a safetensors file
    #[arg(long, value_name = "FILE")]
    batch: PathBuf,
    /// Set a param
    #[arg(long = "set", value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// What computes
    #[arg(long, visible_alias = "device", value_enum, default_value_t = Backend::Cpu)]
    backend: Backend,
    /// Definitions to store in --out, each at its own level
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    emit: Vec<String>,
    /// Where loss, gradients and values go, a safetensors file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Run in pieces of N rollouts; the result is that of the whole batch
    #[arg(long, value_name = "N")]
    micro_batch: Option<usize>,
}

/// What computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Backend {
    /// The f64 interpreter: the reference
    Interp,
    /// Compiled CPU kernels
    Cpu,
    /// CUDA kernels for what needs the policy, on the first GPU (not yet run on one)
    Cuda,
}

/// Runs the command.
pub fn run(args: &Args, output: &Output) -> Outcome {
    let backend = match args.backend {
        Backend::Interp => objective::Backend::Interp,
        Backend::Cpu | Backend::Cuda => objective::Backend::Cpu,
    };
    let mut program = program::open(&args.program)?;
    let checked = check::or_stop(&mut program, output)?;
    let values = params::values(&checked.graph, &args.set)?;
    let names: Vec<String> = checked.graph.params.iter().map(|p| p.name.clone()).collect();
    let mut objective = Objective::new(checked, backend);
    if args.backend == Backend::Cuda {
        objective.set_device(Some(gpu::maker(output)));
    }
    for (name, value) in names.iter().zip(values) {
        objective.set_param(name, value).map_err(failure)?;
    }
    let mut emit: Vec<String> = args.emit.iter().map(|n| n.trim().to_owned()).collect();
    emit.retain(|n| !n.is_empty());
    objective.emit(emit);

    let table = read(&args.batch)?;
    if table.get("vocab/logits").is_some() {
        for name in ["token/logp", "token/entropy"] {
            if table.get(name).is_some() {
                output.warn(&format!(
                    "`{name}` is ignored: the batch has `vocab/logits`, from which it is computed"
                ));
            }
        }
    }
    check_ranges(&table, output);
    let mut step = objective.begin(&table, Logits::InTable).map_err(failure)?;
    let rollouts = args.micro_batch.unwrap_or(usize::MAX);
    for piece in step.exact_pieces(rollouts).map_err(failure)? {
        step.live(piece, None).map_err(failure)?;
    }
    let outcome = step.finish().map_err(failure)?;
    check_samples(&outcome.samples)?;

    for (metric, lacks) in &outcome.left_out {
        let lacks: Vec<String> = lacks.iter().map(|c| format!("`{c}`")).collect();
        output.say(&format!(
            "note: the metric `{metric}` is left out: the batch has no {}\n",
            lacks.join(" and no ")
        ));
    }
    if let Some(path) = &args.out {
        let bytes = batch::to_bytes(&result(outcome, args.backend == Backend::Interp))
            .map_err(|why| Failure::running(format!("cannot write the result: {why}"), ""))?;
        write_file(path, &bytes)?;
    }
    if args.json {
        let mut value = json!({
            "loss": outcome.loss,
            "metrics": outcome.metrics,
            "coupling": outcome.coupling,
            "kept": outcome.kept,
        });
        let samples: serde_json::Map<_, _> = samples(outcome)
            .map(|(name, values)| (name.to_owned(), summary(&outcome.samples, values)))
            .collect();
        if !samples.is_empty() {
            value["sample"] = samples.into();
        }
        return output.print(&format!("{value}\n"));
    }
    output.print(&text(outcome, args.out.as_deref()))
}

/// Reads a batch file.
pub fn read(path: &Path) -> Outcome<Table> {
    if path.is_dir() {
        return Err(Failure::input(
            format!("cannot read the batch `{}`: it is a folder", path.display()),
            "a batch is one safetensors file",
        ));
    }
    batch::read(path).map_err(batch_failure)
}

/// What `--out` holds.
fn result(outcome: &objective::Outcome, double: bool) -> Table {
    let store = |array: &Array| {
        let data = match &array.data {
            Data::F64(v) if !double => Data::F32(v.iter().map(|&x| x as f32).collect()),
            other => other.clone(),
        };
        Array { data, shape: array.shape.clone() }
    };
    let loss = Array { data: Data::F64(vec![outcome.loss]), shape: vec![] };
    let mut arrays = BTreeMap::from([("loss".to_owned(), store(&loss))]);
    arrays.extend(outcome.grads.iter().map(|(n, a)| (format!("grad/{n}"), store(a))));
    arrays.extend(outcome.values.iter().map(|(n, a)| (format!("value/{n}"), store(a))));
    arrays.extend(outcome.state.arrays.iter().map(|(n, a)| (n.clone(), store(a))));
    for (name, values) in samples(outcome) {
        let array = Array::vector(Data::F64(values.to_vec()));
        arrays.insert(format!("sample/{name}"), store(&array));
        if let Some(kept) = &outcome.samples.kept {
            let kept = kept.iter().map(|k| u8::from(*k)).collect();
            arrays.insert("sample/kept".to_owned(), Array::vector(Data::U8(kept)));
        }
    }
    Table { arrays }
}

/// What `sample` statements gave, by the word after `sample`.
fn samples(outcome: &objective::Outcome) -> impl Iterator<Item = (&'static str, &[f64])> {
    let samples = &outcome.samples;
    [("weight", &samples.weight), ("rollouts", &samples.rollouts)]
        .into_iter()
        .filter_map(|(name, values)| Some((name, values.as_deref()?)))
}

/// The values of the groups that filters kept, with their rows.
fn kept<'a>(
    samples: &'a objective::Samples,
    values: &'a [f64],
) -> impl Iterator<Item = (usize, f64)> + 'a {
    let kept = |i: usize| samples.kept.as_ref().is_none_or(|k| k[i]);
    values.iter().copied().enumerate().filter(move |(i, _)| kept(*i))
}

/// Refuses what `rlc run` would refuse to draw by.
fn check_samples(samples: &objective::Samples) -> Outcome {
    let bad = |values: &Option<Vec<f64>>, fits: fn(f64) -> bool| {
        let values = values.as_deref().unwrap_or_default();
        kept(samples, values).find(|(_, x)| !fits(*x))
    };
    if let Some((group, weight)) = bad(&samples.weight, prompts::is_weight) {
        return Err(Failure::running(
            format!("`sample weight` is {weight} for group {group}"),
            prompts::A_WEIGHT,
        ));
    }
    if let Some((group, count)) = bad(&samples.rollouts, f64::is_finite) {
        return Err(Failure::running(
            format!("`sample rollouts` is {count} for group {group}"),
            "a number of rollouts is finite; it is rounded, and at least 1",
        ));
    }
    Ok(())
}

/// Says where a column with a declared range leaves it. Whether that does harm is the program's affair.
fn check_ranges(table: &Table, output: &Output) {
    for (name, meaning) in [
        ("turn/step_correct", "how right a step is"),
        ("batch/train.progress", "the share of the training that is done"),
    ] {
        let Some(array) = table.get(name) else { continue };
        let outside = |x: &f64| *x < 0.0 || *x > 1.0;
        let all = (0..array.data.len()).map(|i| array.data.get(i));
        if let Some((i, x)) = all.enumerate().find(|(_, x)| outside(x)) {
            output
                .warn(&format!("`{name}` has {x} at entry {i}, but it is {meaning}, from 0 to 1"));
        }
    }
}

/// Mean and range over the groups that filters kept; null where they kept none.
fn summary(samples: &objective::Samples, values: &[f64]) -> serde_json::Value {
    let kept: Vec<f64> = kept(samples, values).map(|(_, x)| x).collect();
    if kept.is_empty() {
        return serde_json::Value::Null;
    }
    json!({
        "mean": kept.iter().sum::<f64>() / kept.len() as f64,
        "min": kept.iter().copied().fold(f64::INFINITY, f64::min),
        "max": kept.iter().copied().fold(f64::NEG_INFINITY, f64::max),
    })
}

fn text(outcome: &objective::Outcome, out: Option<&Path>) -> String {
    let mut text = format!("loss      {}\ncoupling  {}\nkept     ", outcome.loss, outcome.coupling);
    for level in ["group", "rollout", "token"] {
        let n = outcome.kept.get(level).copied().unwrap_or(0);
        let _ = write!(text, " {n} {level}{}", if n == 1 { "" } else { "s" });
    }
    text.push('\n');
    let width = outcome.metrics.keys().map(String::len).max().unwrap_or(0);
    for (name, value) in &outcome.metrics {
        let _ = writeln!(text, "metric    {name:width$}  {value}");
    }
    for (what, arrays) in [("gradient", &outcome.grads), ("value   ", &outcome.values)] {
        for (name, array) in arrays {
            let _ = writeln!(text, "{what}  {name}: {}", in_short(array));
        }
    }
    for (name, values) in samples(outcome) {
        let array = Array::vector(Data::F64(values.to_vec()));
        let _ = writeln!(text, "sample    {name}: {}", in_short(&array));
    }
    if let Some(path) = out {
        let _ = writeln!(text, "wrote     {}", path.display());
    }
    text
}

/// Shape and size of an array's numbers.
fn in_short(array: &Array) -> String {
    let numbers: Vec<f64> = (0..array.data.len()).map(|i| array.data.get(i)).collect();
    let shape: Vec<String> = array.shape.iter().map(usize::to_string).collect();
    let mut text = format!("[{}]", shape.join(", "));
    if !numbers.is_empty() {
        let low = numbers.iter().copied().fold(f64::INFINITY, f64::min);
        let high = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let norm = numbers.iter().map(|x| x * x).sum::<f64>().sqrt();
        let _ = write!(text, ", from {low:.6} to {high:.6}, norm {norm:.6}");
    }
    text
}

fn failure(error: ObjectiveError) -> Failure {
    match error {
        ObjectiveError::NotFinite(text) => Failure::running(text, ""),
        ObjectiveError::Device(DeviceError::Unsupported(why)) => {
            Failure::input(why.to_string(), "`--backend interp` runs every program")
        }
        ObjectiveError::Device(DeviceError::Cuda(why)) => {
            Failure::input(why, "`--backend cpu` computes the same numbers")
        }
        ObjectiveError::Device(why) => Failure::running(why.to_string(), ""),
        other => Failure::input(other.to_string(), ""),
    }
}

fn batch_failure(error: BatchError) -> Failure {
    match error {
        BatchError::Read { path, why } => Failure::input(
            format!("cannot read the batch `{}`: {}", path.display(), plain(&why)),
            "",
        ),
        BatchError::Write { .. } => Failure::running(error.to_string(), ""),
        BatchError::Format { .. } | BatchError::Dtype { .. } => {
            Failure::input(error.to_string(), "")
        }
    }
}
