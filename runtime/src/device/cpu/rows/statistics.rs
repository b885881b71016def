//! What a whole row says, from one sweep over it.
#![allow(clippy::cast_ptr_alignment, reason = "vectors are read and written wherever they lie")]

use rlc_compiler::table::Floats;

use super::base::Base;
use super::block::{BF16, BLOCK, Buffer, F16, F32, Source, load, vectors, widen, widen_with};
use super::simd::{Kernel, Simd, Width, run};
use super::{Row, exact};

/// Sums that cost extra.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// [`Statistics::moment`].
    pub moment: bool,
    /// [`Statistics::square`].
    pub square: bool,
    /// [`Statistics::beside`].
    pub beside: Option<Beside<'a>>,
}

/// A second row y beside the logits l, of the same length: `y_v - share * l_v` is averaged.
#[derive(Debug, Clone, Copy)]
pub struct Beside<'a> {
    /// y.
    pub row: Floats<'a>,
    /// How much of the logits is taken off.
    pub share: f64,
}

/// Sums over the entries x of a row, m being the largest. Natural logarithms throughout.
///
/// All but `beside` are within 1e-6, relative, of exact sums over the given numbers; the moment or `beside` of a row whose
/// largest entry is nearly all of it within 1e-12.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Statistics {
    /// m: minus infinity where all entries are, or where there are none. Exact but for one rounding of `scale * l`.
    pub max: f64,
    /// sum exp(x - m): at least 1, and 0 where m is minus infinity; NaN where an entry is NaN or plus infinity.
    pub sum: f64,
    /// sum exp(x - m) (x - m), at most 0; NaN where not wanted.
    pub moment: f64,
    /// sum exp(2 (x - m)); NaN where not wanted.
    pub square: f64,
    /// sum exp(x - m) ((y - origin) - share (x - m) / scale), within 1e-6 of the sum of absolute values of both parts;
    /// NaN where not wanted. Entries of exp(x - m) = 0 add nothing.
    pub beside: f64,
    /// About the y beside the largest x; finite. NaN where not wanted.
    pub origin: f64,
    /// The least of all l and y; NaN where not wanted.
    pub lowest: f64,
}

impl Statistics {
    /// log sum exp(x): never below m.
    pub fn lse(&self) -> f64 {
        if self.max.is_finite() { self.max + self.sum.ln() } else { self.max }
    }

    /// -sum p log p, if the moment was wanted; NaN for a row without a softmax.
    pub fn entropy(&self) -> f64 {
        self.sum.ln() - self.moment / self.sum
    }

    /// sum p^2, if the square was wanted; NaN for a row without a softmax.
    pub fn collision(&self) -> f64 {
        self.square / (self.sum * self.sum)
    }
}

/// One sweep over a row.
///
/// # Panics
///
/// Where the row beside has another length.
pub fn statistics(width: Width, x: Row, wanted: &Wanted) -> Statistics {
    let len = x.logits.len();
    let row = Source::of(x.logits);
    if let Some(beside) = wanted.beside {
        assert_eq!(len, beside.row.len(), "rows of two lengths");
    }
    let found = sweep(width, row, len, x.scale, wanted);
    // SAFETY: both rows have `len` entries.
    found.unwrap_or_else(|| unsafe { exact::statistics(row, len, x.scale, wanted) })
}

/// None where plain f64 has to do it.
fn sweep(width: Width, x: Source, len: usize, scale: f64, wanted: &Wanted) -> Option<Statistics> {
    let (y, share) = wanted.beside.map_or((x, 0.0), |b| (Source::of(b.row), b.share));
    if !x.fits() || !y.fits() || !(share as f32).is_finite() {
        return None;
    }
    let base = Base::new(scale)?;
    let wants = [wanted.moment, wanted.square, wanted.beside.is_some()];
    run(width, Sweep { x, y, len, scale, base, share, wants })
}

struct Sweep {
    x: Source,
    y: Source,
    len: usize,
    scale: f64,
    base: Base,
    share: f64,
    /// Moment, square, beside.
    wants: [bool; 3],
}

