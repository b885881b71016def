//! Devices: they load compiled loops, own their memory and run them. All `unsafe` of the project is
//! in this folder; what it offers outside is safe, because lengths are checked before code runs.

pub mod cpu;
pub mod cuda;

use rlc_compiler::clif::Float;
use rlc_compiler::fuse::Unsupported;
use rlc_compiler::hir::ColumnId;
use rlc_compiler::table::Floats;
use thiserror::Error;

use cpu::rows::{bf16, f16};

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
    pub data: Entries<'a>,
}

/// Numbers of a gradient, computed in f32 and rounded once, to the nearest, ties to even.
#[derive(Debug)]
pub enum Entries<'a> {
    /// As computed.
    F32(&'a mut [f32]),
    /// Raw bits of bf16.
    Bf16(&'a mut [u16]),
    /// Raw bits of half precision.
    F16(&'a mut [u16]),
}

impl<'a> From<&'a mut [f32]> for Entries<'a> {
    fn from(numbers: &'a mut [f32]) -> Self {
        Entries::F32(numbers)
    }
}

impl<'a> From<&'a mut Vec<f32>> for Entries<'a> {
    fn from(numbers: &'a mut Vec<f32>) -> Self {
        Entries::F32(numbers)
    }
}

impl Entries<'_> {
    /// Their type.
    pub fn float(&self) -> Float {
        match self {
            Entries::F32(_) => Float::F32,
            Entries::Bf16(_) => Float::Bf16,
            Entries::F16(_) => Float::F16,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Entries::F32(x) => x.len(),
            Entries::Bf16(x) | Entries::F16(x) => x.len(),
        }
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same numbers for a while.
    pub fn reborrow(&mut self) -> Entries<'_> {
        match self {
            Entries::F32(x) => Entries::F32(x),
            Entries::Bf16(x) => Entries::Bf16(x),
            Entries::F16(x) => Entries::F16(x),
        }
    }

    /// The numbers, to be read.
    pub fn floats(&self) -> Floats<'_> {
        match self {
            Entries::F32(x) => Floats::F32(x),
            Entries::Bf16(x) => Floats::Bf16(x),
            Entries::F16(x) => Floats::F16(x),
        }
    }

    /// Rounds other numbers to these; zeros where there are none.
    pub fn set(&mut self, numbers: &[f32]) {
        let all = || numbers.iter().copied().chain(std::iter::repeat(0.0));
        match self {
            Entries::F32(own) => own.iter_mut().zip(all()).for_each(|(own, x)| *own = x),
            Entries::Bf16(own) => own.iter_mut().zip(all()).for_each(|(own, x)| *own = bf16(x)),
            Entries::F16(own) => own.iter_mut().zip(all()).for_each(|(own, x)| *own = f16(x)),
        }
    }

    /// The first number that is infinite or NaN.
    pub fn not_finite(&self) -> Option<usize> {
        match self {
            Entries::F32(x) => x.iter().position(|x| !x.is_finite()),
            Entries::Bf16(x) => x.iter().position(|x| x & 0x7f80 == 0x7f80),
            Entries::F16(x) => x.iter().position(|x| x & 0x7c00 == 0x7c00),
        }
    }

    fn pointer(&mut self) -> *mut u8 {
        match self {
            Entries::F32(x) => x.as_mut_ptr().cast(),
            Entries::Bf16(x) | Entries::F16(x) => x.as_mut_ptr().cast(),
        }
    }
}
