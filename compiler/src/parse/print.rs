//! Tree to text: parsing what this prints gives the same tree, up to places and layout.

use std::fmt::Write;

use super::fold::{Binding, binding};
use crate::ast::{
    Base, BinaryOp, Body, Call, ColumnDecl, Expr, ExprKind, Literal, Module, Partition,
    StatementKind, TypeName, UnaryOp,
};

/// The text of a tree, one statement a line; blocks keep their lines.
pub fn print(module: &Module) -> String {
    let mut out = String::new();
    for statement in &module.statements {
        if let Some(doc) = &statement.doc {
            for line in doc.split('\n') {
                let blank = if line.is_empty() { "" } else { " " };
                let _ = writeln!(out, "##{blank}{line}");
            }
        }
        self::statement(&statement.kind, &mut out);
        out.push('\n');
    }
    out
}

fn statement(kind: &StatementKind, out: &mut String) {
    match kind {
        StatementKind::Extend(base) => {
            let _ = match base {
                Base::Library(name) => write!(out, "extend {}", name.name),
                Base::Path(path, _) => write!(out, "extend \"{path}\""),
                Base::Nothing(_) => write!(out, "extend nothing"),
            };
        }
        StatementKind::Param { name, family, value, range } => {
            let _ = write!(out, "param {}", name.name);
            members(*family, out);
            let _ = write!(out, " = {}", literal(value.0));
            if let Some((low, high, _)) = range {
                let _ = write!(out, " in [{}, {}]", literal(*low), literal(*high));
            }
        }
        StatementKind::Input(decl) => column("input", decl, out),
        StatementKind::Policy(decl) => column("policy", decl, out),
        StatementKind::Level { name, parent } => {
            let _ = write!(out, "level {} in {}", name.name, parent.name);
        }
        StatementKind::List { name, parent } => {
            let _ = write!(out, "list {} in {}", name.name, parent.name);
        }
        StatementKind::Key { name, partition: p } => {
            let _ = write!(out, "key {} = ", name.name);
            partition(p, out);
        }
        StatementKind::State { name, key, ty, value } => {
            let _ = write!(out, "state {}", name.name);
            if let Some(key) = key {
                let _ = write!(out, "[{}]", key.name);
            }
            if let Some(((ty, _), level)) = ty {
                let _ = write!(out, " : {}", type_name(*ty));
                if let Some(level) = level {
                    let _ = write!(out, " @ {}", level.name);
                }
            }
            let _ = write!(out, " = {}", literal(value.0));
        }
        StatementKind::Update { name, value } => {
            let _ = write!(out, "update {} =", name.name);
            body(value, out);
        }
        StatementKind::Filter { keep, level, cond } => {
            let word = if *keep { "keep" } else { "drop" };
            let _ = write!(out, "{word} {} where ", level.name);
            expr(cond, out);
        }
        StatementKind::Def { name, body: value } => {
            let _ = write!(out, "{} =", name.name);
            body(value, out);
        }
        StatementKind::Fn { name, params, scope, body: value } => {
            let _ = write!(out, "fn {}(", name.name);
            for (i, param) in params.iter().enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                out.push_str(&param.name.name);
                if let Some(default) = &param.default {
                    out.push_str(" = ");
                    expr(default, out);
                }
            }
            if let Some((scope, default)) = scope {
                out.push_str(if params.is_empty() { "per " } else { " per " });
                out.push_str(&scope.name);
                if let Some(default) = default {
                    out.push_str(" = ");
                    partition(default, out);
                }
            }
            out.push_str(") =");
            body(value, out);
        }
        StatementKind::Goal { maximize, value } => {
            out.push_str(if *maximize { "maximize " } else { "minimize " });
            expr(value, out);
        }
        StatementKind::Metric { name, value } => {
            let _ = write!(out, "metric {} = ", name.name);
            expr(value, out);
        }
        StatementKind::Sample { what, value } => {
            let _ = write!(out, "sample {} = ", what.name);
            expr(value, out);
        }
        StatementKind::Allow(name) => {
            let _ = write!(out, "allow {}", name.name);
        }
    }
}

