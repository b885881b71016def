//! CUDA C on the CPU: the text that a GPU would get, compiled by a C++ compiler under a header that runs every
//! thread of a block (`tests/cuda/shim.h`).

use std::path::PathBuf;
use std::process::Command;

use libloading::{Library, Symbol};
use rlc_compiler::cuda::Module;
use rlc_compiler::loops::Plan;
use rlc_runtime::device::DeviceError;
use rlc_runtime::device::cuda::live::{Blocks, Live, LiveStage};
use rlc_runtime::device::cuda::{self, Device, Floats, Launch};

use crate::root;

/// The order in which a block's threads run where nothing orders them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "they say it")]
pub enum Order {
    Forward = 0,
    Reverse = 1,
    Random = 2,
}

/// Kernels compiled for the CPU.
pub struct Shim {
    library: Library,
    order: Order,
    /// The library's file, while it is loaded.
    _folder: tempfile::TempDir,
}

/// gx, gy, gz, bx, by, bz, shared memory, arguments, order.
type Entry = unsafe extern "C" fn(u32, u32, u32, u32, u32, u32, usize, *mut *mut u64, i32);

/// Whether there is a C++ compiler.
pub fn compiler() -> Option<PathBuf> {
    let paths = std::env::var_os("PATH")?;
    std::env::split_paths(&paths).map(|p| p.join("g++")).find(|p| p.is_file())
}

impl Shim {
    /// Compiles a module.
    pub fn new(module: &Module, order: Order) -> Result<Shim, DeviceError> {
        let failed = |e: &dyn std::fmt::Display| DeviceError::Cuda(e.to_string());
        let folder = tempfile::tempdir().map_err(|e| failed(&e))?;
        let (text, out) = (folder.path().join("kernels.cu"), folder.path().join("kernels.so"));
        let entries: Vec<String> =
            module.launches().map(|l| format!("RLC_CPU_ENTRY({})", l.kernel)).collect();
        std::fs::write(&text, format!("{}\n{}\n", module.text, entries.join("\n")))
            .map_err(|e| failed(&e))?;
        let output = Command::new("g++")
            .args(["-std=c++20", "-O0", "-ffp-contract=off", "-fno-strict-aliasing", "-w"])
            .args(["-shared", "-fPIC", "-include"])
            .arg(root().join("tests/cuda/shim.h"))
            .args(["-x", "c++"])
            .arg(&text)
            .arg("-o")
            .arg(&out)
            .output()
            .map_err(|e| failed(&e))?;
        if !output.status.success() {
            return Err(failed(&String::from_utf8_lossy(&output.stderr)));
        }
        // SAFETY: the library was just compiled from our text; it has no initialisers but its own.
        let library = unsafe { Library::new(&out) }.map_err(|e| failed(&e))?;
        Ok(Shim { library, order, _folder: folder })
    }
}

impl Device for Shim {
    /// In words of 8 bytes, so that everything is aligned; full of NaN at first.
    type Memory = Vec<u64>;

    type Graph = Graph;

    fn alloc(&mut self, bytes: usize) -> Result<Vec<u64>, DeviceError> {
        // Packs of 16 bytes are read from addresses that are multiples of 16 only.
        Ok(vec![u64::MAX; bytes.div_ceil(8) + 2])
    }

    fn address(&self, memory: &Vec<u64>) -> u64 {
        memory.as_ptr() as u64
    }

    fn write(&mut self, to: &mut Vec<u64>, bytes: &[u8]) -> Result<(), DeviceError> {
        assert!(bytes.len() <= to.len() * 8);
        // SAFETY: there is room, and any bytes are numbers.
        unsafe {
            std::ptr::copy_nonoverlapping(
                bytes.as_ptr(),
                to.as_mut_ptr().cast::<u8>(),
                bytes.len(),
            );
        }
        Ok(())
    }

    fn read(&mut self, from: &Vec<u64>, bytes: &mut [u8]) -> Result<(), DeviceError> {
        assert!(bytes.len() <= from.len() * 8);
        // SAFETY: there are as many.
        unsafe {
            std::ptr::copy_nonoverlapping(
                from.as_ptr().cast::<u8>(),
                bytes.as_mut_ptr(),
                bytes.len(),
            );
        }
        Ok(())
    }

    unsafe fn launch(&mut self, launch: Launch<'_>) -> Result<(), DeviceError> {
        let Launch { kernel, blocks, threads, args } = launch;
        let mut values = args.to_vec();
        let mut pointers: Vec<*mut u64> = values.iter_mut().map(std::ptr::from_mut).collect();
        // SAFETY: `RLC_CPU_ENTRY` gives every kernel such a function; the caller vouches for the arguments.
        unsafe {
            let name = format!("{kernel}__cpu");
            let entry: Symbol<'_, Entry> =
                self.library.get(name.as_bytes()).map_err(|e| DeviceError::Cuda(e.to_string()))?;
            entry(blocks, 1, 1, threads, 1, 1, 0, pointers.as_mut_ptr(), self.order as i32);
        }
        Ok(())
    }

    fn capture(&mut self, launches: &[Launch<'_>]) -> Result<Graph, DeviceError> {
        let kept = |l: &Launch<'_>| (l.kernel.to_owned(), l.blocks, l.threads, l.args.to_vec());
        Ok(Graph(launches.iter().map(kept).collect()))
    }

    unsafe fn replay(&mut self, graph: &Graph) -> Result<(), DeviceError> {
        graph.0.iter().try_for_each(|(kernel, blocks, threads, args)| {
            let launch = Launch { kernel, blocks: *blocks, threads: *threads, args };
            // SAFETY: as promised by the caller.
            unsafe { self.launch(launch) }
        })
    }
}

/// Launches with the arguments that they were captured with: kernel, blocks, threads, arguments.
pub struct Graph(Vec<(String, u32, u32, Vec<u64>)>);

/// The live stage of a plan under the shim, with blocks of `threads` threads, at most `blocks` at a time;
/// with `graphs` launches that come again are replayed.
pub fn live(
    plan: &Plan,
    floats: &Floats<'_>,
    order: Order,
    (threads, blocks): (u32, u32),
    graphs: bool,
) -> Result<Box<dyn LiveStage>, DeviceError> {
    let module = cuda::module(plan, floats);
    let blocks = Blocks { least: 1, most: blocks, cache: usize::MAX };
    let shim = Shim::new(&module, order)?;
    Ok(Box::new(Live::new(shim, module, floats, threads, blocks, graphs)))
}
