//! Expressions, calls and partitions: from pest's pairs to the tree. Spans come from the leaves,
//! because the pair of a composite rule may take in the blanks and comments that follow it.

use pest::iterators::Pair;

use super::fold::{self, Infix, Piece};
use super::grammar::Rule;
use super::{Fail, Text, explain};
use crate::ast::{Arg, BinaryOp, Call, Expr, ExprKind, Ident, Literal, Partition, UnaryOp};
use crate::diagnostic::Diagnostic;
use crate::op::INT_END;
use crate::source::Span;

pub(super) type P<'a> = Pair<'a, Rule>;

/// Reads pairs whose positions are relative to `offset`.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub text: Text<'a>,
    pub offset: usize,
}

impl<'a> Reader<'a> {
    /// Where a pair stands, without the blanks after it. Exact for leaves only.
    pub fn span(&self, pair: &P<'_>) -> Span {
        let span = pair.as_span();
        self.text.span(self.offset + span.start(), self.offset + span.end())
    }

    pub fn ident(&self, pair: &P<'_>) -> Ident {
        Ident { name: pair.as_str().to_owned(), span: self.span(pair) }
    }

    /// What remains if the grammar and this reader should ever disagree.
    pub fn unread(&self, pair: &P<'_>) -> Fail {
        explain::unread(self.span(pair))
    }

    pub fn expr(&self, pair: P<'a>) -> Result<Expr, Fail> {
        let span = self.span(&pair);
        match pair.into_inner().next() {
            Some(inner) if inner.as_rule() == Rule::conditional => self.conditional(inner),
            Some(inner) => self.chain(inner),
            None => Err(explain::unread(span)),
        }
    }

    fn conditional(&self, pair: P<'a>) -> Result<Expr, Fail> {
        let start = self.span(&pair);
        let mut parts = Vec::with_capacity(3);
        for inner in pair.into_inner() {
            if inner.as_rule() == Rule::expr {
                parts.push(Box::new(self.expr(inner)?));
            }
        }
        let mut parts = parts.into_iter();
        match (parts.next(), parts.next(), parts.next()) {
            (Some(cond), Some(yes), Some(no)) => {
                let span = Span { start: start.start, ..no.span };
                Ok(Expr { span, kind: ExprKind::If(cond, yes, no) })
            }
            _ => Err(explain::unread(start)),
        }
    }

    fn chain(&self, pair: P<'a>) -> Result<Expr, Fail> {
        let whole = self.span(&pair);
        let mut pieces = Vec::new();
        let mut operand_next = true;
        for inner in pair.into_inner() {
            let span = self.span(&inner);
            pieces.push(match inner.as_rule() {
                Rule::operand => {
                    operand_next = false;
                    Piece::Operand(self.operand(inner)?)
                }
                Rule::kw_not => Piece::Prefix(UnaryOp::Not, span),
                _ if operand_next => Piece::Prefix(UnaryOp::Neg, span),
                _ => {
                    operand_next = true;
                    Piece::Infix(infix(inner.as_str()), span)
                }
            });
        }
        if let [Piece::Operand(_)] = pieces.as_slice()
            && let Some(Piece::Operand(only)) = pieces.pop()
        {
            return Ok(only);
        }
        fold::fold(pieces, whole, self.text)
    }

    fn operand(&self, pair: P<'a>) -> Result<Expr, Fail> {
        let span = self.span(&pair);
        let mut inner = pair.into_inner();
        let Some(first) = inner.next() else { return Err(explain::unread(span)) };
        let mut value = self.primary(first)?;
        for level in inner.filter(|p| p.as_rule() == Rule::level) {
            let level = self.ident(&level);
            let span = value.span.to(level.span);
            value = Expr { span, kind: ExprKind::At(Box::new(value), level) };
        }
        Ok(value)
    }

    fn primary(&self, pair: P<'a>) -> Result<Expr, Fail> {
        match pair.as_rule() {
            Rule::number | Rule::boolean => {
                let literal = self.literal_word(&pair, false)?;
                Ok(Expr { span: self.span(&pair), kind: ExprKind::Literal(literal) })
            }
            Rule::grouped => self.grouped(pair),
            Rule::reference => self.reference(pair),
            _ => Err(self.unread(&pair)),
        }
    }

    fn grouped(&self, pair: P<'a>) -> Result<Expr, Fail> {
        let span = self.whole(&pair);
        for inner in pair.into_inner() {
            if inner.as_rule() == Rule::expr {
                return Ok(Expr { span, ..self.expr(inner)? });
            }
        }
        Err(explain::unread(span))
    }

