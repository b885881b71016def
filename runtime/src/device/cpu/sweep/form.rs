//! Sweeps known by their form: what a sweep computes for every entry, as a formula in the entries.
//!
//! Where all of a sweep is a sum of `1`, entries of one to three columns, exponentials of multiples of
//! an entry and products of these, with numbers of the row before them, and single entries, row
//! primitives do it at a tenth of the cost. The operators are run once over formulas; only
//! coefficients are computed row by row, and a row that leaves the form goes through the blocks.

mod algebra;
mod apply;
mod tape;

use rlc_compiler::hir::ReduceOp;
use rlc_compiler::loops::Guard;

use super::{Arg, Code, Fold};
use algebra::{Algebra, COLUMNS, Form, Linear, Of, Term};
use tape::{N, Tape, ZERO};

pub(super) use apply::{Buffers, Later, run};

/// Shorter rows are not worth it.
pub const ROW_FROM: usize = 256;

/// A fold of known form.
#[derive(Debug, Clone)]
enum KnownFold {
    /// Log-sum-exp of a linear formula, and means of linear formulas.
    LogSumExp { x: Linear, means: Vec<(Linear, Guard)> },
    /// Sum of exponentials and single entries.
    Sum(Form),
}

/// What a sweep computes, as formulas.
#[derive(Debug, Clone)]
pub(super) struct Known {
    tape: Tape,
    nonzero: Vec<N>,
    folds: Vec<KnownFold>,
    gradients: Vec<Form>,
}

/// The code that is looked at.
#[derive(Clone, Copy)]
pub(super) struct Sweep<'a> {
    pub code: &'a [Code],
    pub folds: &'a [Fold],
    pub gradients: &'a [Arg],
    pub registers: usize,
    /// The numbers of a row that are the same in every row.
    pub constants: &'a [Option<f64>],
    pub columns: usize,
}

impl Known {
    /// None for a sweep of another form.
    pub(super) fn new(sweep: Sweep<'_>) -> Option<Known> {
        if sweep.columns > COLUMNS || sweep.columns == 0 {
            return None;
        }
        let mut algebra = Algebra { tape: Tape::new(), nonzero: Vec::new() };
        let mut registers = vec![Of::Unknown; sweep.registers];
        for code in sweep.code {
            let of = |x: Arg, algebra: &mut Algebra| sweep.of(&registers, x, algebra);
            let (into, found) = match *code {
                Code::Entry { into, column } => {
                    let entry = Linear::entry(column as usize);
                    (into, Of::Form(Form::linear(entry)))
                }
                Code::Index { into } => (into, Of::Index),
                Code::Unary { op, into, x } => {
                    let x = of(x, &mut algebra);
                    (into, algebra.unary(op, x))
                }
                Code::Binary { op, into, a, b } => {
                    let (a, b) = (of(a, &mut algebra), of(b, &mut algebra));
                    (into, algebra.binary(op, a, b))
                }
                Code::Select { into, c, a, b } => {
                    let (c, a) = (of(c, &mut algebra), of(a, &mut algebra));
                    let b = of(b, &mut algebra);
                    (into, algebra.select(c, a, b))
                }
            };
            registers[into as usize] = found;
        }
        let form = |x: Arg, algebra: &mut Algebra| match sweep.of(&registers, x, algebra) {
            Of::Number(n) => Some(Form::linear(Linear::number(n))),
            Of::Form(f) => Some(f).filter(|f| f.held.is_empty()),
            Of::Index | Of::Hit(_) | Of::Above(_) | Of::Unknown => None,
        };
        let linear = |x: Arg, algebra: &mut Algebra| {
            form(x, algebra).filter(Form::is_linear).map(|f| f.plain)
        };
        // Sums of what is not an exponential of an entry are left to the blocks.
        let sum = |f: Form| (f.plain == Linear::NONE).then_some(f);
        let mut folds = Vec::new();
        for fold in sweep.folds {
            folds.push(match fold {
                Fold::Plain { op: ReduceOp::Sum, x } => {
                    KnownFold::Sum(form(*x, &mut algebra).and_then(sum)?)
                }
                Fold::LogSumExp { x, means } if means.iter().all(|m| m.filter.is_none()) => {
                    let x = linear(*x, &mut algebra)?;
                    let mut known = Vec::new();
                    for mean in means {
                        known.push((linear(mean.f, &mut algebra)?, mean.guard));
                    }
                    KnownFold::LogSumExp { x, means: known }
                }
                Fold::Plain { .. } | Fold::LogSumExp { .. } | Fold::Nth { .. } => return None,
            });
        }
        let mut gradients = Vec::new();
        for x in sweep.gradients {
            gradients.push(form(*x, &mut algebra).filter(|f| f.plain.is_number())?);
        }
        let Algebra { tape, nonzero } = algebra;
        Some(Known { tape, nonzero, folds, gradients })
    }

    /// Columns of whose exponentials it sums squares.
    pub(super) fn square_columns(&self) -> impl Iterator<Item = usize> + '_ {
        let sums = self.folds.iter().filter_map(|f| match f {
            KnownFold::Sum(f) => Some(&f.terms),
            KnownFold::LogSumExp { .. } => None,
        });
        // Two exponentials of a column: one may be the square of the other.
        sums.flat_map(|terms| {
            let of = |t: &Term| single(t.exponent);
            terms.iter().filter_map(move |t| {
                let column = of(t)?;
                (terms.iter().filter(|o| of(o) == Some(column)).count() > 1).then_some(column)
            })
        })
    }
}

impl Sweep<'_> {
    fn of(&self, registers: &[Of], x: Arg, algebra: &mut Algebra) -> Of {
        match x {
            Arg::Block(r) => registers[r as usize].clone(),
            Arg::Row(n) => Of::Number(match self.constants.get(n as usize).copied().flatten() {
                Some(x) => algebra.tape.constant(x),
                None => algebra.tape.input(n),
            }),
        }
    }
}

/// The only column that may have a part in it.
fn single(x: Linear) -> Option<usize> {
    let mut with = (0..COLUMNS).filter(|c| x.c[*c] != ZERO);
    with.next().filter(|_| with.next().is_none())
}
