//! A GPU through the CUDA driver.

use std::collections::HashMap;
use std::sync::Arc;

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::{
    CudaContext, CudaEvent, CudaFunction, CudaGraph, CudaModule, CudaSlice, CudaStream, DevicePtr,
    LaunchConfig, PushKernelArg, sys,
};
use cudarc::nvrtc::Ptx;

use rlc_compiler::clif::Float;
use rlc_compiler::table::Floats;

use super::{Device, GRAPHS, Launch};
use crate::device::{DeviceError, Resident};

/// One GPU with the kernels of one module.
pub struct Gpu {
    stream: Arc<CudaStream>,
    module: Option<Arc<CudaModule>>,
    functions: HashMap<String, CudaFunction>,
}

/// What a GPU is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// As the driver names it.
    pub name: String,
    /// `sm_90`.
    pub architecture: String,
    /// Bytes free and in all.
    pub memory: (usize, usize),
    /// Multiprocessors.
    pub processors: u32,
    /// Bytes of the last cache.
    pub cache: usize,
}

/// Whether the driver's library can be loaded.
#[cfg(feature = "cuda")]
pub fn driver_present() -> bool {
    // candle's CUDA back end is linked with it: without a driver this program would not have started.
    true
}

/// Whether the driver's library can be loaded.
#[cfg(not(feature = "cuda"))]
pub fn driver_present() -> bool {
    // SAFETY: looks for the library and loads it, which runs its own initialisers and nothing else.
    unsafe { sys::is_culib_present() }
}

/// The CUDA version that the driver is for, and every GPU.
pub fn all() -> Result<((i32, i32), Vec<About>), DeviceError> {
    present()?;
    let mut version = 0;
    // SAFETY: the driver is there, and the number is ours.
    let asked = unsafe { sys::cuDriverGetVersion(&raw mut version) };
    asked.result().map_err(failed("asking the driver for its version"))?;
    let count = CudaContext::device_count().map_err(failed("counting GPUs"))?;
    let devices = (0..count as usize).map(|n| Gpu::new(n)?.about()).collect::<Result<_, _>>()?;
    Ok(((version / 1000, version % 1000 / 10), devices))
}

fn present() -> Result<(), DeviceError> {
    if driver_present() {
        return Ok(());
    }
    Err(DeviceError::Cuda(
        "the NVIDIA driver (libcuda.so.1) is not on this machine, so there is no GPU to run on: install it".to_owned(),
    ))
}

fn bytes_of<T: Copy>(numbers: &[T]) -> &[u8] {
    // SAFETY: the same memory; called for numbers, which have no bytes between them.
    unsafe { std::slice::from_raw_parts(numbers.as_ptr().cast(), size_of_val(numbers)) }
}

pub(super) fn failed(what: &str) -> impl Fn(DriverError) -> DeviceError + '_ {
    move |e| {
        let advice = match e.0 {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                ": take smaller pieces (`--micro-batch`), or give the chunks less memory"
            }
            sys::CUresult::CUDA_ERROR_ILLEGAL_ADDRESS
            | sys::CUresult::CUDA_ERROR_LAUNCH_FAILED
            | sys::CUresult::CUDA_ERROR_LAUNCH_TIMEOUT
            | sys::CUresult::CUDA_ERROR_ECC_UNCORRECTABLE
            | sys::CUresult::CUDA_ERROR_DEVICE_UNAVAILABLE => {
                ": the GPU is lost to this process; a run continues from its last checkpoint"
            }
            sys::CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU => ": its architecture is not supported",
            _ => "",
        };
        DeviceError::Cuda(format!("{what}: {e}{advice}"))
    }
}

impl Gpu {
    /// GPU number `ordinal`, on a stream of its own: the one that is there by default cannot be captured.
    pub fn new(ordinal: usize) -> Result<Gpu, DeviceError> {
        present()?;
        let context = CudaContext::new(ordinal).map_err(failed("opening the GPU"))?;
        Ok(Gpu::on(context.new_stream().map_err(failed("opening the GPU"))?))
    }

    /// The same GPU and stream for other kernels: what either launches waits for the other.
    #[must_use]
    pub fn beside(&self) -> Gpu {
        Gpu::on(Arc::clone(&self.stream))
    }

