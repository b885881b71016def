//! The parts of a program's text, for tests that take programs apart.

use rlc_compiler::ast::{Body, Expr, ExprKind, Module, Partition, StatementKind};
use rlc_compiler::parse::parse;
use rlc_compiler::source::{Source, Sources};

/// The statements of a text; broken ones are absent.
pub fn module(text: &str) -> Module {
    let mut sources = Sources::default();
    let source = Source { name: "part.rl".into(), text: text.to_owned(), library: false };
    let root = sources.add(source);
    parse(&sources, root).0
}

/// The outermost expressions of a statement.
pub fn expressions(kind: &StatementKind) -> Vec<&Expr> {
    let mut out = Vec::new();
    match kind {
        StatementKind::Extend(_)
        | StatementKind::Param { .. }
        | StatementKind::Input(_)
        | StatementKind::Policy(_)
        | StatementKind::Level { .. }
        | StatementKind::List { .. }
        | StatementKind::State { .. }
        | StatementKind::Allow(_) => {}
        StatementKind::Key { partition, .. } => parts(partition, &mut out),
        StatementKind::Update { value: body, .. } | StatementKind::Def { body, .. } => {
            bodies(body, &mut out);
        }
        StatementKind::Fn { params, scope, body, .. } => {
            out.extend(params.iter().filter_map(|p| p.default.as_ref()));
            if let Some((_, Some(partition))) = scope {
                parts(partition, &mut out);
            }
            bodies(body, &mut out);
        }
        StatementKind::Filter { cond: e, .. }
        | StatementKind::Goal { value: e, .. }
        | StatementKind::Metric { value: e, .. }
        | StatementKind::Sample { value: e, .. } => out.push(e),
    }
    out
}

/// The expressions right inside an expression.
pub fn children(e: &Expr) -> Vec<&Expr> {
    let mut out = Vec::new();
    match &e.kind {
        ExprKind::Literal(_) | ExprKind::Name(_) | ExprKind::Base(_) => {}
        ExprKind::Unary(_, x) | ExprKind::At(x, _) | ExprKind::Index(_, x) => out.push(&**x),
        ExprKind::Binary(_, _, a, b) => out.extend([&**a, &**b]),
        ExprKind::If(c, a, b) => out.extend([&**c, &**a, &**b]),
        ExprKind::Call(call) => {
            out.extend(call.args.iter().map(|a| &a.value));
            out.extend(call.filter.as_deref());
            if let Some(partition) = &call.per {
                parts(partition, &mut out);
            }
        }
    }
    out
}

/// Every expression of a program, outer ones before inner ones.
pub fn all(module: &Module) -> Vec<&Expr> {
    let mut open: Vec<&Expr> =
        module.statements.iter().flat_map(|s| expressions(&s.kind)).rev().collect();
    let mut out = Vec::new();
    while let Some(e) = open.pop() {
        out.push(e);
        open.extend(children(e).into_iter().rev());
    }
    out
}

fn bodies<'a>(body: &'a Body, out: &mut Vec<&'a Expr>) {
    out.extend(body.locals.iter().map(|l| &l.1));
    out.push(&body.result);
}

fn parts<'a>(partition: &'a Partition, out: &mut Vec<&'a Expr>) {
    match partition {
        Partition::Name(_) | Partition::Pairs(..) => {}
        Partition::Tuple(parts, _) => out.extend(parts),
        Partition::Runs(x, _, _) | Partition::Splits(x, _, _) | Partition::Prefix(x, _, _) => {
            out.push(x);
        }
    }
}
