//! Sweeps over the vocab entries of a row.

use std::collections::HashMap;

use super::{Code, label};
use crate::fuse::nodes::{NodeId, Task};
use crate::fuse::sweeps::is_sweep;
use crate::hir::{E, Expr, ReduceOp};
use crate::loops::{EntryFold, Item, Mean, Op, Sweep, V};

/// A sweep while it is written, with the entry values it has so far.
#[derive(Default)]
struct Entries {
    sweep: Sweep,
    known: HashMap<E, V>,
}

impl Code<'_, '_> {
    /// One sweep that does all reductions and gradients among these nodes.
    pub(super) fn sweep(&mut self, inside: &[NodeId]) {
        let mut entries = Entries::default();
        let mut beside: HashMap<E, usize> = HashMap::new();
        for &n in inside {
            match self.nodes.list[n].task {
                Task::Value(e) if is_sweep(self.normal, e) => {
                    self.reduce(e, &mut entries, &mut beside);
                }
                Task::Gradient(column, e) => {
                    let x = self.entry(e, &mut entries);
                    if let Some(&slot) = self.places.gradients.get(&column) {
                        entries.sweep.gradients.push((slot, x));
                    }
                }
                Task::Value(_) | Task::Fold(_) | Task::Rank(_) => {}
            }
        }
        self.body.push(Item::Sweep(entries.sweep));
    }

    /// `beside` finds the log-sum-exp that a mean belongs to.
    fn reduce(&mut self, e: E, entries: &mut Entries, beside: &mut HashMap<E, usize>) {
        let Expr::Reduce(op, x, _) = self.normal.graph.expr(e) else { return };
        let name = label(self.normal, e);
        if self.stages.online.contains(&e)
            && let Some(mean) = self.normal.means.get(&e)
            && let Some(&at) = beside.get(&mean.lse)
        {
            let f = self.entry(mean.f, entries);
            let filter = mean.filter.map(|c| self.entry(c, entries));
            let into = self.name(name);
            if let EntryFold::LogSumExp { means, .. } = &mut entries.sweep.folds[at] {
                means.push(Mean { into, f, filter, guard: mean.guard });
            }
            self.known.insert(e, into);
            return;
        }
        let x = self.entry(x, entries);
        let into = self.name(name);
        if op == ReduceOp::LogSumExp {
            beside.insert(e, entries.sweep.folds.len());
            entries.sweep.folds.push(EntryFold::LogSumExp { into, x, means: Vec::new() });
        } else {
            entries.sweep.folds.push(EntryFold::Plain { into, op, x });
        }
        self.known.insert(e, into);
    }

    /// A vocab-level expression at the entry where the sweep stands.
    fn entry(&mut self, x: E, entries: &mut Entries) -> V {
        if let Some(&v) = entries.known.get(&x) {
            return v;
        }
        let graph = &self.normal.graph;
        let op = match graph.expr(x) {
            Expr::Broadcast(_) => return self.value(x),
            Expr::VocabIndex => Op::EntryIndex,
            Expr::Column(c) => Op::Entry(self.slots.column(c)),
            Expr::Unary(op, a) => Op::Unary(op, self.entry(a, entries)),
            Expr::Binary(op, a, b) => {
                let a = self.entry(a, entries);
                Op::Binary(op, a, self.entry(b, entries))
            }
            Expr::Select(c, a, b) => {
                let c = self.entry(c, entries);
                let a = self.entry(a, entries);
                Op::Select(c, a, self.entry(b, entries))
            }
            // Never at vocab level: `nodes` has refused the rest.
            Expr::Const(_)
            | Expr::Param(_)
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
            | Expr::Detach(_) => return self.value(x),
        };
        let name = match graph.expr(x) {
            Expr::Column(c) => graph.columns[c.0 as usize].name.clone(),
            _ => label(self.normal, x),
        };
        let v = self.name(name);
        entries.sweep.body.push((v, op));
        entries.known.insert(x, v);
        v
    }
}
