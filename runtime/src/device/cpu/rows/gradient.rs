//! Gradients over a row: one sweep that writes them.
#![allow(clippy::cast_ptr_alignment, reason = "vectors are read and written wherever they lie")]

use rlc_compiler::table::Floats;

use super::base::Base;
use super::block::{
    BF16, BLOCK, Buffer, F16, F32, Out, Source, Stores, Target, load, put, store, vectors, widen,
};
use super::exact;
use super::simd::{Kernel, Simd, Width, run};

/// Terms of a gradient over the entries of a row x = scale * l, with p = exp(x - lse):
///
/// ```text
/// out_v = p (a + b log p + c p + d y)      y: the entries of another row of the same length
/// ```
///
/// A sum of such terms covers, for a loss L and all with respect to x (multiply by the row's scale for the logits):
///
/// ```text
/// log p_k          -p, plus 1 at entry k
/// entropy H        -H p - p log p
/// sum p^2 = S      -2 S p + 2 p^2
/// KL(p || q) = K   -K p + p log p - p log q
/// KL(q || p)       p - q                       two rows
/// ```
///
/// A coefficient of 0 costs nothing but p. Entries of p = 0 have no gradient but that of other terms and single
/// entries. In a row without a softmax all is NaN.
///
/// Error of an entry: at most 4e-7 of the sum of the absolute values of its terms, and half a unit of bf16.
#[derive(Debug, Clone, Copy)]
pub struct Gradient<'a> {
    /// l; none: what the gradient is written over.
    pub logits: Option<Floats<'a>>,
    /// 1 / temperature; above 0.
    pub scale: f64,
    /// log sum exp of the scaled row, or any number that is not more than 80 below its largest entry.
    pub lse: f64,
    /// a, of p.
    pub p: f64,
    /// b, of p log p.
    pub p_log_p: f64,
    /// c, of p^2.
    pub p_squared: f64,
    /// y and d, of p y.
    pub other: Option<(Floats<'a>, f64)>,
}

impl Default for Gradient<'_> {
    fn default() -> Self {
        let (p, p_log_p, p_squared) = (0.0, 0.0, 0.0);
        Gradient { logits: None, scale: 1.0, lse: 0.0, p, p_log_p, p_squared, other: None }
    }
}

/// A row in memory and what it is multiplied with.
#[derive(Debug, Clone, Copy)]
pub(in crate::device::cpu) struct Place {
    pub logits: Source,
    pub scale: f64,
}

/// [`Gradient`] over memory that the gradient may take the place of.
#[derive(Debug, Clone, Copy)]
pub(in crate::device::cpu) struct Terms {
    pub row: Place,
    pub lse: f64,
    pub p: f64,
    pub p_log_p: f64,
    pub p_squared: f64,
    pub other: Option<(Source, f64)>,
}

/// Writes the sum of some terms. Single entries, by index, get `add` on top, before anything is rounded to bf16; an
/// entry may be named more than once, and indices beyond the row are passed over.
///
/// # Panics
///
/// Where the lengths differ, or for more than [`MOST_TERMS`] terms.
pub fn gradient(width: Width, terms: &[Gradient], add: &[(usize, f64)], mut out: Out) {
    let len = out.len();
    let target = Target::of(&mut out);
    let own = match target {
        Target::F32(v) => Source::F32(v),
        Target::Bf16(v) => Source::Bf16(v),
        Target::F16(v) => Source::F16(v),
    };
    let place = |t: &Gradient| {
        let logits = t.logits.map_or(own, |l| {
            assert_eq!(len, l.len(), "a row and its gradient");
            Source::of(l)
        });
        Place { logits, scale: t.scale }
    };
    let terms: Vec<Terms> = terms
        .iter()
        .map(|t| Terms {
            row: place(t),
            lse: t.lse,
            p: t.p,
            p_log_p: t.p_log_p,
            p_squared: t.p_squared,
            other: t.other.map(|(y, by)| {
                assert_eq!(len, y.len(), "rows of two lengths");
                (Source::of(y), by)
            }),
        })
        .collect();
    // SAFETY: all rows have `len` entries; only those of the target itself are written.
    unsafe { gradient_at(width, len, &terms, add, (target, Stores::Cached)) }
}

