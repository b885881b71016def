//! Errors inside expressions: an operand or an operator that is missing or out of place.

use super::super::Fail;
use super::super::block::defines;
use super::super::grammar::Rule;
use super::super::lex::{Kind, Token, Tokens, clip_to};
use super::super::mend::help;
use super::clause::{
    bare_part, late, late_argument, no_in, no_level, no_range, no_scope, no_tuple, partitions,
    stray_clause,
};
use super::{after, fail, indented_statement, is_reserved, reserved};

/// What the innermost bracket around a place belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Around {
    Nothing,
    Call,
    Index,
    /// `(a, b)` after `per` or in a `key`.
    Tuple,
    Group,
}

pub(super) fn explain(tokens: &Tokens<'_>, i: usize, wanted: &[Rule]) -> Fail {
    let before = i.checked_sub(1).and_then(|p| tokens.get(p));
    let complete = before.is_some_and(Token::ends_operand);
    let Some(found) = tokens.get(i) else {
        return if complete { unfinished(tokens, i, wanted) } else { missing(tokens, i) };
    };
    let new_line = found.first && i > 0;
    if new_line && (found.statement_word() || defines(&tokens.list, i)) {
        return indented_statement(tokens, i);
    }
    if complete { after_operand(tokens, i, wanted) } else { before_operand(tokens, i) }
}

/// The innermost bracket that is open before token `i`.
pub(super) fn opening(tokens: &Tokens<'_>, i: usize) -> Option<usize> {
    let mut depth = 0usize;
    let before = tokens.list.get(..i).unwrap_or(&tokens.list);
    before.iter().rposition(|token| match token.kind {
        Kind::Close => {
            depth += 1;
            false
        }
        Kind::Open if depth > 0 => {
            depth -= 1;
            false
        }
        Kind::Open => true,
        Kind::Word | Kind::Number | Kind::Quoted | Kind::Symbol => false,
    })
}

fn around(tokens: &Tokens<'_>, i: usize) -> Around {
    let Some(open) = opening(tokens, i) else { return Around::Nothing };
    match open.checked_sub(1).and_then(|p| tokens.get(p)) {
        _ if tokens.str(open) == "[" => Around::Index,
        Some(t) if t.kind == Kind::Word && !t.reserved() => Around::Call,
        Some(t) if t.text == "per" => Around::Tuple,
        Some(_) if tokens.str(0) == "key" && open == 3 => Around::Tuple,
        _ => Around::Group,
    }
}

/// Token `i` stands where an operand should begin.
fn before_operand(tokens: &Tokens<'_>, i: usize) -> Fail {
    let Some(found) = tokens.get(i) else { return missing(tokens, i) };
    if is_reserved(tokens, i) && found.text != "if" {
        return match found.text {
            "then" | "else" | "and" | "or" | "where" | "per" | "in" => missing(tokens, i),
            "base" => fail(
                "E0005",
                "`base` is a reserved word",
                tokens.span(i),
                "says nothing without a name",
                "`base.x` is what the base objective means by `x`:\n\n    \
                 token_loss = base.token_loss + 0.1 * entropy",
            ),
            _ => reserved(tokens, i),
        };
    }
    let level =
        i.checked_sub(1).is_some_and(|p| matches!(tokens.str(p), "@" | "per" | "in" | "for"));
    if level && found.text == "=" && tokens.str(i - 1) == "in" {
        return reserved(tokens, i - 1);
    }
    if level {
        return no_level(tokens, i);
    }
    match found.text {
        "if" => bare_if(tokens, i),
        "=" => stray_equals(tokens, i),
        "+" => fail(
            "E0003",
            format!("an expression is missing{}", after(tokens, i)),
            tokens.span(i),
            "`+` needs a value on its left",
            {
                let next = tokens.get(i + 1).map_or(found.end, |t| t.start);
                help("there is no sign `+`", tokens.mend(&[(found.start, next, "")]), "x = a + b")
            },
        ),
        "[" => fail(
            "E0009",
            "`[` begins no value",
            tokens.span(i),
            "there are no lists",
            "several values of one kind are a family:\n\n    param weights[3] = 1.0",
        ),
        _ => match found.kind {
            Kind::Quoted => text_value(tokens, i),
            Kind::Word | Kind::Number | Kind::Open | Kind::Close | Kind::Symbol => {
                missing(tokens, i)
            }
        },
    }
}