    /// The GPU of a stream, launching there.
    pub fn on(stream: Arc<CudaStream>) -> Gpu {
        Gpu { stream, module: None, functions: HashMap::new() }
    }

    pub(super) fn context(&self) -> &Arc<CudaContext> {
        self.stream.context()
    }

    /// What it is.
    pub fn about(&self) -> Result<About, DeviceError> {
        let context = self.stream.context();
        let failed = failed("asking the GPU what it is");
        let (major, minor) = context.compute_capability().map_err(&failed)?;
        let processors = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
        let cache = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE;
        Ok(About {
            name: context.name().map_err(&failed)?,
            architecture: format!("sm_{major}{minor}"),
            memory: context.mem_get_info().map_err(&failed)?,
            processors: context.attribute(processors).map_err(&failed)? as u32,
            cache: context.attribute(cache).map_err(&failed)? as usize,
        })
    }

    /// Puts machine code in place of what was loaded.
    pub fn load(&mut self, code: &[u8]) -> Result<(), DeviceError> {
        self.functions.clear();
        let module = self.stream.context().load_module(Ptx::from_binary(code.to_vec()));
        self.module = Some(module.map_err(failed("loading the kernels"))?);
        Ok(())
    }

    fn function(&mut self, kernel: &str) -> Result<CudaFunction, DeviceError> {
        if let Some(found) = self.functions.get(kernel) {
            return Ok(found.clone());
        }
        let Some(module) = &self.module else {
            return Err(DeviceError::Order("kernels are loaded before they are launched"));
        };
        let found = module.load_function(kernel).map_err(failed(kernel))?;
        self.functions.insert(kernel.to_owned(), found.clone());
        Ok(found)
    }

    /// Copies numbers to the beginning of a memory.
    pub fn write_numbers(
        &mut self,
        to: &mut CudaSlice<u8>,
        data: Floats<'_>,
    ) -> Result<(), DeviceError> {
        let bytes = match data {
            Floats::F32(x) => bytes_of(x),
            Floats::F64(x) => bytes_of(x),
            Floats::Bf16(x) | Floats::F16(x) => bytes_of(x),
        };
        if bytes.len() > to.len() {
            return Err(DeviceError::Order("a copy reaches beyond the GPU's memory"));
        }
        self.write(to, bytes)
    }

    /// Copies from one memory to another.
    pub fn copy(
        &mut self,
        from: &CudaSlice<u8>,
        to: &CudaSlice<u8>,
        bytes: usize,
    ) -> Result<(), DeviceError> {
        if bytes > from.len().min(to.len()) {
            return Err(DeviceError::Order("a copy reaches beyond the GPU's memory"));
        }
        let (to, from) = (to.device_ptr(&self.stream).0, from.device_ptr(&self.stream).0);
        // SAFETY: both memories live, are as large, and belong to this stream's context.
        unsafe { result::memcpy_dtod_async(to, from, bytes, self.stream.cu_stream()) }
            .map_err(failed("copying on the GPU"))
    }

    /// Rows of a memory as a column of a piece: entries at one address, the gradient at another.
    pub fn resident(
        &self,
        float: Float,
        numbers: usize,
        (entries, gradient): (u64, u64),
        of: &CudaSlice<u8>,
    ) -> Result<Resident, DeviceError> {
        let (bytes, begin) = ((numbers * float.bytes()) as u64, self.address(of));
        if entries < begin || entries + bytes > begin + of.len() as u64 {
            return Err(DeviceError::Order("rows reach beyond the GPU's memory"));
        }
        // SAFETY: launches go to this stream, as do the copies that fill the memory.
        Ok(unsafe { Resident::new(float, numbers, entries, gradient) })
    }

    /// Begins to measure what is launched from here on.
    pub fn watch(&self) -> Result<Watch, DeviceError> {
        let timed = Some(sys::CUevent_flags::CU_EVENT_DEFAULT);
        let begin = self.stream.record_event(timed).map_err(failed("recording an event"))?;
        Ok(Watch(begin))
    }

