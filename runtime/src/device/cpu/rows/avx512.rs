//! 512-bit vectors.

use std::arch::x86_64::{
    __m512, __m512d, __mmask16, _CMP_NLT_UQ, _CMP_UNORD_Q, _mm256_loadu_si256, _mm256_storeu_si256,
    _mm512_add_epi32, _mm512_add_pd, _mm512_add_ps, _mm512_and_si512, _mm512_castps_si512,
    _mm512_castps512_ps256, _mm512_castsi512_ps, _mm512_cmp_ps_mask, _mm512_cvtepi32_epi16,
    _mm512_cvtepu16_epi32, _mm512_cvtph_ps, _mm512_cvtps_pd, _mm512_cvtps_ph,
    _mm512_extractf32x8_ps, _mm512_fmadd_ps, _mm512_fmsub_ps, _mm512_loadu_ps,
    _mm512_mask_or_epi32, _mm512_mask3_fmadd_ps, _mm512_maskz_mul_ps, _mm512_maskz_scalef_ps,
    _mm512_max_ps, _mm512_mul_ps, _mm512_reduce_add_pd, _mm512_reduce_max_ps, _mm512_roundscale_ps,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_pd, _mm512_slli_epi32, _mm512_srli_epi32,
    _mm512_storeu_ps, _mm512_sub_ps,
};

use super::simd::{Kernel, Simd};

/// Proof that the machine has the features of [`run`], where alone it is made.
#[derive(Clone, Copy)]
pub(super) struct Avx512(());

/// Runs a kernel.
///
/// # Safety
///
/// The machine has these features.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
pub(super) unsafe fn run<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx512(()))
}

macro_rules! with_avx512 {
    ($e:expr) => {
        // SAFETY: a value of `Avx512` exists only where the machine has these instructions. What is read or written
        // through pointers is promised by the caller.
        unsafe { $e }
    };
}

impl Simd for Avx512 {
    type V = __m512;
    type Mask = __mmask16;
    type Wide = [__m512d; 2];
    const LANES: usize = 16;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        with_avx512!(_mm512_set1_ps(x))
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m512 {
        with_avx512!(_mm512_loadu_ps(from))
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, v: __m512) {
        with_avx512!(_mm512_storeu_ps(to, v));
    }
    #[inline(always)]
    unsafe fn load_f16(self, from: *const u16) -> __m512 {
        with_avx512!(_mm512_cvtph_ps(_mm256_loadu_si256(from.cast())))
    }
    #[inline(always)]
    unsafe fn load_bf16(self, from: *const u16) -> __m512 {
        with_avx512!(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(
            _mm256_loadu_si256(from.cast())
        ))))
    }
    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16, v: __m512) {
        with_avx512!({
            let bits = _mm512_castps_si512(v);
            let even = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let up = _mm512_add_epi32(even, _mm512_set1_epi32(0x7fff));
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v);
            let rounded = _mm512_add_epi32(bits, up);
            let quiet = _mm512_set1_epi32(0x0040_0000);
            let rounded = _mm512_mask_or_epi32(rounded, nan, bits, quiet);
            let short = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(rounded));
            _mm256_storeu_si256(to.cast(), short);
        });
    }
    #[inline(always)]
    unsafe fn store_f16(self, to: *mut u16, v: __m512) {
        // To nearest, ties to even.
        with_avx512!(_mm256_storeu_si256(to.cast(), _mm512_cvtps_ph::<0>(v)));
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        with_avx512!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        with_avx512!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        with_avx512!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        with_avx512!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        with_avx512!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn mul_add_where(self, mask: __mmask16, a: __m512, b: __m512, c: __m512) -> __m512 {
        with_avx512!(_mm512_mask3_fmadd_ps(a, b, c, mask))
    }
    #[inline(always)]
    fn mul_where(self, mask: __mmask16, a: __m512, b: __m512) -> __m512 {
        with_avx512!(_mm512_maskz_mul_ps(mask, a, b))
    }
    #[inline(always)]
    fn mul_sub(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        with_avx512!(_mm512_fmsub_ps(a, b, c))
    }
    #[inline(always)]
    fn round(self, x: __m512) -> __m512 {
        with_avx512!(_mm512_roundscale_ps::<0>(x))
    }
    #[inline(always)]
    fn scale(self, a: __m512, k: __m512) -> (__m512, __mmask16) {
        let mask = with_avx512!(_mm512_cmp_ps_mask::<_CMP_NLT_UQ>(k, self.splat(-126.0)));
        (with_avx512!(_mm512_maskz_scalef_ps(mask, a, k)), mask)
    }
    #[inline(always)]
    fn widen_add(self, sums: [__m512d; 2], v: __m512) -> [__m512d; 2] {
        let low = with_avx512!(_mm512_cvtps_pd(_mm512_castps512_ps256(v)));
        let high = with_avx512!(_mm512_cvtps_pd(_mm512_extractf32x8_ps::<1>(v)));
        with_avx512!([_mm512_add_pd(sums[0], low), _mm512_add_pd(sums[1], high)])
    }
    #[inline(always)]
    fn wide_zero(self) -> [__m512d; 2] {
        with_avx512!([_mm512_setzero_pd(); 2])
    }
    #[inline(always)]
    fn wide_sum(self, sums: [__m512d; 2]) -> f64 {
        with_avx512!(_mm512_reduce_add_pd(_mm512_add_pd(sums[0], sums[1])))
    }
    #[inline(always)]
    fn lane_max(self, v: __m512) -> f32 {
        with_avx512!(_mm512_reduce_max_ps(v))
    }
}
