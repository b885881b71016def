//! Data parallelism: what workers that each hold whole groups of a batch must tell each other, and
//! when, so that each computes what one worker would over the whole batch.
//!
//! Everything below the batch stays on the worker that has the rows. What crosses are the reductions
//! to the batch level: each worker reduces its own rows, the parts are merged, and whatever reads the
//! result waits for that. A reduction that reads another one's result waits a round longer.
//!
//! ```text
//! recorded   round by round, before the policy runs
//! live       only where the coupling level is the batch
//! after      the loss, its metrics, the updates of states
//! ```

use crate::hir::{E, Expr, Graph, ReduceOp};
use crate::level::{BATCH, Level};
use crate::program::{Phase, Program};

/// A set of reductions that workers merge at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crossing {
    /// The phase at whose end, or within which, it takes place.
    pub phase: Phase,
    /// Reductions to the batch level, one number each.
    pub parts: Vec<E>,
}

/// Whether the value of an expression has a part on each worker.
pub fn crosses(graph: &Graph, e: E) -> Option<ReduceOp> {
    match graph.expr(e) {
        Expr::Reduce(op, x, _) if graph.level(e) == BATCH && graph.level(x) != BATCH => Some(op),
        _ => None,
    }
}

/// How many crossings lie before each expression; what crosses counts its own.
pub fn rounds(graph: &Graph) -> Vec<u32> {
    let mut rounds: Vec<u32> = Vec::with_capacity(graph.len());
    for e in graph.all() {
        let before = graph.operands(e).map(|o| rounds[o.index()]).max().unwrap_or(0);
        rounds.push(before + u32::from(crosses(graph, e).is_some()));
    }
    rounds
}

/// Every crossing of a program, in order.
pub fn crossings(program: &Program) -> Vec<Crossing> {
    let graph = &program.graph;
    let needed = graph.reachable(program.outputs().iter().map(|o| o.1));
    let rounds = rounds(graph);
    let mut out: Vec<(Phase, u32, Vec<E>)> = Vec::new();
    for e in graph.all().filter(|e| needed[e.index()] && crosses(graph, *e).is_some()) {
        let at = (program.phase(e), rounds[e.index()]);
        match out.iter_mut().find(|c| (c.0, c.1) == at) {
            Some(crossing) => crossing.2.push(e),
            None => out.push((at.0, at.1, vec![e])),
        }
    }
    out.sort_by_key(|c| (c.0, c.1));
    out.into_iter().map(|(phase, _, parts)| Crossing { phase, parts }).collect()
}

/// An expression that needs rows of all workers at once, not only sums of them: an order, or a
/// derived level, over the whole batch.
pub fn obstacle(program: &Program) -> Option<E> {
    let graph = &program.graph;
    let needed = graph.reachable(program.outputs().iter().map(|o| o.1));
    let far = |scope: Level| graph.level_table.tree(scope) == BATCH;
    graph.all().filter(|e| needed[e.index()]).find(|e| match graph.expr(*e) {
        Expr::Scan { scope, .. }
        | Expr::Shift { scope, .. }
        | Expr::Rank { scope, .. }
        | Expr::Find { scope, .. }
        | Expr::Prefix(_, scope)
        | Expr::Gather { scope, .. }
        | Expr::Scatter { scope, .. } => far(scope),
        Expr::Const(_)
        | Expr::Param(_)
        | Expr::Column(_)
        | Expr::Choose(..)
        | Expr::Unary(..)
        | Expr::Binary(..)
        | Expr::Select(..)
        | Expr::Broadcast(_)
        | Expr::Reduce(..)
        | Expr::Side(_)
        | Expr::Row
        | Expr::At(..)
        | Expr::Nth(..)
        | Expr::Spread { .. }
        | Expr::VocabIndex
        | Expr::Detach(_) => false,
    })
}

/// Two workers' parts of a reduction, as one.
pub fn merge(op: ReduceOp, a: f64, b: f64) -> f64 {
    match op {
        ReduceOp::Sum => a + b,
        ReduceOp::Prod => a * b,
        ReduceOp::Max => crate::op::Binary::Max.eval(a, b),
        ReduceOp::Min => crate::op::Binary::Min.eval(a, b),
        ReduceOp::LogSumExp => {
            let most = crate::op::Binary::Max.eval(a, b);
            if most.is_infinite() || most.is_nan() {
                return most;
            }
            most + libm::log(libm::exp(a - most) + libm::exp(b - most))
        }
    }
}
