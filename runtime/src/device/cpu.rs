//! Compiled loops on the CPU: the JIT loader, the buffers, and the order in which loops run.
//!
//! ```text
//! Kernel::new     compile once per program and number type of its vocab-level columns
//! kernel.start    give a batch: its shape, columns and params
//! run.recorded    once
//! run.live        for each piece: vocab columns of its tokens in, their gradients out
//! run.after       once; then the values can be read
//! ```
//!
//! Never decides what is computed, never reads files, never starts threads.

mod call;
mod code;
mod row;
pub mod rows;
mod sweep;

use std::collections::BTreeMap;
use std::ops::Range;

use cranelift_codegen::isa::TargetFrontendConfig;
use rlc_compiler::clif::Float;
use rlc_compiler::fuse::fuse;
use rlc_compiler::hir::{ColumnId, E, Graph, ReduceOp};
use rlc_compiler::interp::VocabRows;
use rlc_compiler::level::{BATCH, ROLLOUT, TOKEN};
use rlc_compiler::loops::{BatchFold, Call, Item, Loop, Plan, Slot, SlotId, SlotKind, Step, Task};
use rlc_compiler::op::Unary;
use rlc_compiler::program::{Phase, Program};
use rlc_compiler::shape::Shape;
use rlc_compiler::table::Floats;

use super::{DeviceError, Gradient};
pub use rows::Width;
pub use sweep::ROW_FROM;

/// Vocab-level columns, each with at least the tokens of the rows that run.
type Vocab<'a> = BTreeMap<ColumnId, VocabRows<'a>>;

/// What the code generator has to know of this machine, for printing IR as it will be compiled.
pub fn target() -> Result<TargetFrontendConfig, DeviceError> {
    Ok(code::isa()?.frontend_config())
}

/// A compiled program with its memory.
pub struct Kernel {
    plan: Plan,
    graph: Graph,
    floats: Vec<(ColumnId, Float)>,
    code: code::Code,
    sweeps: Vec<sweep::SweepCode>,
    memory: Vec<Memory>,
    scratch: call::Scratch,
}

/// The memory of one slot.
enum Memory {
    Numbers(Vec<f64>),
    Rows(Vec<u32>),
    /// The caller's, for the length of one call.
    Outside,
}

impl Kernel {
    /// Compiles a program. `floats` gives the number type of its vocab-level columns; f32 otherwise.
    pub fn new(program: &Program, floats: &[(ColumnId, Float)]) -> Result<Kernel, DeviceError> {
        let plan = fuse(program)?;
        let code = code::Code::new(&plan, &|c| float_of(floats, c))?;
        let memory = plan.slots.iter().map(Memory::new).collect();
        let lies = |slot: SlotId| match plan.slot(slot).kind {
            SlotKind::Entries(column) => (float_of(floats, column), false),
            // Scratch: one row, whatever the token.
            _ => (Float::F64, true),
        };
        let width = Width::widest();
        let sweeps = plan.loops().flat_map(Loop::sweeps);
        let sweeps = sweeps.map(|s| sweep::SweepCode::new(s, &lies, width)).collect();
        let (graph, floats) = (program.graph.clone(), floats.to_vec());
        let scratch = call::Scratch::default();
        Ok(Kernel { plan, graph, floats, code, sweeps, memory, scratch })
    }

    /// Computes vocab rows with other vector instructions than the widest of the machine; the numbers
    /// are the same bits.
    pub fn set_width(&mut self, width: Width) {
        self.sweeps.iter_mut().for_each(|s| s.set_width(width));
    }

    /// How many vocab rows have gone through a row primitive, known by their form.
    pub fn rows_by_form(&self) -> u64 {
        self.sweeps.iter().map(sweep::SweepCode::rows_by_form).sum()
    }

