//! `rlc recipes`: the library's objectives.

use clap::Subcommand;
use rlc_compiler::columns::needed;
use rlc_compiler::specialize::{Settings, specialize};
use rlc_compiler::stdlib;
use serde_json::json;

use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::{check, program};

/// List the objectives of the library, or print one
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rlc recipes
  rlc recipes show dapo
  rlc recipes --json | jq -r '.[] | select(.coupling == \"rollout\").name'")]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print an objective's source
    Show {
        /// Its name
        name: String,
    },
}

/// Columns that every GRPO-like batch has anyway.
const USUAL: [&str; 5] =
    ["vocab/logits", "token/action", "token/mask", "token/old_logp", "rollout/reward"];

/// Runs the command.
pub fn run(args: &Args, output: &Output) -> Outcome {
    if let Some(Command::Show { name }) = &args.command {
        let (_, text) = stdlib::objective(name).ok_or_else(|| program::unknown(name))?;
        return output.print(text);
    }
    let recipes: Vec<Recipe> =
        stdlib::library().map(|o| Recipe::of(o.0, o.2)).collect::<Outcome<_>>()?;
    if args.json {
        let all: Vec<_> = recipes
            .iter()
            .map(|r| {
                json!({
                    "name": r.name,
                    "title": r.title,
                    "idea": r.idea,
                    "coupling": r.coupling,
                    "columns": r.columns,
                    "extra_columns": r.extra(),
                })
            })
            .collect();
        return output.print(&format!("{:#}\n", json!(all)));
    }
    let mut text = String::new();
    for recipe in &recipes {
        let mut facts = format!("coupling: {}", recipe.coupling);
        if !recipe.extra().is_empty() {
            facts.push_str("; also reads ");
            facts.push_str(&recipe.extra().join(", "));
        }
        text.push_str(&format!("{}  {}\n", output.bold(recipe.name), recipe.title));
        for line in wrap(&recipe.idea, 76) {
            text.push_str(&format!("    {line}\n"));
        }
        text.push_str(&format!("    {}\n", output.dim(&facts)));
    }
    text.push_str(
        "\n`rlc recipes show NAME` prints one; `rlc new mine --from NAME` starts from it.\n",
    );
    output.print(&text)
}

struct Recipe {
    name: &'static str,
    title: String,
    idea: String,
    coupling: String,
    columns: Vec<String>,
}

impl Recipe {
    fn of(name: &'static str, text: &str) -> Outcome<Recipe> {
        let mut opened = program::open(name)?;
        let broken = || Failure::running(format!("the library's `{name}` does not compile"), "");
        let checked = check::check(&mut opened).0.ok_or_else(broken)?;
        let program = specialize(&checked, &Settings::default()).map_err(|_| broken())?.program;
        let columns: Vec<String> = needed(&program)
            .into_iter()
            .filter(|c| program.graph.columns[c.0 as usize].default.is_none())
            .map(|c| program.graph.column_path(c))
            .collect();
        let (title, idea) = header(text);
        let coupling = program.graph.level_table.name(program.coupling).to_owned();
        Ok(Recipe { name, title, idea, coupling, columns })
    }

    fn extra(&self) -> Vec<&str> {
        self.columns.iter().map(String::as_str).filter(|c| !USUAL.contains(c)).collect()
    }
}

/// Title and idea of an objective, from the comment its file begins with: the first line, and the
/// second paragraph.
pub fn header(text: &str) -> (String, String) {
    let comment: Vec<&str> = text
        .lines()
        .map_while(|l| l.strip_prefix('#'))
        .map(|l| l.strip_prefix(' ').unwrap_or(l))
        .collect();
    let mut paragraphs = comment.split(|l| l.is_empty());
    let title = paragraphs.next().and_then(|p| p.first()).copied().unwrap_or("");
    let idea = paragraphs.next().unwrap_or(&[]).join(" ");
    (title.trim_end_matches('.').to_owned(), idea)
}

/// Words in lines of at most `width` columns.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_objective_says_what_it_is() {
        for (name, _, text) in stdlib::library() {
            let (title, idea) = header(text);
            assert!(!title.is_empty() && idea.ends_with('.'), "{name}: {title:?} {idea:?}");
        }
    }
}
