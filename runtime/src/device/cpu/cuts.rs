//! Where a loop may be cut into runs of rows, and how its runs share the work between threads.
//!
//! A loop that sweeps vocab rows is cut into runs whose number follows from its rows and entries alone.
//! Every run folds into numbers of its own, which are merged in the order of runs: the bits are the same
//! whatever the number of threads. Other rows than its own a run neither reads nor writes in its loop.

use std::ops::Range;
use std::sync::Mutex;

use rayon::prelude::*;
use rlc_compiler::hir::ReduceOp;
use rlc_compiler::level::Level;
use rlc_compiler::loops::{EntryFold, Item, Loop, Plan, SlotId, SlotKind};
use rlc_compiler::shape::Shape;
use rlc_compiler::workers::merge;

use super::Memory;
use super::code::Function;
use super::sweep::SweepCode;

/// Fewer entries than this are not worth a run of their own: 20 to 30 microseconds.
const ENTRIES: usize = 1 << 15;
/// Most runs: enough for the slowest of some threads to be waited for only a little.
const RUNS: usize = 64;

/// What a loop carries between rows.
pub(super) struct Cuts {
    level: Level,
    /// Rows of these levels stay together, for what variables of the loop carry along them.
    scopes: Vec<Level>,
    /// Threads can share it.
    shared: Option<Shared>,
}

/// What each run, or each thread, has for itself.
struct Shared {
    folds: Vec<Folded>,
    /// Scratch: f64 per vocab entry, and beside that.
    scratch: Vec<(SlotId, usize, usize)>,
    /// The loop's sweeps among all.
    sweeps: Range<usize>,
}

/// A fold into another level's rows.
#[derive(Clone, Copy)]
struct Folded {
    op: ReduceOp,
    into: SlotId,
    scale: Option<SlotId>,
    level: Level,
    /// Any row, instead of the one that contains the folded row.
    by_number: bool,
    /// What both begin as.
    first: [f64; 2],
}

impl Cuts {
    /// Those of a loop whose sweeps are `sweeps` of all.
    pub(super) fn new(plan: &Plan, of: &Loop, sweeps: Range<usize>) -> Cuts {
        let mut scopes = Vec::new();
        let mut alone = sweeps.is_empty();
        let (mut folds, mut scratch) = (Vec::new(), Vec::new());
        let first = |slot: SlotId| match plan.slot(slot).kind {
            SlotKind::Folded(first) => first,
            _ => 0.0,
        };
        let room = |slot: SlotId| match plan.slot(slot).kind {
            SlotKind::Scratch(numbers) => (slot, numbers, 0),
            SlotKind::Ring(numbers) => (slot, 0, numbers),
            _ => (slot, 0, 0),
        };
        for item in &of.body {
            match item {
                // An element's state lies in memory, where any number may lead.
                Item::Scan { within: Some(_), .. } | Item::Shift { within: Some(_), .. } => {
                    alone = true;
                }
                Item::Scan { scope, .. } => scopes.push(*scope),
                Item::Shift { scope, ring, .. } => {
                    scopes.push(*scope);
                    scratch.push(room(*ring));
                }
                Item::Fold { op, into, scale, index, .. } => folds.push(Folded {
                    op: *op,
                    into: *into,
                    scale: *scale,
                    level: plan.slot(*into).level,
                    by_number: index.is_some(),
                    first: [first(*into), scale.map_or(0.0, first)],
                }),
                Item::Spread(slot, _) => scratch.push(room(*slot)),
                Item::Sweep(sweep) => {
                    scratch.extend(sweep.folds.iter().filter_map(EntryFold::scratch).map(room));
                }
                Item::Let(..) | Item::Store(..) | Item::SpreadAt { .. } => {}
            }
        }
        scopes.sort_unstable();
        scopes.dedup();
        let shared = (!alone).then_some(Shared { folds, scratch, sweeps });
        Cuts { level: of.level, scopes, shared }
    }

    /// Whether nothing is carried into row `row`.
    fn allowed(&self, shape: &Shape, row: usize) -> bool {
        self.scopes.iter().all(|scope| {
            let parents = shape.parents(*scope, self.level);
            row == 0 || row >= parents.len() || parents[row] != parents[row - 1]
        })
    }

    /// Cuts `range` into runs of at most `most` units where the loop allows it; `row` is the first row
    /// of a unit.
    pub(super) fn ranges(
        &self,
        shape: &Shape,
        range: Range<usize>,
        most: usize,
        row: impl Fn(usize) -> usize,
    ) -> Vec<Range<usize>> {
        let mut out = Vec::new();
        let mut start = range.start;
        while start < range.end {
            let near = start.saturating_add(most.max(1)).min(range.end);
            let fits = |&at: &usize| at == range.end || self.allowed(shape, row(at));
            let end = (start + 1..=near).rev().find(fits).or_else(|| (near..=range.end).find(fits));
            let end = end.unwrap_or(range.end);
            out.push(start..end);
            start = end;
        }
        out
    }

