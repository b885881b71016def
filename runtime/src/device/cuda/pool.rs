//! The pool that a GPU's memory comes from.

use std::ffi::c_void;

use cudarc::driver::{result, sys};

use super::gpu::{Gpu, failed};
use crate::device::DeviceError;

type Attribute = sys::CUmemPool_attribute;

impl Gpu {
    /// Keeps memory that is given back for whoever asks next. By default the pool hands all of it to the system whenever the
    /// GPU is waited for, and maps it anew a moment later.
    pub fn keep_memory(&self) -> Result<(), DeviceError> {
        match self.pool()? {
            Some(pool) => put(pool, Attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, u64::MAX),
            None => Ok(()),
        }
    }

    /// Bytes in use now, from where the peak is counted anew; none where the driver has no pools.
    pub fn forget_peak(&self) -> Result<Option<u64>, DeviceError> {
        let Some(pool) = self.pool()? else { return Ok(None) };
        self.wait()?;
        put(pool, Attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH, 0)?;
        get(pool, Attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT).map(Some)
    }

    /// Most bytes in use since.
    pub fn peak(&self) -> Result<Option<u64>, DeviceError> {
        let Some(pool) = self.pool()? else { return Ok(None) };
        get(pool, Attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH).map(Some)
    }

    fn pool(&self) -> Result<Option<sys::CUmemoryPool>, DeviceError> {
        let context = self.context();
        if !context.has_async_alloc() {
            return Ok(None);
        }
        // SAFETY: the device is that of a living context.
        let pool = unsafe { result::device::get_mem_pool(context.cu_device()) };
        pool.map(Some).map_err(failed(POOL))
    }
}

const POOL: &str = "asking for the GPU's pool of memory";

fn put(pool: sys::CUmemoryPool, what: Attribute, mut value: u64) -> Result<(), DeviceError> {
    let value = (&raw mut value).cast::<c_void>();
    // SAFETY: the pool is a device's own, which is always there; these attributes have 8 bytes.
    unsafe { result::mem_pool::set_attribute(pool, what, value) }.map_err(failed(POOL))
}

fn get(pool: sys::CUmemoryPool, what: Attribute) -> Result<u64, DeviceError> {
    let mut value = 0u64;
    // SAFETY: as above.
    unsafe { result::mem_pool::get_attribute(pool, what, (&raw mut value).cast()) }
        .map_err(failed(POOL))?;
    Ok(value)
}
