//! Machine code on disk, by everything that it depends on: text, architecture, options, NVRTC's version.
//!
//! A file is named by a hash of the key and holds the key itself, the assembler's report and the code, with
//! a sum over all of it: another key under the same hash, a half-written or a changed file is never run.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::nvrtc::{Cubin, Nvrtc, OPTIONS};
use crate::device::DeviceError;
use crate::fingerprint;

/// Says what a file is, and the version of its form.
const MAGIC: &[u8] = b"rlc kernels 1\n";
const ENDING: &str = "cubin";

/// A folder of compiled kernels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    folder: PathBuf,
}

/// The folder for what can be made anew: `RLC_CACHE`, `rlc` in the user's cache folder, or in that for temporary
/// files.
pub fn folder() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    set("RLC_CACHE").unwrap_or_else(|| {
        set("XDG_CACHE_HOME")
            .or_else(|| set("LOCALAPPDATA"))
            .or_else(|| set("HOME").map(|home| home.join(".cache")))
            .unwrap_or_else(std::env::temp_dir)
            .join("rlc")
    })
}

impl Cache {
    /// Kernels in a folder, which is made when there is something to keep.
    pub fn new(folder: PathBuf) -> Cache {
        Cache { folder }
    }

    /// The user's.
    pub fn of_user() -> Cache {
        Cache::new(folder().join("kernels"))
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How many modules it has, and their bytes.
    pub fn size(&self) -> (usize, u64) {
        let files = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let ours = files.filter(|f| f.path().extension().is_some_and(|e| e == ENDING));
        ours.filter_map(|f| f.metadata().ok())
            .fold((0, 0), |(n, bytes), m| (n + 1, bytes + m.len()))
    }

    /// The machine code of a module, compiled only if it is not here. What should be known and stops nothing is
    /// said to `note`.
    pub fn cubin(
        &self,
        nvrtc: &Nvrtc,
        text: &str,
        architecture: &str,
        note: &dyn Fn(&str),
    ) -> Result<Cubin, DeviceError> {
        let ((major, minor), options) = (nvrtc.version, OPTIONS.join(" "));
        let key = format!("NVRTC {major}.{minor} {architecture} {options}\n{text}");
        let path = self.folder.join(format!("{:016x}.{ENDING}", fingerprint(key.as_bytes())));
        match read(&path, &key) {
            Ok(Some(cubin)) => return Ok(cubin),
            Ok(None) => {}
            Err(why) => note(&format!("kernels in `{}` are compiled again: {why}", path.display())),
        }
        let cubin = nvrtc.cubin(text, architecture)?;
        if let Err(why) = self.keep(&path, &pack(&key, &cubin)) {
            note(&format!("kernels are not kept in `{}`: {why}", self.folder.display()));
        }
        Ok(cubin)
    }

    /// Whoever looks sees no file or a whole one.
    fn keep(&self, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        let mut file = tempfile::Builder::new().prefix(".rlc-").tempfile_in(&self.folder)?;
        file.write_all(bytes)?;
        file.persist(path).map_err(|e| e.error)?;
        Ok(())
    }
}

fn pack(key: &str, cubin: &Cubin) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    for part in [key.as_bytes(), cubin.log.as_bytes(), &cubin.code] {
        out.extend((part.len() as u64).to_le_bytes());
        out.extend(part);
    }
    let sum = fingerprint(&out);
    out.extend(sum.to_le_bytes());
    out
}

/// What is kept for a key; none where nothing is, or the kernels of another key.
fn read(path: &Path, key: &str) -> Result<Option<Cubin>, String> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e.to_string()),
    };
    let Some((found, cubin)) = unpack(&bytes) else {
        return Err("the file is damaged".to_owned());
    };
    Ok((found == key).then_some(cubin))
}

fn unpack(bytes: &[u8]) -> Option<(String, Cubin)> {
    let (rest, last) = bytes.split_last_chunk::<8>()?;
    if u64::from_le_bytes(*last) != fingerprint(rest) {
        return None;
    }
    let mut rest = rest.strip_prefix(MAGIC)?;
    let mut part = || {
        let (length, after) = rest.split_first_chunk::<8>()?;
        let (part, after) = after.split_at_checked(u64::from_le_bytes(*length) as usize)?;
        rest = after;
        Some(part.to_vec())
    };
    let (key, log, code) = (part()?, part()?, part()?);
    Some((String::from_utf8(key).ok()?, Cubin { code, log: String::from_utf8(log).ok()? }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests stop at the first surprise")]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_found_whole_or_not_at_all() {
        let cubin = Cubin { code: vec![1, 2, 3, 0, 255], log: "Used 7 registers".to_owned() };
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().join("kernels"));
        assert_eq!(cache.size(), (0, 0));
        let (path, whole) = (cache.folder().join("a.cubin"), pack("the key", &cubin));
        cache.keep(&path, &whole).unwrap();
        assert_eq!(cache.size(), (1, whole.len() as u64));
        assert_eq!(read(&path, "the key"), Ok(Some(cubin)));
        assert_eq!(read(&path, "another key"), Ok(None));
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert!(read(&path, "the key").is_err(), "{cut} bytes");
            let mut changed = whole.clone();
            changed[cut] ^= 1;
            std::fs::write(&path, &changed).unwrap();
            assert!(read(&path, "the key").is_err(), "byte {cut}");
        }
        assert_eq!(read(&cache.folder().join("b.cubin"), "the key"), Ok(None));
    }
}
