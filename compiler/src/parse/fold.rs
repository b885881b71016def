//! Operator precedence: turns a flat chain of operands and operators into a tree. It keeps two stacks
//! and never recurses, so the length of a chain costs no stack.

use super::lex::clip;
use super::mend::checked;
use super::{Fail, Text};
use crate::ast::{Arg, BinaryOp, Call, Expr, ExprKind, Ident, UnaryOp};
use crate::diagnostic::Diagnostic;
use crate::source::Span;

/// An operator between two operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Infix {
    /// `|>`
    Pipe,
    /// All the others.
    Op(BinaryOp),
}

/// One piece of a chain, in the order of the text.
pub(super) enum Piece {
    Prefix(UnaryOp, Span),
    Infix(Infix, Span),
    Operand(Expr),
}

/// How tightly operators bind; larger is tighter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Binding {
    Pipe,
    Or,
    And,
    Not,
    Comparison,
    Sum,
    Product,
    Sign,
    Power,
}

/// The place of a binary operator in the precedence of `docs/language.md`.
pub(super) fn binding(op: BinaryOp) -> Binding {
    match op {
        BinaryOp::Or => Binding::Or,
        BinaryOp::And => Binding::And,
        BinaryOp::Eq | BinaryOp::Ne | BinaryOp::Lt | BinaryOp::Le | BinaryOp::Gt | BinaryOp::Ge => {
            Binding::Comparison
        }
        BinaryOp::Add | BinaryOp::Sub => Binding::Sum,
        BinaryOp::Mul | BinaryOp::Div | BinaryOp::FloorDiv | BinaryOp::Mod => Binding::Product,
        BinaryOp::Pow => Binding::Power,
    }
}

enum Pending {
    Prefix(UnaryOp, Span),
    Infix(Infix, Span),
}

impl Pending {
    fn binding(&self) -> Binding {
        match self {
            Pending::Prefix(UnaryOp::Neg, _) => Binding::Sign,
            Pending::Prefix(UnaryOp::Not, _) => Binding::Not,
            Pending::Infix(Infix::Pipe, _) => Binding::Pipe,
            Pending::Infix(Infix::Op(op), _) => binding(*op),
        }
    }
}

/// Applies the precedence.
pub(super) fn fold(pieces: Vec<Piece>, whole: Span, text: Text<'_>) -> Result<Expr, Fail> {
    let marks: Vec<(Binding, Span)> = pieces
        .iter()
        .filter_map(|piece| match piece {
            Piece::Infix(Infix::Pipe, span) => Some((Binding::Pipe, *span)),
            Piece::Infix(Infix::Op(op), span) => Some((binding(*op), *span)),
            Piece::Prefix(..) | Piece::Operand(_) => None,
        })
        .collect();
    let mut pending: Vec<Pending> = Vec::new();
    let mut values: Vec<Expr> = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Operand(value) => values.push(value),
            Piece::Prefix(op, span) => {
                if op == UnaryOp::Not
                    && let Some(outer) = pending.last().filter(|p| p.binding() > Binding::Not)
                {
                    return Err(bare_not(span, outer));
                }
                pending.push(Pending::Prefix(op, span));
            }
            Piece::Infix(op, span) => {
                let next = Pending::Infix(op, span);
                let new = next.binding();
                while let Some(top) = pending.last() {
                    let old = top.binding();
                    if old < new || (old == new && new == Binding::Power) {
                        break;
                    }
                    if old == new
                        && new == Binding::Comparison
                        && let Pending::Infix(_, first) = top
                    {
                        let left = values.iter().rev().nth(1).map_or(whole, |e| e.span);
                        return Err(chained(left, *first, span, whole, &marks, text));
                    }
                    reduce(&mut pending, &mut values, text)?;
                }
                pending.push(next);
            }
        }
    }
    while !pending.is_empty() {
        reduce(&mut pending, &mut values, text)?;
    }
    values.pop().ok_or_else(|| {
        // The grammar lets no chain without an operand through.
        let help = "write a value:\n\n    x = 1";
        Diagnostic::error("E0003", "an expression is missing", whole, "here", help)
    })
}