    fn reference(&self, pair: P<'a>) -> Result<Expr, Fail> {
        let span = self.span(&pair);
        let mut inner = pair.into_inner();
        let Some(callee) = inner.next() else { return Err(explain::unread(span)) };
        let name = self.ident(&callee);
        match inner.next() {
            None => {
                let kind = match name.name.strip_prefix("base.") {
                    Some(rest) => ExprKind::Base(rest.to_owned()),
                    None => ExprKind::Name(name.name),
                };
                Ok(Expr { span: name.span, kind })
            }
            Some(tail) => {
                let span = name.span.to(self.whole(&tail));
                let kind = if tail.as_rule() == Rule::index {
                    ExprKind::Index(name, Box::new(self.only_expr(tail)?))
                } else {
                    ExprKind::Call(Box::new(self.call(name, tail)?))
                };
                Ok(Expr { span, kind })
            }
        }
    }

    /// The first expression inside a pair.
    pub fn only_expr(&self, pair: P<'a>) -> Result<Expr, Fail> {
        let span = self.span(&pair);
        match pair.into_inner().find(|p| p.as_rule() == Rule::expr) {
            Some(inner) => self.expr(inner),
            None => Err(explain::unread(span)),
        }
    }

    fn call(&self, function: Ident, pair: P<'a>) -> Result<Call, Fail> {
        let mut call =
            Call { function, args: Vec::new(), filter: None, per: None, scope: None, unroll: None };
        // Where a clause stood before, to refuse a second one.
        let mut seen: [Option<Span>; 4] = [None; 4];
        for inner in pair.into_inner() {
            let slot = match inner.as_rule() {
                Rule::expr | Rule::named => {
                    self.argument(&mut call, inner)?;
                    continue;
                }
                Rule::where_clause => 0,
                Rule::per_clause => 1,
                Rule::in_clause => 2,
                Rule::unroll => 3,
                _ => continue,
            };
            let word = inner.clone().into_inner().next();
            let span = word.as_ref().map_or(self.span(&inner), |w| self.span(w));
            if let Some(before) = seen[slot].replace(span) {
                return Err(explain::twice(self.text, before, span));
            }
            self.clause(&mut call, inner)?;
        }
        Ok(call)
    }

    fn argument(&self, call: &mut Call, pair: P<'a>) -> Result<(), Fail> {
        if pair.as_rule() == Rule::named {
            let name = pair.clone().into_inner().next().map(|p| self.ident(&p));
            call.args.push(Arg { name, value: self.only_expr(pair)? });
            return Ok(());
        }
        let value = self.expr(pair)?;
        if let Some(named) = call.args.last().and_then(|a| a.name.as_ref()) {
            return Err(explain::positional(value.span, named));
        }
        call.args.push(Arg { name: None, value });
        Ok(())
    }

    fn clause(&self, call: &mut Call, pair: P<'a>) -> Result<(), Fail> {
        let span = self.span(&pair);
        match pair.as_rule() {
            Rule::where_clause => call.filter = Some(Box::new(self.only_expr(pair)?)),
            Rule::per_clause => call.per = Some(self.partition_in(pair)?),
            Rule::in_clause => {
                call.scope =
                    pair.into_inner().find(|p| p.as_rule() == Rule::level).map(|p| self.ident(&p));
            }
            _ => {
                let (mut variable, mut bounds) = (None, Vec::new());
                for inner in pair.into_inner() {
                    match inner.as_rule() {
                        Rule::ident => variable = Some(self.ident(&inner)),
                        Rule::bound => bounds.push(self.bound(inner)?),
                        _ => {}
                    }
                }
                let (Some(variable), [(low, first), (high, last)]) = (variable, bounds.as_slice())
                else {
                    return Err(explain::unread(span));
                };
                call.unroll = Some((variable, (*low, *high), first.to(*last)));
            }
        }
        Ok(())
    }

    fn bound(&self, pair: P<'a>) -> Result<(i64, Span), Fail> {
        let mut negative = false;
        let mut place = self.span(&pair);
        for inner in pair.into_inner() {
            let span = self.span(&inner);
            if inner.as_rule() == Rule::minus {
                negative = true;
                place = span;
                continue;
            }
            let place = if negative { place.to(span) } else { span };
            return match self.literal_word(&inner, negative)? {
                Literal::Int(i) => Ok((i, place)),
                Literal::Real(_) | Literal::Bool(_) => Err(self.unread(&inner)),
            };
        }
        Err(explain::unread(place))
    }

    /// The partition inside a pair such as `per P` or `key name = P`.
    pub fn partition_in(&self, pair: P<'a>) -> Result<Partition, Fail> {
        let span = self.span(&pair);
        match pair.into_inner().find(|p| p.as_rule() == Rule::partition) {
            Some(inner) => self.partition(inner),
            None => Err(explain::unread(span)),
        }
    }

