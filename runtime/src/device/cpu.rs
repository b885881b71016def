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

mod code;
mod rank;
pub mod rows;

use std::collections::BTreeMap;
use std::ops::Range;

use cranelift_codegen::isa::TargetFrontendConfig;
use rlc_compiler::clif::Float;
use rlc_compiler::fuse::fuse;
use rlc_compiler::hir::{ColumnId, E, Graph};
use rlc_compiler::interp::VocabRows;
use rlc_compiler::level::{BATCH, TOKEN};
use rlc_compiler::loops::{Item, Loop, Plan, Slot, SlotId, SlotKind, Step};
use rlc_compiler::program::{Phase, Program};
use rlc_compiler::shape::Shape;
use rlc_compiler::table::Floats;

use super::{DeviceError, Gradient};

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
    memory: Vec<Memory>,
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
        Ok(Kernel { plan, graph: program.graph.clone(), floats: floats.to_vec(), code, memory })
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
                (SlotKind::Ring(length), Memory::Numbers(into)) => into.resize(length, 0.0),
                (SlotKind::Parents(coarse), Memory::Rows(into)) => {
                    into.clear();
                    into.extend_from_slice(shape.parents(coarse, slot.level));
                    if into.len() != rows {
                        return Err(DeviceError::Length {
                            name: slot.name.clone(),
                            given: into.len(),
                            needed: rows,
                        });
                    }
                }
                (
                    SlotKind::Column(_)
                    | SlotKind::Param(_)
                    | SlotKind::Stored
                    | SlotKind::Folded(_)
                    | SlotKind::Ring(_)
                    | SlotKind::Parents(_)
                    | SlotKind::Entries(_)
                    | SlotKind::Gradient(_),
                    _,
                ) => {}
            }
        }
        let mut run = Run { kernel: self, shape, stage: None };
        run.clear(Phase::Recorded);
        run.restart();
        Ok(run)
    }
}

fn float_of(floats: &[(ColumnId, Float)], column: ColumnId) -> Float {
    floats.iter().find(|(c, _)| *c == column).map_or(Float::F32, |(_, f)| *f)
}

impl Memory {
    fn new(slot: &Slot) -> Memory {
        match slot.kind {
            SlotKind::Column(_)
            | SlotKind::Param(_)
            | SlotKind::Stored
            | SlotKind::Folded(_)
            | SlotKind::Ring(_) => Memory::Numbers(Vec::new()),
            SlotKind::Parents(_) => Memory::Rows(Vec::new()),
            SlotKind::Entries(_) | SlotKind::Gradient(_) => Memory::Outside,
        }
    }
}

/// One batch on its way through a kernel.
pub struct Run<'k> {
    kernel: &'k mut Kernel,
    shape: &'k Shape,
    /// The last phase that has run.
    stage: Option<Phase>,
}

impl Run<'_> {
    /// Computes what follows from the recorded batch alone. `vocab` has the recorded vocab-level
    /// columns of all tokens, those that the recorded phase reads.
    pub fn recorded(&mut self, vocab: &Vocab) -> Result<(), DeviceError> {
        self.whole(Phase::Recorded, vocab)
    }

    /// Forgets what live pieces have added up, to run them anew: for the next optimiser step.
    pub fn restart(&mut self) {
        self.clear(Phase::Live);
        self.clear(Phase::After);
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
        if self.stage.is_none() {
            return Err(DeviceError::Order("the recorded phase comes before the first piece"));
        }
        let piece = self.kernel.plan.piece;
        if rows.start > rows.end || rows.end > self.shape.count(piece) {
            return Err(DeviceError::Order("a piece reaches beyond the batch"));
        }
        self.stage = Some(Phase::Live);
        self.run(Phase::Live, rows, vocab, gradients)
    }

    /// Computes what needs all pieces. `vocab` as for [`Run::recorded`]; programs rarely need any.
    pub fn after(&mut self, vocab: &Vocab) -> Result<(), DeviceError> {
        if self.stage.is_none() {
            return Err(DeviceError::Order("the recorded phase comes before the last"));
        }
        self.whole(Phase::After, vocab)
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
                let Item::Fold { into, scale, .. } = item else { continue };
                for slot in std::iter::once(*into).chain(*scale) {
                    if let SlotKind::Folded(first) = self.kernel.plan.slot(slot).kind
                        && let Memory::Numbers(x) = &mut self.kernel.memory[slot.index()]
                    {
                        x.fill(first);
                    }
                }
            }
        }
    }

    fn whole(&mut self, phase: Phase, vocab: &Vocab) -> Result<(), DeviceError> {
        self.run(phase, 0..1, vocab, &mut [])?;
        self.stage = Some(phase);
        Ok(())
    }

    /// Rows are the batch's in the outer phases, else the piece level's.
    fn run(
        &mut self,
        phase: Phase,
        rows: Range<usize>,
        vocab: &Vocab,
        gradients: &mut [Gradient],
    ) -> Result<(), DeviceError> {
        let piece = if phase == Phase::Live { self.kernel.plan.piece } else { BATCH };
        let tokens = self.shape.range(piece, rows.clone(), TOKEN);
        let table = self.pointers(phase, tokens.clone(), vocab, gradients)?;
        let Kernel { plan, code, memory, .. } = &mut *self.kernel;
        let mut functions = code.functions(phase).iter();
        for step in plan.steps(phase) {
            match step {
                Step::Loop(of) => {
                    let range = self.shape.range(piece, rows.clone(), of.level);
                    let Some(function) = functions.next() else { continue };
                    // SAFETY: the table has an entry for every slot of the plan. Own memory was
                    // sized for the whole batch by `start`; the parent rows in it come from the
                    // same shape. `pointers` has checked the caller's memory against `tokens`, the
                    // rows that the loop takes vocab-level memory to hold.
                    unsafe {
                        function.call(&table, range, self.shape.vocab, tokens.start);
                    }
                }
                Step::Rank(of) => {
                    let range = self.shape.range(piece, rows.clone(), of.level);
                    let starts = self.shape.starts(of.scope, of.level);
                    let mut out = match &mut memory[of.into.index()] {
                        Memory::Numbers(out) => std::mem::take(out),
                        Memory::Rows(_) | Memory::Outside => continue,
                    };
                    let x = numbers(memory, of.x);
                    let filter = of.filter.map(|f| numbers(memory, f));
                    rank::rank(x, filter, starts, range, &mut out);
                    memory[of.into.index()] = Memory::Numbers(out);
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
        let Kernel { plan, code, memory, floats, graph } = &mut *self.kernel;
        let outside = code.outside(phase);
        let mut table = Vec::with_capacity(memory.len());
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
                    | SlotKind::Stored
                    | SlotKind::Folded(_)
                    | SlotKind::Parents(_)
                    | SlotKind::Ring(_) => std::ptr::null_mut(),
                },
            };
            table.push(pointer);
        }
        Ok(table)
    }
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
