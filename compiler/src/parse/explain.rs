//! Words for what the grammar could not read. pest gives the furthest place it reached and the rules
//! that would have gone on; the tokens around that place say what the writer meant.

mod clause;
mod declaration;
mod operand;

use super::grammar::Rule;
use super::lex::{Kind, Tokens, clip, in_code};
use super::mend::help;
use super::{Fail, INNER_WORDS, Text};
use crate::ast::{Ident, MAX_MEMBERS};
use crate::diagnostic::Diagnostic;
use crate::source::Span;

pub(super) use declaration::statement;

/// An error as it stands on its own.
fn fail(
    code: &'static str,
    title: impl Into<String>,
    span: Span,
    label: impl Into<String>,
    help: impl Into<String>,
) -> Fail {
    Diagnostic::error(code, title, span, label, help)
}

/// A line `name = expr` of a block.
pub(super) fn local(tokens: &Tokens<'_>, i: usize, wanted: &[Rule]) -> Fail {
    if is_reserved(tokens, 0) {
        return reserved(tokens, 0);
    }
    if i == 0 {
        return fail(
            "E0013",
            format!("`{}` has a dot and names no local value", clip(tokens.str(0))),
            tokens.span(0),
            "a local name has no dot",
            "choose a plain name:\n\n    spread = std(reward per group)",
        );
    }
    expression(tokens, i, wanted)
}

/// An expression that stands alone, or is the rest of a statement.
pub(super) fn expression(tokens: &Tokens<'_>, i: usize, wanted: &[Rule]) -> Fail {
    operand::explain(tokens, i, wanted)
}

/// Indented lines with no statement above them.
pub(super) fn indented(tokens: &Tokens<'_>) -> Fail {
    fail(
        "E0010",
        "the first statement is indented",
        tokens.span(0),
        "continues no statement",
        "a statement begins in column one; an indented line continues the\n\
         one above. Delete the blanks before it:\n\n    advantage = group_norm(reward)",
    )
}

/// A statement that begins on an indented line.
fn indented_statement(tokens: &Tokens<'_>, i: usize) -> Fail {
    let above = tokens.span(0);
    let failed = fail(
        "E0010",
        format!("`{}` begins a statement on an indented line", clip(tokens.str(i))),
        tokens.span(i),
        "indented, so it continues the statement above",
        "a statement begins in column one:\n\n    a = 1\n    b = 2",
    );
    failed.with(above, "the statement above begins here")
}

/// A line of a block that begins left of the block.
pub(super) fn outdented(tokens: &Tokens<'_>, body: usize, i: usize) -> Fail {
    let failed = fail(
        "E0010",
        "this line is indented less than its block",
        tokens.span(i),
        "begins left of the block",
        "begin every line of a block in the same column:\n\n    \
         fn scaled(x) =\n        spread = std(x per group)\n        x / (spread + 1e-4)",
    );
    failed.with(tokens.span(body), "the block begins here")
}

/// A block whose last line defines a name.
pub(super) fn no_result(line: &Tokens<'_>) -> Fail {
    let name = line.str(0);
    fail(
        "E0017",
        "this block ends without a result",
        line.whole(),
        "the last line defines a name",
        format!(
            "end the block with the value it stands for, such as\n\n    {}",
            in_code(name, "x")
        ),
    )
}

/// A line of a block that is neither a definition nor the last.
pub(super) fn early_result(line: &Tokens<'_>, next: &Tokens<'_>) -> Fail {
    let failed = fail(
        "E0017",
        "a value stands before the end of its block",
        line.whole(),
        "gives no name to its value",
        "only the last line is the result. Name the value, or indent the next\n\
         line deeper if it belongs to this one:\n\n    \
         spread = std(x per group)\n    x / (spread + 1e-4)",
    );
    failed.with(next.span(0), "the block goes on here")
}

/// `extend other.rl`.
pub(super) fn bare_path(path: &str, span: Span) -> Fail {
    let shown = if path.len() <= 40 { path } else { "other.rl" };
    fail(
        "E0013",
        format!("`{}` names no objective", clip(path)),
        span,
        "has a dot, and no quotes",
        format!(
            "a path stands in quotes, a library objective is one word:\n\n    \
             extend \"{shown}\"\n    extend dapo"
        ),
    )
}

/// What no other message fits.
pub(super) fn unread(span: Span) -> Fail {
    fail(
        "E0013",
        "this does not form a statement",
        span,
        "cannot be read",
        "a statement looks like one of these:\n\n    \
         x = mean(reward per group)\n    param beta = 0.04\n    minimize loss",
    )
}

/// A clause given twice in one call.
pub(super) fn twice(text: Text<'_>, before: Span, again: Span) -> Fail {
    let word = text.of(again);
    let failed = fail(
        "E0012",
        format!("this call has two `{word}` clauses"),
        again,
        "second",
        if word == "where" {
            "join the conditions:\n\n    mean(x where mask and truncated)"
        } else if word == "per" {
            "reduce twice, or to the elements that two levels share:\n\n    \
             mean(mean(x per rollout) per group)\n    mean(x per (group, position))"
        } else {
            "keep one of them:\n\n    cumsum(x in rollout)"
        },
    );
    failed.with(before, "first")
}

/// `f(a = 1, b)`.
pub(super) fn positional(span: Span, named: &Ident) -> Fail {
    let failed = fail(
        "E0015",
        "an argument without a name follows a named one",
        span,
        "which argument this is depends on its place",
        "put the named arguments last:\n\n    clip(ratio, 0.8, hi = 1.2)",
    );
    failed.with(named.span, "named")
}

/// `weights[0]`, `weights[5000]`.
pub(super) fn family_size(span: Span, members: usize) -> Fail {
    let many = if members == 0 { "no" } else { "too many" };
    fail(
        "E0013",
        format!("this family has {many} members"),
        span,
        format!("1 to {MAX_MEMBERS} are possible"),
        "members are numbered from 1:\n\n    param weights[3] = 1.0",
    )
}

/// A word that names nothing because the language has taken it, with or without a dotted part.
fn is_reserved(tokens: &Tokens<'_>, i: usize) -> bool {
    tokens.get(i).is_some_and(|t| {
        let head = t.text.split('.').next().unwrap_or(t.text);
        t.kind == Kind::Word
            && (t.reserved()
                || (head != t.text
                    && (super::STATEMENT_WORDS.contains(&head) || INNER_WORDS.contains(&head))))
    })
}

/// A reserved word where a name is needed.
fn reserved(tokens: &Tokens<'_>, i: usize) -> Fail {
    let word = tokens.str(i);
    let head = word.split('.').next().unwrap_or(word);
    if head == "base" {
        return fail(
            "E0005",
            "`base` is a reserved word",
            tokens.span(i),
            "not a name to define",
            "`base.x` is what the base objective means by `x`, and stands inside\n\
             the definition that replaces `x`:\n\n    \
             token_loss = base.token_loss + 0.1 * entropy",
        );
    }
    fail(
        "E0005",
        format!("`{head}` is a reserved word"),
        tokens.span(i),
        "not free as a name",
        help(
            "choose another name",
            tokens.mend(&[tokens.instead(i, &format!("{head}_"))]),
            &format!("{head}_ = mean(reward per group)"),
        ),
    )
}

/// The token before `i` as a title quotes it, or the beginning.
fn after(tokens: &Tokens<'_>, i: usize) -> String {
    match i.checked_sub(1).and_then(|p| tokens.get(p)) {
        Some(t) => format!(" after `{}`", clip(t.text)),
        None => String::new(),
    }
}
