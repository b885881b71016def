//! Which names a statement reads. Walks with a list, since a tree may be thousands of levels deep.

use std::collections::BTreeSet;

use rlc_compiler::ast::{Body, Expr, ExprKind, Partition, StatementKind};

/// Names of values, functions and levels that a statement mentions, its own name excepted.
pub fn read_by(kind: &StatementKind) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut open: Vec<&Expr> = Vec::new();
    match kind {
        StatementKind::Extend(_)
        | StatementKind::Param { .. }
        | StatementKind::Input(_)
        | StatementKind::Policy(_)
        | StatementKind::Level { .. }
        | StatementKind::List { .. }
        | StatementKind::State { .. }
        | StatementKind::Allow(_) => {}
        StatementKind::Key { partition, .. } => part(partition, &mut open),
        StatementKind::Update { value: body, .. } | StatementKind::Def { body, .. } => {
            bodies(body, &mut open);
        }
        StatementKind::Fn { params, scope, body, .. } => {
            open.extend(params.iter().filter_map(|p| p.default.as_ref()));
            if let Some((_, Some(partition))) = scope {
                part(partition, &mut open);
            }
            bodies(body, &mut open);
        }
        StatementKind::Filter { cond: e, .. }
        | StatementKind::Goal { value: e, .. }
        | StatementKind::Metric { value: e, .. }
        | StatementKind::Sample { value: e, .. } => open.push(e),
    }
    while let Some(e) = open.pop() {
        match &e.kind {
            ExprKind::Literal(_) => {}
            ExprKind::Name(name) | ExprKind::Base(name) => {
                names.insert(name.clone());
            }
            ExprKind::Unary(_, x) | ExprKind::At(x, _) => open.push(x),
            ExprKind::Binary(_, _, a, b) => open.extend([&**a, &**b]),
            ExprKind::If(c, a, b) => open.extend([&**c, &**a, &**b]),
            ExprKind::Index(name, index) => {
                names.insert(name.name.clone());
                open.push(index);
            }
            ExprKind::Call(call) => {
                names.insert(call.function.name.clone());
                open.extend(call.args.iter().map(|a| &a.value));
                open.extend(call.filter.as_deref());
                if let Some(partition) = &call.per {
                    part(partition, &mut open);
                }
            }
        }
    }
    names
}

fn bodies<'a>(body: &'a Body, open: &mut Vec<&'a Expr>) {
    open.extend(body.locals.iter().map(|l| &l.1));
    open.push(&body.result);
}

fn part<'a>(partition: &'a Partition, open: &mut Vec<&'a Expr>) {
    match partition {
        Partition::Name(_) | Partition::Pairs(..) => {}
        Partition::Tuple(parts, _) => open.extend(parts),
        Partition::Runs(x, _, _) | Partition::Splits(x, _, _) | Partition::Prefix(x, _, _) => {
            open.push(x);
        }
    }
}
