//! 512-bit vectors.

use std::arch::x86_64::{
    __m256bh, __m256i, __m512, __m512bh, __m512d, __m512i, __mmask16, _CMP_NLT_UQ, _CMP_UNORD_Q,
    _mm256_loadu_si256, _mm256_storeu_si256, _mm256_stream_si256, _mm512_add_epi32, _mm512_add_pd,
    _mm512_add_ps, _mm512_and_si512, _mm512_castps_si512, _mm512_castps512_ps256,
    _mm512_castsi512_ps, _mm512_cmp_ps_mask, _mm512_cvtepi32_epi16, _mm512_cvtepu16_epi32,
    _mm512_cvtne2ps_pbh, _mm512_cvtneps_pbh, _mm512_cvtph_ps, _mm512_cvtps_pd, _mm512_cvtps_ph,
    _mm512_extractf32x8_ps, _mm512_fmadd_ps, _mm512_fmsub_ps, _mm512_loadu_ps, _mm512_loadu_si512,
    _mm512_mask_blend_epi16, _mm512_mask_or_epi32, _mm512_mask3_fmadd_ps, _mm512_maskz_fmadd_ps,
    _mm512_maskz_mul_ps, _mm512_maskz_scalef_ps, _mm512_max_epi16, _mm512_max_ps, _mm512_min_epu16,
    _mm512_mul_ps, _mm512_permutex2var_epi32, _mm512_permutex2var_ps, _mm512_permutexvar_epi16,
    _mm512_reduce_add_pd, _mm512_reduce_max_ps, _mm512_roundscale_ps, _mm512_set1_epi16,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_setr_epi32, _mm512_setzero_pd, _mm512_slli_epi32,
    _mm512_srli_epi32, _mm512_storeu_ps, _mm512_storeu_si512, _mm512_stream_ps,
    _mm512_stream_si512, _mm512_sub_epi32, _mm512_sub_ps,
};

use super::base::{Base, MAGIC};
use super::block::HIGH_HALF;
use super::simd::{Kernel, Simd, highest};

/// Proof that the machine has the features of [`run`], where it is made; with `ROUNDS` those of [`run_rounding`].
#[derive(Clone, Copy)]
pub(super) struct Avx512<const ROUNDS: bool>(());

/// Runs a kernel.
///
/// # Safety
///
/// The machine has these features.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
pub(super) unsafe fn run<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx512::<false>(()))
}

/// Runs a kernel where one instruction rounds to bf16. It takes subnormal numbers for 0.
///
/// # Safety
///
/// The machine has these features.
#[target_feature(enable = "avx512bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
pub(super) unsafe fn run_rounding<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx512::<true>(()))
}

/// 2^(i / 32), rounded.
#[allow(clippy::approx_constant, reason = "a table")]
const POWERS: [f32; 32] = [
    1.0,
    1.021_897_2,
    1.044_273_7,
    1.067_140_5,
    1.090_507_7,
    1.114_386_8,
    1.138_788_6,
    1.163_724_9,
    1.189_207_1,
    1.215_247_4,
    1.241_857_8,
    1.269_051,
    1.296_839_6,
    1.325_236_7,
    1.354_255_6,
    1.383_91,
    1.414_213_5,
    1.445_180_8,
    1.476_826_2,
    1.509_164_5,
    1.542_210_8,
    1.575_980_9,
    1.610_490_3,
    1.645_755_5,
    1.681_792_9,
    1.718_619_3,
    1.756_252_2,
    1.794_709_1,
    1.834_008_1,
    1.874_167_7,
    1.915_206_6,
    1.957_144_1,
];
/// 1 + f L + f^2 Q is 2^f within 5.4e-8, relative, over [-1/64, 1/64].
const L: f32 = 0.693_157_3;
const Q: f32 = 0.240_228_86;

/// Where the numbers of two halves go if they are to take turns.
const IN_TURNS: [u16; 32] = {
    let mut places = [0; 32];
    let mut i = 0;
    while i < 32 {
        places[i] = (i / 2 + i % 2 * 16) as u16;
        i += 1;
    }
    places
};

