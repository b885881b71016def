//! Rebuilds a graph with folding, sharing and hoisting; unreachable expressions stay behind.
//!
//! Every rewrite keeps the value bit for bit, except that a NaN may stay a NaN of another kind.
//! In particular x * 0 is not 0, and sums are not reordered.

use crate::hir::{E, Expr, Graph};
use crate::level::{BATCH, Level};
use crate::op::{Binary, Ty, Unary};

/// Rebuilds what `roots` need in its simplest form, and returns them in the new graph.
pub fn rebuild(old: &Graph, roots: &[E]) -> (Graph, Vec<E>) {
    copy(old, roots, make)
}

/// Drops what `roots` no longer need, and returns them in the new graph.
pub fn compact(old: &Graph, roots: &[E]) -> (Graph, Vec<E>) {
    copy(old, roots, Graph::add)
}

/// Copies what `roots` need, adding each expression with `add`.
fn copy(
    old: &Graph,
    roots: &[E],
    add: impl Fn(&mut Graph, Expr, Level, Ty) -> E,
) -> (Graph, Vec<E>) {
    let mut new = Graph::like(old);
    // Sentinels are never read: operands come before their users.
    let mut map = vec![E(u32::MAX); old.len()];
    let needed = old.reachable(roots.iter().copied());
    for e in old.all().filter(|e| needed[e.index()]) {
        let expr = old.map_operands(e, |o| map[o.index()]);
        let mapped = add(&mut new, expr, old.level(e), old.ty(e));
        new.copy_label(mapped, old, e);
        map[e.index()] = mapped;
    }
    let roots = roots.iter().map(|r| map[r.index()]).collect();
    (new, roots)
}

/// The number an expression always has, seen through broadcasts.
pub fn constant_of(graph: &Graph, e: E) -> Option<f64> {
    match graph.expr(e) {
        Expr::Const(bits) => Some(f64::from_bits(bits)),
        Expr::Broadcast(x) => constant_of(graph, x),
        _ => None,
    }
}

/// Adds an expression in its simplest form.
pub fn make(graph: &mut Graph, expr: Expr, level: Level, ty: Ty) -> E {
    if let Some(e) = hoist(graph, expr, level, ty) {
        return e;
    }
    match expr {
        Expr::Unary(op, x) => {
            if let Some(c) = constant_of(graph, x) {
                return graph.constant_at(op.eval(c), ty, level);
            }
            match (op, graph.expr(x)) {
                (Unary::Neg, Expr::Unary(Unary::Neg, inner))
                | (Unary::Not, Expr::Unary(Unary::Not, inner))
                    if graph.ty(inner) == ty =>
                {
                    inner
                }
                (Unary::Cast, Expr::Unary(Unary::Cast, inner)) => {
                    make(graph, Expr::Unary(Unary::Cast, inner), level, ty)
                }
                (Unary::Cast, _) if graph.ty(x) == ty => x,
                _ => graph.add(expr, level, ty),
            }
        }
        Expr::Binary(op, a, b) => binary(graph, op, a, b, level, ty),
        Expr::Select(c, a, b) => {
            if a == b {
                return a;
            }
            match constant_of(graph, c) {
                Some(0.0) => b,
                Some(_) => a,
                None => match graph.expr(c) {
                    Expr::Unary(Unary::Not, inner) => {
                        graph.add(Expr::Select(inner, b, a), level, ty)
                    }
                    _ => graph.add(expr, level, ty),
                },
            }
        }
        Expr::Broadcast(x) => graph.broadcast(x, level),
        Expr::Detach(x) => match graph.expr(x) {
            Expr::Const(_) | Expr::Param(_) | Expr::Detach(_) => x,
            _ => graph.add(expr, level, ty),
        },
        Expr::Reduce(op, x, Some(f)) => match constant_of(graph, f) {
            Some(c) if c != 0.0 => graph.add(Expr::Reduce(op, x, None), level, ty),
            _ => graph.add(expr, level, ty),
        },
        Expr::Scan { x, filter: Some(f), factor, scope, within, reverse, exclusive }
            if constant_of(graph, f).is_some_and(|c| c != 0.0) =>
        {
            let scan = Expr::Scan { x, filter: None, factor, scope, within, reverse, exclusive };
            graph.add(scan, level, ty)
        }
        Expr::At(x, index) => entry(graph, x, index, level, ty),
        Expr::Const(_)
        | Expr::Param(_)
        | Expr::Column(_)
        | Expr::Choose(..)
        | Expr::Reduce(..)
        | Expr::Scan { .. }
        | Expr::Shift { .. }
        | Expr::Rank { .. }
        | Expr::Scatter { .. }
        | Expr::Gather { .. }
        | Expr::Find { .. }
        | Expr::Prefix(..)
        | Expr::Side(_)
        | Expr::Row
        | Expr::Nth(..)
        | Expr::Spread { .. }
        | Expr::VocabIndex => graph.add(expr, level, ty),
    }
}

/// One entry of a row: scalar operators are computed for that entry alone, so that only columns are
/// read by index, and the gradient of `logp` needs no sum over the row.
fn entry(graph: &mut Graph, x: E, index: E, level: Level, ty: Ty) -> E {
    stacker::maybe_grow(128 << 10, 2 << 20, || entry_here(graph, x, index, level, ty))
}

