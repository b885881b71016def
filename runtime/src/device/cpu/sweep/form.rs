//! Sweeps known by their form: what a sweep computes for every entry, as a formula in the entry.
//!
//! Where all of a sweep is a sum of `1`, `e`, `p` and `p e` with numbers of the row before them (e the
//! logit, p = exp(s e + o) for one s and o) and single entries, a row primitive does it at a tenth of the
//! cost. The operators are run once per row over formulas instead of numbers; a row that leaves the form
//! goes through the blocks.
#![allow(clippy::cast_ptr_alignment, reason = "rows that are not aligned are left to the blocks")]

use rlc_compiler::clif::Float;
use rlc_compiler::loops::Guard;
use rlc_compiler::op::{Binary, Unary};
use rlc_compiler::table::Floats;

use super::block::Row;
use super::lane::exp;
use super::{Arg, Code, Fold};
use crate::device::cpu::rows::{self, Gradient, Out, Wanted, Width};

/// Shorter rows are not worth the formulas.
pub const ROW_FROM: usize = 256;

/// Single entries that a formula may name.
const HITS: usize = 2;

/// c0 + c1 e + (k0 + k1 e) exp(s e + o) + single entries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Form {
    c0: f64,
    c1: f64,
    s: f64,
    o: f64,
    k0: f64,
    k1: f64,
    /// Entry and what it adds.
    hits: [Option<(f64, f64)>; HITS],
}

/// What an operator gives for every entry of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Of {
    Number(f64),
    Form(Form),
    /// The entry's number.
    Index,
    /// Whether that is this.
    Hit(f64),
    /// Whether exp(s e + o) is above 0.
    Above(f64, f64),
    Unknown,
}

impl Form {
    fn linear(c0: f64, c1: f64) -> Form {
        Form { c0, c1, s: 0.0, o: 0.0, k0: 0.0, k1: 0.0, hits: [None; HITS] }
    }

    fn has_exp(&self) -> bool {
        self.k0 != 0.0 || self.k1 != 0.0
    }

    fn is_linear(&self) -> bool {
        !self.has_exp() && self.hits == [None; HITS]
    }

    fn is_exp(&self) -> bool {
        self.c0 == 0.0 && self.c1 == 0.0 && self.hits == [None; HITS]
    }

    fn scaled(self, by: f64) -> Form {
        let hits = self.hits.map(|h| h.map(|(at, value)| (at, value * by)));
        let (c0, c1, k0, k1) = (self.c0 * by, self.c1 * by, self.k0 * by, self.k1 * by);
        Form { c0, c1, k0, k1, hits, ..self }
    }

    fn plus(self, other: Form) -> Option<Form> {
        let same = (self.s, self.o) == (other.s, other.o);
        if self.has_exp() && other.has_exp() && !same {
            return None;
        }
        let exp = if self.has_exp() { self } else { other };
        let mut hits = [None; HITS];
        let mut named = self.hits.into_iter().chain(other.hits).flatten();
        for hit in &mut hits {
            *hit = named.next();
        }
        if named.next().is_some() {
            return None;
        }
        Some(Form {
            c0: self.c0 + other.c0,
            c1: self.c1 + other.c1,
            s: exp.s,
            o: exp.o,
            k0: self.k0 + other.k0,
            k1: self.k1 + other.k1,
            hits,
        })
    }

    /// Of an exponential alone and a linear form.
    fn times(self, linear: Form) -> Option<Form> {
        let fits = self.is_exp() && self.k1 == 0.0 && linear.is_linear();
        fits.then_some(Form { k0: self.k0 * linear.c0, k1: self.k0 * linear.c1, ..self })
    }
}

fn number(x: f64) -> Of {
    if x.is_finite() { Of::Number(x) } else { Of::Unknown }
}

fn form(found: Option<Form>) -> Of {
    let finite = |f: &Form| [f.c0, f.c1, f.s, f.o, f.k0, f.k1].iter().all(|x| x.is_finite());
    found.filter(finite).map_or(Of::Unknown, Of::Form)
}

fn unary(op: Unary, x: Of) -> Of {
    match (op, x) {
        (_, Of::Number(x)) => number(if op == Unary::Exp { exp(x) } else { op.eval(x) }),
        (Unary::Neg, Of::Form(f)) => Of::Form(f.scaled(-1.0)),
        (Unary::Cast, x) => x,
        (Unary::Exp, Of::Form(f)) if f.is_linear() => {
            form(Some(Form { c0: 0.0, c1: 0.0, s: f.c1, o: f.c0, k0: 1.0, ..f }))
        }
        _ => Of::Unknown,
    }
}

