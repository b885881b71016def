//! Errors before an expression begins: unknown statement words and the fixed parts of declarations.

use super::super::grammar::Rule;
use super::super::lex::{Kind, Token, Tokens, clip};
use super::super::{Fail, STATEMENT_WORDS};
use super::{after, expression, fail, indented_statement, is_reserved, reserved};
use crate::diagnostic::nearest;

/// A whole statement that broke at token `i`.
pub(in super::super) fn statement(tokens: &Tokens<'_>, i: usize, wanted: &[Rule]) -> Fail {
    let Some(first) = tokens.get(0) else { return super::unread(tokens.whole()) };
    let defines = tokens.str(1) == "=";
    if first.kind != Kind::Word {
        return no_statement(tokens, "a name or one of the words that begin a statement");
    }
    if defines && is_reserved(tokens, 0) {
        return reserved(tokens, 0);
    }
    if first.statement_word() {
        return match value_start(tokens) {
            Some(start) if i >= start => expression(tokens, i, wanted),
            _ => declaration(tokens, i, wanted),
        };
    }
    if first.reserved() {
        return no_statement(tokens, "a name");
    }
    if defines { expression(tokens, i, wanted) } else { unknown(tokens) }
}

/// Where the expression of a statement begins.
fn value_start(tokens: &Tokens<'_>) -> Option<usize> {
    let mut depth = 0usize;
    let mut outside = |wanted: &str| {
        tokens.list.iter().position(|t| {
            match t.kind {
                Kind::Open => depth += 1,
                Kind::Close => depth = depth.saturating_sub(1),
                Kind::Word | Kind::Number | Kind::Quoted | Kind::Symbol => {}
            }
            depth == 0 && t.text == wanted
        })
    };
    match tokens.str(0) {
        "minimize" | "maximize" => Some(1),
        "keep" | "drop" => outside("where").map(|i| i + 1),
        "fn" | "update" | "metric" | "sample" | "key" => outside("=").map(|i| i + 1),
        _ => None,
    }
}

/// What each declaration looks like.
fn form(word: &str) -> &'static str {
    match word {
        "extend" => "extend dapo\n    extend \"other.rl\"\n    extend nothing",
        "param" => "param clip_low = 0.2 in [0, 1]",
        "input" => "input score : real @ turn = 0.0",
        "policy" => "policy draft_logp : real @ token",
        "level" => "level item in rollout",
        "list" => "list comparison in rollout",
        "key" => "key cell = (group, position)",
        "state" => "state rate[prompt] : real @ group = 0.5",
        "update" => "update rate = 0.9 * rate + 0.1 * mean(reward per group)",
        "keep" => "keep token where loss_mask",
        "drop" => "drop rollout where truncated",
        "fn" => "fn centered(x, scale = 1.0) = scale * (x - mean(x per group))",
        "minimize" => "minimize loss",
        "maximize" => "maximize token_mean(surrogate)",
        "metric" => "metric approx_kl = token_mean(old_logp - logp)",
        "sample" => "sample weight = std(reward per group)",
        "allow" => "allow missing_detach",
        _ => "x = mean(reward per group)",
    }
}

/// The first token begins nothing.
fn no_statement(tokens: &Tokens<'_>, what: &str) -> Fail {
    let first = tokens.str(0);
    let help = format!(
        "a statement begins with {what}:\n\n    \
         x = if beta == 0 then 0 else beta * kl\n    minimize loss"
    );
    let help = help.replace("with a name or one", "with a name or\none");
    let title = format!("`{}` begins no statement", clip(first));
    fail("E0004", title, tokens.span(0), "not the beginning of one", help)
}

