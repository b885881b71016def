//! The live stage on an NVIDIA GPU: CUDA C from the compiler, compiled by NVRTC, launched through the driver.
//!
//! ```text
//! nvrtc   text -> cubin, with registers and spills; needs no GPU
//! gpu     the driver: memory, launches, what is missing
//! live    what is launched in which order on whose memory, for any [`Device`]
//! ```
//!
//! The recorded stage and the last one run on the CPU, at the level where they lie; a step of the live stage
//! that sorts whole scopes does too. Libraries are loaded when they are first needed, so that one binary runs with
//! and without them.

pub mod gpu;
pub mod live;
pub mod nvrtc;

use super::DeviceError;

/// Something that runs kernels: a GPU, or in tests the shim.
pub trait Device {
    /// Memory of the device.
    type Memory;

    /// New memory; what is in it is anything.
    fn alloc(&mut self, bytes: usize) -> Result<Self::Memory, DeviceError>;

    /// What a kernel gets to find it.
    fn address(&self, memory: &Self::Memory) -> u64;

    /// Copies to the beginning of a memory, which has room.
    fn write(&mut self, to: &mut Self::Memory, bytes: &[u8]) -> Result<(), DeviceError>;

    /// Copies from the beginning of a memory, once everything launched before has run.
    fn read(&mut self, from: &Self::Memory, bytes: &mut [u8]) -> Result<(), DeviceError>;

    /// Launches a kernel with arguments of 8 bytes. Launches run one after the other.
    ///
    /// # Safety
    ///
    /// The arguments are those the kernel was written for, and point to memory as large as it takes it to be.
    unsafe fn launch(
        &mut self,
        kernel: &str,
        blocks: u32,
        threads: u32,
        args: &[u64],
    ) -> Result<(), DeviceError>;
}
