//! `rlc new`: a commented program to start from.

use std::path::{Component, Path, PathBuf};

use rlc_compiler::ast::{Statement, StatementKind};
use rlc_compiler::link::link;
use rlc_compiler::parse::parse;

use crate::failure::{Failure, Outcome};
use crate::output::{Output, write_file};
use crate::program::Program;
use crate::{check, program, recipes};

/// Write a commented program to start from
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rlc new mine                 writes mine.rl, which changes the advantage of grpo
  rlc new mine --from dapo
  rlc new mine --from other.rl
  rlc new mine --from nothing  a whole objective, without a base")]
pub struct Args {
    /// The new program: NAME.rl is written
    name: String,
    /// What it extends: a library objective, a file, or `nothing`
    #[arg(long, value_name = "BASE", default_value = "grpo")]
    from: String,
    /// Overwrite an existing file
    #[arg(long)]
    force: bool,
}

/// Runs the command.
pub fn run(args: &Args, output: &Output) -> Outcome {
    let mut path = PathBuf::from(&args.name);
    if path.extension().is_none_or(|e| e != "rl") {
        path = PathBuf::from(format!("{}.rl", args.name));
    }
    let shown = path.display();
    let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or("");
    if stem.is_empty() || stem.starts_with('.') {
        return Err(Failure::input(format!("`{}` is no name for a file", args.name), ""));
    }
    if path.exists() && !args.force {
        return Err(Failure::input(
            format!("`{shown}` exists already"),
            "`--force` overwrites it; or choose another name",
        ));
    }
    let body = match args.from.as_str() {
        "nothing" => NOTHING.to_owned(),
        base => from_base(base, &path, output)?,
    };
    let text = format!(
        "# {stem}: say here in a line what this objective changes, and why.\n\
         #\n\
         # rlc check {shown}      errors and warnings\n\
         # rlc explain {shown}    the whole program, with what each definition is\n\
         # rlc run {shown}        train with it\n\
         \n{body}"
    );
    write_file(&path, text.as_bytes())?;
    output.print(&format!("wrote {shown}; next: rlc check {shown}\n"))
}

const NOTHING: &str = "\
# The prelude remains: its functions, `logp` and `entropy`.
extend nothing

## The tokens that are trained on: those the policy wrote.
keep token where mask

## Credit of a rollout: its reward above the mean of its group.
advantage = center(reward)
## Probability of the token under the current policy over that under the one that sampled it.
ratio = exp(logp - old_logp)

minimize seq_mean(-clipped(ratio, advantage, 0.2, 0.2))

metric approx_kl = token_mean(old_logp - logp)
";

/// `extend`, the base's advantage (or first definition) as the thing to change, and the rest of what
/// it defines as comments.
fn from_base(base: &str, path: &Path, output: &Output) -> Outcome<String> {
    let mut opened = program::open(base)?;
    check::or_stop(&mut opened, output)?;
    let library = opened.sources.get(opened.root).library;
    let named = if library { base.to_owned() } else { format!("\"{}\"", relative(base, path)) };
    let mut text = String::new();
    if library {
        let header = recipes::header::Header::of(&opened.sources.get(opened.root).text);
        text.push_str(&format!("# {}.\n", header.title));
        for line in recipes::wrap(&header.idea, 98) {
            text.push_str(&format!("# {line}\n"));
        }
    }
    text.push_str(&format!("extend {named}\n"));
    let (values, params) = statements(&mut opened);
    let advantage = values.iter().find(|s| name(s) == Some("advantage"));
    if let Some(statement) = advantage {
        text.push_str(
            "\n# What is written here replaces what the base says, everywhere it is read.\n",
        );
        text.push_str(&doc(statement));
        text.push_str(opened.sources.slice(statement.span));
        text.push('\n');
    }
    let mut rest = |title: &str, statements: Vec<&Statement>| {
        if !statements.is_empty() {
            text.push_str(&format!("\n# {title}\n"));
            for statement in statements {
                for line in opened.sources.slice(statement.span).lines() {
                    text.push_str(&format!("# {line}\n"));
                }
            }
        }
    };
    rest(
        "The base's other definitions. Take away a `#` and change what follows:",
        values.iter().filter(|s| name(s) != Some("advantage")).collect(),
    );
    rest("Its params; `--set name=value` and a run file set them too:", params.iter().collect());
    Ok(text)
}

/// The definitions and the params that count, prelude excepted, in the order of the files.
fn statements(opened: &mut Program) -> (Vec<Statement>, Vec<Statement>) {
    let linked = link(&mut opened.sources, opened.root, &opened.files, &mut Vec::new());
    let (mut values, mut params) = (Vec::new(), Vec::new());
    for (depth, &file) in linked.files.iter().enumerate().skip(1) {
        for statement in parse(&opened.sources, file).0.statements {
            let counts =
                name(&statement).and_then(|n| linked.value(n)).is_some_and(|e| e.depth == depth);
            if counts && matches!(statement.kind, StatementKind::Def { .. }) {
                values.push(statement);
            } else if counts {
                params.push(statement);
            }
        }
    }
    (values, params)
}

fn name(statement: &Statement) -> Option<&str> {
    match &statement.kind {
        StatementKind::Def { name, .. } | StatementKind::Param { name, .. } => Some(&name.name),
        _ => None,
    }
}

fn doc(statement: &Statement) -> String {
    let lines: Vec<String> =
        statement.doc.iter().flat_map(|d| d.lines()).map(|l| format!("## {l}\n")).collect();
    lines.concat()
}

/// The path of `base` as a file at `new` must write it.
pub fn relative(base: &str, new: &Path) -> String {
    let whole = |p: &Path| std::path::absolute(p).unwrap_or_else(|_| p.to_owned());
    let base_path = whole(Path::new(base));
    let folder = whole(new).parent().map(Path::to_owned).unwrap_or_default();
    let from: Vec<Component<'_>> = folder.components().collect();
    let to: Vec<Component<'_>> = base_path.components().collect();
    let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let mut out = PathBuf::new();
    for _ in common..from.len() {
        out.push("..");
    }
    out.extend(&to[common..]);
    out.display().to_string()
}