    /// Waits for everything that was launched.
    pub fn wait(&self) -> Result<(), DeviceError> {
        self.stream.synchronize().map_err(failed("running the kernels"))
    }
}

/// The beginning of a measurement.
pub struct Watch(CudaEvent);

impl Watch {
    /// What the GPU has needed for everything launched since, once it has run.
    pub fn seconds(&self, gpu: &Gpu) -> Result<f64, DeviceError> {
        let timed = Some(sys::CUevent_flags::CU_EVENT_DEFAULT);
        let end = gpu.stream.record_event(timed).map_err(failed("recording an event"))?;
        let milliseconds = self.0.elapsed_ms(&end).map_err(failed("running the kernels"))?;
        Ok(f64::from(milliseconds) / 1e3)
    }
}

impl Device for Gpu {
    type Memory = CudaSlice<u8>;

    type Graph = Graph;

    fn alloc(&mut self, bytes: usize) -> Result<CudaSlice<u8>, DeviceError> {
        let what = format!("taking {:.1} MB of GPU memory", bytes as f64 / 1e6);
        // SAFETY: kernels write memory before they read it, or `write` does; bytes have no invalid values.
        unsafe { self.stream.alloc::<u8>(bytes.max(1)) }.map_err(failed(&what))
    }

    fn address(&self, memory: &CudaSlice<u8>) -> u64 {
        memory.device_ptr(&self.stream).0
    }

    fn write(&mut self, to: &mut CudaSlice<u8>, bytes: &[u8]) -> Result<(), DeviceError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut to = to.slice_mut(..bytes.len());
        self.stream.memcpy_htod(bytes, &mut to).map_err(failed("copying to the GPU"))
    }

    fn read(&mut self, from: &CudaSlice<u8>, bytes: &mut [u8]) -> Result<(), DeviceError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let from = from.slice(..bytes.len());
        self.stream.memcpy_dtoh(&from, bytes).map_err(failed("copying from the GPU"))?;
        self.wait()
    }

    unsafe fn launch(&mut self, launch: Launch<'_>) -> Result<(), DeviceError> {
        let Launch { kernel, blocks, threads, args } = launch;
        let function = self.function(kernel)?;
        let mut builder = self.stream.launch_builder(&function);
        for arg in args {
            builder.arg(arg);
        }
        let config = LaunchConfig {
            grid_dim: (blocks, 1, 1),
            block_dim: (threads, 1, 1),
            shared_mem_bytes: 0,
        };
        // SAFETY: as promised by the caller; pointers and whole numbers are 8 bytes each.
        unsafe { builder.launch(config) }.map(|_| ()).map_err(failed(kernel))
    }

    fn capture(&mut self, launches: &[Launch<'_>]) -> Result<Graph, DeviceError> {
        let what = format!("capturing kernels into a graph (`{GRAPHS}=0` does without)");
        let failed = failed(&what);
        // What other threads do meanwhile is their own affair.
        let own = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        self.stream.begin_capture(own).map_err(&failed)?;
        let launched: Result<(), DeviceError> = launches.iter().try_for_each(|launch| {
            // SAFETY: while the stream captures nothing runs; who replays vouches for the arguments.
            unsafe { self.launch(*launch) }
        });
        // Also after a failure, or the stream would capture for ever.
        let graph = self.stream.end_capture(sys::CUgraphInstantiate_flags(0));
        launched?;
        match graph.map_err(&failed)? {
            Some(graph) => Ok(Graph { graph, stream: Arc::clone(&self.stream) }),
            None => Err(DeviceError::Order("a graph of no kernels")),
        }
    }

    unsafe fn replay(&mut self, graph: &Graph) -> Result<(), DeviceError> {
        graph.graph.launch().map_err(failed("replaying a graph of kernels"))
    }
}

/// Captured launches.
pub struct Graph {
    graph: CudaGraph,
    stream: Arc<CudaStream>,
}

// SAFETY: a graph wants one thread at a time, and `Graph` lends it to none: who has it alone can use it.
unsafe impl Send for Graph {}

impl Drop for Graph {
    fn drop(&mut self) {
        // It may still run. A failure shows in whatever is done next.
        let _ = self.stream.synchronize();
    }
}