    /// The runs of rows `range`; one where the loop is not cut.
    fn runs(&self, shape: &Shape, range: &Range<usize>) -> Vec<Range<usize>> {
        let width = shape.vocab.max(1);
        if self.shared.is_none() || range.len() * width < 2 * ENTRIES {
            return Vec::new();
        }
        let most = ENTRIES.div_ceil(width).max(range.len().div_ceil(RUNS));
        self.ranges(shape, range.clone(), most, |row| row)
    }
}

/// What threads have for themselves, kept from loop to loop.
#[derive(Default)]
pub(super) struct Threads {
    forks: Vec<Fork>,
    parts: Vec<Part>,
    /// Rows by form of forks that are gone.
    rows_by_form: u64,
}

/// One thread's own.
#[derive(Default)]
struct Fork {
    /// The sweeps' code, which has memory of its own.
    sweeps: Vec<SweepCode>,
    table: Vec<*mut u8>,
    scratch: Vec<Vec<f64>>,
}

// SAFETY: the table is written and read within one call of `Threads::run` only.
unsafe impl Send for Fork {}

/// One run's own: numbers to fold into, for each fold those of rows from `rows.start` on.
#[derive(Default)]
struct Part {
    numbers: Vec<f64>,
    rows: Vec<Range<usize>>,
}

/// The pointer table that the threads' own are made from.
#[derive(Clone, Copy)]
struct Table<'t>(&'t [*mut u8]);

// SAFETY: threads copy it; what each does with the pointers is said where they run.
unsafe impl Sync for Table<'_> {}

/// The loop that threads run.
pub(super) struct Work<'w> {
    pub cuts: &'w Cuts,
    pub function: &'w Function,
    pub shape: &'w Shape,
    /// The pointer table, and where in it the sweeps' code begins.
    pub table: &'w [*mut u8],
    pub sweeps_at: usize,
    /// The token in the first row of vocab-level memory.
    pub base: usize,
}

impl Threads {
    /// Vocab rows that have gone through a row primitive.
    pub(super) fn rows_by_form(&self) -> u64 {
        let own = self.forks.iter().flat_map(|f| &f.sweeps).map(SweepCode::rows_by_form);
        self.rows_by_form + own.sum::<u64>()
    }

    /// Forgets the code of sweeps, which has changed.
    pub(super) fn forget(&mut self) {
        self.rows_by_form = self.rows_by_form();
        self.forks.clear();
    }

    /// Runs rows `range` of a loop in runs, if it is large enough; false where it has not run.
    ///
    /// # Safety
    ///
    /// As for [`Function::call`]; `memory` is what the table's own slots lie in, `sweeps` all sweeps.
    pub(super) unsafe fn run(
        &mut self,
        work: &Work<'_>,
        range: &Range<usize>,
        memory: &mut [Memory],
        sweeps: &[SweepCode],
    ) -> bool {
        let &Work { cuts, function, shape, table, sweeps_at, base } = work;
        let runs = cuts.runs(shape, range);
        let Some(shared) = cuts.shared.as_ref().filter(|_| runs.len() > 1) else { return false };
        if self.parts.len() < runs.len() {
            self.parts.resize_with(runs.len(), Part::default);
        }
        let threads = rayon::current_num_threads().clamp(1, runs.len());
        while self.forks.len() < threads {
            let sweeps = SweepCode::fork(sweeps);
            self.forks.push(Fork { sweeps, ..Fork::default() });
        }
        let table = Table(table);
        let queue = Mutex::new(runs.iter().zip(&mut self.parts));
        let work = |fork: &mut Fork| {
            fork.prepare(shared, table, sweeps_at, shape.vocab);
            loop {
                // A thread that panicked took its run with it, which is not run again.
                let next = queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
                let Some((rows, part)) = next else { return };
                part.begin(shared, cuts.level, rows, shape);
                fork.fold_into(shared, part);
                // SAFETY: the caller vouches for the rows. Each run writes rows of its own only: it
                // stores at its rows and writes their gradients; scratch and the sweeps' code are the
                // thread's, what it folds into the run's, long enough for every row it reaches.
                unsafe { function.call(&fork.table, rows.clone(), shape.vocab, base) };
            }
        };
        if threads > 1 {
            self.forks[..threads].par_iter_mut().for_each(work);
        } else {
            self.forks[..1].iter_mut().for_each(work);
        }
        for part in &self.parts[..runs.len()] {
            part.end(shared, memory);
        }
        true
    }
}

