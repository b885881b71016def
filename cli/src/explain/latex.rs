//! A program as typeset mathematics: an `aligned` environment of definitions, in the part of LaTeX
//! that KaTeX renders. KaTeX gives up after 1000 macro expansions, and much of what looks primitive
//! is a macro there (`\operatorname` counts 3, `\,` too), so what a program has many of is written
//! without.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use rlc_compiler::ast::{
    BinaryOp, Body, Call, Expr, ExprKind, Ident, Literal, Partition, StatementKind, UnaryOp,
};
use rlc_compiler::link::{Item, Linked};

use super::{Subject, names};
use crate::failure::{Failure, Outcome};

/// Marks what a name means in the extended file.
const BASE: &str = "^{\\text{base}}";

/// Expressions inside one another, at most; nobody reads more.
const DEEPEST: usize = 200;

impl Subject<'_> {
    /// The goal, then every definition and function it reads, in order of use.
    pub(super) fn latex(&self) -> Outcome<String> {
        typeset(&self.linked)
    }
}

fn typeset(linked: &Linked) -> Outcome<String> {
    let deep = || Failure::input("an expression is nested too deep to be typeset", "");
    let Some((maximize, goal)) = &linked.goal else {
        return Err(Failure::input("the program has no goal", ""));
    };
    let verb = if *maximize { "maximize" } else { "minimize" };
    let value = expr(&goal.value, 0, 0).ok_or_else(deep)?;
    let mut lines = vec![format!("&\\text{{{verb}}} \\quad {value}")];
    let mut open = names_of(&goal.value);
    let mut seen: BTreeSet<String> = BTreeSet::new();
    while !open.is_empty() {
        let name = open.remove(0);
        if !seen.insert(name.clone()) {
            continue;
        }
        if let Some(function) = linked.function(&name) {
            let params: Vec<String> = function.params.iter().map(|p| word(&p.name.name)).collect();
            let scope = match &function.scope {
                Some((level, _)) => format!("_{{\\text{{{}}}}}", escaped(&level.name)),
                None => String::new(),
            };
            let head = format!("{}{scope}({})", operator(&name), params.join(", "));
            lines.push(body(&head, &function.body).ok_or_else(deep)?);
            let own = |n: &String| function.params.iter().any(|p| p.name.name == *n);
            open.extend(reads(&function.body).into_iter().filter(|n| !own(n)));
        }
        if let Some((_, key)) = linked.key(&name) {
            let own = partition(key, 0).ok_or_else(deep)?;
            lines.push(format!("\\text{{{}}} &= {own}", escaped(&name)));
            let kind = StatementKind::Key {
                name: Ident { name: name.clone(), span: key.span() },
                partition: key.clone(),
            };
            open.extend(names::read_by(&kind));
        }
        // The policy's own log-probability is known to every reader.
        let library = |depth: usize| depth == 0;
        if let Some(entry) = linked.value(&name)
            && let Item::Def(own) = &entry.item
            && !library(entry.depth)
        {
            let mut written = body(&word(&name), own).ok_or_else(deep)?;
            open.extend(reads(own));
            lines.push(written.clone());
            // What `base.name` stands for has a line of its own, if it is read.
            let older = linked.values.get(&name).into_iter().flatten().rev().skip(1);
            for entry in older {
                let Item::Def(own) = &entry.item else { break };
                if !written.contains(BASE) {
                    break;
                }
                written = body("", own).ok_or_else(deep)?;
                open.extend(reads(own));
                lines.push(format!("{}{BASE}{written}", word(&name)));
            }
        }
    }
    let joined = lines.join(" \\\\[4pt]\n");
    Ok(format!("\\begin{{aligned}}\n{joined}\n\\end{{aligned}}\n"))
}

fn names_of(e: &Expr) -> Vec<String> {
    let kind = StatementKind::Filter {
        keep: true,
        level: Ident { name: String::new(), span: e.span },
        cond: e.clone(),
    };
    names::read_by(&kind).into_iter().collect()
}

