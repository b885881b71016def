//! What a whole row says, from one sweep over it.

use super::Row;
use super::base::Base;
use super::block::{BLOCK, Buffer, Source, vectors, widen};
use super::exact;
use super::simd::{Kernel, Simd, Width, run};

/// Sums that cost extra.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// [`Statistics::moment`].
    pub moment: bool,
    /// [`Statistics::square`].
    pub square: bool,
}

/// Sums over the entries x of a row, m being the largest. Natural logarithms throughout.
///
/// All are within 1e-6, relative, of exact sums over the given numbers.
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

/// Sums over two rows of the same entries, x with distribution p and y with distribution q.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// Of the first row.
    pub x: Statistics,
    /// Of the second row, without moment and square.
    pub y: Statistics,
    /// sum exp(x - max x) ((x - max x) - (y - max y)), within 1e-6 of the same sum of absolute values. Entries of
    /// p = 0 add nothing; plus infinity where q is 0 and p is not.
    pub forward: f64,
    /// The same with the rows exchanged.
    pub reverse: f64,
}

impl Pair {
    /// KL(p || q) = sum p (log p - log q).
    pub fn kl(&self) -> f64 {
        self.forward / self.x.sum - self.x.sum.ln() + self.y.sum.ln()
    }

    /// KL(q || p) = sum q (log q - log p).
    pub fn kl_reverse(&self) -> f64 {
        self.reverse / self.y.sum - self.y.sum.ln() + self.x.sum.ln()
    }

    /// -sum p log q, if the moment of x was wanted.
    pub fn cross_entropy(&self) -> f64 {
        self.y.sum.ln() - (self.x.moment - self.forward) / self.x.sum
    }
}

/// One sweep over a row.
pub fn statistics(width: Width, x: Row, wanted: Wanted) -> Statistics {
    let found = sweep(width, x, None, wanted);
    found.unwrap_or_else(|| exact::statistics(x, None, wanted)).x
}

/// One sweep over two rows of the same length.
///
/// # Panics
///
/// Where the lengths differ.
pub fn statistics_of_two(width: Width, x: Row, y: Row, wanted: Wanted) -> Pair {
    assert_eq!(x.logits.len(), y.logits.len(), "rows of two lengths");
    sweep(width, x, Some(y), wanted).unwrap_or_else(|| exact::statistics(x, Some(y), wanted))
}

/// None where plain f64 has to do it.
fn sweep(width: Width, x: Row, y: Option<Row>, wanted: Wanted) -> Option<Pair> {
    let second = y.unwrap_or(x);
    let sweep = Sweep {
        x: Source::of(x.logits)?,
        y: Source::of(second.logits)?,
        len: x.logits.len(),
        scale: [x.scale, second.scale],
        bases: [Base::new(x.scale)?, Base::new(second.scale)?],
    };
    match (wanted.moment, wanted.square, y.is_some()) {
        (false, false, false) => run(width, Single::<false, false>(sweep)),
        (false, true, false) => run(width, Single::<false, true>(sweep)),
        (true, false, false) => run(width, Single::<true, false>(sweep)),
        (true, true, false) => run(width, Single::<true, true>(sweep)),
        (false, false, true) => run(width, Double::<false, false>(sweep)),
        (false, true, true) => run(width, Double::<false, true>(sweep)),
        (true, false, true) => run(width, Double::<true, false>(sweep)),
        (true, true, true) => run(width, Double::<true, true>(sweep)),
    }
}

struct Sweep {
    x: Source,
    y: Source,
    len: usize,
    scale: [f64; 2],
    bases: [Base; 2],
}

struct Single<const MOMENT: bool, const SQUARE: bool>(Sweep);
struct Double<const MOMENT: bool, const SQUARE: bool>(Sweep);

impl<const MOMENT: bool, const SQUARE: bool> Kernel for Single<MOMENT, SQUARE> {
    type Output = Option<Pair>;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Option<Pair> {
        self.0.run::<S, MOMENT, SQUARE, false>(s)
    }
}

impl<const MOMENT: bool, const SQUARE: bool> Kernel for Double<MOMENT, SQUARE> {
    type Output = Option<Pair>;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Option<Pair> {
        self.0.run::<S, MOMENT, SQUARE, true>(s)
    }
}

