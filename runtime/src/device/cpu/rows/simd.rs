//! What a row primitive may ask of a machine: one trait over three widths of vectors.
//!
//! A primitive is a [`Kernel`], written once over a [`Simd`] and compiled for each width. All that it calls is
//! `inline(always)`: code that stays behind a call is compiled for the oldest machine.

use rlc_compiler::table::bf16_to_f32;

use super::base::Base;
use super::block::{bf16, f16};

/// How wide the vectors are that a primitive uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Width {
    /// Plain Rust, which the compiler vectorises for the oldest machine of the target.
    Portable,
    /// 256 bits: AVX2 with FMA and F16C.
    Avx2,
    /// 512 bits: AVX-512 F, BW, DQ and VL.
    Avx512,
}

impl Width {
    /// Every width, narrowest first.
    pub const ALL: [Width; 3] = [Width::Portable, Width::Avx2, Width::Avx512];

    /// Whether this machine has it.
    pub fn available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = || {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            };
            match self {
                Width::Portable => true,
                Width::Avx2 => avx2(),
                Width::Avx512 => {
                    avx2()
                        && is_x86_feature_detected!("avx512f")
                        && is_x86_feature_detected!("avx512bw")
                        && is_x86_feature_detected!("avx512dq")
                        && is_x86_feature_detected!("avx512vl")
                }
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            self == Width::Portable
        }
    }

    /// Itself where this machine has it, else what every machine has.
    #[must_use]
    pub fn or_portable(self) -> Width {
        if self.available() { self } else { Width::Portable }
    }

    /// The widest that this machine has.
    pub fn widest() -> Width {
        static WIDEST: std::sync::OnceLock<Width> = std::sync::OnceLock::new();
        *WIDEST.get_or_init(|| {
            Width::ALL.into_iter().rev().find(|w| w.available()).unwrap_or(Width::Portable)
        })
    }
}

/// 2^f within 1.0e-7, relative, over [-0.5, 0.5]; highest power first.
const POWER: [f32; 6] = [
    1.326_472_6e-3,
    9.671_506e-3,
    5.550_730_6e-2,
    2.402_224_4e-1,
    std::f32::consts::LN_2 - 1.788_139_3e-7,
    1.0,
];

/// Work that is compiled for every width.
pub(super) trait Kernel {
    type Output;
    /// It rounds to bf16: worth code of its own for machines with an instruction for that.
    const ROUNDS: bool = false;
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Runs a kernel. A width that the machine lacks falls back to the portable one.
pub(super) fn run<K: Kernel>(width: Width, kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    {
        // Asking again costs a load of a cached word, and makes this function safe.
        if width == Width::Avx512 && width.available() {
            if K::ROUNDS && is_x86_feature_detected!("avx512bf16") {
                // SAFETY: the features were detected.
                return unsafe { super::avx512::run_rounding(kernel) };
            }
            // SAFETY: the features were detected.
            return unsafe { super::avx512::run(kernel) };
        }
        if width == Width::Avx2 && width.available() {
            // SAFETY: the features were detected.
            return unsafe { super::avx2::run(kernel) };
        }
    }
    let _ = width;
    kernel.run(super::portable::Portable)
}

/// Vectors of f32. A value of a type with this trait proves that the machine has its instructions.
pub(super) trait Simd: Copy {
    /// [`Self::LANES`] numbers.
    type V: Copy;
    /// One truth per lane.
    type Mask: Copy;
    /// Sums in f64.
    type Wide: Copy;
    /// What [`Self::power`] knows of a row; nothing can be known where that would not be faster than [`Self::exp`].
    type Powers: Copy;
    /// Twice [`Self::LANES`] numbers of bf16.
    type Bits: Copy;
    const LANES: usize;

