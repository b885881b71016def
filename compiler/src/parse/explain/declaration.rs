//! Errors before an expression begins: unknown statement words and the fixed parts of declarations.

use super::super::block::defines;
use super::super::grammar::Rule;
use super::super::lex::{Kind, Token, Tokens, clip, in_code};
use super::super::mend::help;
use super::super::{Fail, STATEMENT_WORDS};
use super::{after, expression, fail, indented_statement, is_reserved, reserved};
use crate::diagnostic::nearest;

/// A whole statement that broke at token `i`.
pub(in super::super) fn statement(tokens: &Tokens<'_>, i: usize, wanted: &[Rule]) -> Fail {
    let Some(first) = tokens.get(0) else { return super::unread(tokens.whole()) };
    let equals = tokens.str(1) == "=";
    if first.kind != Kind::Word {
        return no_statement(tokens);
    }
    if equals && is_reserved(tokens, 0) {
        return reserved(tokens, 0);
    }
    if first.statement_word() {
        return match value_start(tokens) {
            Some(start) if i >= start => expression(tokens, i, wanted),
            _ => declaration(tokens, i, wanted),
        };
    }
    if first.reserved() {
        return no_statement(tokens);
    }
    if equals { expression(tokens, i, wanted) } else { unknown(tokens) }
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
pub(super) fn form(word: &str) -> &'static str {
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
fn no_statement(tokens: &Tokens<'_>) -> Fail {
    let title = format!("`{}` begins no statement", clip(tokens.str(0)));
    let help = help(
        "a statement begins with a name, or with a word such as `param`",
        tokens.mend(&[tokens.before(0, "value = ")]),
        "x = if beta == 0 then 0 else beta\n    param beta = 0.04\n    minimize loss",
    );
    fail("E0004", title, tokens.span(0), "not the beginning of one", help)
}

/// A first word that is no statement's, and no `=` after it.
fn unknown(tokens: &Tokens<'_>) -> Fail {
    if is_reserved(tokens, 0) {
        return reserved(tokens, 0);
    }
    let second = tokens.get(1);
    let followed = second
        .is_some_and(|t| !t.first && matches!(t.kind, Kind::Word | Kind::Number | Kind::Quoted));
    if let Some(failed) = followed.then(|| misspelt(tokens)).flatten() {
        return failed;
    }
    let word = clip(tokens.str(0));
    let code = |new: &str| new.replace("NAME", in_code(tokens.str(0), "x"));
    match second.map(|t| (t.text, t.kind)) {
        None => fail(
            "E0001",
            format!("`{word}` stands alone"),
            tokens.span(0),
            "neither defined nor used",
            code("give it a value, or minimize it:\n\n    NAME = 1\n    minimize NAME"),
        ),
        Some(("(", _)) => function_like(tokens),
        Some((":", _)) => fail(
            "E0004",
            format!("`{word}` has a type but no statement word"),
            tokens.span(1),
            "types stand in declarations only",
            help(
                "a column of the batch is declared; a definition has no type",
                tokens.mend(&[tokens.before(0, "input ")]),
                form("input"),
            ),
        ),
        Some(("[", _)) => fail(
            "E0004",
            format!("`{word}[` begins no statement"),
            tokens.span(1),
            "a member is read, not defined",
            code("members of a family are declared together:\n\n    param NAME[3] = 1.0"),
        ),
        Some(("==", _)) => fail(
            "E0001",
            format!("`=` is missing after `{word}`"),
            tokens.span(1),
            "compares, and defines nothing",
            help(
                "a definition has one `=`",
                tokens.mend(&[tokens.instead(1, "=")]),
                &code("NAME = 1"),
            ),
        ),
        Some(_) if begins_statement(tokens, 1) => indented_statement(tokens, 1),
        Some((_, Kind::Symbol)) => fail(
            "E0001",
            "this expression has no name",
            tokens.span(0),
            "a value that nothing uses",
            help(
                "name it, or minimize it",
                tokens.mend(&[tokens.before(0, "value = ")]),
                &code("value = NAME + 1"),
            ),
        ),
        Some(_) => missing_equals(tokens, 1),
    }
}

/// Whether token `i` is the first of its line and begins a statement.
fn begins_statement(tokens: &Tokens<'_>, i: usize) -> bool {
    tokens.get(i).is_some_and(|t| t.first && (t.statement_word() || defines(&tokens.list, i)))
}

/// A statement word as other languages have it, or with a letter wrong.
fn misspelt(tokens: &Tokens<'_>) -> Option<Fail> {
    let word = tokens.str(0);
    let title = format!("`{}` begins no statement", clip(word));
    let drop = (tokens.span(0).start as usize, tokens.span(1).start as usize, "");
    let (edit, lead, sample) = match word {
        "let" | "var" | "val" | "const" | "set" | "define" | "real" | "int" | "bool" => {
            (drop, "a definition is a name, `=` and a value", form(""))
        }
        "def" | "function" | "func" | "fun" => {
            (tokens.instead(0, "fn"), "a function begins with `fn`", form("fn"))
        }
        "import" | "include" | "use" | "from" => {
            (tokens.instead(0, "extend"), "a file builds on one other objective", form("extend"))
        }
        "return" => (tokens.instead(0, "minimize"), "the goal is a statement", form("minimize")),
        "filter" => (tokens.instead(0, "keep"), "a filter is written", form("keep")),
        _ => {
            let near = nearest(word, STATEMENT_WORDS).or(match word {
                "parameter" | "hyperparameter" => Some("param"),
                "minimise" => Some("minimize"),
                "maximise" => Some("maximize"),
                "log" => Some("metric"),
                "column" => Some("input"),
                _ => None,
            })?;
            let label = format!("did you mean `{near}`?");
            let mended = tokens.mend(&[tokens.instead(0, near)]);
            let help = help("the statement is written", mended, form(near));
            return Some(fail("E0004", title, tokens.span(0), label, help));
        }
    };
    let help = help(lead, tokens.mend(&[edit]), sample);
    Some(fail("E0004", title, tokens.span(0), "not a word of the language", help))
}

/// `f(x) = …` without `fn`, or a call that nothing uses.
fn function_like(tokens: &Tokens<'_>) -> Fail {
    let (word, name) = (clip(tokens.str(0)), in_code(tokens.str(0), "f"));
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
            help(
                "a function begins with `fn`",
                tokens.mend(&[tokens.before(0, "fn ")]),
                &format!("fn {name}(x) = x - mean(x per group)"),
            ),
        );
    }
    fail(
        "E0001",
        "this call has no name",
        tokens.span(0),
        "a value that nothing uses",
        help(
            "name it, log it as a metric, or minimize it",
            tokens.mend(&[tokens.before(0, "value = ")]),
            &format!("value = {name}(reward)"),
        ),
    )
}