fn entry_here(graph: &mut Graph, x: E, index: E, level: Level, ty: Ty) -> E {
    match graph.expr(x) {
        Expr::Broadcast(inner) => graph.broadcast(inner, level),
        Expr::VocabIndex => index,
        Expr::Unary(op, a) => {
            let ty_a = graph.ty(a);
            let a = entry(graph, a, index, level, ty_a);
            make(graph, Expr::Unary(op, a), level, ty)
        }
        Expr::Binary(op, a, b) => {
            let (ty_a, ty_b) = (graph.ty(a), graph.ty(b));
            let a = entry(graph, a, index, level, ty_a);
            let b = entry(graph, b, index, level, ty_b);
            make(graph, Expr::Binary(op, a, b), level, ty)
        }
        Expr::Select(c, a, b) => {
            let (ty_a, ty_b) = (graph.ty(a), graph.ty(b));
            let c = entry(graph, c, index, level, Ty::Bool);
            let a = entry(graph, a, index, level, ty_a);
            let b = entry(graph, b, index, level, ty_b);
            make(graph, Expr::Select(c, a, b), level, ty)
        }
        Expr::Detach(a) => {
            let a = entry(graph, a, index, level, ty);
            make(graph, Expr::Detach(a), level, ty)
        }
        Expr::Const(_)
        | Expr::Param(_)
        | Expr::Column(_)
        | Expr::Choose(..)
        | Expr::Reduce(..)
        | Expr::Scan { .. }
        | Expr::Shift { .. }
        | Expr::Rank { .. }
        | Expr::Scatter { .. }
        | Expr::Gather { .. }
        | Expr::Find { .. }
        | Expr::Prefix(..)
        | Expr::Side(_)
        | Expr::Row
        | Expr::Nth(..)
        | Expr::Spread { .. }
        | Expr::At(..) => graph.add(Expr::At(x, index), level, ty),
    }
}

fn binary(graph: &mut Graph, op: Binary, a: E, b: E, level: Level, ty: Ty) -> E {
    let (ca, cb) = (constant_of(graph, a), constant_of(graph, b));
    if let (Some(x), Some(y)) = (ca, cb) {
        return graph.constant_at(op.eval(x, y), ty, level);
    }
    // An identity may only stand in for the whole when it has the same type.
    let same_a = graph.ty(a) == ty;
    let same_b = graph.ty(b) == ty;
    match op {
        Binary::Add if cb == Some(0.0) && same_a => a,
        Binary::Add if ca == Some(0.0) && same_b => b,
        Binary::Sub if cb == Some(0.0) && same_a => a,
        Binary::Mul | Binary::Chain if cb == Some(1.0) && same_a => a,
        Binary::Mul | Binary::Chain if ca == Some(1.0) && same_b => b,
        Binary::Chain if ca == Some(0.0) => graph.constant_at(0.0, ty, level),
        Binary::Mul | Binary::Chain if cb == Some(-1.0) && same_a => {
            make(graph, Expr::Unary(Unary::Neg, a), level, ty)
        }
        Binary::Div if cb == Some(1.0) && same_a => a,
        Binary::Pow if cb == Some(1.0) && same_a => a,
        Binary::And if cb.is_some_and(|c| c != 0.0) => a,
        Binary::And if ca.is_some_and(|c| c != 0.0) => b,
        Binary::Or if cb == Some(0.0) => a,
        Binary::Or if ca == Some(0.0) => b,
        Binary::And | Binary::Or if a == b => a,
        // A finite constant factor needs no guard.
        Binary::Chain if cb.is_some_and(f64::is_finite) => {
            make(graph, Expr::Binary(Binary::Mul, a, b), level, ty)
        }
        _ => graph.add(Expr::Binary(op, a, b), level, ty),
    }
}

/// A scalar operator whose operands all come down from coarser levels is computed up there.
fn hoist(graph: &mut Graph, expr: Expr, level: Level, ty: Ty) -> Option<E> {
    let operands: &[E] = match &expr {
        Expr::Unary(_, x) => &[*x],
        Expr::Binary(_, a, b) => &[*a, *b],
        Expr::Select(c, a, b) => &[*c, *a, *b],
        Expr::Const(_)
        | Expr::Param(_)
        | Expr::Column(_)
        | Expr::Choose(..)
        | Expr::Broadcast(_)
        | Expr::Reduce(..)
        | Expr::Scan { .. }
        | Expr::Shift { .. }
        | Expr::Rank { .. }
        | Expr::Scatter { .. }
        | Expr::Gather { .. }
        | Expr::Find { .. }
        | Expr::Prefix(..)
        | Expr::Side(_)
        | Expr::Row
        | Expr::Nth(..)
        | Expr::Spread { .. }
        | Expr::At(..)
        | Expr::VocabIndex
        | Expr::Detach(_) => return None,
    };
    let mut above: Vec<E> = Vec::with_capacity(3);
    let mut meet = BATCH;
    for &o in operands {
        let Expr::Broadcast(x) = graph.expr(o) else { return None };
        meet = graph.level_table.meet(meet, graph.level(x))?;
        above.push(x);
    }
    if meet == level {
        return None;
    }
    let above: Vec<E> = above.into_iter().map(|x| graph.broadcast(x, meet)).collect();
    let lifted = match expr {
        Expr::Unary(op, _) => Expr::Unary(op, above[0]),
        Expr::Binary(op, _, _) => Expr::Binary(op, above[0], above[1]),
        Expr::Select(..) => Expr::Select(above[0], above[1], above[2]),
        other => other,
    };
    let e = make(graph, lifted, meet, ty);
    Some(graph.broadcast(e, level))
}