/// Sums in logits as they are, each in units of its row's power of two.
#[derive(Clone, Copy, Default)]
struct Totals {
    sum: f64,
    moment: f64,
    square: f64,
    other: f64,
    forward: f64,
    /// With the sign of `forward`.
    reverse: f64,
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
    fn raise(&mut self, to: f32, scale: f64, base: &mut Base) -> Option<(f64, f64)> {
        if to <= self.0 || to.is_nan() {
            return Some((1.0, 0.0));
        }
        let (before, reference) = (base.n, self.reference());
        base.shift(f64::from(to) * scale)?;
        let factor =
            if self.0 == f32::NEG_INFINITY { 0.0 } else { f64::from(before - base.n).exp2() };
        self.0 = to;
        Some((factor, f64::from(reference) - f64::from(to)))
    }
}

/// `sum * factor`, 0 for a factor of 0.
#[inline(always)]
fn shrink(sum: f64, factor: f64) -> f64 {
    if factor == 0.0 { 0.0 } else { sum * factor }
}

impl Sweep {
    #[inline(always)]
    fn run<S: Simd, const MOMENT: bool, const SQUARE: bool, const PAIR: bool>(
        mut self,
        s: S,
    ) -> Option<Pair> {
        let (mut x_buffer, mut y_buffer) = (Buffer::new(), Buffer::new());
        let mut totals = Totals::default();
        let (mut top, mut other_top) = (Largest(f32::NEG_INFINITY), Largest(f32::NEG_INFINITY));
        // A logit of y in units of those of x.
        let ratio = (self.scale[1] / self.scale[0]) as f32;
        let mut start = 0;
        while start < self.len {
            let n = BLOCK.min(self.len - start);
            let count = vectors::<S>(n);
            // SAFETY: both rows have `len` entries.
            let (x, y) = unsafe {
                let x = widen(s, self.x, start, n, &mut x_buffer);
                (x, if PAIR { widen(s, self.y, start, n, &mut y_buffer) } else { x })
            };
            // SAFETY: `x` and `y` have `count` vectors.
            unsafe {
                let (factor, moved) =
                    top.raise(largest(s, x, count), self.scale[0], &mut self.bases[0])?;
                let mut apart = moved;
                if PAIR {
                    let (factor, moved) =
                        other_top.raise(largest(s, y, count), self.scale[1], &mut self.bases[1])?;
                    apart -= moved * f64::from(ratio);
                    totals.reverse = shrink(totals.reverse + apart * totals.other, factor);
                    totals.other *= factor;
                    totals.forward += apart * totals.sum;
                }
                totals.forward = shrink(totals.forward, factor);
                totals.moment = shrink(totals.moment + moved * totals.sum, factor);
                totals.square *= factor * factor;
                totals.sum *= factor;
                let work = Work {
                    x,
                    y,
                    count,
                    bases: &self.bases,
                    tops: [top.reference(), other_top.reference()],
                    ratio,
                };
                work.add::<S, MOMENT, SQUARE, PAIR>(s, &mut totals);
            }
            start += n;
        }
        if totals.sum.is_nan() || totals.other.is_nan() {
            return None;
        }
        let own_unit = unit(s, top, &self.bases[0]);
        let other_unit = unit(s, other_top, &self.bases[1]);
        let of = |top: Largest, scale, sum, moment, square| Statistics {
            max: f64::from(top.0) * scale,
            sum,
            moment,
            square,
        };
        let scale = self.scale[0];
        Some(Pair {
            x: of(
                top,
                scale,
                totals.sum / own_unit,
                if MOMENT { totals.moment * scale / own_unit } else { f64::NAN },
                if SQUARE { totals.square / (own_unit * own_unit) } else { f64::NAN },
            ),
            y: of(other_top, self.scale[1], totals.other / other_unit, f64::NAN, f64::NAN),
            forward: totals.forward * scale / own_unit,
            reverse: -totals.reverse * scale / other_unit,
        })
    }
}