/// Sums in logits as they are.
#[derive(Clone, Copy, Default)]
struct Totals {
    sum: f64,
    moment: f64,
    square: f64,
    beside: f64,
}

/// The largest logit so far.
#[derive(Clone, Copy)]
struct Largest(f32);

impl Largest {
    /// What differences are taken from: finite.
    #[inline(always)]
    fn reference(self) -> f32 {
        if self.0 == f32::NEG_INFINITY { 0.0 } else { self.0 }
    }

    /// Takes in the largest logit of a block. Returns what sums of exponentials so far are to be multiplied with
    /// (0 where they vanish) and how far differences move; none where plain f64 has to do it.
    #[inline(always)]
    fn raise(&mut self, to: f32, scale: f64) -> Option<(f64, f64)> {
        if to <= self.0 || to.is_nan() {
            return Some((1.0, 0.0));
        }
        if to == f32::INFINITY {
            return None;
        }
        let moved = f64::from(self.reference()) - f64::from(to);
        let factor = if self.0 == f32::NEG_INFINITY { 0.0 } else { (moved * scale).exp() };
        self.0 = to;
        Some((factor, moved))
    }
}

/// `sum * factor`, 0 for a factor of 0.
#[inline(always)]
fn shrink(sum: f64, factor: f64) -> f64 {
    if factor == 0.0 { 0.0 } else { sum * factor }
}

impl Sweep {
    /// For sums of nothing but exponentials, and what they are at the reference; of bf16, since longer numbers wait for
    /// memory.
    #[inline(always)]
    fn powers<S: Simd>(&self, s: S) -> Option<(S::Powers, f64)> {
        if self.wants != [false; 3] || !matches!(self.x, Source::Bf16(_)) {
            return None;
        }
        let powers = s.powers(self.base, 1.0)?;
        let at = s.lane_max(s.power(s.splat(self.base.reference), powers));
        Some((powers, f64::from(at)))
    }
}

