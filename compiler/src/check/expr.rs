//! Operators: the type and level of every expression that is not a call.

use crate::ast::{self, BinaryOp, ExprKind, UnaryOp};
use crate::diagnostic::Diagnostic;
use crate::hir::E;
use crate::level::Level;
use crate::op::{Binary, Ty, Unary};
use crate::source::Span;

use super::{Checker, Scope, literal_value};

impl Checker<'_> {
    /// The value of an expression; none when an error was reported.
    pub(super) fn expr(&mut self, expr: &ast::Expr, scope: &Scope) -> Option<E> {
        // A legal statement may be thousands of operators deep.
        grown(|| self.expr_here(expr, scope))
    }

    fn expr_here(&mut self, expr: &ast::Expr, scope: &Scope) -> Option<E> {
        self.written(expr.span, scope)?;
        let value = match &expr.kind {
            ExprKind::Literal(literal) => {
                let (value, ty) = literal_value(*literal);
                Some(self.graph.constant(value, ty))
            }
            ExprKind::Name(name) => return self.name(name, expr.span, scope),
            ExprKind::Base(name) => self.base(name, expr.span, scope),
            ExprKind::Unary(op, x) => self.unary(*op, x, scope),
            ExprKind::Binary(op, at, a, b) => self.binary(*op, *at, a, b, scope),
            ExprKind::If(c, a, b) => self.conditional(c, a, b, expr.span, scope),
            ExprKind::At(x, level) => self.at_level(x, level, scope),
            ExprKind::Index(ident, index) => self.member(ident, index, scope),
            ExprKind::Call(call) => self.call(call, expr.span, scope),
        }?;
        self.graph.set_span(value, expr.span);
        Some(value)
    }

    fn unary(&mut self, op: UnaryOp, x: &ast::Expr, scope: &Scope) -> Option<E> {
        let value = self.expr(x, scope)?;
        match op {
            UnaryOp::Neg => {
                self.expect_number(value, x.span)?;
                Some(self.graph.unary(Unary::Neg, value))
            }
            UnaryOp::Not => {
                if !self.expect_bool(value, x.span, "the operand of `not`") {
                    return None;
                }
                Some(self.graph.unary(Unary::Not, value))
            }
        }
    }

    fn binary(
        &mut self,
        op: BinaryOp,
        at: Span,
        left: &ast::Expr,
        right: &ast::Expr,
        scope: &Scope,
    ) -> Option<E> {
        let a = self.expr(left, scope);
        let b = self.expr(right, scope);
        let (a, b) = (a?, b?);
        let op = match op {
            BinaryOp::Add => Binary::Add,
            BinaryOp::Sub => Binary::Sub,
            BinaryOp::Mul => Binary::Mul,
            BinaryOp::Div => Binary::Div,
            BinaryOp::FloorDiv => Binary::FloorDiv,
            BinaryOp::Mod => Binary::Mod,
            BinaryOp::Pow => Binary::Pow,
            BinaryOp::Eq => Binary::Eq,
            BinaryOp::Ne => Binary::Ne,
            BinaryOp::Lt => Binary::Lt,
            BinaryOp::Le => Binary::Le,
            BinaryOp::Gt => Binary::Gt,
            BinaryOp::Ge => Binary::Ge,
            BinaryOp::And => Binary::And,
            BinaryOp::Or => Binary::Or,
        };
        let fits = match op {
            Binary::And | Binary::Or => {
                let what =
                    if op == Binary::And { "an operand of `and`" } else { "an operand of `or`" };
                let left_ok = self.expect_bool(a, left.span, what);
                self.expect_bool(b, right.span, what) && left_ok
            }
            Binary::Eq | Binary::Ne => {
                let both = (self.graph.ty(a) == Ty::Bool) == (self.graph.ty(b) == Ty::Bool);
                if !both {
                    self.mixed(at, (a, left.span), (b, right.span));
                }
                both
            }
            _ => {
                let left_ok = self.expect_number(a, left.span).is_some();
                self.expect_number(b, right.span).is_some() && left_ok
            }
        };
        let meets = self.meet(at, &[(a, left.span), (b, right.span)]);
        if !fits || meets.is_none() {
            return None;
        }
        Some(self.graph.binary(op, a, b))
    }

    fn conditional(
        &mut self,
        c: &ast::Expr,
        a: &ast::Expr,
        b: &ast::Expr,
        span: Span,
        scope: &Scope,
    ) -> Option<E> {
        let cond = self.expr(c, scope);
        let then = self.expr(a, scope);
        let other = self.expr(b, scope);
        let (cond, then, other) = (cond?, then?, other?);
        let truth = self.expect_bool(cond, c.span, "the condition of `if`");
        let alike = (self.graph.ty(then) == Ty::Bool) == (self.graph.ty(other) == Ty::Bool);
        if !alike {
            self.mixed(span, (then, a.span), (other, b.span));
        }
        let meets = self.meet(span, &[(cond, c.span), (then, a.span), (other, b.span)]);
        if !truth || !alike || meets.is_none() {
            return None;
        }
        Some(self.graph.select(cond, then, other))
    }

    fn at_level(&mut self, x: &ast::Expr, level: &ast::Ident, scope: &Scope) -> Option<E> {
        let value = self.expr(x, scope);
        let to = self.find_level(level, scope);
        let (value, to) = (value?, to?);
        let from = self.graph.level(value);
        if !self.graph.level_table.contains(from, to) {
            let per = self.per(from);
            let reduces = self.graph.level_table.contains(to, from);
            let written = self.sources.slice(x.span).to_owned();
            let help = if reduces {
                format!(
                    "`@` goes to finer levels. Going up takes a reduction:\n`mean({written} per {})`",
                    level.name
                )
            } else {
                format!(
                    "bring it to a level inside a {}: `{written} @ token`",
                    self.level_name(from)
                )
            };
            self.error(
                "E0205",
                format!("a {} does not lie inside a {}", level.name, self.level_name(from)),
                x.span,
                per,
                help,
            );
            return None;
        }
        Some(self.graph.broadcast(value, to))
    }

    /// The finest level of some operands, which must be nested.
    pub(super) fn meet(&mut self, at: Span, operands: &[(E, Span)]) -> Option<Level> {
        let mut finest = operands.first().map(|o| (self.graph.level(o.0), o.1))?;
        for &(e, span) in &operands[1..] {
            let level = self.graph.level(e);
            match self.graph.level_table.meet(finest.0, level) {
                Some(meet) if meet == finest.0 => {}
                Some(meet) => finest = (meet, span),
                None => {
                    self.level_mismatch(at, finest, (level, span));
                    return None;
                }
            }
        }
        Some(finest.0)
    }

    fn level_mismatch(&mut self, at: Span, a: (Level, Span), b: (Level, Span)) {
        let (name_a, name_b) = (self.level_name(a.0).to_owned(), self.level_name(b.0).to_owned());
        let (text_a, text_b) =
            (self.sources.slice(a.1).to_owned(), self.sources.slice(b.1).to_owned());
        let (per_a, per_b) = (self.per(a.0), self.per(b.0));
        let subject = |text: &str, level: &str| {
            if text.len() <= 20 { format!("`{text}`") } else { format!("one side, per {level},") }
        };
        let diagnostic = Diagnostic::error(
            "E0201",
            format!(
                "{} is per {name_a}, but {} per {name_b}",
                subject(&text_a, &name_a),
                if text_b.len() <= 20 { format!("`{text_b}` is") } else { "the other is".into() }
            ),
            at,
            "neither level lies inside the other",
            self.ways_to_meet((a.0, &text_a), (b.0, &text_b)),
        )
        .with(a.1, per_a)
        .with(b.1, per_b);
        self.report(diagnostic);
    }

    /// What to write where two levels do not meet.
    fn ways_to_meet(&self, a: (Level, &str), b: (Level, &str)) -> String {
        for ((pairs, _), (_, text)) in [(a, b), (b, a)] {
            if self.keys.is_paired(pairs) {
                let text = shorten(text);
                let name = self.level_name(pairs);
                return format!(
                    "read the value of one side of each pair:\n\n    left({text} in {name}) or right({text} in {name})"
                );
            }
        }
        let table = &self.graph.level_table;
        let both = table.all().filter(|l| !table.is_derived(*l));
        let mut both = both.filter(|l| table.contains(a.0, *l) && table.contains(b.0, *l));
        let reduce = |(level, text): (Level, &str)| {
            let up = table.all().filter(|l| table.tree(*l) == *l && table.contains(*l, level));
            let up = up.filter(|l| *l != level).max_by_key(|l| table.depth(*l))?;
            Some(format!("mean({} per {})", shorten(text), table.name(up)))
        };
        let reduced = reduce(a).unwrap_or_default();
        match both.next() {
            Some(fine) => {
                let at = |text: &str| {
                    let short = shorten(text);
                    let short = if short.contains(' ') { format!("({short})") } else { short };
                    format!("{short} @ {}", table.name(fine))
                };
                format!(
                    "bring both to a level that lies inside both:\n\n    {} and {}\n\nor reduce one of them:\n\n    {reduced}",
                    at(a.1),
                    at(b.1)
                )
            }
            None => format!(
                "no level lies inside both; reduce one of them to what contains both:\n\n    {reduced}"
            ),
        }
    }

    fn mixed(&mut self, at: Span, a: (E, Span), b: (E, Span)) {
        let (ty_a, ty_b) = (self.graph.ty(a.0).name(), self.graph.ty(b.0).name());
        let bool_text = if ty_a == "bool" { a.1 } else { b.1 };
        let written = shorten(self.sources.slice(bool_text));
        self.report(
            Diagnostic::error(
                "E0204",
                format!("one side is {ty_a}, the other {ty_b}"),
                at,
                "both sides must be numbers, or both truth values",
                format!(
                    "a truth value becomes 0 or 1 by name: `real({written})` or\n`int({written})`"
                ),
            )
            .with(a.1, ty_a)
            .with(b.1, ty_b),
        );
    }

    /// Reports a value that is not a truth value; true when it is.
    pub(super) fn expect_bool(&mut self, e: E, span: Span, what: &str) -> bool {
        let ty = self.graph.ty(e);
        if ty == Ty::Bool {
            return true;
        }
        let written = shorten(self.sources.slice(span));
        self.error(
            "E0204",
            format!("{what} is true or false, but this is a number"),
            span,
            ty.name(),
            format!("compare it: `{written} > 0`"),
        );
        false
    }

    /// Reports a truth value where a number belongs.
    pub(super) fn expect_number(&mut self, e: E, span: Span) -> Option<E> {
        if self.graph.ty(e) != Ty::Bool {
            return Some(e);
        }
        let written = shorten(self.sources.slice(span));
        self.error(
            "E0204",
            "a truth value stands where a number belongs",
            span,
            "bool",
            format!("make it 0 or 1 by name: `real({written})`"),
        );
        None
    }

    /// Reports a value that is not whole.
    pub(super) fn expect_int(&mut self, e: E, span: Span, what: &str) -> Option<E> {
        if self.graph.ty(e) == Ty::Int {
            return Some(e);
        }
        let written = shorten(self.sources.slice(span));
        let ty = self.graph.ty(e).name();
        self.error(
            "E0204",
            format!("{what} is a whole number"),
            span,
            ty,
            format!("round it: `floor({written})`, `ceil({written})` or `int({written})`"),
        );
        None
    }
}

/// Runs a step of a recursion over a deep tree, on a new piece of stack when little is left.
pub(super) fn grown<T>(step: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(128 << 10, 2 << 20, step)
}

/// A short form of source text for help lines.
pub(super) fn shorten(text: &str) -> String {
    if text.len() <= 28 && !text.contains('\n') { text.to_owned() } else { "x".to_owned() }
}
