//! The tree as indented text, without places: for `--emit ast`, and for comparing trees. It walks with
//! a list of what is still to be shown, so a tree of any depth can be shown.

use std::fmt::Write;

use super::print;
use crate::ast::{
    Base, Body, ColumnDecl, Expr, ExprKind, Module, Partition, Statement, StatementKind, UnaryOp,
};

/// Still to be shown; the text before it says what it is to its parent.
enum Item<'a> {
    Expr(String, &'a Expr),
    Partition(String, &'a Partition),
    Line(String),
}

/// The tree of a file, one node a line.
pub fn dump(module: &Module) -> String {
    let mut out = String::new();
    for statement in &module.statements {
        let mut items = Vec::new();
        let line = head(statement, &mut items);
        if let Some(doc) = &statement.doc {
            items.splice(0..0, doc.lines().map(|l| Item::Line(format!("## {l}"))));
        }
        out.push_str(&line);
        out.push('\n');
        walk(items, &mut out);
    }
    out
}

fn walk(items: Vec<Item<'_>>, out: &mut String) {
    let mut stack: Vec<(usize, Item<'_>)> = items.into_iter().rev().map(|i| (1, i)).collect();
    while let Some((depth, item)) = stack.pop() {
        let mut inner = Vec::new();
        let line = match item {
            Item::Line(line) => line,
            Item::Expr(role, e) => role + &expr(e, &mut inner),
            Item::Partition(role, p) => role + &partition(p, &mut inner),
        };
        for _ in 0..depth {
            out.push_str("  ");
        }
        out.push_str(&line);
        out.push('\n');
        stack.extend(inner.into_iter().rev().map(|i| (depth + 1, i)));
    }
}

fn head<'a>(statement: &'a Statement, items: &mut Vec<Item<'a>>) -> String {
    let plain = |e: &'a Expr| Item::Expr(String::new(), e);
    match &statement.kind {
        StatementKind::Extend(Base::Library(name)) => format!("extend library {}", name.name),
        StatementKind::Extend(Base::Path(path, _)) => format!("extend path {path:?}"),
        StatementKind::Extend(Base::Nothing(_)) => "extend nothing".to_owned(),
        StatementKind::Param { name, family, value, range } => {
            let mut line = format!("param {}", name.name);
            if let Some((n, _)) = family {
                let _ = write!(line, "[{n}]");
            }
            let _ = write!(line, " = {}", print::literal(value.0));
            if let Some((low, high, _)) = range {
                let _ = write!(line, " in [{}, {}]", print::literal(*low), print::literal(*high));
            }
            line
        }
        StatementKind::Input(column) => format!("input {}", self::column(column)),
        StatementKind::Policy(column) => format!("policy {}", self::column(column)),
        StatementKind::Level { name, parent } => format!("level {} in {}", name.name, parent.name),
        StatementKind::List { name, parent } => format!("list {} in {}", name.name, parent.name),
        StatementKind::Key { name, partition } => {
            items.push(Item::Partition(String::new(), partition));
            format!("key {}", name.name)
        }
        StatementKind::State { name, key, ty, value } => {
            let mut line = format!("state {}", name.name);
            if let Some(key) = key {
                let _ = write!(line, "[{}]", key.name);
            }
            if let Some(((ty, _), level)) = ty {
                let _ = write!(line, " : {}", print::type_name(*ty));
                if let Some(level) = level {
                    let _ = write!(line, " @ {}", level.name);
                }
            }
            let _ = write!(line, " = {}", print::literal(value.0));
            line
        }
        StatementKind::Update { name, value } => {
            body(value, items);
            format!("update {}", name.name)
        }
        StatementKind::Filter { keep, level, cond } => {
            items.push(plain(cond));
            format!("{} {}", if *keep { "keep" } else { "drop" }, level.name)
        }
        StatementKind::Def { name, body: value } => {
            body(value, items);
            format!("def {}", name.name)
        }
        StatementKind::Fn { name, params, scope, body: value } => {
            for param in params {
                items.push(match &param.default {
                    Some(default) => Item::Expr(format!("param {} = ", param.name.name), default),
                    None => Item::Line(format!("param {}", param.name.name)),
                });
            }
            if let Some((scope, default)) = scope {
                items.push(match default {
                    Some(p) => Item::Partition(format!("per {} = ", scope.name), p),
                    None => Item::Line(format!("per {}", scope.name)),
                });
            }
            body(value, items);
            format!("fn {}", name.name)
        }
        StatementKind::Goal { maximize, value } => {
            items.push(plain(value));
            if *maximize { "maximize".to_owned() } else { "minimize".to_owned() }
        }
        StatementKind::Metric { name, value } => {
            items.push(plain(value));
            format!("metric {}", name.name)
        }
        StatementKind::Sample { what, value } => {
            items.push(plain(value));
            format!("sample {}", what.name)
        }
        StatementKind::Allow(name) => format!("allow {}", name.name),
    }
}

fn column(column: &ColumnDecl) -> String {
    let mut line = column.name.name.clone();
    if let Some((n, _)) = column.family {
        let _ = write!(line, "[{n}]");
    }
    let _ = write!(line, " : {} @ {}", print::type_name(column.ty.0), column.level.name);
    if let Some((default, _)) = column.default {
        let _ = write!(line, " = {}", print::literal(default));
    }
    line
}

fn body<'a>(body: &'a Body, items: &mut Vec<Item<'a>>) {
    for (name, value) in &body.locals {
        items.push(Item::Expr(format!("{} = ", name.name), value));
    }
    items.push(Item::Expr(String::new(), &body.result));
}

