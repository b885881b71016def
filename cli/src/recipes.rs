//! `rlc recipes`: the library's programs, by family.

pub mod header;

use clap::Subcommand;
use rlc_compiler::columns::required;
use rlc_compiler::diagnostic::nearest;
use rlc_compiler::specialize::{Settings, specialize};
use rlc_compiler::stdlib;
use serde_json::json;

use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::{check, program};
use header::{FAMILIES, Header};

/// List the programs of the library, or print one
///
/// One line each: name, coupling level, how sure its formula is, and the columns a batch needs beside those that every
/// trainer has.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rlc recipes
  rlc recipes --family 'credit assignment' --long
  rlc recipes --search entropy
  rlc recipes show dapo
  rlc recipes --json | jq -r '.[] | select(.coupling == \"rollout\").name'")]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Only this family, such as `trees`
    #[arg(long, value_name = "FAMILY")]
    family: Option<String>,
    /// Only those whose name or header has this word
    #[arg(long, value_name = "WORD")]
    search: Option<String>,
    /// With title, publication and idea
    #[arg(long)]
    long: bool,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print a program's source
    Show {
        /// Its name
        name: String,
    },
}

/// Columns that every GRPO-like batch has anyway, and those that are computed where they are absent.
const USUAL: [&str; 7] = [
    "vocab/logits",
    "token/action",
    "token/mask",
    "token/old_logp",
    "rollout/reward",
    "token/position",
    "rollout/length",
];
/// Columns of a line that names the extra inputs; what does not fit is counted.
const WIDTH: usize = 100;

/// Runs the command.
pub fn run(args: &Args, output: &Output) -> Outcome {
    if let Some(Command::Show { name }) = &args.command {
        let (_, text) = stdlib::objective(name).ok_or_else(|| program::unknown(name))?;
        return output.print(text);
    }
    let family = args.family.as_deref().map(family).transpose()?;
    let found = |name: &str, header: &Header| {
        family.is_none_or(|f| header.family == f)
            && args.search.as_deref().is_none_or(|w| {
                header.mentions(w) || name.to_lowercase().contains(&w.to_lowercase())
            })
    };
    let recipes = all(found)?;
    if args.json {
        let all: Vec<_> = recipes.iter().map(Recipe::as_json).collect();
        return output.print(&format!("{:#}\n", json!(all)));
    }
    if recipes.is_empty() {
        return Err(Failure::input(
            "no program of the library is like that",
            "`rlc recipes` lists them all",
        ));
    }
    let mut text = String::new();
    for family in FAMILIES {
        let own: Vec<&Recipe> = recipes.iter().filter(|r| r.header.family == family).collect();
        if own.is_empty() {
            continue;
        }
        text.push_str(&format!("{}\n", output.bold(&format!("{family} ({})", own.len()))));
        for recipe in own {
            text.push_str(&recipe.line(&recipes, args.long, output));
        }
    }
    text.push_str(
        "\n`rlc recipes show NAME` prints one; `rlc new mine --from NAME` starts from it.\n",
    );
    output.print(&text)
}

/// The family that is called so, whatever the case.
fn family(asked: &str) -> Outcome<&'static str> {
    let same = |f: &&str| f.eq_ignore_ascii_case(asked.trim());
    FAMILIES.into_iter().find(|f| same(f)).ok_or_else(|| {
        let help = match nearest(asked, FAMILIES) {
            Some(near) => format!("did you mean `--family '{near}'`?"),
            None => format!("there are {}", FAMILIES.join(", ")),
        };
        Failure::input(format!("there is no family `{asked}`"), help)
    })
}

/// A program of the library, with what the compiler says of it.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Its name.
    pub name: &'static str,
    /// Its source's name, a path in the repository.
    pub path: &'static str,
    /// What its file says of it.
    pub header: Header,
    /// Coupling level.
    pub coupling: String,
    /// Columns that a batch must have.
    pub columns: Vec<String>,
}

