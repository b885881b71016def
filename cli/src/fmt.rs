//! `rlc fmt`: puts programs into the one layout.

use std::path::Path;

use rlc_compiler::format::format;
use rlc_compiler::source::{Source, Sources};

use crate::failure::{Failure, INPUT, Outcome, RUNNING};
use crate::output::{Output, write_file};
use crate::{program, report};

/// Format programs: one layout, comments and line breaks kept
///
/// Blanks, indentation and blank lines are set; line breaks, comments and columns of `=` stay as they
/// were written. A file with a syntax error is left as it is.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rlc fmt calib.rl
  rlc fmt *.rl --check                     name the files that would change; 1 if there are any
  rlc fmt calib.rl --stdout | diff calib.rl -
  echo 'advantage=center( reward )' | rlc fmt -

Exit codes: 0; 1 with --check, when a file would change; 2 a file that cannot be read.")]
pub struct Args {
    /// Files to format in place; `-` reads stdin and prints to stdout
    #[arg(value_name = "FILE", required = true)]
    files: Vec<String>,
    /// Write nothing; say which files would change
    #[arg(long)]
    check: bool,
    /// Print to stdout instead of changing the files
    #[arg(long, conflicts_with = "check")]
    stdout: bool,
}

/// Runs the command.
pub fn run(args: &Args, output: &Output) -> Outcome {
    let mut worst = Ok(());
    for file in &args.files {
        let done = one(file, args, output);
        // Every file has its turn; the gravest end counts, bad input before a file that would change.
        match done {
            Ok(()) => {}
            Err(Failure::ReaderGone) => return Err(Failure::ReaderGone),
            Err(failure) => {
                let code = output.fail(&failure);
                worst = match worst {
                    Err(Failure::Reported(before)) => Err(Failure::Reported(code.max(before))),
                    _ => Err(Failure::Reported(code)),
                };
            }
        }
    }
    worst
}

fn one(file: &str, args: &Args, output: &Output) -> Outcome {
    let name = if file == "-" { "<stdin>" } else { file };
    let text = &program::text_of(file)?;
    let formatted = format(text).map_err(|found| {
        output.say(&report::render_all(&found, &named(name, text), output.look()));
        Failure::Reported(INPUT)
    })?;
    if args.check {
        if formatted == *text {
            return Ok(());
        }
        output.print(&format!("{name}\n"))?;
        return Err(Failure::Reported(RUNNING));
    }
    if args.stdout || file == "-" {
        return output.print(&formatted);
    }
    if formatted == *text { Ok(()) } else { replace(Path::new(file), &formatted) }
}

/// Writes a file whole or not at all, and leaves who may read it as it was.
fn replace(path: &Path, text: &str) -> Outcome {
    let allowed = std::fs::metadata(path).map(|m| m.permissions());
    write_file(path, text.as_bytes())?;
    if let Ok(allowed) = allowed {
        // The text is in place; a file system without permissions is no failure.
        let _ = std::fs::set_permissions(path, allowed);
    }
    Ok(())
}

/// The text under the name that messages show.
fn named(name: &str, text: &str) -> Sources {
    let mut sources = Sources::default();
    sources.add(Source { name: name.to_owned(), text: text.to_owned(), library: false });
    sources
}