fn members(family: Option<(usize, crate::source::Span)>, out: &mut String) {
    if let Some((n, _)) = family {
        let _ = write!(out, "[{n}]");
    }
}

fn column(word: &str, decl: &ColumnDecl, out: &mut String) {
    let _ = write!(out, "{word} {}", decl.name.name);
    members(decl.family, out);
    let _ = write!(out, " : {} @ {}", type_name(decl.ty.0), decl.level.name);
    if let Some((default, _)) = decl.default {
        let _ = write!(out, " = {}", literal(default));
    }
}

/// After `=`: on the same line, or as a block.
fn body(body: &Body, out: &mut String) {
    if body.locals.is_empty() {
        out.push(' ');
        return expr(&body.result, out);
    }
    for (name, value) in &body.locals {
        let _ = write!(out, "\n    {} = ", name.name);
        expr(value, out);
    }
    out.push_str("\n    ");
    expr(&body.result, out);
}

/// A type as it is written.
pub(super) fn type_name(ty: TypeName) -> &'static str {
    match ty {
        TypeName::Real => "real",
        TypeName::Int => "int",
        TypeName::Bool => "bool",
    }
}

/// A literal as it is written: a real always has a point or an exponent.
pub(super) fn literal(literal: Literal) -> String {
    match literal {
        Literal::Int(i) => i.to_string(),
        Literal::Real(x) => format!("{x:?}"),
        Literal::Bool(b) => b.to_string(),
    }
}

/// A binary operator as it is written.
pub(super) fn symbol(op: BinaryOp) -> &'static str {
    match op {
        BinaryOp::Add => "+",
        BinaryOp::Sub => "-",
        BinaryOp::Mul => "*",
        BinaryOp::Div => "/",
        BinaryOp::FloorDiv => "//",
        BinaryOp::Mod => "%",
        BinaryOp::Pow => "^",
        BinaryOp::Eq => "==",
        BinaryOp::Ne => "!=",
        BinaryOp::Lt => "<",
        BinaryOp::Le => "<=",
        BinaryOp::Gt => ">",
        BinaryOp::Ge => ">=",
        BinaryOp::And => "and",
        BinaryOp::Or => "or",
    }
}

/// What the place of an expression asks of it.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// Anything, `if` included.
    Free,
    /// An operator that binds at least so.
    AtLeast(Binding),
    /// An operator that binds tighter.
    Above(Binding),
    /// Nothing looser than `@`.
    Tight,
}

fn fits(e: &Expr, place: Place) -> bool {
    let own = match &e.kind {
        ExprKind::If(..) => return place == Place::Free,
        ExprKind::Binary(op, ..) => binding(*op),
        ExprKind::Unary(UnaryOp::Neg, _) => Binding::Sign,
        ExprKind::Unary(UnaryOp::Not, _) => Binding::Not,
        ExprKind::Literal(_)
        | ExprKind::Name(_)
        | ExprKind::Base(_)
        | ExprKind::At(..)
        | ExprKind::Index(..)
        | ExprKind::Call(_) => return true,
    };
    match place {
        Place::Free => true,
        Place::AtLeast(least) => own >= least,
        Place::Above(limit) => own > limit,
        Place::Tight => false,
    }
}

fn expr(e: &Expr, out: &mut String) {
    at(e, Place::Free, out);
}

