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
pub mod cuda;
pub mod diagnostic;
pub mod format;
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
pub mod workers;

use check::Checked;
use diagnostic::{Diagnostic, Severity};
use link::{Linked, Loader};
use source::{FileId, Sources};
use specialize::{Settings, specialize};

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
    let checked = checked.filter(|_| !broken);
    match &checked {
        Some(checked) => diagnostics.extend(coupling_raised(sources, &linked, checked, loader)),
        // What is unused or doubtful in half a program may be neither in the whole.
        None => diagnostics.retain(|d| d.severity == Severity::Error),
    }
    // Errors first, each kind in the order of the text.
    diagnostics.sort_by_key(|d| {
        let place = d.labels.first().map(|l| (l.span.file, l.span.start));
        (std::cmp::Reverse(d.severity), place)
    });
    (checked, diagnostics)
}

/// A note where the user's file couples more than the file it extends.
fn coupling_raised(
    sources: &Sources,
    linked: &Linked,
    checked: &Checked,
    loader: &dyn Loader,
) -> Option<Diagnostic> {
    let [_prelude, .., base, root] = linked.files.as_slice() else { return None };
    let depth = linked.files.len() - 1;
    let lint = "coupling_raised";
    if sources.get(*root).library || linked.allows(depth, lint) {
        return None;
    }
    let mut alone = Sources::default();
    let base_root = alone.add(sources.get(*base).clone());
    let mut unheard = Vec::new();
    let base_linked = link::link(&mut alone, base_root, loader, &mut unheard);
    let (base_checked, _) = check::check(&alone, &base_linked);
    let before = specialize(&base_checked?, &Settings::default()).ok()?;
    let after = specialize(checked, &Settings::default()).ok()?;
    let graph = &after.program.graph;
    let (was, is) = (before.program.coupling, after.program.coupling);
    let levels = &graph.level_table;
    if levels.depth(is) >= levels.depth(was) {
        return None;
    }
    let cause = after.program.cause?;
    // The first expression of this file that is made from the cause, which may be the cause itself.
    let mut made_from = vec![false; graph.len()];
    let written = graph.all().find_map(|e| {
        made_from[e.index()] = e == cause || graph.operands(e).any(|o| made_from[o.index()]);
        graph.span(e).filter(|s| made_from[e.index()] && s.file == *root)
    });
    let span = written
        .or_else(|| checked.definitions.iter().find(|d| d.depth == depth).map(|d| d.span))?;
    let pieces = match is {
        level::BATCH => "the batch now runs whole, without micro-batches".to_owned(),
        _ => format!("micro-batches are now cut between {}s only", levels.name(is)),
    };
    let (is, was) = (levels.name(is), before.program.graph.level_table.name(was));
    Some(Diagnostic::note(
        lint,
        format!("the loss couples each {is} as a whole; its base coupled each {was}"),
        span,
        format!("reads the current policy over the whole {is}"),
        format!(
            "{pieces}, and the logits are\nread twice. `rlc explain` prints the coupling; `allow coupling_raised`\nsilences this"
        ),
    ))
}
