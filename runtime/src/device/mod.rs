//! Devices: they load compiled loops, own their memory and run them. All `unsafe` of the project is
//! in this folder; what it offers outside is safe, because lengths are checked before code runs.

pub mod cpu;
pub mod cuda;

use rlc_compiler::clif::Float;
use rlc_compiler::fuse::Unsupported;
use rlc_compiler::hir::ColumnId;
use thiserror::Error;

/// The number type of a vocab-level column: f32 unless it is listed.
pub fn float_of(floats: &[(ColumnId, Float)], column: ColumnId) -> Float {
    floats.iter().find(|(c, _)| *c == column).map_or(Float::F32, |(_, f)| *f)
}

/// Why a program cannot be compiled or run.
#[derive(Debug, Clone, Error)]
pub enum DeviceError {
    /// This device cannot run the program.
    #[error("{0}")]
    Unsupported(#[from] Unsupported),
    /// The code generator failed; a fault of the compiler.
    #[error("the program could not be compiled to machine code: {0}")]
    Compile(String),
    /// A column the program reads was not given.
    #[error("the program reads `{0}`, which was not given")]
    Missing(String),
    /// A column or gradient has another length than the batch needs.
    #[error("`{name}` has {given} numbers, but its rows in this batch are {needed}")]
    Length {
        /// Name of the column.
        name: String,
        /// As given.
        given: usize,
        /// As needed.
        needed: usize,
    },
    /// A vocab-level column has another number type than the kernel was compiled for.
    #[error("`{name}` is given as {given:?}, but the kernel was compiled for {compiled:?}")]
    Type {
        /// Name of the column.
        name: String,
        /// As given.
        given: Float,
        /// As compiled.
        compiled: Float,
    },
    /// Workers could not share what crosses.
    #[error("{0}")]
    Workers(String),
    /// The GPU, its driver or its compiler: what failed, and what to do.
    #[error("{0}")]
    Cuda(String),
    /// A phase was run before the one it builds on, or rows outside the batch.
    #[error("{0}")]
    Order(&'static str),
}

/// A vocab-level gradient to be written.
#[derive(Debug)]
pub struct Gradient<'a> {
    /// The column it belongs to.
    pub column: ColumnId,
    /// A row per token of the piece.
    pub data: &'a mut [f32],
}
