//! Sweeps known by their form: what a sweep computes for every entry, as a formula in the entries.
//!
//! Where all of a sweep is a sum of `1`, entries of one to three columns, exponentials of multiples of
//! an entry and products of these, with numbers of the row before them, and single entries, row
//! primitives do it at a tenth of the cost. The operators are run once over formulas; only
//! coefficients are computed row by row, and a row that leaves the form goes through the blocks.
//!
//! The n largest entries may be treated in any other way: the form is that of the others, and they go through
//! the blocks, put together (`inside`).

mod algebra;
mod apply;
mod inside;
mod tape;

use rlc_compiler::hir::ReduceOp;
use rlc_compiler::loops::Guard;
use rlc_compiler::op::Binary;

use super::{Arg, Code, Fold, Mean};
use algebra::{Algebra, COLUMNS, Form, Inside, Linear, Of, Term};
use tape::{N, Tape, ZERO};

pub(super) use apply::{Blocks, Buffers, Later, run};

/// Shorter rows are not worth it.
pub const ROW_FROM: usize = 256;

/// A fold of known form.
#[derive(Debug, Clone)]
enum KnownFold {
    /// Log-sum-exp of a linear formula, and means of linear formulas; none of those that no entry counts for.
    LogSumExp { x: Linear, means: Vec<Option<(Linear, Guard)>> },
    /// Sum of exponentials and single entries.
    Sum(Form),
    /// The number of the n-th entry of a linear formula.
    Nth { x: Linear, n: N },
    /// No entry adds anything: so many results.
    Nothing(usize),
}

/// Something of known form, for all entries or those outside.
#[derive(Debug, Clone)]
struct Part<T> {
    of: T,
    /// It differs inside.
    outside: bool,
}

