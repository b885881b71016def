//! A batch on its way through a kernel: phases in order, loops over the rows of a piece, reductions that
//! cross between workers.

mod away;
mod chunks;

use std::ops::Range;

use rlc_compiler::clif::Float;
use rlc_compiler::hir::{ColumnId, E, ReduceOp};
use rlc_compiler::interp::{Vocab, VocabRows};
use rlc_compiler::level::{BATCH, ROLLOUT, TOKEN};
use rlc_compiler::loops::{BatchFold, Call, Item, Loop, SlotId, SlotKind, Step, Task};
use rlc_compiler::op::Unary;
use rlc_compiler::program::Phase;
use rlc_compiler::shape::Shape;

use super::cuts::Work;
use super::given::element;
use super::source::{Buffer, Room, Sources};
use super::{Kernel, Memory, call, float, numbers, pointer};
use crate::device::{DeviceError, Gradient, Resident, float_of};

/// Puts what all workers' parts of some reductions to the batch come to in place of this worker's;
/// none for a worker that holds the whole batch.
pub type Merge<'m> = Option<&'m mut dyn FnMut(&mut [(ReduceOp, f64)]) -> Result<(), DeviceError>>;

const NOT_IN_PLACE: &str = "a gradient takes the place of entries that are read after it";

/// One batch on its way through a kernel.
pub struct Run<'k> {
    kernel: &'k mut Kernel,
    shape: &'k Shape,
    /// The last phase that has run.
    stage: Option<Phase>,
    /// Reductions to the batch that hold this worker's part only.
    parts: Vec<BatchFold>,
    /// Another device has taken the batch over, and what it has written is not here yet.
    away: bool,
    /// Columns of the present piece that lie there.
    resident: Vec<(ColumnId, Resident)>,
}