fn binary(op: Binary, a: Of, b: Of) -> Of {
    match (op, a, b) {
        (_, Of::Number(a), Of::Number(b)) => number(op.eval(a, b)),
        (Binary::Add, Of::Form(a), Of::Form(b)) => form(a.plus(b)),
        (Binary::Sub, Of::Form(a), Of::Form(b)) => form(a.plus(b.scaled(-1.0))),
        (Binary::Add, Of::Form(f), Of::Number(x)) | (Binary::Add, Of::Number(x), Of::Form(f)) => {
            form(f.plus(Form::linear(x, 0.0)))
        }
        (Binary::Sub, Of::Form(f), Of::Number(x)) => form(f.plus(Form::linear(-x, 0.0))),
        (Binary::Sub, Of::Number(x), Of::Form(f)) => {
            form(f.scaled(-1.0).plus(Form::linear(x, 0.0)))
        }
        // A chain is a product unless a factor is infinite, which no number of a form is.
        (Binary::Mul | Binary::Chain, Of::Form(f), Of::Number(x))
        | (Binary::Mul | Binary::Chain, Of::Number(x), Of::Form(f)) => form(Some(f.scaled(x))),
        (Binary::Mul | Binary::Chain, Of::Form(a), Of::Form(b)) => {
            form(a.times(b).or_else(|| b.times(a)))
        }
        (Binary::Div, Of::Form(f), Of::Number(x)) => form(Some(f.scaled(1.0 / x))),
        (Binary::Eq, Of::Index, Of::Number(at)) | (Binary::Eq, Of::Number(at), Of::Index) => {
            Of::Hit(at)
        }
        (Binary::Gt, Of::Form(f), Of::Number(0.0)) if f.is_exp() && f.k1 == 0.0 && f.k0 > 0.0 => {
            Of::Above(f.s, f.o)
        }
        _ => Of::Unknown,
    }
}

fn select(c: Of, a: Of, b: Of) -> Of {
    match (c, a, b) {
        (Of::Number(0.0), _, b) => b,
        (Of::Number(_), a, _) => a,
        (Of::Hit(at), Of::Number(value), Of::Number(0.0)) => {
            Of::Form(Form { hits: [Some((at, value)), None], ..Form::linear(0.0, 0.0) })
        }
        // Where the exponential is 0 the formula is 0 too: the primitives count it so.
        (Of::Above(s, o), Of::Form(f), Of::Number(0.0))
            if f.is_exp() && (!f.has_exp() || (f.s, f.o) == (s, o)) =>
        {
            Of::Form(f)
        }
        (Of::Above(..), Of::Number(0.0), Of::Number(0.0)) => Of::Number(0.0),
        _ => Of::Unknown,
    }
}

/// Whether a sweep may have the form at all: it reads one column, and what a row can change are
/// numbers only.
pub(super) fn may_fit(code: &[Code], folds: &[Fold], gradients: usize, columns: usize) -> bool {
    let folds_fit = folds.iter().all(|f| match f {
        Fold::LogSumExp { means, .. } => means.iter().all(|m| m.filter.is_none()),
        Fold::Plain { .. } | Fold::Nth { .. } => false,
    });
    columns == 1 && folds_fit && (folds.is_empty() == (gradients == 1)) && code.len() <= 64
}