/// No `=` before token `i`.
fn missing_equals(tokens: &Tokens<'_>, i: usize) -> Fail {
    let (span, label) = place(tokens, i, "`=`");
    let declared = tokens.get(0).is_some_and(Token::statement_word);
    let sample = if declared {
        form(tokens.str(0)).to_owned()
    } else {
        format!("{} = mean(reward per group)", in_code(tokens.str(0), "x"))
    };
    let mended = tokens.mend(&[tokens.after(i.saturating_sub(1), " =")]);
    let help = help("write `=` between the name and its value", mended, &sample);
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
    let wants = |rules: &[Rule]| rules.iter().any(|r| wanted.contains(r));
    if begins_statement(tokens, i) {
        return indented_statement(tokens, i);
    }
    let clause = matches!(tokens.str(i), "where" | "in" | "per");
    let named = wants(&[Rule::name, Rule::ident]) || (wants(&[Rule::level]) && !clause);
    if named && is_reserved(tokens, i) {
        return reserved(tokens, i);
    }
    if let Some(near) =
        wanted.contains(&Rule::type_name).then(|| type_like(tokens.str(i))).flatten()
    {
        let title = format!("`{}` is not a type", clip(tokens.str(i)));
        let help = help(
            "the types are `real`, `int` and `bool`",
            tokens.mend(&[tokens.instead(i, near)]),
            form(word),
        );
        let label = format!("did you mean `{near}`?");
        return fail("E0013", title, tokens.span(i), label, help);
    }
    if word == "fn" && wants(&[Rule::chain, Rule::expr, Rule::operand, Rule::number, Rule::infix]) {
        return expression(tokens, i, wanted);
    }
    let literal = wants(&[Rule::literal, Rule::number, Rule::boolean, Rule::kw_inf]);
    if literal && tokens.get(i).is_some_and(|t| t.kind != Kind::Symbol && t.kind != Kind::Close) {
        return not_literal(tokens, i);
    }
    if word == "metric" && wanted.contains(&Rule::assign) && i == 2 {
        let operator = tokens.get(i).is_some_and(|t| matches!(t.kind, Kind::Symbol | Kind::Open));
        if operator {
            return nameless_metric(tokens);
        }
        return missing_equals(tokens, i);
    }
    let value = tokens.get(i).is_some_and(|t| {
        !t.first && (t.kind == Kind::Number || matches!(t.text, "true" | "false" | "inf" | "-"))
    });
    if word == "input" && value && wanted.contains(&Rule::assign) {
        return missing_equals(tokens, i);
    }
    if wanted.contains(&Rule::EOI) && i < tokens.list.len() {
        return left_over(tokens, i);
    }
    // Inside the brackets of a function its `=` is far away.
    if word == "fn" && wants(&[Rule::comma]) && wants(&[Rule::close_paren]) {
        return absent(tokens, i, "`,`");
    }
    let missing = MISSING.iter().find(|(rule, _)| wanted.contains(rule));
    match missing {
        Some((Rule::assign, _)) => missing_equals(tokens, i),
        Some((_, what)) => absent(tokens, i, what),
        None => expression(tokens, i, wanted),
    }
}