/// The library's programs that `wanted` takes, in order of family and name. Each is linked and checked, on all cores.
pub fn all(wanted: impl Fn(&str, &Header) -> bool) -> Outcome<Vec<Recipe>> {
    let mut sources: Vec<_> = stdlib::library()
        .map(|&(name, path, text)| (name, path, Header::of(text)))
        .filter(|(name, _, header)| wanted(name, header))
        .collect();
    let place = |h: &Header| FAMILIES.iter().position(|f| *f == h.family);
    sources.sort_by_key(|(name, path, header)| {
        (place(header).unwrap_or(FAMILIES.len()), path.contains("/recipes/"), *name)
    });
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = sources.len().div_ceil(workers).max(1);
    std::thread::scope(|scope| {
        let check = |part: Vec<_>| part.into_iter().map(Recipe::of).collect::<Outcome<Vec<_>>>();
        let parts: Vec<_> =
            sources.chunks(share).map(|p| scope.spawn(move || check(p.to_vec()))).collect();
        let mut all = Vec::new();
        for part in parts {
            let part = part.join().map_err(|_| Failure::running("a check was cut short", ""))?;
            all.extend(part?);
        }
        Ok(all)
    })
}

impl Recipe {
    fn of((name, path, header): (&'static str, &'static str, Header)) -> Outcome<Recipe> {
        let mut opened = program::open(name)?;
        let broken = || Failure::running(format!("the library's `{name}` does not compile"), "");
        let checked = check::check(&mut opened).0.ok_or_else(broken)?;
        let program = specialize(&checked, &Settings::default()).map_err(|_| broken())?.program;
        let graph = &program.graph;
        let columns = required(&program).into_iter().map(|c| graph.column_path(c)).collect();
        let coupling = graph.level_table.name(program.coupling).to_owned();
        Ok(Recipe { name, path, header, coupling, columns })
    }

    /// Columns beside those that every trainer has.
    pub fn extra(&self) -> Vec<&str> {
        self.columns.iter().map(String::as_str).filter(|c| !USUAL.contains(c)).collect()
    }

    fn as_json(&self) -> serde_json::Value {
        let h = &self.header;
        json!({
            "name": self.name,
            "path": self.path,
            "title": h.title,
            "citation": h.citation,
            "idea": h.idea,
            "equation": h.equation,
            "notes": h.notes,
            "family": h.family,
            "confidence": h.confidence,
            "choices": h.choices,
            "to_train": h.to_train,
            "coupling": self.coupling,
            "columns": self.columns,
            "extra_columns": self.extra(),
        })
    }

    /// One line, or with `long` some more, below its family.
    fn line(&self, all: &[Recipe], long: bool, output: &Output) -> String {
        let wide =
            |of: fn(&Recipe) -> &str| all.iter().map(|r| of(r).chars().count()).max().unwrap_or(0);
        let (names, couplings) = (wide(|r| r.name), wide(|r| &r.coupling));
        let sure = wide(|r| &r.header.confidence);
        let extra = fitting(&self.extra(), WIDTH.saturating_sub(names + couplings + sure + 8));
        let head = format!(
            "  {}{}  {:couplings$}  {:sure$}",
            output.bold(self.name),
            " ".repeat(names - self.name.chars().count()),
            self.coupling,
            self.header.confidence
        );
        let mut text = format!("{}\n", format!("{head}  {}", output.dim(&extra)).trim_end());
        if long {
            text.push_str(&format!("      {}\n", self.header.title));
            for line in wrap(&self.header.citation, 90) {
                text.push_str(&format!("      {}\n", output.dim(&line)));
            }
            for line in wrap(&self.header.idea, 90) {
                text.push_str(&format!("      {line}\n"));
            }
        }
        text
    }
}

/// Names in at most `width` columns, and how many more there are.
fn fitting(names: &[&str], width: usize) -> String {
    let whole = names.join(", ");
    if whole.chars().count() <= width {
        return whole;
    }
    let with = |n: usize| format!("{}, and {} more", names[..n].join(", "), names.len() - n);
    let most = (1..names.len()).rev().find(|n| with(*n).chars().count() <= width);
    most.map_or_else(|| format!("{} columns", names.len()), with)
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
    fn names_that_do_not_fit_are_counted() {
        assert_eq!(fitting(&["a", "b"], 10), "a, b");
        assert_eq!(fitting(&["turn/size", "turn/scene", "item/size"], 26), "turn/size, and 2 more");
        assert_eq!(fitting(&["turn/size", "turn/scene"], 5), "2 columns");
        assert_eq!(fitting(&[], 0), "");
    }
}
