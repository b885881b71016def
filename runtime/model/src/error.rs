//! What can go wrong between a model folder and a log-prob.
//!
//! Every message names the file or argument, the values which disagree and what to do about it, because the
//! person who reads it did not write this crate. Nothing here prints or exits: callers decide that.

use std::path::{Path, PathBuf};

/// Every failure of this crate.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file or folder could not be read or written.
    #[error("cannot {action} `{}`: {}", path.display(), plain(source))]
    Io {
        /// What was attempted, for example `read`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// A file is not the JSON document it should be.
    #[error("`{file}` is not valid JSON: {message}; the file may be cut off or not a model file")]
    Json {
        /// The file (or the name given to bytes in memory).
        file: String,
        /// The parser's message with line and column.
        message: String,
    },
    /// A key of `config.json` is missing, has the wrong type or asks for something unsupported.
    #[error("`{file}`, key `{key}`: {message}")]
    Config {
        /// The file.
        file: String,
        /// The key, dotted when nested.
        key: String,
        /// What was found, what is supported.
        message: String,
    },
    /// A safetensors file is damaged.
    #[error("`{file}` is not a complete safetensors file: {message}; download or copy it again")]
    Safetensors {
        /// The file.
        file: String,
        /// The parser's message.
        message: String,
    },
    /// The model needs a tensor that no file holds.
    #[error(
        "tensor `{name}` {expected:?} is missing from {file}; config.json describes a model which needs it{hint}"
    )]
    MissingTensor {
        /// The weight file or files.
        file: String,
        /// The tensor.
        name: String,
        /// The shape the configuration asks for.
        expected: Vec<usize>,
        /// A guess at the cause, or empty.
        hint: String,
    },
    /// A file holds a tensor that the configured model has no place for.
    #[error(
        "tensor `{name}` {found:?} in `{file}` is not part of the model config.json describes: {hint}"
    )]
    UnexpectedTensor {
        /// The weight file.
        file: String,
        /// The tensor.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// What to look at.
        hint: String,
    },
    /// A tensor has another shape than the configuration implies.
    #[error(
        "tensor `{name}` in `{file}` has shape {found:?}, but config.json implies {expected:?}; weights and config.json are not from the same model"
    )]
    Shape {
        /// The weight file.
        file: String,
        /// The tensor.
        name: String,
        /// The shape in the file.
        found: Vec<usize>,
        /// The shape the configuration implies.
        expected: Vec<usize>,
    },
    /// A tensor is stored in a number format that is not read.
    #[error(
        "tensor `{name}` in `{file}` is stored as {found}; F32, BF16, F16 and F64 are supported (convert it, or load an unquantised copy)"
    )]
    Dtype {
        /// The weight file.
        file: String,
        /// The tensor.
        name: String,
        /// The stored format.
        found: String,
    },
    /// The tokenizer file cannot be used.
    #[error("tokenizer `{file}`: {message}")]
    Tokenizer {
        /// The file.
        file: String,
        /// The library's message, or what disagrees.
        message: String,
    },
    /// The tokenizer can produce ids that the model has no embedding for.
    #[error(
        "the tokenizer `{file}` has ids up to {largest}, but the model's vocabulary has {vocab} entries (0 to {}); tokenizer.json and the weights are not from the same model",
        vocab - 1
    )]
    VocabMismatch {
        /// The tokenizer file.
        file: String,
        /// The largest id of the tokenizer.
        largest: u32,
        /// `vocab_size` of the model.
        vocab: usize,
    },
    /// An argument of a call is out of range.
    #[error("{argument}: {message}")]
    Argument {
        /// The argument.
        argument: &'static str,
        /// The value found, the values allowed.
        message: String,
    },
    /// The model produced a NaN or an infinity.
    #[error(
        "{place} contains {value}; the weights have diverged or are damaged (lower the learning rate, or start from an earlier checkpoint)"
    )]
    NonFinite {
        /// Where it was seen.
        place: String,
        /// The value.
        value: f32,
    },
    /// candle refused an operation.
    #[error("tensor operation failed: {0}")]
    Candle(#[from] candle_core::Error),
}

/// The result of everything in this crate.
pub type Result<T> = std::result::Result<T, ModelError>;

impl ModelError {
    pub(crate) fn io<'a>(
        action: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(std::io::Error) -> Self + 'a {
        move |source| Self::Io { action, path: path.to_path_buf(), source }
    }

    pub(crate) fn config(file: &str, key: &str, message: impl Into<String>) -> Self {
        Self::Config { file: file.to_owned(), key: key.to_owned(), message: message.into() }
    }

    pub(crate) fn argument(argument: &'static str, message: impl Into<String>) -> Self {
        Self::Argument { argument, message: message.into() }
    }
}

/// Why the system refused a file, in words and without its number.
pub fn plain(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    // What this program says itself is said as it is.
    if error.get_ref().is_some() && error.kind() != ErrorKind::InvalidData {
        return error.to_string();
    }
    match error.kind() {
        ErrorKind::NotFound => "there is no such file or folder".into(),
        ErrorKind::PermissionDenied => "permission denied".into(),
        ErrorKind::IsADirectory => "it is a folder".into(),
        ErrorKind::NotADirectory => "a part of this path is a file, not a folder".into(),
        ErrorKind::AlreadyExists => "a file of this name exists already".into(),
        ErrorKind::InvalidData => "it is not UTF-8 text".into(),
        _ => {
            let text = error.to_string();
            text.split(" (os error").next().unwrap_or(&text).to_lowercase()
        }
    }
}

/// Reads a whole file; the error names it.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(ModelError::io("read", path))
}

/// Reads a file that may be absent.
pub(crate) fn read_optional(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ModelError::io("read", path)(source)),
    }
}

/// Parses JSON; the error names the file.
pub(crate) fn json(bytes: &[u8], file: &str) -> Result<serde_json::Value> {
    serde_json::from_slice(bytes)
        .map_err(|e| ModelError::Json { file: file.to_owned(), message: e.to_string() })
}