impl Fork {
    fn prepare(&mut self, shared: &Shared, table: Table<'_>, sweeps_at: usize, vocab: usize) {
        self.table.clear();
        self.table.extend_from_slice(table.0);
        for at in shared.sweeps.clone() {
            self.table[sweeps_at + at] = std::ptr::from_mut(&mut self.sweeps[at]).cast();
        }
        if self.scratch.len() < shared.scratch.len() {
            self.scratch.resize_with(shared.scratch.len(), Vec::new);
        }
        for ((slot, per_entry, beside), own) in shared.scratch.iter().zip(&mut self.scratch) {
            let numbers = per_entry * vocab + beside;
            if own.len() < numbers {
                own.resize(numbers, 0.0);
            }
            self.table[slot.index()] = own.as_mut_ptr().cast();
        }
    }

    fn fold_into(&mut self, shared: &Shared, part: &mut Part) {
        let mut at = part.numbers.as_mut_ptr();
        for (fold, rows) in shared.folds.iter().zip(&part.rows) {
            for slot in [Some(fold.into), fold.scale].into_iter().flatten() {
                // Row `rows.start` of the slot is the first of these numbers.
                self.table[slot.index()] = at.wrapping_sub(rows.start).cast();
                at = at.wrapping_add(rows.len());
            }
        }
    }
}

impl Part {
    /// Makes room for what rows `run` fold.
    fn begin(&mut self, shared: &Shared, level: Level, run: &Range<usize>, shape: &Shape) {
        self.numbers.clear();
        self.rows.clear();
        for fold in &shared.folds {
            let parents = shape.parents(fold.level, level);
            let rows = if fold.by_number {
                0..shape.count(fold.level)
            } else if parents.is_empty() {
                // The batch has one row.
                0..1
            } else {
                parents[run.start] as usize..parents[run.end - 1] as usize + 1
            };
            for (_, first) in [Some(fold.into), fold.scale].iter().flatten().zip(fold.first) {
                self.numbers.resize(self.numbers.len() + rows.len(), first);
            }
            self.rows.push(rows);
        }
    }

    /// Adds the run's part to what the runs before it have folded.
    fn end(&self, shared: &Shared, memory: &mut [Memory]) {
        let mut parts = self.numbers.as_slice();
        for (fold, rows) in shared.folds.iter().zip(&self.rows) {
            let (into, rest) = parts.split_at(rows.len());
            parts = rest;
            let Memory::Numbers(sums) = &mut memory[fold.into.index()] else { continue };
            let Some(scale) = fold.scale else {
                for (sum, x) in sums[rows.clone()].iter_mut().zip(into) {
                    *sum = merge(fold.op, *sum, *x);
                }
                continue;
            };
            let (scales, rest) = parts.split_at(rows.len());
            parts = rest;
            let mut sums = std::mem::take(sums);
            if let Memory::Numbers(all) = &mut memory[scale.index()] {
                let own = sums[rows.clone()].iter_mut().zip(&mut all[rows.clone()]);
                for ((most, scale), (x, s)) in own.zip(into.iter().zip(scales)) {
                    add_exp((most, scale), (*x, *s));
                }
            }
            memory[fold.into.index()] = Memory::Numbers(sums);
        }
    }
}

/// Adds one running log-sum-exp to another: the largest, and the sum of exp(x - largest).
fn add_exp((most, scale): (&mut f64, &mut f64), (x, s): (f64, f64)) {
    let largest = if x > *most { x } else { *most };
    let weight = |m: f64| if m == largest { 1.0 } else { super::sweep::exp(m - largest) };
    *scale = *scale * weight(*most) + s * weight(x);
    *most = largest;
}

#[cfg(test)]
mod tests {
    use super::add_exp;

    #[test]
    fn log_sum_exps_merge() {
        let low = f64::NEG_INFINITY;
        let cases = [
            ((low, 0.0), (low, 0.0), (low, 0.0)),
            ((low, 0.0), (2.0, 3.0), (2.0, 3.0)),
            ((2.0, 3.0), (low, 0.0), (2.0, 3.0)),
            ((1.0, 1.0), (1.0, 2.0), (1.0, 3.0)),
            ((f64::INFINITY, 2.0), (7.0, 1.0), (f64::INFINITY, 2.0)),
            ((1e4, 1.0), (-1e4, 5.0), (1e4, 1.0)),
        ];
        for ((mut most, mut scale), part, want) in cases {
            add_exp((&mut most, &mut scale), part);
            assert_eq!((most, scale), want, "{part:?}");
        }
        let (mut most, mut scale) = (0.0, 2.0);
        add_exp((&mut most, &mut scale), (1.0, 1.0));
        assert!((most + scale.ln() - (2.0 + 1f64.exp()).ln()).abs() < 1e-12);
        // NaN stays, from either side.
        add_exp((&mut most, &mut scale), (low, f64::NAN));
        assert!(scale.is_nan());
    }
}