impl Kernel for Sweep {
    type Output = Option<Statistics>;

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) -> Option<Statistics> {
        let (mut x_buffers, mut y_buffer) = ([Buffer::new(), Buffer::new()], Buffer::new());
        let mut totals = Totals::default();
        let mut top = Largest(f32::NEG_INFINITY);
        let (mut origin, mut lowest) = (f32::NEG_INFINITY, f32::INFINITY);
        let beside = self.wants[2];
        let mut powers = self.powers(s);
        let mut start = 0;
        // Of the next block, if it has been seen already.
        let mut ahead = None;
        let mut turn = 0;
        while start < self.len {
            let n = BLOCK.min(self.len - start);
            let count = vectors::<S>(n);
            // Read as they lie, since none has to find the one beside it.
            let pairs = matches!(self.x, Source::Bf16(_)) && n == BLOCK && !beside;
            // SAFETY: both rows have `len` entries.
            let (x, y, most) = unsafe {
                let (x, most) = match (ahead, self.x) {
                    (_, Source::Bf16(x)) if pairs => (x.add(start).cast(), None),
                    (Some(_), Source::Bf16(_) | Source::F16(_)) => {
                        (x_buffers[turn].pointer().cast_const(), None)
                    }
                    _ => widen_with(s, self.x, start, n, &mut x_buffers[turn]),
                };
                (x, if beside { widen(s, self.y, start, n, &mut y_buffer) } else { x }, most)
            };
            // Its maximum is found on the way, while there is arithmetic to wait for, and it is widened where it has to be.
            let next_is_whole = start + 2 * BLOCK <= self.len;
            let kind = match self.x {
                _ if !next_is_whole && !pairs => NONE,
                Source::F32(_) => F32,
                Source::Bf16(_) => BF16,
                Source::F16(_) => F16,
                Source::F64(_) => NONE,
            };
            let next = self.x.from(if next_is_whole { start + BLOCK } else { start }).address();
            turn = 1 - turn;
            // SAFETY: `x` and `y` have `count` vectors, the first `n` numbers of the row. So many are in
            // the next block, if there is one.
            unsafe {
                let most = match ahead.or(most) {
                    Some(most) => most,
                    None if pairs => largest_of_bits(s, x.cast(), n),
                    None => largest(s, x, count),
                };
                let (factor, moved) = top.raise(most, self.scale)?;
                if self.base.reference != top.reference() {
                    self.base.reference = top.reference();
                    powers = self.powers(s);
                }
                if beside {
                    if factor != 1.0 || moved != 0.0 || !origin.is_finite() {
                        // What counts most is beside the largest: its difference is exact.
                        let new = *y.add(place(x, n, top.0));
                        if new.is_finite() {
                            let old = if origin.is_finite() { origin } else { 0.0 };
                            totals.beside += (f64::from(old) - f64::from(new)) * totals.sum;
                            origin = new;
                        }
                    }
                    lowest = lowest.min(least(s, x, n)).min(least(s, y, n));
                    totals.beside = shrink(totals.beside - self.share * moved * totals.sum, factor);
                }
                totals.moment = shrink(totals.moment + moved * totals.sum, factor);
                totals.square *= factor * factor;
                totals.sum *= factor;
                let work = Work {
                    x,
                    y,
                    count,
                    next,
                    into: x_buffers[turn].pointer(),
                    base: self.base,
                    powers,
                    origin: if origin.is_finite() { origin } else { 0.0 },
                    share: self.share as f32,
                };
                let [moment, square, beside] = self.wants;
                macro_rules! by_wants {
                    ($($m:literal $q:literal $b:literal,)*) => {
                        match (moment, square, beside, kind) {
                            $(
                                ($m, $q, $b, F32) => work.add::<$m, $q, $b, F32>(s, &mut totals),
                                ($m, $q, $b, BF16) => work.add::<$m, $q, $b, BF16>(s, &mut totals),
                                ($m, $q, $b, F16) => work.add::<$m, $q, $b, F16>(s, &mut totals),
                                ($m, $q, $b, _) => work.add::<$m, $q, $b, NONE>(s, &mut totals),
                            )*
                        }
                    };
                }
                ahead = by_wants! {
                    false false false, false false true, false true false, false true true,
                    true false false, true false true, true true false, true true true,
                };
                ahead = ahead.filter(|_| next_is_whole);
            }
            start += n;
        }
        if totals.sum.is_nan() {
            return None;
        }
        let if_wanted = |wanted: bool, x: f64| if wanted { x } else { f64::NAN };
        Some(Statistics {
            max: f64::from(top.0) * self.scale,
            sum: totals.sum,
            moment: if_wanted(self.wants[0], totals.moment * self.scale),
            square: if_wanted(self.wants[1], totals.square),
            beside: if_wanted(beside, totals.beside),
            origin: if_wanted(beside, if origin.is_finite() { f64::from(origin) } else { 0.0 }),
            lowest: if_wanted(beside, f64::from(lowest)),
        })
    }
}

/// The largest number of a block; NaNs may be passed over.
///
/// # Safety
///
/// `x` has `count` vectors.
#[inline(always)]
unsafe fn largest<S: Simd>(s: S, x: *const f32, count: usize) -> f32 {
    let mut tops = [s.splat(f32::NEG_INFINITY); 2];
    let mut i = 0;
    // SAFETY: promised by the caller.
    unsafe {
        while i + 2 <= count {
            for (u, top) in tops.iter_mut().enumerate() {
                *top = s.max(s.load(x.add((i + u) * S::LANES)), *top);
            }
            i += 2;
        }
        if i < count {
            tops[0] = s.max(s.load(x.add(i * S::LANES)), tops[0]);
        }
    }
    s.lane_max(s.max(tops[0], tops[1]))
}

/// The same of a block of bf16.
///
/// # Safety
///
/// `x` has `n` numbers, twice those of a vector or a multiple of them.
#[inline(always)]
unsafe fn largest_of_bits<S: Simd>(s: S, x: *const u16, n: usize) -> f32 {
    let mut most = s.lowest();
    for i in (0..n).step_by(2 * S::LANES) {
        // SAFETY: promised by the caller.
        most = s.higher(most, unsafe { s.load_bits(x.add(i)) });
    }
    s.highest(most)
}

