//! From files to one program: follows `extend`, and lays the files' statements over each other, so
//! that a name means its last definition and everything that reads it sees that one.

use std::collections::{BTreeMap, BTreeSet};

use crate::ast::{
    Base, Body, ColumnDecl, Expr, FnParam, Ident, Literal, Module, Partition, Statement,
    StatementKind, TypeName,
};
use crate::diagnostic::{Diagnostic, nearest};
use crate::parse::parse;
use crate::source::{FileId, Source, Sources, Span};
use crate::stdlib;

/// How the compiler gets at the files that `extend "path"` names.
pub trait Loader {
    /// Name and text of `path`, which the source called `from` extends; or why there is none.
    fn load(&self, from: &str, path: &str) -> Result<(String, String), String>;
}

/// A loader for programs that extend only the library.
pub struct NoFiles;

impl Loader for NoFiles {
    fn load(&self, _from: &str, path: &str) -> Result<(String, String), String> {
        Err(format!("files cannot be read here, so `{path}` was not"))
    }
}

/// What a value name stands for.
#[derive(Debug, Clone)]
pub enum Item {
    /// `param`.
    Param {
        /// Members of a family.
        family: Option<usize>,
        /// Default and its place.
        value: (Literal, Span),
        /// Allowed range.
        range: Option<(Literal, Literal, Span)>,
    },
    /// `input` or `policy`.
    Column {
        /// As declared.
        decl: ColumnDecl,
        /// `policy`.
        differentiable: bool,
    },
    /// `name = e`.
    Def(Body),
    /// `state`.
    State {
        /// Key.
        key: Option<Ident>,
        /// First value.
        value: (Literal, Span),
        /// Type and level.
        ty: Option<((TypeName, Span), Option<Ident>)>,
    },
}

/// One meaning of a value name.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Position of its file in [`Linked::files`].
    pub depth: usize,
    /// Name and its place.
    pub ident: Ident,
    /// Meaning.
    pub item: Item,
    /// Documentation.
    pub doc: Option<String>,
}

/// One meaning of a function name.
#[derive(Debug, Clone)]
pub struct Function {
    /// Position of its file.
    pub depth: usize,
    /// Name and its place.
    pub ident: Ident,
    /// Parameters.
    pub params: Vec<FnParam>,
    /// `per L [= group]`.
    pub scope: Option<(Ident, Option<Partition>)>,
    /// Body.
    pub body: Body,
    /// Documentation.
    pub doc: Option<String>,
}

/// `keep` or `drop`.
#[derive(Debug, Clone)]
pub struct Filter {
    /// Position of its file.
    pub depth: usize,
    /// False for `drop`.
    pub keep: bool,
    /// Filtered level.
    pub level: Ident,
    /// Condition.
    pub cond: Expr,
}

/// A named batch-level expression of a file.
#[derive(Debug, Clone)]
pub struct Output {
    /// Position of its file.
    pub depth: usize,
    /// Name and its place.
    pub ident: Ident,
    /// Value.
    pub value: Expr,
}

/// `update name = e`.
#[derive(Debug, Clone)]
pub struct Update {
    /// Position of its file.
    pub depth: usize,
    /// The state's name and its place.
    pub ident: Ident,
    /// New value.
    pub body: Body,
}

/// What a declared level is.
#[derive(Debug, Clone)]
pub enum LevelItem {
    /// `level item in rollout`: the parent.
    Segment(Ident),
    /// `list comparison in rollout`: the parent.
    List(Ident),
    /// `key cell = P`.
    Key(Partition),
}

/// The meaning of a level's name.
#[derive(Debug, Clone)]
pub struct LevelEntry {
    /// Position of its file.
    pub depth: usize,
    /// Name and its place.
    pub ident: Ident,
    /// Meaning.
    pub item: LevelItem,
    /// Documentation.
    pub doc: Option<String>,
}