/// What a sweep computes, as formulas.
#[derive(Debug, Clone)]
pub(super) struct Known {
    tape: Tape,
    nonzero: Vec<N>,
    folds: Vec<Part<KnownFold>>,
    gradients: Vec<Part<Form>>,
    /// Entries for which the formulas do not hold.
    inside: Vec<Inside>,
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
        let mut algebra = Algebra { tape: Tape::new(), nonzero: Vec::new(), inside: Vec::new() };
        let mut registers = vec![Of::Unknown; sweep.registers];
        // What follows from whether an entry is inside.
        let mut differs = vec![false; sweep.registers];
        // Numbers that must not be 0 for what is in each register.
        let mut conditions: Vec<Vec<N>> = vec![Vec::new(); sweep.registers];
        for code in sweep.code {
            let known = algebra.inside.len();
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
            let reads = |x: Arg| matches!(x, Arg::Block(r) if differs[r as usize]);
            let any = match *code {
                Code::Entry { .. } | Code::Index { .. } => false,
                Code::Unary { x, .. } => reads(x),
                Code::Binary { a, b, .. } => reads(a) || reads(b),
                Code::Select { c, a, b, .. } => reads(c) || reads(a) || reads(b),
            };
            let condition = matches!(code, Code::Binary { op: Binary::Or, .. });
            differs[into as usize] = any
                || algebra.inside.len() > known
                || condition && matches!(found, Of::Number(ZERO));
            let mut own = std::mem::take(&mut algebra.nonzero);
            let mut read = |x: Arg| {
                if let Arg::Block(r) = x {
                    own.extend_from_slice(&conditions[r as usize]);
                }
            };
            match *code {
                Code::Entry { .. } | Code::Index { .. } => {}
                Code::Unary { x, .. } => read(x),
                Code::Binary { a, b, .. } => [a, b].into_iter().for_each(read),
                Code::Select { c, a, b, .. } => {
                    let taken = match sweep.of(&registers, c, &mut algebra) {
                        Of::Number(n) => algebra.tape.constant_of(n),
                        _ => None,
                    };
                    match taken {
                        Some(0.0) => read(b),
                        Some(_) => read(a),
                        None => [c, a, b].into_iter().for_each(read),
                    }
                }
            }
            conditions[into as usize] = own;
            registers[into as usize] = found;
        }
        let mut nonzero = Vec::new();
        let mut needs = |x: Arg| {
            if let Arg::Block(r) = x {
                nonzero.extend_from_slice(&conditions[r as usize]);
            }
        };
        let differs = |x: Arg| matches!(x, Arg::Block(r) if differs[r as usize]);
        let form = |x: Arg, algebra: &mut Algebra| match sweep.of(&registers, x, algebra) {
            Of::Number(n) => Some(Form::linear(Linear::number(n))),
            Of::Form(f) => Some(f).filter(|f| f.held.is_empty()),
            Of::Index
            | Of::Hit(_)
            | Of::Above(_)
            | Of::Over(..)
            | Of::Equal(..)
            | Of::UpTo
            | Of::Tied(..)
            | Of::Unknown => None,
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
                    needs(*x);
                    let of = KnownFold::Sum(form(*x, &mut algebra).and_then(sum)?);
                    Part { of, outside: differs(*x) }
                }
                Fold::LogSumExp { x, means } => {
                    let reads = |m: &Mean| differs(m.f) || m.filter.is_some_and(&differs);
                    let outside = differs(*x) || means.iter().any(reads);
                    let arg = *x;
                    let x = linear(arg, &mut algebra)?;
                    let nothing =
                        x.is_number() && algebra.tape.constant_of(x.c0) == Some(f64::NEG_INFINITY);
                    if nothing && outside && !algebra.inside.is_empty() {
                        let of = KnownFold::Nothing(1 + means.len());
                        folds.push(Part { of, outside });
                        continue;
                    }
                    needs(arg);
                    let mut known = Vec::new();
                    for mean in means {
                        let counts =
                            match mean.filter.map(|f| sweep.of(&registers, f, &mut algebra)) {
                                None => true,
                                Some(Of::Number(n)) => algebra.tape.constant_of(n)? != 0.0,
                                Some(_) => return None,
                            };
                        if counts {
                            needs(mean.f);
                            known.push(Some((linear(mean.f, &mut algebra)?, mean.guard)));
                        } else {
                            known.push(None);
                        }
                    }
                    Part { of: KnownFold::LogSumExp { x, means: known }, outside }
                }
                Fold::Nth { x, n: Arg::Row(n), .. } if !differs(*x) => {
                    needs(*x);
                    let x = linear(*x, &mut algebra)?;
                    let Of::Number(n) = sweep.of(&registers, Arg::Row(*n), &mut algebra) else {
                        return None;
                    };
                    Part { of: KnownFold::Nth { x, n }, outside: false }
                }
                Fold::Plain { .. } | Fold::Nth { .. } => return None,
            });
        }
        let mut gradients = Vec::new();
        for x in sweep.gradients {
            needs(*x);
            let of = form(*x, &mut algebra).filter(|f| f.plain.is_number())?;
            gradients.push(Part { of, outside: differs(*x) });
        }
        let Algebra { tape, inside, .. } = algebra;
        if inside.iter().any(|i| single(i.x).is_none()) {
            return None;
        }
        // Without such entries a condition that is always false is nothing special.
        let special = !inside.is_empty();
        for fold in &mut folds {
            fold.outside &= special;
        }
        for gradient in &mut gradients {
            gradient.outside &= special;
        }
        Some(Known { tape, nonzero, folds, gradients, inside })
    }

    /// Columns of whose exponentials it sums squares.
    pub(super) fn square_columns(&self) -> impl Iterator<Item = usize> + '_ {
        let sums = self.folds.iter().filter_map(|f| match &f.of {
            KnownFold::Sum(form) => Some(&form.terms).filter(|_| !f.outside),
            KnownFold::LogSumExp { .. } | KnownFold::Nth { .. } | KnownFold::Nothing(_) => None,
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
