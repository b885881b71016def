//! Statements: runs the grammar over one statement, or over the lines of its block, and builds the node.

use pest::Parser;
use pest::error::{ErrorVariant, InputLocation};

use super::block::{Block, defines};
use super::expr::{P, Reader};
use super::grammar::{Grammar, Rule};
use super::lex::Tokens;
use super::{Fail, Text, explain};
use crate::ast::{
    Base, Body, ColumnDecl, Expr, FnParam, Ident, Literal, MAX_MEMBERS, Partition, StatementKind,
    TypeName,
};
use crate::diagnostic::{Diagnostic, nearest};
use crate::source::Span;

/// Reads a statement that has no block.
pub(super) fn read(text: Text<'_>, tokens: &Tokens<'_>) -> Result<StatementKind, Fail> {
    let (reader, pair) = run(text, tokens, Rule::statement, explain::statement)?;
    match pair.into_inner().next() {
        Some(inner) => reader.statement(inner),
        None => Err(explain::unread(tokens.whole())),
    }
}

/// Reads a definition, function or update whose body is a block.
pub(super) fn read_block(
    text: Text<'_>,
    tokens: &Tokens<'_>,
    block: &Block<'_>,
) -> Result<StatementKind, Fail> {
    let (head, pair) = run(text, &block.head, Rule::head, explain::statement)?;
    let mut locals = Vec::new();
    let mut result = None;
    for (i, line) in block.lines.iter().enumerate() {
        let last = i + 1 == block.lines.len();
        if defines(&line.list, 0) {
            let (reader, pair) = run(text, line, Rule::local, explain::local)?;
            let name = pair.clone().into_inner().find(|p| p.as_rule() == Rule::ident);
            let Some(name) = name else { return Err(explain::unread(line.whole())) };
            locals.push((reader.ident(&name), reader.only_expr(pair)?));
            if last {
                return Err(explain::no_result(line));
            }
        } else {
            if !last {
                return Err(explain::early_result(line, &block.lines[i + 1]));
            }
            let (reader, pair) = run(text, line, Rule::result, explain::expression)?;
            result = Some(reader.only_expr(pair)?);
        }
    }
    let Some(result) = result else { return Err(explain::unread(tokens.whole())) };
    let body = Body { locals, result };
    match pair.into_inner().next() {
        Some(inner) => head.bodied(inner, body),
        None => Err(explain::unread(tokens.whole())),
    }
}

/// Runs the grammar's `rule` over `tokens`; `explain` words what it could not read.
fn run<'a>(
    text: Text<'a>,
    tokens: &Tokens<'a>,
    rule: Rule,
    explain: fn(&Tokens<'_>, usize, &[Rule]) -> Fail,
) -> Result<(Reader<'a>, P<'a>), Fail> {
    let whole = tokens.whole();
    let offset = whole.start as usize;
    match Grammar::parse(rule, text.of(whole)) {
        Ok(mut pairs) => match pairs.next() {
            Some(pair) => Ok((Reader { text, offset }, pair)),
            None => Err(explain::unread(whole)),
        },
        Err(error) => {
            let at = match error.location {
                InputLocation::Pos(at) | InputLocation::Span((at, _)) => offset + at,
            };
            let wanted = match error.variant {
                ErrorVariant::ParsingError { positives, .. } => positives,
                ErrorVariant::CustomError { .. } => Vec::new(),
            };
            let i = tokens.list.iter().position(|t| t.end > at).unwrap_or(tokens.list.len());
            Err(explain(tokens, i, &wanted))
        }
    }
}

/// The pieces that declarations are made of, gathered in whatever order the grammar has them.
#[derive(Default)]
struct Parts {
    names: Vec<Ident>,
    family: Option<(usize, Span)>,
    ty: Option<(TypeName, Span)>,
    level: Option<Ident>,
    literal: Option<(Literal, Span)>,
    range: Option<(Literal, Literal, Span)>,
    key: Option<Ident>,
    value: Option<Expr>,
    partition: Option<Partition>,
    params: Vec<FnParam>,
    scope: Option<(Ident, Option<Partition>)>,
}

