//! Pieces of a row that stay in the first-level cache, as f32.
#![allow(clippy::cast_ptr_alignment, reason = "vectors are read and written wherever they lie")]

use std::mem::MaybeUninit;

use rlc_compiler::clif::Float;
use rlc_compiler::table::{Floats, bf16_to_f32, f16_to_f32};

use super::simd::Simd;

/// Entries of a row that are worked on together.
pub(super) const BLOCK: usize = 1024;

/// Bytes of a cache line, and of the widest vector.
const LINE: usize = 64;

/// The bits of the second of two numbers of bf16.
#[cfg(target_arch = "x86_64")]
pub(super) const HIGH_HALF: i32 = 0xffff_0000_u32.cast_signed();

/// Number types as parameters of loops: a branch a vector would cost a twentieth.
pub(super) const F32: u8 = 1;
pub(super) const BF16: u8 = 2;
pub(super) const F16: u8 = 3;

/// A vector of numbers of a type from entry `i` on.
///
/// # Safety
///
/// There are as many.
#[inline(always)]
pub(super) unsafe fn load<S: Simd, const TYPE: u8>(s: S, from: *const u8, i: usize) -> S::V {
    // SAFETY: promised by the caller.
    unsafe {
        match TYPE {
            BF16 => s.load_bf16(from.cast::<u16>().add(i)),
            F16 => s.load_f16(from.cast::<u16>().add(i)),
            _ => s.load(from.cast::<f32>().add(i)),
        }
    }
}

/// Writes one, of f32 or half precision: bf16 is written two vectors at a time.
///
/// # Safety
///
/// There are as many entries; if they are streamed, the vector is aligned to its size.
#[inline(always)]
pub(super) unsafe fn store<S: Simd, const TYPE: u8>(
    s: S,
    to: *mut u8,
    i: usize,
    v: S::V,
    streams: bool,
) {
    // SAFETY: promised by the caller.
    unsafe {
        match (TYPE, streams) {
            (F16, false) => s.store_f16(to.cast::<u16>().add(i), v),
            (F16, true) => s.stream_f16(to.cast::<u16>().add(i), v),
            (_, false) => s.store(to.cast::<f32>().add(i), v),
            (_, true) => s.stream(to.cast::<f32>().add(i), v),
        }
    }
}

/// How a gradient is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::device::cpu) enum Stores {
    /// Through the caches: whoever reads it finds it there.
    Cached,
    /// Past them: it is larger than they are.
    Streaming,
}

