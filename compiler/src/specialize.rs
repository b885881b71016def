//! From a checked program to one that a back end runs: decides what params and the batch's columns
//! decide, differentiates, simplifies, and cuts the graph into phases.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::autodiff;
use crate::check::Checked;
use crate::hir::{ColumnId, E, Expr, Graph, Prefer};
use crate::level::VOCAB;
use crate::program::{Emitted, Program};
use crate::simplify::{compact, rebuild};
use crate::stage;

/// What a program is specialised for.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// One value per param of the graph; empty: the defaults.
    pub params: Vec<f64>,
    /// Names (`level/name`) of the columns that batches have; none: whatever the program reads,
    /// with logits.
    pub present: Option<BTreeSet<String>>,
    /// Definitions to store, by name.
    pub emit: Vec<String>,
}

/// A specialised program and what was left out of it.
#[derive(Debug, Clone)]
pub struct Specialized {
    /// The program.
    pub program: Arc<Program>,
    /// The columns that it reads: [`crate::columns::needed`].
    pub needed: Vec<ColumnId>,
    /// Metrics left out, with the columns they lack.
    pub left_out: Vec<(String, Vec<String>)>,
}

/// Why a program cannot be specialised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpecializeError {
    /// A definition to emit does not exist; with the nearest name.
    NoSuchDefinition(String, Option<String>),
    /// A definition to emit has one value per vocabulary entry.
    VocabSized(String),
    /// Under these params no gradient reaches the policy.
    NoGradient,
}

impl std::fmt::Display for SpecializeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SpecializeError::NoSuchDefinition(name, near) => {
                write!(f, "the program defines no `{name}`")?;
                match near {
                    Some(near) => write!(f, "; did you mean `{near}`?"),
                    None => write!(f, "; `rlc explain` lists its definitions"),
                }
            }
            SpecializeError::VocabSized(name) => write!(
                f,
                "`{name}` has one value per vocabulary entry, and nothing of that size is stored; emit a reduction of it, such as `logsumexp({name} per token)`"
            ),
            SpecializeError::NoGradient => write!(
                f,
                "under these params the loss depends on no differentiable input, so training would leave the policy as it is; `rlc explain` shows what a param switches off"
            ),
        }
    }
}

impl std::error::Error for SpecializeError {}

/// Decides, differentiates, simplifies, stages.
pub fn specialize(checked: &Checked, settings: &Settings) -> Result<Specialized, SpecializeError> {
    let mut roots = vec![checked.loss];
    roots.extend(checked.metrics.iter().map(|m| m.value));
    roots.extend(checked.kept.iter().map(|k| k.1));
    for update in &checked.updates {
        roots.push(update.value);
        roots.extend(update.kept);
    }
    for sample in &checked.samples {
        roots.push(sample.value);
        roots.extend(sample.kept);
    }
    let mut emitted: Vec<(String, bool)> = Vec::new();
    for name in &settings.emit {
        let Some(definition) = checked.definitions.iter().find(|d| d.name == *name) else {
            let names = checked.definitions.iter().map(|d| d.name.as_str());
            let near = crate::diagnostic::nearest(name, names).map(str::to_owned);
            return Err(SpecializeError::NoSuchDefinition(name.clone(), near));
        };
        if checked.graph.level(definition.value) == VOCAB {
            return Err(SpecializeError::VocabSized(name.clone()));
        }
        roots.push(definition.value);
        roots.extend(definition.exists);
        emitted.push((name.clone(), definition.exists.is_some()));
    }
    let (mut graph, roots) = decide(&checked.graph, &roots, settings);
    let n_metrics = checked.metrics.len();
    let n_kept = checked.kept.len();
    let loss = roots[0];

    let mut left_out = Vec::new();
    let mut metrics = Vec::new();
    for (metric, &value) in checked.metrics.iter().zip(&roots[1..=n_metrics]) {
        let lacks = missing(&graph, value, settings);
        if lacks.is_empty() {
            metrics.push((metric.name.clone(), value));
        } else {
            left_out.push((metric.name.clone(), lacks));
        }
    }

    let grads = autodiff::differentiate(&mut graph, loss);
    if !autodiff::carries_gradient(&graph)[loss.index()] {
        return Err(SpecializeError::NoGradient);
    }

    // The same order on the way out of each rebuild.
    let kept = &roots[1 + n_metrics..1 + n_metrics + n_kept];
    let values = &roots[1 + n_metrics + n_kept..];
    let mut all = vec![loss];
    all.extend(grads.iter().filter_map(|g| g.1));
    all.extend(metrics.iter().map(|m| m.1));
    all.extend(kept.iter().copied());
    all.extend(values.iter().copied());
    let (graph, all) = rebuild(&graph, &all);
    let (graph, all) = compact(&graph, &all);

    let mut rest = all.into_iter();
    let loss = rest.next().unwrap_or(E(0));
    let grads: Vec<(ColumnId, Option<E>)> =
        grads.into_iter().map(|(c, g)| (c, g.and_then(|_| rest.next()))).collect();
    let metrics: Vec<(String, E)> =
        metrics.into_iter().zip(rest.by_ref()).map(|((n, _), e)| (n, e)).collect();
    let kept: Vec<(String, E)> =
        checked.kept.iter().zip(rest.by_ref()).map(|((n, _), e)| (n.clone(), e)).collect();
    let mut updates = checked.updates.clone();
    for update in &mut updates {
        update.value = rest.next().unwrap_or(update.value);
        if let Some(kept) = &mut update.kept {
            *kept = rest.next().unwrap_or(*kept);
        }
    }
    let mut samples = checked.samples.clone();
    for sample in &mut samples {
        sample.value = rest.next().unwrap_or(sample.value);
        if let Some(kept) = &mut sample.kept {
            *kept = rest.next().unwrap_or(*kept);
        }
    }
    let mut values = Vec::new();
    for (name, derived) in emitted {
        let Some(value) = rest.next() else { break };
        values.push(Emitted { name, value, exists: if derived { rest.next() } else { None } });
    }

    let reads = stage::Reads::of(&graph);
    let (coupling, cause) = stage::coupling(&graph, &reads, loss);
    let piece = stage::piece_level(coupling);
    let phases = stage::phases(&graph, &reads, piece);
    let program = Program {
        graph,
        phases,
        loss,
        grads,
        metrics,
        values,
        updates,
        samples,
        kept,
        coupling,
        cause,
        piece,
    };
    let needed = crate::columns::needed(&program);
    Ok(Specialized { program: Arc::new(program), needed, left_out })
}

