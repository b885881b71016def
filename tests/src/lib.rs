//! Shared by the tests: where things lie, how programs are opened and run on a batch.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first surprise")]

pub mod batches;
pub mod cases;
pub mod compare;
pub mod mutate;
pub mod shim;
pub mod syntax;
pub mod tree;
pub mod workers;

use std::path::{Path, PathBuf};

use rlc_cli::program;
use rlc_compiler::check::Checked;
use rlc_compiler::diagnostic::Diagnostic;
use rlc_compiler::source::{Source, Sources};
use rlc_compiler::table::Table;
use rlc_runtime::objective::{Logits, Objective, ObjectiveError, Outcome};

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// All files below a folder of the repository whose names end so, in order.
pub fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root().join(folder)];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.to_str().unwrap().ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// A path as messages should show it: relative to the repository.
pub fn short(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// A program in a file or in the library, without findings.
pub fn open(name: &str) -> Checked {
    try_open(name).unwrap_or_else(|found| panic!("{found}"))
}

/// A program in a file or in the library, or what is wrong with it.
pub fn try_open(name: &str) -> Result<Checked, String> {
    let mut program = program::open(name).map_err(|e| format!("{name}: {e:?}"))?;
    let (checked, found) = rlc_cli::check::check(&mut program);
    let messages = found.iter().map(|d| format!("{} {}", d.code, d.message));
    checked.ok_or_else(|| format!("{name}: {}", messages.collect::<Vec<_>>().join("; ")))
}

/// What the compiler says of a text, called `name`. It may extend library objectives only.
pub fn check_text(name: &str, text: &str) -> (Option<Checked>, Vec<Diagnostic>, Sources) {
    let mut sources = Sources::default();
    let source = Source { name: name.to_owned(), text: text.to_owned(), library: false };
    let root = sources.add(source);
    let (checked, mut found) =
        rlc_compiler::check(&mut sources, root, &rlc_compiler::link::NoFiles);
    rlc_cli::check::in_order(&mut found);
    (checked, found, sources)
}

/// Runs an objective on a batch in pieces of so many rollouts, or whole.
pub fn run(
    objective: &mut Objective,
    table: &Table,
    micro_batch: Option<usize>,
) -> Result<Outcome, ObjectiveError> {
    let mut step = objective.begin(table, Logits::InTable)?;
    for piece in step.exact_pieces(micro_batch.unwrap_or(usize::MAX))? {
        step.live(piece, None)?;
    }
    step.finish().cloned()
}