    /// The loops, for explanation.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Takes a batch. `columns` holds the columns that are not vocab level (more than needed does
    /// no harm), `params` a number per hyperparameter, in the order of the program.
    pub fn start<'k>(
        &'k mut self,
        shape: &'k Shape,
        columns: &[(ColumnId, &[f64])],
        params: &[f64],
    ) -> Result<Run<'k>, DeviceError> {
        for (slot, memory) in self.plan.slots.iter().zip(&mut self.memory) {
            let rows = shape.count(slot.level);
            match (slot.kind, memory) {
                (SlotKind::Column(c), Memory::Numbers(into)) => {
                    let name = self.graph.column_path(c);
                    let Some((_, from)) = columns.iter().find(|(id, _)| *id == c) else {
                        return Err(DeviceError::Missing(name));
                    };
                    if from.len() != rows {
                        return Err(DeviceError::Length { name, given: from.len(), needed: rows });
                    }
                    into.clear();
                    into.extend_from_slice(from);
                }
                (SlotKind::Param(p), Memory::Numbers(into)) => {
                    let Some(&value) = params.get(p.0 as usize) else {
                        return Err(DeviceError::Missing(format!("param {}", slot.name)));
                    };
                    into.clear();
                    into.push(value);
                }
                (SlotKind::Stored, Memory::Numbers(into)) => into.resize(rows, 0.0),
                (SlotKind::Folded(_), Memory::Numbers(into)) => into.resize(rows, 0.0),
                (SlotKind::Carried(numbers), Memory::Numbers(into)) => {
                    into.resize(rows * numbers, 0.0);
                }
                (SlotKind::Ring(length), Memory::Numbers(into)) => into.resize(length, 0.0),
                (SlotKind::Scratch(numbers), Memory::Numbers(into)) => {
                    into.resize(numbers * shape.vocab, 0.0);
                }
                (SlotKind::Side(right), Memory::Numbers(into)) => {
                    into.clear();
                    into.extend(shape.side(slot.level, right).iter().map(|&r| f64::from(r)));
                    same_length(slot, into.len(), rows)?;
                }
                (SlotKind::Parents(coarse), Memory::Rows(into)) => {
                    into.clear();
                    into.extend_from_slice(shape.parents(coarse, slot.level));
                    same_length(slot, into.len(), rows)?;
                }
                (SlotKind::Starts(fine), Memory::Rows(into)) => {
                    into.clear();
                    into.extend_from_slice(shape.starts(slot.level, fine));
                    same_length(slot, into.len(), rows + 1)?;
                }
                (
                    SlotKind::Column(_)
                    | SlotKind::Param(_)
                    | SlotKind::Side(_)
                    | SlotKind::Stored
                    | SlotKind::Folded(_)
                    | SlotKind::Carried(_)
                    | SlotKind::Ring(_)
                    | SlotKind::Scratch(_)
                    | SlotKind::Parents(_)
                    | SlotKind::Starts(_)
                    | SlotKind::Entries(_)
                    | SlotKind::Gradient(_),
                    _,
                ) => {}
            }
        }
        let mut run = Run { kernel: self, shape, stage: None, parts: Vec::new() };
        run.clear(Phase::Recorded);
        run.restart();
        Ok(run)
    }
}

fn same_length(slot: &Slot, given: usize, needed: usize) -> Result<(), DeviceError> {
    if given == needed {
        return Ok(());
    }
    Err(DeviceError::Length { name: slot.name.clone(), given, needed })
}

fn float_of(floats: &[(ColumnId, Float)], column: ColumnId) -> Float {
    floats.iter().find(|(c, _)| *c == column).map_or(Float::F32, |(_, f)| *f)
}

impl Memory {
    fn new(slot: &Slot) -> Memory {
        match slot.kind {
            SlotKind::Column(_)
            | SlotKind::Param(_)
            | SlotKind::Side(_)
            | SlotKind::Stored
            | SlotKind::Folded(_)
            | SlotKind::Carried(_)
            | SlotKind::Ring(_)
            | SlotKind::Scratch(_) => Memory::Numbers(Vec::new()),
            SlotKind::Parents(_) | SlotKind::Starts(_) => Memory::Rows(Vec::new()),
            SlotKind::Entries(_) | SlotKind::Gradient(_) => Memory::Outside,
        }
    }
}

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

impl Run<'_> {
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
            let Kernel { plan, code, memory, scratch, .. } = &mut *self.kernel;
            let step = &plan.steps(phase)[at];
            match step {
                Step::Loop(of) => {
                    let range = self.shape.range(piece, rows.clone(), of.level);
                    let Some(function) = code.function(phase, at) else { continue };
                    // SAFETY: the table has an entry for every slot of the plan. Own memory was
                    // sized for the whole batch by `start`; the parent rows in it come from the
                    // same shape. `pointers` has checked the caller's memory against `tokens`, the
                    // rows that the loop takes vocab-level memory to hold. Rows by number are
                    // checked by the code against the counts at the end of the table.
                    unsafe {
                        function.call(&table, range, self.shape.vocab, tokens.start);
                    }
                }
                Step::Call(of) => {
                    let range = self.shape.range(piece, rows.clone(), of.level);
                    call(of, self.shape, range, memory, scratch);
                }
            }
        }
        Ok(())
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

fn numbers(memory: &[Memory], slot: SlotId) -> &[f64] {
    match &memory[slot.index()] {
        Memory::Numbers(x) => x,
        Memory::Rows(_) | Memory::Outside => &[],
    }
}

/// The number type of what was given.
pub fn float(data: Floats) -> Float {
    match data {
        Floats::F32(_) => Float::F32,
        Floats::F64(_) => Float::F64,
        Floats::Bf16(_) => Float::Bf16,
        Floats::F16(_) => Float::F16,
    }
}

/// Where the numbers lie; compiled code only reads them.
fn pointer(data: Floats) -> *mut u8 {
    match data {
        Floats::F32(x) => x.as_ptr().cast::<u8>().cast_mut(),
        Floats::F64(x) => x.as_ptr().cast::<u8>().cast_mut(),
        Floats::Bf16(x) | Floats::F16(x) => x.as_ptr().cast::<u8>().cast_mut(),
    }
}
