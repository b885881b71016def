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
        StatementKind::Key { partition, .. } => part(partition, &mut open, &mut names),
        StatementKind::Update { value: body, .. } | StatementKind::Def { body, .. } => {
            bodies(body, &mut open);
        }
        StatementKind::Fn { params, scope, body, .. } => {
            open.extend(params.iter().filter_map(|p| p.default.as_ref()));
            if let Some((_, Some(partition))) = scope {
                part(partition, &mut open, &mut names);
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
            ExprKind::Unary(_, x) => open.push(x),
            ExprKind::At(x, level) => {
                names.insert(level.name.clone());
                open.push(x);
            }
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
                names.extend(call.scope.iter().map(|level| level.name.clone()));
                if let Some(partition) = &call.per {
                    part(partition, &mut open, &mut names);
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

fn part<'a>(partition: &'a Partition, open: &mut Vec<&'a Expr>, names: &mut BTreeSet<String>) {
    match partition {
        Partition::Name(level) => {
            // One side of pairs is read of the pairs.
            let whole = level.name.split('.').next().unwrap_or(&level.name);
            names.insert(whole.to_owned());
        }
        Partition::Pairs(of, within, _) => {
            names.extend([of.name.clone(), within.name.clone()]);
        }
        Partition::Tuple(parts, _) => open.extend(parts),
        Partition::Runs(x, level, _)
        | Partition::Splits(x, level, _)
        | Partition::Prefix(x, level, _) => {
            names.insert(level.name.clone());
            open.push(x);
        }
    }
}
