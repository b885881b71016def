//! CUDA C to PTX and machine code, without a GPU.

mod library;

use std::ffi::{CString, c_char};
use std::sync::OnceLock;

pub use library::{INSTALL, Nvrtc};
use library::{Program, Status, Text};

use crate::device::DeviceError;

/// Options of every compilation. Products and sums stay apart, as in the other back ends; the kernels say where
/// they are to be fused.
pub(super) const OPTIONS: [&str; 4] =
    ["--std=c++17", "--fmad=false", "-default-device", "--ptxas-options=-v"];

/// Machine code of a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cubin {
    /// For the driver.
    pub code: Vec<u8>,
    /// What the assembler said of it.
    pub log: String,
}

/// What a kernel takes of a multiprocessor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Resources {
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes that a thread spills and loads again.
    pub spills: u32,
    /// Bytes of a thread's stack.
    pub stack: u32,
    /// Bytes of shared memory of a block.
    pub shared: u32,
    /// Bytes of constant memory, arguments included.
    pub constant: u32,
}

/// The library, once it is first needed, or why there is none.
pub fn nvrtc() -> Result<&'static Nvrtc, DeviceError> {
    static FOUND: OnceLock<Result<Nvrtc, String>> = OnceLock::new();
    FOUND.get_or_init(library::find).as_ref().map_err(|why| DeviceError::Cuda(why.clone()))
}

/// A program of NVRTC, released with this.
struct Held<'n>(&'n Nvrtc, Program);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // SAFETY: made by `create`, destroyed once.
        let _ = unsafe { (self.0.destroy)(&raw mut self.1) };
    }
}

impl Nvrtc {
    /// Machine code of a module for an architecture such as `sm_90`.
    pub fn cubin(&self, text: &str, architecture: &str) -> Result<Cubin, DeviceError> {
        let number = self.known(architecture)?;
        let (program, log) = self.compiled(text, &format!("sm_{number}"))?;
        let code = self.take(&program, self.cubin)?;
        Ok(Cubin { code, log })
    }

    /// PTX of a module.
    pub fn ptx(&self, text: &str, architecture: &str) -> Result<String, DeviceError> {
        let number = self.known(architecture)?;
        let (program, _) = self.compiled(text, &format!("compute_{number}"))?;
        Ok(said(&self.take(&program, self.ptx)?))
    }

    /// What comes after `sm_`, of an architecture that this version knows.
    fn known<'t>(&self, architecture: &'t str) -> Result<&'t str, DeviceError> {
        let all = self.architectures();
        let number = architecture.strip_prefix("sm_").filter(|number| {
            let digits = number.trim_end_matches(['a', 'f']);
            digits.parse().is_ok_and(|n: i32| all.contains(&n))
        });
        number.ok_or_else(|| {
            let all: Vec<String> = all.iter().map(|n| format!("sm_{n}")).collect();
            let (major, minor) = self.version;
            DeviceError::Cuda(format!(
                "`{architecture}` is no architecture that NVRTC {major}.{minor} compiles for: {}",
                all.join(", ")
            ))
        })
    }

    fn compiled(&self, text: &str, architecture: &str) -> Result<(Held<'_>, String), DeviceError> {
        let text = CString::new(text).map_err(|e| DeviceError::Cuda(e.to_string()))?;
        let target = format!("--gpu-architecture={architecture}");
        let options: Vec<CString> = std::iter::once(target.as_str())
            .chain(OPTIONS)
            .map(CString::new)
            .collect::<Result<_, _>>()
            .map_err(|e| DeviceError::Cuda(e.to_string()))?;
        let options: Vec<*const c_char> = options.iter().map(|o| o.as_ptr()).collect();
        let mut program = std::ptr::null_mut();
        let none = std::ptr::null();
        // SAFETY: texts end in a zero and outlive the calls; the program is released with `Held`.
        let (program, status) = unsafe {
            let name = c"rlc.cu".as_ptr();
            let made = (self.create)(&raw mut program, text.as_ptr(), name, 0, none, none);
            self.well(made)?;
            let program = Held(self, program);
            let status = (self.compile)(program.1, options.len() as i32, options.as_ptr());
            (program, status)
        };
        let log = said(&self.take(&program, self.log)?);
        if status != 0 {
            return Err(DeviceError::Cuda(format!(
                "NVRTC refused a kernel for {architecture} ({}): {log}",
                self.says(status)
            )));
        }
        Ok((program, log))
    }

    fn well(&self, status: Status) -> Result<(), DeviceError> {
        match status {
            0 => Ok(()),
            _ => Err(DeviceError::Cuda(format!("NVRTC: {}", self.says(status)))),
        }
    }

    fn take(&self, program: &Held<'_>, what: Text) -> Result<Vec<u8>, DeviceError> {
        let mut size = 0;
        // SAFETY: the program is held; the size comes first, and the vector has as many bytes.
        unsafe {
            self.well((what.size)(program.1, &raw mut size))?;
            let mut bytes = vec![0u8; size];
            self.well((what.get)(program.1, bytes.as_mut_ptr().cast()))?;
            Ok(bytes)
        }
    }
}