/// Applies the operator on top of the stack.
fn reduce(pending: &mut Vec<Pending>, values: &mut Vec<Expr>, text: Text<'_>) -> Result<(), Fail> {
    let (Some(top), Some(right)) = (pending.pop(), values.pop()) else { return Ok(()) };
    let value = match top {
        Pending::Prefix(op, span) => {
            Expr { span: span.to(right.span), kind: ExprKind::Unary(op, Box::new(right)) }
        }
        Pending::Infix(op, at) => {
            let Some(left) = values.pop() else {
                values.push(right);
                return Ok(());
            };
            let span = left.span.to(right.span);
            let kind = match op {
                Infix::Op(op) => ExprKind::Binary(op, at, Box::new(left), Box::new(right)),
                Infix::Pipe => {
                    let grouped = text.of(right.span).starts_with('(');
                    ExprKind::Call(Box::new(piped(left, at, right, grouped)?))
                }
            };
            Expr { span, kind }
        }
    };
    values.push(value);
    Ok(())
}

/// `x |> f(y)` and `x |> f`: x becomes the first argument.
fn piped(left: Expr, at: Span, right: Expr, grouped: bool) -> Result<Call, Fail> {
    let first = Arg { name: None, value: left };
    let call = |name: String| Call {
        function: Ident { name, span: right.span },
        args: Vec::new(),
        filter: None,
        per: None,
        scope: None,
        unroll: None,
    };
    let mut call = match right.kind {
        ExprKind::Call(call) if !grouped => *call,
        ExprKind::Name(name) if !grouped => call(name),
        ExprKind::Base(name) if !grouped => call(format!("base.{name}")),
        // In brackets it is a value, and which argument of what it should become is anyone's guess.
        ExprKind::Call(_)
        | ExprKind::Name(_)
        | ExprKind::Base(_)
        | ExprKind::Literal(_)
        | ExprKind::Unary(..)
        | ExprKind::Binary(..)
        | ExprKind::If(..)
        | ExprKind::At(..)
        | ExprKind::Index(..) => {
            let help = "`|>` binds loosest: its right side is a function or a call, and\n\
                        the rest of the arithmetic needs brackets around the pipe:\n\n\
                        \x20   2 * (reward |> group_norm)";
            let title = "the right side of `|>` is not a function";
            let fail = Diagnostic::error("E0007", title, right.span, "not a function", help);
            return Err(fail.with(at, "passes its left side to a function"));
        }
    };
    call.args.insert(0, first);
    Ok(call)
}

fn bare_not(span: Span, outer: &Pending) -> Fail {
    let (Pending::Prefix(_, at) | Pending::Infix(_, at)) = outer;
    let help = "`not` binds looser than comparisons and arithmetic; put it in\n\
                brackets:\n\n    correct == (not truncated)";
    let fail = Diagnostic::error(
        "E0007",
        "`not` is an operand without brackets",
        span,
        "binds looser",
        help,
    );
    fail.with(*at, "than this")
}

/// `a < b < c`.
fn chained(
    left: Span,
    first: Span,
    second: Span,
    whole: Span,
    marks: &[(Binding, Span)],
    text: Text<'_>,
) -> Fail {
    let end = marks
        .iter()
        .find(|(binding, at)| at.start > second.start && *binding <= Binding::Comparison)
        .map_or(whole.end, |(_, at)| at.start);
    let part = |from: u32, to: u32| text.of(Span { start: from, end: to, ..first }).trim();
    let (a, b) = (text.of(left).trim(), part(first.end, second.start));
    let c = part(second.end, end);
    let (op, next) = (text.of(first), text.of(second));
    let code = checked(text, &format!("{a} {op} {b} and {b} {next} {c}"))
        .unwrap_or_else(|| format!("a {op} b and b {next} c"));
    let title = format!("`{}` and `{}` are chained", clip(op), clip(next));
    let help = format!("a comparison gives true or false; compare twice:\n\n    {code}");
    let fail = Diagnostic::error("E0006", title, second, "compares the result of the first", help);
    fail.with(first, "this is a comparison already")
}