/// No operand before token `i`, or before the end.
fn missing(tokens: &Tokens<'_>, i: usize) -> Fail {
    let before = i.checked_sub(1).and_then(|p| tokens.get(p));
    let (prior, next) = (before.map_or("", |t| t.text), tokens.str(i));
    if matches!(prior, "@" | "per" | "in" | "for") {
        return no_level(tokens, i);
    }
    if prior == "(" && next == ")" {
        return fail(
            "E0003",
            "nothing stands between these brackets",
            tokens.span(i - 1).to(tokens.span(i)),
            "empty",
            "put a value between them, or delete them:\n\n    (reward - 1)",
        );
    }
    let form = match prior {
        "" | "=" => super::declaration::form(tokens.str(0)),
        "minimize" | "maximize" => "minimize loss",
        "," => "clip(ratio, 0.8, 1.2)",
        "where" => "mean(reward where correct)",
        "if" | "then" | "else" => "if correct then 1 else 0",
        "and" | "or" | "not" => "correct and not truncated",
        "|>" => "reward |> group_norm",
        "==" | "!=" | "<" | "<=" | ">" | ">=" => "reward >= 0.5",
        "[" => "weights[1]",
        _ => "reward - mean(reward per group)",
    };
    let title = format!("an expression is missing{}", after(tokens, i));
    let help = format!("write a value there, as in\n\n    {form}");
    let failed = if i < tokens.list.len() {
        fail("E0003", title, tokens.span(i), "a value belongs before this", help)
    } else {
        return fail("E0003", title, tokens.span(i), "nothing follows this", help);
    };
    match before {
        Some(_) => failed.with(tokens.span(i - 1), "needs a value after it"),
        None => failed,
    }
}

/// The text ends after a complete operand, and should not.
fn unfinished(tokens: &Tokens<'_>, i: usize, wanted: &[Rule]) -> Fail {
    let end = tokens.span(i);
    if wanted.contains(&Rule::kw_then) {
        return no_branch(tokens, i, "then");
    }
    if wanted.contains(&Rule::kw_else) {
        return no_branch(tokens, i, "else");
    }
    super::unread(end)
}

/// The `if` that token `i` should have gone on with.
fn no_branch(tokens: &Tokens<'_>, i: usize, word: &str) -> Fail {
    let span = tokens.span(i);
    let label = if i < tokens.list.len() {
        format!("`{word}` belongs before this")
    } else {
        "the expression ends here".to_owned()
    };
    let help = "a choice has a value for both cases:\n\n    if correct then 1 else 0";
    let failed = fail("E0007", format!("an `if` has no `{word}`"), span, label, help);
    // The last `if` that no `else` has answered yet, in whichever bracket.
    let mut open = Vec::new();
    for (j, token) in tokens.list.iter().enumerate().take(i) {
        match (token.kind, token.text) {
            (Kind::Word, "if") | (Kind::Open, _) => open.push(j),
            (Kind::Word, "else") => {
                open.pop();
            }
            (Kind::Close, _) => while open.pop().is_some_and(|j| tokens.str(j) == "if") {},
            _ => {}
        }
    }
    match open.pop().filter(|&j| tokens.span(j) != span) {
        Some(j) => failed.with(tokens.span(j), "the `if` is here"),
        None => failed,
    }
}

