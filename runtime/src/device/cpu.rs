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
//! Never decides what is computed and never reads files. Loops over vocab rows share the threads of rayon's
//! pool; how they are cut, and so every bit, follows from the batch alone.

mod block;
mod cache;
mod call;
mod code;
mod cuts;
mod given;
mod row;
pub mod rows;
mod run;
mod source;
mod sweep;

use std::sync::Arc;

use cranelift_codegen::isa::TargetFrontendConfig;
use rlc_compiler::clif::Float;
use rlc_compiler::fuse::fuse;
use rlc_compiler::hir::{ColumnId, Graph};
use rlc_compiler::loops::{Loop, Plan, Slot, SlotId, SlotKind, Step};
use rlc_compiler::program::Program;
use rlc_compiler::shape::Shape;
use rlc_compiler::table::Floats;

use super::cuda::live::LiveStage;
use super::{DeviceError, float_of};
pub use cache::{compilations, forget};
use cuts::{Cuts, Threads};
pub use rlc_compiler::columns::Numbers;
pub use rows::Width;
pub use run::{Merge, Run};
pub(crate) use source::fit;
pub use source::{Computed, Room, Source, Sources};
pub use sweep::ROW_FROM;

/// What the code generator has to know of this machine, for printing IR as it will be compiled.
pub fn target() -> Result<TargetFrontendConfig, DeviceError> {
    Ok(code::isa()?.frontend_config())
}

/// A compiled program with its memory.
pub struct Kernel {
    plan: Plan,
    graph: Graph,
    floats: Vec<(ColumnId, Float)>,
    code: Arc<code::Code>,
    sweeps: Vec<sweep::SweepCode>,
    blocks: given::Blocks,
    readers: given::Readers,
    /// How each loop may be cut, in the order of phases and steps.
    cuts: [Vec<Option<Cuts>>; 3],
    threads: Threads,
    /// Kept for its memory.
    table: run::Table,
    memory: Vec<Memory>,
    scratch: call::Scratch,
    /// Runs the live stage instead of the loops here.
    live: Option<Box<dyn LiveStage>>,
}

/// The memory of one slot.
enum Memory {
    Numbers(Vec<f64>),
    /// The caller's column, for the length of a run, and room for a copy of it as f64.
    Given {
        lies: given::Lies,
        copy: Vec<f64>,
    },
    /// The shape's maps between levels.
    Rows,
    /// The caller's, for the length of one call.
    Outside,
}

impl Kernel {
    /// Compiles a program, or finds the code of the same one in this process. `floats` gives the number type of its vocab-level columns; f32 otherwise.
    pub fn new(program: &Program, floats: &[(ColumnId, Float)]) -> Result<Kernel, DeviceError> {
        let plan = fuse(program)?;
        let code = cache::code(&plan, &|c| float_of(floats, c))?;
        let memory = plan.slots.iter().map(Memory::new).collect();
        let lies = |slot: SlotId| match plan.slot(slot).kind {
            SlotKind::Entries(column) => (float_of(floats, column), false),
            // Scratch: one row, whatever the token.
            _ => (Float::F64, true),
        };
        let width = Width::widest();
        let of_loop = |of: &Loop| sweep::SweepCode::of_loop(of, &lies, width);
        let sweeps = plan.loops().flat_map(of_loop).collect();
        let (graph, floats) = (program.graph.clone(), floats.to_vec());
        let blocks = given::Blocks::new(&plan);
        let readers = given::Readers::new(&plan, &blocks);
        let mut at = 0;
        let cuts = plan.phases().map(|(_, steps)| {
            let of = |step: &Step| match step {
                Step::Loop(l) => {
                    let first = at;
                    at += l.sweeps().count();
                    Some(Cuts::new(&plan, l, first..at))
                }
                Step::Call(_) => None,
            };
            steps.iter().map(of).collect()
        });
        let (threads, scratch) = (Threads::default(), call::Scratch::default());
        let table = run::Table::default();
        Ok(Kernel {
            plan,
            graph,
            floats,
            code,
            sweeps,
            blocks,
            readers,
            cuts,
            threads,
            table,
            memory,
            scratch,
            live: None,
        })
    }

    /// Lets another device run the live stage; the recorded and the last one stay here.
    pub fn set_live(&mut self, live: Option<Box<dyn LiveStage>>) {
        self.live = live;
    }

