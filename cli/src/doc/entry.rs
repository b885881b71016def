//! What there is to document: statements with the comment above them, and the params of a program.

use rlc_compiler::ast::{Body, Statement, StatementKind};
use rlc_compiler::check::Checked;
use rlc_compiler::diagnostic::Diagnostic;
use rlc_compiler::hir::Expr;
use rlc_compiler::op::Ty;
use rlc_compiler::parse::parse;
use rlc_compiler::source::{FileId, Source, Sources};
use rlc_compiler::stdlib;

use crate::{report, statement};

/// Functions of the language, which no file defines.
pub const BUILT_IN: &[&str] = &[
    "exp",
    "log",
    "log1p",
    "expm1",
    "log1mexp",
    "log2",
    "sqrt",
    "abs",
    "sign",
    "sigmoid",
    "log_sigmoid",
    "tanh",
    "softplus",
    "relu",
    "min",
    "max",
    "clip",
    "floor",
    "ceil",
    "round",
    "real",
    "int",
    "isfinite",
    "isnan",
    "sin",
    "cos",
    "detach",
    "sum",
    "mean",
    "std",
    "var",
    "count",
    "any",
    "all",
    "first",
    "last",
    "prod",
    "logsumexp",
    "quantile",
    "next",
    "prev",
    "cumsum",
    "rcumsum",
    "discounted",
    "scan_and",
    "rscan_and",
    "index",
    "is_first",
    "is_last",
    "rank",
    "top",
    "argmax",
    "sort",
    "pick",
    "uniform",
    "softmax",
    "log_softmax",
    "at",
    "runs",
    "splits",
    "prefix",
    "pairs",
    "left",
    "right",
];

/// One statement as the reference shows it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What it gives a meaning to; empty for filters and the goal.
    pub name: String,
    /// What kind of thing it is: one of [`statement::KINDS`].
    pub kind: &'static str,
    /// How it is called, or the whole statement.
    pub signature: String,
    /// The whole statement.
    pub text: String,
    /// Its comment.
    pub doc: String,
    /// The part of the file it stands in: what a line `# ---- advantages ----` says above it.
    pub section: String,
    /// `file:line`.
    pub place: String,
}

/// Every statement of a file that says something of its own, in order, and what is wrong in it.
pub fn module(sources: &Sources, file: FileId) -> (Vec<Entry>, Vec<Diagnostic>) {
    let (module, found) = parse(sources, file);
    let entries = module.statements.iter().filter_map(|s| entry(s, sources)).collect();
    (entries, found)
}

/// What the prelude defines.
pub fn prelude() -> Vec<Entry> {
    let (name, text) = stdlib::PRELUDE;
    let mut sources = Sources::default();
    let file = sources.add(Source { name: name.into(), text: text.into(), library: true });
    module(&sources, file).0
}

fn entry(statement: &Statement, sources: &Sources) -> Option<Entry> {
    let kind = statement::kind(&statement.kind);
    if kind == "other" {
        return None;
    }
    let span = statement.span;
    let (line, _) = report::position(sources, span.file, span.start);
    let source = sources.get(span.file);
    let before = source.text.get(..span.start as usize).unwrap_or("");
    let section = before.lines().rev().find_map(|l| l.strip_prefix("# ----")).unwrap_or("");
    let mut signature = statement::signature(statement, sources);
    let long = |body: &Body| !body.locals.is_empty();
    if let StatementKind::Def { name, body } = &statement.kind
        && long(body)
    {
        signature = format!("{} = ...", name.name);
    }
    Some(Entry {
        name: statement::name(&statement.kind).unwrap_or("").to_owned(),
        kind,
        signature,
        text: statement::text(span, sources),
        doc: statement.doc.clone().unwrap_or_default(),
        section: section.trim_matches(|c: char| c == '-' || c.is_whitespace()).to_owned(),
        place: format!("{}:{line}", source.name),
    })
}

/// A param of a linked program.
#[derive(Debug, Clone)]
pub struct Param {
    /// Name.
    pub name: String,
    /// Default, and the range where it has one.
    pub value: String,
    /// Its comment.
    pub doc: String,
    /// The file it comes from.
    pub file: String,
}

/// The params that a program's loss, filters, states, metrics or `sample` statements read, inherited ones included;
/// `temperature`, which every program has, excepted.
pub fn params(checked: &Checked, sources: &Sources) -> Vec<Param> {
    let graph = &checked.graph;
    let roots = std::iter::once(checked.loss)
        .chain(checked.metrics.iter().map(|m| m.value))
        .chain(checked.filters.iter().map(|f| f.1))
        .chain(checked.updates.iter().map(|u| u.value))
        .chain(checked.samples.iter().map(|s| s.value));
    let reached = graph.reachable(roots);
    let read: Vec<usize> = graph
        .all()
        .filter(|e| reached[e.index()])
        .filter_map(|e| match graph.expr(e) {
            Expr::Param(p) => Some(p.0 as usize),
            _ => None,
        })
        .collect();
    graph
        .params
        .iter()
        .enumerate()
        .filter(|(i, p)| read.contains(i) && sources.get(p.span.file).name != stdlib::PRELUDE.0)
        .map(|(_, p)| {
            let range = p.range.map_or(String::new(), |(lo, hi)| format!(" in [{lo}, {hi}]"));
            Param {
                name: p.name.clone(),
                value: format!("{}{range}", number(p.value, p.ty)),
                doc: p.doc.clone().unwrap_or_default(),
                file: sources.get(p.span.file).name.clone(),
            }
        })
        .collect()
}

/// A literal as the language writes it.
fn number(value: f64, ty: Ty) -> String {
    match ty {
        Ty::Bool => (value != 0.0).to_string(),
        Ty::Int => format!("{value}"),
        Ty::Real => format!("{value:?}"),
    }
}
