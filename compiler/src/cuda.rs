//! The live stage as CUDA C: one kernel per loop, and small ones that fold its rows into coarser levels.
//!
//! ```text
//! rows without a sweep    a thread each
//! rows with a sweep       a block each: its threads share the entries, and all of them run the scalar code
//! what goes row to row    a thread or block for each row of the scope, its rows in order
//! folds                   the loop leaves a number per row; a warp per coarse row adds them up, the batch in two steps
//! ```
//!
//! Values of rows are f64. Entries are computed in f32 where the logits have 32 bits or fewer, but for what a
//! row adds to them before they are compared (see [`sweep`]). No float atomics: every sum has one order, and
//! a run repeated gives the same bits. The text needs no header and is the same for NVRTC and for a C++ compiler
//! that has the shim.
//!
//! Knows no driver: what is launched with which arguments is data ([`Launch`]), for whoever owns a device.

mod fold;
mod kernel;
mod names;
mod scalar;
mod sweep;

use crate::clif::Float;
use crate::hir::ColumnId;
use crate::level::Level;
use crate::loops::{Plan, SlotId, SlotKind, Step};

/// What every module begins with.
const PRELUDE: &str = include_str!("cuda/prelude.cu");

/// Number types of vocab-level memory.
pub struct Types<'a> {
    /// Of a column's entries.
    pub entries: &'a dyn Fn(ColumnId) -> Float,
    /// Of a column's gradient; that of the entries where it is written over them.
    pub gradients: &'a dyn Fn(ColumnId) -> Float,
}

/// The kernels of a plan's live stage.
#[derive(Debug, Clone, PartialEq)]
pub struct Module {
    /// CUDA C.
    pub text: String,
    /// What is done for each step of [`Plan::live`], in order.
    pub steps: Vec<Work>,
}

impl Module {
    /// Every launch, in order.
    pub fn launches(&self) -> impl Iterator<Item = &Launch> {
        self.steps.iter().flat_map(|step| match step {
            Work::Launches(launches) => launches.as_slice(),
            Work::Host => &[],
        })
    }
}

/// What a step of the live stage is.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// Launches, one after the other.
    Launches(Vec<Launch>),
    /// A [`Step::Call`], which sorts or groups whole scopes: the host does it, between copies of what it reads
    /// and writes.
    Host,
}

/// One launch.
#[derive(Debug, Clone, PartialEq)]
pub struct Launch {
    /// The kernel.
    pub kernel: String,
    /// How many threads it wants.
    pub grid: Grid,
    /// Its parameters, each 8 bytes: a pointer or a whole number.
    pub args: Vec<Arg>,
}

/// How a kernel's work is shared out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grid {
    /// A thread for each row of a level that the piece has; blocks of any size.
    Threads(Level),
    /// A block for each such row. Fewer blocks take turns; threads in whole warps.
    Blocks(Level),
    /// A warp for each such row.
    Warps(Level),
    /// This many blocks.
    Fixed(u32),
}

/// A parameter of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arg {
    /// The memory of a slot: of the whole batch, of the piece's tokens at vocab level, and for scratch as
    /// much for each block.
    Slot(SlotId),
    /// Room for an f64 per row of this level, over the whole batch: what a loop leaves for its folds. Numbered
    /// within the step; not read after it.
    Part(u16, Level),
    /// Room for two f64 for each of [`PARTS`] blocks.
    Partials,
    /// The first row at the second level of each row of the first, as u32, and the end.
    Starts(Level, Level),
    /// The piece's first row of a level: of a coarser one, the first of which it has a part.
    Begin(Level),
    /// One past its last.
    End(Level),
    /// Rows of a level in the whole batch.
    Count(Level),
    /// Entries per token.
    Vocab,
    /// The token in the first row of vocab-level memory.
    Base,
}

/// Most threads of a block that shares a vocab row: what its kernels are compiled for, two on a multiprocessor, which
/// leaves each thread 128 registers.
pub const SHARING: u32 = 256;
/// Threads of every other block.
pub const ROWS: u32 = 128;

/// Blocks that share a fold into the batch. Part of the order of its sum.
pub const PARTS: u32 = 256;

/// The live stage of a plan.
pub fn emit(plan: &Plan, types: &Types) -> Module {
    let wide = plan.slots.iter().any(|s| match s.kind {
        SlotKind::Entries(c) => (types.entries)(c) == Float::F64,
        _ => false,
    });
    let real = if wide { "double" } else { "float" };
    let mut text = format!("typedef {real} real;\n{PRELUDE}");
    let steps = plan
        .live
        .iter()
        .map(|step| match step {
            Step::Loop(of) => Work::Launches(kernel::emit(plan, of, types, &mut text)),
            Step::Call(_) => Work::Host,
        })
        .collect();
    Module { text, steps }
}