fn reads(body: &Body) -> Vec<String> {
    let locals: BTreeSet<&str> = body.locals.iter().map(|l| l.0.name.as_str()).collect();
    let parts = body.locals.iter().map(|l| &l.1).chain([&body.result]);
    parts.flat_map(names_of).filter(|n| !locals.contains(n.as_str())).collect()
}

fn body(head: &str, body: &Body) -> Option<String> {
    let mut line = format!("{head} &= {}", expr(&body.result, 0, 0)?);
    for (i, (name, value)) in body.locals.iter().enumerate() {
        let lead = if i == 0 { "\\text{where }" } else { "\\phantom{\\text{where }}" };
        line.push_str(&format!(
            " \\\\\n&\\quad {lead} {} = {}",
            word(&name.name),
            expr(value, 0, 0)?
        ));
    }
    Some(line)
}

fn escaped(name: &str) -> String {
    name.replace('_', "\\_")
}

fn word(name: &str) -> String {
    match name {
        "beta" | "gamma" | "tau" | "lambda" | "alpha" | "epsilon" | "delta" | "pi" => {
            format!("\\{name}")
        }
        "inf" => "\\infty".into(),
        _ if name.chars().count() == 1 => name.to_owned(),
        _ => format!("\\mathrm{{{}}}", escaped(name)),
    }
}

fn operator(name: &str) -> String {
    match name {
        "exp" | "log" | "min" | "max" | "sin" | "cos" | "tanh" => format!("\\{name}"),
        _ => format!("\\mathop{{\\mathrm{{{}}}}}", escaped(name)),
    }
}

fn literal(value: Literal) -> String {
    let text = match value {
        Literal::Int(i) => i.to_string(),
        Literal::Bool(b) => return format!("\\text{{{b}}}"),
        Literal::Real(x) if x.is_infinite() => {
            return if x > 0.0 { "\\infty".into() } else { "-\\infty".into() };
        }
        Literal::Real(x) => format!("{x:?}"),
    };
    match text.split_once('e') {
        Some((digits, power)) => format!("{digits} \\cdot 10^{{{power}}}"),
        None => text,
    }
}

/// An expression for a place that binds as tightly as `outer`; none where it is too deep.
fn expr(e: &Expr, outer: u8, depth: usize) -> Option<String> {
    if depth > DEEPEST {
        return None;
    }
    let sub = |e: &Expr, binding: u8| expr(e, binding, depth + 1);
    let (text, binding) = match &e.kind {
        ExprKind::Literal(value) => {
            let text = literal(*value);
            let binding = if text.starts_with('-') { 5 } else { 9 };
            (text, binding)
        }
        ExprKind::Name(name) => (word(name), 9),
        ExprKind::Base(name) => (format!("{}{BASE}", word(name)), 8),
        ExprKind::Unary(UnaryOp::Neg, x) => (format!("-{}", sub(x, 6)?), 5),
        ExprKind::Unary(UnaryOp::Not, x) => (format!("\\lnot {}", sub(x, 6)?), 3),
        ExprKind::Binary(op, _, a, b) => match op {
            BinaryOp::Div => (format!("\\frac{{{}}}{{{}}}", sub(a, 0)?, sub(b, 0)?), 8),
            BinaryOp::Pow => (format!("{{{}}}^{{{}}}", sub(a, 9)?, sub(b, 0)?), 8),
            BinaryOp::FloorDiv => {
                let inner = format!("\\frac{{{}}}{{{}}}", sub(a, 0)?, sub(b, 0)?);
                (format!("\\left\\lfloor {inner} \\right\\rfloor"), 9)
            }
            _ => {
                let (sign, own) = sign(*op);
                (format!("{} {sign} {}", sub(a, own)?, sub(b, own + 1)?), own)
            }
        },
        ExprKind::If(..) => (cases(e, depth)?, 0),
        ExprKind::At(x, level) => {
            (format!("{{{}}}_{{@\\text{{{}}}}}", sub(x, 9)?, escaped(&level.name)), 8)
        }
        ExprKind::Index(name, k) => (format!("{{{}}}_{{{}}}", word(&name.name), sub(k, 0)?), 8),
        ExprKind::Call(c) => (call(c, depth)?, 9),
    };
    Some(if binding < outer { format!("\\left( {text} \\right)") } else { text })
}