fn said(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

impl Cubin {
    /// What each kernel takes, by name: the assembler's report.
    pub fn resources(&self) -> Vec<(String, Resources)> {
        let mut out: Vec<(String, Resources)> = Vec::new();
        for line in self.log.lines() {
            if let Some((_, rest)) = line.split_once("Compiling entry function '") {
                let name = rest.split('\'').next().unwrap_or_default();
                out.push((name.to_owned(), Resources::default()));
            }
            let Some((_, last)) = out.last_mut() else { continue };
            if line.contains("bytes spill stores") {
                last.stack = before(line, " bytes stack frame");
                last.spills =
                    before(line, " bytes spill stores") + before(line, " bytes spill loads");
            }
            if let Some((_, used)) = line.split_once("Used ") {
                last.registers = before(used, " registers");
                last.shared = before(used, " bytes smem");
            }
        }
        // Which the report leaves out for newer architectures.
        for (section, bytes) in sections(&self.code) {
            let name = section.strip_prefix(".nv.constant").and_then(|s| s.split_once('.'));
            let kernel = name.and_then(|(_, kernel)| out.iter_mut().find(|k| k.0 == kernel));
            if let Some((_, of)) = kernel {
                of.constant += bytes as u32;
            }
        }
        out.sort_by(|a, b| a.0.cmp(&b.0));
        out
    }
}

/// Names and sizes of an ELF file's sections; none of what is no ELF file of 64 bits.
fn sections(code: &[u8]) -> Vec<(String, u64)> {
    let number = |at: u64, bytes: usize| -> Option<u64> {
        let from = code.get(at as usize..)?.get(..bytes)?;
        Some(from.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte)))
    };
    let read = || -> Option<Vec<(String, u64)>> {
        let (table, each) = (number(40, 8)?, number(58, 2)?);
        let header = |n: u64| table.checked_add(n * each);
        let names = number(header(number(62, 2)?)? + 24, 8)?;
        let section = |n: u64| {
            let at = header(n)?;
            let name = code.get(names.checked_add(number(at, 4)?)? as usize..)?;
            Some((said(name), number(at + 32, 8)?))
        };
        (0..number(60, 2)?).map(section).collect()
    };
    if code.starts_with(b"\x7fELF\x02") { read().unwrap_or_default() } else { Vec::new() }
}

/// The number that stands before some words.
fn before(line: &str, what: &str) -> u32 {
    let Some((number, _)) = line.split_once(what) else { return 0 };
    number.trim().rsplit([' ', ',']).next().and_then(|n| n.parse().ok()).unwrap_or(0)
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
        let found = Cubin { code: Vec::new(), log: log.to_owned() }.resources();
        let first = Resources { registers: 7, ..Resources::default() };
        let second = Resources { registers: 40, spills: 20, stack: 16, shared: 512, constant: 0 };
        assert_eq!(found, [("live_0".into(), first), ("live_1".into(), second)]);
    }
}
