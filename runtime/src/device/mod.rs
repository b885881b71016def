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

/// A vocab-level column that lies on the device which runs the live stage: a packed row of entries per token of
/// a piece, and where its gradient goes, of the same number type. No copy passes through the host.
#[derive(Debug, Clone, Copy)]
pub struct Resident {
    float: Float,
    numbers: usize,
    entries: u64,
    gradient: u64,
}

impl Resident {
    /// `numbers` entries at one address of the device and room for as many of the gradient at another; at the same one the
    /// gradient takes the place of the entries, row by row.
    ///
    /// # Safety
    ///
    /// Until the piece has run the device has that memory at these addresses, nobody else uses it, and what is written
    /// there is complete for whatever stream the device's launches go to.
    pub unsafe fn new(float: Float, numbers: usize, entries: u64, gradient: u64) -> Resident {
        Resident { float, numbers, entries, gradient }
    }

    /// Number type of entries and gradient.
    pub fn float(&self) -> Float {
        self.float
    }

    /// Whether the gradient takes the place of the entries.
    pub fn in_place(&self) -> bool {
        self.entries == self.gradient
    }
}

/// Vocab-level memory of a piece that is not taken from the host and given back as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outside<'a> {
    /// Columns on the device.
    pub resident: &'a [(ColumnId, Resident)],
    /// The host's column whose gradient takes the place of its entries, where they have one number type.
    pub over: Option<ColumnId>,
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
