//! Operators that run within elements of a derived level.

use super::Rewriter;
use crate::hir::{E, Expr, Graph};
use crate::level::Level;
use crate::op::{Binary, Ty};
use crate::program::Phase;
use crate::simplify::constant_of;

impl Rewriter {
    /// Whether an index is the row's own number.
    pub(super) fn is_row(&self, index: E) -> bool {
        self.graph.expr(index) == Expr::Row
    }

    /// Whether each row belongs to an element.
    fn belongs(&mut self, within: E) -> E {
        let zero = self.graph.constant(0.0, Ty::Int);
        self.graph.binary(Binary::Ge, within, zero)
    }

    /// An operator whose scope is the row itself: without elements, but for rows of none.
    pub(super) fn alone(&mut self, expr: Expr, within: E) -> Expr {
        let belongs = self.belongs(within);
        let (Expr::Scan { filter, .. }
        | Expr::Shift { filter, .. }
        | Expr::Rank { filter, .. }
        | Expr::Find { filter, .. }) = expr
        else {
            return expr;
        };
        let filter = match filter {
            Some(f) => self.graph.binary(Binary::And, f, belongs),
            None => belongs,
        };
        with(expr, Some(filter), None)
    }

    /// The operator with elements numbered so that none is in two rows of `scope`: then what is
    /// carried along them has a place for each. Calls look at one row of the scope at a time anyway.
    pub(super) fn numbered(&mut self, expr: Expr, within: E, scope: Level) -> Expr {
        let (Expr::Scan { filter, .. } | Expr::Shift { filter, .. }) = expr else { return expr };
        if home(&self.graph, within, scope).is_some() {
            return expr;
        }
        let belongs = self.belongs(within);
        self.settle();
        let phase = match self.phases[within.index()] {
            Phase::Live if !self.graph.level_table.contains(self.piece, scope) => Phase::After,
            phase => phase,
        };
        let first =
            Expr::Find { key: within, want: within, filter: Some(belongs), scope, within: None };
        let first = self.timed(first, self.graph.level(within), Ty::Int, phase);
        with(expr, filter, Some(first))
    }
}

fn with(expr: Expr, filter: Option<E>, within: Option<E>) -> Expr {
    match expr {
        Expr::Scan { x, factor, scope, reverse, exclusive, .. } => {
            Expr::Scan { x, filter, factor, scope, within, reverse, exclusive }
        }
        Expr::Shift { x, default, by, scope, .. } => {
            Expr::Shift { x, default, by, filter, scope, within }
        }
        Expr::Rank { x, scope, .. } => Expr::Rank { x, filter, scope, within },
        Expr::Find { key, want, scope, .. } => Expr::Find { key, want, filter, scope, within },
        other => other,
    }
}

/// The level whose rows `index` numbers, each row in one row of `scope` only; none if that is open.
pub(in crate::fuse) fn home(graph: &Graph, index: E, scope: Level) -> Option<Level> {
    let inside = |l: Level| graph.level_table.contains(scope, l);
    match graph.expr(index) {
        Expr::Row => Some(graph.level(index)).filter(|l| inside(*l)),
        Expr::Find { scope: of, .. } | Expr::Prefix(_, of) => {
            Some(graph.level(index)).filter(|_| inside(of))
        }
        Expr::Broadcast(x) => home(graph, x, scope),
        Expr::Select(_, a, b) => {
            let none = |x: E| constant_of(graph, x).is_some_and(|c| c < 0.0);
            if none(b) { home(graph, a, scope) } else { home(graph, b, scope).filter(|_| none(a)) }
        }
        Expr::Const(_)
        | Expr::Param(_)
        | Expr::Column(_)
        | Expr::Choose(..)
        | Expr::Unary(..)
        | Expr::Binary(..)
        | Expr::Reduce(..)
        | Expr::Scan { .. }
        | Expr::Shift { .. }
        | Expr::Rank { .. }
        | Expr::Scatter { .. }
        | Expr::Gather { .. }
        | Expr::Side(_)
        | Expr::Nth(..)
        | Expr::Spread { .. }
        | Expr::At(..)
        | Expr::VocabIndex
        | Expr::Detach(_) => None,
    }
}