/// Runs a sweep by its form; false, with nothing written, where the row has another one.
///
/// # Safety
///
/// As for [`super::block::run`].
pub(super) unsafe fn run(
    width: Width,
    row: &Row,
    formulas: &mut Vec<Of>,
    results: &mut [f64],
) -> bool {
    formulas.clear();
    formulas.resize(row.registers, Of::Unknown);
    let of = |formulas: &[Of], x: Arg| match x {
        Arg::Block(r) => formulas[r as usize],
        Arg::Row(n) => number(row.numbers[n as usize]),
    };
    for code in row.code {
        let (into, found) = match *code {
            Code::Entry { into, .. } => (into, Of::Form(Form::linear(0.0, 1.0))),
            Code::Index { into } => (into, Of::Index),
            Code::Unary { op, into, x } => (into, unary(op, of(formulas, x))),
            Code::Binary { op, into, a, b } => (into, binary(op, of(formulas, a), of(formulas, b))),
            Code::Select { into, c, a, b } => {
                let (c, a, b) = (of(formulas, c), of(formulas, a), of(formulas, b));
                (into, select(c, a, b))
            }
        };
        formulas[into as usize] = found;
    }
    let (data, float) = (row.columns[0], row.floats[0].float);
    if data.align_offset(float.bytes()) != 0 {
        return false;
    }
    // SAFETY: the column has that many entries of its type, aligned as was just seen.
    let logits = unsafe {
        match float {
            Float::F32 => Floats::F32(std::slice::from_raw_parts(data.cast(), row.entries)),
            Float::Bf16 => Floats::Bf16(std::slice::from_raw_parts(data.cast(), row.entries)),
            Float::F16 => Floats::F16(std::slice::from_raw_parts(data.cast(), row.entries)),
            Float::F64 => return false,
        }
    };
    if row.folds.is_empty() {
        let Some((_, x)) = row.gradients.first() else { return false };
        let out = row.written[0];
        if out.align_offset(4) != 0 {
            return false;
        }
        // SAFETY: the gradient has a place for every entry, and is no one else's.
        let out = unsafe { std::slice::from_raw_parts_mut(out.cast::<f32>(), row.entries) };
        return gradient(width, logits, of(formulas, *x), out);
    }
    statistics(width, logits, row, |x| of(formulas, x), results)
}

fn gradient(width: Width, logits: Floats, of: Of, out: &mut [f32]) -> bool {
    let f = match of {
        Of::Number(x) => {
            out.fill(x as f32);
            return true;
        }
        Of::Form(f) if f.c0 == 0.0 && f.c1 == 0.0 => f,
        _ => return false,
    };
    let mut add = [(0, 0.0); HITS];
    let mut hits = 0;
    for (at, value) in f.hits.into_iter().flatten() {
        if at >= 0.0 && at.fract() == 0.0 && at < out.len() as f64 {
            add[hits] = (at as usize, value);
            hits += 1;
        }
    }
    let add = &add[..hits];
    if !f.has_exp() {
        out.fill(0.0);
        for (at, value) in add {
            out[*at] += *value as f32;
        }
        return true;
    }
    if f.s <= 0.0 {
        return false;
    }
    let row = rows::Row { logits, scale: f.s };
    // The primitive wants no entry far above the normaliser; a row without finite entries is none.
    let most = rows::statistics(width, row, Wanted { moment: false, square: false }).max;
    if !most.is_finite() || most + f.o > 60.0 {
        return false;
    }
    // log p = s e + o, so k1 e p = k1 / s * p (log p - o).
    let p_log_p = f.k1 / f.s;
    let how = Gradient { lse: -f.o, p: f.k0 - p_log_p * f.o, p_log_p, add, ..Gradient::default() };
    rows::gradient(width, row, &how, Out::F32(out));
    true
}

fn statistics(
    width: Width,
    logits: Floats,
    row: &Row,
    of: impl Fn(Arg) -> Of,
    results: &mut [f64],
) -> bool {
    let mut at = 0;
    for fold in row.folds {
        let Fold::LogSumExp { x, means } = fold else { return false };
        let Of::Form(f) = of(*x) else { return false };
        if !f.is_linear() || f.c1 <= 0.0 {
            return false;
        }
        let moment = !means.is_empty();
        let found = rows::statistics(
            width,
            rows::Row { logits, scale: f.c1 },
            Wanted { moment, square: false },
        );
        if !found.max.is_finite() || !found.sum.is_finite() {
            return false;
        }
        results[at] = found.lse() + f.c0;
        for (result, mean) in results[at + 1..].iter_mut().zip(means) {
            let g = match of(mean.f) {
                Of::Number(x) => Form::linear(x, 0.0),
                Of::Form(g) if g.is_linear() => g,
                _ => return false,
            };
            // What weighs nothing adds nothing; without a guard 0 * -inf would be NaN.
            if g.c1 != 0.0 && mean.guard == Guard::None {
                return false;
            }
            let entry = (found.max + found.moment / found.sum) / f.c1;
            *result = if g.c1 == 0.0 { g.c0 } else { g.c0 + g.c1 * entry };
        }
        at += 1 + means.len();
    }
    true
}