/// Prints `e`, in brackets where its place needs them. A chain leans to the left and may be thousands
/// of operators long, so its left side is a loop; the right sides nest as deep as the text allows.
fn at(e: &Expr, place: Place, out: &mut String) {
    enum Rest<'a> {
        Operator(BinaryOp, &'a Expr, Place),
        Level(&'a str),
        Close,
    }
    let (mut e, mut place) = (e, place);
    let mut rest = Vec::new();
    loop {
        if !fits(e, place) {
            out.push('(');
            rest.push(Rest::Close);
        }
        match &e.kind {
            ExprKind::Binary(op, _, left, right) => {
                let own = binding(*op);
                let (before, after) = match own {
                    Binding::Power => (Place::Above(own), Place::AtLeast(own)),
                    Binding::Comparison => (Place::Above(own), Place::Above(own)),
                    _ => (Place::AtLeast(own), Place::Above(own)),
                };
                rest.push(Rest::Operator(*op, right, after));
                (e, place) = (left, before);
            }
            ExprKind::At(x, level) => {
                rest.push(Rest::Level(&level.name));
                (e, place) = (x, Place::Tight);
            }
            ExprKind::Literal(_)
            | ExprKind::Name(_)
            | ExprKind::Base(_)
            | ExprKind::Unary(..)
            | ExprKind::If(..)
            | ExprKind::Index(..)
            | ExprKind::Call(_) => break,
        }
    }
    leaf(e, out);
    for piece in rest.into_iter().rev() {
        match piece {
            Rest::Operator(op, right, place) => {
                let _ = write!(out, " {} ", symbol(op));
                at(right, place, out);
            }
            Rest::Level(level) => {
                let _ = write!(out, " @ {level}");
            }
            Rest::Close => out.push(')'),
        }
    }
}

/// What is no chain of operators.
fn leaf(e: &Expr, out: &mut String) {
    match &e.kind {
        ExprKind::Literal(value) => out.push_str(&literal(*value)),
        ExprKind::Name(name) => out.push_str(name),
        ExprKind::Base(name) => {
            let _ = write!(out, "base.{name}");
        }
        ExprKind::Unary(UnaryOp::Neg, x) => {
            out.push('-');
            at(x, Place::AtLeast(Binding::Sign), out);
        }
        ExprKind::Unary(UnaryOp::Not, x) => {
            out.push_str("not ");
            at(x, Place::AtLeast(Binding::Not), out);
        }
        ExprKind::If(c, a, b) => {
            for (word, part) in [("if ", c), (" then ", a), (" else ", b)] {
                out.push_str(word);
                expr(part, out);
            }
        }
        ExprKind::Index(name, index) => {
            let _ = write!(out, "{}[", name.name);
            expr(index, out);
            out.push(']');
        }
        ExprKind::Call(inner) => call(inner, out),
        ExprKind::Binary(..) | ExprKind::At(..) => expr(e, out),
    }
}

fn call(call: &Call, out: &mut String) {
    let _ = write!(out, "{}(", call.function.name);
    for (i, arg) in call.args.iter().enumerate() {
        out.push_str(if i > 0 { ", " } else { "" });
        if let Some(name) = &arg.name {
            let _ = write!(out, "{} = ", name.name);
        }
        expr(&arg.value, out);
    }
    let mut blank = if call.args.is_empty() { "" } else { " " };
    let mut clause = |out: &mut String, word: &str| {
        let _ = write!(out, "{blank}{word} ");
        blank = " ";
    };
    if let Some(filter) = &call.filter {
        clause(out, "where");
        expr(filter, out);
    }
    if let Some(per) = &call.per {
        clause(out, "per");
        partition(per, out);
    }
    if let Some(scope) = &call.scope {
        clause(out, "in");
        out.push_str(&scope.name);
    }
    if let Some((variable, (low, high), _)) = &call.unroll {
        clause(out, "for");
        let _ = write!(out, "{} in {low}..{high}", variable.name);
    }
    out.push(')');
}

fn partition(partition: &Partition, out: &mut String) {
    let (word, of, level) = match partition {
        Partition::Name(name) => return out.push_str(&name.name),
        Partition::Tuple(parts, _) => {
            out.push('(');
            for (i, part) in parts.iter().enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                expr(part, out);
            }
            return out.push(')');
        }
        Partition::Pairs(of, level, _) => {
            let _ = write!(out, "pairs({} in {})", of.name, level.name);
            return;
        }
        Partition::Runs(of, level, _) => ("runs", of, level),
        Partition::Splits(of, level, _) => ("splits", of, level),
        Partition::Prefix(of, level, _) => ("prefix", of, level),
    };
    let _ = write!(out, "{word}(");
    expr(of, out);
    let _ = write!(out, " in {})", level.name);
}
