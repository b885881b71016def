//! Batch files: safetensors in and out. Reading checks the file, not the batch; the structure is
//! checked by `rlc_compiler::shape` and the columns by `rlc_compiler::columns`, against a program.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use rlc_compiler::table::{Array, Data, Table};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

/// Why a batch file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// The file cannot be opened or read.
    #[error("cannot read the batch `{path}`: {why}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        why: std::io::Error,
    },
    /// The file is no safetensors file, or is cut short.
    #[error(
        "`{path}` is not a readable safetensors file: {why}; write it with `safetensors.numpy.save_file`"
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// The reader's reason.
        why: String,
    },
    /// A column has a type that batches do not use.
    #[error(
        "`{name}` in `{path}` is {dtype}, but batch columns are F32, F64, BF16, F16, I64, I32, U8 or BOOL"
    )]
    Dtype {
        /// The file.
        path: PathBuf,
        /// The column.
        name: String,
        /// Its type.
        dtype: String,
    },
    /// The result cannot be written.
    #[error("cannot write `{path}`: {why}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        why: String,
    },
}

/// Reads a batch file.
pub fn read(path: &Path) -> Result<Table, BatchError> {
    let bytes =
        std::fs::read(path).map_err(|why| BatchError::Read { path: path.to_owned(), why })?;
    parse(&bytes, path)
}

/// Reads a batch from the bytes of a file; `path` only names it in errors.
pub fn parse(bytes: &[u8], path: &Path) -> Result<Table, BatchError> {
    let tensors = SafeTensors::deserialize(bytes)
        .map_err(|why| BatchError::Format { path: path.to_owned(), why: why.to_string() })?;
    let mut table = Table::default();
    for (name, view) in tensors.iter() {
        let data = data_of(&view).ok_or_else(|| BatchError::Dtype {
            path: path.to_owned(),
            name: name.to_owned(),
            dtype: format!("{:?}", view.dtype()),
        })?;
        table.arrays.insert(name.to_owned(), Array { data, shape: view.shape().to_vec() });
    }
    Ok(table)
}

fn data_of(view: &TensorView<'_>) -> Option<Data> {
    let bytes = view.data();
    // Columns are little-endian and need not be aligned in the file.
    let f32s = || bytes.as_chunks().0.iter().map(|c| f32::from_le_bytes(*c)).collect();
    let f64s = || bytes.as_chunks().0.iter().map(|c| f64::from_le_bytes(*c)).collect();
    let u16s = || bytes.as_chunks().0.iter().map(|c| u16::from_le_bytes(*c)).collect();
    match view.dtype() {
        Dtype::F32 => Some(Data::F32(f32s())),
        Dtype::F64 => Some(Data::F64(f64s())),
        Dtype::BF16 => Some(Data::Bf16(u16s())),
        Dtype::F16 => Some(Data::F16(u16s())),
        Dtype::I64 => {
            Some(Data::I64(bytes.as_chunks().0.iter().map(|c| i64::from_le_bytes(*c)).collect()))
        }
        Dtype::I32 => Some(Data::I64(
            bytes.as_chunks().0.iter().map(|c| i64::from(i32::from_le_bytes(*c))).collect(),
        )),
        Dtype::U8 | Dtype::BOOL => Some(Data::U8(bytes.to_vec())),
        _ => None,
    }
}

/// Arrays as the bytes of one safetensors file.
pub fn to_bytes(table: &Table) -> Result<Vec<u8>, String> {
    let mut stored: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
    for (name, array) in &table.arrays {
        let (dtype, bytes) = match &array.data {
            Data::F32(v) => (Dtype::F32, v.iter().flat_map(|x| x.to_le_bytes()).collect()),
            Data::F64(v) => (Dtype::F64, v.iter().flat_map(|x| x.to_le_bytes()).collect()),
            Data::Bf16(v) => (Dtype::BF16, v.iter().flat_map(|x| x.to_le_bytes()).collect()),
            Data::F16(v) => (Dtype::F16, v.iter().flat_map(|x| x.to_le_bytes()).collect()),
            Data::I64(v) => (Dtype::I64, v.iter().flat_map(|x| x.to_le_bytes()).collect()),
            Data::U8(v) => (Dtype::U8, v.clone()),
        };
        stored.push((name.clone(), dtype, array.shape.clone(), bytes));
    }
    let mut views = Vec::with_capacity(stored.len());
    for (name, dtype, shape, bytes) in &stored {
        let view = TensorView::new(*dtype, shape.clone(), bytes).map_err(|e| e.to_string())?;
        views.push((name.as_str(), view));
    }
    safetensors::serialize(views, None).map_err(|e| e.to_string())
}

/// Writes arrays as one safetensors file: whole, or not at all.
pub fn write(table: &Table, path: &Path) -> Result<(), BatchError> {
    let fail = |why: String| BatchError::Write { path: path.to_owned(), why };
    let bytes = to_bytes(table).map_err(fail)?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(|e| fail(e.to_string()))?;
    file.write_all(&bytes).map_err(|e| fail(e.to_string()))?;
    file.persist(path).map_err(|e| fail(e.to_string()))?;
    Ok(())
}
