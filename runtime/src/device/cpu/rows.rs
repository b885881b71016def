//! Precompiled primitives for rows of the vocabulary: what the whole row says, and gradients over it.
//!
//! ```text
//! p_v = exp(x_v - lse(x)),  x_v = scale * l_v        scale is 1 / temperature
//!
//! statistics    one sweep: the largest x, sum exp(x - max), and what entropy, sum p^2 and KL to another row need
//! gradient      one sweep: a sum of terms p, p log p, p^2 and p y to f32 or bf16, also in place
//! ends          one sweep: the least and the largest
//! top           one sweep or two: the n-th entry, and the entries that are at least some number
//! exp           the exponential that both are made of
//! ```
//!
//! Rows are f32, bf16 or f16; f64 rows are accepted and computed one by one. Each primitive exists for every [`Width`]
//! and gives the same result to rounding, whatever the machine: the order of sums follows from the width and the
//! length alone. Nothing here starts threads or allocates.
//!
//! Accuracy: the exponential of an entry d below the largest is within 2e-7 + 8e-8 d, relative, of the true one, for
//! logits of any size; sums add at most 16 numbers in f32 before they go on in f64, and stay within 1e-6 for rows of any length. Entries more than
//! 88 below the largest count as probability 0, as entries at minus infinity do: they add nothing, whatever they are
//! multiplied with. A NaN or plus infinity anywhere makes every sum NaN.
//!
//! Rows out of the ordinary (infinities, NaN, scales beyond 1e20) are computed in plain f64 instead.
#![allow(clippy::inline_always, reason = "inlining is what selects the instruction set")]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod base;
mod block;
mod exact;
mod gradient;
mod portable;
mod simd;
mod statistics;
#[cfg(test)]
mod tests;
pub(super) mod top;

use rlc_compiler::table::Floats;

use self::base::Base;
use self::simd::{Kernel, Simd};

pub use self::block::Out;
pub(super) use self::block::{Source, Stores, Target};
pub(in crate::device) use self::block::{bf16, f16};
pub use self::gradient::{Gradient, MOST_TERMS, gradient};
pub(super) use self::gradient::{Place, Terms, gradient_at};
pub use self::simd::Width;
pub use self::statistics::{Beside, Statistics, Wanted, ends, statistics};

/// A row of logits, and what they are multiplied with before the softmax.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// As the batch has them.
    pub logits: Floats<'a>,
    /// 1 / temperature; above 0.
    pub scale: f64,
}

/// Replaces each number x, at most 88, by its exponential: within 2e-7 + 8e-8 |x|, relative, down to -87, and exactly 0
/// below -87.7.
/// Exactly 1 at 0; NaN at NaN.
pub fn exp(width: Width, x: &mut [f32]) {
    if let Some(base) = Base::new(1.0) {
        simd::run(width, Exp { x, base });
    }
}

struct Exp<'a> {
    x: &'a mut [f32],
    base: Base,
}

impl Kernel for Exp<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut chunks = self.x.chunks_exact_mut(S::LANES);
        for chunk in &mut chunks {
            let at = chunk.as_mut_ptr();
            // SAFETY: a chunk has as many numbers as a vector.
            unsafe { s.store(at, s.exp(s.load(at), self.base).0) };
        }
        for v in chunks.into_remainder() {
            *v = s.lane_max(s.exp(s.splat(*v), self.base).0);
        }
    }
}