/// What the largest entry added to the sum. Dividing by it makes that exactly 1, and takes out what errors of the
/// exponential have in common.
#[inline(always)]
fn unit<S: Simd>(s: S, top: Largest, base: &Base) -> f64 {
    if top.0 == f32::NEG_INFINITY {
        return 1.0;
    }
    f64::from(s.lane_max(s.exp(s.splat(top.0), base).0))
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

/// A block to be added to the totals.
struct Work<'a> {
    x: *const f32,
    y: *const f32,
    count: usize,
    bases: &'a [Base; 2],
    tops: [f32; 2],
    ratio: f32,
}

/// Numbers added in f32 before sums go on in f64, per lane.
const RUN: usize = 16;

/// Sums in f32, as in [`Totals`].
#[derive(Clone, Copy)]
struct Sums<V> {
    sum: V,
    moment: V,
    square: V,
    other: V,
    forward: V,
    reverse: V,
}

impl Work<'_> {
    /// # Safety
    ///
    /// `x` and, for a pair, `y` have `count` vectors.
    #[inline(always)]
    unsafe fn add<S: Simd, const MOMENT: bool, const SQUARE: bool, const PAIR: bool>(
        &self,
        s: S,
        totals: &mut Totals,
    ) {
        let zero = s.splat(0.0);
        let wide = s.wide_zero();
        let mut wides = Sums {
            sum: wide,
            moment: wide,
            square: wide,
            other: wide,
            forward: wide,
            reverse: wide,
        };
        let mut i = 0;
        while i < self.count {
            let end = self.count.min(i + RUN);
            let mut sums = Sums {
                sum: zero,
                moment: zero,
                square: zero,
                other: zero,
                forward: zero,
                reverse: zero,
            };
            while i < end {
                // SAFETY: promised by the caller.
                unsafe { self.step::<S, MOMENT, SQUARE, PAIR>(s, i, &mut sums) };
                i += 1;
            }
            wides.sum = s.widen_add(wides.sum, sums.sum);
            if MOMENT {
                wides.moment = s.widen_add(wides.moment, sums.moment);
            }
            if SQUARE {
                wides.square = s.widen_add(wides.square, sums.square);
            }
            if PAIR {
                wides.other = s.widen_add(wides.other, sums.other);
                wides.forward = s.widen_add(wides.forward, sums.forward);
                wides.reverse = s.widen_add(wides.reverse, sums.reverse);
            }
        }
        totals.sum += s.wide_sum(wides.sum);
        if MOMENT {
            totals.moment += s.wide_sum(wides.moment);
        }
        if SQUARE {
            totals.square += s.wide_sum(wides.square);
        }
        if PAIR {
            totals.other += s.wide_sum(wides.other);
            totals.forward += s.wide_sum(wides.forward);
            totals.reverse += s.wide_sum(wides.reverse);
        }
    }

    /// Adds vector `i`.
    ///
    /// # Safety
    ///
    /// There is one.
    #[inline(always)]
    unsafe fn step<S: Simd, const MOMENT: bool, const SQUARE: bool, const PAIR: bool>(
        &self,
        s: S,
        i: usize,
        sums: &mut Sums<S::V>,
    ) {
        // SAFETY: promised by the caller.
        let x = unsafe { s.load(self.x.add(i * S::LANES)) };
        let (e, some) = s.exp(x, &self.bases[0]);
        sums.sum = s.settle(s.add(sums.sum, e));
        if SQUARE {
            sums.square = s.settle(s.mul_add(e, e, sums.square));
        }
        let below = s.sub(x, s.splat(self.tops[0]));
        if MOMENT {
            sums.moment = s.settle(s.mul_add_where(some, e, below, sums.moment));
        }
        if PAIR {
            // SAFETY: promised by the caller.
            let y = unsafe { s.load(self.y.add(i * S::LANES)) };
            let (other, other_some) = s.exp(y, &self.bases[1]);
            sums.other = s.settle(s.add(sums.other, other));
            let other_below = s.sub(y, s.splat(self.tops[1]));
            let apart = s.mul_add(other_below, s.splat(-self.ratio), below);
            sums.forward = s.settle(s.mul_add_where(some, e, apart, sums.forward));
            sums.reverse = s.settle(s.mul_add_where(other_some, other, apart, sums.reverse));
        }
    }
}
