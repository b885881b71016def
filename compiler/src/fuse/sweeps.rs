//! How many sweeps a loop over tokens makes, and what each does.
//!
//! What a row computes has a stage: the number of sweeps that must have run before. A reduction runs
//! in the sweep after the stage of what it reads, but a mean under a softmax joins the sweep of its
//! log-sum-exp when it reads nothing that comes later.

use std::collections::{HashMap, HashSet};

use super::nodes::{NodeId, Nodes, Task, row_reads};
use super::normal::Normal;
use crate::hir::{E, Expr};
use crate::level::VOCAB;

/// The stages of one loop.
#[derive(Default)]
pub(super) struct Stages {
    /// For a reduction or a gradient the sweep that does it, from 1.
    pub of: HashMap<NodeId, usize>,
    /// Means computed beside their log-sum-exp.
    pub online: HashSet<E>,
    pub last: usize,
}

/// Whether the expression reduces vocab entries.
pub(super) fn is_sweep(normal: &Normal, e: E) -> bool {
    match normal.graph.expr(e) {
        Expr::Reduce(_, x, _) => normal.graph.level(x) == VOCAB,
        Expr::Nth(..) => true,
        _ => false,
    }
}

pub(super) fn stages(normal: &Normal, nodes: &Nodes, inside: &[NodeId]) -> Stages {
    let mut out = Stages::default();
    for &n in inside {
        let node = &nodes.list[n];
        let after = |ids: &mut dyn Iterator<Item = NodeId>| {
            ids.filter_map(|o| out.of.get(&o)).copied().max().unwrap_or(0)
        };
        let reads = after(&mut node.needs.iter().copied());
        let stage = match node.task {
            Task::Gradient(..) => reads + 1,
            Task::Value(e) if is_sweep(normal, e) => {
                let beside = normal.means.get(&e).and_then(|mean| {
                    let lse = out.of.get(nodes.of.get(&mean.lse)?)?;
                    let mut es = row_reads(&normal.graph, mean.f).read;
                    if let Some(f) = mean.filter {
                        es.extend(row_reads(&normal.graph, f).read);
                    }
                    let ids = nodes.reads(&normal.graph, &es);
                    (after(&mut ids.into_iter()) < *lse).then_some(*lse)
                });
                if beside.is_some() {
                    out.online.insert(e);
                }
                beside.unwrap_or(reads + 1)
            }
            Task::Value(_) | Task::Fold(_) | Task::Call(_) => reads,
        };
        out.of.insert(n, stage);
        out.last = out.last.max(stage);
    }
    out
}
