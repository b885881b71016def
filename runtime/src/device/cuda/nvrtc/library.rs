//! Where NVRTC lies, and its entry points.
//!
//! Looked for by one rule, in this order:
//!
//! ```text
//! RLC_NVRTC                                   the library or its folder; nothing else is then tried
//! libnvrtc.so.13, .12, libnvrtc.so            by the system's loader (LD_LIBRARY_PATH counts)
//! $CUDA_HOME/lib64, $CUDA_PATH/lib64, /usr/local/cuda/lib64
//! $VIRTUAL_ENV, $CONDA_PREFIX                 where Python's wheels put it
//! ```
//!
//! Loaded here rather than by cudarc, whose own search takes the first name that opens, of whatever version.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::{Path, PathBuf};

use libloading::Library;

/// What NVRTC calls a program.
pub type Program = *mut c_void;
/// 0 is success.
pub type Status = c_int;

/// NVRTC, loaded for good.
pub struct Nvrtc {
    /// The file, as far as the system tells.
    pub path: PathBuf,
    /// Major and minor.
    pub version: (i32, i32),
    pub(super) create: unsafe extern "C" fn(
        *mut Program,
        *const c_char,
        *const c_char,
        c_int,
        *const *const c_char,
        *const *const c_char,
    ) -> Status,
    pub(super) compile: unsafe extern "C" fn(Program, c_int, *const *const c_char) -> Status,
    pub(super) destroy: unsafe extern "C" fn(*mut Program) -> Status,
    pub(super) log: Text,
    pub(super) ptx: Text,
    pub(super) cubin: Text,
    error: unsafe extern "C" fn(Status) -> *const c_char,
    count_architectures: unsafe extern "C" fn(*mut c_int) -> Status,
    architectures: unsafe extern "C" fn(*mut c_int) -> Status,
}

/// Something that NVRTC gives: how long it is, and the bytes.
#[derive(Clone, Copy)]
pub(super) struct Text {
    pub size: unsafe extern "C" fn(Program, *mut usize) -> Status,
    pub get: unsafe extern "C" fn(Program, *mut c_char) -> Status,
}

const NAMES: [&str; 3] = ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"];

/// What to do where it is missing.
pub const INSTALL: &str = "`pip install nvidia-cuda-nvrtc`, and set RLC_NVRTC to the folder with libnvrtc.so.13 in it \
                           (site-packages/nvidia/cu13/lib)";

/// Finds and loads it.
pub(super) fn find() -> Result<Nvrtc, String> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(given) = set("RLC_NVRTC") {
        let found = if given.is_dir() { inside(&given) } else { Some(given.clone()) };
        let found = found.filter(|f| f.is_file()).ok_or_else(|| {
            format!("RLC_NVRTC is `{}`, where no libnvrtc.so is: {INSTALL}", given.display())
        })?;
        return open(&found).map_err(|why| {
            format!("RLC_NVRTC is `{}`, which is not NVRTC: {why}", given.display())
        });
    }
    if let Some(found) = NAMES.iter().find_map(|name| open(Path::new(name)).ok()) {
        return Ok(found);
    }
    let toolkits = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(set);
    let toolkits = toolkits.chain([PathBuf::from("/usr/local/cuda")]);
    let folders = toolkits.map(|t| t.join("lib64")).chain(
        ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(set).flat_map(|e| wheels(&e)),
    );
    folders.filter_map(|f| inside(&f)).find_map(|f| open(&f).ok()).ok_or_else(|| {
        format!("NVRTC (libnvrtc.so), which compiles kernels, is not on this machine: {INSTALL}")
    })
}

/// Where wheels of a Python environment have libraries.
fn wheels(environment: &Path) -> Vec<PathBuf> {
    let mut out: Vec<PathBuf> = entries(&environment.join("lib"))
        .into_iter()
        .map(|python| python.join("site-packages/nvidia"))
        .flat_map(|nvidia| [nvidia.join("cu13/lib"), nvidia.join("cuda_nvrtc/lib")])
        .filter(|folder| folder.is_dir())
        .collect();
    out.sort();
    out
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect()
}

/// The library of a folder, by the shortest name.
fn inside(folder: &Path) -> Option<PathBuf> {
    named(folder, "libnvrtc.so").into_iter().min_by_key(|f| (f.as_os_str().len(), f.clone()))
}