    pub fn partition(&self, pair: P<'a>) -> Result<Partition, Fail> {
        let Some(inner) = pair.clone().into_inner().next() else { return Err(self.unread(&pair)) };
        if inner.as_rule() == Rule::level {
            return Ok(Partition::Name(self.ident(&inner)));
        }
        let span = self.whole(&inner);
        let rule = inner.as_rule();
        let (mut parts, mut levels) = (Vec::new(), Vec::new());
        for part in inner.into_inner() {
            match part.as_rule() {
                Rule::expr => parts.push(self.expr(part)?),
                Rule::level => levels.push(self.ident(&part)),
                _ => {}
            }
        }
        if rule == Rule::tuple {
            return Ok(Partition::Tuple(parts, span));
        }
        let mut levels = levels.into_iter();
        let (first, second) = (levels.next(), levels.next());
        match (rule, parts.pop(), first, second) {
            (Rule::runs, Some(e), Some(l), _) => Ok(Partition::Runs(Box::new(e), l, span)),
            (Rule::splits, Some(e), Some(l), _) => Ok(Partition::Splits(Box::new(e), l, span)),
            (Rule::prefix_tree, Some(e), Some(l), _) => Ok(Partition::Prefix(Box::new(e), l, span)),
            (Rule::pairs, _, Some(of), Some(l)) => Ok(Partition::Pairs(of, l, span)),
            _ => Err(explain::unread(span)),
        }
    }

    /// From the first byte of a pair to its closing bracket.
    fn whole(&self, pair: &P<'a>) -> Span {
        let span = self.span(pair);
        match pair.clone().into_inner().next_back() {
            Some(last) => span_to(span, self.span(&last)),
            None => span,
        }
    }

    /// A literal with its sign.
    pub fn literal(&self, pair: P<'a>) -> Result<(Literal, Span), Fail> {
        let mut place = self.span(&pair);
        let mut negative = false;
        for inner in pair.into_inner() {
            let span = self.span(&inner);
            if inner.as_rule() == Rule::minus {
                negative = true;
                place = span;
                continue;
            }
            let place = if negative { place.to(span) } else { span };
            return Ok((self.literal_word(&inner, negative)?, place));
        }
        Err(explain::unread(place))
    }

    /// A number, truth value or `inf`.
    fn literal_word(&self, pair: &P<'a>, negative: bool) -> Result<Literal, Fail> {
        let text = pair.as_str();
        let signed = if negative { format!("-{text}") } else { text.to_owned() };
        match text {
            "true" => return Ok(Literal::Bool(true)),
            "false" => return Ok(Literal::Bool(false)),
            "inf" if negative => return Ok(Literal::Real(f64::NEG_INFINITY)),
            "inf" => return Ok(Literal::Real(f64::INFINITY)),
            _ => {}
        }
        if text.bytes().all(|b| b.is_ascii_digit()) {
            return match signed.parse::<i64>() {
                Ok(value) if value.unsigned_abs() <= INT_END as u64 => Ok(Literal::Int(value)),
                _ => Err(self.too_large(pair, true)),
            };
        }
        match signed.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Literal::Real(value)),
            _ => Err(self.too_large(pair, false)),
        }
    }

    /// A number that its type cannot hold.
    pub fn too_large(&self, pair: &P<'_>, int: bool) -> Fail {
        let (what, help) = if int {
            ("an int", format!("an int ends at {INT_END}; write a real instead:\n\n    x = 1e30"))
        } else {
            (
                "a real",
                "a real ends at 1.79e308; without an upper end it is\n\n    x = inf".to_owned(),
            )
        };
        let title = format!("this number is too large for {what}");
        Diagnostic::error("E0014", title, self.span(pair), "too large", help)
    }
}

fn span_to(from: Span, to: Span) -> Span {
    Span { end: to.end, ..from }
}

/// The operator that the grammar read as `infix`.
fn infix(text: &str) -> Infix {
    Infix::Op(match text {
        "|>" => return Infix::Pipe,
        "or" => BinaryOp::Or,
        "and" => BinaryOp::And,
        "==" => BinaryOp::Eq,
        "!=" => BinaryOp::Ne,
        "<" => BinaryOp::Lt,
        "<=" => BinaryOp::Le,
        ">" => BinaryOp::Gt,
        ">=" => BinaryOp::Ge,
        "-" => BinaryOp::Sub,
        "*" => BinaryOp::Mul,
        "/" => BinaryOp::Div,
        "//" => BinaryOp::FloorDiv,
        "%" => BinaryOp::Mod,
        "^" | "**" => BinaryOp::Pow,
        // `+` is all that is left of the grammar's infix operators.
        _ => BinaryOp::Add,
    })
}
