//! One of the two programs: every statement that counts in it, and what the compiler makes of it.

use std::collections::{BTreeMap, BTreeSet};

use rlc_compiler::ast::{Module, Statement, StatementKind};
use rlc_compiler::columns::needed;
use rlc_compiler::parse::{parse, print};
use rlc_compiler::specialize::{Settings, specialize};

use crate::explain::{Subject, names};
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::{program, statement};

use super::Sources;

/// What a statement gives a meaning to: a name space and a name.
pub type Key = (&'static str, String);

/// A statement that counts.
#[derive(Debug, Clone)]
pub struct Meaning {
    /// One of [`statement::KINDS`].
    pub kind: &'static str,
    /// As its author wrote it, without comments and surplus spaces.
    pub text: String,
    /// The same in the printer's form, with what `base.name` stands for: equal where only the layout
    /// differs.
    pub canonical: String,
    /// What `base.name` stands for in it.
    pub base: Option<String>,
    /// Its file, in short.
    pub file: String,
    /// The names it mentions, its own locals excepted.
    pub reads: BTreeSet<String>,
}

/// One program.
#[derive(Debug)]
pub struct Side {
    /// As the user named it.
    pub name: String,
    /// The files it extends, nearest first.
    pub extends: Vec<String>,
    /// What counts, by what it gives a meaning to.
    pub meanings: BTreeMap<Key, Meaning>,
    /// Filters, in order.
    pub filters: Vec<Meaning>,
    /// The columns that a batch must have.
    pub columns: BTreeSet<String>,
    /// Coupling level.
    pub coupling: String,
    /// The expression that couples, with its place.
    pub cause: Option<String>,
}

impl Side {
    /// Reads, links and checks.
    pub fn read(name: &str, output: &Output) -> Outcome<Side> {
        let mut opened = program::open(name)?;
        let subject = Subject::read(&mut opened, &[], output)?;
        let sources = &subject.program.sources;
        let plain = specialize(&subject.checked, &Settings::default())
            .map_err(|e| Failure::input(e.to_string(), ""))?
            .program;
        let columns = needed(&plain)
            .into_iter()
            .filter(|c| plain.graph.columns[c.0 as usize].default.is_none())
            .map(|c| plain.graph.column_path(c))
            .collect();
        let files = &subject.linked.files;
        let mut side = Side {
            name: name.to_owned(),
            extends: files
                .iter()
                .skip(1)
                .rev()
                .skip(1)
                .map(|f| short(&sources.get(*f).name).to_owned())
                .collect(),
            meanings: BTreeMap::new(),
            filters: Vec::new(),
            columns,
            coupling: plain.graph.level_table.name(plain.coupling).to_owned(),
            cause: subject.specialized.program.cause.map(|cause| subject.written(cause)),
        };
        for &file in files {
            for statement in parse(sources, file).0.statements {
                side.add(&statement, sources);
            }
        }
        Ok(side)
    }

    fn add(&mut self, statement: &Statement, sources: &Sources) {
        let Some(key) = key(&statement.kind) else { return };
        let mut reads = names::read_by(&statement.kind);
        let own = key.1.clone();
        let mut canonical = canonical(statement);
        let mut base = None;
        if reads.contains(&own)
            && let Some(replaced) = self.meanings.get(&key)
            && canonical.contains(&format!("base.{own}"))
        {
            canonical.push_str(&replaced.canonical);
            reads.extend(replaced.reads.iter().cloned());
            let mut said = format!("base.{own} is `{}` ({})", replaced.text, replaced.file);
            if let Some(deeper) = &replaced.base {
                said.push_str(&format!("; there {deeper}"));
            }
            base = Some(said);
        }
        for local in locals(&statement.kind) {
            reads.remove(local);
        }
        reads.remove(&own);
        let meaning = Meaning {
            kind: statement::kind(&statement.kind),
            text: statement::text(statement.span, sources),
            canonical,
            base,
            file: short(&sources.get(statement.span.file).name).to_owned(),
            reads,
        };
        match statement.kind {
            StatementKind::Filter { .. } => self.filters.push(meaning),
            _ => {
                self.meanings.insert(key, meaning);
            }
        }
    }
}

/// What a statement gives a meaning to; filters have no names.
fn key(kind: &StatementKind) -> Option<Key> {
    let space = match statement::kind(kind) {
        "params" | "inputs" | "definitions" => "value",
        "states" if matches!(kind, StatementKind::State { .. }) => "value",
        "states" => "update",
        "other" => return None,
        other => other,
    };
    Some((space, statement::name(kind).unwrap_or("").to_owned()))
}

fn canonical(statement: &Statement) -> String {
    let bare = Statement { doc: None, ..statement.clone() };
    print(&Module { statements: vec![bare], broken: Vec::new() })
}

fn locals(kind: &StatementKind) -> Vec<&str> {
    let (params, body) = match kind {
        StatementKind::Fn { params, body, .. } => (&params[..], body),
        StatementKind::Def { body, .. } | StatementKind::Update { value: body, .. } => {
            (&[][..], body)
        }
        _ => return Vec::new(),
    };
    let params = params.iter().map(|p| p.name.name.as_str());
    params.chain(body.locals.iter().map(|l| l.0.name.as_str())).collect()
}

/// A library file's name without folders and ending.
fn short(file: &str) -> &str {
    let inner = file.strip_prefix("stdlib/objectives/").or_else(|| file.strip_prefix("stdlib/"));
    inner.and_then(|f| f.strip_suffix(".rl")).unwrap_or(file)
}
