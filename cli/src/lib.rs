//! The rlc command line: arguments, files and printing around the compiler and the runtime. One
//! module per subcommand; nothing here decides what a program means.
//!
//! Exit codes: 0; 1 failed while running; 2 bad input.
#![forbid(unsafe_code)]

pub mod bench;
pub mod check;
pub mod compare;
pub mod compile;
pub mod completions;
pub mod diff;
pub mod doc;
pub mod doctor;
pub mod eval;
pub mod explain;
pub mod failure;
pub mod fmt;
mod gpu;
pub mod lsp;
pub mod new;
pub mod output;
pub mod params;
pub mod plot;
pub mod program;
pub mod recipes;
pub mod report;
pub mod run;
pub mod statement;
pub mod synthetic;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use failure::Outcome;
use output::{Color, Kept, Output};

/// Everything the user can say.
#[derive(Debug, Parser)]
#[command(
    name = "rlc",
    version,
    about = "A compiler for policy-optimisation objectives, and a trainer that runs them.",
    after_help = "\
Examples:
  rlc check calib.rl                     errors and warnings of a program
  rlc explain grpo                       a library objective, fully linked
  rlc explain E0202                      what an error code means
  rlc eval calib.rl --batch b.safetensors
  rlc run examples/arithmetic/calib.rl   train the embedded model

A program is a file (`calib.rl`) or the name of a library objective (`grpo`; `rlc recipes` lists them).
Exit codes: 0; 1 failed while running; 2 bad input.",
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub struct Cli {
    /// Colours: auto (on a terminal, unless NO_COLOR is set), always or never
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t = Color::Auto,
        value_name = "WHEN",
        hide_possible_values = true
    )]
    color: Color,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(check::Args),
    Compile(compile::Args),
    Explain(explain::Args),
    Doc(doc::Args),
    Doctor(doctor::Args),
    Plot(plot::Args),
    Diff(diff::Args),
    Eval(eval::Args),
    Bench(bench::Args),
    Run(Box<run::Args>),
    Compare(compare::Args),
    New(new::Args),
    Recipes(recipes::Args),
    Fmt(fmt::Args),
    Lsp(lsp::Args),
    Completions(completions::Args),
}

/// The command line's grammar. `--steps -1` is a number that is refused, not an option that is not known.
fn command() -> clap::Command {
    let numbers = |arg: clap::Arg| {
        let takes = arg.get_action().takes_values() && !arg.is_positional();
        arg.allow_negative_numbers(takes)
    };
    Cli::command().mut_subcommands(|command| command.mut_args(numbers))
}

/// Runs one command line.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let mut args: Vec<OsString> = args.collect();
    // `rlc help run` is what people try first.
    if args.get(1).is_some_and(|a| a == "help") {
        args.remove(1);
        args.push("--help".into());
    }
    let parsed = command()
        .color(Color::asked(&args).for_clap())
        .try_get_matches_from(&args)
        .and_then(|m| Cli::from_arg_matches(&m));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            // A reader that has gone away is no failure: `rlc --help | head -1`.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let output = Output::new(cli.color);
    match run(cli.command, &output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => ExitCode::from(output.fail(&failure)),
    }
}

/// Runs one command line without the program's name in this process: the exit code and what it printed. Progress displays
/// and what a reader of stdin waits for are not kept.
pub fn answer(args: &[&str]) -> (u8, Kept) {
    let output = Output::keeping();
    let args = std::iter::once("rlc").chain(args.iter().copied());
    let parsed = command().try_get_matches_from(args).and_then(|m| Cli::from_arg_matches(&m));
    let code = match parsed {
        Ok(cli) => match run(cli.command, &output) {
            Ok(()) => 0,
            Err(failure) => output.fail(&failure),
        },
        Err(error) => {
            output.say(&error.to_string());
            failure::INPUT
        }
    };
    (code, output.kept())
}

fn run(command: Command, output: &Output) -> Outcome {
    match command {
        Command::Check(args) => check::run(&args, output),
        Command::Compile(args) => compile::run(&args, output),
        Command::Explain(args) => explain::run(&args, output),
        Command::Doc(args) => doc::run(&args, output),
        Command::Doctor(args) => doctor::run(&args, output),
        Command::Plot(args) => plot::run(&args, output),
        Command::Diff(args) => diff::run(&args, output),
        Command::Eval(args) => eval::run(&args, output),
        Command::Bench(args) => bench::run(&args, output),
        Command::Run(args) => run::run(&args, output),
        Command::Compare(args) => compare::run(&args, output),
        Command::New(args) => new::run(&args, output),
        Command::Recipes(args) => recipes::run(&args, output),
        Command::Fmt(args) => fmt::run(&args, output),
        Command::Lsp(args) => lsp::run(&args),
        Command::Completions(args) => completions::run(&args, output),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Cli::command().debug_assert();
    }
}