    /// Computes vocab rows with other vector instructions than the widest of the machine; the numbers
    /// are the same bits.
    pub fn set_width(&mut self, width: Width) {
        self.sweeps.iter_mut().for_each(|s| s.set_width(width));
        self.blocks.all().for_each(|b| b.set_width(width));
        self.threads.forget();
    }

    /// Segments of fewer rows than this on average go row by row, not by blocks. 8 without this call: a block of few
    /// rows costs as much as one of eight.
    pub fn set_short(&mut self, rows: usize) {
        self.blocks.short = rows;
    }

    /// How many loops ran by blocks of rows in the batch that was started last.
    pub fn loops_by_blocks(&mut self) -> usize {
        self.blocks.all().filter(|b| b.is_on()).count()
    }

    /// How many vocab rows have gone through a row primitive, known by their form.
    pub fn rows_by_form(&self) -> u64 {
        let own: u64 = self.sweeps.iter().map(sweep::SweepCode::rows_by_form).sum();
        own + self.threads.rows_by_form()
    }

    /// The loops, for explanation.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Takes a batch. `columns` holds the columns that are not vocab level (more than needed does
    /// no harm), `params` a number per hyperparameter, in the order of the program. Columns are read
    /// where they lie, unless code needs them as f64 and they are something else.
    pub fn start<'k>(
        &'k mut self,
        shape: &'k Shape,
        columns: &[(ColumnId, &'k [f64])],
        params: &[f64],
    ) -> Result<Run<'k>, DeviceError> {
        self.take(shape, columns, params)
    }

    /// [`Kernel::start`] with columns of any type.
    pub fn start_with<'k>(
        &'k mut self,
        shape: &'k Shape,
        columns: &[(ColumnId, Numbers<'k>)],
        params: &[f64],
    ) -> Result<Run<'k>, DeviceError> {
        self.take(shape, columns, params)
    }

    fn take<'k, N: Copy + Into<Numbers<'k>>>(
        &'k mut self,
        shape: &'k Shape,
        columns: &[(ColumnId, N)],
        params: &[f64],
    ) -> Result<Run<'k>, DeviceError> {
        self.blocks.choose(shape, self.live.is_none());
        for (n, (slot, memory)) in self.plan.slots.iter().zip(&mut self.memory).enumerate() {
            let rows = shape.count(slot.level);
            match (slot.kind, memory) {
                (SlotKind::Column(c), memory) => {
                    let name = || self.graph.column_path(c);
                    let Some((_, from)) = columns.iter().find(|(id, _)| *id == c) else {
                        return Err(DeviceError::Missing(name()));
                    };
                    let from: Numbers<'k> = (*from).into();
                    if from.len() != rows {
                        let (name, given) = (name(), from.len());
                        return Err(DeviceError::Length { name, given, needed: rows });
                    }
                    given::put(
                        from,
                        memory,
                        self.live.is_none() && self.readers.in_place(n, &self.blocks),
                    );
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
                // Read from the shape itself.
                (SlotKind::Parents(coarse), Memory::Rows) => {
                    same_length(slot, shape.parents(coarse, slot.level).len(), rows)?;
                }
                (SlotKind::Starts(fine), Memory::Rows) => {
                    same_length(slot, shape.starts(slot.level, fine).len(), rows + 1)?;
                }
                (
                    SlotKind::Param(_)
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
        let memory = &self.memory;
        for block in self.blocks.all().filter(|b| b.is_on()) {
            block.prepare(&|slot| given::element(memory, slot))?;
        }
        Ok(Run::new(self, shape))
    }
}

fn same_length(slot: &Slot, given: usize, needed: usize) -> Result<(), DeviceError> {
    if given == needed {
        return Ok(());
    }
    Err(DeviceError::Length { name: slot.name.clone(), given, needed })
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
            SlotKind::Parents(_) | SlotKind::Starts(_) => Memory::Rows,
            SlotKind::Entries(_) | SlotKind::Gradient(_) => Memory::Outside,
        }
    }
}

fn numbers(memory: &[Memory], slot: SlotId) -> &[f64] {
    match &memory[slot.index()] {
        Memory::Numbers(x) => x,
        // SAFETY: only runs read memory.
        Memory::Given { lies, .. } => unsafe { lies.numbers() },
        Memory::Rows | Memory::Outside => &[],
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