/// Where one of the first `n` numbers is this; 0 without.
///
/// # Safety
///
/// `x` has as many, and one.
#[inline(always)]
unsafe fn place(x: *const f32, n: usize, is: f32) -> usize {
    // SAFETY: promised by the caller.
    let x = unsafe { std::slice::from_raw_parts(x, n) };
    for (i, chunk) in x.chunks(64).enumerate() {
        // Without a branch an entry, so that it is vector code.
        if chunk.iter().fold(0, |found, x| found | u32::from(*x == is)) != 0 {
            return i * 64 + chunk.iter().position(|x| *x == is).unwrap_or(0);
        }
    }
    0
}

/// The least of the first `n` numbers of a block; NaNs may be passed over.
///
/// # Safety
///
/// `x` has as many.
#[inline(always)]
unsafe fn least<S: Simd>(s: S, x: *const f32, n: usize) -> f32 {
    let zero = s.splat(0.0);
    let mut most = s.splat(f32::NEG_INFINITY);
    let whole = n - n % S::LANES;
    // SAFETY: promised by the caller.
    unsafe {
        for i in (0..whole).step_by(S::LANES) {
            most = s.max(s.sub(zero, s.load(x.add(i))), most);
        }
        (whole..n).fold(-s.lane_max(most), |a, i| a.min(*x.add(i)))
    }
}

/// The least and the largest logit of a row, infinite where there is none; NaNs may be passed over.
pub fn ends(width: Width, row: Floats) -> (f64, f64) {
    let source = Source::of(row);
    if let Floats::F64(row) = row {
        let least = row.iter().fold(f64::INFINITY, |a, b| a.min(*b));
        return (least, row.iter().fold(f64::NEG_INFINITY, |a, b| a.max(*b)));
    }
    run(width, Ends(source, row.len()))
}

struct Ends(Source, usize);

impl Kernel for Ends {
    type Output = (f64, f64);

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> (f64, f64) {
        let mut buffer = Buffer::new();
        let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
        for start in (0..self.1).step_by(BLOCK) {
            let n = BLOCK.min(self.1 - start);
            // SAFETY: the row has as many entries, and the block the first `n` of its vectors.
            unsafe {
                let x = widen(s, self.0, start, n, &mut buffer);
                low = low.min(least(s, x, n));
                high = high.max(largest(s, x, vectors::<S>(n)));
            }
        }
        (f64::from(low), f64::from(high))
    }
}

/// There is no next block.
const NONE: u8 = 0;

/// A block to be added to the totals.
struct Work<P> {
    /// Of f32, or bits of bf16.
    x: *const f32,
    y: *const f32,
    count: usize,
    /// The next block, if its maximum is wanted, and where it is widened to.
    next: *const u8,
    into: *mut f32,
    base: Base,
    /// What is quicker than exponentials by the base, and its number at the reference.
    powers: Option<(P, f64)>,
    origin: f32,
    share: f32,
}

/// Numbers added in f32 before sums go on in f64, per lane.
const RUN: usize = 16;

/// Sums in f32, as in [`Totals`].
#[derive(Clone, Copy)]
struct Sums<V> {
    sum: V,
    moment: V,
    square: V,
    beside: V,
}

impl<P: Copy> Work<P> {
    /// Returns the maximum of the next block, if wanted. A block of bf16 is read as it lies, as the next one is, unless
    /// something is beside it.
    ///
    /// # Safety
    ///
    /// `x` and, where wanted, `y`, `next` and `into` have `count` vectors.
    #[inline(always)]
    unsafe fn add<const MOMENT: bool, const SQUARE: bool, const BESIDE: bool, const NEXT: u8>(
        &self,
        s: impl Simd<Powers = P>,
        totals: &mut Totals,
    ) -> Option<f32> {
        // Two loops, none of which has to ask.
        // SAFETY: promised by the caller.
        unsafe {
            match self.powers {
                Some(powers) if !(MOMENT || SQUARE || BESIDE) => {
                    self.add_by::<_, false, false, false, NEXT>(s, totals, Some(powers))
                }
                _ => self.add_by::<_, MOMENT, SQUARE, BESIDE, NEXT>(s, totals, None),
            }
        }
    }

