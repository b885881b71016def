//! What expressions read.

use super::{E, Expr, Graph};

impl Graph {
    /// The operands of an expression, in order.
    pub fn operands(&self, e: E) -> Operands {
        let mut out = Operands { items: [E(0); 4], len: 0, at: 0 };
        match self.expr(e) {
            Expr::Const(_)
            | Expr::Param(_)
            | Expr::Column(_)
            | Expr::VocabIndex
            | Expr::Side(_)
            | Expr::Row => {}
            Expr::Choose(_, x, _)
            | Expr::Unary(_, x)
            | Expr::Broadcast(x)
            | Expr::Detach(x)
            | Expr::Prefix(x, _) => {
                out.push(x);
            }
            Expr::Binary(_, a, b)
            | Expr::At(a, b)
            | Expr::Nth(a, b)
            | Expr::Gather { x: a, index: b, .. }
            | Expr::Spread { d: a, index: b } => {
                out.push(a);
                out.push(b);
            }
            Expr::Select(c, a, b) => {
                out.push(c);
                out.push(a);
                out.push(b);
            }
            Expr::Reduce(_, x, filter) => out.extend([Some(x), filter]),
            Expr::Scatter { x, filter, index, .. } => out.extend([Some(x), filter, Some(index)]),
            Expr::Scan { x, filter, factor, within, .. } => {
                out.extend([Some(x), filter, factor, within]);
            }
            Expr::Rank { x, filter, within, .. } => out.extend([Some(x), filter, within]),
            Expr::Find { key, want, filter, within, .. } => {
                out.extend([Some(key), Some(want), filter, within]);
            }
            Expr::Shift { x, default, filter, within, .. } => {
                out.extend([Some(x), Some(default), filter, within]);
            }
        }
        out
    }

    /// The expression with its operands replaced.
    pub fn map_operands(&self, e: E, mut f: impl FnMut(E) -> E) -> Expr {
        match self.expr(e) {
            x @ (Expr::Const(_)
            | Expr::Param(_)
            | Expr::Column(_)
            | Expr::VocabIndex
            | Expr::Side(_)
            | Expr::Row) => x,
            Expr::Prefix(x, scope) => Expr::Prefix(f(x), scope),
            Expr::Nth(x, n) => Expr::Nth(f(x), f(n)),
            Expr::Spread { d, index } => Expr::Spread { d: f(d), index: f(index) },
            Expr::Gather { x, index, scope } => Expr::Gather { x: f(x), index: f(index), scope },
            Expr::Scatter { op, x, filter, index, scope } => {
                Expr::Scatter { op, x: f(x), filter: filter.map(&mut f), index: f(index), scope }
            }
            Expr::Find { key, want, filter, scope, within } => Expr::Find {
                key: f(key),
                want: f(want),
                filter: filter.map(&mut f),
                scope,
                within: within.map(f),
            },
            Expr::Choose(c, x, p) => Expr::Choose(c, f(x), p),
            Expr::Unary(op, x) => Expr::Unary(op, f(x)),
            Expr::Broadcast(x) => Expr::Broadcast(f(x)),
            Expr::Detach(x) => Expr::Detach(f(x)),
            Expr::Binary(op, a, b) => Expr::Binary(op, f(a), f(b)),
            Expr::At(a, b) => Expr::At(f(a), f(b)),
            Expr::Select(c, a, b) => Expr::Select(f(c), f(a), f(b)),
            Expr::Reduce(op, x, filter) => Expr::Reduce(op, f(x), filter.map(f)),
            Expr::Scan { x, filter, factor, scope, within, reverse, exclusive } => Expr::Scan {
                x: f(x),
                filter: filter.map(&mut f),
                factor: factor.map(&mut f),
                scope,
                within: within.map(f),
                reverse,
                exclusive,
            },
            Expr::Rank { x, filter, scope, within } => {
                Expr::Rank { x: f(x), filter: filter.map(&mut f), scope, within: within.map(f) }
            }
            Expr::Shift { x, default, by, filter, scope, within } => Expr::Shift {
                x: f(x),
                default: f(default),
                by,
                filter: filter.map(&mut f),
                scope,
                within: within.map(f),
            },
        }
    }
}

/// The operands of one expression.
#[derive(Debug, Clone)]
pub struct Operands {
    items: [E; 4],
    len: u8,
    at: u8,
}

impl Operands {
    fn push(&mut self, e: E) {
        self.items[self.len as usize] = e;
        self.len += 1;
    }

    fn extend<const N: usize>(&mut self, es: [Option<E>; N]) {
        es.into_iter().flatten().for_each(|e| self.push(e));
    }
}

impl Iterator for Operands {
    type Item = E;

    fn next(&mut self) -> Option<E> {
        let item = (self.at < self.len).then(|| self.items[self.at as usize]);
        self.at += 1;
        item
    }
}
