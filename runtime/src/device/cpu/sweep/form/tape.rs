//! Numbers of a row that follow from its numbers: coefficients of formulas, computed once per row.

use rlc_compiler::op::{Binary, Unary};

use super::super::lane::exp;

/// A number on a [`Tape`]. Equal ones are the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct N(u16);

pub(super) const ZERO: N = N(0);
pub(super) const ONE: N = N(1);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    Constant(f64),
    /// A number of the row.
    Input(u16),
    Unary(Unary, N),
    Binary(Binary, N, N),
    Select(N, N, N),
}

/// Straight-line code over the numbers of a row.
#[derive(Debug, Clone)]
pub(in super::super) struct Tape {
    steps: Vec<Step>,
}

impl Tape {
    pub(super) fn new() -> Tape {
        Tape { steps: vec![Step::Constant(0.0), Step::Constant(1.0)] }
    }

    fn push(&mut self, step: Step) -> N {
        let known = self.steps.iter().position(|s| *s == step);
        N(known.unwrap_or_else(|| {
            self.steps.push(step);
            self.steps.len() - 1
        }) as u16)
    }

    pub(super) fn constant_of(&self, n: N) -> Option<f64> {
        match self.steps[n.0 as usize] {
            Step::Constant(x) => Some(x),
            Step::Input(_) | Step::Unary(..) | Step::Binary(..) | Step::Select(..) => None,
        }
    }

    pub(super) fn constant(&mut self, x: f64) -> N {
        self.push(Step::Constant(x))
    }

    pub(super) fn input(&mut self, at: u16) -> N {
        self.push(Step::Input(at))
    }

    pub(super) fn unary(&mut self, op: Unary, x: N) -> N {
        match self.constant_of(x) {
            Some(x) => self.constant(one(op, x)),
            None => self.push(Step::Unary(op, x)),
        }
    }

    pub(super) fn binary(&mut self, op: Binary, a: N, b: N) -> N {
        if let (Some(a), Some(b)) = (self.constant_of(a), self.constant_of(b)) {
            return self.constant(op.eval(a, b));
        }
        match (op, a, b) {
            (Binary::Add, ZERO, x)
            | (Binary::Add | Binary::Sub, x, ZERO)
            | (Binary::Mul, ONE, x)
            | (Binary::Mul | Binary::Div, x, ONE) => x,
            (Binary::Sub, ZERO, x) => self.unary(Unary::Neg, x),
            _ => self.push(Step::Binary(op, a, b)),
        }
    }

    pub(super) fn add(&mut self, a: N, b: N) -> N {
        self.binary(Binary::Add, a, b)
    }

    /// The product of coefficients: 0 is that of a term that is not there.
    pub(super) fn mul(&mut self, a: N, b: N) -> N {
        if a == ZERO || b == ZERO { ZERO } else { self.binary(Binary::Mul, a, b) }
    }

    pub(super) fn select(&mut self, c: N, a: N, b: N) -> N {
        match self.constant_of(c) {
            Some(0.0) => b,
            Some(_) => a,
            None if a == b => a,
            None => self.push(Step::Select(c, a, b)),
        }
    }

    /// Computes all numbers of a row.
    pub(super) fn run(&self, row: &[f64], out: &mut Vec<f64>) {
        out.clear();
        for step in &self.steps {
            let of = |n: N| out[n.0 as usize];
            out.push(match *step {
                Step::Constant(x) => x,
                Step::Input(at) => row[at as usize],
                Step::Unary(op, x) => one(op, of(x)),
                Step::Binary(op, a, b) => op.eval(of(a), of(b)),
                Step::Select(c, a, b) => of(if of(c) == 0.0 { b } else { a }),
            });
        }
    }
}

/// Value of a number.
pub(super) fn value(values: &[f64], n: N) -> f64 {
    values[n.0 as usize]
}

/// With the bits that blocks give.
fn one(op: Unary, x: f64) -> f64 {
    if op == Unary::Exp { exp(x) } else { op.eval(x) }
}
