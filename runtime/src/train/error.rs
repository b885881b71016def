//! What can go wrong between a configuration and a trained checkpoint. Each message names the thing
//! and says what to write instead; nothing here is worded by the command line.

use std::path::{Path, PathBuf};

use rlc_model::error::plain;

/// An error of the training loop or of what it reads.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The run file or a flag is wrong.
    #[error("{0}")]
    Config(String),
    /// A data file is wrong: `file:line: what`.
    #[error("{file}:{line}: {what}", file = file.display())]
    Data {
        /// The file.
        file: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong and what to write.
        what: String,
    },
    /// The program reads a column that the task does not give.
    #[error("{0}")]
    Column(String),
    /// A reward could not be computed.
    #[error("reward {name}: {what}")]
    Reward {
        /// The reward's name in the run file.
        name: String,
        /// What happened, with the process's stderr where there is one.
        what: String,
    },
    /// A run directory or checkpoint cannot be used.
    #[error("{0}")]
    Checkpoint(String),
    /// A file could not be read or written.
    #[error("cannot {action} `{path}`: {why}", path = path.display(), why = plain(source))]
    Io {
        /// What was attempted, for example `read`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The objective refused the batch or produced a number that is not finite.
    #[error("{0}")]
    Objective(String),
    /// The model failed.
    #[error("model: {0}")]
    Model(String),
    /// Tensor arithmetic failed.
    #[error("tensor arithmetic: {0}")]
    Tensor(#[from] candle_core::Error),
}

/// Result with a [`TrainError`].
pub type Result<T> = std::result::Result<T, TrainError>;

impl TrainError {
    /// 2 for bad input, 1 for a failure while running.
    pub fn exit_code(&self) -> u8 {
        match self {
            TrainError::Config(_)
            | TrainError::Data { .. }
            | TrainError::Column(_)
            | TrainError::Checkpoint(_)
            | TrainError::Io { .. } => 2,
            TrainError::Reward { .. }
            | TrainError::Objective(_)
            | TrainError::Model(_)
            | TrainError::Tensor(_) => 1,
        }
    }
}

/// Attaches what was attempted and the path to a system error.
pub(crate) fn at<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(std::io::Error) -> TrainError + 'a {
    move |source| TrainError::Io { action, path: path.to_path_buf(), source }
}
