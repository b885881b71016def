//! Errors inside expressions: an operand, an operator or a clause that is missing or out of place.

use super::super::Fail;
use super::super::block::defines;
use super::super::grammar::Rule;
use super::super::lex::{Kind, Token, Tokens, clip};
use super::{after, fail, indented_statement, is_reserved, reserved};

/// What the innermost bracket around a place belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Around {
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

fn around(tokens: &Tokens<'_>, i: usize) -> Around {
    let mut depth = 0usize;
    for (j, token) in tokens.list.iter().enumerate().take(i).rev() {
        match token.kind {
            Kind::Close => depth += 1,
            Kind::Open if depth > 0 => depth -= 1,
            Kind::Open => {
                let before = j.checked_sub(1).and_then(|p| tokens.get(p));
                return match before {
                    _ if token.text == "[" => Around::Index,
                    Some(t) if t.kind == Kind::Word && !t.reserved() => Around::Call,
                    Some(t) if t.text == "per" => Around::Tuple,
                    Some(_) if tokens.str(0) == "key" && j == 3 => Around::Tuple,
                    _ => Around::Group,
                };
            }
            Kind::Word | Kind::Number | Kind::Quoted | Kind::Symbol => {}
        }
    }
    Around::Nothing
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
                found_span(tokens, i),
                "says nothing without a name",
                "`base.x` is what the base objective means by `x`:\n\n    \
                 token_loss = base.token_loss + 0.1 * entropy",
            ),
            _ => reserved(tokens, i),
        };
    }
    let level =
        i.checked_sub(1).is_some_and(|p| matches!(tokens.str(p), "@" | "per" | "in" | "for"));
    if level {
        return no_level(tokens, i);
    }
    match found.text {
        "if" => bare_if(tokens, i),
        "=" => stray_equals(tokens, i),
        "+" => fail(
            "E0003",
            format!("an expression is missing{}", after(tokens, i)),
            found_span(tokens, i),
            "`+` needs a value on its left",
            "there is no sign `+`; leave it out:\n\n    a + b",
        ),
        _ => match found.kind {
            Kind::Quoted => text_value(tokens, i),
            Kind::Word | Kind::Number | Kind::Open | Kind::Close | Kind::Symbol => {
                missing(tokens, i)
            }
        },
    }
}

fn found_span(tokens: &Tokens<'_>, i: usize) -> crate::source::Span {
    tokens.span(i)
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
        "" | "=" => "x = mean(reward per group)",
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

/// `per`, `in`, `@` or `for` without its level or name.
fn no_level(tokens: &Tokens<'_>, i: usize) -> Fail {
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
    match tokens.list.iter().take(i).rposition(|t| t.text == "if" && t.kind == Kind::Word) {
        Some(open) if tokens.span(open) != span => {
            failed.with(tokens.span(open), "the `if` is here")
        }
        _ => failed,
    }
}

/// An `if` as the operand of an operator.
fn bare_if(tokens: &Tokens<'_>, i: usize) -> Fail {
    let failed = fail(
        "E0007",
        "an `if` is an operand without brackets",
        tokens.span(i),
        "goes on to the end of the expression",
        "put the choice in brackets:\n\n    1 + (if correct then 1 else 0)",
    );
    match i.checked_sub(1) {
        Some(p) => failed.with(tokens.span(p), "an operand of this"),
        None => failed,
    }
}

/// `=` inside an expression.
fn stray_equals(tokens: &Tokens<'_>, i: usize) -> Fail {
    let prior = i.checked_sub(1).map_or("", |p| tokens.str(p));
    let help = match prior {
        "<" => "at most is written without the blank:\n\n    a <= b",
        ">" => "at least is written without the blank:\n\n    a >= b",
        "=" => "equality is written `==`, a definition with one `=`:\n\n    x = a == b",
        _ => "equality is written `==`:\n\n    x = (a == b)",
    };
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
        (Kind::Word, "where" | "per" | "in") => stray_clause(tokens, i, around),
        (Kind::Word, "not") => side_by_side(tokens, i, around),
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

/// `where`, `per` or `in` outside the brackets of a call.
fn stray_clause(tokens: &Tokens<'_>, i: usize, around: Around) -> Fail {
    let word = tokens.str(i);
    let span = tokens.span(i);
    if around == Around::Call || around == Around::Tuple {
        let title = format!("this `{word}` is out of place");
        let help = "clauses follow the arguments, each of them once:\n\n    \
                    mean(logp where mask per rollout)";
        return fail("E0012", title, span, "cannot stand here", help);
    }
    let help = match word {
        "per" => "move it inside the brackets of the reduction:\n\n    mean(reward per group)",
        "in" => "move it inside the brackets of the call:\n\n    cumsum(token_reward in rollout)",
        _ => {
            "move it inside the brackets of the reduction, or make it a choice:\n\n    \
              mean(reward where correct)\n    if correct then reward else 0"
        }
    };
    fail(
        "E0012",
        format!("this `{word}` stands outside of a call"),
        span,
        "belongs to no call",
        help,
    )
}

fn comma(tokens: &Tokens<'_>, i: usize, around: Around) -> Fail {
    let (title, help) = match around {
        Around::Group => (
            "these brackets hold two values",
            "brackets without a function hold one value; several are arguments,\n\
             or a tuple after `per`:\n\n    max(a, b)\n    mean(logp per (group, position))",
        ),
        Around::Index => ("this index has two parts", "a family has one index:\n\n    weights[2]"),
        Around::Nothing => (
            "a comma stands outside of brackets",
            "end the statement here, or put the values into a call:\n\n    max(a, b)",
        ),
        Around::Call | Around::Tuple => (
            "this comma separates nothing",
            "one comma between arguments, and at most one at the end:\n\n    max(a, b)",
        ),
    };
    fail("E0011", title, tokens.span(i), "one value has ended here", help)
}

/// `2 (a + b)`, `f(x)(y)`, `f(x)[1]`.
fn not_callable(tokens: &Tokens<'_>, i: usize, open: &str) -> Fail {
    let (title, help) = if open == "(" {
        (
            "only a name can be called",
            "for a product write `*`; the result of a call cannot be called:\n\n    2 * (a + b)",
        )
    } else {
        ("only a name can be indexed", "an index picks a member of a family:\n\n    weights[2]")
    };
    let failed = fail("E0011", title, tokens.span(i), "an operator belongs before this", help);
    match i.checked_sub(1) {
        Some(p) => failed.with(tokens.span(p), "a value ends here"),
        None => failed,
    }
}

/// Two operands without anything between them.
fn side_by_side(tokens: &Tokens<'_>, i: usize, around: Around) -> Fail {
    let before = i.checked_sub(1).map_or("", |p| tokens.str(p));
    let found = tokens.str(i);
    let (label, help) = match around {
        Around::Call | Around::Tuple => (
            "a comma or an operator belongs before this",
            "separate arguments with commas:\n\n    clip(ratio, 0.8, 1.2)",
        ),
        Around::Nothing | Around::Index | Around::Group => (
            "an operator belongs before this",
            "join them with an operator, or begin a new statement on its own line:\n\n    a * b",
        ),
    };
    let title = format!("nothing stands between `{}` and `{}`", clip(before), clip(found));
    fail(
        "E0011",
        title,
        tokens.span(i),
        label,
        help.replace("statement on its own line", "statement on its\nown line"),
    )
}