/// Where a gradient goes.
#[derive(Debug)]
pub enum Out<'a> {
    /// As computed.
    F32(&'a mut [f32]),
    /// Raw bits, rounded to the nearest, ties to even.
    Bf16(&'a mut [u16]),
    /// The same of half precision.
    F16(&'a mut [u16]),
}

impl Out<'_> {
    /// Number of entries.
    pub fn len(&self) -> usize {
        match self {
            Out::F32(v) => v.len(),
            Out::Bf16(v) | Out::F16(v) => v.len(),
        }
    }

    /// True without entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A row in memory. Pointers, since a gradient may take the place of its row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::device::cpu) enum Source {
    F32(*const f32),
    Bf16(*const u16),
    F16(*const u16),
    F64(*const f64),
}

impl Source {
    pub(super) fn of(row: Floats) -> Source {
        match row {
            Floats::F32(v) => Source::F32(v.as_ptr()),
            Floats::Bf16(v) => Source::Bf16(v.as_ptr()),
            Floats::F16(v) => Source::F16(v.as_ptr()),
            Floats::F64(v) => Source::F64(v.as_ptr()),
        }
    }

    /// Whether the vectors can hold its numbers.
    pub(super) fn fits(self) -> bool {
        !matches!(self, Source::F64(_))
    }

    /// # Safety
    ///
    /// The row has an entry `i`.
    pub(in crate::device::cpu) unsafe fn get(self, i: usize) -> f64 {
        // SAFETY: promised by the caller.
        unsafe {
            match self {
                Source::F32(v) => f64::from(*v.add(i)),
                Source::Bf16(v) => f64::from(bf16_to_f32(*v.add(i))),
                Source::F16(v) => f64::from(f16_to_f32(*v.add(i))),
                Source::F64(v) => *v.add(i),
            }
        }
    }

    /// The row from entry `i` on, which need not be there.
    #[inline(always)]
    pub(super) fn from(self, i: usize) -> Source {
        match self {
            Source::F32(v) => Source::F32(v.wrapping_add(i)),
            Source::Bf16(v) => Source::Bf16(v.wrapping_add(i)),
            Source::F16(v) => Source::F16(v.wrapping_add(i)),
            Source::F64(v) => Source::F64(v.wrapping_add(i)),
        }
    }

    /// Bytes of an entry.
    pub(super) fn bytes(self) -> usize {
        match self {
            Source::Bf16(_) | Source::F16(_) => 2,
            Source::F32(_) => 4,
            Source::F64(_) => 8,
        }
    }

    /// The first `len` entries.
    ///
    /// # Safety
    ///
    /// They are there, aligned, and not written as long as the slice lives.
    pub(in crate::device::cpu) unsafe fn floats<'a>(self, len: usize) -> Floats<'a> {
        use std::slice::from_raw_parts;
        // SAFETY: promised by the caller.
        unsafe {
            match self {
                Source::F32(v) => Floats::F32(from_raw_parts(v, len)),
                Source::Bf16(v) => Floats::Bf16(from_raw_parts(v, len)),
                Source::F16(v) => Floats::F16(from_raw_parts(v, len)),
                Source::F64(v) => Floats::F64(from_raw_parts(v, len)),
            }
        }
    }

    /// Where it begins.
    pub(super) fn address(self) -> *const u8 {
        match self {
            Source::F32(v) => v.cast(),
            Source::Bf16(v) | Source::F16(v) => v.cast(),
            Source::F64(v) => v.cast(),
        }
    }
}

/// Where a gradient goes, without its lifetime.
#[derive(Debug, Clone, Copy)]
pub(in crate::device::cpu) enum Target {
    F32(*mut f32),
    Bf16(*mut u16),
    F16(*mut u16),
}

impl Target {
    pub(super) fn of(out: &mut Out) -> Target {
        match out {
            Out::F32(v) => Target::F32(v.as_mut_ptr()),
            Out::Bf16(v) => Target::Bf16(v.as_mut_ptr()),
            Out::F16(v) => Target::F16(v.as_mut_ptr()),
        }
    }

    /// Where it begins.
    pub(super) fn address(self) -> *const u8 {
        match self {
            Target::F32(v) => v.cast_const().cast(),
            Target::Bf16(v) | Target::F16(v) => v.cast_const().cast(),
        }
    }

    /// Entries before the first that a cache line begins with; none where there is no such entry.
    pub(super) fn before_line(self) -> Option<usize> {
        let bytes = match self {
            Target::F32(_) => 4,
            Target::Bf16(_) | Target::F16(_) => 2,
        };
        let skip = self.address().addr().wrapping_neg() % LINE;
        skip.is_multiple_of(bytes).then_some(skip / bytes)
    }

    /// A row of this type in memory; none of f64.
    pub(in crate::device::cpu) fn at(data: *mut u8, float: Float) -> Option<Target> {
        match float {
            Float::F32 => Some(Target::F32(data.cast())),
            Float::Bf16 => Some(Target::Bf16(data.cast())),
            Float::F16 => Some(Target::F16(data.cast())),
            Float::F64 => None,
        }
    }

    /// # Safety
    ///
    /// The target has an entry `i`; it may be unaligned.
    pub(in crate::device::cpu) unsafe fn set(self, i: usize, x: f32) {
        // SAFETY: promised by the caller.
        unsafe {
            match self {
                Target::F32(v) => v.add(i).write_unaligned(x),
                Target::Bf16(v) => v.add(i).write_unaligned(bf16(x)),
                Target::F16(v) => v.add(i).write_unaligned(f16(x)),
            }
        }
    }
}

/// Room for a block.
#[repr(C, align(64))]
pub(super) struct Buffer(MaybeUninit<[f32; BLOCK]>);

impl Buffer {
    #[inline(always)]
    pub(super) fn new() -> Buffer {
        Buffer(MaybeUninit::uninit())
    }

    #[inline(always)]
    pub(super) fn pointer(&mut self) -> *mut f32 {
        self.0.as_mut_ptr().cast()
    }
}

/// Number of whole vectors that hold `n` entries.
#[inline(always)]
pub(super) fn vectors<S: Simd>(n: usize) -> usize {
    n.div_ceil(S::LANES)
}

/// Entries `start..start + n` of a row as f32, filled up with minus infinity to whole vectors. The result is valid as
/// long as the buffer and the row are.
///
/// # Safety
///
/// The row has these entries, and `n` is at most [`BLOCK`]; it is no row of f64.
#[inline(always)]
pub(super) unsafe fn widen<S: Simd>(
    s: S,
    row: Source,
    start: usize,
    n: usize,
    buffer: &mut Buffer,
) -> *const f32 {
    // SAFETY: promised by the caller.
    unsafe { widen_with(s, row, start, n, buffer).0 }
}

/// [`widen`], with the largest of the entries where it was found on the way; NaNs may be passed over.
///
/// # Safety
///
/// As there.
#[inline(always)]
pub(super) unsafe fn widen_with<S: Simd>(
    s: S,
    row: Source,
    start: usize,
    n: usize,
    buffer: &mut Buffer,
) -> (*const f32, Option<f32>) {
    let to = buffer.pointer();
    let whole = n - n % S::LANES;
    let mut most = s.splat(f32::NEG_INFINITY);
    let (from, half) = match row {
        // SAFETY: the entries are there, and fit the buffer.
        Source::F32(from) => unsafe {
            if whole == n {
                return (from.add(start), None);
            }
            std::ptr::copy_nonoverlapping(from.add(start), to, n);
            (std::ptr::null(), false)
        },
        // SAFETY: the entries are there.
        Source::Bf16(from) => (unsafe { from.add(start) }, false),
        // SAFETY: the entries are there.
        Source::F16(from) => (unsafe { from.add(start) }, true),
        // Ruled out by the caller.
        Source::F64(_) => (std::ptr::null(), false),
    };
    // SAFETY: all entries read are among the `n` from `start`. What is written lies within `n`, rounded up to whole
    // vectors, and a block is a whole number of vectors.
    unsafe {
        let short = !from.is_null();
        if short {
            for i in (0..whole).step_by(S::LANES) {
                let from = from.add(i);
                let v = if half { s.load_f16(from) } else { s.load_bf16(from) };
                s.store(to.add(i), v);
                most = s.max(v, most);
            }
            if whole < n {
                let mut rest = [0u16; 16];
                std::ptr::copy_nonoverlapping(from.add(whole), rest.as_mut_ptr(), n - whole);
                let rest = rest.as_ptr();
                let v = if half { s.load_f16(rest) } else { s.load_bf16(rest) };
                s.store(to.add(whole), v);
            }
        }
        for i in n..vectors::<S>(n) * S::LANES {
            *to.add(i) = f32::NEG_INFINITY;
        }
        if !short {
            return (to, None);
        }
        if whole < n {
            most = s.max(s.load(to.add(whole)), most);
        }
        (to, Some(s.lane_max(most)))
    }
}

/// Rounds to bf16 bits: to the nearest, ties to even; NaN stays NaN.
#[inline(always)]
pub(in crate::device) fn bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
    let nan = bits | 0x0040_0000;
    ((if x.is_nan() { nan } else { rounded }) >> 16) as u16
}