/// The files of a program laid over each other.
#[derive(Debug, Default)]
pub struct Linked {
    /// Prelude first, the user's file last.
    pub files: Vec<FileId>,
    /// All meanings of each value name, the deepest file last: that one counts.
    pub values: BTreeMap<String, Vec<Entry>>,
    /// All meanings of each function name, likewise.
    pub functions: BTreeMap<String, Vec<Function>>,
    /// Declared levels and keys, in order of first appearance; the deepest file's meaning of each.
    pub levels: Vec<LevelEntry>,
    /// All filters, in file order.
    pub filters: Vec<Filter>,
    /// `minimize` (false) or `maximize` (true) of the deepest file that has one.
    pub goal: Option<(bool, Output)>,
    /// Metrics, in order of first appearance.
    pub metrics: Vec<Output>,
    /// Updates of states, the deepest file's for each name.
    pub updates: Vec<Update>,
    /// `sample` statements, the deepest file's for each word after `sample`.
    pub samples: Vec<Output>,
    /// `allow` statements: file and lint.
    pub allows: Vec<(usize, Ident)>,
    /// The `extend` place of each file, where it has one.
    pub extends: Vec<Option<Span>>,
    /// Names, or first words, of statements that did not parse: what they would define is unknown.
    pub broken: BTreeSet<String>,
    /// A base was not found; another stands in for it, so that the file's own errors show.
    pub stand_in: bool,
}

impl Linked {
    /// The meaning of a value name.
    pub fn value(&self, name: &str) -> Option<&Entry> {
        self.values.get(name).and_then(|v| v.last())
    }

    /// What `name` meant in the files before `depth`.
    pub fn base_value(&self, name: &str, depth: usize) -> Option<&Entry> {
        self.values.get(name).and_then(|v| v.iter().rev().find(|e| e.depth < depth))
    }

    /// Whether the file at `depth` silences a lint.
    pub fn allows(&self, depth: usize, lint: &str) -> bool {
        self.allows.iter().any(|(d, ident)| *d == depth && ident.name == lint)
    }

    /// The key of a name.
    pub fn key(&self, name: &str) -> Option<(&LevelEntry, &Partition)> {
        let entry = self.levels.iter().find(|l| l.ident.name == name)?;
        match &entry.item {
            LevelItem::Key(partition) => Some((entry, partition)),
            LevelItem::Segment(_) | LevelItem::List(_) => None,
        }
    }

    /// The meaning of a function name.
    pub fn function(&self, name: &str) -> Option<&Function> {
        self.functions.get(name).and_then(|v| v.last())
    }

    /// What function `name` meant in the files before `depth`.
    pub fn base_function(&self, name: &str, depth: usize) -> Option<&Function> {
        self.functions.get(name).and_then(|v| v.iter().rev().find(|e| e.depth < depth))
    }
}

/// Reads the root file's bases and lays them over each other.
pub fn link(
    sources: &mut Sources,
    root: FileId,
    loader: &dyn Loader,
    diagnostics: &mut Vec<Diagnostic>,
) -> Linked {
    let mut chain: Vec<(FileId, Module, Option<Span>)> = Vec::new();
    let mut linked = Linked::default();
    let mut file = root;
    loop {
        let (module, errors) = parse(sources, file);
        linked.broken.extend(module.broken.iter().map(|i| i.name.clone()));
        diagnostics.extend(errors);
        let (base, span) = base_of(&module, sources, file, diagnostics);
        chain.push((file, module, span));
        let known = diagnostics.len();
        let mut next = next_file(&base, sources, file, loader, diagnostics);
        if next.is_none() && diagnostics.len() > known {
            linked.stand_in = true;
            next = stand_in(&base);
        }
        match next {
            Some((name, text, library)) => {
                if let Some(start) = chain.iter().position(|c| sources.get(c.0).name == name) {
                    extend_cycle(sources, &chain[start..], diagnostics);
                    linked.stand_in = true;
                    break;
                }
                file = sources.add(Source { name, text, library });
            }
            None => break,
        }
    }
    let prelude = sources.add(Source {
        name: stdlib::PRELUDE.0.to_owned(),
        text: stdlib::PRELUDE.1.to_owned(),
        library: true,
    });
    let (module, errors) = parse(sources, prelude);
    diagnostics.extend(errors);
    chain.push((prelude, module, None));
    chain.reverse();

    for (depth, (file, module, span)) in chain.into_iter().enumerate() {
        linked.files.push(file);
        linked.extends.push(span);
        for statement in module.statements {
            add(&mut linked, depth, statement, diagnostics);
        }
    }
    linked
}

/// A library objective in place of a base that is not there: the one whose name is nearest.
fn stand_in(base: &Base) -> Option<(String, String, bool)> {
    let near = match base {
        Base::Library(ident) => nearest(&ident.name, stdlib::library().map(|o| o.0)),
        Base::Path(..) | Base::Nothing(_) => None,
    };
    let (name, text) = stdlib::objective(near.unwrap_or("grpo"))?;
    Some((name.to_owned(), text.to_owned(), true))
}

