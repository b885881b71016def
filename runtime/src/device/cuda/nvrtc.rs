//! CUDA C to machine code, without a GPU.

use std::ffi::{CStr, CString, c_char};
use std::mem::MaybeUninit;

use cudarc::nvrtc::{result, sys};

use crate::device::DeviceError;

/// Options of every compilation. Products and sums stay apart, as in the other back ends; the kernels say where
/// they are to be fused.
const OPTIONS: [&str; 4] = ["--std=c++17", "--fmad=false", "-default-device", "--ptxas-options=-v"];

/// Machine code of a module.
#[derive(Debug, Clone)]
pub struct Cubin {
    /// For the driver.
    pub code: Vec<u8>,
    /// What each kernel takes, by name.
    pub kernels: Vec<(String, Resources)>,
}

/// What a kernel takes of a multiprocessor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Resources {
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes that a thread spills and loads again.
    pub spills: u32,
    /// Bytes of shared memory of a block.
    pub shared: u32,
}

/// Whether the library can be loaded, and its version.
pub fn version() -> Option<(i32, i32)> {
    if !present() {
        return None;
    }
    let (mut major, mut minor) = (0, 0);
    // SAFETY: the library is there, and both numbers are ours.
    let status = unsafe { sys::nvrtcVersion(&raw mut major, &raw mut minor) };
    (status == sys::nvrtcResult::NVRTC_SUCCESS).then_some((major, minor))
}

fn present() -> bool {
    // SAFETY: looks for the library and loads it, which runs its own initialisers and nothing else.
    unsafe { sys::is_culib_present() }
}

fn missing() -> DeviceError {
    DeviceError::Cuda(
        "NVRTC (libnvrtc.so), which compiles kernels, is not on this machine: install the CUDA 13 runtime, or \
         `pip install nvidia-cuda-nvrtc` and add its lib folder to LD_LIBRARY_PATH"
            .to_owned(),
    )
}

fn failed(e: result::NvrtcError) -> DeviceError {
    DeviceError::Cuda(format!("NVRTC: {e:?}"))
}

/// A program of NVRTC, released with this.
struct Program(sys::nvrtcProgram);

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: made by `create_program` and destroyed once.
        let _ = unsafe { result::destroy_program(self.0) };
    }
}

/// Compiles a module for an architecture such as `sm_90`.
pub fn compile(text: &str, architecture: &str) -> Result<Cubin, DeviceError> {
    if !present() {
        return Err(missing());
    }
    let text = CString::new(text).map_err(|e| DeviceError::Cuda(e.to_string()))?;
    let program = Program(result::create_program(&text, Some(c"rlc.cu")).map_err(failed)?);
    let mut options = vec![format!("--gpu-architecture={architecture}")];
    options.extend(OPTIONS.map(str::to_owned));
    // SAFETY: the program lives until the end of this function.
    let (done, log) = unsafe {
        let done = result::compile_program(program.0, &options);
        (done, result::get_program_log(program.0).map_err(failed)?)
    };
    let log = said(&log);
    if let Err(e) = done {
        return Err(DeviceError::Cuda(format!(
            "NVRTC refused a kernel for {architecture} ({e:?}): {log}"
        )));
    }
    let mut size = MaybeUninit::uninit();
    // SAFETY: the program was compiled for a real architecture, so it has machine code; the size comes first, and the
    // vector has as many bytes.
    let code = unsafe {
        sys::nvrtcGetCUBINSize(program.0, size.as_mut_ptr()).result().map_err(failed)?;
        let mut code = vec![0u8; size.assume_init()];
        sys::nvrtcGetCUBIN(program.0, code.as_mut_ptr().cast()).result().map_err(failed)?;
        code
    };
    Ok(Cubin { code, kernels: resources(&log) })
}

fn said(log: &[c_char]) -> String {
    let bytes: Vec<u8> = log.iter().map(|c| *c as u8).collect();
    CStr::from_bytes_until_nul(&bytes).map_or(String::new(), |s| s.to_string_lossy().into_owned())
}

/// Reads the assembler's report.
fn resources(log: &str) -> Vec<(String, Resources)> {
    let mut out: Vec<(String, Resources)> = Vec::new();
    let before = |line: &str, what: &str| -> u32 {
        let Some((number, _)) = line.split_once(what) else { return 0 };
        number.trim().rsplit([' ', ',']).next().and_then(|n| n.parse().ok()).unwrap_or(0)
    };
    for line in log.lines() {
        if let Some((_, rest)) = line.split_once("Compiling entry function '") {
            let name = rest.split('\'').next().unwrap_or_default();
            out.push((name.to_owned(), Resources::default()));
        }
        let Some((_, last)) = out.last_mut() else { continue };
        if line.contains("bytes spill stores") {
            last.spills = before(line, " bytes spill stores") + before(line, " bytes spill loads");
        }
        if let Some((_, used)) = line.split_once("Used ") {
            last.registers = before(used, " registers");
            last.shared = before(used, " bytes smem");
        }
    }
    out.sort_by(|a, b| a.0.cmp(&b.0));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_assemblers_report_is_read() {
        let log = "\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'live_1' for 'sm_90'
ptxas info    : Function properties for live_1
ptxas         .     16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 512 bytes smem
ptxas info    : Compiling entry function 'live_0' for 'sm_90'
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 7 registers, used 0 barriers
";
        let found = resources(log);
        let of = |registers, spills, shared| Resources { registers, spills, shared };
        assert_eq!(found, [("live_0".into(), of(7, 0, 0)), ("live_1".into(), of(40, 20, 512))]);
    }
}
