//! What each name of a text stands for, as far as the text alone says it: its name space, and the
//! argument or local definition that it reads. Works on tokens, so that a statement that is just being
//! typed has meanings too.

use rlc_compiler::parse::tokens::{Kind, Token, lines, starts};

/// The name space of a name, or what else a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A value; a level where no value has the name.
    Value,
    /// A function.
    Function,
    /// A level.
    Level,
    /// The name of a metric.
    Metric,
    /// `base.x`.
    BaseValue,
    /// `base.f(...)`.
    BaseFunction,
    /// The name of an argument in a call.
    Argument,
    /// What `extend` names.
    Library,
    /// What `allow` names.
    Lint,
    /// Anything else.
    Other,
}

/// A token with its meaning.
#[derive(Debug, Clone)]
pub struct Mark<'a> {
    /// The token.
    pub token: Token<'a>,
    /// The name, without `base.`.
    pub name: &'a str,
    /// What it is.
    pub role: Role,
    /// First byte of the argument or local definition that it reads or is.
    pub bound: Option<usize>,
    /// For an argument's name: the function called.
    pub callee: Option<&'a str>,
    /// First byte of its statement.
    pub statement: usize,
}

/// A name that is visible in a part of its statement.
#[derive(Debug, Clone)]
pub struct Binding<'a> {
    /// The name.
    pub name: &'a str,
    /// Where it is bound.
    pub at: usize,
    /// Visible from this byte.
    pub from: usize,
    /// Up to this one.
    pub until: usize,
    /// It is a scope parameter.
    pub level: bool,
}

/// All tokens but comments, in order.
pub fn marks(text: &str) -> Vec<Mark<'_>> {
    let all: Vec<Token<'_>> =
        lines(text).into_iter().flatten().filter(|t| t.kind != Kind::Comment).collect();
    let mut found = Vec::with_capacity(all.len());
    for (tokens, blocks) in statements(text, &all) {
        let bindings = bindings(tokens, &blocks);
        mark(tokens, &bindings, &mut found);
    }
    found
}

/// The names bound in the statement at a byte.
pub fn bound_at(text: &str, at: usize) -> Vec<Binding<'_>> {
    let all: Vec<Token<'_>> =
        lines(text).into_iter().flatten().filter(|t| t.kind != Kind::Comment).collect();
    let statements = statements(text, &all);
    let here = statements.iter().rev().find(|(tokens, _)| tokens[0].start <= at);
    let all = here.map_or(Vec::new(), |(tokens, blocks)| bindings(tokens, blocks));
    all.into_iter().filter(|b| b.from <= at && at <= b.until).collect()
}

/// Each statement's tokens, and where the lines of its block begin.
fn statements<'t, 'a>(text: &str, all: &'t [Token<'a>]) -> Vec<(&'t [Token<'a>], Vec<usize>)> {
    let starts = starts(text);
    let firsts: Vec<usize> = starts.iter().filter(|s| !s.1).map(|s| s.0).collect();
    let mut found = Vec::new();
    for (i, &start) in firsts.iter().enumerate() {
        let end = firsts.get(i + 1).copied().unwrap_or(usize::MAX);
        let from = all.partition_point(|t| t.start < start);
        let to = all.partition_point(|t| t.start < end);
        let blocks = starts.iter().filter(|s| s.1 && start <= s.0 && s.0 < end).map(|s| s.0);
        if from < to {
            found.push((&all[from..to], blocks.collect()));
        }
    }
    found
}