fn partition<'a>(partition: &'a Partition, inner: &mut Vec<Item<'a>>) -> String {
    let of = |e: &'a Expr| Item::Expr(String::new(), e);
    match partition {
        Partition::Name(name) => format!("level {}", name.name),
        Partition::Tuple(parts, _) => {
            inner.extend(parts.iter().map(of));
            "tuple".to_owned()
        }
        Partition::Runs(e, level, _) => {
            inner.push(of(e));
            format!("runs in {}", level.name)
        }
        Partition::Splits(e, level, _) => {
            inner.push(of(e));
            format!("splits in {}", level.name)
        }
        Partition::Prefix(e, level, _) => {
            inner.push(of(e));
            format!("prefix in {}", level.name)
        }
        Partition::Pairs(of, level, _) => format!("pairs of {} in {}", of.name, level.name),
    }
}

fn expr<'a>(expr: &'a Expr, inner: &mut Vec<Item<'a>>) -> String {
    let of = |role: &str, e: &'a Expr| Item::Expr(role.to_owned(), e);
    match &expr.kind {
        ExprKind::Literal(value) => format!("literal {}", print::literal(*value)),
        ExprKind::Name(name) => format!("name {name}"),
        ExprKind::Base(name) => format!("base {name}"),
        ExprKind::Unary(op, x) => {
            inner.push(of("", x));
            match op {
                UnaryOp::Neg => "neg".to_owned(),
                UnaryOp::Not => "not".to_owned(),
            }
        }
        ExprKind::Binary(op, _, a, b) => {
            inner.extend([of("", a), of("", b)]);
            print::symbol(*op).to_owned()
        }
        ExprKind::If(c, a, b) => {
            inner.extend([of("", c), of("then ", a), of("else ", b)]);
            "if".to_owned()
        }
        ExprKind::At(x, level) => {
            inner.push(of("", x));
            format!("@ {}", level.name)
        }
        ExprKind::Index(name, index) => {
            inner.push(of("", index));
            format!("index {}", name.name)
        }
        ExprKind::Call(call) => {
            for arg in &call.args {
                let role = arg.name.as_ref().map_or(String::new(), |n| format!("{} = ", n.name));
                inner.push(Item::Expr(role, &arg.value));
            }
            if let Some(filter) = &call.filter {
                inner.push(of("where ", filter));
            }
            if let Some(per) = &call.per {
                inner.push(Item::Partition("per ".to_owned(), per));
            }
            if let Some(scope) = &call.scope {
                inner.push(Item::Line(format!("in {}", scope.name)));
            }
            if let Some((variable, (low, high), _)) = &call.unroll {
                inner.push(Item::Line(format!("for {} in {low}..{high}", variable.name)));
            }
            format!("call {}", call.function.name)
        }
    }
}
