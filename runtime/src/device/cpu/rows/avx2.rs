//! 256-bit vectors.

use std::convert::Infallible;

use std::arch::x86_64::{
    __m256, __m256d, __m256i, _CMP_NLT_UQ, _CMP_UNORD_Q, _mm_loadu_si128, _mm256_add_epi32,
    _mm256_add_pd, _mm256_add_ps, _mm256_and_ps, _mm256_and_si256, _mm256_blend_epi16,
    _mm256_blendv_epi8, _mm256_castps_si256, _mm256_castps256_ps128, _mm256_castsi256_ps,
    _mm256_cmp_ps, _mm256_cvtepu16_epi32, _mm256_cvtph_ps, _mm256_cvtps_pd, _mm256_extractf128_ps,
    _mm256_fmadd_ps, _mm256_fmsub_ps, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_max_epi16,
    _mm256_max_ps, _mm256_min_epu16, _mm256_mul_ps, _mm256_or_si256, _mm256_round_ps,
    _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_pd, _mm256_slli_epi32,
    _mm256_srli_epi32, _mm256_storeu_pd, _mm256_storeu_ps, _mm256_storeu_si256, _mm256_stream_ps,
    _mm256_stream_si256, _mm256_sub_ps,
};

use super::base::{Base, MAGIC};
use super::block::HIGH_HALF;
use super::simd::{Kernel, Simd, highest};

/// Proof that the machine has the features of [`run`], where alone it is made.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

/// Runs a kernel.
///
/// # Safety
///
/// The machine has these features.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn run<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx2(()))
}

macro_rules! with_avx2 {
    ($e:expr) => {
        // SAFETY: a value of `Avx2` exists only where the machine has these instructions. What is read or written
        // through pointers is promised by the caller.
        unsafe { $e }
    };
}

