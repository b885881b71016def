//! What a statement is called and how it is shown in a few words. For commands that print programs;
//! nothing here knows what a statement means.

use rlc_compiler::ast::{Body, Statement, StatementKind};
use rlc_compiler::source::{Sources, Span};

/// The name a statement gives a meaning to.
pub fn name(kind: &StatementKind) -> Option<&str> {
    match kind {
        StatementKind::Param { name, .. }
        | StatementKind::Def { name, .. }
        | StatementKind::State { name, .. }
        | StatementKind::Fn { name, .. }
        | StatementKind::Metric { name, .. }
        | StatementKind::Level { name, .. }
        | StatementKind::List { name, .. }
        | StatementKind::Key { name, .. }
        | StatementKind::Update { name, .. } => Some(&name.name),
        StatementKind::Input(decl) | StatementKind::Policy(decl) => Some(&decl.name.name),
        StatementKind::Sample { what, .. } => Some(&what.name),
        StatementKind::Extend(_)
        | StatementKind::Filter { .. }
        | StatementKind::Goal { .. }
        | StatementKind::Allow(_) => None,
    }
}

/// What kind of thing it is, as a plural that heads a list.
pub fn kind(kind: &StatementKind) -> &'static str {
    match kind {
        StatementKind::Param { .. } => "params",
        StatementKind::Input(_) | StatementKind::Policy(_) => "inputs",
        StatementKind::Level { .. } | StatementKind::List { .. } | StatementKind::Key { .. } => {
            "levels"
        }
        StatementKind::State { .. } | StatementKind::Update { .. } => "states",
        StatementKind::Filter { .. } => "filters",
        StatementKind::Def { .. } => "definitions",
        StatementKind::Fn { .. } => "functions",
        StatementKind::Goal { .. } => "goal",
        StatementKind::Metric { .. } => "metrics",
        StatementKind::Sample { .. } => "sampling",
        StatementKind::Extend(_) | StatementKind::Allow(_) => "other",
    }
}

/// The kinds of [`kind`] in the order in which lists show them.
pub const KINDS: [&str; 10] = [
    "params",
    "inputs",
    "levels",
    "states",
    "filters",
    "functions",
    "definitions",
    "goal",
    "metrics",
    "sampling",
];

/// A function as it is called, `fn norm(x, eps = 1e-6 per L = group)`; any other statement whole, on
/// one line where it stands on one.
pub fn signature(statement: &Statement, sources: &Sources) -> String {
    let StatementKind::Fn { body, .. } = &statement.kind else {
        return text(statement.span, sources);
    };
    let until = Span { end: start(body), ..statement.span };
    // Brackets and signs of the body may stand before its first operand.
    let head = sources.slice(until);
    let opened = |c: char| c == '(' || c == '-' || c.is_whitespace();
    let head = head.trim_end_matches(opened);
    let head = head.strip_suffix("not").unwrap_or(head).trim_end_matches(opened);
    squeeze(head.strip_suffix('=').unwrap_or(head))
}

fn start(body: &Body) -> u32 {
    match body.locals.first() {
        Some((name, _)) => name.span.start,
        None => body.result.span.start,
    }
}

/// The text of a place: runs of spaces become one, lines keep theirs at the front, comments go.
pub fn text(span: Span, sources: &Sources) -> String {
    let lines: Vec<String> = sources
        .slice(span)
        .lines()
        .map(|line| line.split_once('#').map_or(line, |(code, _)| code).trim_end())
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            let indent = line.len() - line.trim_start().len();
            format!("{}{}", &line[..indent], squeeze(line))
        })
        .collect();
    lines.join("\n")
}

fn squeeze(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests stop at the first surprise")]
    use super::*;
    use rlc_compiler::parse::parse;
    use rlc_compiler::source::Source;

    #[test]
    fn functions_by_how_they_are_called() {
        let cases = [
            ("fn f(x) = x + 1", "fn f(x)"),
            (
                "fn f(x, eps = 1e-6 per L = group) = (x - mean(x per L))",
                "fn f(x, eps = 1e-6 per L = group)",
            ),
            ("fn f(x) = -x", "fn f(x)"),
            ("fn f(x) = not x", "fn f(x)"),
            ("fn f(a,\n     b) =\n  c = a\n  (c + b) * 2", "fn f(a, b)"),
            ("p  =  1   # why", "p = 1"),
        ];
        for (text, wanted) in cases {
            let mut sources = Sources::default();
            let file = sources.add(Source { name: "t".into(), text: text.into(), library: false });
            let module = parse(&sources, file).0;
            assert_eq!(signature(module.statements.first().unwrap(), &sources), wanted);
        }
    }
}
