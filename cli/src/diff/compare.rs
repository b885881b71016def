//! What differs between two programs, statement by statement, and what follows from it.

use std::collections::BTreeSet;

use super::side::{Key, Meaning, Side};
use crate::statement::KINDS;

/// A statement that only one of the programs has, or that says something else in the other.
#[derive(Debug)]
pub struct Change<'a> {
    /// What it gives a meaning to; empty for filters and the goal.
    pub name: &'a str,
    /// In the first program.
    pub a: Option<&'a Meaning>,
    /// In the second.
    pub b: Option<&'a Meaning>,
}

impl Change<'_> {
    /// What kind of thing it is, in the second program where it is there.
    pub fn kind(&self) -> &'static str {
        self.b.or(self.a).map_or("", |m| m.kind)
    }

    /// "added", "removed" or "replaced".
    pub fn word(&self) -> &'static str {
        match (self.a, self.b) {
            (None, _) => "added",
            (_, None) => "removed",
            _ => "replaced",
        }
    }
}

/// How two programs differ.
#[derive(Debug)]
pub struct Difference<'a> {
    /// Kind by kind, then by name.
    pub changes: Vec<Change<'a>>,
    /// What reads as before and means something else, since it reads what changed.
    pub follows: Vec<String>,
    /// Columns that only the first needs, and that only the second does.
    pub columns: (Vec<String>, Vec<String>),
    /// The coupling level differs.
    pub coupling: bool,
}

impl Difference<'_> {
    /// The programs are the same.
    pub fn nothing(&self) -> bool {
        self.changes.is_empty()
    }
}

/// Compares two programs.
pub fn compare<'a>(a: &'a Side, b: &'a Side) -> Difference<'a> {
    let keys: BTreeSet<&Key> = a.meanings.keys().chain(b.meanings.keys()).collect();
    let mut changes = Vec::new();
    let mut changed: BTreeSet<&str> = BTreeSet::new();
    for key in keys {
        let (in_a, in_b) = (a.meanings.get(key), b.meanings.get(key));
        if in_a.map(|m| &m.canonical) != in_b.map(|m| &m.canonical) {
            changes.push(Change { name: &key.1, a: in_a, b: in_b });
            changed.insert(&key.1);
        }
    }
    let only = |these: &'a Side, those: &Side| -> Vec<&'a Meaning> {
        let mut rest: Vec<&str> = those.filters.iter().map(|f| f.canonical.as_str()).collect();
        let mut found = Vec::new();
        for filter in &these.filters {
            match rest.iter().position(|r| *r == filter.canonical) {
                Some(i) => {
                    rest.remove(i);
                }
                None => found.push(filter),
            }
        }
        found
    };
    changes.extend(only(a, b).into_iter().map(|f| Change { name: "", a: Some(f), b: None }));
    changes.extend(only(b, a).into_iter().map(|f| Change { name: "", a: None, b: Some(f) }));
    changes.sort_by_key(|c| KINDS.iter().position(|k| *k == c.kind()));
    let fewer = |x: &Side, y: &Side| x.columns.difference(&y.columns).cloned().collect();
    Difference {
        changes,
        follows: follows(a, b, changed),
        columns: (fewer(a, b), fewer(b, a)),
        coupling: a.coupling != b.coupling,
    }
}

/// What the second program uses, says as the first does, and reads what changed.
fn follows<'a>(a: &Side, b: &'a Side, mut changed: BTreeSet<&'a str>) -> Vec<String> {
    let outputs = ["goal", "metrics", "update", "sampling"];
    let mut used: BTreeSet<&str> = BTreeSet::new();
    let mut open: Vec<&Meaning> = b.filters.iter().collect();
    open.extend(b.meanings.iter().filter(|(k, _)| outputs.contains(&k.0)).map(|(_, m)| m));
    while let Some(meaning) = open.pop() {
        for name in &meaning.reads {
            if used.insert(name) {
                open.extend(b.meanings.iter().filter(|(k, _)| k.1 == *name).map(|(_, m)| m));
            }
        }
    }
    let mut found: Vec<String> = Vec::new();
    let mut reached: BTreeSet<&Key> = BTreeSet::new();
    loop {
        let before = reached.len();
        for (key, meaning) in &b.meanings {
            let same = a.meanings.get(key).is_some_and(|m| m.canonical == meaning.canonical);
            let counts = used.contains(key.1.as_str()) || outputs.contains(&key.0);
            if same
                && counts
                && meaning.reads.iter().any(|r| changed.contains(r.as_str()))
                && reached.insert(key)
            {
                if key.0 == "value" || key.0 == "functions" {
                    changed.insert(&key.1);
                }
                match key.0 {
                    "goal" => {}
                    "metrics" => found.push(format!("metric {}", key.1)),
                    "update" => found.push(format!("update {}", key.1)),
                    "sampling" => found.push(format!("sample {}", key.1)),
                    _ => found.push(key.1.clone()),
                }
            }
        }
        if reached.len() == before {
            return found;
        }
    }
}