impl<'k> Run<'k> {
    /// A batch whose columns are in the kernel's memory.
    pub(super) fn new(kernel: &'k mut Kernel, shape: &'k Shape) -> Run<'k> {
        let mut run = Run {
            kernel,
            shape,
            stage: None,
            parts: Vec::new(),
            away: false,
            resident: Vec::new(),
        };
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
        self.away = false;
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
        let mut room = Room::default();
        let mut sources = Sources { each: &mut [], over: None, room: &mut room, tokens: 1 };
        self.live_from(rows, vocab, gradients, &mut sources, merge)
    }

    /// [`Run::live_among`] with vocab-level columns that are computed some tokens at a time. A loop that
    /// reads one of them, or writes its gradient, runs in chunks of tokens: entries in, then the loop, then
    /// the gradient out. So the entries are computed once for each such loop ([`Run::passes`]), but
    /// those of a piece that fits one chunk only once.
    pub fn live_from(
        &mut self,
        rows: Range<usize>,
        vocab: &Vocab,
        gradients: &mut [Gradient],
        sources: &mut Sources<'_, '_>,
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
        self.run(Phase::Live, rows, vocab, gradients, sources, merge)
    }

    /// Rows of entries and of gradients that a token of a computed column takes in a [`Room`].
    pub fn rows_per_token(&self, column: ColumnId) -> usize {
        let plan = &self.kernel.plan;
        let kinds = [SlotKind::Entries(column), SlotKind::Gradient(column)];
        let touched = |kind: &&SlotKind| {
            let mut slots = self.kernel.code.outside(Phase::Live).iter().flatten();
            slots.any(|slot| plan.slot(*slot).kind == **kind)
        };
        let rows = kinds.iter().filter(touched).count();
        if plan.in_place(column) { rows.min(1) } else { rows }
    }

    /// Whether the gradient of a vocab-level column may take the place of its entries.
    pub fn in_place(&self, column: ColumnId) -> bool {
        self.kernel.plan.in_place(column)
    }

    /// How many loops over each piece read entries of a vocab-level column or write its gradient.
    pub fn passes(&self, column: ColumnId) -> usize {
        let of = |slot: &SlotId| self.kernel.plan.slot(*slot).kind;
        let its =
            |slot| of(slot) == SlotKind::Entries(column) || of(slot) == SlotKind::Gradient(column);
        self.kernel.code.outside(Phase::Live).iter().filter(|slots| slots.iter().any(its)).count()
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
        self.bring_back()?;
        // What the pieces have added up crosses first.
        self.cross(merge)?;
        self.whole(Phase::After, vocab, merge)
    }

    /// Values of an output of the program, one per row of its level. None for gradients at vocab
    /// level, which lie in the caller's memory, and for what is no output.
    pub fn value(&self, e: E) -> Option<&[f64]> {
        let output = self.kernel.plan.outputs.iter().find(|o| o.expr == e)?;
        match &self.kernel.memory[output.slot.index()] {
            Memory::Numbers(_) | Memory::Given { .. } => {
                Some(numbers(&self.kernel.memory, output.slot))
            }
            Memory::Rows | Memory::Outside => None,
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
        let mut room = Room::default();
        let mut sources = Sources { each: &mut [], over: None, room: &mut room, tokens: 1 };
        self.run(phase, 0..1, vocab, &mut [], &mut sources, merge)?;
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
        sources: &mut Sources<'_, '_>,
        merge: &mut Merge<'_>,
    ) -> Result<(), DeviceError> {
        let piece = if phase == Phase::Live { self.kernel.plan.piece } else { BATCH };
        let tokens = self.shape.range(piece, rows.clone(), TOKEN);
        let mut table = self.pointers(phase, tokens.clone(), vocab, gradients, sources)?;
        if phase == Phase::Live && self.kernel.live.is_some() {
            if merge.is_some() || !sources.each.is_empty() {
                return Err(DeviceError::Order(
                    "the GPU runs whole batches from logits: one worker, no hidden states",
                ));
            }
            let over = sources.over.as_ref().map(|g| g.column);
            let done = self.on_device(rows, &table.all, over);
            self.kernel.table = table;
            return done;
        }
        for at in 0..self.kernel.plan.steps(phase).len() {
            if merge.is_some() {
                self.cross_before(phase, at, merge)?;
            }
            let computes = self.computes(phase, at, sources);
            let Kernel { plan, memory, scratch, .. } = &mut *self.kernel;
            match &plan.steps(phase)[at] {
                Step::Loop(of) if computes => {
                    let level = of.level;
                    self.in_chunks(phase, at, &mut table, (level, tokens.clone()), sources);
                }
                Step::Loop(of) => {
                    let range = self.shape.range(piece, rows.clone(), of.level);
                    table.begin_at(0);
                    self.rows(phase, at, &table, range, tokens.start);
                }
                Step::Call(of) => {
                    let range = self.shape.range(piece, rows.clone(), of.level);
                    call(of, self.shape, range, memory, scratch);
                }
            }
        }
        self.kernel.table = table;
        Ok(())
    }

    /// Runs a loop over rows `range` of its level. `table` is that of [`Run::pointers`] for tokens from
    /// `base`, which hold these rows.
    fn rows(&mut self, phase: Phase, step: usize, table: &Table, range: Range<usize>, base: usize) {
        let Kernel { plan, code, sweeps, blocks, cuts, threads, memory, .. } = &mut *self.kernel;
        if let Some(block) = blocks.of(phase, step) {
            let element = |slot| element(memory, slot);
            // SAFETY: as below; the table's entries are of the types that memory has.
            return unsafe { block.run(&table.all, &element, self.shape, range) };
        }
        let Some(function) = code.function(phase, step) else { return };
        let sweeps_at = plan.slots.len() + plan.levels.all().count();
        let shape = self.shape;
        // SAFETY: the table has an entry for every slot of the plan. Own memory was sized for the whole
        // batch by `start`; the parent rows in it come from the same shape. `pointers` has checked the
        // caller's memory against the tokens from `base` on, which the loop takes vocab-level memory to
        // hold, and `in_chunks` has made room for those that it computes. Rows by number are checked by
        // the code against the counts at the end of the table.
        unsafe {
            let table = table.all.as_slice();
            if let Some(cuts) = &cuts[phase as usize][step] {
                let work = Work { cuts, function, shape, table, sweeps_at, base };
                if threads.run(&work, &range, memory, sweeps) {
                    return;
                }
            }
            function.call(table, range, shape.vocab, base);
        }
    }

    /// The pointer table of one phase, with the caller's memory checked and put in. What is computed has
    /// room made for it, but its pointers are put in chunk by chunk.
    fn pointers(
        &mut self,
        phase: Phase,
        tokens: Range<usize>,
        vocab: &Vocab,
        gradients: &mut [Gradient],
        sources: &mut Sources<'_, '_>,
    ) -> Result<Table, DeviceError> {
        let width = self.shape.vocab;
        let needed = tokens.len() * width;
        sources.room.buffers.resize_with(sources.each.len(), Buffer::default);
        sources.room.buffers.iter_mut().for_each(|b| b.held = None);
        let over = sources.over.as_mut();
        let over = over.map(|g| (g.column, g.data.len(), g.data.pointer(), g.data.float()));
        let resident = &self.resident;
        // Whoever computes them, or the device, has a place of its own for them.
        let computed = |column| {
            sources.each.iter().any(|s| s.column == column)
                || resident.iter().any(|r| r.0 == column)
        };
        let Kernel { plan, code, sweeps, memory, floats, graph, table, threads, live, .. } =
            &mut *self.kernel;
        let outside = code.outside(phase);
        let mut table = std::mem::take(table);
        table.clear();
        let long = |name: &dyn Fn() -> String, given: usize| {
            if given == needed {
                return Ok(());
            }
            Err(DeviceError::Length { name: name(), given, needed })
        };
        if over.is_some_and(|o| !plan.in_place(o.0)) {
            return Err(DeviceError::Order(NOT_IN_PLACE));
        }
        let (mut changed, mut narrow) = (false, false);
        let mut of_type = |slot: SlotId, float: Float, rows: usize| {
            narrow |= float != Float::F32;
            for sweep in sweeps.iter_mut() {
                changed |= sweep.set_gradient(slot, float, rows * width * float.bytes());
            }
        };
        for ((id, slot), memory) in plan.all_slots().zip(memory) {
            let pointer = match memory {
                Memory::Numbers(x) => x.as_mut_ptr().cast(),
                // Nothing writes to columns.
                Memory::Given { lies, .. } => lies.data.cast_mut(),
                Memory::Rows => match slot.kind {
                    SlotKind::Parents(coarse) => pointer_to(self.shape.parents(coarse, slot.level)),
                    SlotKind::Starts(fine) => pointer_to(self.shape.starts(slot.level, fine)),
                    _ => std::ptr::null_mut(),
                },
                Memory::Outside if !outside.iter().any(|s| s.contains(&id)) => std::ptr::null_mut(),
                Memory::Outside => match slot.kind {
                    SlotKind::Entries(column) => {
                        let name = || graph.column_path(column);
                        let compiled = float_of(floats, column);
                        let is = |given| {
                            if given == compiled {
                                return Ok(());
                            }
                            Err(DeviceError::Type { name: name(), given, compiled })
                        };
                        if computed(column) {
                            if !resident.iter().any(|r| r.0 == column) {
                                is(Float::F32)?;
                            }
                            table.all.push(std::ptr::null_mut());
                            continue;
                        }
                        if let Some((_, given, at, float)) = over.filter(|o| o.0 == column) {
                            is(float)?;
                            long(&name, given)?;
                            table.all.push(at);
                            table.moving.push((id, at, width * float.bytes()));
                            continue;
                        }
                        let Some(VocabRows { data, first }) = vocab.get(&column) else {
                            return Err(DeviceError::Missing(name()));
                        };
                        is(float(*data))?;
                        let end = (tokens.end.max(*first) - first) * width;
                        if tokens.start < *first || data.len() < end {
                            return Err(DeviceError::Length {
                                name: name(),
                                given: data.len(),
                                needed: end,
                            });
                        }
                        let at = pointer(data.slice((tokens.start - first) * width..end));
                        table.moving.push((id, at, width * compiled.bytes()));
                        at
                    }
                    SlotKind::Gradient(column) if computed(column) => {
                        // Read after each chunk.
                        of_type(id, Float::F32, 0);
                        std::ptr::null_mut()
                    }
                    SlotKind::Gradient(column) => {
                        let name = || format!("the gradient of {}", graph.column_path(column));
                        let (at, float) = match over.filter(|o| o.0 == column) {
                            Some((_, given, at, float)) => {
                                long(&name, given)?;
                                (at, float)
                            }
                            None => {
                                let given = gradients.iter_mut().find(|g| g.column == column);
                                let given = given.ok_or_else(|| DeviceError::Missing(name()))?;
                                long(&name, given.data.len())?;
                                (given.data.pointer(), given.data.float())
                            }
                        };
                        // Mostly a part of the batch's gradient, which no cache keeps until it is read.
                        of_type(id, float, self.shape.count(TOKEN));
                        table.moving.push((id, at, width * float.bytes()));
                        at
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
            table.all.push(pointer);
        }
        if changed {
            threads.forget();
        }
        if narrow && live.is_some() {
            return Err(DeviceError::Order("the GPU writes gradients of f32"));
        }
        let counts =
            plan.levels.all().map(|l| std::ptr::without_provenance_mut(self.shape.count(l)));
        table.all.extend(counts);
        table.all.extend(sweeps.iter_mut().map(|s| std::ptr::from_mut(s).cast::<u8>()));
        Ok(table)
    }
}

/// Where rows lie; compiled code only reads them.
fn pointer_to(rows: &[u32]) -> *mut u8 {
    rows.as_ptr().cast_mut().cast()
}

/// What compiled code is called with.
#[derive(Default)]
pub(super) struct Table {
    /// An entry per slot, then the rows of each level, then the code of each sweep.
    all: Vec<*mut u8>,
    /// The caller's rows: slot, those of the piece's first token, bytes of a row.
    moving: Vec<(SlotId, *mut u8, usize)>,
}

// SAFETY: between runs the pointers are not used; each run begins with new ones.
unsafe impl Send for Table {}

impl Table {
    fn clear(&mut self) {
        self.all.clear();
        self.moving.clear();
    }

    /// Lets the caller's rows begin with the n-th token of the piece.
    fn begin_at(&mut self, n: usize) {
        for &(slot, at, bytes) in &self.moving {
            self.all[slot.index()] = at.wrapping_add(n * bytes);
        }
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
        Memory::Given { .. } | Memory::Rows | Memory::Outside => return,
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
