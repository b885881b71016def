//! A batch on its way through a kernel: phases in order, loops over the rows of a piece, reductions that
//! cross between workers.

use std::ops::Range;

use rlc_compiler::hir::{E, ReduceOp};
use rlc_compiler::interp::VocabRows;
use rlc_compiler::level::{BATCH, ROLLOUT, TOKEN};
use rlc_compiler::loops::{BatchFold, Call, Item, Loop, SlotId, SlotKind, Step, Task};
use rlc_compiler::op::Unary;
use rlc_compiler::program::Phase;
use rlc_compiler::shape::Shape;

use super::{Kernel, Memory, Vocab, call, float, float_of, numbers, pointer};
use crate::device::{DeviceError, Gradient};

/// Puts what all workers' parts of some reductions to the batch come to in place of this worker's;
/// none for a worker that holds the whole batch.
pub type Merge<'m> = Option<&'m mut dyn FnMut(&mut [(ReduceOp, f64)]) -> Result<(), DeviceError>>;

/// One batch on its way through a kernel.
pub struct Run<'k> {
    kernel: &'k mut Kernel,
    shape: &'k Shape,
    /// The last phase that has run.
    stage: Option<Phase>,
    /// Reductions to the batch that hold this worker's part only.
    parts: Vec<BatchFold>,
}

