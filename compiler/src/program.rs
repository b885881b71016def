//! A program ready for a back end: one graph holding the loss, its gradients, the metrics and the
//! emitted values, with the phase in which each expression runs.

use crate::check::{Sample, StateUpdate};
use crate::hir::{ColumnId, E, Graph};
use crate::level::Level;

/// When an expression's value exists.
///
/// ```text
/// Recorded   once, over the whole batch, before the policy runs
/// Live       piece by piece: pieces are whole rows of `Program::piece`
/// After      once, over the whole batch, when all pieces have run
/// ```
///
/// A sum of a live value to a level coarser than the pieces is `After`; since it is a sum, a back
/// end may add each piece's share while the piece runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Follows from what was recorded with the rollouts.
    Recorded,
    /// Needs the current policy, of its own piece only.
    Live,
    /// Needs the whole batch under the current policy.
    After,
}

/// A definition whose value is stored.
#[derive(Debug, Clone)]
pub struct Emitted {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: E,
    /// Which rows are elements, for a derived level; the others hold nothing.
    pub exists: Option<E>,
}

/// What a back end runs.
#[derive(Debug, Clone)]
pub struct Program {
    /// All expressions.
    pub graph: Graph,
    /// Phase of each expression.
    pub phases: Vec<Phase>,
    /// The loss, at batch level.
    pub loss: E,
    /// d(loss)/d(column) at the column's level, for every differentiable column the loss reads.
    /// None: the loss does not depend on it and the gradient is 0.
    pub grads: Vec<(ColumnId, Option<E>)>,
    /// Metrics, at batch level.
    pub metrics: Vec<(String, E)>,
    /// Named values to store, at their own levels (never vocab).
    pub values: Vec<Emitted>,
    /// New values of states.
    pub updates: Vec<StateUpdate>,
    /// What it says about drawing prompts.
    pub samples: Vec<Sample>,
    /// Rows that the program's filters keep, per level name, at batch level.
    pub kept: Vec<(String, E)>,
    /// The finest level over whose rows the loss is a sum of expressions that read live values of
    /// their own row only.
    pub coupling: Level,
    /// The expression that makes the coupling no finer; none at token level.
    pub cause: Option<E>,
    /// What a piece consists of: rollouts, groups or the batch.
    pub piece: Level,
}

impl Program {
    /// Every expression that must be computed and kept until the end.
    pub fn outputs(&self) -> Vec<(String, E)> {
        let mut out = vec![("loss".to_owned(), self.loss)];
        for (column, grad) in &self.grads {
            if let Some(grad) = grad {
                let name = &self.graph.columns[column.0 as usize].name;
                out.push((format!("grad/{name}"), *grad));
            }
        }
        out.extend(self.metrics.iter().map(|(n, e)| (format!("metric/{n}"), *e)));
        out.extend(self.kept.iter().map(|(n, e)| (format!("kept/{n}"), *e)));
        for update in &self.updates {
            out.push((format!("state/{}", update.name), update.value));
            out.extend(update.kept.map(|kept| (format!("state/{} where", update.name), kept)));
        }
        for sample in &self.samples {
            let name = sample.kind.name();
            out.push((format!("sample/{name}"), sample.value));
            out.extend(sample.kept.map(|kept| (format!("sample/{name} where"), kept)));
        }
        for v in &self.values {
            out.push((format!("value/{}", v.name), v.value));
            out.extend(v.exists.map(|e| (format!("value/{} where", v.name), e)));
        }
        out
    }

    /// Phase of an expression.
    pub fn phase(&self, e: E) -> Phase {
        self.phases[e.index()]
    }

    /// Readable text.
    pub fn print(&self) -> String {
        self.graph.print(&self.outputs())
    }
}
