//! What the name under the cursor means in the linked program: its definition, and what to show of it.

use rlc_compiler::ast::{Ident, Literal, StatementKind, TypeName};
use rlc_compiler::check::{LINTS, builtins, standard_input};
use rlc_compiler::level::Levels;
use rlc_compiler::link::{Entry, Function, Item};
use rlc_compiler::parse::parse;
use rlc_compiler::parse::tokens::Kind;
use rlc_compiler::source::{FileId, Span};
use rlc_compiler::stdlib;

use super::analysis::Analysis;
use super::marks::{Mark, Role, marks};
use super::words;

/// Lines of a definition that are shown at most.
const LINES: usize = 30;

/// What a name stands for.
pub enum Meaning<'a> {
    /// A definition, param, column or state.
    Entry(&'a Entry),
    /// A function.
    Function(&'a Function),
    /// A metric: its name.
    Metric(&'a Ident),
    /// A declared level, or a key.
    Level(Ident),
    /// An argument or local definition of its statement: its first byte and length.
    Local(usize, usize),
    /// The parameter that an argument's name names.
    Parameter(&'a Function, &'a Ident),
    /// What a statement of the open text defines that cannot be read now: first byte and length.
    Unread(usize, usize),
    /// An extended file.
    File(FileId),
    /// Something of the language.
    Language(String),
}

/// The token at a byte, or one that ends there.
pub fn at<'m, 'a>(marks: &'m [Mark<'a>], offset: usize) -> Option<&'m Mark<'a>> {
    let inside = |m: &&Mark<'_>| m.token.start <= offset && offset < m.token.end();
    let word = |m: &&Mark<'_>| {
        m.token.end() == offset
            && matches!(m.token.kind, Kind::Name | Kind::Reserved | Kind::Quoted)
    };
    marks
        .iter()
        .find(inside)
        .filter(|m| m.role != Role::Other)
        .or_else(|| marks.iter().find(word).or_else(|| marks.iter().find(inside)))
}

/// What a token means.
pub fn meaning<'a>(analysis: &'a Analysis, mark: &Mark<'_>) -> Option<Meaning<'a>> {
    let linked = &analysis.linked;
    let name = mark.name;
    if let Some(bound) = mark.bound {
        return Some(Meaning::Local(bound, name.len()));
    }
    let level = || {
        // `duel.left` is read of `duel`.
        let declared = analysis.level(name.split('.').next()?);
        let standard = || Levels::default().find(name).map(|_| words::level(name));
        declared.map(Meaning::Level).or_else(|| standard().map(Meaning::Language))
    };
    if matches!(mark.role, Role::Value | Role::Function)
        && let Some(unread) = unread(analysis, mark)
    {
        return Some(unread);
    }
    match mark.role {
        Role::Value => linked
            .value(name)
            .map(Meaning::Entry)
            .or_else(|| standard(name).map(Meaning::Language))
            .or_else(level),
        Role::BaseValue => linked
            .base_value(name, analysis.depth())
            .map(Meaning::Entry)
            .or_else(|| standard(name).map(Meaning::Language)),
        Role::Function => linked.function(name).map(Meaning::Function).or_else(|| {
            builtins().any(|b| b == name).then(|| Meaning::Language(words::builtin(name)))
        }),
        Role::BaseFunction => linked.base_function(name, analysis.depth()).map(Meaning::Function),
        Role::Metric => {
            let found = linked.metrics.iter().find(|m| m.ident.name == name);
            found.map(|m| Meaning::Metric(&m.ident))
        }
        Role::Level => level(),
        Role::Argument => {
            let function = linked.function(mark.callee?)?;
            let param = function.params.iter().find(|p| p.name.name == name)?;
            Some(Meaning::Parameter(function, &param.name))
        }
        Role::Library => {
            let depth = analysis.depth().checked_sub(1)?;
            (depth > 0).then(|| linked.files.get(depth).copied().map(Meaning::File))?
        }
        Role::Lint => LINTS.contains(&name).then(|| {
            Meaning::Language(format!("`allow {name}` silences the warning `{name}` in this file."))
        }),
        Role::Other => words::word(mark.token.text).map(|w| Meaning::Language(w.to_owned())),
    }
}