impl<'k> Run<'k> {
    /// A batch whose columns are in the kernel's memory.
    pub(super) fn new(kernel: &'k mut Kernel, shape: &'k Shape) -> Run<'k> {
        let mut run = Run { kernel, shape, stage: None, parts: Vec::new() };
        run.clear(Phase::Recorded);
        run.restart();
        run
    }

    /// Computes what follows from the recorded batch alone. `vocab` has the recorded vocab-level
    /// columns of all tokens, those that the recorded phase reads.
    pub fn recorded(&mut self, vocab: &Vocab) -> Result<(), DeviceError> {
        self.recorded_among(vocab, &mut None)
    }

    /// [`Run::recorded`] as one of several workers.
    pub fn recorded_among(
        &mut self,
        vocab: &Vocab,
        merge: &mut Merge<'_>,
    ) -> Result<(), DeviceError> {
        self.whole(Phase::Recorded, vocab, merge)
    }

    /// Forgets what live pieces have added up, to run them anew: for the next optimiser step.
    pub fn restart(&mut self) {
        self.clear(Phase::Live);
        self.clear(Phase::After);
        self.parts.clear();
        self.stage = self.stage.map(|_| Phase::Recorded);
    }

    /// Runs rows `rows` of the program's piece level. `vocab` and `gradients` hold a row for each
    /// token of the piece, and nothing else.
    pub fn live(
        &mut self,
        rows: Range<usize>,
        vocab: &Vocab,
        gradients: &mut [Gradient],
    ) -> Result<(), DeviceError> {
        self.live_among(rows, vocab, gradients, &mut None)
    }

    /// [`Run::live`] as one of several workers.
    pub fn live_among(
        &mut self,
        rows: Range<usize>,
        vocab: &Vocab,
        gradients: &mut [Gradient],
        merge: &mut Merge<'_>,
    ) -> Result<(), DeviceError> {
        if self.stage.is_none() {
            return Err(DeviceError::Order("the recorded phase comes before the first piece"));
        }
        let piece = self.kernel.plan.piece;
        if rows.start > rows.end || rows.end > self.shape.count(piece) {
            return Err(DeviceError::Order("a piece reaches beyond the batch"));
        }
        self.stage = Some(Phase::Live);
        self.run(Phase::Live, rows, vocab, gradients, merge)
    }

    /// Computes what needs all pieces. `vocab` as for [`Run::recorded`]; programs rarely need any.
    pub fn after(&mut self, vocab: &Vocab) -> Result<(), DeviceError> {
        self.after_among(vocab, &mut None)
    }

    /// [`Run::after`] as one of several workers.
    pub fn after_among(&mut self, vocab: &Vocab, merge: &mut Merge<'_>) -> Result<(), DeviceError> {
        if self.stage.is_none() {
            return Err(DeviceError::Order("the recorded phase comes before the last"));
        }
        // What the pieces have added up crosses first.
        self.cross(merge)?;
        self.whole(Phase::After, vocab, merge)
    }

    /// Values of an output of the program, one per row of its level. None for gradients at vocab
    /// level, which lie in the caller's memory, and for what is no output.
    pub fn value(&self, e: E) -> Option<&[f64]> {
        let output = self.kernel.plan.outputs.iter().find(|o| o.expr == e)?;
        match &self.kernel.memory[output.slot.index()] {
            Memory::Numbers(x) => Some(x),
            Memory::Rows(_) | Memory::Outside => None,
        }
    }

    fn clear(&mut self, phase: Phase) {
        for step in self.kernel.plan.steps(phase) {
            let Step::Loop(Loop { body, .. }) = step else { continue };
            for item in body {
                // The numbers that a shift carries beside its count are read once written.
                let slots = match item {
                    Item::Fold { into, scale, .. } => [Some(*into), *scale],
                    Item::Scan { within, .. } | Item::Shift { within, .. } => {
                        [within.map(|w| w.state), None]
                    }
                    Item::Let(..)
                    | Item::Store(..)
                    | Item::Spread(..)
                    | Item::SpreadAt { .. }
                    | Item::Sweep(_) => [None; 2],
                };
                for slot in slots.into_iter().flatten() {
                    let first = match self.kernel.plan.slot(slot).kind {
                        SlotKind::Folded(first) => first,
                        _ => 0.0,
                    };
                    if let Memory::Numbers(x) = &mut self.kernel.memory[slot.index()] {
                        x.fill(first);
                    }
                }
            }
        }
    }

    fn whole(
        &mut self,
        phase: Phase,
        vocab: &Vocab,
        merge: &mut Merge<'_>,
    ) -> Result<(), DeviceError> {
        self.run(phase, 0..1, vocab, &mut [], merge)?;
        self.cross(merge)?;
        self.stage = Some(phase);
        Ok(())
    }

    /// Merges what a step reads, and notes what it will hold a part of.
    fn cross_before(
        &mut self,
        phase: Phase,
        step: usize,
        merge: &mut Merge<'_>,
    ) -> Result<(), DeviceError> {
        let plan = &self.kernel.plan;
        let of = &plan.steps(phase)[step];
        let folds = of.batch_folds(plan);
        let reads = |p: &BatchFold| of.reads(p.into) || p.scale.is_some_and(|s| of.reads(s));
        if self.parts.iter().any(reads) {
            self.cross(merge)?;
        }
        for fold in folds {
            if !self.parts.contains(&fold) {
                self.parts.push(fold);
            }
        }
        Ok(())
    }

    /// Merges every reduction of which this worker holds a part.
    fn cross(&mut self, merge: &mut Merge<'_>) -> Result<(), DeviceError> {
        let folds = std::mem::take(&mut self.parts);
        let Some(merge) = merge.as_mut().filter(|_| !folds.is_empty()) else { return Ok(()) };
        let read = |slot: SlotId| numbers(&self.kernel.memory, slot)[0];
        let part = |f: &BatchFold| match f.scale {
            Some(scale) => read(f.into) + Unary::Log.eval(read(scale)),
            None => read(f.into),
        };
        let mut parts: Vec<(ReduceOp, f64)> = folds.iter().map(|f| (f.op, part(f))).collect();
        merge(&mut parts)?;
        for (fold, (_, value)) in folds.iter().zip(parts) {
            // Of nothing the maximum is -inf and the scale 0.
            let scale = if value == f64::NEG_INFINITY { 0.0 } else { 1.0 };
            for (slot, value) in [(Some(fold.into), value), (fold.scale, scale)] {
                let memory = slot.map(|s| &mut self.kernel.memory[s.index()]);
                if let Some(Memory::Numbers(x)) = memory {
                    x.fill(value);
                }
            }
        }
        Ok(())
    }

    /// Rows are the batch's in the outer phases, else the piece level's.
    fn run(
        &mut self,
        phase: Phase,
        rows: Range<usize>,
        vocab: &Vocab,
        gradients: &mut [Gradient],
        merge: &mut Merge<'_>,
    ) -> Result<(), DeviceError> {
        let piece = if phase == Phase::Live { self.kernel.plan.piece } else { BATCH };
        let tokens = self.shape.range(piece, rows.clone(), TOKEN);
        let table = self.pointers(phase, tokens.clone(), vocab, gradients)?;
        for at in 0..self.kernel.plan.steps(phase).len() {
            if merge.is_some() {
                self.cross_before(phase, at, merge)?;
            }
            let Kernel { plan, memory, scratch, .. } = &mut *self.kernel;
            match &plan.steps(phase)[at] {
                Step::Loop(of) => {
                    let range = self.shape.range(piece, rows.clone(), of.level);
                    self.rows(phase, at, &table, range, tokens.start);
                }
                Step::Call(of) => {
                    let range = self.shape.range(piece, rows.clone(), of.level);
                    call(of, self.shape, range, memory, scratch);
                }
            }
        }
        Ok(())
    }

    /// Runs a loop over rows `range` of its level. `table` is that of [`Run::pointers`] for tokens from
    /// `base`, which hold these rows.
    fn rows(
        &mut self,
        phase: Phase,
        step: usize,
        table: &[*mut u8],
        range: Range<usize>,
        base: usize,
    ) {
        let Some(function) = self.kernel.code.function(phase, step) else { return };
        // SAFETY: the table has an entry for every slot of the plan. Own memory was sized for the whole
        // batch by `start`; the parent rows in it come from the same shape. `pointers` has checked the
        // caller's memory against the tokens from `base` on, which the loop takes vocab-level memory to
        // hold. Rows by number are checked by the code against the counts at the end of the table.
        unsafe { function.call(table, range, self.shape.vocab, base) }
    }

    /// The pointer table of one phase, with the caller's memory checked and put in.
    fn pointers(
        &mut self,
        phase: Phase,
        tokens: Range<usize>,
        vocab: &Vocab,
        gradients: &mut [Gradient],
    ) -> Result<Vec<*mut u8>, DeviceError> {
        let width = self.shape.vocab;
        let needed = tokens.len() * width;
        let Kernel { plan, code, sweeps, memory, floats, graph, .. } = &mut *self.kernel;
        let outside = code.outside(phase);
        let mut table = Vec::with_capacity(memory.len() + plan.levels.all().count());
        for ((id, slot), memory) in plan.all_slots().zip(memory) {
            let pointer = match memory {
                Memory::Numbers(x) => x.as_mut_ptr().cast(),
                Memory::Rows(x) => x.as_mut_ptr().cast(),
                Memory::Outside if !outside.contains(&id) => std::ptr::null_mut(),
                Memory::Outside => match slot.kind {
                    SlotKind::Entries(column) => {
                        let name = graph.column_path(column);
                        let Some(VocabRows { data, first }) = vocab.get(&column) else {
                            return Err(DeviceError::Missing(name));
                        };
                        let (given, compiled) = (float(*data), float_of(floats, column));
                        if given != compiled {
                            return Err(DeviceError::Type { name, given, compiled });
                        }
                        let end = (tokens.end.max(*first) - first) * width;
                        if tokens.start < *first || data.len() < end {
                            return Err(DeviceError::Length {
                                name,
                                given: data.len(),
                                needed: end,
                            });
                        }
                        pointer(data.slice((tokens.start - first) * width..end))
                    }
                    SlotKind::Gradient(column) => {
                        let name = format!("the gradient of {}", graph.column_path(column));
                        let Some(given) = gradients.iter_mut().find(|g| g.column == column) else {
                            return Err(DeviceError::Missing(name));
                        };
                        if given.data.len() != needed {
                            return Err(DeviceError::Length {
                                name,
                                given: given.data.len(),
                                needed,
                            });
                        }
                        given.data.as_mut_ptr().cast()
                    }
                    SlotKind::Column(_)
                    | SlotKind::Param(_)
                    | SlotKind::Side(_)
                    | SlotKind::Stored
                    | SlotKind::Folded(_)
                    | SlotKind::Carried(_)
                    | SlotKind::Parents(_)
                    | SlotKind::Starts(_)
                    | SlotKind::Scratch(_)
                    | SlotKind::Ring(_) => std::ptr::null_mut(),
                },
            };
            table.push(pointer);
        }
        table.extend(
            plan.levels.all().map(|l| std::ptr::without_provenance_mut(self.shape.count(l))),
        );
        table.extend(sweeps.iter_mut().map(|s| std::ptr::from_mut(s).cast::<u8>()));
        Ok(table)
    }
}

/// Runs a call over rows `range`.
fn call(
    of: &Call,
    shape: &Shape,
    range: Range<usize>,
    memory: &mut [Memory],
    scratch: &mut call::Scratch,
) {
    let mut out = match &mut memory[of.into.index()] {
        Memory::Numbers(out) => std::mem::take(out),
        Memory::Rows(_) | Memory::Outside => return,
    };
    let rows = call::Rows {
        range,
        starts: shape.starts(of.scope, of.level),
        filter: of.filter.map(|f| numbers(memory, f)),
        within: of.within.map(|w| numbers(memory, w)),
    };
    match of.task {
        Task::Rank { x } => call::rank(numbers(memory, x), &rows, &mut out, scratch),
        Task::Find { key, want } => {
            let (key, want) = (numbers(memory, key), numbers(memory, want));
            call::find(key, want, &rows, &mut out, scratch);
        }
        Task::Prefix { x } => {
            let rollouts = (of.level != ROLLOUT).then(|| shape.parents(ROLLOUT, of.level));
            call::prefix(numbers(memory, x), rollouts, &rows, &mut out, scratch);
        }
    }
    memory[of.into.index()] = Memory::Numbers(out);
}