/// Rounds to the bits of half precision: to the nearest, ties to even; NaN stays NaN.
#[inline(always)]
pub(in crate::device) fn f16(x: f32) -> u16 {
    let sign = (x.to_bits() >> 16 & 0x8000) as u16;
    let bits = x.to_bits() & 0x7fff_ffff;
    let number = if bits > 0x7f80_0000 {
        0x7e00
    } else if bits >= 0x477f_f000 {
        // From halfway to what would come after the largest number.
        0x7c00
    } else if bits < 0x3880_0000 {
        // Subnormal: added to 0.5 the number is rounded to multiples of 2^-24.
        ((f32::from_bits(bits) + 0.5).to_bits() - 0.5f32.to_bits()) as u16
    } else {
        let rounded = bits + 0x0fff + (bits >> 13 & 1);
        ((rounded >> 13) - (112 << 10)) as u16
    };
    sign | number
}

/// Writes a computed block to where it belongs, if it is not there yet. What is computed may be lost.
///
/// # Safety
///
/// `from` has room for `n` numbers in whole vectors, and the target has entries `start..start + n`; a cache line
/// begins with the first of them if they are streamed.
#[inline(always)]
pub(super) unsafe fn put<S: Simd>(
    s: S,
    from: *mut f32,
    (target, stores): (Target, Stores),
    start: usize,
    n: usize,
) {
    let streams = stores == Stores::Streaming;
    // SAFETY: as above. Rounded numbers lie before those that are still to be rounded.
    unsafe {
        match target {
            Target::F32(to) => {
                let to = to.add(start);
                if streams {
                    stream(s, from.cast(), to.cast(), 4 * n);
                } else if !std::ptr::eq(from, to) {
                    std::ptr::copy_nonoverlapping(from, to, n);
                }
            }
            Target::Bf16(to) | Target::F16(to) => {
                let half = matches!(target, Target::F16(_));
                let (own, away) = (from.cast::<u16>(), to.add(start));
                let to = if streams { own } else { away };
                let whole = n - n % S::LANES;
                for i in (0..whole).step_by(S::LANES) {
                    let v = s.load(from.add(i));
                    if half { s.store_f16(to.add(i), v) } else { s.store_bf16(to.add(i), v) }
                }
                for i in whole..n {
                    let x = *from.add(i);
                    to.add(i).write_unaligned(if half { f16(x) } else { bf16(x) });
                }
                if streams {
                    stream(s, own.cast(), away.cast(), 2 * n);
                }
            }
        }
    }
}

/// Copies bytes past the caches, but for those after the last whole vector.
///
/// # Safety
///
/// As many can be read and written; where they are written a cache line begins.
#[inline(always)]
unsafe fn stream<S: Simd>(s: S, from: *const u8, to: *mut u8, bytes: usize) {
    let vector = 4 * S::LANES;
    let whole = bytes - bytes % vector;
    // SAFETY: promised by the caller; a line is a whole number of vectors.
    unsafe {
        for i in (0..whole).step_by(vector) {
            s.stream(to.add(i).cast(), s.load(from.add(i).cast()));
        }
        std::ptr::copy_nonoverlapping(from.add(whole), to.add(whole), bytes - whole);
    }
}
