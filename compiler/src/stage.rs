//! Stages and coupling: what is live, over which rows the loss adds up, and when each value exists.

use crate::hir::{E, Expr, Graph, ReduceOp};
use crate::level::{BATCH, GROUP, Level, ROLLOUT, TOKEN, VOCAB};
use crate::op::{Binary, Unary};
use crate::program::Phase;

/// What each expression reads of the current policy.
pub struct Reads {
    /// The finest level of which one row holds all live values that one element of the expression
    /// reads; none where nothing is live.
    levels: Vec<Option<Level>>,
}

impl Reads {
    /// Looks at every expression of a graph.
    pub fn of(graph: &Graph) -> Reads {
        let table = &graph.level_table;
        let mut levels: Vec<Option<Level>> = vec![None; graph.len()];
        for e in graph.all() {
            let mut reads = match graph.expr(e) {
                Expr::Column(c) | Expr::Choose(c, _, _)
                    if graph.columns[c.0 as usize].differentiable =>
                {
                    Some(table.tree(graph.level(e)))
                }
                _ => None,
            };
            for o in graph.operands(e) {
                reads = match (reads, levels[o.index()]) {
                    (Some(a), Some(b)) => Some(table.join(a, b)),
                    (a, b) => a.or(b),
                };
            }
            if let Some(level) = reads {
                reads = Some(match graph.expr(e) {
                    Expr::Reduce(..) => table.join(level, table.tree(graph.level(e))),
                    Expr::Scan { scope, .. }
                    | Expr::Rank { scope, .. }
                    | Expr::Find { scope, .. }
                    | Expr::Prefix(_, scope)
                    | Expr::Gather { scope, .. }
                    | Expr::Scatter { scope, .. } => table.join(level, table.tree(scope)),
                    // The default is read at its own row; but the rows next to it must be there.
                    Expr::Shift { x, filter, scope, within, .. } => {
                        let along = |o: E| levels[o.index()].is_some();
                        let scope = table.tree(scope);
                        let far = !table.contains(ROLLOUT, scope);
                        let told = filter.is_some_and(along) || within.is_some_and(along);
                        if far || along(x) || told { table.join(level, scope) } else { level }
                    }
                    _ => level,
                });
            }
            levels[e.index()] = reads;
        }
        Reads { levels }
    }

    /// True when the expression depends on the current policy in any way.
    pub fn is_live(&self, e: E) -> bool {
        self.levels[e.index()].is_some()
    }

    /// The level of the live values one element reads.
    pub fn level(&self, e: E) -> Option<Level> {
        self.levels[e.index()]
    }
}

/// The coupling level of `loss`, and the expression that causes it (none at token level).
pub fn coupling(graph: &Graph, reads: &Reads, loss: E) -> (Level, Option<E>) {
    let table = &graph.level_table;
    // Per expression: over the rows of which level is it a sum of own-row expressions, and why.
    let mut memo: Vec<(Level, Option<E>)> = Vec::with_capacity(graph.len());
    for e in graph.all() {
        let coarser = |os: &[E]| {
            os.iter().fold((TOKEN, None), |best: (Level, Option<E>), o| {
                let (level, cause) = memo[o.index()];
                let joined = table.join(best.0, level);
                if joined == best.0 { best } else { (joined, cause) }
            })
        };
        let live = |e: E| reads.is_live(e);
        let value = if live(e) {
            match graph.expr(e) {
                Expr::Unary(Unary::Neg | Unary::Cast, x) | Expr::Detach(x) => coarser(&[x]),
                Expr::Binary(Binary::Add | Binary::Sub, a, b) => coarser(&[a, b]),
                Expr::Binary(Binary::Mul, a, b) if !live(a) || !live(b) => coarser(&[a, b]),
                Expr::Binary(Binary::Div, a, b) if !live(b) => coarser(&[a]),
                Expr::Select(c, a, b) if !live(c) => coarser(&[a, b]),
                Expr::Reduce(ReduceOp::Sum, x, filter)
                    if graph.level(x) != VOCAB && filter.is_none_or(|f| !live(f)) =>
                {
                    coarser(&[x])
                }
                Expr::Reduce(ReduceOp::Sum, x, Some(f)) if graph.level(x) != VOCAB => {
                    // A sum of `if f then x else 0`, whose terms read what x and f read.
                    let level = match (reads.level(x), reads.level(f)) {
                        (Some(a), Some(b)) => table.join(a, b),
                        (a, b) => a.or(b).unwrap_or(TOKEN),
                    };
                    named(graph, reads, if live(x) { x } else { f }, level)
                }
                // Its elements may lie in many rows, but a sum over them all is one over those rows.
                Expr::Scatter { op: ReduceOp::Sum, x, filter, index, .. }
                    if filter.is_none_or(|f| !live(f)) && !live(index) =>
                {
                    coarser(&[x])
                }
                Expr::Broadcast(x) if table.rows(graph.level(x)) == table.rows(graph.level(e)) => {
                    coarser(&[x])
                }
                Expr::Shift { x, default, filter, scope, within, .. }
                    if !live(x)
                        && filter.is_none_or(|f| !live(f))
                        && within.is_none_or(|w| !live(w))
                        && table.contains(ROLLOUT, table.tree(scope)) =>
                {
                    coarser(&[default])
                }
                // What comes down from a reduction, or runs along a scope, is read by elements other
                // than its own, though a sum of it could be reordered.
                _ => named(graph, reads, e, reads.level(e).unwrap_or(TOKEN)),
            }
        } else {
            (TOKEN, None)
        };
        memo.push(value);
    }
    memo[loss.index()]
}

/// The innermost expression below `e` that reads as much as `e` does.
fn named(graph: &Graph, reads: &Reads, e: E, level: Level) -> (Level, Option<E>) {
    if level == TOKEN {
        return (level, None);
    }
    let mut cause = e;
    'down: loop {
        for o in graph.operands(cause) {
            if reads.level(o) == Some(level) {
                cause = o;
                continue 'down;
            }
        }
        return (level, Some(cause));
    }
}

/// What pieces consist of under a coupling level: never less than a rollout.
pub fn piece_level(coupling: Level) -> Level {
    match coupling {
        BATCH => BATCH,
        GROUP => GROUP,
        _ => ROLLOUT,
    }
}

/// When each expression's value exists.
pub fn phases(graph: &Graph, reads: &Reads, piece: Level) -> Vec<Phase> {
    let table = &graph.level_table;
    let mut phases: Vec<Phase> = Vec::with_capacity(graph.len());
    for e in graph.all() {
        let phase = if reads.is_live(e) {
            let inside = match graph.expr(e) {
                Expr::Reduce(..) => table.contains(piece, graph.level(e)),
                Expr::Scan { scope, .. }
                | Expr::Shift { scope, .. }
                | Expr::Rank { scope, .. }
                | Expr::Find { scope, .. }
                | Expr::Prefix(_, scope)
                | Expr::Gather { scope, .. }
                | Expr::Scatter { scope, .. } => table.contains(piece, scope),
                _ => true,
            };
            let ready = graph.operands(e).all(|o| phases[o.index()] != Phase::After);
            if inside && ready { Phase::Live } else { Phase::After }
        } else {
            Phase::Recorded
        };
        phases.push(phase);
    }
    phases
}