/// Powers of two with a factor in them.
#[derive(Clone, Copy)]
pub(super) struct Powers {
    c: __m512,
    /// Bits of [`POWERS`] times the factor, less those of the numbers of 32nds that they stand for.
    tables: [__m512i; 2],
    /// Less gives 0.
    least: __m512,
}

macro_rules! with_avx512 {
    ($e:expr) => {
        // SAFETY: a value of `Avx512` exists only where the machine has these instructions. What is read or written
        // through pointers is promised by the caller.
        unsafe { $e }
    };
}

impl<const ROUNDS: bool> Avx512<ROUNDS> {
    /// Rounded to bits of bf16.
    #[inline(always)]
    #[allow(clippy::unused_self, reason = "proof that the machine has the instructions")]
    fn bf16(self, v: __m512) -> __m256i {
        if ROUNDS {
            // SAFETY: both are 16 numbers of 16 bits.
            return unsafe { std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(v)) };
        }
        with_avx512!(_mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(self.rounded(v))))
    }

    /// The same, in the high halves.
    #[inline(always)]
    #[allow(clippy::unused_self, reason = "proof that the machine has the instructions")]
    fn rounded(self, v: __m512) -> __m512i {
        with_avx512!({
            let bits = _mm512_castps_si512(v);
            let even = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let up = _mm512_add_epi32(even, _mm512_set1_epi32(0x7fff));
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v);
            let rounded = _mm512_add_epi32(bits, up);
            let quiet = _mm512_set1_epi32(0x0040_0000);
            _mm512_mask_or_epi32(rounded, nan, bits, quiet)
        })
    }
}