/// [`gradient`] over memory that the target may take the place of.
///
/// # Safety
///
/// Rows and target have `len` entries, and none but the target is written meanwhile. The target is one of the rows,
/// with the same number type, or apart from all of them.
pub(in crate::device::cpu) unsafe fn gradient_at(
    width: Width,
    len: usize,
    terms: &[Terms],
    add: &[(usize, f64)],
    (target, stores): (Target, Stores),
) {
    assert!(terms.len() <= MOST_TERMS, "too many terms");
    let mut ready = [None; MOST_TERMS];
    let mut known = true;
    let mut own = false;
    for (ready, terms) in ready.iter_mut().zip(terms) {
        *ready = Ready::new(terms);
        known &= ready.is_some();
        let rows = [Some(terms.row.logits), terms.other.map(|o| o.0)];
        own |= rows.into_iter().flatten().any(|r| r.address() == target.address());
    }
    if known {
        // Later terms read what earlier ones would have written.
        let apart = own && terms.len() > 1;
        // Its own row is in the caches.
        let head = target.before_line().filter(|_| stores == Stores::Streaming && !own);
        run(width, Sweep { ready, terms: terms.len(), len, target, add, apart, head });
    } else {
        // SAFETY: promised by the caller.
        unsafe { exact::gradient(len, terms, add, target) };
    }
}

/// Distributions that a gradient may have.
pub const MOST_TERMS: usize = 6;

/// Terms as the vectors compute them.
#[derive(Clone, Copy)]
struct Ready {
    x: Source,
    y: Source,
    base: Base,
    scale: f64,
    lse: f64,
    origin: f32,
    /// Of p, of p (l - reference), of p^2, of p (y - origin).
    by: [f64; 4],
    has: [bool; 3],
}

impl Ready {
    /// None where plain f64 has to do it.
    fn new(of: &Terms) -> Option<Ready> {
        let Place { logits, scale } = of.row;
        let (y, d) = of.other.unwrap_or((logits, 0.0));
        if !logits.fits() || !y.fits() {
            return None;
        }
        let mut base = Base::new(scale)?;
        // log p = scale * (l - reference) + rest.
        base.reference = (of.lse / scale) as f32;
        if !base.reference.is_finite() {
            return None;
        }
        let rest = f64::from(base.reference) * scale - of.lse;
        let mut a = of.p + of.p_log_p * rest;
        // Where y is about as large as what else there is, their difference is small.
        let mut origin = 0.0;
        if d != 0.0 && ((-a / d) as f32).is_finite() {
            origin = (-a / d) as f32;
            a += d * f64::from(origin);
        }
        Some(Ready {
            x: logits,
            y,
            base,
            scale,
            lse: of.lse,
            origin,
            by: [a, of.p_log_p * scale, of.p_squared, d],
            has: [of.p_log_p != 0.0, of.p_squared != 0.0, d != 0.0],
        })
    }

    /// Coefficients for exponentials that are 1 at the reference.
    fn coefficients(&self) -> [f32; 4] {
        let unit = (f64::from(self.base.reference) * self.scale - self.lse).exp();
        let [a, b, c, d] = self.by;
        [a * unit, b * unit, c * unit * unit, d * unit].map(|x| x as f32)
    }

    /// What gives the whole term, where it is a multiple of p; of bf16, since longer numbers wait for memory. As
    /// scale is rounded, so is lse, for all entries alike.
    #[inline(always)]
    fn powers<S: Simd>(&self, s: S) -> Option<S::Powers> {
        if self.has != [false; 3] || !matches!(self.x, Source::Bf16(_)) {
            return None;
        }
        let lse = self.lse / self.scale * f64::from(self.base.c);
        let factor = self.by[0] * (self.base.origin() - lse).exp2();
        s.powers(self.base, factor as f32)
    }
}

struct Sweep<'a> {
    ready: [Option<Ready>; MOST_TERMS],
    terms: usize,
    len: usize,
    target: Target,
    add: &'a [(usize, f64)],
    /// A block is computed beside its place.
    apart: bool,
    /// Entries before those that are streamed; none where nothing is.
    head: Option<usize>,
}

/// What becomes of terms over a block.
const WRITE: u8 = 0;
/// They are added to what is there.
const ADD: u8 = 1;
/// They are streamed to where they belong.
const STREAM: u8 = 2;

impl Sweep<'_> {
    /// Whether a block can be computed where it belongs. What is streamed or rounded is not read again.
    fn at_once(&self, start: usize, n: usize, lanes: usize, streams: bool) -> bool {
        let changes = |a: &(usize, f64)| (start..start + n).contains(&a.0);
        // Bf16 is written two vectors at a time.
        let lanes = if matches!(self.target, Target::Bf16(_)) { 2 * lanes } else { lanes };
        if !n.is_multiple_of(lanes) || self.apart {
            return false;
        }
        let alone = self.terms == 1 && !self.add.iter().any(changes);
        let own = |r: &Ready| match (r.x, self.target) {
            (Source::Bf16(_), Target::Bf16(_)) | (Source::F16(_), Target::F16(_)) => !r.has[2],
            _ => false,
        };
        match self.target {
            Target::F32(_) => !streams || alone,
            Target::Bf16(_) | Target::F16(_) => alone && self.ready[0].as_ref().is_some_and(own),
        }
    }
}

