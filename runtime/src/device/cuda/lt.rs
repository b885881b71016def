//! cuBLASLt: a product in column-major form on addresses of a GPU.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::Arc;

use candle_core::cuda_backend::cudarc::cublaslt::{result, sys};
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaStream, DevicePtr};
use candle_core::{DType, Error, Result};

use super::product::{ColumnMajor, Stored};

/// Bytes that an algorithm may use for sums of parts; what NVIDIA recommends for Hopper.
const WORKSPACE: usize = 32 << 20;
/// Forms whose algorithm is kept. Token counts change from step to step, so there is no end to them.
const MOST: usize = 256;

/// The library, on one stream.
pub struct Lt {
    known: HashMap<Key, Chosen>,
    handle: Handle,
    workspace: CudaSlice<u8>,
    stream: Arc<CudaStream>,
}

/// A form, and how far the addresses are aligned: an algorithm may rely on it.
type Key = (ColumnMajor, [u32; 3]);

/// What the library takes for a form, and the algorithm that it prefers there.
struct Chosen {
    description: Description,
    a: Shape,
    b: Shape,
    c: Shape,
    algorithm: sys::cublasLtMatmulAlgo_t,
}

fn failed(what: &str) -> impl Fn(result::CublasError) -> Error + '_ {
    move |e| Error::Cuda(format!("cuBLASLt, {what}: {e}").into())
}

macro_rules! held {
    ($name:ident, $of:ty, $destroy:path) => {
        struct $name($of);

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: made once, destroyed once. There is nobody to tell of a failure.
                let _ = unsafe { $destroy(self.0) };
            }
        }
    };
}

held!(Handle, sys::cublasLtHandle_t, result::destroy_handle);
held!(Description, sys::cublasLtMatmulDesc_t, result::destroy_matmul_desc);
held!(Shape, sys::cublasLtMatrixLayout_t, result::destroy_matrix_layout);
held!(Preference, sys::cublasLtMatmulPreference_t, result::destroy_matmul_pref);

// SAFETY: the library's objects belong to no thread, and `Lt` lends them to none: who has it alone can use them.
unsafe impl Send for Lt {}

impl Lt {
    /// Opens the library and takes the memory it works in.
    pub fn new(stream: Arc<CudaStream>) -> Result<Lt> {
        stream.context().bind_to_thread().map_err(|e| Error::Cuda(Box::new(e)))?;
        let handle = Handle(result::create_handle().map_err(failed("opening"))?);
        // SAFETY: only the library uses it, and writes what it reads.
        let workspace = unsafe { stream.alloc::<u8>(WORKSPACE) };
        let workspace = workspace.map_err(|e| {
            Error::Cuda(
                format!("taking {} MB of GPU memory for products: {e}", WORKSPACE >> 20).into(),
            )
        })?;
        Ok(Lt { known: HashMap::new(), handle, workspace, stream })
    }

    /// Whether products go to this stream.
    pub fn is_on(&self, stream: &Arc<CudaStream>) -> bool {
        self.stream.cu_stream() == stream.cu_stream()
    }

    /// Multiplies the matrices at three addresses, the last of them the result.
    ///
    /// # Safety
    ///
    /// They lie there in the form's sizes and types until the stream has come so far, and nobody else writes them or
    /// reads the result meanwhile.
    pub unsafe fn multiply(&mut self, of: &ColumnMajor, at: [u64; 3]) -> Result<()> {
        self.stream.context().bind_to_thread().map_err(|e| Error::Cuda(Box::new(e)))?;
        let key = (*of, at.map(alignment));
        if !self.known.contains_key(&key) {
            if self.known.len() >= MOST {
                self.known.clear();
            }
            self.known.insert(key, self.choose(&key)?);
        }
        let chosen = &self.known[&key];
        let (alpha, beta) = (1f32, if of.add { 1f32 } else { 0f32 });
        let workspace = self.workspace.device_ptr(&self.stream).0;
        let [a, b, c] = at.map(|address| address as *mut c_void);
        // SAFETY: the caller vouches for the addresses, all the library's objects are held, and the numbers are f32 as
        // the description says. The result is read and written in place, which the library allows.
        unsafe {
            result::matmul(
                self.handle.0,
                chosen.description.0,
                (&raw const alpha).cast(),
                (&raw const beta).cast(),
                a,
                chosen.a.0,
                b,
                chosen.b.0,
                c,
                chosen.c.0,
                c,
                chosen.c.0,
                &raw const chosen.algorithm,
                workspace as *mut c_void,
                WORKSPACE,
                self.stream.cu_stream().cast(),
            )
        }
        .map_err(|e| failed(&format!("a product {of:?}"))(e))
    }