/// While the statement that gives a name its meaning cannot be read, it is still the one that is meant,
/// and not the one that it replaces.
fn unread<'a>(analysis: &'a Analysis, mark: &Mark<'_>) -> Option<Meaning<'a>> {
    if !analysis.linked.broken.contains(mark.name) {
        return None;
    }
    let all = marks(analysis.text());
    let words = ["fn", "param", "input", "policy", "state", "metric"];
    let found = all.iter().find(|m| {
        let first = all.iter().find(|f| f.token.start == m.statement).map_or("", |f| f.token.text);
        let heads = m.token.start == m.statement
            || (words.contains(&first)
                && analysis.text()[m.statement + first.len()..m.token.start].trim().is_empty());
        heads && m.name == mark.name && m.role == mark.role
    })?;
    Some(Meaning::Unread(found.token.start, found.name.len()))
}

fn standard(name: &str) -> Option<String> {
    let constant = match name {
        "pi" => Some("`pi`: 3.14159…"),
        "inf" => Some("`inf`: infinity"),
        _ => None,
    };
    constant.map(str::to_owned).or_else(|| {
        let (ty, level, live) = standard_input(name)?;
        let levels = Levels::default();
        let stage = if live { "differentiable; live" } else { "recorded" };
        Some(format!(
            "`{name}`: {}, one per {}; {stage}\n\nA column of the batch.",
            ty.name(),
            levels.name(level)
        ))
    })
}

impl Meaning<'_> {
    /// Where it is defined.
    pub fn span(&self, analysis: &Analysis) -> Option<Span> {
        Some(match self {
            Meaning::Entry(entry) => entry.ident.span,
            Meaning::Function(function) => function.ident.span,
            Meaning::Metric(ident) | Meaning::Parameter(_, ident) => ident.span,
            Meaning::Level(ident) => ident.span,
            Meaning::Local(start, length) | Meaning::Unread(start, length) => {
                Span { file: analysis.root, start: *start as u32, end: (*start + *length) as u32 }
            }
            Meaning::File(file) => Span { file: *file, start: 0, end: 0 },
            Meaning::Language(_) => return None,
        })
    }
}