impl<'a> Reader<'a> {
    fn statement(&self, pair: P<'a>) -> Result<StatementKind, Fail> {
        let unread = self.unread(&pair);
        let rule = pair.as_rule();
        let first = pair.clone().into_inner().next();
        if rule == Rule::extend {
            return pair.into_inner().nth(1).map_or(Err(unread), |p| self.extend(p));
        }
        let parts = self.parts(pair)?;
        if matches!(rule, Rule::definition | Rule::function | Rule::update) {
            let (Some(head), Some(result)) = (first, parts.value) else { return Err(unread) };
            return self.bodied(head, Body { locals: Vec::new(), result });
        }
        let first_word = first.map_or(Rule::statement, |p| p.as_rule());
        let name = parts.names.into_iter().next();
        let kind = match (rule, name, parts.value, parts.level) {
            (Rule::goal, _, Some(value), _) => {
                StatementKind::Goal { maximize: first_word == Rule::kw_maximize, value }
            }
            (Rule::filter, _, Some(cond), Some(level)) => {
                StatementKind::Filter { keep: first_word == Rule::kw_keep, level, cond }
            }
            (Rule::metric, Some(name), value, _) => {
                let short = || Expr {
                    span: name.span,
                    kind: crate::ast::ExprKind::Name(name.name.clone()),
                };
                let value = value.unwrap_or_else(short);
                StatementKind::Metric { name, value }
            }
            (Rule::sample, Some(what), Some(value), _) => {
                sampled(&what)?;
                StatementKind::Sample { what, value }
            }
            (Rule::allow, Some(name), _, _) => StatementKind::Allow(name),
            (Rule::level_decl, Some(name), _, Some(parent)) => {
                StatementKind::Level { name, parent }
            }
            (Rule::list_decl, Some(name), _, Some(parent)) => StatementKind::List { name, parent },
            (Rule::key_decl, Some(name), _, _) => {
                let Some(partition) = parts.partition else { return Err(unread) };
                StatementKind::Key { name, partition }
            }
            (Rule::param, Some(name), _, _) => {
                let Some(value) = parts.literal else { return Err(unread) };
                StatementKind::Param { name, family: parts.family, value, range: parts.range }
            }
            (Rule::state, Some(name), _, level) => {
                let Some(value) = parts.literal else { return Err(unread) };
                let ty = parts.ty.map(|ty| (ty, level));
                StatementKind::State { name, key: parts.key, ty, value }
            }
            (Rule::input | Rule::policy, Some(name), _, Some(level)) => {
                let Some(ty) = parts.ty else { return Err(unread) };
                let (family, default) = (parts.family, parts.literal);
                let column = ColumnDecl { name, family, ty, level, default };
                if rule == Rule::input {
                    StatementKind::Input(column)
                } else {
                    StatementKind::Policy(column)
                }
            }
            _ => return Err(unread),
        };
        Ok(kind)
    }

    /// A statement with a body, by its head.
    fn bodied(&self, head: P<'a>, body: Body) -> Result<StatementKind, Fail> {
        let unread = self.unread(&head);
        let rule = head.as_rule();
        let parts = self.parts(head)?;
        let Some(name) = parts.names.into_iter().next() else { return Err(unread) };
        match rule {
            Rule::definition_head => Ok(StatementKind::Def { name, body }),
            Rule::update_head => Ok(StatementKind::Update { name, value: body }),
            Rule::function_head => {
                let (params, scope) = (parts.params, parts.scope);
                Ok(StatementKind::Fn { name, params, scope, body })
            }
            _ => Err(unread),
        }
    }

    fn extend(&self, pair: P<'a>) -> Result<StatementKind, Fail> {
        let span = self.span(&pair);
        let base = if pair.as_rule() == Rule::path {
            match pair.into_inner().find(|p| p.as_rule() == Rule::path_text) {
                Some(path) => Base::Path(path.as_str().to_owned(), span),
                None => return Err(explain::unread(span)),
            }
        } else if pair.as_str() == "nothing" {
            Base::Nothing(span)
        } else if pair.as_str().contains('.') {
            return Err(explain::bare_path(pair.as_str(), span));
        } else {
            Base::Library(self.ident(&pair))
        };
        Ok(StatementKind::Extend(base))
    }

