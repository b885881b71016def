//! Type, level and stage of any expression of the open text. The compiler knows them of names; so an
//! expression is given one, at the end of the text, with the local definitions that it may read.

use rlc_compiler::ast::{Body, Call, Expr, ExprKind, Partition, StatementKind};
use rlc_compiler::parse::parse;

use super::analysis::{Analysis, Texts};

/// A name that no program has.
const NAME: &str = "hovered_expression_of_rlc";

/// An expression and what surrounds it.
pub struct Found {
    /// First byte.
    pub start: usize,
    /// One past the last.
    pub end: usize,
    /// The definition that gives it a name; none inside functions, whose arguments have no types of
    /// their own.
    definition: Option<String>,
}

/// The innermost expression around a byte that is more than a name or a number. `called`: the call
/// whose function stands there.
pub fn expression(analysis: &Analysis, offset: usize, called: bool) -> Option<Found> {
    let (module, _) = parse(&analysis.sources, analysis.root);
    let holds = |span: rlc_compiler::source::Span| {
        span.start as usize <= offset && offset < span.end as usize
    };
    let statement = module.statements.iter().find(|s| holds(s.span))?;
    let text = analysis.text();
    let (body, alone) = match &statement.kind {
        StatementKind::Def { body, .. } | StatementKind::Update { value: body, .. } => {
            (Some((body, true)), None)
        }
        StatementKind::Fn { body, .. } => (Some((body, false)), None),
        StatementKind::Filter { cond: e, .. }
        | StatementKind::Goal { value: e, .. }
        | StatementKind::Metric { value: e, .. }
        | StatementKind::Sample { value: e, .. } => (None, Some(e)),
        StatementKind::Extend(_)
        | StatementKind::Param { .. }
        | StatementKind::Input(_)
        | StatementKind::Policy(_)
        | StatementKind::Level { .. }
        | StatementKind::List { .. }
        | StatementKind::Key { .. }
        | StatementKind::State { .. }
        | StatementKind::Allow(_) => (None, None),
    };
    let pick = |outer: &Expr| innermost(outer, offset, called).map(|e| (e.span.start, e.span.end));
    let ((start, end), before) = match (body, alone) {
        (_, Some(e)) => (pick(e)?, Some(String::new())),
        (Some((body, typed)), _) => {
            let all = body.locals.iter().map(|l| &l.1).chain([&body.result]);
            let (i, outer) = all.enumerate().find(|(_, e)| holds(e.span))?;
            (pick(outer)?, typed.then(|| locals(text, body, i)))
        }
        (None, None) => return None,
    };
    let (start, end) = (start as usize, end as usize);
    let value = text.get(start..end)?;
    let definition = before.map(|b| {
        if b.is_empty() {
            return format!("{NAME} = ({value})\n");
        }
        format!("{NAME} =\n{b}{}({value})\n", indent(&b))
    });
    Some(Found { start, end, definition })
}

/// The local definition whose name stands at a byte.
pub fn local(analysis: &Analysis, at: usize) -> Option<Found> {
    let (module, _) = parse(&analysis.sources, analysis.root);
    let text = analysis.text();
    module.statements.iter().find_map(|s| {
        let (StatementKind::Def { body, .. } | StatementKind::Update { value: body, .. }) = &s.kind
        else {
            return None;
        };
        let i = body.locals.iter().position(|l| l.0.span.start as usize == at)?;
        let before = locals(text, body, i + 1);
        let (name, value) = &body.locals[i];
        let definition = format!("{NAME} =\n{before}{}{}\n", indent(&before), name.name);
        let (start, end) = (name.span.start as usize, value.span.end as usize);
        Some(Found { start, end, definition: Some(definition) })
    })
}

/// The lines of the first local definitions of a body.
fn locals(text: &str, body: &Body, n: usize) -> String {
    let Some(last) = n.checked_sub(1).and_then(|i| body.locals.get(i)) else {
        return String::new();
    };
    let first = body.locals[0].0.span.start as usize;
    let line = text[..first].rfind(['\n', '\r']).map_or(0, |i| i + 1);
    // A bracket around the value belongs to it.
    let end = last.1.span.end as usize;
    let next = body.locals.get(n).map_or(body.result.span.start, |l| l.0.span.start) as usize;
    let rest = text.get(end..next).unwrap_or("");
    let end = end + rest.find(['\n', '\r']).unwrap_or(rest.len());
    format!("{}\n", text.get(line..end).unwrap_or("").trim_end())
}

fn indent(lines: &str) -> &str {
    &lines[..lines.len() - lines.trim_start_matches([' ', '\t']).len()]
}

fn innermost(outer: &Expr, offset: usize, called: bool) -> Option<&Expr> {
    let mut here = outer;
    let mut best = None;
    loop {
        let plain = match &here.kind {
            ExprKind::Literal(_) | ExprKind::Name(_) | ExprKind::Base(_) | ExprKind::Index(..) => {
                true
            }
            ExprKind::Call(call) => {
                let function = call.function.span;
                let at = function.start as usize <= offset && offset < function.end as usize;
                if called && at {
                    return Some(here);
                }
                false
            }
            ExprKind::Unary(..) | ExprKind::Binary(..) | ExprKind::If(..) | ExprKind::At(..) => {
                false
            }
        };
        if !plain && !called {
            best = Some(here);
        }
        let inside = |e: &&Expr| e.span.start as usize <= offset && offset < e.span.end as usize;
        match children(here).into_iter().find(inside) {
            Some(next) => here = next,
            None => return best,
        }
    }
}

fn children(e: &Expr) -> Vec<&Expr> {
    match &e.kind {
        ExprKind::Literal(_) | ExprKind::Name(_) | ExprKind::Base(_) | ExprKind::Index(..) => {
            Vec::new()
        }
        ExprKind::Unary(_, x) | ExprKind::At(x, _) => vec![x],
        ExprKind::Binary(_, _, a, b) => vec![a, b],
        ExprKind::If(c, a, b) => vec![c, a, b],
        ExprKind::Call(call) => operands(call),
    }
}

fn operands(call: &Call) -> Vec<&Expr> {
    let mut out: Vec<&Expr> = call.args.iter().map(|a| &a.value).collect();
    out.extend(call.filter.as_deref());
    match &call.per {
        Some(Partition::Tuple(parts, _)) => out.extend(parts),
        Some(
            Partition::Runs(x, _, _) | Partition::Splits(x, _, _) | Partition::Prefix(x, _, _),
        ) => out.push(x),
        Some(Partition::Name(_) | Partition::Pairs(..)) | None => {}
    }
    out
}

/// "real, one per token; live" of an expression. `good`: the last version of the text without errors,
/// for when this one has some.
pub fn fact(analysis: &Analysis, texts: &Texts, good: &str, found: &Found) -> Option<String> {
    let by_name = |text: &str| {
        let definition = found.definition.as_ref()?;
        let all = format!("{}\n{definition}", text.trim_end());
        analysis.with_text(all).check(texts).1?.remove(NAME)
    };
    if found.definition.is_none() {
        let fact = analysis.fact_at(texts, found.start, found.end)?;
        return Some(format!("in a call of this program: {fact}"));
    }
    let now = by_name(analysis.text());
    // `base.x` has its meaning only where it stands.
    let now = now.or_else(|| analysis.fact_at(texts, found.start, found.end));
    now.or_else(|| by_name(good))
}
