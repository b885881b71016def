//! The rlc compiler core: from the text of an objective to a program that a back end runs.
//!
//! ```text
//! text -> parse -> ast -> link -> check -> graph -> specialize -> program -> fuse -> loops -> clif
//! ```
//!
//! Pure: no IO, no environment, no threads, no `unsafe`. Whoever calls it brings the texts.
#![forbid(unsafe_code)]

pub mod ast;
pub mod autodiff;
pub mod check;
pub mod clif;
pub mod columns;
pub mod diagnostic;
pub mod fuse;
pub mod hir;
pub mod interp;
pub mod level;
pub mod link;
pub mod loops;
pub mod op;
pub mod parse;
pub mod program;
pub mod shape;
pub mod simplify;
pub mod source;
pub mod specialize;
pub mod stage;
pub mod stdlib;
pub mod table;
pub mod trace;

use check::Checked;
use diagnostic::{Diagnostic, Severity};
use link::Loader;
use source::{FileId, Sources};

/// Reads, links and checks the program whose text is `root`. Without errors there is a result;
/// warnings and notes come either way.
pub fn check(
    sources: &mut Sources,
    root: FileId,
    loader: &dyn Loader,
) -> (Option<Checked>, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let linked = link::link(sources, root, loader, &mut diagnostics);
    let (checked, found) = check::check(sources, &linked);
    diagnostics.extend(found);
    let broken = diagnostics.iter().any(|d| d.severity == Severity::Error);
    if broken {
        // What is unused or doubtful in half a program may be neither in the whole.
        diagnostics.retain(|d| d.severity == Severity::Error);
    }
    // Errors first, each kind in the order of the text.
    diagnostics.sort_by_key(|d| {
        let place = d.labels.first().map(|l| (l.span.file, l.span.start));
        (std::cmp::Reverse(d.severity), place)
    });
    (checked.filter(|_| !broken), diagnostics)
}