/// What a declaration may lack, from the most to the least telling where several things may stand.
const MISSING: [(Rule, &str); 20] = [
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
];

/// Something is not there before token `i`.
fn absent(tokens: &Tokens<'_>, i: usize, what: &str) -> Fail {
    let (span, label) = place(tokens, i, what);
    let blank = if what == "`,`" { "" } else { " " };
    let new = format!("{blank}{}", what.trim_matches('`'));
    let mended = tokens.mend(&[tokens.after(i.saturating_sub(1), &new)]);
    let mended = mended.filter(|_| what.starts_with('`'));
    let help = help("the statement is written", mended, form(tokens.str(0)));
    fail("E0013", format!("{what} is missing{}", after(tokens, i)), span, label, help)
}

/// The type that another language's type stands for.
fn type_like(word: &str) -> Option<&'static str> {
    match word {
        "float" | "double" | "f32" | "f64" | "number" | "score" | "Real" => Some("real"),
        "integer" | "long" | "i32" | "i64" | "Int" => Some("int"),
        "boolean" | "mask" | "Bool" => Some("bool"),
        _ => None,
    }
}

/// `metric mean(x)`.
fn nameless_metric(tokens: &Tokens<'_>) -> Fail {
    fail(
        "E0013",
        "this `metric` has a value but no name",
        tokens.span(1),
        "the name under which it is logged belongs before this",
        help("name it", tokens.mend(&[tokens.before(1, "x = ")]), form("metric")),
    )
}

/// A `param`, `input` or `state` with something other than a number or truth value.
fn not_literal(tokens: &Tokens<'_>, i: usize) -> Fail {
    let title = format!("the value of this `{}` is not a literal", clip(tokens.str(0)));
    fail("E0013", title, tokens.span(i), "not a number, `true` or `false`", computed(tokens))
}

/// Help where a declaration computes its value.
fn computed(tokens: &Tokens<'_>) -> String {
    let undeclared = (tokens.span(0).start as usize, tokens.span(1).start as usize, "");
    let sample = form(tokens.str(0));
    help(
        "its value is one number; what is computed is a definition",
        tokens.mend(&[undeclared]),
        sample,
    )
}

/// A declaration that is complete, and more.
fn left_over(tokens: &Tokens<'_>, i: usize) -> Fail {
    let word = clip(tokens.str(0));
    let found = clip(tokens.str(i));
    let rest = (tokens.span(i - 1).end as usize, tokens.whole().end as usize, "");
    let shorter = tokens.mend(&[rest]);
    let (title, help) = match word.as_str() {
        "param" | "state" => {
            (format!("the value of this `{word}` is more than a literal"), computed(tokens))
        }
        "policy" if found == "=" => (
            "a `policy` column has no default".to_owned(),
            help("the policy computes it for every batch", shorter, form("policy")),
        ),
        _ => (
            format!("this `{word}` has ended before `{found}`"),
            help("the statement is written", shorter, form(tokens.str(0))),
        ),
    };
    fail("E0013", title, tokens.span(i), "does not belong to it", help)
}
