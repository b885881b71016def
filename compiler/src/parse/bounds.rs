//! What is checked before the grammar runs: brackets match, and nothing nests so deep that reading it,
//! or dropping its tree, would exhaust the stack.

use super::lex::{Kind, Token, Tokens};
use super::mend::help;
use super::{Fail, MAX_BRACKETS, MAX_NESTED, MAX_OPERATORS};
use crate::diagnostic::Diagnostic;

/// The code of a bracket without its partner.
pub(super) const UNCLOSED: &str = "E0002";

/// What nests between two brackets besides brackets.
#[derive(Default, Clone, Copy)]
struct Frame {
    /// Index of the opening bracket.
    open: usize,
    /// `if` and `|>` since the last comma: each holds, or is held by, all that follows.
    held: usize,
    /// `not` in a row, arithmetic between them or not.
    nots: usize,
    /// Minus signs and powers in a row.
    powers: usize,
}

impl Frame {
    fn depth(&self) -> usize {
        self.held + self.nots + self.powers
    }
}

/// Refuses what the grammar and the tree could not bear. Returns how deep the statement nests.
pub(super) fn check(tokens: &Tokens<'_>) -> Result<usize, Fail> {
    let mut outer: Vec<Frame> = Vec::new();
    let mut frame = Frame::default();
    let mut outside = 0;
    let mut operators = 0;
    let mut deepest = 0;
    for (i, token) in tokens.list.iter().enumerate() {
        let binary = i.checked_sub(1).and_then(|p| tokens.get(p)).is_some_and(Token::ends_operand);
        match (token.kind, token.text) {
            (Kind::Open, _) => {
                if outer.len() == MAX_BRACKETS {
                    return Err(too_deep(tokens, i, "brackets are nested over 256 deep"));
                }
                outside += frame.depth();
                outer.push(frame);
                frame = Frame { open: i, ..Frame::default() };
            }
            (Kind::Close, close) => {
                let partner = if close == ")" { "(" } else { "[" };
                let Some(back) = outer.pop() else { return Err(unopened(tokens, i, partner)) };
                if tokens.str(frame.open) != partner {
                    return Err(crossed(tokens, frame.open, i));
                }
                frame = back;
                outside -= frame.depth();
            }
            (Kind::Word, "if") | (_, "|>") => frame = Frame { held: frame.held + 1, ..frame },
            (Kind::Word, "not") => frame.nots += 1,
            (_, "-") if !binary => frame.powers += 1,
            (_, "^" | "**") => frame.powers += 1,
            (_, "," | "=") => frame = Frame { open: frame.open, ..Frame::default() },
            (Kind::Word, "and" | "or" | "then" | "else" | "where" | "per" | "in") => {
                frame = Frame { open: frame.open, held: frame.held, ..Frame::default() };
            }
            (Kind::Symbol, _) => frame.powers = 0,
            (Kind::Word | Kind::Number | Kind::Quoted, _) => {}
        }
        deepest = deepest.max(outer.len() + outside + frame.depth());
        if outside + frame.depth() > MAX_NESTED {
            return Err(too_deep(tokens, i, "operators are nested over 256 deep"));
        }
        let operator = match token.kind {
            Kind::Symbol => !matches!(token.text, "," | ":" | "=" | ".."),
            Kind::Word => matches!(token.text, "and" | "or" | "not"),
            Kind::Number | Kind::Quoted | Kind::Open | Kind::Close => false,
        };
        operators += usize::from(operator);
        if operators > MAX_OPERATORS {
            return Err(too_long(tokens, i));
        }
    }
    if outer.is_empty() { Ok(deepest) } else { Err(unclosed(tokens, frame, &outer)) }
}

fn too_deep(tokens: &Tokens<'_>, i: usize, title: &str) -> Fail {
    let help = "give the inner parts names, in definitions of their own:\n\n\
                \x20   inner = exp(logp - old_logp)\n\
                \x20   outer = clip(inner, 0.8, 1.2)";
    Diagnostic::error("E0008", title, tokens.span(i), "one too many", help)
}

fn too_long(tokens: &Tokens<'_>, i: usize) -> Fail {
    let help = "give parts of it names, in definitions of their own:\n\n\
                \x20   part = a + b\n\
                \x20   whole = part + c";
    let title = "this statement has over 4096 operators";
    Diagnostic::error("E0016", title, tokens.span(i), "one too many", help)
}

fn unopened(tokens: &Tokens<'_>, i: usize, partner: &str) -> Fail {
    let title = format!("this `{}` closes nothing", tokens.str(i));
    let label = format!("no `{partner}` is open here");
    let help = help(
        &format!("delete it, or put the `{partner}` where it belongs"),
        tokens.mend(&[tokens.instead(i, "")]),
        SAMPLE,
    );
    Diagnostic::error(UNCLOSED, title, tokens.span(i), label, help)
}

fn crossed(tokens: &Tokens<'_>, open: usize, close: usize) -> Fail {
    let (left, right) = (tokens.str(open), tokens.str(close));
    let partner = closing(left);
    let title = format!("`{left}` is closed by `{right}`");
    let mended = tokens.mend(&[tokens.instead(close, partner)]);
    let help = help(&format!("close it with `{partner}`"), mended, SAMPLE);
    let fail = Diagnostic::error(UNCLOSED, title, tokens.span(close), "does not match", help);
    fail.with(tokens.span(open), format!("`{partner}` closes this"))
}

/// The innermost bracket that the statement leaves open, and those around it.
fn unclosed(tokens: &Tokens<'_>, frame: Frame, outer: &[Frame]) -> Fail {
    let open = frame.open;
    let title = format!("this `{}` is never closed", tokens.str(open));
    let partners = outer.iter().skip(1).chain([&frame]).rev();
    let partners: String = partners.map(|f| closing(tokens.str(f.open))).collect();
    let end = tokens.whole().end as usize;
    let last = tokens.list.len().saturating_sub(1);
    let mended = if last == open { None } else { tokens.mend(&[(end, end, &partners)]) };
    let help = help(
        &format!(
            "add `{}`; a line that belongs to the statement is indented or\n\
             begins with the closing bracket",
            closing(tokens.str(open))
        ),
        mended,
        "x = mean(\n        reward per group\n    )",
    );
    let fail = Diagnostic::error(UNCLOSED, title, tokens.span(open), "opened here", help);
    if last == open { fail } else { fail.with(tokens.span(last), "the statement ends here") }
}

fn closing(open: &str) -> &'static str {
    if open == "(" { ")" } else { "]" }
}

const SAMPLE: &str = "advantage = (reward - mean(reward per group))";
