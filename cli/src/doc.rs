//! `rlc doc`: the reference of the library, or of a user's file, from its `##` comments.

mod entry;
mod page;
pub mod site;

use std::path::PathBuf;

use rlc_compiler::diagnostic::{Severity, nearest};
use rlc_compiler::stdlib;

use crate::failure::{Failure, INPUT, Outcome};
use crate::output::Output;
use crate::{check, explain, program};

use entry::{Entry, module, prelude};
use page::{Look, Page};

/// Print the reference of the library, of one of its names, or of a file
///
/// The library's functions with their signatures, and its objectives with their params, each with the
/// `##` comment above it in the source.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rlc doc                                  the library: functions, then objectives
  rlc doc clipped                          one function
  rlc doc dapo                             one objective, with the params it inherits
  rlc doc clip_high                        a name of several objectives
  rlc doc mine.rl                          your own file
  rlc doc --markdown > reference.md
  rlc doc --out site                       a page with plot for every program of the library")]
pub struct Args {
    /// A library function, an objective, a name defined in one, a file, or `-` for stdin; without it
    /// the whole library
    #[arg(value_name = "NAME|FILE")]
    name: Option<String>,
    /// Print Markdown
    #[arg(long)]
    markdown: bool,
    /// Write Markdown pages of the library's programs into a folder: an index by family, and a page and a plot of each
    #[arg(long, value_name = "DIR", conflicts_with_all = ["name", "markdown"])]
    out: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &Args, output: &Output) -> Outcome {
    if let Some(folder) = &args.out {
        return site::write(folder, output);
    }
    let mut page = Page::new(if args.markdown { Look::Markdown } else { Look::Text(output) });
    match &args.name {
        None => library(&mut page)?,
        Some(name) => one(name, &mut page, output)?,
    }
    output.print(&page.finish())
}

fn library(page: &mut Page<'_>) -> Outcome {
    page.title("The standard library of rlc");
    let mut section = String::new();
    for entry in prelude() {
        if entry.section != section {
            section.clone_from(&entry.section);
            page.heading(&capital(&section));
        }
        page.entry(&entry);
    }
    page.heading("Objectives");
    for (name, _, _) in stdlib::library() {
        objective(name, page, false)?;
    }
    Ok(())
}

fn one(name: &str, page: &mut Page<'_>, output: &Output) -> Outcome {
    if stdlib::objective(name).is_some() {
        return objective(name, page, true);
    }
    if let Some(entry) = prelude().iter().find(|e| e.name == name) {
        page.entry(entry);
        page.source(entry);
        return Ok(());
    }
    if name == "-" || program::is_path(name) {
        return file(name, page, output);
    }
    let all: Vec<(&str, Vec<Entry>)> =
        stdlib::library().map(|(o, _, _)| (*o, of_objective(o))).collect();
    let mut found = false;
    for (owner, entries) in &all {
        // Statements without a name are not asked for by an empty one.
        for entry in entries.iter().filter(|e| e.name == name && !name.is_empty()) {
            page.heading(&format!("In {owner}"));
            page.entry(entry);
            found = true;
        }
    }
    if found {
        return Ok(());
    }
    if entry::BUILT_IN.contains(&name) {
        return Err(Failure::input(
            format!("`{name}` is a word of the language itself, not of its library"),
            "docs/language.md describes it",
        ));
    }
    let known = prelude();
    let names = known.iter().chain(all.iter().flat_map(|a| &a.1)).map(|e| e.name.as_str());
    let objectives = stdlib::library().map(|o| o.0);
    let help = match nearest(name, objectives.chain(names)) {
        Some(near) => format!("did you mean `{near}`?"),
        None if explain::is_code(name) => format!("`rlc explain {name}` explains an error's code"),
        None => "`rlc doc` prints the whole library; a file's name ends in .rl".into(),
    };
    Err(Failure::input(format!("the library has no `{name}`, and there is no such file"), help))
}

/// What an objective's own file defines.
fn of_objective(name: &str) -> Vec<Entry> {
    program::open(name).map(|p| module(&p.sources, p.root).0).unwrap_or_default()
}

fn objective(name: &str, page: &mut Page<'_>, whole: bool) -> Outcome {
    let mut opened = program::open(name)?;
    let (own, _) = module(&opened.sources, opened.root);
    page.program(name, &opened.sources.get(opened.root).text, whole);
    let checked = check::check(&mut opened).0;
    let Some(checked) = checked else {
        return Err(Failure::running(format!("the library's `{name}` does not compile"), ""));
    };
    page.params(&entry::params(&checked, &opened.sources));
    if whole {
        page.parts(&own);
    }
    Ok(())
}

fn file(name: &str, page: &mut Page<'_>, output: &Output) -> Outcome {
    let opened = program::open(name)?;
    let (own, found) = module(&opened.sources, opened.root);
    check::say(&found, &opened.sources, output);
    if found.iter().any(|d| d.severity == Severity::Error) {
        return Err(Failure::Reported(INPUT));
    }
    let source = opened.sources.get(opened.root);
    page.file(&source.name, &source.text);
    if own.is_empty() {
        page.line("It defines nothing of its own.");
    }
    page.parts(&own);
    Ok(())
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|c| c.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
