//! From a program to the fewest loops.
//!
//! ```text
//! Program -> normal    vocab-level code that needs few sweeps
//!         -> nodes     what is to be done, and what each part waits for
//!         -> schedule  which loop does it: coarse levels first, then everything that is ready
//!         -> lower     loops with scalar code, sweeps, folds and stores
//! ```
//!
//! Decides where and when things are computed, never what. Knows no machine.

mod lower;
mod nodes;
mod normal;
mod schedule;
mod sweeps;

use std::fmt;

use crate::loops::Plan;
use crate::program::Program;
use crate::source::Span;

/// A program this back end cannot run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsupported {
    /// What, in the user's names.
    pub what: String,
    /// Where it was written.
    pub span: Option<Span>,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Unsupported {}

/// The loops that compute everything `program` gives.
pub fn fuse(program: &Program) -> Result<Plan, Unsupported> {
    let normal = normal::normal(program);
    let nodes = nodes::nodes(program, &normal)?;
    let schedule = schedule::schedule(&normal.graph.level_table, &nodes)?;
    Ok(lower::lower(program, &normal, &nodes, &schedule))
}