/// Resolves what columns and params decide, and simplifies on the way.
fn decide(old: &Graph, roots: &[E], settings: &Settings) -> (Graph, Vec<E>) {
    let known = known_values(old, settings);
    let has = |c: ColumnId| {
        settings.present.as_ref().map(|present| present.contains(&old.column_path(c)))
    };
    let mut chosen: Vec<Option<E>> = vec![None; old.len()];
    for e in old.all() {
        chosen[e.index()] = match old.expr(e) {
            Expr::Choose(column, x, Prefer::Column) => {
                if has(column) == Some(true) {
                    None
                } else {
                    Some(x)
                }
            }
            Expr::Choose(_, x, Prefer::ComputedWith(with)) => {
                if has(with) == Some(false) {
                    None
                } else {
                    Some(x)
                }
            }
            Expr::Select(c, a, b) => known[c.index()].map(|v| if v == 0.0 { b } else { a }),
            _ => None,
        };
    }
    // Walk only what the decided graph needs, so that a branch not taken needs no column.
    let mut needed = vec![false; old.len()];
    for r in roots {
        needed[r.index()] = true;
    }
    for index in (0..old.len()).rev() {
        if !needed[index] {
            continue;
        }
        let e = E(index as u32);
        match (chosen[index], old.expr(e)) {
            (Some(x), _) => needed[x.index()] = true,
            (None, Expr::Choose(..)) => {}
            (None, _) => old.operands(e).for_each(|o| needed[o.index()] = true),
        }
    }
    let mut new = Graph::like(old);
    let mut map = vec![E(u32::MAX); old.len()];
    for e in old.all().filter(|e| needed[e.index()]) {
        let mapped = match (chosen[e.index()], old.expr(e)) {
            (Some(x), _) => {
                // The branch may be coarser in type only; levels were brought together before.
                let x = map[x.index()];
                let ty = old.ty(e);
                if new.ty(x) == ty { x } else { new.cast(x, ty) }
            }
            (None, Expr::Choose(column, _, _)) => new.column(column),
            (None, _) => {
                let expr = old.map_operands(e, |o| map[o.index()]);
                crate::simplify::make(&mut new, expr, old.level(e), old.ty(e))
            }
        };
        new.copy_label(mapped, old, e);
        map[e.index()] = mapped;
    }
    let roots = roots.iter().map(|r| map[r.index()]).collect();
    (new, roots)
}

/// The value of every expression that depends on params and literals alone.
pub fn known_values(graph: &Graph, settings: &Settings) -> Vec<Option<f64>> {
    let mut known: Vec<Option<f64>> = Vec::with_capacity(graph.len());
    for e in graph.all() {
        let at = |o: E| known[o.index()];
        let value = match graph.expr(e) {
            Expr::Const(bits) => Some(f64::from_bits(bits)),
            Expr::Param(p) => {
                let i = p.0 as usize;
                Some(settings.params.get(i).copied().unwrap_or(graph.params[i].value))
            }
            Expr::Unary(op, x) => at(x).map(|x| op.eval(x)),
            Expr::Binary(op, a, b) => at(a).zip(at(b)).map(|(a, b)| op.eval(a, b)),
            Expr::Select(c, a, b) => at(c).and_then(|c| if c == 0.0 { at(b) } else { at(a) }),
            Expr::Broadcast(x) | Expr::Detach(x) => at(x),
            Expr::Column(_)
            | Expr::Choose(..)
            | Expr::Reduce(..)
            | Expr::Scan { .. }
            | Expr::Shift { .. }
            | Expr::Rank { .. }
            | Expr::Scatter { .. }
            | Expr::Gather { .. }
            | Expr::Find { .. }
            | Expr::Prefix(..)
            | Expr::Side(_)
            | Expr::Row
            | Expr::Nth(..)
            | Expr::Spread { .. }
            | Expr::At(..)
            | Expr::VocabIndex => None,
        };
        known.push(value);
    }
    known
}

/// Columns that `root` reads and the batch lacks, without a default.
fn missing(graph: &Graph, root: E, settings: &Settings) -> Vec<String> {
    let Some(present) = &settings.present else { return Vec::new() };
    let needed = graph.reachable([root]);
    let mut out: Vec<String> = graph
        .all()
        .filter(|e| needed[e.index()])
        .filter_map(|e| match graph.expr(e) {
            Expr::Column(c) if graph.columns[c.0 as usize].default.is_none() => {
                Some(graph.column_path(c))
            }
            _ => None,
        })
        .filter(|path| !present.contains(path))
        .collect();
    out.sort();
    out
}