    fn choose(&self, (of, alignments): &Key) -> Result<Chosen> {
        use sys::cublasLtMatmulDescAttributes_t as Of;
        use sys::cublasLtMatmulPreferenceAttributes_t as Wish;

        let failed = failed("describing a product");
        let f32 = sys::cudaDataType_t::CUDA_R_32F;
        let sums = sys::cublasComputeType_t::CUBLAS_COMPUTE_32F;
        let description = result::create_matmul_desc(sums, f32).map_err(&failed)?;
        let description = Description(description);
        for (attribute, stored) in
            [(Of::CUBLASLT_MATMUL_DESC_TRANSA, of.a), (Of::CUBLASLT_MATMUL_DESC_TRANSB, of.b)]
        {
            let turned = i32::from(stored.turned);
            // SAFETY: the description is held; the value is copied.
            unsafe {
                let value = (&raw const turned).cast();
                result::set_matmul_desc_attribute(description.0, attribute, value, 4)
            }
            .map_err(&failed)?;
        }
        let shape = |of: Stored| {
            let (rows, columns) = (of.rows as u64, of.columns as u64);
            result::create_matrix_layout(float(of.dtype), rows, columns, of.rows as i64)
                .map(Shape)
                .map_err(&failed)
        };
        let (a, b, c) = (shape(of.a)?, shape(of.b)?, shape(of.c)?);
        let wishes = Preference(result::create_matmul_pref().map_err(&failed)?);
        let wish = |attribute, value: *const c_void, bytes| {
            // SAFETY: the preference is held; the value has so many bytes and is copied.
            unsafe { result::set_matmul_pref_attribute(wishes.0, attribute, value, bytes) }
                .map_err(&failed)
        };
        let most = WORKSPACE;
        let bytes = Wish::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
        wish(bytes, (&raw const most).cast(), size_of::<usize>())?;
        // Parts of a sum are added in f32, not in the type of the result.
        let parts = sys::cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE as u32;
        let scheme = Wish::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK;
        wish(scheme, (&raw const parts).cast(), 4)?;
        let [to_a, to_b, to_c] = alignments;
        for (attribute, bytes) in [
            (Wish::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, to_a),
            (Wish::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, to_b),
            (Wish::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, to_c),
            (Wish::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, to_c),
        ] {
            wish(attribute, std::ptr::from_ref(bytes).cast(), 4)?;
        }
        // SAFETY: everything is held.
        let found = unsafe {
            let (handle, of) = (self.handle.0, description.0);
            result::get_matmul_algo_heuristic(handle, of, a.0, b.0, c.0, c.0, wishes.0)
        };
        let found =
            found.map_err(|e| self::failed(&format!("choosing how to compute {of:?}"))(e))?;
        Ok(Chosen { description, a, b, c, algorithm: found.algo })
    }
}

fn float(dtype: DType) -> sys::cudaDataType_t {
    match dtype {
        DType::BF16 => sys::cudaDataType_t::CUDA_R_16BF,
        DType::F16 => sys::cudaDataType_t::CUDA_R_16F,
        // A product has no other.
        _ => sys::cudaDataType_t::CUDA_R_32F,
    }
}

/// The largest power of two up to 256 that divides an address.
fn alignment(address: u64) -> u32 {
    1 << address.trailing_zeros().min(8)
}
