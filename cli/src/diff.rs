//! `rlc diff`: how two objectives differ after linking.

mod compare;
mod side;
mod text;

use rlc_compiler::source::Sources;
use serde_json::{Value, json};

use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::program;

use compare::Difference;
use side::{Meaning, Side};

/// Say how two objectives differ after linking
///
/// Compares what counts in each program once its files are laid over each other: params and their
/// defaults, definitions, filters, goal and metrics, the columns a batch needs, and the coupling level.
/// Comments and layout make no difference.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rlc diff grpo dapo                       what DAPO changes in GRPO
  rlc diff calibadv calib.rl               a file against the library
  rlc diff old.rl new.rl --json | jq .coupling")]
pub struct Args {
    #[arg(value_name = "A", help = program::HELP)]
    a: String,
    #[arg(value_name = "B", help = program::HELP)]
    b: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args, output: &Output) -> Outcome {
    if args.a == "-" && args.b == "-" {
        return Err(Failure::input("both programs are stdin", "write one of them to a file"));
    }
    let a = Side::read(&args.a, output)?;
    let b = Side::read(&args.b, output)?;
    let difference = compare::compare(&a, &b);
    if args.json {
        return output.print(&format!("{:#}\n", as_json(&a, &b, &difference)));
    }
    output.print(&text::text(&a, &b, &difference, output))
}

fn as_json(a: &Side, b: &Side, difference: &Difference<'_>) -> Value {
    let one = |m: Option<&Meaning>| {
        m.map(|m| json!({"text": m.text, "file": m.file, "base": m.base, "kind": m.kind}))
    };
    let changes: Vec<Value> = difference
        .changes
        .iter()
        .map(|c| {
            json!({
                "kind": c.kind(),
                "name": c.name,
                "change": c.word(),
                "a": one(c.a),
                "b": one(c.b),
            })
        })
        .collect();
    let side = |s: &Side| json!({"name": s.name, "extends": s.extends});
    json!({
        "a": side(a),
        "b": side(b),
        "same": difference.nothing(),
        "changes": changes,
        "follows": difference.follows,
        "columns": {"removed": difference.columns.0, "added": difference.columns.1},
        "coupling": {"a": a.coupling, "b": b.coupling, "cause_a": a.cause, "cause_b": b.cause},
    })
}