    fn splat(self, x: f32) -> Self::V;
    /// # Safety
    ///
    /// `LANES` numbers can be read at `from`, which need not be aligned.
    unsafe fn load(self, from: *const f32) -> Self::V;
    /// # Safety
    ///
    /// `LANES` numbers can be written at `to`, which need not be aligned.
    unsafe fn store(self, to: *mut f32, v: Self::V);
    /// The same past the caches, where the machine can: lines that are not read soon are not fetched to be
    /// overwritten. Before anyone reads them: [`Self::drain`].
    ///
    /// # Safety
    ///
    /// As there, and `to` is aligned to a whole vector.
    #[inline(always)]
    unsafe fn stream(self, to: *mut f32, v: Self::V) {
        // SAFETY: promised by the caller.
        unsafe { self.store(to, v) }
    }
    /// Streams what [`Self::store_f16`] stores.
    ///
    /// # Safety
    ///
    /// As there, and `to` is aligned to all of it.
    #[inline(always)]
    unsafe fn stream_f16(self, to: *mut u16, v: Self::V) {
        // SAFETY: promised by the caller.
        unsafe { self.store_f16(to, v) }
    }
    /// What has been streamed is there before all that is written later.
    #[inline(always)]
    fn drain(self) {
        // SAFETY: an instruction of every machine, which touches no memory of its own.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            std::arch::x86_64::_mm_sfence();
        }
    }
    /// Asks for a line that is read soon, into the second cache; any address will do.
    #[inline(always)]
    fn prefetch(self, at: *const u8) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
            // SAFETY: a hint, which reads nothing and cannot fault.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) };
        }
        let _ = at;
    }
    /// Half-precision bits as f32.
    ///
    /// # Safety
    ///
    /// `LANES` numbers can be read at `from`, which need not be aligned.
    unsafe fn load_f16(self, from: *const u16) -> Self::V;
    /// Bits of bf16 as f32.
    ///
    /// # Safety
    ///
    /// `LANES` numbers can be read at `from`, which need not be aligned.
    unsafe fn load_bf16(self, from: *const u16) -> Self::V;
    /// Rounded to bf16 bits, as [`bf16`] does.
    ///
    /// # Safety
    ///
    /// `LANES` numbers can be written at `to`, which need not be aligned.
    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16, v: Self::V) {
        // SAFETY: promised by the caller.
        unsafe { narrow(self, to, v, bf16) }
    }
    /// Rounded to half-precision bits, as [`f16`] does.
    ///
    /// # Safety
    ///
    /// As above.
    #[inline(always)]
    unsafe fn store_f16(self, to: *mut u16, v: Self::V) {
        // SAFETY: promised by the caller.
        unsafe { narrow(self, to, v, f16) }
    }
    /// # Safety
    ///
    /// Twice `LANES` numbers can be read at `from`, which need not be aligned.
    unsafe fn load_bits(self, from: *const u16) -> Self::Bits;
    /// # Safety
    ///
    /// Twice `LANES` numbers can be written at `to`, which need not be aligned.
    unsafe fn store_bits(self, to: *mut u16, bits: Self::Bits);
    /// The same past the caches, as [`Self::stream`].
    ///
    /// # Safety
    ///
    /// As there, and `to` is aligned to all of it.
    unsafe fn stream_bits(self, to: *mut u16, bits: Self::Bits);
    /// As f32, in an order of the machine's own.
    fn widen_bits(self, bits: Self::Bits) -> [Self::V; 2];
    /// Rounded as [`bf16`] does, in the order that [`Self::widen_bits`] gives.
    fn narrow_bits(self, v: [Self::V; 2]) -> Self::Bits;
    /// What the search for the largest of such numbers begins with: of those that are not negative it has the largest
    /// bits, taken for whole numbers; of the others the least.
    fn lowest(self) -> [Self::Bits; 2];
    /// Takes in more numbers.
    fn higher(self, so_far: [Self::Bits; 2], bits: Self::Bits) -> [Self::Bits; 2];
    /// The largest number taken in. NaNs may be passed over, or be it.
    fn highest(self, so_far: [Self::Bits; 2]) -> f32;
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// The larger; the second where either is NaN.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, fused where the machine can.
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `a * b - c`, fused where the machine can.
    fn mul_sub(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `a * b + c` where the mask holds, else `c`, whatever `a` and `b` are.
    fn mul_add_where(self, mask: Self::Mask, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `a * b` where the mask holds, else 0, whatever `a` and `b` are.
    fn mul_where(self, mask: Self::Mask, a: Self::V, b: Self::V) -> Self::V;
    /// The nearest whole number; what is far beyond -2^21 need not be whole.
    fn round(self, x: Self::V) -> Self::V;
    /// `a * 2^k` where `k >= -126` or `k` is NaN, and 0 elsewhere, with the mask of the former. `k <= 127`.
    fn scale(self, a: Self::V, k: Self::V) -> (Self::V, Self::Mask);
    /// Adds to sums in f64.
    fn widen_add(self, sums: Self::Wide, v: Self::V) -> Self::Wide;
    fn wide_zero(self) -> Self::Wide;
    /// All of them added.
    fn wide_sum(self, sums: Self::Wide) -> f64;
    /// The same. Says that the lanes belong together, where the compiler has to find that out.
    #[inline(always)]
    fn settle(self, v: Self::V) -> Self::V {
        v
    }
    /// Largest of the lanes.
    fn lane_max(self, v: Self::V) -> f32;

    /// `exp(scale * (l - reference))`, 0 below 2^-126, with the mask of entries that are not 0 for being small.
    ///
    /// The relative error is at most 2e-7, and 8e-8 more for each unit of the exponent: one of an entry that is e^-d
    /// of the largest is far below 2e-7 of the largest. Exactly 1 at the reference, NaN at NaN, exactly 0 and
    /// unmasked at -infinity.
    #[inline(always)]
    fn exp(self, l: Self::V, base: Base) -> (Self::V, Self::Mask) {
        self.exp_below(self.sub(l, self.splat(base.reference)), base)
    }

    /// What gives `factor * 2^(l c - origin)`, with the origin of the base; none where the numbers are out of its
    /// range, or the machine has no quicker way than [`Self::exp`].
    fn powers(self, base: Base, factor: f32) -> Option<Self::Powers>;

    /// That for entries at most 80 above the reference. The error is that of [`Self::exp`]; 0 below 2^-126, NaN at NaN.
    fn power(self, l: Self::V, of: Self::Powers) -> Self::V;

    /// [`Self::exp`] of `l - reference`.
    #[inline(always)]
    fn exp_below(self, below: Self::V, base: Base) -> (Self::V, Self::Mask) {
        let c = self.splat(base.c);
        let k = self.round(self.mul(below, c));
        let f = self.mul_sub(below, c, k);
        let mut p = self.splat(POWER[0]);
        for coefficient in &POWER[1..] {
            p = self.mul_add(p, f, self.splat(*coefficient));
        }
        self.scale(p, k)
    }
}

/// The largest number of bf16, from the largest bits, with a sign, and the least without one.
#[inline(always)]
pub(super) fn highest(most: &[u16], least: &[u16]) -> f32 {
    let most = most.iter().fold(i16::MIN, |a, b| a.max(b.cast_signed()));
    let least = least.iter().fold(u16::MAX, |a, b| a.min(*b));
    bf16_to_f32(if most >= 0 { most.cast_unsigned() } else { least })
}

/// Stores a vector number by number.
///
/// # Safety
///
/// `LANES` numbers can be written at `to`.
#[inline(always)]
unsafe fn narrow<S: Simd>(s: S, to: *mut u16, v: S::V, round: impl Fn(f32) -> u16) {
    let mut numbers = [0f32; 16];
    // SAFETY: no vector has more numbers, and there is room for as many.
    unsafe {
        s.store(numbers.as_mut_ptr(), v);
        for (i, x) in numbers.iter().enumerate().take(S::LANES) {
            to.add(i).write_unaligned(round(*x));
        }
    }
}