/// The base a module names; `grpo` without an `extend` line.
fn base_of(
    module: &Module,
    sources: &Sources,
    file: FileId,
    diagnostics: &mut Vec<Diagnostic>,
) -> (Base, Option<Span>) {
    let mut found: Option<(&Base, Span)> = None;
    for statement in &module.statements {
        if let StatementKind::Extend(base) = &statement.kind {
            if let Some((_, first)) = found {
                diagnostics.push(
                    Diagnostic::error(
                        "E0103",
                        "a file extends one base, but this one names two",
                        statement.span,
                        "the second",
                        "keep one `extend` line; the base may itself extend another file",
                    )
                    .with(first, "the first"),
                );
            } else {
                found = Some((base, statement.span));
            }
        }
    }
    if let Some((base, span)) = found {
        return (base.clone(), Some(span));
    }
    let nowhere = Span { file, start: 0, end: 0 };
    let name = &sources.get(file).name;
    if sources.get(file).library && stdlib::objective("grpo").is_some_and(|o| o.0 == name) {
        return (Base::Nothing(nowhere), None);
    }
    (Base::Library(Ident { name: "grpo".into(), span: nowhere }), None)
}

/// Name, text and library mark of the file a base names.
fn next_file(
    base: &Base,
    sources: &Sources,
    file: FileId,
    loader: &dyn Loader,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<(String, String, bool)> {
    match base {
        Base::Nothing(_) => None,
        Base::Library(ident) => {
            if let Some((name, text)) = stdlib::objective(&ident.name) {
                return Some((name.to_owned(), text.to_owned(), true));
            }
            let names = stdlib::library().map(|o| o.0);
            let help = match nearest(&ident.name, names.clone()) {
                Some(near) => format!("did you mean `extend {near}`?"),
                None => format!(
                    "`rlc recipes` lists the library. A file is extended by its path:\n`extend \"{}.rl\"`",
                    ident.name
                ),
            };
            diagnostics.push(Diagnostic::error(
                "E0106",
                format!("there is no library objective `{}`", ident.name),
                ident.span,
                "not found",
                help,
            ));
            None
        }
        Base::Path(path, span) => match loader.load(&sources.get(file).name, path) {
            Ok((name, text)) => Some((name, text, false)),
            Err(why) => {
                diagnostics.push(Diagnostic::error(
                    "E0106",
                    format!("the base `{path}` cannot be read"),
                    *span,
                    why,
                    "paths are relative to this file; a library objective is named\nwithout quotes, as in `extend dapo`",
                ));
                None
            }
        },
    }
}

fn extend_cycle(
    sources: &Sources,
    files: &[(FileId, Module, Option<Span>)],
    diagnostics: &mut Vec<Diagnostic>,
) {
    let Some((file, _, span)) = files.last() else { return };
    let span = span.unwrap_or(Span { file: *file, start: 0, end: 0 });
    let mut path: Vec<&str> = files.iter().map(|f| sources.get(f.0).name.as_str()).collect();
    path.extend(path.first().copied());
    diagnostics.push(Diagnostic::error(
        "E0107",
        "the files extend each other in a circle",
        span,
        "leads back to a file that extends this one",
        format!(
            "{}\nlet one of them say `extend nothing` or name a library objective",
            path.join(" -> ")
        ),
    ));
}

fn add(linked: &mut Linked, depth: usize, statement: Statement, diagnostics: &mut Vec<Diagnostic>) {
    let doc = statement.doc;
    let mut value = |ident: Ident, item: Item| {
        let entries = linked.values.entry(ident.name.clone()).or_default();
        if let Some(first) = entries.iter().find(|e| e.depth == depth) {
            diagnostics.push(duplicate(&ident, first.ident.span));
        } else {
            entries.push(Entry { depth, ident, item, doc: doc.clone() });
        }
    };
    match statement.kind {
        StatementKind::Extend(_) => {}
        StatementKind::Param { name, family, value: literal, range } => {
            value(name, Item::Param { family: family.map(|f| f.0), value: literal, range });
        }
        StatementKind::Input(decl) => {
            value(decl.name.clone(), Item::Column { decl, differentiable: false });
        }
        StatementKind::Policy(decl) => {
            value(decl.name.clone(), Item::Column { decl, differentiable: true });
        }
        StatementKind::Def { name, body } => value(name, Item::Def(body)),
        StatementKind::State { name, key, ty, value: literal } => {
            value(name, Item::State { key, value: literal, ty });
        }
        StatementKind::Fn { name, params, scope, body } => {
            let entries = linked.functions.entry(name.name.clone()).or_default();
            if let Some(first) = entries.iter().find(|e| e.depth == depth) {
                diagnostics.push(duplicate(&name, first.ident.span));
            } else {
                entries.push(Function { depth, ident: name, params, scope, body, doc });
            }
        }
        StatementKind::Level { name, parent } => {
            let item = LevelItem::Segment(parent);
            add_level(linked, LevelEntry { depth, ident: name, item, doc }, diagnostics);
        }
        StatementKind::List { name, parent } => {
            let item = LevelItem::List(parent);
            add_level(linked, LevelEntry { depth, ident: name, item, doc }, diagnostics);
        }
        StatementKind::Key { name, partition } => {
            let item = LevelItem::Key(partition);
            add_level(linked, LevelEntry { depth, ident: name, item, doc }, diagnostics);
        }
        StatementKind::Filter { keep, level, cond } => {
            linked.filters.push(Filter { depth, keep, level, cond });
        }
        StatementKind::Goal { maximize, value } => {
            let ident = Ident { name: "loss".into(), span: statement.span };
            match &linked.goal {
                Some((_, first)) if first.depth == depth => diagnostics.push(
                    Diagnostic::error(
                        "E0103",
                        "a program has one goal, but this file states two",
                        statement.span,
                        "the second",
                        "add the two up: `minimize first + weight * second`",
                    )
                    .with(first.ident.span, "the first"),
                ),
                _ => linked.goal = Some((maximize, Output { depth, ident, value })),
            }
        }
        StatementKind::Metric { name, value } => {
            let output = Output { depth, ident: name, value };
            match linked.metrics.iter_mut().find(|m| m.ident.name == output.ident.name) {
                Some(first) if first.depth == depth => {
                    diagnostics.push(duplicate(&output.ident, first.ident.span));
                }
                Some(first) => *first = output,
                None => linked.metrics.push(output),
            }
        }
        StatementKind::Allow(lint) => {
            linked.allows.push((depth, lint));
        }
        StatementKind::Update { name, value } => {
            let update = Update { depth, ident: name, body: value };
            match linked.updates.iter_mut().find(|u| u.ident.name == update.ident.name) {
                Some(first) if first.depth == depth => {
                    diagnostics.push(duplicate(&update.ident, first.ident.span));
                }
                Some(first) => *first = update,
                None => linked.updates.push(update),
            }
        }
        StatementKind::Sample { what, value } => {
            let sample = Output { depth, ident: what, value };
            match linked.samples.iter_mut().find(|s| s.ident.name == sample.ident.name) {
                Some(first) if first.depth == depth => diagnostics.push(
                    Diagnostic::error(
                        "E0103",
                        format!("this file sets `sample {}` twice", sample.ident.name),
                        sample.ident.span,
                        "the second",
                        "keep one of them, or combine the two in one expression",
                    )
                    .with(first.ident.span, "the first"),
                ),
                Some(first) => *first = sample,
                None => linked.samples.push(sample),
            }
        }
    }
}

fn add_level(linked: &mut Linked, entry: LevelEntry, diagnostics: &mut Vec<Diagnostic>) {
    match linked.levels.iter_mut().find(|l| l.ident.name == entry.ident.name) {
        Some(first) if first.depth == entry.depth => {
            diagnostics.push(duplicate(&entry.ident, first.ident.span));
        }
        Some(first) => *first = entry,
        None => linked.levels.push(entry),
    }
}

/// Two definitions of a name in one file.
fn duplicate(second: &Ident, first: Span) -> Diagnostic {
    let help = format!(
        "rename one of them. To change what a base file defines, define it\nonce here; `base.{}` reads the base's meaning",
        second.name
    );
    defined_twice(second, first, "one file", help)
}

/// Two definitions of a name `within` one place.
pub(crate) fn defined_twice(
    second: &Ident,
    first: Span,
    within: &str,
    help: impl Into<String>,
) -> Diagnostic {
    Diagnostic::error(
        "E0103",
        format!("`{}` is defined twice in {within}", second.name),
        second.span,
        "the second definition",
        help,
    )
    .with(first, "the first definition")
}
