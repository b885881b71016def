//! One process per run folder: two would write over each other's metrics and checkpoints.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::Path;

use super::error::{Result, TrainError, at};

/// A run's folder, held until this is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    /// None on file systems that know no locks.
    _file: Option<File>,
}

impl Lock {
    /// Takes the folder, creating it where it does not exist; an error where another run has it.
    pub fn take(dir: &Path) -> Result<Lock> {
        fs::create_dir_all(dir).map_err(at("create the folder", dir))?;
        let path = dir.join(".lock");
        let mut options = OpenOptions::new();
        let file = options
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(at("create", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: Some(file) }),
            Err(TryLockError::Error(e)) if e.kind() == ErrorKind::Unsupported => {
                Ok(Lock { _file: None })
            }
            Err(TryLockError::Error(e)) => Err(at("lock", &path)(e)),
            Err(TryLockError::WouldBlock) => Err(TrainError::Checkpoint(format!(
                "another process is running in {0}: wait for it or stop it with Ctrl-C, then continue \
                 with --resume {0}; or choose another --out",
                dir.display()
            ))),
        }
    }
}