fn sign(op: BinaryOp) -> (&'static str, u8) {
    match op {
        BinaryOp::Or => ("\\lor", 1),
        BinaryOp::And => ("\\land", 2),
        BinaryOp::Eq => ("=", 4),
        BinaryOp::Ne => ("\\ne", 4),
        BinaryOp::Lt => ("<", 4),
        BinaryOp::Le => ("\\le", 4),
        BinaryOp::Gt => (">", 4),
        BinaryOp::Ge => ("\\ge", 4),
        BinaryOp::Add => ("+", 5),
        BinaryOp::Sub => ("-", 5),
        BinaryOp::Mul => ("\\cdot", 6),
        BinaryOp::Mod => ("\\bmod", 6),
        BinaryOp::Div | BinaryOp::FloorDiv | BinaryOp::Pow => ("/", 6),
    }
}

/// An `if` with its chain of `else if`s, one row each.
fn cases(e: &Expr, depth: usize) -> Option<String> {
    let sub = |e: &Expr| expr(e, 0, depth + 1);
    let (mut rows, mut rest) = (String::new(), e);
    while let ExprKind::If(condition, value, other) = &rest.kind {
        rows.push_str(&format!("{} & \\text{{if }} {} \\\\ ", sub(value)?, sub(condition)?));
        rest = other;
    }
    rows.push_str(&format!("{} & \\text{{otherwise}}", sub(rest)?));
    Some(format!("\\begin{{cases}} {rows} \\end{{cases}}"))
}

/// `f_{scope}(arguments)`.
fn call(c: &Call, depth: usize) -> Option<String> {
    if let ("sqrt", [x]) = (c.function.name.as_str(), c.args.as_slice()) {
        return Some(format!("\\sqrt{{{}}}", expr(&x.value, 0, depth + 1)?));
    }
    let mut args = Vec::new();
    for arg in &c.args {
        let value = expr(&arg.value, 0, depth + 1)?;
        args.push(match &arg.name {
            Some(name) => format!("{} = {value}", word(&name.name)),
            None => value,
        });
    }
    let mut inner = args.join(", ");
    if let Some(filter) = &c.filter {
        inner.push_str(&format!(" \\ \\middle|\\ {}", expr(filter, 0, depth + 1)?));
    }
    let mut scope = match (&c.per, &c.scope) {
        (Some(per), _) => partition(per, depth)?,
        (None, Some(level)) => format!("\\text{{{}}}", escaped(&level.name)),
        (None, None) => String::new(),
    };
    if let Some((name, (from, to), _)) = &c.unroll {
        let comma = if scope.is_empty() { "" } else { ", " };
        scope.push_str(&format!("{comma}{} = {from}..{to}", word(&name.name)));
    }
    let below = if scope.is_empty() { String::new() } else { format!("_{{{scope}}}") };
    Some(format!("{}{below}\\left( {inner} \\right)", operator(&c.function.name)))
}

fn partition(p: &Partition, depth: usize) -> Option<String> {
    let of = |kind: &str, x: &Expr, level: &str| {
        Some(format!(
            "\\text{{{kind}}}({}\\text{{ in {}}})",
            expr(x, 0, depth + 1)?,
            escaped(level)
        ))
    };
    match p {
        Partition::Name(name) => Some(format!("\\text{{{}}}", escaped(&name.name))),
        Partition::Tuple(parts, _) => {
            let parts: Option<Vec<String>> = parts.iter().map(|e| expr(e, 0, depth + 1)).collect();
            Some(format!("({})", parts?.join(", ")))
        }
        Partition::Runs(x, level, _) => of("runs", x, &level.name),
        Partition::Splits(x, level, _) => of("splits", x, &level.name),
        Partition::Prefix(x, level, _) => of("prefix", x, &level.name),
        Partition::Pairs(a, b, _) => {
            Some(format!("\\text{{pairs({} in {})}}", escaped(&a.name), escaped(&b.name)))
        }
    }
}
