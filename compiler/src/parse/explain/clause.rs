//! Errors at the clauses of a call: `where`, `per`, `in`, `for`, and the partitions and levels after them.

use super::super::Fail;
use super::super::lex::{Kind, Tokens};
use super::super::mend::help;
use super::operand::{Around, end_of_value, opening};
use super::{after, fail};

/// `per`, `in`, `@` or `for` without its level or name.
pub(super) fn no_level(tokens: &Tokens<'_>, i: usize) -> Fail {
    let word = i.checked_sub(1).map_or("", |p| tokens.str(p));
    let help = match word {
        "@" => {
            "name the level after it; what is computed first needs brackets:\n\n    \
                mean(advantage @ token per group)"
        }
        "for" => {
            "an unrolled sum names its variable and both ends:\n\n    \
                  sum(weights[k] for k in 1..4)"
        }
        "in" => "name the level after it:\n\n    cumsum(token_reward in rollout)",
        _ => {
            "name a level after it, or a tuple of them:\n\n    \
              mean(reward per group)\n    mean(logp per (group, position))"
        }
    };
    let what = if word == "for" { "a name" } else { "a level" };
    let label = if i < tokens.list.len() { "not a level" } else { "nothing follows this" };
    let label = if word == "for" && i < tokens.list.len() { "not a name" } else { label };
    fail("E0012", format!("{what} is missing{}", after(tokens, i)), tokens.span(i), label, help)
}

/// `where`, `per` or `in` outside the brackets of a call.
pub(super) fn stray_clause(tokens: &Tokens<'_>, i: usize, around: Around) -> Fail {
    let word = tokens.str(i);
    let span = tokens.span(i);
    if around == Around::Call || around == Around::Tuple {
        let title = format!("this `{word}` is out of place");
        let help = "clauses follow the arguments, each of them once:\n\n    \
                    mean(logp where mask per rollout)";
        return fail("E0012", title, span, "cannot stand here", help);
    }
    let lead = if word == "in" {
        "move it inside the brackets of the call"
    } else {
        "move it inside the brackets of the reduction"
    };
    let sample = match word {
        "per" => "x = mean(reward per group)",
        "in" => "x = cumsum(token_reward in rollout)",
        _ => "x = mean(reward where correct)",
    };
    let closed = i.checked_sub(1).filter(|&p| tokens.str(p) == ")");
    let mended = closed.and_then(|p| {
        let end =
            if word == "where" { end_of_value(tokens, i + 1) } else { end_of_level(tokens, i + 1) };
        tokens.mend(&[tokens.instead(p, ""), tokens.after(end, ")")])
    });
    let help = help(lead, mended, sample);
    fail(
        "E0012",
        format!("this `{word}` stands outside of a call"),
        span,
        "belongs to no call",
        help,
    )
}

/// The last token of the level or partition that token `i` begins.
fn end_of_level(tokens: &Tokens<'_>, i: usize) -> usize {
    let mut depth = 0usize;
    for (j, token) in tokens.list.iter().enumerate().skip(i) {
        match token.kind {
            Kind::Open => depth += 1,
            Kind::Close => depth = depth.saturating_sub(1),
            Kind::Word | Kind::Number | Kind::Quoted | Kind::Symbol => {}
        }
        let called = tokens.get(j + 1).is_some_and(|t| t.kind == Kind::Open);
        if depth == 0 && !called {
            return j;
        }
    }
    tokens.list.len().saturating_sub(1)
}

/// Whether the argument before token `i` follows a clause of its call.
pub(super) fn late_argument(tokens: &Tokens<'_>, i: usize) -> bool {
    let mut depth = 0usize;
    let mut comma = false;
    for token in tokens.list.iter().take(i).rev() {
        match (token.kind, token.text) {
            (Kind::Close, _) => depth += 1,
            (Kind::Open, _) if depth == 0 => return false,
            (Kind::Open, _) => depth -= 1,
            (Kind::Symbol, "," | "=") if depth == 0 && !comma => {
                if token.text == "=" {
                    return false;
                }
                comma = true;
            }
            (Kind::Word, "where" | "per" | "in") if depth == 0 => return comma,
            _ => {}
        }
    }
    false
}

pub(super) fn late(tokens: &Tokens<'_>, i: usize) -> Fail {
    fail(
        "E0015",
        "an argument without a name follows a clause",
        tokens.span(i.saturating_sub(1)),
        "which argument this is depends on its place",
        "put the arguments first, then the clauses:\n\n    quantile(x, 0.9 per group)",
    )
}

/// `for k in 1`.
pub(super) fn no_range(tokens: &Tokens<'_>, i: usize) -> Fail {
    fail(
        "E0012",
        format!("a range is missing{}", after(tokens, i)),
        tokens.span(i),
        "`..` belongs before this",
        "a range has two ends, and includes both:\n\n    sum(weights[k] for k in 1..4)",
    )
}

/// Whether the bracket around token `i` is that of `runs`, `splits`, `prefix` or `pairs` as a partition.
pub(super) fn partitions(tokens: &Tokens<'_>, i: usize) -> bool {
    let Some(open) = opening(tokens, i).filter(|&open| open > 1) else { return false };
    let key = tokens.str(0) == "key" && open == 4;
    matches!(tokens.str(open - 1), "runs" | "splits" | "prefix" | "pairs")
        && (tokens.str(open - 2) == "per" || key)
}

/// `runs(cond)`, `pairs(rollout group)`.
pub(super) fn no_scope(tokens: &Tokens<'_>, i: usize) -> Fail {
    let mended = tokens.mend(&[tokens.between(i - 1, " in ")]);
    fail(
        "E0012",
        format!("`in` and a level are missing{}", after(tokens, i)),
        tokens.span(i),
        "`in` belongs before this",
        help(
            "name the level in which the elements are formed",
            mended,
            "key stretch = runs(mask in rollout)\n    key duel = pairs(rollout in group)",
        ),
    )
}

/// `for k 1..4`.
pub(super) fn no_in(tokens: &Tokens<'_>, i: usize) -> Fail {
    let mended = tokens.mend(&[tokens.between(i - 1, " in ")]);
    fail(
        "E0012",
        format!("`in` is missing{}", after(tokens, i)),
        tokens.span(i),
        "`in` belongs before this",
        help("a range is written", mended, "x = sum(weights[k] for k in 1..4)"),
    )
}

/// `per x > 0`, `key k = x > 0`.
pub(super) fn bare_part(tokens: &Tokens<'_>, i: usize) -> bool {
    let operator = tokens.get(i).is_some_and(|t| {
        t.kind == Kind::Symbol && !matches!(t.text, "," | "=" | ":")
            || matches!(t.text, "and" | "or")
    });
    let start = if tokens.str(0) == "key" { Some("=") } else { Some("per") };
    operator && i.checked_sub(2).map(|p| tokens.str(p)) == start
}

pub(super) fn no_tuple(tokens: &Tokens<'_>, i: usize) -> Fail {
    let start = i.saturating_sub(1);
    let mended =
        tokens.mend(&[tokens.before(start, "("), tokens.after(end_of_value(tokens, start), ")")]);
    fail(
        "E0012",
        "a part of this key is computed outside of brackets",
        tokens.span(i),
        "not a level",
        help("put the parts in brackets", mended, "key kind = (position > 0, group)"),
    )
}