/// An `if` as the operand of an operator.
fn bare_if(tokens: &Tokens<'_>, i: usize) -> Fail {
    let end = end_of_value(tokens, i);
    let mended = tokens.mend(&[tokens.before(i, "("), tokens.after(end, ")")]);
    let failed = fail(
        "E0007",
        "an `if` is an operand without brackets",
        tokens.span(i),
        "goes on to the end of the expression",
        help("put the choice in brackets", mended, "x = 1 + (if correct then 1 else 0)"),
    );
    match i.checked_sub(1) {
        Some(p) => failed.with(tokens.span(p), "an operand of this"),
        None => failed,
    }
}

/// The last token of the value that token `i` begins.
pub(super) fn end_of_value(tokens: &Tokens<'_>, i: usize) -> usize {
    let mut depth = 0usize;
    let mut end = i;
    for (j, token) in tokens.list.iter().enumerate().skip(i) {
        let outside = depth == 0
            && (token.kind == Kind::Close
                || matches!(token.text, "," | "where" | "per" | "in")
                    && token.kind != Kind::Quoted);
        match token.kind {
            _ if outside => break,
            Kind::Open => depth += 1,
            Kind::Close => depth -= 1,
            Kind::Word | Kind::Number | Kind::Quoted | Kind::Symbol => {}
        }
        end = j;
    }
    end
}

/// `=` inside an expression.
fn stray_equals(tokens: &Tokens<'_>, i: usize) -> Fail {
    let end = |j: usize| tokens.span(j).end as usize;
    let (edit, lead) = match i.checked_sub(1).map(|p| (p, tokens.str(p))) {
        Some((p, "<" | ">")) => (
            (end(p), tokens.span(i).start as usize, ""),
            "at most is written `<=`, at least `>=`, without a blank",
        ),
        Some((p, "==" | "=")) => ((end(p), end(i), ""), "equality is written `==`"),
        Some((p, _)) if matches!(tokens.str(0), "minimize" | "maximize") => {
            let whole = tokens.whole().end as usize;
            ((end(p), whole, ""), "a goal is one expression, without a target")
        }
        _ => (tokens.instead(i, "=="), "equality is written `==`"),
    };
    let help = help(lead, tokens.mend(&[edit]), "x = (a == b)");
    fail("E0009", "`=` is not an operator", tokens.span(i), "defines, and compares nothing", help)
}

fn text_value(tokens: &Tokens<'_>, i: usize) -> Fail {
    fail(
        "E0009",
        "a text in quotes is not a value",
        tokens.span(i),
        "values are numbers and truth values",
        "only a path stands in quotes:\n\n    extend \"other.rl\"",
    )
}

/// Token `i` follows a complete operand and cannot.
fn after_operand(tokens: &Tokens<'_>, i: usize, wanted: &[Rule]) -> Fail {
    let Some(found) = tokens.get(i) else { return super::unread(tokens.whole()) };
    let around = around(tokens, i);
    let span = tokens.span(i);
    let in_if = wanted.contains(&Rule::kw_then) || wanted.contains(&Rule::kw_else);
    match (found.kind, found.text) {
        (Kind::Word, "if") => fail(
            "E0007",
            "an `if` stands after its value",
            span,
            "a choice begins with `if`",
            "write the condition first:\n\n    if correct then 1 else 0",
        ),
        (Kind::Word, "then" | "else") if !in_if => fail(
            "E0007",
            format!("this `{}` has no `if`", found.text),
            span,
            "belongs to no choice",
            "a choice is written:\n\n    if correct then 1 else 0",
        ),
        _ if in_if && !matches!(found.kind, Kind::Number | Kind::Open) => {
            let word = if wanted.contains(&Rule::kw_then) { "then" } else { "else" };
            no_branch(tokens, i, word)
        }
        _ if around == Around::Call && late_argument(tokens, i) => late(tokens, i),
        _ if wanted.contains(&Rule::kw_in) && around == Around::Call && partitions(tokens, i) => {
            no_scope(tokens, i)
        }
        _ if i > 1 && tokens.str(i - 2) == "for" => no_in(tokens, i),
        _ if around == Around::Call && wanted.contains(&Rule::dots) => no_range(tokens, i),
        _ if bare_part(tokens, i) => no_tuple(tokens, i),
        (Kind::Word, "where" | "per" | "in") => stray_clause(tokens, i, around),
        (Kind::Word, "not" | "true" | "false") => side_by_side(tokens, i, around),
        (Kind::Symbol, "=") => stray_equals(tokens, i),
        (Kind::Symbol, ",") => comma(tokens, i, around),
        (Kind::Symbol, ":") => fail(
            "E0013",
            "a `:` stands inside an expression",
            span,
            "types stand in declarations only",
            "a column of the batch is declared:\n\n    input score : real @ turn",
        ),
        (Kind::Symbol, "..") => fail(
            "E0012",
            "a range stands outside of `for`",
            span,
            "not an operator",
            "a range of whole numbers stands after `for`:\n\n    sum(weights[k] for k in 1..4)",
        ),
        (Kind::Quoted, _) => text_value(tokens, i),
        (Kind::Open, open) => not_callable(tokens, i, open),
        _ if is_reserved(tokens, i) => reserved(tokens, i),
        _ => side_by_side(tokens, i, around),
    }
}