/// A first word that is no statement's, and no `=` after it.
fn unknown(tokens: &Tokens<'_>) -> Fail {
    let word = tokens.str(0);
    let next = tokens.str(1);
    let second = tokens.get(1);
    let name_next = second.is_some_and(|t| t.kind == Kind::Word && !t.first);
    let foreign = |form: String, what: &str| {
        let title = format!("`{}` begins no statement", clip(word));
        let help = format!("{what}:\n\n    {form}");
        fail("E0004", title, tokens.span(0), "not a word of the language", help)
    };
    let named = if name_next { clip(next) } else { "x".to_owned() };
    if is_reserved(tokens, 0) {
        return reserved(tokens, 0);
    }
    if name_next || second.is_some_and(|t| t.kind != Kind::Symbol && t.kind != Kind::Open) {
        match word {
            "let" | "var" | "val" | "const" | "set" | "define" | "real" | "int" | "bool"
            | "signal" => {
                return foreign(format!("{named} = 1"), "a definition is a name, `=` and a value");
            }
            "def" | "function" | "func" | "fun" => {
                return foreign(format!("fn {named}(a, b) = a + b"), "a function begins with `fn`");
            }
            "import" | "include" | "use" | "from" => {
                return foreign(form("extend").to_owned(), "a file builds on one other objective");
            }
            "return" => {
                return foreign("minimize loss".to_owned(), "the goal of a program is a statement");
            }
            "filter" | "where" => return foreign(form("keep").to_owned(), "a filter is written"),
            _ => {}
        }
        let near = nearest(word, STATEMENT_WORDS).or(match word {
            "parameter" | "hyperparameter" => Some("param"),
            "minimise" | "loss" if word != "loss" => Some("minimize"),
            "log" => Some("metric"),
            "column" => Some("input"),
            _ => None,
        });
        if let Some(near) = near {
            let title = format!("`{}` begins no statement", clip(word));
            let label = format!("did you mean `{near}`?");
            let help = format!("the statement is written:\n\n    {}", form(near));
            return fail("E0004", title, tokens.span(0), label, help);
        }
    }
    if next == "(" {
        return function_like(tokens);
    }
    if next == ":" {
        let help = format!(
            "a definition has no type; a column of the batch is declared:\n\n    {}",
            form("input")
        );
        let title = format!("`{}` has a type but no statement word", clip(word));
        return fail("E0004", title, tokens.span(1), "types stand in declarations only", help);
    }
    if next == "[" {
        let help = format!("members of a family are declared together:\n\n    {FAMILY}");
        let title = format!("`{}[` begins no statement", clip(word));
        return fail("E0004", title, tokens.span(1), "a member is read, not defined", help);
    }
    match second {
        None => fail(
            "E0001",
            format!("`{}` stands alone", clip(word)),
            tokens.span(0),
            "neither defined nor used",
            format!(
                "give it a value, or minimize it:\n\n    {0} = 1\n    minimize {0}",
                clip(word)
            ),
        ),
        Some(token) if token.first => indented_or_equals(tokens, word),
        Some(token) if token.text == "==" => fail(
            "E0001",
            format!("`=` is missing after `{}`", clip(word)),
            tokens.span(1),
            "compares, and defines nothing",
            format!("a definition has one `=`:\n\n    {} = 1", clip(word)),
        ),
        Some(token) if token.kind == Kind::Symbol => fail(
            "E0001",
            "this expression has no name",
            tokens.span(0),
            "a value that nothing uses",
            format!("name it, or minimize it:\n\n    x = {0} + 1\n    minimize {0}", clip(word)),
        ),
        Some(_) => missing_equals(tokens, 1),
    }
}

const FAMILY: &str = "param weights[3] = 1.0";

fn indented_or_equals(tokens: &Tokens<'_>, _word: &str) -> Fail {
    if super::super::block::defines(&tokens.list, 1)
        || tokens.get(1).is_some_and(Token::statement_word)
    {
        return indented_statement(tokens, 1);
    }
    missing_equals(tokens, 1)
}

/// `f(x) = …` without `fn`, or a call that nothing uses.
fn function_like(tokens: &Tokens<'_>) -> Fail {
    let word = clip(tokens.str(0));
    let mut depth = 0usize;
    let close = tokens.list.iter().position(|t| {
        match t.kind {
            Kind::Open => depth += 1,
            Kind::Close => depth = depth.saturating_sub(1),
            Kind::Word | Kind::Number | Kind::Quoted | Kind::Symbol => {}
        }
        depth == 0 && t.kind == Kind::Close
    });
    if close.is_some_and(|c| tokens.str(c + 1) == "=") {
        return fail(
            "E0004",
            format!("the function `{word}` has no `fn`"),
            tokens.span(0),
            "begins no statement",
            format!("a function begins with `fn`:\n\n    fn {word}(x) = x - mean(x per group)"),
        );
    }
    fail(
        "E0001",
        "this call has no name",
        tokens.span(0),
        "a value that nothing uses",
        format!(
            "name it, log it, or minimize it:\n\n    x = {word}(reward)\n    metric x\n    minimize x"
        ),
    )
}

