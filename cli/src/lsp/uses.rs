//! Where the names of a program stand, in all its files; and which other programs share them.

use std::collections::BTreeSet;
use std::path::Path;

use lsp_types::{Location, Uri};
use rlc_compiler::check::{builtins, standard_input};
use rlc_compiler::level::Levels;
use rlc_compiler::source::{FileId, Span};

use super::analysis::{Analysis, Texts};
use super::marks::{Mark, Role, marks};
use super::place;

/// Files of a folder that are looked at, at most.
const MOST_SIBLINGS: usize = 200;

/// The name spaces of the language, and that of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// Definitions, params, columns, states.
    Value,
    /// Functions.
    Function,
    /// Levels, keys included.
    Level,
    /// Metrics.
    Metric,
}

/// What is renamed or looked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Subject {
    /// An argument or local definition of the open text: its first byte.
    Local(usize),
    /// A function's parameter, at its place and in calls: function, file and first byte.
    Parameter(String, FileId, usize),
    /// A name of the program.
    Name(Space),
}

/// A place of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Use {
    /// The file, by its number in the analysis.
    pub file: FileId,
    /// First byte of the name.
    pub start: usize,
    /// One past the last.
    pub end: usize,
    /// It reads a level where a value could stand: `count(item per rollout)`.
    pub open: bool,
}

/// The subject under a mark of the open text.
pub fn subject(analysis: &Analysis, mark: &Mark<'_>) -> Option<Subject> {
    let linked = &analysis.linked;
    if mark.role == Role::Argument {
        let function = linked.function(mark.callee?)?;
        let param = function.params.iter().find(|p| p.name.name == mark.name)?;
        let (file, at) = (param.name.span.file, param.name.span.start as usize);
        return Some(Subject::Parameter(function.ident.name.clone(), file, at));
    }
    if let Some(at) = mark.bound {
        let own = linked.functions.values().flatten().find(|f| {
            let here = |p: &&rlc_compiler::ast::FnParam| {
                p.name.span.file == analysis.root && p.name.span.start as usize == at
            };
            f.params.iter().any(|p| here(&p))
        });
        return Some(match own {
            Some(f) => Subject::Parameter(f.ident.name.clone(), analysis.root, at),
            None => Subject::Local(at),
        });
    }
    space(analysis, mark).map(Subject::Name)
}

/// The name space of a name that is not bound in its statement.
fn space(analysis: &Analysis, mark: &Mark<'_>) -> Option<Space> {
    match mark.role {
        _ if mark.bound.is_some() => None,
        Role::Value if analysis.linked.value(mark.name).is_some() => Some(Space::Value),
        Role::Value if standard_input(mark.name).is_some() => Some(Space::Value),
        Role::Value if is_level(analysis, mark.name) => Some(Space::Level),
        Role::Value | Role::BaseValue => Some(Space::Value),
        Role::Function | Role::BaseFunction => Some(Space::Function),
        Role::Level => Some(Space::Level),
        Role::Metric => Some(Space::Metric),
        Role::Argument | Role::Library | Role::Lint | Role::Other => None,
    }
}

/// Whether a level has this name, always or by a statement.
pub fn is_level(analysis: &Analysis, name: &str) -> bool {
    Levels::default().find(name).is_some() || analysis.level(name).is_some()
}

/// Whether the language itself gives the name a meaning.
pub fn is_of_the_language(space: Space, name: &str) -> bool {
    match space {
        Space::Value => standard_input(name).is_some() || matches!(name, "pi" | "inf"),
        Space::Function => builtins().any(|b| b == name),
        Space::Level => Levels::default().find(name).is_some(),
        Space::Metric => false,
    }
}

/// All places of the subject in the files of a program, in order.
pub fn uses(analysis: &Analysis, subject: &Subject, name: &str) -> Vec<Use> {
    let mut found = Vec::new();
    for &file in &analysis.linked.files {
        for mark in marks(&analysis.sources.get(file).text) {
            let part = || mark.name.split('.').next() == Some(name);
            let is = match subject {
                Subject::Local(at) => file == analysis.root && mark.bound == Some(*at),
                Subject::Parameter(function, home, at) => {
                    let named = mark.role == Role::Argument && mark.name == name;
                    (file == *home && mark.bound == Some(*at))
                        || (named && mark.callee == Some(function))
                }
                Subject::Name(Space::Level) => {
                    part() && space(analysis, &mark) == Some(Space::Level)
                }
                Subject::Name(wanted) => {
                    mark.name == name && space(analysis, &mark) == Some(*wanted)
                }
            };
            if is {
                // Without `base.`, and without the part of a key that follows its name.
                let start = mark.token.end() - mark.name.len();
                let open = mark.role == Role::Value;
                found.push(Use { file, start, end: start + name.len(), open });
            }
        }
    }
    found
}

/// What of a name is the subject's: of `duel.left` the key.
pub fn name<'a>(subject: &Subject, mark: &Mark<'a>) -> &'a str {
    match subject {
        Subject::Name(Space::Level) => mark.name.split('.').next().unwrap_or(mark.name),
        Subject::Local(_) | Subject::Parameter(..) | Subject::Name(_) => mark.name,
    }
}

