//! Gradients over a row: one sweep that writes them.
//!
//! Stores are ordinary ones: stores past the caches were no faster where rows are far away.

use rlc_compiler::table::Floats;

use super::Row;
use super::base::Base;
use super::block::{BLOCK, Buffer, Out, Source, Target, put, vectors, widen};
use super::exact;
use super::simd::{Kernel, Simd, Width, run};

/// A gradient over the entries of a row x with p = exp(x - lse):
///
/// ```text
/// out_v = p (a + b log p + c p) + other: p (d log q) + e q      plus single entries
/// ```
///
/// which covers, for a loss L and all with respect to x (multiply by the row's scale for the logits):
///
/// ```text
/// log p_k          -p, plus 1 at entry k
/// entropy H        -H p - p log p
/// sum p^2 = S      -2 S p + 2 p^2
/// KL(p || q) = K   -K p + p log p - p log q
/// KL(q || p)       p - q
/// ```
///
/// A term with coefficient 0 costs nothing but p. Entries of p = 0 have no gradient but that of q and single ones.
/// Where q is 0 and p is not, `p_log_q` gives an infinity. In a row without a softmax all is NaN.
///
/// Error of an entry: at most 4e-7 of the sum of the absolute values of its terms, and half a unit of bf16.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gradient<'a> {
    /// log sum exp of the scaled row; not more than 80 below its largest entry.
    pub lse: f64,
    /// a, of p.
    pub p: f64,
    /// b, of p log p.
    pub p_log_p: f64,
    /// c, of p^2.
    pub p_squared: f64,
    /// Terms with another row of the same length.
    pub other: Option<Other<'a>>,
    /// What single entries get on top, by index, before anything is rounded to bf16. An entry may be named more than
    /// once; indices beyond the row are passed over.
    pub add: &'a [(usize, f64)],
}

/// Terms with a second distribution q = exp(y - lse).
#[derive(Debug, Clone, Copy)]
pub struct Other<'a> {
    /// y.
    pub row: Row<'a>,
    /// log sum exp of the scaled y.
    pub lse: f64,
    /// d, of p log q.
    pub p_log_q: f64,
    /// e, of q.
    pub q: f64,
}

/// Writes a gradient.
///
/// # Panics
///
/// Where the lengths differ.
pub fn gradient(width: Width, x: Row, how: &Gradient, mut out: Out) {
    assert_eq!(x.logits.len(), out.len(), "a row and its gradient");
    check(x.logits.len(), how);
    let done = Source::of(x.logits).is_some_and(|from| {
        sweep(width, from, x.logits.len(), x.scale, how, Target::of(&mut out)).is_some()
    });
    if !done {
        exact::gradient(x, how, out);
    }
}

/// Writes a gradient over the logits that it belongs to.
///
/// # Panics
///
/// Where lengths differ.
pub fn gradient_in_place(width: Width, mut row: Out, scale: f64, how: &Gradient) {
    check(row.len(), how);
    let target = Target::of(&mut row);
    let from = match target {
        Target::F32(v) => Source::F32(v),
        Target::Bf16(v) => Source::Bf16(v),
    };
    if sweep(width, from, row.len(), scale, how, target).is_none() {
        match row {
            Out::F32(v) => {
                let logits = v.to_vec();
                exact::gradient(Row { logits: Floats::F32(&logits), scale }, how, Out::F32(v));
            }
            Out::Bf16(v) => {
                let logits = v.to_vec();
                exact::gradient(Row { logits: Floats::Bf16(&logits), scale }, how, Out::Bf16(v));
            }
        }
    }
}

fn check(len: usize, how: &Gradient) {
    if let Some(other) = &how.other {
        assert_eq!(len, other.row.logits.len(), "rows of two lengths");
    }
}

