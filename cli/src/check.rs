//! `rlc check`: every error, warning and note of a program.

use rlc_compiler::check::Checked;
use rlc_compiler::diagnostic::{Diagnostic, Severity};
use rlc_compiler::source::Sources;
use rlc_compiler::specialize::{Settings, SpecializeError, specialize};
use serde_json::json;

use crate::failure::{Failure, INPUT, Outcome};
use crate::output::Output;
use crate::program::Program;
use crate::{params, program, report};

/// Check a program: errors, warnings, notes
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rlc check calib.rl
  rlc check calib.rl --deny-warnings       warnings fail, for a CI job
  rlc check dapo --set beta=0.04
  echo 'advantage = center(reward)' | rlc check -
  rlc check calib.rl --json | jq '.diagnostics[].message'")]
pub struct Args {
    #[arg(value_name = "PROGRAM", help = program::HELP)]
    program: String,
    /// Treat warnings as errors
    #[arg(long)]
    deny_warnings: bool,
    /// Print one JSON object to stdout instead of reports
    #[arg(long)]
    json: bool,
    /// Set a param
    #[arg(long = "set", value_name = "NAME=VALUE")]
    set: Vec<String>,
}

/// Runs the command.
pub fn run(args: &Args, output: &Output) -> Outcome {
    let mut program = program::open(&args.program)?;
    let (checked, mut found) = check(&mut program);
    if args.deny_warnings {
        for diagnostic in &mut found {
            if diagnostic.severity == Severity::Warning {
                diagnostic.severity = Severity::Error;
            }
        }
    }
    let coupling = match &checked {
        Some(checked) => coupling(checked, &args.set, &mut found)?,
        None => None,
    };
    let failed = found.iter().any(|d| d.severity == Severity::Error);
    if args.json {
        let value = json!({
            "file": program.sources.get(program.root).name,
            "ok": !failed,
            "coupling": coupling,
            "diagnostics": found
                .iter()
                .map(|d| report::as_json(d, &program.sources))
                .collect::<Vec<_>>(),
        });
        output.print(&format!("{value:#}\n"))?;
    } else {
        output.say(&report::render_all(&found, &program.sources, output.look()));
        if let (false, Some(coupling)) = (failed, coupling) {
            let name = &program.sources.get(program.root).name;
            output.print(&format!("{name}: no errors; coupling level: {coupling}\n"))?;
        }
    }
    if failed { Err(Failure::Reported(INPUT)) } else { Ok(()) }
}

/// What the compiler says of a program.
pub fn check(program: &mut Program) -> (Option<Checked>, Vec<Diagnostic>) {
    let (checked, mut found) =
        rlc_compiler::check(&mut program.sources, program.root, &program.files);
    in_order(&mut found);
    (checked, found)
}

/// The user's file first, and each file from top to bottom, whichever pass found what.
pub fn in_order(found: &mut [Diagnostic]) {
    found.sort_by_key(|d| d.labels.first().map(|l| (l.span.file, l.span.start)));
}

/// Checks a program, says on stderr what was found, and stops where that includes errors.
pub fn or_stop(program: &mut Program, output: &Output) -> Outcome<Checked> {
    let (checked, found) = check(program);
    say(&found, &program.sources, output);
    checked.ok_or(Failure::Reported(INPUT))
}

/// Says on stderr what was found.
pub fn say(found: &[Diagnostic], sources: &Sources, output: &Output) {
    output.say(&report::render_all(found, sources, output.look()));
}

/// The coupling level under `sets`; none, and one finding more, where they leave no gradient.
fn coupling(
    checked: &Checked,
    sets: &[String],
    found: &mut Vec<Diagnostic>,
) -> Outcome<Option<String>> {
    let settings =
        Settings { params: params::values(&checked.graph, sets)?, ..Settings::default() };
    match specialize(checked, &settings) {
        Ok(done) => Ok(Some(done.program.graph.level_table.name(done.program.coupling).to_owned())),
        Err(SpecializeError::NoGradient) => {
            found.push(Diagnostic::error(
                "E0401",
                "under these params the loss depends on no differentiable input",
                checked.goal,
                "an `if` on params leaves nothing that follows the policy",
                "training would leave the policy as it is; `rlc explain` shows what a\nparam switches off",
            ));
            Ok(None)
        }
        Err(error) => Err(Failure::input(error.to_string(), "")),
    }
}