    /// # Safety
    ///
    /// As there.
    #[inline(always)]
    unsafe fn add_by<
        S: Simd<Powers = P>,
        const MOMENT: bool,
        const SQUARE: bool,
        const BESIDE: bool,
        const NEXT: u8,
    >(
        &self,
        s: S,
        totals: &mut Totals,
        powers: Option<(P, f64)>,
    ) -> Option<f32> {
        let zero = s.splat(0.0);
        let wide = s.wide_zero();
        let mut wides = Sums { sum: wide, moment: wide, square: wide, beside: wide };
        let mut most = s.splat(f32::NEG_INFINITY);
        let mut most_bits = s.lowest();
        let power = powers.map(|p| p.0);
        let mut i = 0;
        while i < self.count {
            let end = self.count.min(i + RUN);
            let mut sums = Sums { sum: zero, moment: zero, square: zero, beside: zero };
            while i < end {
                let at = i * S::LANES;
                // SAFETY: promised by the caller; a block of pairs has an even number of vectors.
                unsafe {
                    if NEXT == BF16 && !BESIDE {
                        let bits = s.load_bits(self.x.cast::<u16>().add(at));
                        let [first, second] = s.widen_bits(bits);
                        self.step::<S, MOMENT, SQUARE, false>(s, (first, at), power, &mut sums);
                        self.step::<S, MOMENT, SQUARE, false>(s, (second, at), power, &mut sums);
                        let next = self.next.cast::<u16>().add(at);
                        most_bits = s.higher(most_bits, s.load_bits(next));
                        i += 2;
                        continue;
                    }
                    let x = s.load(self.x.add(at));
                    self.step::<S, MOMENT, SQUARE, BESIDE>(s, (x, at), power, &mut sums);
                    if NEXT != NONE {
                        let x = load::<S, NEXT>(s, self.next, at);
                        if NEXT != F32 {
                            s.store(self.into.add(at), x);
                        }
                        most = s.max(x, most);
                    }
                }
                i += 1;
            }
            wides.sum = s.widen_add(wides.sum, sums.sum);
            if MOMENT {
                wides.moment = s.widen_add(wides.moment, sums.moment);
            }
            if SQUARE {
                wides.square = s.widen_add(wides.square, sums.square);
            }
            if BESIDE {
                wides.beside = s.widen_add(wides.beside, sums.beside);
            }
        }
        totals.sum += s.wide_sum(wides.sum) / powers.map_or(1.0, |p| p.1);
        if MOMENT {
            totals.moment += s.wide_sum(wides.moment);
        }
        if SQUARE {
            totals.square += s.wide_sum(wides.square);
        }
        if BESIDE {
            totals.beside += s.wide_sum(wides.beside);
        }
        match NEXT {
            NONE => None,
            BF16 if !BESIDE => Some(s.highest(most_bits)),
            _ => Some(s.lane_max(most)),
        }
    }

    /// Adds a vector of entries, which begins with entry `at`.
    ///
    /// # Safety
    ///
    /// So many entries are beside it, if they are wanted.
    #[inline(always)]
    unsafe fn step<S: Simd, const MOMENT: bool, const SQUARE: bool, const BESIDE: bool>(
        &self,
        s: S,
        (x, at): (S::V, usize),
        power: Option<S::Powers>,
        sums: &mut Sums<S::V>,
    ) {
        if let Some(power) = power {
            sums.sum = s.settle(s.add(sums.sum, s.power(x, power)));
            return;
        }
        let below = s.sub(x, s.splat(self.base.reference));
        let (e, some) = s.exp_below(below, self.base);
        sums.sum = s.settle(s.add(sums.sum, e));
        if SQUARE {
            sums.square = s.settle(s.mul_add(e, e, sums.square));
        }
        if MOMENT {
            sums.moment = s.settle(s.mul_add_where(some, e, below, sums.moment));
        }
        if BESIDE {
            // SAFETY: promised by the caller.
            let y = unsafe { s.load(self.y.add(at)) };
            let apart = s.mul_add(below, s.splat(-self.share), s.sub(y, s.splat(self.origin)));
            sums.beside = s.settle(s.mul_add_where(some, e, apart, sums.beside));
        }
    }
}