impl Simd for Avx2 {
    type V = __m256;
    type Mask = __m256;
    type Wide = [__m256d; 2];
    type Powers = Infallible;
    type Bits = __m256i;
    const LANES: usize = 8;

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        with_avx2!(_mm256_set1_ps(x))
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m256 {
        with_avx2!(_mm256_loadu_ps(from))
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, v: __m256) {
        with_avx2!(_mm256_storeu_ps(to, v));
    }
    #[inline(always)]
    unsafe fn stream(self, to: *mut f32, v: __m256) {
        with_avx2!(_mm256_stream_ps(to, v));
    }
    #[inline(always)]
    unsafe fn load_f16(self, from: *const u16) -> __m256 {
        with_avx2!(_mm256_cvtph_ps(_mm_loadu_si128(from.cast())))
    }
    #[inline(always)]
    unsafe fn load_bf16(self, from: *const u16) -> __m256 {
        with_avx2!(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(
            _mm_loadu_si128(from.cast())
        ))))
    }
    #[inline(always)]
    unsafe fn load_bits(self, from: *const u16) -> __m256i {
        with_avx2!(_mm256_loadu_si256(from.cast()))
    }
    #[inline(always)]
    unsafe fn store_bits(self, to: *mut u16, bits: __m256i) {
        with_avx2!(_mm256_storeu_si256(to.cast(), bits));
    }
    #[inline(always)]
    unsafe fn stream_bits(self, to: *mut u16, bits: __m256i) {
        with_avx2!(_mm256_stream_si256(to.cast(), bits));
    }
    /// Those of even places, then those of odd ones.
    #[inline(always)]
    fn widen_bits(self, bits: __m256i) -> [__m256; 2] {
        with_avx2!([
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits)),
            _mm256_castsi256_ps(_mm256_and_si256(bits, _mm256_set1_epi32(HIGH_HALF))),
        ])
    }
    #[inline(always)]
    fn narrow_bits(self, v: [__m256; 2]) -> __m256i {
        with_avx2!({
            // In the high half.
            let [even, odd] = v.map(|v| {
                let bits = _mm256_castps_si256(v);
                let even = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
                let up = _mm256_add_epi32(even, _mm256_set1_epi32(0x7fff));
                let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
                let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x0040_0000));
                _mm256_blendv_epi8(_mm256_add_epi32(bits, up), quiet, nan)
            });
            _mm256_blend_epi16::<0b1010_1010>(_mm256_srli_epi32::<16>(even), odd)
        })
    }
    #[inline(always)]
    fn lowest(self) -> [__m256i; 2] {
        with_avx2!([_mm256_set1_epi16(i16::MIN), _mm256_set1_epi16(-1)])
    }
    #[inline(always)]
    fn higher(self, so_far: [__m256i; 2], bits: __m256i) -> [__m256i; 2] {
        with_avx2!([_mm256_max_epi16(so_far[0], bits), _mm256_min_epu16(so_far[1], bits)])
    }
    #[inline(always)]
    fn highest(self, so_far: [__m256i; 2]) -> f32 {
        let mut lanes = [[0u16; 16]; 2];
        for (lanes, bits) in lanes.iter_mut().zip(so_far) {
            with_avx2!(_mm256_storeu_si256(lanes.as_mut_ptr().cast(), bits));
        }
        highest(&lanes[0], &lanes[1])
    }
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        with_avx2!(_mm256_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        with_avx2!(_mm256_sub_ps(a, b))
    }
    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        with_avx2!(_mm256_max_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        with_avx2!(_mm256_mul_ps(a, b))
    }
    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        with_avx2!(_mm256_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn mul_add_where(self, mask: __m256, a: __m256, b: __m256, c: __m256) -> __m256 {
        // Both are cleared: the other may be infinite.
        let (a, b) = with_avx2!((_mm256_and_ps(a, mask), _mm256_and_ps(b, mask)));
        self.mul_add(a, b, c)
    }
    #[inline(always)]
    fn mul_where(self, mask: __m256, a: __m256, b: __m256) -> __m256 {
        with_avx2!(_mm256_and_ps(_mm256_mul_ps(a, b), mask))
    }
    #[inline(always)]
    fn mul_sub(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        with_avx2!(_mm256_fmsub_ps(a, b, c))
    }
    #[inline(always)]
    fn round(self, x: __m256) -> __m256 {
        with_avx2!(_mm256_round_ps::<8>(x))
    }
    #[inline(always)]
    fn scale(self, a: __m256, k: __m256) -> (__m256, __m256) {
        let mask = with_avx2!(_mm256_cmp_ps::<_CMP_NLT_UQ>(k, self.splat(-126.0)));
        // The whole number in the low bits of k + MAGIC becomes the exponent of a power of two.
        let bits = |v| -> __m256i { with_avx2!(_mm256_castps_si256(v)) };
        let biased = with_avx2!(_mm256_add_epi32(
            bits(self.add(k, self.splat(MAGIC))),
            _mm256_set1_epi32(127)
        ));
        let power = with_avx2!(_mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased)));
        (self.mul_where(mask, a, power), mask)
    }
    #[inline(always)]
    fn widen_add(self, sums: [__m256d; 2], v: __m256) -> [__m256d; 2] {
        let low = with_avx2!(_mm256_cvtps_pd(_mm256_castps256_ps128(v)));
        let high = with_avx2!(_mm256_cvtps_pd(_mm256_extractf128_ps::<1>(v)));
        with_avx2!([_mm256_add_pd(sums[0], low), _mm256_add_pd(sums[1], high)])
    }
    #[inline(always)]
    fn wide_zero(self) -> [__m256d; 2] {
        with_avx2!([_mm256_setzero_pd(); 2])
    }
    #[inline(always)]
    fn wide_sum(self, sums: [__m256d; 2]) -> f64 {
        let mut lanes = [0.0; 4];
        with_avx2!(_mm256_storeu_pd(lanes.as_mut_ptr(), _mm256_add_pd(sums[0], sums[1])));
        (lanes[0] + lanes[2]) + (lanes[1] + lanes[3])
    }
    #[inline(always)]
    fn powers(self, _: Base, _: f32) -> Option<Infallible> {
        None
    }
    #[inline(always)]
    fn power(self, _: __m256, of: Infallible) -> __m256 {
        match of {}
    }
    #[inline(always)]
    fn lane_max(self, v: __m256) -> f32 {
        let mut lanes = [0.0; 8];
        with_avx2!(_mm256_storeu_ps(lanes.as_mut_ptr(), v));
        lanes.into_iter().fold(f32::NEG_INFINITY, |a, b| if a > b { a } else { b })
    }
}