fn bindings<'a>(tokens: &[Token<'a>], blocks: &[usize]) -> Vec<Binding<'a>> {
    let mut found = Vec::new();
    // Whoever asks is inside the statement, or types at its end.
    let end = usize::MAX;
    let last = tokens.last().map_or(0, Token::end);
    let text = |i: usize| tokens.get(i).map_or("", |t| t.text);
    let head = text(0) == "fn" && text(2) == "(";
    let mut open: Vec<usize> = Vec::new();
    let mut in_head = head;
    for (i, token) in tokens.iter().enumerate() {
        match token.kind {
            Kind::Open => open.push(i),
            Kind::Close => {
                open.pop();
                in_head &= !open.is_empty();
            }
            Kind::Name => {
                let before = i.checked_sub(1).map_or("", text);
                if in_head && open.len() == 1 && matches!(before, "(" | "," | "per") {
                    let level = before == "per";
                    let name = token.text;
                    found.push(Binding {
                        name,
                        at: token.start,
                        from: token.start,
                        until: end,
                        level,
                    });
                } else if before == "for" && text(i + 1) == "in" {
                    let from = open.last().map_or(token.start, |&o| tokens[o].start);
                    let until = closing(&tokens[i..]).unwrap_or(end);
                    let name = token.text;
                    found.push(Binding { name, at: token.start, from, until, level: false });
                }
            }
            _ => {}
        }
    }
    for (n, &start) in blocks.iter().enumerate() {
        let Some(i) = tokens.iter().position(|t| t.start == start) else { continue };
        if tokens[i].kind == Kind::Name && text(i + 1) == "=" {
            // What stands on the right still reads the name's earlier meaning.
            let from = blocks.get(n + 1).copied().unwrap_or(last);
            found.push(Binding { name: tokens[i].text, at: start, from, until: end, level: false });
        }
    }
    found
}

/// The end of the bracket that `tokens` begin inside.
fn closing(tokens: &[Token<'_>]) -> Option<usize> {
    let mut depth = 0usize;
    for token in tokens {
        match token.kind {
            Kind::Open => depth += 1,
            Kind::Close if depth == 0 => return Some(token.end()),
            Kind::Close => depth -= 1,
            _ => {}
        }
    }
    None
}

fn mark<'a>(tokens: &[Token<'a>], bindings: &[Binding<'a>], found: &mut Vec<Mark<'a>>) {
    let text = |i: usize| tokens.get(i).map_or("", |t| t.text);
    let statement = tokens[0].start;
    let mut callees: Vec<Option<&'a str>> = Vec::new();
    for (i, &token) in tokens.iter().enumerate() {
        let before = i.checked_sub(1).map_or("", text);
        let named = i.checked_sub(1).and_then(|b| tokens.get(b)).filter(|t| t.kind == Kind::Name);
        match token.kind {
            Kind::Open => callees.push(named.map(|t| t.text)),
            Kind::Close => {
                callees.pop();
            }
            _ => {}
        }
        let base = token.text.strip_prefix("base.");
        let (name, next) = (base.unwrap_or(token.text), text(i + 1));
        let callee = callees.last().copied().flatten();
        let binds = bindings.iter().any(|b| b.at == token.start);
        let called = next == "(" || before == "|>" || before == "fn";
        let role = match token.kind {
            Kind::Quoted if before == "extend" => Role::Library,
            Kind::Name if before == "extend" => Role::Library,
            Kind::Name if before == "allow" => Role::Lint,
            Kind::Name if matches!(before, ":" | "sample") => Role::Other,
            Kind::Name if token.text == "for" && text(i + 2) == "in" => Role::Other,
            Kind::Name if base.is_some() && called => Role::BaseFunction,
            Kind::Name if base.is_some() => Role::BaseValue,
            Kind::Name if called => Role::Function,
            Kind::Name if matches!(before, "per" | "@" | "in" | "keep" | "drop") => Role::Level,
            Kind::Name if i == 1 && matches!(before, "level" | "list" | "key") => Role::Level,
            Kind::Name if before == "metric" && next == "=" => Role::Metric,
            Kind::Name if next == "=" && !callees.is_empty() && !binds => Role::Argument,
            Kind::Name => Role::Value,
            _ => Role::Other,
        };
        let seen = |b: &&Binding<'_>| {
            let inside = b.from <= token.start && token.start < b.until;
            b.name == token.text
                && (b.at == token.start || (inside && (b.level || role == Role::Value)))
        };
        let bound = match role {
            Role::Value | Role::Level => bindings
                .iter()
                .filter(seen)
                .max_by_key(|b| (b.at == token.start, b.from))
                .map(|b| b.at),
            _ => None,
        };
        let callee = if role == Role::Argument { callee } else { None };
        found.push(Mark { token, name, role, bound, callee, statement });
    }
}