/// Nothing is written where the answer is none: plain f64 has to do it.
fn sweep(
    width: Width,
    from: Source,
    len: usize,
    scale: f64,
    how: &Gradient,
    target: Target,
) -> Option<()> {
    let mut base = Base::new(scale)?;
    // exp(x - lse) is a power of two that the vectors compute, times this.
    let p = (-base.shift(how.lse)?).exp2();
    // log p = scale * (l - top) + rest.
    let top = (how.lse / scale) as f32;
    let rest = f64::from(top) * scale - how.lse;
    let mut sweep = Sweep {
        x: from,
        y: from,
        len,
        target,
        add: how.add,
        bases: [base, base],
        tops: [top, top],
        a: 0.0,
        b: (p * how.p_log_p * scale) as f32,
        c: (p * p * how.p_squared) as f32,
        d: 0.0,
        e: 0.0,
    };
    let mut a = how.p + how.p_log_p * rest;
    let (mut log_q, mut plain_q) = (false, false);
    if let Some(other) = &how.other {
        let scale = other.row.scale;
        sweep.y = Source::of(other.row.logits)?;
        sweep.bases[1] = Base::new(scale)?;
        let q = (-sweep.bases[1].shift(other.lse)?).exp2();
        let top = (other.lse / scale) as f32;
        a += other.p_log_q * (f64::from(top) * scale - other.lse);
        sweep.tops[1] = top;
        sweep.d = (p * other.p_log_q * scale) as f32;
        sweep.e = (q * other.q) as f32;
        (log_q, plain_q) = (other.p_log_q != 0.0, other.q != 0.0);
    }
    sweep.a = (p * a) as f32;
    macro_rules! by_terms {
        ($($b:literal $c:literal $d:literal $e:literal,)*) => {
            match (how.p_log_p != 0.0, how.p_squared != 0.0, log_q, plain_q) {
                $(($b, $c, $d, $e) => run(width, Terms::<$b, $c, $d, $e>(sweep)),)*
            }
        };
    }
    by_terms! {
        false false false false, false false false true, false false true false, false false true true,
        false true false false, false true false true, false true true false, false true true true,
        true false false false, true false false true, true false true false, true false true true,
        true true false false, true true false true, true true true false, true true true true,
    }
    Some(())
}

/// Coefficients are multiplied with what is left of the powers of two.
struct Sweep<'a> {
    x: Source,
    y: Source,
    len: usize,
    target: Target,
    add: &'a [(usize, f64)],
    bases: [Base; 2],
    tops: [f32; 2],
    a: f32,
    b: f32,
    c: f32,
    d: f32,
    e: f32,
}

/// A sweep with only the terms named.
struct Terms<'a, const B: bool, const C: bool, const D: bool, const E: bool>(Sweep<'a>);

impl<const B: bool, const C: bool, const D: bool, const E: bool> Kernel for Terms<'_, B, C, D, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let sweep = self.0;
        let (mut x_buffer, mut y_buffer, mut z_buffer) =
            (Buffer::new(), Buffer::new(), Buffer::new());
        let mut start = 0;
        while start < sweep.len {
            let n = BLOCK.min(sweep.len - start);
            let count = vectors::<S>(n);
            // SAFETY: both rows and the target have `len` entries. Where the target is the row itself, each vector is
            // read before it is written, and nothing is read twice.
            unsafe {
                let x = widen(s, sweep.x, start, n, &mut x_buffer);
                let y = if D || E { widen(s, sweep.y, start, n, &mut y_buffer) } else { x };
                let to = match sweep.target {
                    Target::F32(to) if n.is_multiple_of(S::LANES) => to.add(start),
                    Target::F32(_) | Target::Bf16(_) => z_buffer.pointer(),
                };
                for i in 0..count {
                    let at = i * S::LANES;
                    let y = || s.load(y.add(at));
                    s.store(to.add(at), sweep.entry::<S, B, C, D, E>(s, s.load(x.add(at)), y));
                }
                for (index, value) in sweep.add {
                    if (start..start + n).contains(index) {
                        let to = to.add(index - start);
                        *to = (f64::from(*to) + value) as f32;
                    }
                }
                put(to, sweep.target, start, n);
            }
            start += n;
        }
    }
}

impl Sweep<'_> {
    #[inline(always)]
    fn entry<S: Simd, const B: bool, const C: bool, const D: bool, const E: bool>(
        &self,
        s: S,
        x: S::V,
        y: impl Fn() -> S::V,
    ) -> S::V {
        let (p, some) = s.exp(x, &self.bases[0]);
        let mut factor = s.splat(self.a);
        if B {
            factor = s.mul_add(s.sub(x, s.splat(self.tops[0])), s.splat(self.b), factor);
        }
        if C {
            factor = s.mul_add(p, s.splat(self.c), factor);
        }
        if D {
            factor = s.mul_add(s.sub(y(), s.splat(self.tops[1])), s.splat(self.d), factor);
        }
        let out = s.mul_where(some, p, factor);
        if E { s.mul_add(s.exp(y(), &self.bases[1]).0, s.splat(self.e), out) } else { out }
    }
}
