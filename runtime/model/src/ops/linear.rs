//! The output projection `x w^T` with its backward pass, three products in the layouts they are needed in.
//!
//! candle's own matmul would leave the weight's gradient transposed and add it up once more.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::{slice, with_slice};
use crate::gemm::{Matrix, product};

/// x `[n, in]`, w `[out, in]` to `[n, out]`.
pub(crate) struct Linear;

fn backward(x: &Tensor, w: &Tensor, grad: &Tensor) -> Result<(Tensor, Tensor)> {
    let (n, inner) = x.dims2()?;
    let out = w.dim(0)?;
    let mut dx = vec![0f32; n * inner];
    let mut dw = vec![0f32; out * inner];
    with_slice(grad, |g| {
        let g = Matrix::new(g, n, out);
        with_slice(w, |w| {
            product(&mut dx, inner, g, Matrix::new(w, out, inner), false);
            Ok(())
        })?;
        with_slice(x, |x| {
            product(&mut dw, inner, g.turned(), Matrix::new(x, n, inner), false);
            Ok(())
        })
    })?;
    Ok((
        Tensor::from_vec(dx, (n, inner), x.device())?,
        Tensor::from_vec(dw, (out, inner), x.device())?,
    ))
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (n, inner) = xl.shape().dims2()?;
        let (out, w_inner) = wl.shape().dims2()?;
        if inner != w_inner {
            candle_core::bail!("linear: x {:?}, w {:?}", xl.shape(), wl.shape());
        }
        let mut y = vec![0f32; n * out];
        let w = Matrix::new(slice(w, wl)?, out, inner).turned();
        product(&mut y, out, Matrix::new(slice(x, xl)?, n, inner), w, false);
        Ok((CpuStorage::F32(y), (n, out).into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (dx, dw) = backward(x, w, grad)?;
        Ok((Some(dx), Some(dw)))
    }
}