impl Kernel for Sweep<'_> {
    type Output = ();
    const ROUNDS: bool = true;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (mut x_buffer, mut y_buffer, mut z_buffer) =
            (Buffer::new(), Buffer::new(), Buffer::new());
        let known = self.ready.map(|r| r.map(|r| (r.coefficients(), r.powers(s))));
        let mut start = 0;
        while start < self.len {
            let mut n = BLOCK.min(self.len - start);
            // Streamed blocks begin with a cache line.
            if let Some(head) = self.head.filter(|head| start < *head) {
                n = n.min(head);
            }
            let streams = self.head.is_some_and(|head| start >= head);
            let count = vectors::<S>(n);
            // SAFETY: rows and target have `len` entries. Where the target is the row of the only terms, each vector is
            // read before it is written, and nothing is read twice.
            unsafe {
                let at_once = self.at_once(start, n, S::LANES, streams);
                let to = match self.target {
                    Target::F32(to) if at_once => to.add(start),
                    Target::F32(_) | Target::Bf16(_) | Target::F16(_) => z_buffer.pointer(),
                };
                // Of 16-bit numbers that become such.
                let short = match self.target {
                    Target::Bf16(to) if at_once => Some((to.add(start), false)),
                    Target::F16(to) if at_once => Some((to.add(start), true)),
                    Target::F32(_) | Target::Bf16(_) | Target::F16(_) => None,
                };
                let done = at_once && (streams || short.is_some());
                if self.terms == 0 {
                    (0..count).for_each(|i| s.store(to.add(i * S::LANES), s.splat(0.0)));
                }
                let terms = self.ready.iter().zip(&known).filter_map(|(r, k)| r.as_ref().zip(*k));
                for (term, (ready, (by, powers))) in terms.enumerate() {
                    let [b, c, d] = ready.has;
                    let x = match short {
                        Some(_) => ready.x.from(start).address(),
                        None => widen(s, ready.x, start, n, &mut x_buffer).cast(),
                    };
                    let y = if d { widen(s, ready.y, start, n, &mut y_buffer) } else { x.cast() };
                    let next = [ready.x, ready.y].map(|row| {
                        let step = S::LANES * row.bytes();
                        (row.address().wrapping_add((self.len + start) * row.bytes()), step)
                    });
                    let at = short.map_or(to.cast(), |short| short.0.cast());
                    let pass = Pass { ready, x, y, to: at, by, powers, next };
                    macro_rules! by_terms {
                        ($how:ident $type:ident $d:literal) => {
                            match (b, c) {
                                (false, false) => {
                                    pass.run::<_, false, false, $d, $how, $type>(s, count)
                                }
                                (false, true) => {
                                    pass.run::<_, false, true, $d, $how, $type>(s, count)
                                }
                                (true, false) => {
                                    pass.run::<_, true, false, $d, $how, $type>(s, count)
                                }
                                (true, true) => {
                                    pass.run::<_, true, true, $d, $how, $type>(s, count)
                                }
                            }
                        };
                    }
                    macro_rules! all_terms {
                        ($how:ident) => {
                            if d { by_terms!($how F32 true) } else { by_terms!($how F32 false) }
                        };
                    }
                    match (short, at_once && streams) {
                        (None, true) => all_terms!(STREAM),
                        (None, false) if term > 0 => all_terms!(ADD),
                        (None, false) => all_terms!(WRITE),
                        (Some((_, false)), false) => by_terms!(WRITE BF16 false),
                        (Some((_, false)), true) => by_terms!(STREAM BF16 false),
                        (Some((_, true)), false) => by_terms!(WRITE F16 false),
                        (Some((_, true)), true) => by_terms!(STREAM F16 false),
                    }
                }
                if !done {
                    for (index, value) in self.add {
                        if (start..start + n).contains(index) {
                            let to = to.add(index - start);
                            *to = (f64::from(*to) + value) as f32;
                        }
                    }
                    let stores = if streams { Stores::Streaming } else { Stores::Cached };
                    put(s, to, (self.target, stores), start, n);
                }
            }
            start += n;
        }
        if self.head.is_some() {
            s.drain();
        }
    }
}

