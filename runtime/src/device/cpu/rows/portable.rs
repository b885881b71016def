//! Vectors in plain Rust: arrays short enough to stay in the registers of the oldest machine.

use std::array::from_fn;
use std::convert::Infallible;

use rlc_compiler::table::bf16_to_f32;

use super::base::{Base, MAGIC};
use super::block::bf16;
use super::simd::{Simd, highest};

/// Whether every machine of the target multiplies and adds in one instruction.
const FUSED: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));

/// Needs nothing.
#[derive(Clone, Copy)]
pub(super) struct Portable;

const LANES: usize = 4;
type V = [f32; LANES];
type Bits = [u16; 2 * LANES];

impl Simd for Portable {
    type V = V;
    /// All bits of a lane, or none.
    type Mask = [u32; LANES];
    /// Of all lanes.
    type Wide = f64;
    type Powers = Infallible;
    type Bits = Bits;
    const LANES: usize = LANES;

    #[inline(always)]
    fn splat(self, x: f32) -> V {
        [x; LANES]
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> V {
        // SAFETY: promised by the caller.
        unsafe { from.cast::<V>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, v: V) {
        // SAFETY: promised by the caller.
        unsafe { to.cast::<V>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn load_f16(self, from: *const u16) -> V {
        // SAFETY: promised by the caller.
        let bits = unsafe { from.cast::<[u16; LANES]>().read_unaligned() };
        from_fn(|i| {
            let size = u32::from(bits[i] & 0x7fff);
            // Shifted into place the exponent is 112 too small, also for subnormals.
            let finite = f32::from_bits(size << 13) * f32::from_bits(0x7780_0000);
            let special = if size >= 0x7c00 { 0x7f80_0000 } else { 0 };
            let sign = bf16_to_f32(bits[i] & 0x8000).to_bits();
            f32::from_bits(finite.to_bits() | special | sign)
        })
    }
    #[inline(always)]
    unsafe fn load_bf16(self, from: *const u16) -> V {
        // SAFETY: promised by the caller.
        unsafe { from.cast::<[u16; LANES]>().read_unaligned() }.map(bf16_to_f32)
    }
    #[inline(always)]
    unsafe fn load_bits(self, from: *const u16) -> Bits {
        // SAFETY: promised by the caller.
        unsafe { from.cast::<Bits>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store_bits(self, to: *mut u16, bits: Bits) {
        // SAFETY: promised by the caller.
        unsafe { to.cast::<Bits>().write_unaligned(bits) }
    }
    #[inline(always)]
    unsafe fn stream_bits(self, to: *mut u16, bits: Bits) {
        // SAFETY: promised by the caller.
        unsafe { self.store_bits(to, bits) }
    }
    #[inline(always)]
    fn widen_bits(self, bits: Bits) -> [V; 2] {
        [0, LANES].map(|half| from_fn(|i| bf16_to_f32(bits[half + i])))
    }
    #[inline(always)]
    fn narrow_bits(self, v: [V; 2]) -> Bits {
        from_fn(|i| bf16(v[i / LANES][i % LANES]))
    }
    #[inline(always)]
    fn lowest(self) -> [Bits; 2] {
        [[0x8000; 2 * LANES], [u16::MAX; 2 * LANES]]
    }
    #[inline(always)]
    fn higher(self, so_far: [Bits; 2], bits: Bits) -> [Bits; 2] {
        let [most, least] = so_far;
        [
            from_fn(|i| most[i].cast_signed().max(bits[i].cast_signed()).cast_unsigned()),
            from_fn(|i| least[i].min(bits[i])),
        ]
    }
    #[inline(always)]
    fn highest(self, so_far: [Bits; 2]) -> f32 {
        highest(&so_far[0], &so_far[1])
    }
    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        from_fn(|i| a[i] - b[i])
    }
    #[inline(always)]
    fn max(self, a: V, b: V) -> V {
        from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        from_fn(|i| a[i] * b[i])
    }
    #[inline(always)]
    fn mul_add(self, a: V, b: V, c: V) -> V {
        // Without fused hardware `f32::mul_add` is a slow library call.
        from_fn(|i| if FUSED { a[i].mul_add(b[i], c[i]) } else { a[i] * b[i] + c[i] })
    }
    #[inline(always)]
    fn mul_add_where(self, mask: [u32; LANES], a: V, b: V, c: V) -> V {
        from_fn(|i| f32::from_bits((a[i] * b[i]).to_bits() & mask[i]) + c[i])
    }
    #[inline(always)]
    fn mul_where(self, mask: [u32; LANES], a: V, b: V) -> V {
        from_fn(|i| f32::from_bits((a[i] * b[i]).to_bits() & mask[i]))
    }
    #[inline(always)]
    fn mul_sub(self, a: V, b: V, c: V) -> V {
        from_fn(|i| if FUSED { a[i].mul_add(b[i], -c[i]) } else { a[i] * b[i] - c[i] })
    }
    #[inline(always)]
    fn round(self, x: V) -> V {
        from_fn(|i| (x[i] + MAGIC) - MAGIC)
    }
    #[inline(always)]
    fn scale(self, a: V, k: V) -> (V, [u32; LANES]) {
        let mask: [u32; LANES] = from_fn(|i| if k[i] < -126.0 { 0 } else { u32::MAX });
        let power = from_fn(|i| {
            f32::from_bits((k[i] + MAGIC).to_bits().wrapping_add(127).wrapping_shl(23))
        });
        (self.mul_where(mask, a, power), mask)
    }
    #[inline(always)]
    fn widen_add(self, sums: f64, v: V) -> f64 {
        let [a, b, c, d] = v.map(f64::from);
        sums + ((a + c) + (b + d))
    }
    #[inline(always)]
    fn wide_zero(self) -> f64 {
        0.0
    }
    #[inline(always)]
    fn wide_sum(self, sums: f64) -> f64 {
        sums
    }
    #[inline(always)]
    fn settle(self, v: V) -> V {
        std::hint::black_box(v)
    }
    #[inline(always)]
    fn powers(self, _: Base, _: f32) -> Option<Infallible> {
        None
    }
    #[inline(always)]
    fn power(self, _: V, of: Infallible) -> V {
        match of {}
    }
    #[inline(always)]
    fn lane_max(self, v: V) -> f32 {
        // Half against half, as shuffles do it.
        let max = |a: f32, b: f32| if a > b { a } else { b };
        max(max(v[0], v[2]), max(v[1], v[3]))
    }
}