    fn parts(&self, pair: P<'a>) -> Result<Parts, Fail> {
        let mut parts = Parts::default();
        for inner in pair.into_inner() {
            match inner.as_rule() {
                Rule::name | Rule::ident => parts.names.push(self.ident(&inner)),
                Rule::level => parts.level = Some(self.ident(&inner)),
                Rule::family => parts.family = self.family(inner)?,
                Rule::type_name => {
                    let ty = match inner.as_str() {
                        "int" => TypeName::Int,
                        "bool" => TypeName::Bool,
                        _ => TypeName::Real,
                    };
                    parts.ty = Some((ty, self.span(&inner)));
                }
                Rule::literal => parts.literal = Some(self.literal(inner)?),
                Rule::range => parts.range = self.range(inner)?,
                Rule::state_key => {
                    parts.key = inner
                        .into_inner()
                        .find(|p| p.as_rule() == Rule::name)
                        .map(|p| self.ident(&p));
                }
                Rule::expr => parts.value = Some(self.expr(inner)?),
                Rule::partition => parts.partition = Some(self.partition(inner)?),
                Rule::parameter => parts.params.push(self.parameter(inner)?),
                Rule::scope_param => parts.scope = self.scope_param(inner)?,
                _ => {}
            }
        }
        Ok(parts)
    }

    fn family(&self, pair: P<'a>) -> Result<Option<(usize, Span)>, Fail> {
        let Some(size) = pair.into_inner().find(|p| p.as_rule() == Rule::integer) else {
            return Ok(None);
        };
        match size.as_str().parse() {
            Ok(n) if n == 0 || n > MAX_MEMBERS => Err(explain::family_size(self.span(&size), n)),
            Ok(n) => Ok(Some((n, self.span(&size)))),
            Err(_) => Err(self.too_large(&size, true)),
        }
    }

    fn range(&self, pair: P<'a>) -> Result<Option<(Literal, Literal, Span)>, Fail> {
        let mut span = None;
        let mut ends = Vec::new();
        for inner in pair.into_inner() {
            let here = self.span(&inner);
            match inner.as_rule() {
                Rule::open_square => span = Some(here),
                Rule::close_square => span = span.map(|s: Span| s.to(here)),
                Rule::literal => ends.push(self.literal(inner)?.0),
                _ => {}
            }
        }
        let [low, high] = ends.as_slice() else { return Ok(None) };
        Ok(span.map(|span| (*low, *high, span)))
    }

    fn parameter(&self, pair: P<'a>) -> Result<FnParam, Fail> {
        let unread = self.unread(&pair);
        let parts = self.parts(pair)?;
        let Some(name) = parts.names.into_iter().next() else { return Err(unread) };
        Ok(FnParam { name, default: parts.value })
    }

    fn scope_param(&self, pair: P<'a>) -> Result<Option<(Ident, Option<Partition>)>, Fail> {
        let parts = self.parts(pair)?;
        Ok(parts.names.into_iter().next().map(|name| (name, parts.partition)))
    }
}

/// `sample` knows two things.
fn sampled(what: &Ident) -> Result<(), Fail> {
    const KNOWN: [&str; 2] = ["weight", "rollouts"];
    if KNOWN.contains(&what.name.as_str()) {
        return Ok(());
    }
    let title = format!("`sample` does not set `{}`", super::lex::clip(&what.name));
    let label = match nearest(&what.name, KNOWN) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "neither `weight` nor `rollouts`".to_owned(),
    };
    let help = "it sets how likely a prompt is to be drawn again, or how many\n\
                rollouts it gets next:\n\n\
                \x20   sample weight = std(reward per group)\n\
                \x20   sample rollouts = 8";
    Err(Diagnostic::error("E0013", title, what.span, label, help))
}