fn named(folder: &Path, beginning: &str) -> Vec<PathBuf> {
    let named = |f: &PathBuf| {
        f.file_name().is_some_and(|n| n.to_string_lossy().starts_with(beginning)) && f.is_file()
    };
    entries(folder).into_iter().filter(named).collect()
}

fn open(path: &Path) -> Result<Nvrtc, String> {
    if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
        // NVRTC opens it by name only.
        for builtins in named(folder, "libnvrtc-builtins.so") {
            // SAFETY: it has no initialisers but its own.
            if let Ok(library) = unsafe { Library::new(builtins) } {
                std::mem::forget(library);
            }
        }
    }
    // SAFETY: as above.
    let library = unsafe { Library::new(path) }.map_err(|e| e.to_string())?;
    // SAFETY: the types are those of nvrtc.h, the same in versions 12 and 13.
    let loaded = unsafe { entry_points(&library, path) }.map_err(|e| e.to_string());
    // Function pointers stay good: the library is never unloaded.
    std::mem::forget(library);
    loaded
}

unsafe fn entry_points(library: &Library, path: &Path) -> Result<Nvrtc, libloading::Error> {
    macro_rules! get {
        ($name:literal) => {
            // SAFETY: the caller vouches for the library, and the field's type is that of nvrtc.h.
            *unsafe { library.get(concat!($name, "\0").as_bytes()) }?
        };
    }
    let version: unsafe extern "C" fn(*mut c_int, *mut c_int) -> Status = get!("nvrtcVersion");
    let (mut major, mut minor) = (0, 0);
    // SAFETY: both numbers are ours. It cannot fail with room for them.
    unsafe { version(&raw mut major, &raw mut minor) };
    Ok(Nvrtc {
        path: loaded_from().unwrap_or_else(|| path.to_owned()),
        version: (major, minor),
        create: get!("nvrtcCreateProgram"),
        compile: get!("nvrtcCompileProgram"),
        destroy: get!("nvrtcDestroyProgram"),
        log: Text { size: get!("nvrtcGetProgramLogSize"), get: get!("nvrtcGetProgramLog") },
        ptx: Text { size: get!("nvrtcGetPTXSize"), get: get!("nvrtcGetPTX") },
        cubin: Text { size: get!("nvrtcGetCUBINSize"), get: get!("nvrtcGetCUBIN") },
        error: get!("nvrtcGetErrorString"),
        count_architectures: get!("nvrtcGetNumSupportedArchs"),
        architectures: get!("nvrtcGetSupportedArchs"),
    })
}

/// The file that the system's loader has mapped.
fn loaded_from() -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let at = |line: &str| line.find('/').map(|at| PathBuf::from(&line[at..]));
    maps.lines().filter(|l| l.contains("/libnvrtc.so")).find_map(at)
}

impl Nvrtc {
    /// What a status means.
    pub(super) fn says(&self, status: Status) -> String {
        // SAFETY: the library owns the text, which ends in a zero and stays.
        let text = unsafe {
            let text = (self.error)(status);
            (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
        };
        text.unwrap_or_else(|| format!("status {status}"))
    }

    /// The architectures that it compiles for: 80, 90.
    pub fn architectures(&self) -> Vec<i32> {
        let mut count = 0;
        // SAFETY: the number is ours; then there are as many as it says.
        unsafe {
            if (self.count_architectures)(&raw mut count) != 0 {
                return Vec::new();
            }
            let mut out = vec![0; count.max(0) as usize];
            if (self.architectures)(out.as_mut_ptr()) != 0 {
                return Vec::new();
            }
            out
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests stop at the first surprise")]
mod tests {
    use super::*;

    #[test]
    fn the_library_of_a_folder_is_found_beside_others() {
        let folder = tempfile::tempdir().unwrap();
        let lib = folder.path().join("lib/python3.12/site-packages/nvidia/cu13/lib");
        std::fs::create_dir_all(&lib).unwrap();
        for name in ["libnvrtc-builtins.so.13.0", "libnvrtc.alt.so.13", "libcublas.so.13"] {
            std::fs::write(lib.join(name), "").unwrap();
        }
        assert_eq!(wheels(folder.path()), [lib.clone()]);
        assert_eq!(inside(&lib), None);
        std::fs::write(lib.join("libnvrtc.so.13"), "").unwrap();
        assert_eq!(inside(&lib), Some(lib.join("libnvrtc.so.13")));
        assert!(open(&lib.join("libnvrtc.so.13")).is_err());
    }
}