/// Every place of a name in the programs that share its files; `defined`: where it is defined, too.
pub fn references(
    open: Analysis,
    here: &Uri,
    texts: &Texts,
    mark: &Mark<'_>,
    defined: bool,
) -> Vec<Location> {
    let Some(subject) = subject(&open, mark) else { return Vec::new() };
    let name = name(&subject, mark);
    let mut found: Vec<Location> = Vec::new();
    let programs = programs(open, here, texts, &subject, name);
    for program in &programs {
        let subject = within(program, &programs[0], &subject);
        let places = uses(program, &subject, name);
        let definitions = definitions(program, &subject, name);
        for place in places.iter().filter(|p| defined || !definitions.contains(&(p.file, p.start)))
        {
            let first = std::ptr::eq(program, &raw const programs[0]);
            let root = first && place.file == program.root;
            let uri = if root { Some(here.clone()) } else { program.uri(place.file, texts) };
            let text = &program.sources.get(place.file).text;
            let range = place::range(text, place.start, place.end);
            found.extend(uri.map(|uri| Location { uri, range }));
        }
    }
    found.sort_by(|a, b| {
        let key = |l: &Location| (l.uri.as_str().to_owned(), l.range.start);
        key(a).cmp(&key(b))
    });
    found.dedup();
    found
}

/// Where a subject is defined: file and first byte.
fn definitions(program: &Analysis, subject: &Subject, name: &str) -> Vec<(FileId, usize)> {
    let linked = &program.linked;
    let place = |span: Span| (span.file, span.start as usize);
    match subject {
        Subject::Local(at) => vec![(program.root, *at)],
        Subject::Parameter(_, file, at) => vec![(*file, *at)],
        Subject::Name(Space::Value) => {
            linked.values.get(name).into_iter().flatten().map(|e| place(e.ident.span)).collect()
        }
        Subject::Name(Space::Function) => {
            linked.functions.get(name).into_iter().flatten().map(|f| place(f.ident.span)).collect()
        }
        Subject::Name(Space::Level) => {
            program.level(name).map(|l| place(l.span)).into_iter().collect()
        }
        Subject::Name(Space::Metric) => {
            let all = linked.metrics.iter().filter(|m| m.ident.name == name);
            all.map(|m| place(m.ident.span)).collect()
        }
    }
}

/// The open program, and the others that share a file in which the subject stands: open texts, and
/// files beside the program's.
pub fn programs(
    open: Analysis,
    here: &Uri,
    texts: &Texts,
    subject: &Subject,
    name: &str,
) -> Vec<Analysis> {
    if matches!(subject, Subject::Local(_)) {
        return vec![open];
    }
    let mut candidates = others(&open, here, texts);
    let mut files: BTreeSet<String> = BTreeSet::new();
    let mut all = vec![open];
    let mut seen = 0;
    while seen < all.len() {
        let program = &all[seen];
        let subject = within(program, &all[0], subject);
        for place in uses(program, &subject, name) {
            let source = program.sources.get(place.file);
            if !source.library {
                files.insert(source.name.clone());
            }
        }
        seen += 1;
        let shares =
            |a: &Analysis| a.linked.files.iter().any(|f| files.contains(&a.sources.get(*f).name));
        let (with, without): (Vec<_>, Vec<_>) = candidates.into_iter().partition(shares);
        all.extend(with);
        candidates = without;
    }
    all
}

/// The subject as another program numbers its files.
pub fn within(program: &Analysis, first: &Analysis, subject: &Subject) -> Subject {
    let Subject::Parameter(function, home, at) = subject else { return subject.clone() };
    let name = &first.sources.get(*home).name;
    let found = program.linked.files.iter().find(|f| program.sources.get(**f).name == *name);
    // A program without the file has calls of it no more than its parameter.
    let file = found.copied().unwrap_or(FileId(u16::MAX));
    Subject::Parameter(function.clone(), file, *at)
}

/// Programs that might share a file with the open one.
fn others(open: &Analysis, here: &Uri, texts: &Texts) -> Vec<Analysis> {
    let mut known: BTreeSet<String> = BTreeSet::new();
    known.insert(open.sources.get(open.root).name.clone());
    let mut found = Vec::new();
    let mut uris: Vec<&String> = texts.keys().collect();
    uris.sort();
    for name in uris {
        if name != here.as_str()
            && let Ok(uri) = name.parse::<Uri>()
        {
            let analysis = Analysis::of(&uri, &texts[name], texts);
            if known.insert(analysis.sources.get(analysis.root).name.clone()) {
                found.push(analysis);
            }
        }
    }
    let sources = open.linked.files.iter().map(|f| open.sources.get(*f));
    let folders: BTreeSet<&Path> =
        sources.filter(|s| !s.library).filter_map(|s| Path::new(&s.name).parent()).collect();
    for folder in folders {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut paths: Vec<_> = entries.map(|e| e.path()).collect();
        paths.retain(|p| p.extension().is_some_and(|e| e == "rl"));
        paths.sort();
        for path in paths.into_iter().take(MOST_SIBLINGS) {
            if known.insert(path.display().to_string())
                && let Some(uri) = place::uri(&path)
                && let Ok(text) = std::fs::read_to_string(&path)
            {
                found.push(Analysis::of(&uri, &text, texts));
            }
        }
    }
    found
}
