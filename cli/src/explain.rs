//! `rlc explain`: a program as the compiler sees it, or what an error code means.

mod coupling;
pub mod kernel;
mod latex;
mod listing;
pub(crate) mod names;
mod needs;
mod pages;
mod workers;

use rlc_compiler::check::{Checked, check};
use rlc_compiler::diagnostic::nearest;
use rlc_compiler::link::{Linked, link};
use rlc_compiler::specialize::{Settings, Specialized, specialize};

use crate::failure::{Failure, INPUT, Outcome};
use crate::output::Output;
use crate::program::Program;
use crate::{params, program};

pub use pages::PAGES;

/// Show a program as the compiler sees it, or explain an error code
///
/// Prints the fully linked program (every definition with its file, type, level and stage), the
/// coupling level and what causes it, the columns a batch needs and what params switch off, and
/// the plan of the kernel.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rlc explain calib.rl
  rlc explain gspo
  rlc explain grpo --set beta=0.04         what a KL penalty needs
  rlc explain gspo --latex                 as typeset mathematics
  rlc explain E0202                        an error, at length")]
pub struct Args {
    /// A file, the name of a library objective, `-` for stdin, or an error code
    #[arg(value_name = "PROGRAM|CODE")]
    subject: String,
    /// Set a param
    #[arg(long = "set", value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// Print the objective as LaTeX that KaTeX renders, and nothing else
    #[arg(long)]
    latex: bool,
}

/// Runs the command.
pub fn run(args: &Args, output: &Output) -> Outcome {
    let subject = &args.subject;
    if let Some((_, page)) = PAGES.iter().find(|p| p.0.eq_ignore_ascii_case(subject)) {
        return output.print(page);
    }
    if is_code(subject) {
        let near = nearest(&subject.to_uppercase(), PAGES.iter().map(|p| p.0));
        return Err(Failure::input(
            format!("there is no error `{subject}`"),
            near.map_or("a report has its code in the first line".into(), |near| {
                format!("did you mean `{near}`?")
            }),
        ));
    }
    let mut program = program::open(subject)?;
    let subject = Subject::read(&mut program, &args.set, output)?;
    if args.latex {
        return output.print(&subject.latex()?);
    }
    output.print(&subject.text(output))
}

/// Whether a word looks like an error's code.
pub(crate) fn is_code(word: &str) -> bool {
    word.len() == 5 && word.starts_with(['E', 'e']) && word[1..].bytes().all(|b| b.is_ascii_digit())
}

/// A program as typeset mathematics.
pub(crate) fn latex_of(name: &str, output: &Output) -> Outcome<String> {
    let mut program = program::open(name)?;
    Subject::read(&mut program, &[], output)?.latex()
}

/// A program with everything the compiler found out about it.
pub(crate) struct Subject<'a> {
    pub(crate) program: &'a Program,
    pub(crate) linked: Linked,
    pub(crate) checked: Checked,
    params: Vec<f64>,
    /// Under the present params, every definition stored.
    pub(crate) specialized: Specialized,
}

impl Subject<'_> {
    pub(crate) fn read<'a>(
        program: &'a mut Program,
        sets: &[String],
        output: &Output,
    ) -> Outcome<Subject<'a>> {
        let mut found = Vec::new();
        let linked = link(&mut program.sources, program.root, &program.files, &mut found);
        let broken = !found.is_empty();
        let (checked, more) = check(&program.sources, &linked);
        found.extend(more);
        crate::check::in_order(&mut found);
        crate::check::say(&found, &program.sources, output);
        let checked = checked.filter(|_| !broken).ok_or(Failure::Reported(INPUT))?;
        let params = params::values(&checked.graph, sets)?;
        let emit = checked
            .definitions
            .iter()
            .filter(|d| checked.graph.level(d.value) != rlc_compiler::level::VOCAB)
            .map(|d| d.name.clone())
            .collect();
        let settings = Settings { params: params.clone(), present: None, emit };
        let specialized =
            specialize(&checked, &settings).map_err(|e| Failure::input(e.to_string(), ""))?;
        Ok(Subject { program, linked, checked, params, specialized })
    }

    fn text(&self, output: &Output) -> String {
        let mut text = self.listing(output);
        let mut section = |title: &str, lines: Vec<String>| {
            if !lines.is_empty() {
                text.push_str(&format!("\n{}\n", output.bold(title)));
                for line in lines {
                    text.push_str(&format!("  {line}\n"));
                }
            }
        };
        section("Coupling", self.coupling());
        section("Workers", self.workers());
        section("Columns of a batch", self.columns());
        section("Params", self.switches());
        section("Kernel", self.kernel());
        text
    }

    /// `name:line:column` of a place.
    fn place(&self, span: rlc_compiler::source::Span) -> String {
        let sources = &self.program.sources;
        let (line, column) = crate::report::position(sources, span.file, span.start);
        format!("{}:{line}:{column}", sources.get(span.file).name)
    }

    /// The text of a place, on one line and not too long.
    fn quote(&self, span: rlc_compiler::source::Span) -> String {
        let words: Vec<&str> = self.program.sources.slice(span).split_whitespace().collect();
        let text = words.join(" ");
        if text.chars().count() <= 60 {
            text
        } else {
            text.chars().take(57).chain("...".chars()).collect()
        }
    }
}