/// What to show of it, in Markdown; `facts` says type, level and stage.
pub fn hover(
    analysis: &Analysis,
    meaning: &Meaning<'_>,
    facts: impl Fn(&str) -> Option<String>,
) -> String {
    let of = |span: Span, fact: Option<String>, doc: Option<&str>, depth: usize, function: bool| {
        let mut text = format!("```rl\n{}\n```\n", statement(analysis, span));
        for part in [fact.as_deref(), doc] {
            text.push_str(&part.map_or(String::new(), |p| format!("\n{p}\n")));
        }
        let name = analysis.sources.slice(span);
        text.push_str(&format!("\n{}\n", origin(analysis, name, span.file, depth, function)));
        text
    };
    match meaning {
        Meaning::Entry(entry) => {
            // `base.x` is another value than the one that the facts are about.
            let last = analysis.linked.value(&entry.ident.name).map(|e| e.depth);
            let fact = match &entry.item {
                Item::Def(_) if last == Some(entry.depth) => facts(&entry.ident.name),
                Item::Def(_) => None,
                Item::Param { family, value, .. } => {
                    let ty = match value.0 {
                        Literal::Int(_) => "int",
                        Literal::Real(_) => "real",
                        Literal::Bool(_) => "bool",
                    };
                    let members = family.map_or(String::new(), |n| format!(", a family of {n}"));
                    Some(format!(
                        "{ty}, one for the batch{members}; a param: `--set` changes it without recompiling"
                    ))
                }
                Item::Column { decl, differentiable } => {
                    let stage = if *differentiable { "differentiable; live" } else { "recorded" };
                    let ty = type_name(decl.ty.0);
                    let columns = match decl.family {
                        Some((n, _)) => format!("{n} columns of the batch"),
                        None => "a column of the batch".to_owned(),
                    };
                    Some(format!("{ty}, one per {}; {stage}; {columns}", decl.level.name))
                }
                Item::State { key, ty, .. } => {
                    let level = ty.as_ref().and_then(|t| t.1.as_ref()).map(|l| l.name.as_str());
                    let level = level.unwrap_or(if key.is_some() { "group" } else { "batch" });
                    let rows = match level {
                        "batch" => "one for the batch".to_owned(),
                        level => format!("one per {level}"),
                    };
                    Some(format!("real, {rows}; a state: its value before this batch; recorded"))
                }
            };
            of(entry.ident.span, fact, entry.doc.as_deref(), entry.depth, false)
        }
        Meaning::Function(f) => {
            let fact = "a function: inlined, at the levels of its arguments".to_owned();
            of(f.ident.span, Some(fact), f.doc.as_deref(), f.depth, true)
        }
        Meaning::Metric(ident) => {
            let fact = facts(&format!("metric {}", ident.name));
            let doc = documentation(analysis, ident.span);
            let metric = analysis.linked.metrics.iter().find(|m| m.ident.span == ident.span);
            of(ident.span, fact, doc.as_deref(), metric.map_or(0, |m| m.depth), false)
        }
        Meaning::Level(ident) => {
            let doc = documentation(analysis, ident.span);
            format!(
                "```rl\n{}\n```\n\n{}",
                statement(analysis, ident.span),
                doc.unwrap_or_default()
            )
        }
        Meaning::Unread(start, length) => {
            let text = analysis.text();
            let name = text.get(*start..start + length).unwrap_or("");
            let line = text.get(*start..).and_then(|t| t.lines().next()).unwrap_or("");
            let fact = facts(name).map_or(String::new(), |f| format!("\n\n{f}, when last read"));
            format!("```rl\n{line}\n```\n\nThis statement cannot be read.{fact}")
        }
        Meaning::Local(start, length) => {
            let text = analysis.text();
            let name = text.get(*start..start + length).unwrap_or("");
            let line = text.get(*start..).and_then(|t| t.lines().next()).unwrap_or("");
            if line[name.len()..].trim_start().starts_with('=')
                && text[..*start].ends_with([' ', '\n'])
            {
                format!("```rl\n{line}\n```\n\n`{name}`: local to its statement")
            } else {
                format!("`{name}`: an argument of its function")
            }
        }
        Meaning::Parameter(function, ident) => {
            let doc = function.doc.as_deref().unwrap_or("");
            let head = statement(analysis, function.ident.span);
            format!(
                "```rl\n{head}\n```\n\n`{}`: an argument of `{}`\n\n{doc}",
                ident.name, function.ident.name
            )
        }
        Meaning::File(file) => {
            let source = analysis.sources.get(*file);
            let about: Vec<&str> = source.text.lines().map_while(|l| l.strip_prefix('#')).collect();
            let about = about.iter().map(|l| l.trim_end()).collect::<Vec<_>>().join("\n");
            format!("`{}`\n\n```text\n{about}\n```", source.name)
        }
        Meaning::Language(text) => text.clone(),
    }
}

fn type_name(ty: TypeName) -> &'static str {
    match ty {
        TypeName::Real => "real",
        TypeName::Int => "int",
        TypeName::Bool => "bool",
    }
}

/// The text of the statement around a place.
fn statement(analysis: &Analysis, span: Span) -> String {
    let (module, _) = parse(&analysis.sources, span.file);
    let found =
        module.statements.iter().find(|s| s.span.start <= span.start && span.end <= s.span.end);
    let text = analysis.sources.slice(found.map_or(span, |s| s.span));
    let mut lines: Vec<&str> = text.lines().take(LINES).collect();
    if text.lines().count() > LINES {
        lines.push("# …");
    }
    lines.join("\n")
}

fn documentation(analysis: &Analysis, span: Span) -> Option<String> {
    let (module, _) = parse(&analysis.sources, span.file);
    let mut all = module.statements.into_iter();
    let found = all.find(|s| s.span.start <= span.start && span.end <= s.span.end)?;
    found.doc.filter(|_| !matches!(found.kind, StatementKind::Extend(_)))
}

/// The file it stands in, and whose definition it replaces.
fn origin(analysis: &Analysis, name: &str, file: FileId, depth: usize, function: bool) -> String {
    let linked = &analysis.linked;
    let shown = |file: FileId| format!("`{}`", analysis.sources.get(file).name);
    let before = if function {
        linked.base_function(name, depth).map(|f| f.depth)
    } else {
        linked.base_value(name, depth).map(|e| e.depth)
    };
    let before = before.and_then(|d| linked.files.get(d)).map(|f| shown(*f));
    let replaces = before.map_or(String::new(), |b| format!(", in place of {b}"));
    format!("from {}{replaces}", shown(file))
}

/// The library's objective of a name, for `extend`.
pub fn objectives() -> impl Iterator<Item = &'static str> {
    stdlib::library().map(|o| o.0).chain(["nothing"])
}
