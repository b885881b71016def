//! The projection `x w^T (+ b)` with its backward pass, three products in the layouts they are needed in.
//!
//! candle's own matmul would leave the weight's gradient transposed and add it up once more.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

use super::{slice, with_slice};
use crate::gemm::{Matrix, product};

/// x `[n, in]`, w `[out, in]` to `[n, out]`.
pub(crate) struct Linear;

/// The same with b `[out]` added to each row.
pub(crate) struct LinearBias;

fn forward(
    x: (&CpuStorage, &Layout),
    w: (&CpuStorage, &Layout),
    b: Option<&[f32]>,
) -> Result<(CpuStorage, Shape)> {
    let (n, inner) = x.1.shape().dims2()?;
    let (out, w_inner) = w.1.shape().dims2()?;
    if inner != w_inner || b.is_some_and(|b| b.len() != out) {
        candle_core::bail!("linear: x {:?}, w {:?}, b {:?}", x.1, w.1, b.map(<[f32]>::len));
    }
    let mut y = match b {
        None => vec![0f32; n * out],
        Some(b) => b.repeat(n),
    };
    let w = Matrix::new(slice(w.0, w.1)?, out, inner);
    product(&mut y, out, Matrix::new(slice(x.0, x.1)?, n, inner), w.turned(), b.is_some());
    Ok((CpuStorage::F32(y), (n, out).into()))
}

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
        forward((x, xl), (w, wl), None)
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

impl CustomOp3 for LinearBias {
    fn name(&self) -> &'static str {
        "linear-bias"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
        b: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        forward((x, xl), (w, wl), Some(slice(b, bl)?))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (dx, dw) = backward(x, w, grad)?;
        let mut db = vec![0f32; b.dim(0)?];
        with_slice(grad, |g| {
            for row in g.chunks_exact(db.len()) {
                for (sum, v) in db.iter_mut().zip(row) {
                    *sum += v;
                }
            }
            Ok(())
        })?;
        Ok((Some(dx), Some(dw), Some(Tensor::from_vec(db, b.shape(), b.device())?)))
    }
}