/// No `=` before token `i`.
fn missing_equals(tokens: &Tokens<'_>, i: usize) -> Fail {
    let (span, label) = place(tokens, i, "`=`");
    let mut help = form(tokens.str(0)).to_owned();
    if !tokens.get(0).is_some_and(Token::statement_word) {
        help = format!("{} = mean(reward per group)", clip(tokens.str(0)));
    }
    let help = format!("write `=` between the name and its value:\n\n    {help}");
    fail("E0001", format!("`=` is missing{}", after(tokens, i)), span, label, help)
}

/// Where something is missing, and how a label says it.
fn place(tokens: &Tokens<'_>, i: usize, what: &str) -> (crate::source::Span, String) {
    if i < tokens.list.len() {
        (tokens.span(i), format!("{what} belongs before this"))
    } else {
        (tokens.span(i), "the statement ends here".to_owned())
    }
}

/// A statement word, and then something that its form does not have.
fn declaration(tokens: &Tokens<'_>, i: usize, wanted: &[Rule]) -> Fail {
    let word = tokens.str(0);
    let help = format!("the statement is written:\n\n    {}", form(word));
    let wants = |rules: &[Rule]| rules.iter().any(|r| wanted.contains(r));
    let begins_line = tokens.get(i).is_some_and(|t| t.first);
    if begins_line
        && (tokens.get(i).is_some_and(Token::statement_word)
            || super::super::block::defines(&tokens.list, i))
    {
        return indented_statement(tokens, i);
    }
    if wants(&[Rule::name, Rule::ident, Rule::level]) && is_reserved(tokens, i) {
        return reserved(tokens, i);
    }
    if word == "fn" && wants(&[Rule::chain, Rule::expr, Rule::operand, Rule::number, Rule::infix]) {
        return expression(tokens, i, wanted);
    }
    let literal = wants(&[Rule::literal, Rule::number, Rule::boolean, Rule::kw_inf]);
    if literal && tokens.get(i).is_some_and(|t| t.kind != Kind::Symbol && t.kind != Kind::Close) {
        return not_literal(tokens, i);
    }
    if wanted.contains(&Rule::EOI) && i < tokens.list.len() {
        return left_over(tokens, i);
    }
    // From the most to the least telling, for a place where several things may stand.
    let missing = [
        (Rule::assign, "`=`"),
        (Rule::colon, "`:`"),
        (Rule::type_name, "a type"),
        (Rule::at, "`@`"),
        (Rule::kw_in, "`in`"),
        (Rule::kw_where, "`where`"),
        (Rule::level, "a level"),
        (Rule::tuple, "a level"),
        (Rule::partition, "a level"),
        (Rule::path, "a base"),
        (Rule::name, "a name"),
        (Rule::ident, "a name"),
        (Rule::integer, "a whole number"),
        (Rule::literal, "a literal"),
        (Rule::number, "a literal"),
        (Rule::open_square, "`[`"),
        (Rule::close_square, "`]`"),
        (Rule::comma, "`,`"),
        (Rule::open_paren, "`(`"),
        (Rule::close_paren, "`)`"),
    ]
    .iter()
    .find(|(rule, _)| wanted.contains(rule));
    match missing {
        Some((Rule::assign, _)) => missing_equals(tokens, i),
        Some((_, what)) => {
            let (span, label) = place(tokens, i, what);
            fail("E0013", format!("{what} is missing{}", after(tokens, i)), span, label, help)
        }
        None => expression(tokens, i, wanted),
    }
}

/// A `param`, `input` or `state` with something other than a number or truth value.
fn not_literal(tokens: &Tokens<'_>, i: usize) -> Fail {
    let word = tokens.str(0);
    fail(
        "E0013",
        format!("the value of this `{}` is not a literal", clip(word)),
        tokens.span(i),
        "not a number, `true` or `false`",
        format!(
            "write a literal; what is computed is a definition:\n\n    {}\n    x = mean(reward)",
            form(word)
        ),
    )
}

/// A declaration that is complete, and more.
fn left_over(tokens: &Tokens<'_>, i: usize) -> Fail {
    let word = clip(tokens.str(0));
    let found = clip(tokens.str(i));
    let (title, lead) = match word.as_str() {
        "param" | "state" => (
            format!("the value of this `{word}` is more than a literal"),
            "the value is one number; what is computed is a definition",
        ),
        "policy" if found == "=" => (
            "a `policy` column has no default".to_owned(),
            "the policy computes it for every batch",
        ),
        _ => (format!("this `{word}` has ended before `{found}`"), "the statement is written"),
    };
    let help = format!("{lead}:\n\n    {}", form(tokens.str(0)));
    fail("E0013", title, tokens.span(i), "does not belong to it", help)
}