/// Terms over a block.
struct Pass<'a, P> {
    ready: &'a Ready,
    /// Of numbers of the type that the target has.
    x: *const u8,
    /// Read where there is a term of it.
    y: *const f32,
    to: *mut u8,
    by: [f32; 4],
    /// What gives the whole term at once.
    powers: Option<P>,
    /// The same entries of the next row, which the loop comes to next, of x and y; and bytes of a vector of them.
    next: [(*const u8, usize); 2],
}

impl<P: Copy> Pass<'_, P> {
    /// Writes them, or adds them to what is there.
    ///
    /// # Safety
    ///
    /// All that is read and written has `count` vectors; what is streamed begins a cache line. Of bf16 the count is even.
    #[inline(always)]
    unsafe fn run<
        S: Simd<Powers = P>,
        const B: bool,
        const C: bool,
        const D: bool,
        const HOW: u8,
        const TYPE: u8,
    >(
        &self,
        s: S,
        count: usize,
    ) {
        // Two loops, none of which has to ask.
        // SAFETY: promised by the caller.
        unsafe {
            match self.powers {
                Some(powers) if !(B || C || D) => {
                    self.run_by::<S, false, false, false, HOW, TYPE>(s, count, Some(powers));
                }
                _ => self.run_by::<S, B, C, D, HOW, TYPE>(s, count, None),
            }
        }
    }

    /// # Safety
    ///
    /// As there.
    #[inline(always)]
    unsafe fn run_by<
        S: Simd<Powers = P>,
        const B: bool,
        const C: bool,
        const D: bool,
        const HOW: u8,
        const TYPE: u8,
    >(
        &self,
        s: S,
        count: usize,
        powers: Option<P>,
    ) {
        let [mut next_x, mut next_y] = self.next.map(|n| n.0);
        let mut ask = |vectors: usize| {
            s.prefetch(next_x);
            next_x = next_x.wrapping_add(vectors * self.next[0].1);
            if D {
                s.prefetch(next_y);
                next_y = next_y.wrapping_add(vectors * self.next[1].1);
            }
        };
        let mut i = 0;
        while i < count {
            let at = i * S::LANES;
            // SAFETY: promised by the caller.
            unsafe {
                if TYPE == BF16 {
                    // A line of 64 bytes.
                    ask(2);
                    let [first, second] = s.widen_bits(s.load_bits(self.x.cast::<u16>().add(at)));
                    let zero = s.splat(0.0);
                    // Without a closure, which would be compiled for the oldest machine.
                    let first =
                        self.value::<S, B, C, false, false>(s, (first, first, zero), powers);
                    let second =
                        self.value::<S, B, C, false, false>(s, (second, second, zero), powers);
                    let (to, bits) =
                        (self.to.cast::<u16>().add(at), s.narrow_bits([first, second]));
                    if HOW == STREAM {
                        s.stream_bits(to, bits);
                    } else {
                        s.store_bits(to, bits);
                    }
                    i += 2;
                } else {
                    ask(1);
                    let x = load::<S, TYPE>(s, self.x, at);
                    let y = if D { s.load(self.y.add(at)) } else { x };
                    let old = if HOW == ADD { load::<S, TYPE>(s, self.to, at) } else { x };
                    let value = match HOW {
                        ADD => self.value::<S, B, C, D, true>(s, (x, y, old), powers),
                        _ => self.value::<S, B, C, D, false>(s, (x, y, old), powers),
                    };
                    store::<S, TYPE>(s, self.to, at, value, HOW == STREAM);
                    i += 1;
                }
            }
        }
    }

    /// At a vector of entries, with those beside them, and what is there.
    #[inline(always)]
    fn value<
        S: Simd<Powers = P>,
        const B: bool,
        const C: bool,
        const D: bool,
        const ADDED: bool,
    >(
        &self,
        s: S,
        (x, y, old): (S::V, S::V, S::V),
        powers: Option<P>,
    ) -> S::V {
        if let Some(powers) = powers {
            let value = s.power(x, powers);
            return if ADDED { s.add(old, value) } else { value };
        }
        let [a, b, c, d] = self.by.map(|x| s.splat(x));
        let below = s.sub(x, s.splat(self.ready.base.reference));
        let (p, some) = s.exp_below(below, self.ready.base);
        let mut factor = a;
        if B {
            factor = s.mul_add(below, b, factor);
        }
        if C {
            factor = s.mul_add(p, c, factor);
        }
        if D {
            factor = s.mul_add(s.sub(y, s.splat(self.ready.origin)), d, factor);
        }
        match (ADDED, B || D) {
            (false, false) => s.mul(p, factor),
            (false, true) => s.mul_where(some, p, factor),
            (true, false) => s.mul_add(p, factor, old),
            (true, true) => s.mul_add_where(some, p, factor, old),
        }
    }
}