impl<const ROUNDS: bool> Simd for Avx512<ROUNDS> {
    type V = __m512;
    type Mask = __mmask16;
    type Wide = [__m512d; 2];
    type Powers = Powers;
    type Bits = __m512i;
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
    unsafe fn stream(self, to: *mut f32, v: __m512) {
        with_avx512!(_mm512_stream_ps(to, v));
    }
    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16, v: __m512) {
        with_avx512!(_mm256_storeu_si256(to.cast(), self.bf16(v)));
    }
    #[inline(always)]
    unsafe fn store_f16(self, to: *mut u16, v: __m512) {
        // To nearest, ties to even.
        with_avx512!(_mm256_storeu_si256(to.cast(), _mm512_cvtps_ph::<0>(v)));
    }
    #[inline(always)]
    unsafe fn stream_f16(self, to: *mut u16, v: __m512) {
        with_avx512!(_mm256_stream_si256(to.cast(), _mm512_cvtps_ph::<0>(v)));
    }
    #[inline(always)]
    unsafe fn load_bits(self, from: *const u16) -> __m512i {
        with_avx512!(_mm512_loadu_si512(from.cast()))
    }
    #[inline(always)]
    unsafe fn store_bits(self, to: *mut u16, bits: __m512i) {
        with_avx512!(_mm512_storeu_si512(to.cast(), bits));
    }
    #[inline(always)]
    unsafe fn stream_bits(self, to: *mut u16, bits: __m512i) {
        with_avx512!(_mm512_stream_si512(to.cast(), bits));
    }
    /// Those of even places, then those of odd ones.
    #[inline(always)]
    fn widen_bits(self, bits: __m512i) -> [__m512; 2] {
        with_avx512!([
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits)),
            _mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32(HIGH_HALF))),
        ])
    }
    #[inline(always)]
    fn narrow_bits(self, [even, odd]: [__m512; 2]) -> __m512i {
        if ROUNDS {
            // SAFETY: both are 32 numbers of 16 bits.
            return unsafe {
                let halves = _mm512_cvtne2ps_pbh(odd, even);
                let halves = std::mem::transmute::<__m512bh, __m512i>(halves);
                _mm512_permutexvar_epi16(_mm512_loadu_si512(IN_TURNS.as_ptr().cast()), halves)
            };
        }
        let (even, odd) = (self.rounded(even), self.rounded(odd));
        with_avx512!(_mm512_mask_blend_epi16(0xaaaa_aaaa, _mm512_srli_epi32::<16>(even), odd))
    }
    #[inline(always)]
    fn lowest(self) -> [__m512i; 2] {
        with_avx512!([_mm512_set1_epi16(i16::MIN), _mm512_set1_epi16(-1)])
    }
    #[inline(always)]
    fn higher(self, so_far: [__m512i; 2], bits: __m512i) -> [__m512i; 2] {
        with_avx512!([_mm512_max_epi16(so_far[0], bits), _mm512_min_epu16(so_far[1], bits)])
    }
    #[inline(always)]
    fn highest(self, so_far: [__m512i; 2]) -> f32 {
        let mut lanes = [[0u16; 32]; 2];
        for (lanes, bits) in lanes.iter_mut().zip(so_far) {
            with_avx512!(_mm512_storeu_si512(lanes.as_mut_ptr().cast(), bits));
        }
        highest(&lanes[0], &lanes[1])
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

    #[inline(always)]
    fn powers(self, base: Base, factor: f32) -> Option<Powers> {
        let origin = base.origin();
        let bits = factor.abs().to_bits();
        let exponent = (bits >> 23).cast_signed() - 127;
        if origin.abs() > 65_536.0 || !(-100..=8).contains(&exponent) {
            return None;
        }
        let least = self.splat(MAGIC / 32.0 + (origin as f32 - (126 + exponent) as f32));
        let places =
            with_avx512!(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
        let tables = [0, 16].map(|i| {
            // SAFETY: the table has two vectors.
            let powers = unsafe { self.load(POWERS.as_ptr().add(i)) };
            let bits = with_avx512!(_mm512_castps_si512(self.mul(powers, self.splat(factor))));
            let first = (origin as i32 * 32).wrapping_add(i as i32);
            with_avx512!({
                let number = _mm512_add_epi32(places, _mm512_set1_epi32(first));
                _mm512_sub_epi32(bits, _mm512_slli_epi32::<18>(number))
            })
        });
        Some(Powers { c: self.splat(base.c), tables, least })
    }

    /// An instruction less than [`Self::exp`] and its subtraction take, and one less for the factor; and no scaling,
    /// which takes as long as two others: the number of 32nds moves into the exponent as whole numbers are added.
    #[inline(always)]
    fn power(self, l: __m512, of: Powers) -> __m512 {
        let magic = self.splat(MAGIC / 32.0);
        let n = self.mul_add(l, of.c, magic);
        let f = self.mul_sub(l, of.c, self.sub(n, magic));
        let power = with_avx512!({
            let n = _mm512_castps_si512(n);
            let [low, high] = of.tables;
            let power = _mm512_permutex2var_epi32(low, n, high);
            _mm512_castsi512_ps(_mm512_add_epi32(power, _mm512_slli_epi32::<18>(n)))
        });
        let slope = self.mul_add(f, self.splat(Q), self.splat(L));
        with_avx512!({
            let some = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(n, of.least);
            _mm512_maskz_fmadd_ps(some, self.mul(power, f), slope, power)
        })
    }

    /// By a table of 32 powers and a short polynomial, a fifth fewer instructions than with a long one.
    #[inline(always)]
    fn exp_below(self, below: __m512, base: Base) -> (__m512, __mmask16) {
        let (c, magic) = (self.splat(base.c), self.splat(MAGIC / 32.0));
        // To the nearest 32nd, which is in the low bits.
        let n = self.mul_add(below, c, magic);
        let k = self.sub(n, magic);
        let f = self.mul_sub(below, c, k);
        // SAFETY: the table has two vectors.
        let tables = unsafe { [0, 16].map(|i| self.load(POWERS.as_ptr().add(i))) };
        let bits = with_avx512!(_mm512_castps_si512(n));
        let power = with_avx512!(_mm512_permutex2var_ps(tables[0], bits, tables[1]));
        let slope = self.mul_add(f, self.splat(Q), self.splat(L));
        // Scaling takes the largest whole number that is not above k: the rest is in the table.
        self.scale(self.mul_add(self.mul(power, f), slope, power), k)
    }
}
