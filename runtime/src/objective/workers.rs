//! Data parallelism: one objective per worker, each over whole groups of the batch, with the loss,
//! gradients, metrics and states of the whole.
//!
//! A worker computes on its own rows and calls [`AllReduce::all_reduce`] for what crosses: first for
//! the recorded stage's sums, then, once its pieces have run, for the closing stage's. Only programs
//! that couple the whole batch also call it within the live stage, where each worker then runs its
//! rows as one piece. Every worker makes the same calls in the same order, since the program tells
//! them; `rlc explain` prints them.

use std::collections::BTreeMap;

use rlc_compiler::hir::{ColumnId, ColumnSource, ReduceOp};
use rlc_compiler::level::Level;
use rlc_compiler::program::Program;
use rlc_compiler::shape::Shape;
use rlc_compiler::workers::{merge, obstacle};

use super::ObjectiveError;
use crate::device::DeviceError;
use crate::device::cpu::Merge;

/// What joins the workers: a collective over processes, machines or threads.
pub trait AllReduce: Send {
    /// This worker's number, from 0. Rows of a lower number come first in the batch.
    fn rank(&self) -> usize;

    /// How many workers there are.
    fn workers(&self) -> usize;

    /// Gives every worker what all their parts come to together, [`Exchange::merge`] of them in the
    /// order of ranks. A failure ends the step.
    fn all_reduce(&mut self, part: Exchange) -> Result<Exchange, String>;
}

/// One worker's part of what crosses at one moment, or all of them together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Exchange {
    /// Reductions over all rows of the batch.
    pub parts: Vec<(ReduceOp, f64)>,
    /// For each keyed state: per key the sum of its updates and their count.
    pub keyed: Vec<BTreeMap<i64, (f64, f64)>>,
}

impl Exchange {
    /// Two parts as one.
    #[must_use]
    pub fn merge(mut self, other: &Exchange) -> Exchange {
        for ((op, a), (_, b)) in self.parts.iter_mut().zip(&other.parts) {
            *a = merge(*op, *a, *b);
        }
        for (sums, more) in self.keyed.iter_mut().zip(&other.keyed) {
            for (key, (sum, n)) in more {
                let all = sums.entry(*key).or_default();
                *all = (all.0 + sum, all.1 + n);
            }
        }
        self
    }
}

/// The workers that a step belongs to; alone without any.
pub(super) struct Workers<'a>(pub Option<&'a mut dyn AllReduce>);

impl Workers<'_> {
    pub fn several(&self) -> bool {
        self.0.is_some()
    }

    /// Runs part of a kernel's run, which asks for what all workers' parts of some reductions come to.
    pub fn merging<T>(&mut self, run: impl FnOnce(&mut Merge<'_>) -> T) -> T {
        let several = self.several();
        let mut merge = |parts: &mut [(ReduceOp, f64)]| {
            let part = Exchange { parts: parts.to_vec(), keyed: Vec::new() };
            let all = self.all(part).map_err(|e| DeviceError::Workers(e.to_string()))?;
            parts.copy_from_slice(&all.parts);
            Ok(())
        };
        run(&mut if several { Some(&mut merge) } else { None })
    }

    /// What all workers' parts come to.
    pub fn all(&mut self, part: Exchange) -> Result<Exchange, ObjectiveError> {
        let Some(reduce) = &mut self.0 else { return Ok(part) };
        let shape = (part.parts.len(), part.keyed.len());
        let all = reduce.all_reduce(part).map_err(ObjectiveError::Workers)?;
        if (all.parts.len(), all.keyed.len()) == shape {
            return Ok(all);
        }
        Err(ObjectiveError::Workers(format!(
            "a worker gave {} numbers where this one gave {}; all workers run one program, under the same params, on batches with the same columns",
            all.parts.len(),
            shape.0
        )))
    }

    /// Refuses a program that needs rows of several workers at once.
    pub fn check(&self, program: &Program) -> Result<(), ObjectiveError> {
        if !self.several() {
            return Ok(());
        }
        let Some(e) = obstacle(program) else { return Ok(()) };
        let graph = &program.graph;
        // What has no name of its own is known by the definition that reads it.
        let named = graph.all().skip(e.index()).find_map(|user| {
            let uses = graph.reachable([user])[e.index()];
            graph.name(user).filter(|_| uses)
        });
        Err(ObjectiveError::Workers(format!(
            "`{}` orders or groups rows across the whole batch, which needs all of them on one worker; keep to rows of one group (`in group`, a key with `group` in it), or run the batch on one worker",
            named.unwrap_or("the loss")
        )))
    }

    /// Rows on workers of lower rank, for the levels that `uniform` counts.
    pub fn rows_before(
        &mut self,
        program: &Program,
        shape: &Shape,
    ) -> Result<Vec<(Level, u64)>, ObjectiveError> {
        let Some(reduce) = &self.0 else { return Ok(Vec::new()) };
        let graph = &program.graph;
        let mut levels: Vec<Level> = rlc_compiler::columns::needed(program)
            .into_iter()
            .filter(|id: &ColumnId| graph.sources.get(id) == Some(&ColumnSource::Uniform))
            .map(|id| graph.columns[id.0 as usize].level)
            .collect();
        levels.sort();
        levels.dedup();
        if levels.is_empty() {
            return Ok(Vec::new());
        }
        let (rank, workers) = (reduce.rank(), reduce.workers());
        // A place for each worker's count of each level, empty but for this worker's own.
        let mut parts = Vec::new();
        for level in &levels {
            let own = |w| if w == rank { shape.count(*level) as f64 } else { 0.0 };
            parts.extend((0..workers).map(|w| (ReduceOp::Sum, own(w))));
        }
        let all = self.all(Exchange { parts, keyed: Vec::new() })?;
        let before = |counts: &[(ReduceOp, f64)]| counts[..rank].iter().map(|c| c.1).sum::<f64>();
        Ok(levels
            .into_iter()
            .zip(all.parts.chunks(workers))
            .map(|(level, counts)| (level, before(counts) as u64))
            .collect())
    }
}