fn comma(tokens: &Tokens<'_>, i: usize, around: Around) -> Fail {
    let (title, lead, sample) = match around {
        Around::Group => (
            "these brackets hold two values",
            "brackets without a function hold one value; several are arguments,\n\
             or a tuple after `per`",
            "x = max(a, b)\n    y = mean(logp per (group, position))",
        ),
        Around::Index => ("this index has two parts", "a family has one index", "x = weights[2]"),
        Around::Nothing => (
            "a comma stands outside of brackets",
            "end the statement before it, or put the values into a call",
            "x = max(a, b)",
        ),
        Around::Call | Around::Tuple => (
            "this comma separates nothing",
            "one comma stands between arguments, and at most one at the end",
            "x = max(a, b)",
        ),
    };
    let last = i + 1 == tokens.list.len();
    let mended = if last { tokens.mend(&[tokens.instead(i, "")]) } else { None };
    fail("E0011", title, tokens.span(i), "one value has ended here", help(lead, mended, sample))
}

/// `2 (a + b)`, `f(x)(y)`, `f(x)[1]`.
fn not_callable(tokens: &Tokens<'_>, i: usize, open: &str) -> Fail {
    let last = i.saturating_sub(1);
    let (title, help) = if open == "(" {
        let lead = "a product has its `*`; the result of a call cannot be called";
        let mended = tokens.mend(&[tokens.between(last, " * ")]);
        ("only a name can be called", help(lead, mended, "x = 2 * (a + b)"))
    } else {
        let lead = "an index picks a member of a family";
        ("only a name can be indexed", help(lead, None, "x = weights[2]"))
    };
    fail("E0011", title, tokens.span(i), "an operator belongs before this", help)
        .with(tokens.span(last), "a value ends here")
}

/// Two operands without anything between them.
fn side_by_side(tokens: &Tokens<'_>, i: usize, around: Around) -> Fail {
    let last = i.saturating_sub(1);
    let (label, lead, mended, sample) = match around {
        Around::Call | Around::Tuple => (
            "a comma or an operator belongs before this",
            "separate the parts with a comma",
            tokens.mend(&[tokens.between(last, ", ")]),
            "x = clip(ratio, 0.8, 1.2)",
        ),
        Around::Nothing | Around::Index | Around::Group => (
            "an operator belongs before this",
            "join them with an operator, or begin a new statement in column\none of the next line",
            tokens.mend(&[tokens.between(last, " * ")]),
            "x = a * b",
        ),
    };
    let title = format!(
        "nothing stands between `{}` and `{}`",
        clip_to(tokens.str(last), 18),
        clip_to(tokens.str(i), 18)
    );
    fail("E0011", title, tokens.span(i), label, help(lead, mended, sample))
}
