//! The live stage on an NVIDIA GPU: CUDA C from the compiler, compiled by NVRTC, launched through the driver.
//!
//! ```text
//! nvrtc   text -> cubin, with registers and spills; needs no GPU
//! cache   cubins on disk
//! gpu     the driver: memory, launches, what is missing
//! pool    where that memory comes from
//! live    what is launched in which order on whose memory, for any [`Device`]
//! graphs  which of these launches are repeated as one
//! product products of candle's tensors into one that is there: their column-major form, and the CPU's way
//! lt      the GPU's way, by cuBLASLt (feature `cuda`)
//! tensors candle's tensors as memory of a piece, where candle has its CUDA back end (feature `cuda`)
//! ```
//!
//! The recorded stage and the last one run on the CPU, at the level where they lie; a step of the live stage
//! that sorts whole scopes does too. Libraries are loaded when they are first needed, so that one binary runs with
//! and without them.

pub mod cache;
pub mod gpu;
mod graphs;
pub mod live;
#[cfg(feature = "cuda")]
mod lt;
pub mod nvrtc;
mod pool;
pub mod product;
#[cfg(feature = "cuda")]
pub mod tensors;

use rlc_compiler::clif::Float;
use rlc_compiler::cuda::{Module, SHARING, Types, emit};
use rlc_compiler::hir::ColumnId;
use rlc_compiler::loops::Plan;

use super::{DeviceError, float_of};
use cache::Cache;
use gpu::Gpu;
pub use graphs::Launched;
use live::{Blocks, Live, LiveStage};

/// Most blocks that share a vocab row which a multiprocessor has at a time.
const BLOCKS: u32 = 4;

/// Kernels are launched one by one where this variable of the environment is 0.
pub const GRAPHS: &str = "RLC_GRAPHS";

/// The kernels of a plan's live stage.
pub fn module(plan: &Plan, floats: &Floats<'_>) -> Module {
    let (entries, gradients) = (floats.entries, floats.gradients);
    emit(
        plan,
        &Types { entries: &|c| float_of(entries, c), gradients: &|c| float_of(gradients, c) },
    )
}

/// The live stage of a plan on the first GPU, with kernels from the cache where it has them; what stops nothing is
/// said to `note`.
pub fn on_gpu(
    plan: &Plan,
    floats: &Floats<'_>,
    cache: &Cache,
    note: &dyn Fn(&str),
) -> Result<Box<dyn LiveStage>, DeviceError> {
    on(Gpu::new(0)?, plan, floats, cache, note)
}

/// The same on some GPU.
pub fn on(
    mut gpu: Gpu,
    plan: &Plan,
    floats: &Floats<'_>,
    cache: &Cache,
    note: &dyn Fn(&str),
) -> Result<Box<dyn LiveStage>, DeviceError> {
    let about = gpu.about()?;
    let module = module(plan, floats);
    let cubin = cache.cubin(nvrtc::nvrtc()?, &module.text, &about.architecture, note)?;
    gpu.load(&cubin.code)?;
    let blocks = Blocks {
        least: about.processors,
        most: BLOCKS * about.processors,
        // The rest is for whatever else passes through.
        cache: about.cache / 4 * 3,
    };
    let graphs = std::env::var_os(GRAPHS).is_none_or(|value| value != "0");
    Ok(Box::new(Live::new(gpu, module, floats, SHARING, blocks, graphs)))
}

/// Number types of vocab-level columns and of their gradients: f32 where nothing is said.
#[derive(Debug, Clone, Copy, Default)]
pub struct Floats<'a> {
    /// Of entries.
    pub entries: &'a [(ColumnId, Float)],
    /// Of gradients.
    pub gradients: &'a [(ColumnId, Float)],
}

/// A kernel with what it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launch<'a> {
    /// Its name.
    pub kernel: &'a str,
    /// Blocks.
    pub blocks: u32,
    /// Threads of a block.
    pub threads: u32,
    /// Pointers and whole numbers, 8 bytes each.
    pub args: &'a [u64],
}

/// Something that runs kernels: a GPU, or in tests the shim.
pub trait Device {
    /// Memory of the device.
    type Memory;

    /// Launches that are repeated as one.
    type Graph;

    /// New memory; what is in it is anything.
    fn alloc(&mut self, bytes: usize) -> Result<Self::Memory, DeviceError>;

    /// What a kernel gets to find it; the same as long as the memory lives.
    fn address(&self, memory: &Self::Memory) -> u64;

    /// Copies to the beginning of a memory, which has room.
    fn write(&mut self, to: &mut Self::Memory, bytes: &[u8]) -> Result<(), DeviceError>;

    /// Copies from the beginning of a memory, once everything launched before has run.
    fn read(&mut self, from: &Self::Memory, bytes: &mut [u8]) -> Result<(), DeviceError>;

    /// Launches a kernel. Launches run one after the other.
    ///
    /// # Safety
    ///
    /// The arguments are those the kernel was written for, and point to memory as large as it takes it to be.
    unsafe fn launch(&mut self, launch: Launch<'_>) -> Result<(), DeviceError>;

    /// Makes a graph of launches that have run before, one after the other; runs nothing.
    fn capture(&mut self, launches: &[Launch<'_>]) -> Result<Self::Graph, DeviceError>;

    /// Runs the launches of a graph.
    ///
    /// # Safety
    ///
    /// As for [`Device::launch`], for each of them, now.
    unsafe fn replay(&mut self, graph: &Self::Graph) -> Result<(), DeviceError>;
}
